"""From token rows to everything the report says: fit, test, and show what the average hides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError, DatasetError
from llmlat.predict import thesis
from llmlat.predict.coefficients import coefficient_table, formula
from llmlat.predict.evaluate import (
    NO_ROWS,
    baselines,
    by_phase,
    error_block,
    first_visits,
    latency_summary,
    noise_floor,
    worst_rows,
)
from llmlat.predict.fit import feature_columns, fit, predict
from llmlat.predict.refit import refit, revisited, steady
from llmlat.predict.split import Positions, split_rows
from llmlat.predict.validate import validate
from llmlat.records import TARGET

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Analysis:
    """A fitted regressor and what is known about it.

    Attributes
    ----------
    fitted : Pipeline
        Fitted on the training rows.
    metrics : dict
        As docs/metrics.md describes, JSON-serialisable.
    predictions : DataFrame
        The test rows, with `predicted_ms`.
    train : DataFrame
        The training rows.
    """

    fitted: Pipeline
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    train: pd.DataFrame


def analyse(
    rows: pd.DataFrame,
    pipeline: Pipeline,
    split: SplitConfig,
    about: Mapping[str, Any],
    reference: str | None = None,
    contrast: pd.DataFrame | None = None,
) -> Analysis:
    """Fit a regressor on token rows and test it.

    Parameters
    ----------
    rows : DataFrame
        Token rows, as `Dataset.read` returns them. Warm-up rows are not fitted.
    pipeline : Pipeline
        Unfitted, from `build_pipeline`.
    split : SplitConfig
    about : mapping
        What was measured; `engine` among it. It goes into the metrics as it is.
    reference : str, optional
        `thesis`, to set the thesis's figures and claims beside ours.
    contrast : DataFrame, optional
        Token rows of the same measurement with the other engine, for the verdict on the cache.

    Raises
    ------
    ConfigError
        Where the rows are too few for the split.
    """
    counted = rows[~rows["is_warmup"]].reset_index(drop=True)
    if counted.empty:
        raise DatasetError("the dataset holds warm-up rows only; measure again with prompts to count.")
    train, test = _parts(counted, split_rows(counted, split))
    fitted = fit(pipeline, train)
    predictions = test.assign(predicted_ms=predict(fitted, test))
    floor, floor_reason = noise_floor(counted, feature_columns(pipeline))
    regressor = pipeline.named_steps["regressor"]
    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **about,
        "n_events": len(counted),
        "n_train": len(train),
        "n_test": len(test),
        "n_requests": int(counted["request_id"].nunique()),
        "n_warmup": len(rows) - len(counted),
        **_headline(predictions),
        "regressor": {"name": type(regressor).__name__, "parameters": _plain(regressor.get_params())},
        "features": feature_columns(pipeline),
        "split": {"name": str(split.name), "test_size": split.test_size, "seed": split.seed},
        **validate(train, pipeline, split),
        "splits": {str(name): _under(counted, pipeline, split, name) for name in SplitName},
        **coefficient_table(fitted),
        "formula": formula(fitted),
        "baselines": baselines(counted, train, test),
        "noise_floor": floor,
        "noise_floor_reason": floor_reason,
        "by_phase": by_phase(predictions),
        "worst_rows": worst_rows(predictions),
        "without_warmup_and_prefill": refit(steady, counted, pipeline, train, predictions),
        "without_first_visits": refit(revisited, counted, pipeline, train, predictions),
        "first_visits": first_visits(counted),
        "latency": latency_summary(counted),
        "nonlinear_check": _boosted_trees(counted, pipeline, split),
    }
    metrics["verdicts"] = thesis.verdicts(metrics, rows, contrast) if reference == "thesis" else []
    metrics["reference"] = thesis.REFERENCE if reference == "thesis" else None
    return Analysis(fitted, metrics, predictions, train)


def _parts(rows: pd.DataFrame, positions: tuple[Positions, Positions]) -> tuple[pd.DataFrame, pd.DataFrame]:
    train, test = positions
    return rows.iloc[train], rows.iloc[test]


def _headline(predictions: pd.DataFrame) -> dict[str, Any]:
    block = error_block(predictions[TARGET].to_numpy(), predictions["predicted_ms"].to_numpy())
    return {name: value for name, value in block.items() if name != "n"}


def _under(rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig, name: SplitName) -> dict[str, Any]:
    """Fit and test under another split of the same size, so that random stands beside grouped."""
    try:
        train, test = _parts(rows, split_rows(rows, SplitConfig(name, split.test_size, split.seed)))
    except ConfigError as error:
        return {**error_block(NO_ROWS, NO_ROWS), "n_train": None, "n_test": None, "reason": str(error)}
    errors = error_block(test[TARGET].to_numpy(), predict(fit(pipeline, train), test))
    return {**errors, "n_train": len(train), "n_test": len(test), "baselines": baselines(rows, train, test)}


def _boosted_trees(rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> dict[str, Any] | None:
    """Return the errors of boosted trees on the same features and held-out requests: what a line misses."""
    try:
        train, test = _parts(
            rows, split_rows(rows, SplitConfig(SplitName.by_request, split.test_size, split.seed))
        )
    except ConfigError:
        return None
    columns = feature_columns(pipeline)
    trees = HistGradientBoostingRegressor(random_state=0)
    # Two OpenMP threads on two busy cores take many times longer than one.
    with threadpool_limits(limits=1, user_api="openmp"):
        trees.fit(train[columns], train[TARGET])
        return error_block(test[TARGET].to_numpy(), trees.predict(test[columns]))


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters as JSON can hold them."""
    simple = (bool, int, float, str, type(None))
    return {name: value if isinstance(value, simple) else repr(value) for name, value in parameters.items()}

"""Fits and tests on rows that are never loaded whole: the one place that knows the order."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig
from llmlat.errors import ConfigError, one_line
from llmlat.fit.evaluate import Milliseconds
from llmlat.fit.large.features import extremes, learn_features
from llmlat.fit.large.moments import sums
from llmlat.fit.large.parts import divide
from llmlat.fit.large.ridge import fit_ridge, is_ridge
from llmlat.fit.large.rows import Part, number
from llmlat.fit.large.sample import fit_sample, sample
from llmlat.fit.large.score import error_block, median, predict_part
from llmlat.fit.large.source import Source, open_rows
from llmlat.fit.large.summary import Summary, summarise
from llmlat.fit.threads import one_thread
from llmlat.records import TARGET

EXACT = "exact"
N_SOME = 100


@dataclass(frozen=True)
class Settings:
    """How to fit on large data.

    Attributes
    ----------
    split : SplitConfig
        `random`, `by_request` or `by_prompt`; its seed also draws samples.
    sample_rows : int
        How many rows a regressor is fitted on that sums do not decide.
    shown_rows : int
        How many test rows are returned, for figures; all test rows of some requests.
    memory_mb : int
        What DuckDB may hold; Python and its libraries take some 300 MB besides.
    threads : int or None
        DuckDB's; as many as there are cores where None.
    """

    split: SplitConfig
    sample_rows: int = 1_000_000
    shown_rows: int = 10_000
    memory_mb: int = 128
    threads: int | None = None


@dataclass(frozen=True)
class LargeFit:
    """A pipeline fitted on large data, and what is known about it.

    Attributes
    ----------
    fitted : Pipeline
        The same steps, fitted; equal to what `fit` on all training rows in memory gives, where `how` says
        `exact`.
    metrics : dict
        `n_events`, `n_train`, `n_test`, `n_requests`; the error block of the test rows; `baselines`, the
        `mean` and `median` of the training rows tested on the same rows; `split`; `how` and `n_passes`.
    how : str
        `exact`; or how much was drawn: `sampled by group: 812 of 10,000
        requests, 1,000,000 of 50,000,000 rows`.
    n_passes : int
        How often the files were read.
    train : DataFrame
        Made-up rows with the extremes of each input among the training rows, and each of its texts: what
        `predictor.json` says of inputs comes out of them as it does of all rows.
    predictions : DataFrame
        The test rows of some requests: inputs, `token_latency_ms`, `predicted_ms`, and the request and the
        row's place in it as `_group` and `_position`.
    """

    fitted: Pipeline
    metrics: dict[str, Any] = field(repr=False)
    how: str
    n_passes: int
    train: pd.DataFrame = field(repr=False)
    predictions: pd.DataFrame = field(repr=False)


def fit_large(source: Source, pipeline: Pipeline, settings: Settings) -> LargeFit:
    """Fit a regressor on rows in parquet files and test it on held-out ones, loading neither.

    Parameters
    ----------
    source : Source
    pipeline : Pipeline
        Unfitted: the steps `features` (a `FeatureTable` on the source's inputs; without it, the inputs are
        the features), `scaled` and `regressor`. Ridge behind a StandardScaler is fitted on all rows; any
        other on a sample of whole requests.
    settings : Settings

    Returns
    -------
    LargeFit

    Raises
    ------
    ConfigError
        Where DuckDB is not installed, an expression cannot be one, the split leaves too little, or the
        regressor cannot be fitted.
    DatasetError
        Where a file cannot be read, or its rows cannot be fitted.
    """
    with open_rows(source, settings.memory_mb, settings.threads) as counted:
        database = counted.database
        groups, train, test = divide(counted, settings.split)
        fitted, near, how = fit_part(train, pipeline, settings)
        predict = _predictor(fitted)
        predict_part(test, predict)
        tested = _tested(train, near)
        shown = sample(test, settings.shown_rows, settings.split.seed).frame
        predictions = shown.assign(predicted_ms=predict(shown[list(test.columns)]))
        split = {name: getattr(settings.split, name) for name in ("test_size", "seed")}
        metrics = {
            "n_events": groups.n_rows,
            "n_train": near.n,
            "n_test": tested.pop("n"),
            "n_requests": len(groups.ids),
            **tested,
            "split": {"name": str(settings.split.name), **split},
            "how": how,
            "n_passes": database.n_passes,
        }
        return LargeFit(fitted, metrics, how, database.n_passes, extremes(train), predictions)


def fit_part(train: Part, pipeline: Pipeline, settings: Settings) -> tuple[Pipeline, Summary, str]:
    """Return a pipeline fitted on a part, where its features lie, and how it was fitted."""
    if not is_ridge(pipeline):
        drawn = sample(train, settings.sample_rows, settings.split.seed)
        near = summarise(replace(train, columns=()))
        return fit_sample(pipeline, drawn, train.columns), near, str(drawn)
    if "features" in pipeline.named_steps:
        table, columns = learn_features(train, pipeline.named_steps["features"])
        fitted, near, how = _fit_exactly(train.worked("worked", columns), pipeline[1:], settings)
        return Pipeline([("features", table), *fitted.steps]), near, how
    return _fit_exactly(train, pipeline, settings)


def _fit_exactly(work: Part, pipeline: Pipeline, settings: Settings) -> tuple[Pipeline, Summary, str]:
    near = summarise(work)
    return fit_ridge(pipeline, sums(work, near).moments(), work.first(N_SOME)), near, EXACT


def _tested(train: Part, near: Summary) -> dict[str, Any]:
    """Return the errors of what `predict_part` has predicted, and of the baselines on the same rows."""
    database = train.database
    middle = median(database.scan, train.view, TARGET)
    constant = {"mean": near.latency_mean_ms, "median": middle}
    baselines = {name: error_block(database, number(value)) for name, value in constant.items()}
    return {**error_block(database), "baselines": baselines}


def _predictor(fitted: Pipeline) -> Callable[[pd.DataFrame], Milliseconds]:
    def predict(features: pd.DataFrame) -> Milliseconds:
        try:
            with one_thread():
                predicted = np.asarray(fitted.predict(features), dtype=np.float64)
        except ValueError as error:
            raise ConfigError(f"regressor: cannot predict these rows ({one_line(error)}).") from error
        if not np.isfinite(predicted).all():
            raise ConfigError(
                "regressor: it predicts infinite latencies; choose another regressor, or other parameters."
            )
        return predicted

    return predict

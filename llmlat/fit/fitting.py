"""Regressors and the pipeline around them.

Feature transforms live inside the fitted pipeline, so predicting cannot diverge from fitting.
"""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from sklearn.base import clone, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from llmlat.config import FeaturesConfig
from llmlat.errors import ConfigError, MissingExtraError, one_line
from llmlat.fit.evaluate import Milliseconds
from llmlat.fit.features.check import check_features
from llmlat.fit.features.table import FeatureError, FeatureTable, InTheirUnits
from llmlat.fit.threads import one_thread
from llmlat.formulas.formula import FormulaError
from llmlat.records import KNOWN, REQUEST, TARGET, Column

N_REHEARSAL_ROWS, N_REHEARSAL_GROUPS = 200, 10
OPTIONAL = {"xgboost"}  # packages that the extra of the same name installs


def build_pipeline(
    regressor: Mapping[str, Any], features: FeaturesConfig, known: Mapping[str, Column] = KNOWN
) -> Pipeline:
    """Return the unfitted pipeline: the features, standardised, then the regressor.

    Features stay in their units in front of a regressor that wants them positive (scikit-learn's tag
    `positive_only`), since standardised ones are not. The pipeline is rehearsed on made-up rows, so that a
    wrong hyperparameter is found before an hour of measuring.

    Parameters
    ----------
    regressor : mapping
        `_target_`, a scikit-learn regressor's import path, and its hyperparameters.
    features : FeaturesConfig
    known : mapping of str to Column, optional
        The columns that the rows have; a token row's unless given.

    Raises
    ------
    ConfigError
        Where the regressor cannot be made or fitted, or a column cannot be a feature.
    """
    check_features(features, known)
    estimator = _instantiate(regressor)
    wants = get_tags(estimator).input_tags
    pipeline = Pipeline(
        [
            ("features", FeatureTable(list(features.columns), dict(features.derived), not wants.allow_nan)),
            ("scaled", InTheirUnits() if wants.positive_only else StandardScaler()),
            ("regressor", estimator),
        ]
    )
    _rehearse(pipeline, known, regressor)
    return pipeline


def fit(pipeline: Pipeline, rows: pd.DataFrame, group: str = REQUEST) -> Pipeline:
    """Return a copy of the pipeline, fitted on rows.

    Parameters
    ----------
    pipeline : Pipeline
        Unfitted.
    rows : DataFrame
    group : str
        The column that a regressor which validates within its own fit keeps apart.

    Raises
    ------
    ConfigError
        Where the regressor cannot be fitted on them, or no feature can explain anything.
    """
    try:
        return _fit(pipeline, rows, group)
    except FeatureError as error:
        raise ConfigError(f"features.columns: {error}.") from error
    except FormulaError as error:
        raise ConfigError(f"features.derived: {error}.") from error
    except ValueError as error:
        raise ConfigError(f"regressor: cannot be fitted on these rows ({one_line(error)}).") from error


def predict(fitted: Pipeline, rows: pd.DataFrame) -> Milliseconds:
    """Return the predicted latency of rows, in milliseconds.

    Raises
    ------
    ConfigError
        Where a prediction fails or is infinite: some regressors overflow outside the rows they know.
    """
    try:
        with one_thread():
            predicted = np.asarray(fitted.predict(rows[input_columns(fitted)]), dtype=np.float64)
    except FeatureError as error:
        raise ConfigError(f"features.columns: {error}.") from error
    except ValueError as error:
        raise ConfigError(f"regressor: cannot predict these rows ({one_line(error)}).") from error
    if not np.isfinite(predicted).all():
        raise ConfigError(
            "regressor: it predicts infinite latencies; choose another regressor, or other parameters."
        )
    return predicted


def _fit(pipeline: Pipeline, rows: pd.DataFrame, group: str) -> Pipeline:
    # The features alone: the rest would be copied with them, and checked.
    features = rows[input_columns(pipeline)]
    return fit_as_asked(pipeline, features, rows[TARGET].to_numpy(), rows[group].to_numpy())


def fit_as_asked(pipeline: Pipeline, features: pd.DataFrame, target: Milliseconds, groups: Any) -> Pipeline:
    """Return a fitted copy of a pipeline; its regressor is told the groups where it asks for them.

    Where it has not converged, `unconverged` tells: scikit-learn would say so of every fit, and an analysis
    makes twenty and more.
    """
    fresh = clone(pipeline)
    takes_groups = "groups" in inspect.signature(fresh.named_steps["regressor"].fit).parameters
    told = {"regressor__groups": groups} if takes_groups else {}
    with one_thread(), warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always", ConvergenceWarning)
        fresh.fit(features, target, **told)
    fresh.unconverged_ = None
    for warning in raised:
        if issubclass(warning.category, ConvergenceWarning):
            fresh.unconverged_ = " ".join(str(warning.message).split()).rstrip(".")
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return fresh


def unconverged(fitted: Pipeline) -> str | None:
    """Return that a fit stopped before it had converged, in a line; None where it had."""
    if fitted.unconverged_ is None:
        return None
    return (
        f"The regressor's fit stopped before it had converged ({fitted.unconverged_}): it may miss by more "
        "than it needs to. Let it go on for longer, as with a larger max_iter."
    )


def features_of(pipeline: Pipeline) -> FeatureTable:
    """Return the first step of a pipeline of `build_pipeline`."""
    table = pipeline.named_steps["features"]
    assert isinstance(table, FeatureTable)
    return table


def input_columns(pipeline: Pipeline) -> list[str]:
    """Return the columns of the rows that a pipeline of `build_pipeline` reads."""
    return features_of(pipeline).inputs()


def _instantiate(regressor: Mapping[str, Any]) -> Any:
    target = regressor.get("_target_")
    try:
        estimator = instantiate(dict(regressor), _convert_="all")
    except (InstantiationException, TypeError) as error:
        _check_extra(str(target), error)
        reason = one_line(error.__cause__ or error)
        raise ConfigError(
            f"regressor._target_={target}: cannot be made ({reason}); use the import path of a scikit-learn "
            "regressor and its own hyperparameters, such as sklearn.linear_model.Ridge."
        ) from error
    if not _is_regressor(estimator):
        raise ConfigError(
            f"regressor._target_={target}: not a scikit-learn regressor (a class of kind regressor)."
        )
    return estimator


def _check_extra(target: str, error: BaseException | None) -> None:
    """Say which extra would have brought what could not be imported, if one would.

    Raises
    ------
    MissingExtraError
    """
    while error is not None:
        if isinstance(error, ImportError) and error.name in OPTIONAL:
            raise MissingExtraError(
                f"regressor._target_={target}: cannot be made ({one_line(error)}); install it: "
                f"pip install 'llmlat[{error.name}]'."
            ) from error
        error = error.__cause__


def _is_regressor(estimator: Any) -> bool:
    try:
        return bool(is_regressor(estimator))
    except (AttributeError, TypeError):  # no estimator at all
        return False


def _rehearse(pipeline: Pipeline, known: Mapping[str, Column], regressor: Mapping[str, Any]) -> None:
    rows = _made_up_rows(input_columns(pipeline), known)
    try:
        # What it warns of here is about made-up rows.
        with warnings.catch_warnings(action="ignore"):
            _fit(pipeline, rows, REQUEST).predict(rows)
    except FeatureError:  # it is infinite on made-up rows; on measured ones it need not be
        return
    except FormulaError as error:
        raise ConfigError(f"features.derived: {error}.") from error
    except Exception as error:
        _check_extra(str(regressor.get("_target_")), error)
        raise ConfigError(
            f"regressor._target_={_spelled(regressor)}: fails on {N_REHEARSAL_ROWS} made-up rows "
            f"({one_line(error)}); mend its hyperparameters, or choose features that it can be fitted on."
        ) from error


def _spelled(regressor: Mapping[str, Any]) -> str:
    """Name a regressor with its own settings, without those of the parts that it is made of."""
    own = [
        f"{name}={value}"
        for name, value in regressor.items()
        if not name.startswith("_") and not isinstance(value, dict)
    ]
    settings = f" ({', '.join(own)})" if own else ""
    return f"{regressor.get('_target_')}{settings}"


def _made_up_rows(inputs: list[str], known: Mapping[str, Column]) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    values = generator.integers(1, 1000, (N_REHEARSAL_ROWS, len(inputs)))
    values[::4] = values[::4, :1]  # where columns are equal, as in a prefill step
    rows = pd.DataFrame(values, columns=inputs)
    for name in inputs:
        if known[name].is_text:
            rows[name] = np.where(rows[name] % 2, "one", "another")
    rows[TARGET] = generator.uniform(1, 2, len(rows))
    return rows.assign(**{REQUEST: np.arange(len(rows)) % N_REHEARSAL_GROUPS})

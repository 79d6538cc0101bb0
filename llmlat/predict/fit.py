"""Regressors and the pipeline around them.

Feature transforms live inside the fitted pipeline, so predicting cannot diverge from fitting.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from sklearn.base import clone, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from llmlat.config import FeaturesConfig
from llmlat.errors import ConfigError, one_line
from llmlat.predict.evaluate import Milliseconds
from llmlat.records import COLUMN, TARGET

N_REHEARSAL_ROWS = 200
NUMBER_KINDS = "biuf"  # numpy's letters: booleans, whole numbers, floating point


def build_pipeline(regressor: Mapping[str, Any], features: FeaturesConfig) -> Pipeline:
    """Return the unfitted pipeline: the feature columns, standardised, then the regressor.

    It is rehearsed on made-up rows, so that a wrong hyperparameter is found before an hour of measuring.

    Parameters
    ----------
    regressor : mapping
        `_target_`, a scikit-learn regressor's import path, and its hyperparameters.
    features : FeaturesConfig

    Raises
    ------
    ConfigError
        Where the regressor cannot be made or fitted, or a column cannot be a feature.
    """
    columns = _checked_columns(features.columns)
    estimator = _instantiate(regressor)
    scaled = ColumnTransformer([("scaled", StandardScaler(), columns)], verbose_feature_names_out=False)
    pipeline = Pipeline([("features", scaled), ("regressor", estimator)])
    _rehearse(pipeline, columns, regressor)
    return pipeline


def fit(pipeline: Pipeline, rows: pd.DataFrame) -> Pipeline:
    """Return a copy of the pipeline, fitted on rows.

    Raises
    ------
    ConfigError
        Where a feature is empty in all of them, or the regressor cannot be fitted.
    """
    empty = [name for name in feature_columns(pipeline) if rows[name].isna().all()]
    if empty:
        raise ConfigError(
            f"features.columns: {', '.join(empty)} is empty in these rows: nothing told it while they were "
            "measured; leave it out."
        )
    try:
        return _fit(pipeline, rows)
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
        predicted = np.asarray(fitted.predict(rows[feature_columns(fitted)]), dtype=np.float64)
    except ValueError as error:
        raise ConfigError(f"regressor: cannot predict these rows ({one_line(error)}).") from error
    if not np.isfinite(predicted).all():
        raise ConfigError(
            "regressor: it predicts infinite latencies; choose another regressor, or other parameters."
        )
    return predicted


def _fit(pipeline: Pipeline, rows: pd.DataFrame) -> Pipeline:
    # The features alone: the rest would be copied with them, and checked.
    return clone(pipeline).fit(rows[feature_columns(pipeline)], rows[TARGET].to_numpy())


def feature_columns(pipeline: Pipeline) -> list[str]:
    """Return the columns that a pipeline of `build_pipeline` reads."""
    return list(pipeline.named_steps["features"].transformers[0][2])


def _checked_columns(columns: list[str]) -> list[str]:
    if not columns:
        raise ConfigError("features.columns: empty; name at least one column, such as context_length.")
    for name in columns:
        if name not in COLUMN:
            raise ConfigError(
                f"features.columns: a token row has no column {name!r}; it has {', '.join(COLUMN)}."
            )
        if not COLUMN[name].known_before_step:
            raise ConfigError(
                f"features.columns: {name} is known only after the step, so it cannot predict it."
            )
        if np.dtype(COLUMN[name].dtype.to_pandas_dtype()).kind not in NUMBER_KINDS:
            raise ConfigError(f"features.columns: {name} is no number; name columns that are numbers.")
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice:
        raise ConfigError(f"features.columns: {twice} is named twice; once is enough.")
    return list(columns)


def _instantiate(regressor: Mapping[str, Any]) -> Any:
    target = regressor.get("_target_")
    try:
        estimator = instantiate(dict(regressor), _convert_="all")
    except (InstantiationException, TypeError) as error:
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


def _is_regressor(estimator: Any) -> bool:
    try:
        return bool(is_regressor(estimator))
    except (AttributeError, TypeError):  # no estimator at all
        return False


def _rehearse(pipeline: Pipeline, columns: list[str], regressor: Mapping[str, Any]) -> None:
    generator = np.random.default_rng(0)
    values = generator.integers(1, 1000, (N_REHEARSAL_ROWS, len(columns)))
    rows = pd.DataFrame(values, columns=columns)
    rows[TARGET] = generator.uniform(1, 2, len(rows))
    try:
        # What it warns of here is about made-up rows.
        with warnings.catch_warnings(action="ignore"):
            _fit(pipeline, rows).predict(rows)
    except Exception as error:
        raise ConfigError(
            f"regressor={dict(regressor)}: fails on {N_REHEARSAL_ROWS} made-up rows ({one_line(error)}); "
            "mend its hyperparameters."
        ) from error

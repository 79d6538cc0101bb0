"""Regressors and the pipeline around them.

Feature transforms live inside the fitted pipeline, so predicting cannot diverge from fitting.
"""

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
from llmlat.errors import ConfigError
from llmlat.records import COLUMN, TARGET


def build_pipeline(regressor: Mapping[str, Any], features: FeaturesConfig) -> Pipeline:
    """Return the unfitted pipeline: the feature columns, standardised, then the regressor.

    It is rehearsed on a few made-up rows, so that a wrong hyperparameter is found before an hour of measuring.

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
    """Return a copy of the pipeline, fitted on rows."""
    return clone(pipeline).fit(rows, rows[TARGET].to_numpy())


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
    return list(columns)


def _instantiate(regressor: Mapping[str, Any]) -> Any:
    target = regressor.get("_target_")
    try:
        estimator = instantiate(dict(regressor), _convert_="all")
    except (InstantiationException, TypeError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(
            f"regressor._target_={target}: cannot be made ({reason}); use the import path of a scikit-learn "
            "regressor and its own hyperparameters, such as sklearn.linear_model.Ridge."
        ) from error
    if not is_regressor(estimator):
        raise ConfigError(
            f"regressor._target_={target}: not a scikit-learn regressor (a class of kind regressor)."
        )
    return estimator


def _rehearse(pipeline: Pipeline, columns: list[str], regressor: Mapping[str, Any]) -> None:
    generator = np.random.default_rng(0)
    rows = pd.DataFrame(generator.integers(1, 1000, (40, len(columns))), columns=columns)
    rows[TARGET] = generator.uniform(1, 2, len(rows))
    try:
        fit(pipeline, rows).predict(rows)
    except Exception as error:
        raise ConfigError(
            f"regressor={dict(regressor)}: fails on forty made-up rows ({str(error).splitlines()[0]}); "
            "mend its hyperparameters."
        ) from error

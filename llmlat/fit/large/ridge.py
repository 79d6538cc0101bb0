"""Ridge from sums: the scaler and the regressor that scikit-learn fits on the rows themselves."""

import warnings
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from llmlat.fit.large.moments import Moments
from llmlat.records import TARGET

Floats = npt.NDArray[np.float64]


def is_ridge(pipeline: Pipeline) -> bool:
    """Return whether a pipeline is least squares with an L2 penalty on standardised features."""
    scaler, regressor = pipeline.named_steps["scaled"], pipeline.named_steps["regressor"]
    standardises = type(scaler) is StandardScaler and scaler.with_mean and scaler.with_std
    return bool(standardises and type(regressor) is Ridge and not regressor.positive)


def fit_ridge(pipeline: Pipeline, found: Moments, some_rows: pd.DataFrame) -> Pipeline:
    """Return a fitted copy of the pipeline, equal to one that is fitted on all rows.

    Parameters
    ----------
    pipeline : Pipeline
        One that `is_ridge`.
    found : Moments
        Of the training rows, unweighted.
    some_rows : DataFrame
        A few of them, features and latency, by which scikit-learn sets up what does not depend on numbers.
    """
    pipeline = clone(pipeline)
    with warnings.catch_warnings(action="ignore"):  # what it warns of here is about a handful of rows
        pipeline.fit(some_rows.drop(columns=TARGET), some_rows[TARGET].to_numpy())
    scaler, fitted = pipeline.named_steps["scaled"], pipeline.named_steps["regressor"]
    scaler.n_samples_seen_ = found.n
    scaler.mean_, scaler.var_ = found.mean, np.maximum(np.diag(found.gram), 0.0) / found.n
    scaler.scale_ = _scale(scaler.var_, found)
    fitted.coef_ = _solve(
        found.gram / np.outer(scaler.scale_, scaler.scale_), found.cross / scaler.scale_, fitted.alpha
    )
    at_mean = found.latency_mean_ms - float(fitted.coef_ @ (found.mean_rest / scaler.scale_))
    fitted.intercept_ = at_mean if fitted.fit_intercept else 0.0
    return pipeline


def _scale(variance: Floats, found: Moments) -> Floats:
    """Return standard deviations; 1 for a column that is constant but for rounding, as scikit-learn has it.

    The bound is StandardScaler's: the error of a variance computed in two passes (Chan, Golub and LeVeque
    1983).
    """
    rounding = found.n * np.finfo(np.float64).eps
    is_constant = variance <= rounding * variance + (rounding * found.mean) ** 2
    scale: Floats = np.where(is_constant, 1.0, np.sqrt(variance))
    return scale


def _solve(gram: Floats, cross: Floats, alpha: float) -> Floats:
    """Return the coefficients; where several do equally well, the smallest, as scikit-learn's SVD does."""
    if alpha:
        with suppress(LinAlgError):
            penalised = gram + alpha * np.eye(len(gram))
            return np.asarray(cho_solve(cho_factor(penalised), cross))
    squares, directions = np.linalg.eigh(gram)
    rounding = len(gram) * np.finfo(np.float64).eps * max(float(squares[-1]), 0.0)
    told = squares > rounding
    share = np.divide(directions.T @ cross, squares + alpha, out=np.zeros(len(gram)), where=told)
    coefficients: Floats = directions @ share
    return coefficients

"""The law of a step, fitted: what is known of the card, corrected by what was measured."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import OptimizeResult, least_squares
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from llmlat.fit.regressors.physics import check_latencies
from llmlat.formulas.step_law import COEFFICIENTS, COLUMNS, step_ms

Floats = npt.NDArray[np.float64]

NAMES = tuple(one.name for one in COEFFICIENTS)
ROUNDS = 3  # of weighting by the last round's prediction; a fourth moves no coefficient by 1 %


class StepRegressor(RegressorMixin, BaseEstimator):
    """Fits a step's law to rows of work and latency, in the words of the hardware.

    Each coefficient is positive, and starts from what is known of it: a log-normal prior, whose centre may be
    the card's own bandwidth and rate. So a grid that never asks for one of them leaves it where it was, and
    the fit of one model is the start of the next one's. The posterior mode is found by non-linear least
    squares on the logarithms of the coefficients (Levenberg-Marquardt, by `scipy.optimize`).

    It estimates the mean: misses are weighed by the last round's *prediction* and not by the measurement
    (iteratively reweighted least squares, McCullagh and Nelder 1989, *Generalized Linear Models*, section
    2.5), so that predicted times add up to measured ones.

    Steps that follow each other are slow or quick together, as the host is. Many rows are therefore taken
    for no more evidence than `independent_rows` of them.

    Parameters
    ----------
    priors : mapping, optional
        Centre and spread of coefficients, by name, in place of the law's own: `[2900, 0.05]` says that a
        bandwidth is 2,900 GB/s, give or take 5 %. The card's copy bandwidth and matrix rate belong here, or
        `posterior()` of an earlier fit.
    relative_noise : float, default=0.05
        How far steps of the same contents lie apart, as a share of their time.
    independent_rows : int, default=200

    Attributes
    ----------
    coefficients_ : dict of str to float
        The coefficients by name, in their units.
    spread_ : dict of str to float
        How well each is known: the standard deviation of its logarithm (Laplace's approximation).
    n_features_in_ : int
    feature_names_in_ : ndarray of str
    """

    def __init__(
        self,
        priors: Mapping[str, Sequence[float]] | None = None,
        relative_noise: float = 0.05,
        independent_rows: int = 200,
    ) -> None:
        self.priors = priors
        self.relative_noise = relative_noise
        self.independent_rows = independent_rows

    def fit(self, X: pd.DataFrame, y: Any) -> Self:
        """Fit on steps.

        Parameters
        ----------
        X : DataFrame, shape (n_steps, n_features)
            With the columns of `llmlat.formulas.step_law.COLUMNS`.
        y : array-like, shape (n_steps,)
            Latencies in ms; above 0.

        Raises
        ------
        ValueError
            Where a column is missing, work is negative, a prior is of no coefficient, or a latency is not
            above 0.
        """
        work, y = _work(X), np.asarray(y, dtype=np.float64)
        check_latencies(y)
        centre, spread = self._prior()
        found, predicted = centre, step_ms(_by_name(centre), work)
        for _ in range(ROUNDS):
            solution = self._solve(work, y, predicted, found, (centre, spread))
            found, predicted = solution.x, step_ms(_by_name(solution.x), work)
        self.coefficients_ = _by_name(found)
        variance = np.linalg.inv(solution.jac.T @ solution.jac).diagonal()
        self.spread_ = dict(zip(NAMES, np.sqrt(variance).tolist(), strict=True))
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X: pd.DataFrame) -> Floats:
        """Return latencies in ms, shape (n_steps,)."""
        check_is_fitted(self)
        predicted: Floats = np.asarray(step_ms(self.coefficients_, _work(X)))
        return predicted

    def posterior(self, widened: float = 0.0) -> dict[str, list[float]]:
        """Return what is known of the coefficients as the priors of another fit.

        Parameters
        ----------
        widened : float, default=0
            How much further off another model or machine may be, added to every spread.
        """
        check_is_fitted(self)
        return {name: [self.coefficients_[name], self.spread_[name] + widened] for name in NAMES}

    def telling(self, X: pd.DataFrame, n: int) -> npt.NDArray[np.intp]:
        """Return which steps, measured, would tell the most of the coefficients.

        One after the other, the step whose latency is least known is taken (a greedy D-optimal design;
        Fedorov 1972, *Theory of Optimal Experiments*). No latency is looked at.

        Parameters
        ----------
        X : DataFrame
            Steps that could be measured.
        n : int
            How many are wanted.

        Returns
        -------
        ndarray of int, shape (min(n, n_steps),)
        """
        check_is_fitted(self)
        slopes = self._slopes(_work(X)) / self.relative_noise
        known = np.diag(np.square(list(self.spread_.values())))
        chosen: list[int] = []
        is_left = np.ones(len(slopes), dtype=bool)
        for _ in range(min(n, len(slopes))):
            variance = np.where(is_left, np.einsum("ij,jk,ik->i", slopes, known, slopes), -1.0)
            one = int(np.argmax(variance))
            chosen.append(one)
            is_left[one] = False
            along = known @ slopes[one]
            known = known - np.outer(along, along) / (1.0 + slopes[one] @ along)
        return np.asarray(chosen, dtype=np.intp)

    def _prior(self) -> tuple[Floats, Floats]:
        priors = dict(self.priors or {})
        unknown = sorted(set(priors) - set(NAMES))
        if unknown:
            raise ValueError(f"priors: there is no coefficient {unknown[0]}; there are {', '.join(NAMES)}")
        stated = [priors.get(one.name, (one.start, one.spread)) for one in COEFFICIENTS]
        values = np.asarray(stated, dtype=np.float64)
        if values.shape != (len(NAMES), 2) or not (values > 0).all():
            raise ValueError("priors: each is a centre and a spread, both above 0")
        return np.log(values[:, 0]), values[:, 1]

    def _solve(
        self,
        work: Mapping[str, Floats],
        y: Floats,
        predicted: Floats,
        start: Floats,
        prior: tuple[Floats, Floats],
    ) -> OptimizeResult:
        centre, spread = prior
        evidence = np.sqrt(min(len(y), self.independent_rows) / len(y)) / self.relative_noise

        def misses(logarithms: Floats) -> Floats:
            of_rows = (y - step_ms(_by_name(logarithms), work)) / predicted * evidence
            return np.concatenate([of_rows, (logarithms - centre) / spread])

        return least_squares(misses, start, method="lm", x_scale="jac")

    def _slopes(self, work: Mapping[str, Floats]) -> Floats:
        """Return by which share a step grows with each coefficient's logarithm, shape (n, n_coefficients)."""
        base, step = step_ms(self.coefficients_, work), 1e-4
        moved = [
            step_ms({**self.coefficients_, name: self.coefficients_[name] * np.exp(step)}, work)
            for name in NAMES
        ]
        return np.column_stack([(one / base - 1.0) / step for one in moved])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.target_tags.positive_only = True
        return tags


def _work(X: Any) -> dict[str, Floats]:
    missing = [name for name in COLUMNS if name not in getattr(X, "columns", ())]
    if missing:
        raise ValueError(f"the law of a step needs {', '.join(missing)}; use features=step")
    values = X[list(COLUMNS)].to_numpy(dtype=np.float64)
    if (values < 0).any():
        raise ValueError("work is 0 or more; leave it unscaled")
    return dict(zip(COLUMNS, values.T, strict=True))


def _by_name(logarithms: Floats) -> dict[str, float]:
    return dict(zip(NAMES, np.exp(logarithms).tolist(), strict=True))

"""Latency as physics: a fixed overhead, a cost for each unit of work, and a floor. Non-negative throughout.

    latency = max(floor, overhead + sum over columns of cost * work)

It is the roofline (Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model
for multicore architectures", Communications of the ACM 52) taken apart: bytes over bandwidth, operations over
peak rate. Kernels run one after the other, so their times add up. The host launches them meanwhile, and a
step takes the longer of both: the floor is what launching costs. Reading the weights of one model costs the
same at every step, so below the roofline's ridge it is part of the floor or of the overhead.

What is minimised is the squared error as a share of the *predicted* latency: a step of 7 ms counts as much as
a prefill of 8 s, and what is predicted is the mean (McCullagh and Nelder 1989, *Generalized Linear Models*,
chapter 9: a quasi-likelihood of constant coefficient of variation). As a share of what was measured, a step
that was held up would count for hardly anything, and sums of predictions would fall short.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from llmlat.fit.regressors.criterion import MEAN, check_criterion, ratio_level

Floats = npt.NDArray[np.float64]

START_SHARES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
MAX_ROUNDS = 20
SETTLED = 1e-6  # of a prediction: what it may still move by from round to round
FLOOR_PARAMETERS = 2  # its height, and where it ends
EXACT = 1e-18  # mean squared relative error that is rounding and no misfit


class PhysicsRegressor(RegressorMixin, BaseEstimator):
    """Non-negative least squares on work done, with a floor, fitted on relative error.

    The line alone is a convex problem, solved exactly (Lawson and Hanson 1974, *Solving Least Squares
    Problems*, chapter 23). With a floor it is a maximum of two affine pieces, fitted by dividing the rows
    between the pieces and fitting each on its own, in turns, from several starts (Magnani and Boyd 2009,
    "Convex piecewise-linear fitting", Optimization and Engineering 10). The floor stays where Schwarz's
    criterion (1978) holds it to be worth its parameters, with as many rows as the groups are worth that they
    come in. Nothing is drawn at random.

    A column that does not vary cannot be told from the overhead, which then holds its cost.

    Parameters
    ----------
    criterion : str, default='mean'
        What predictions state: `mean`, or what `mae`, `mape`, `pinball` or `pinball@0.99` is least at. For
        these, errors count as shares of what was measured, which a step held up ten-fold hardly moves, and
        the costs are then scaled.

    Attributes
    ----------
    coef_ : ndarray of float64, shape (n_features,)
        Cost of each column, in ms per its unit; 0 or more.
    overhead_ms_ : float
        Fixed cost of a step.
    floor_ms_ : float
        What every step takes at least, such as the host's time; 0 where none shows.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where `X` had names.

    Examples
    --------
    >>> import numpy as np
    >>> context = np.array([[100.0], [1000.0], [2000.0], [4000.0]])
    >>> fitted = PhysicsRegressor().fit(context, 7 + 0.004 * context[:, 0])
    >>> round(fitted.overhead_ms_, 6), fitted.coef_.round(6).tolist()
    (7.0, [0.004])
    """

    def __init__(self, criterion: str = MEAN) -> None:
        self.criterion = criterion

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fit on rows of work and latency.

        Parameters
        ----------
        X : DataFrame or array-like, shape (n_rows, n_features)
            Work of each step: bytes, operations, tokens; 0 or more.
        y : array-like, shape (n_rows,)
            Latencies in ms; above 0.
        groups : array-like, shape (n_rows,), optional
            Rows that are alike, such as one request's: together they tell less than as many others.

        Raises
        ------
        ValueError
            Where work is negative, or a latency is not above 0; where there is no such criterion.
        """
        check_criterion(self.criterion)
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        check_non_negative(X, f"{type(self).__name__}: work is 0 or more; leave it unscaled.")
        check_latencies(y)
        varying = np.ptp(X, axis=0) > 0
        work = np.column_stack([np.ones(len(y)), X[:, varying]])
        law = _with_floor(work, y, groups, is_mean=self.criterion == MEAN)
        scale = 1.0 if self.criterion == MEAN else ratio_level(self.criterion, y, law.predict(work))
        self.floor_ms_, self.overhead_ms_ = scale * law.floor, scale * float(law.line[0])
        self.coef_ = np.zeros(X.shape[1])
        self.coef_[varying] = scale * law.line[1:]
        return self

    def predict(self, X: Any) -> Floats:
        """Return latencies in ms, shape (n_rows,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        predicted: Floats = np.maximum(self.floor_ms_, self.overhead_ms_ + X @ self.coef_)
        return predicted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.target_tags.positive_only = True
        return tags


def check_latencies(y: Floats) -> None:
    """Refuse latencies of which there is no relative error.

    Raises
    ------
    ValueError
        Where one is not above 0.
    """
    n_wrong = int((y <= 0).sum())
    if n_wrong:
        raise ValueError(f"{n_wrong} of {len(y)} latencies are not above 0 ms, so no relative error is known")


@dataclass(frozen=True)
class _Law:
    """latency = max(floor, work @ line); the first column of work is of ones, for the overhead."""

    floor: float
    line: Floats

    def predict(self, work: Floats) -> Floats:
        predicted: Floats = np.maximum(self.floor, work @ self.line)
        return predicted

    def misses(self, work: Floats, y: Floats, size: Floats) -> Floats:
        """Return errors as shares of a size."""
        shares: Floats = (self.predict(work) - y) / size
        return shares


def _with_floor(work: Floats, y: Floats, groups: Any, *, is_mean: bool) -> _Law:
    """Return the law with a floor where one is worth it; the line alone where not."""
    bare = _Law(0.0, _fit_line(work, y, y))
    bare = _reweighted(bare, work, y) if is_mean else bare
    size = _size(bare, work, y) if is_mean else y
    tried = list(_divisions(bare, work, y, size))
    if not tried:
        return bare
    best = min(tried, key=lambda law: float(np.square(law.misses(work, y, size)).sum()))
    best = _reweighted(best, work, y) if is_mean else best
    misses = best.misses(work, y, size)
    loss, bare_loss = (max(float(np.square(m).mean()), EXACT) for m in (misses, bare.misses(work, y, size)))
    n_told = _independent_rows(misses, groups)
    return best if n_told * np.log(bare_loss / loss) > FLOOR_PARAMETERS * np.log(n_told) else bare


def _size(law: _Law, work: Floats, y: Floats) -> Floats:
    """Return what errors are shares of; nothing is predicted to be quicker than the quickest row."""
    size: Floats = np.maximum(law.predict(work), y.min())
    return size


def _reweighted(law: _Law, work: Floats, y: Floats) -> _Law:
    """Fit again with errors as shares of what the law predicts, until it predicts the same."""
    predicted = law.predict(work)
    for _ in range(MAX_ROUNDS):
        size, on_floor = np.maximum(predicted, y.min()), work @ law.line < law.floor
        if on_floor.all():
            return law
        line = _fit_line(work[~on_floor], y[~on_floor], size[~on_floor])
        law = _Law(_fit_floor(y[on_floor], size[on_floor]) if on_floor.any() else 0.0, line)
        before, predicted = predicted, law.predict(work)
        if (np.abs(predicted - before) <= SETTLED * size).all():
            break
    return law


def _fit_line(work: Floats, y: Floats, size: Floats) -> Floats:
    """Return the non-negative coefficients with the smallest squared error as a share of a size."""
    relative = work / size[:, None]
    scale = np.maximum(np.sqrt((relative**2).mean(axis=0)), np.finfo(np.float64).tiny)
    augmented: Floats = np.column_stack([relative / scale, y / size])
    # The triangle of the QR factorisation is the same problem, with as few rows as it has columns.
    triangle: Floats = qr(augmented, overwrite_a=True, mode="r")[0][: augmented.shape[1]]
    solution: Floats = nnls(triangle[:, :-1], triangle[:, -1])[0] / scale
    return solution


def _fit_floor(y: Floats, size: Floats) -> float:
    return float((y / size**2).sum() / (1 / size**2).sum())


def _divisions(bare: _Law, work: Floats, y: Floats, size: Floats) -> Iterator[_Law]:
    """Yield a floor and a line for each division of the rows between them that is met."""
    predicted = work @ bare.line
    for share in START_SHARES:
        on_floor = predicted < np.quantile(predicted, share)
        for _ in range(MAX_ROUNDS):
            if on_floor.all() or not on_floor.any():
                break
            floor = _fit_floor(y[on_floor], size[on_floor])
            line = _fit_line(work[~on_floor], y[~on_floor], size[~on_floor])
            yield _Law(floor, line)
            before, on_floor = on_floor, work @ line < floor
            if np.array_equal(before, on_floor):
                break


def _independent_rows(misses: Floats, groups: Any) -> float:
    """Return how many independent rows tell as much: fewer, where a group's rows miss alike.

    By Kish's design effect (1965, *Survey Sampling*): 1 + (rows a group - 1) * correlation within groups.
    """
    n = len(misses)
    if groups is None:
        return n
    _, own = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(own)
    if not 1 < len(sizes) < n:
        return n
    means = np.bincount(own, misses) / sizes
    within = float(np.square(misses - means[own]).sum()) / (n - len(sizes))
    between = float((sizes * np.square(means - misses.mean())).sum()) / (len(sizes) - 1)
    usual = (n - float(np.square(sizes).sum()) / n) / (len(sizes) - 1)
    correlation = (between - within) / max(between + (usual - 1) * within, float(np.finfo(np.float64).tiny))
    return n / (1 + (usual - 1) * float(np.clip(correlation, 0.0, 1.0)))

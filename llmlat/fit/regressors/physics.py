"""Latency as physics: a fixed overhead, a cost for each unit of work, and a floor. Non-negative throughout.

    latency = max(floor, overhead + sum over columns of cost * work)

It is the roofline (Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model
for multicore architectures", Communications of the ACM 52) taken apart: bytes over bandwidth, operations over
peak rate. Kernels run one after the other, so their times add up. The host launches them meanwhile, and a
step takes the longer of both: the floor is what launching costs. Reading the weights of one model costs the
same at every step, so below the roofline's ridge it is part of the floor or of the overhead.

What is minimised is the squared *relative* error, sum of ((predicted - measured) / measured)^2: a step of
7 ms counts as much as a prefill of 8 s, and a step that was held up ten-fold counts for hardly anything.
"""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

Floats = npt.NDArray[np.float64]

START_SHARES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
MAX_ROUNDS = 20
FLOOR_PARAMETERS = 2  # its height, and where it ends
EXACT = 1e-18  # mean squared relative error that is rounding and no misfit


class PhysicsRegressor(RegressorMixin, BaseEstimator):
    """Non-negative least squares on work done, with a floor, fitted on relative error.

    The line alone is a convex problem, solved exactly (Lawson and Hanson 1974, *Solving Least Squares
    Problems*, chapter 23). With a floor it is a maximum of two affine pieces, fitted by dividing the rows
    between the pieces and fitting each on its own, in turns, from several starts (Magnani and Boyd 2009,
    "Convex piecewise-linear fitting", Optimization and Engineering 10). The floor stays where Schwarz's
    criterion (1978) holds it to be worth its parameters. Nothing is drawn at random.

    A column that does not vary cannot be told from the overhead, which then holds its cost.

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

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on rows of work and latency.

        Parameters
        ----------
        X : DataFrame or array-like, shape (n_rows, n_features)
            Work of each step: bytes, operations, tokens; 0 or more.
        y : array-like, shape (n_rows,)
            Latencies in ms; above 0.

        Raises
        ------
        ValueError
            Where work is negative, or a latency is not above 0.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        check_non_negative(X, f"{type(self).__name__}: work is 0 or more; leave it unscaled.")
        check_latencies(y)
        varying = np.ptp(X, axis=0) > 0
        relative = np.column_stack([np.ones(len(y)), X[:, varying]]) / y[:, None]
        self.floor_ms_, line = _worth_its_floor(relative, _fit_line(relative))
        self.overhead_ms_ = float(line[0])
        self.coef_ = np.zeros(X.shape[1])
        self.coef_[varying] = line[1:]
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


# From here on, rows are divided by their latency: the first column, of ones, holds its inverse, and what a
# fit should say of each row is 1.


def _fit_line(relative: Floats) -> Floats:
    """Return the non-negative coefficients with the smallest squared error."""
    scale = np.maximum(np.sqrt((relative**2).mean(axis=0)), np.finfo(np.float64).tiny)
    augmented: Floats = np.column_stack([relative / scale, np.ones(len(relative))])
    # The triangle of the QR factorisation is the same problem, with as few rows as it has columns.
    triangle: Floats = qr(augmented, overwrite_a=True, mode="r")[0][: augmented.shape[1]]
    solution: Floats = nnls(triangle[:, :-1], triangle[:, -1])[0] / scale
    return solution


def _fit_floor(relative: Floats) -> float:
    inverse = relative[:, 0]
    return float(inverse.sum() / (inverse**2).sum())


def _loss(relative: Floats, floor: float, line: Floats) -> float:
    predicted = np.maximum(floor * relative[:, 0], relative @ line)
    return max(float(((predicted - 1) ** 2).mean()), EXACT)


def _worth_its_floor(relative: Floats, line: Floats) -> tuple[float, Floats]:
    """Return the floor and the line beside it; a floor of 0 and the line as it was where none shows."""
    n_rows, bare = len(relative), _loss(relative, 0.0, line)
    tried = [(_loss(relative, *pieces), pieces) for pieces in _divisions(relative, line)]
    best, pieces = min(tried, key=lambda one: one[0], default=(bare, (0.0, line)))
    is_worth_it = n_rows * np.log(bare / best) > FLOOR_PARAMETERS * np.log(n_rows)
    return pieces if is_worth_it else (0.0, line)


def _divisions(relative: Floats, line: Floats) -> Iterator[tuple[float, Floats]]:
    """Yield a floor and a line for each division of the rows between them that is met."""
    predicted = relative @ line / relative[:, 0]
    for share in START_SHARES:
        on_floor = predicted < np.quantile(predicted, share)
        for _ in range(MAX_ROUNDS):
            if on_floor.all() or not on_floor.any():
                break
            floor, beside = _fit_floor(relative[on_floor]), _fit_line(relative[~on_floor])
            yield floor, beside
            before, on_floor = on_floor, relative @ beside < floor * relative[:, 0]
            if np.array_equal(before, on_floor):
                break

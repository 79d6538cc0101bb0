"""What a prediction states of a latency: its mean, unless another criterion is named.

Sums of predictions are right only where each is a mean: of a request's steps, of a day's requests, of a bill.
Each criterion is least, on average, where one statement of the latency is made: the gamma deviance at its
mean, absolute errors at its median, pinball loss at a quantile (Gneiting 2011, "Making and evaluating point
forecasts", Journal of the American Statistical Association 106).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_gamma_deviance,
    mean_pinball_loss,
)
from sklearn.tree import DecisionTreeRegressor

Floats = npt.NDArray[np.float64]

MEAN, MAE, MAPE, PINBALL = "mean", "mae", "mape", "pinball"
QUANTILE = 0.9
N_LIKES = 20  # parts of rows that are alike, at most
LEAST_SHARE = 0.1  # of the quickest step: what is predicted below is judged as this


def check_criterion(criterion: str) -> None:
    """Refuse a criterion that there is not.

    Raises
    ------
    ValueError
    """
    name, _, quantile = criterion.partition("@")
    if name not in (MEAN, MAE, MAPE, PINBALL) or (quantile and name != PINBALL):
        raise ValueError(f"criterion={criterion}: use mean, mae, mape, pinball or pinball@0.99")
    quantile_of(criterion)


def quantile_of(criterion: str) -> float:
    """Return which quantile a criterion is least at, by weight: the median but for pinball loss.

    Raises
    ------
    ValueError
        Where it is none.
    """
    name, _, quantile = criterion.partition("@")
    if name != PINBALL:
        return 0.5
    try:
        share = float(quantile or QUANTILE)
    except ValueError:
        share = np.nan
    if not 0 < share < 1:
        raise ValueError(
            f"criterion={criterion}: its quantile is a share between 0 and 1, as in pinball@0.99"
        )
    return share


def positive(predicted: Any, y: Floats) -> Floats:
    """Return predictions that a ratio can be taken of: far below the quickest step there is no latency."""
    ratios: Floats = np.maximum(np.asarray(predicted, dtype=np.float64), LEAST_SHARE * y.min())
    return ratios


def score(criterion: str, y: Floats, predicted: Floats) -> float:
    """Return how far off predictions are; the smaller, the better.

    Parameters
    ----------
    criterion : str
        `mean`, the root of the gamma deviance, which is a relative root-mean-square error where errors are
        small; `mae` and `pinball` (of the 90th percentile; `pinball@0.99` of another) in ms; `mape`, a share.
    y, predicted : ndarray of float64, shape (n_rows,)
        Latencies in ms.
    """
    if criterion == MEAN:
        return float(np.sqrt(mean_gamma_deviance(y, positive(predicted, y))))
    if criterion == MAPE:
        return float(mean_absolute_percentage_error(y, predicted))
    if criterion == MAE:
        return float(mean_absolute_error(y, predicted))
    return float(mean_pinball_loss(y, predicted, alpha=quantile_of(criterion)))


def level(criterion: str, X: Any, y: Floats, predicted: Floats) -> float:
    """Return what predictions of the rows that they were fitted on have to be multiplied by.

    For the mean it is Duan's smearing factor (1983, "Smearing estimate: a nonparametric retransformation
    method", Journal of the American Statistical Association 78): what the exponential of a fitted logarithm
    falls short of the mean by. Trees follow a part of the noise, and where they do, both a row and its
    prediction are large: so the sums of rows that are alike are compared, and not row by row.
    """
    if criterion != MEAN:
        return ratio_level(criterion, y, predicted)
    predicted = positive(predicted, y)
    likes = DecisionTreeRegressor(min_samples_leaf=max(len(y) // N_LIKES, 1), random_state=0)
    own = likes.fit(X, np.log(predicted)).apply(X)
    measured, said = np.bincount(own, y), np.bincount(own, predicted)
    return float((measured[own] / said[own]).mean())


def ratio_level(criterion: str, y: Floats, predicted: Floats) -> float:
    """Return the factor by which predictions have the smallest score, by the ratios of single rows."""
    predicted = positive(predicted, y)
    ratio = y / predicted
    if criterion == MEAN:
        return float(ratio.mean())
    weight = predicted / y if criterion == MAPE else predicted
    return float(np.quantile(ratio, quantile_of(criterion), weights=weight, method="inverted_cdf"))


def constant(criterion: str, y: Floats) -> float:
    """Return the one number that has the smallest score for all rows."""
    if criterion == MEAN:
        return float(y.mean())
    weight = 1 / np.abs(y) if criterion == MAPE else None
    return float(np.quantile(y, quantile_of(criterion), weights=weight, method="inverted_cdf"))

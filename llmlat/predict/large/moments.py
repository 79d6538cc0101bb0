"""Sums over rows from which least squares are solved exactly: means, squares and products about the means.

Squares of raw nanoseconds since 1970 need 122 bits, and a float has 53; so columns are first moved to where
their mean lies, and the small shift that is left is taken off again, which is exact algebra (Chan, Golub and
LeVeque 1983, "Algorithms for computing the sample variance", The American Statistician 37). Sums carry what
rounding took (Kahan 1965, "Further remarks on reducing truncation errors", Communications of the ACM 8), so
neither the order of rows nor the number of threads shows in them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmlat.predict.large.rows import Rows, name, number
from llmlat.predict.large.summary import Summary
from llmlat.records import TARGET

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Weighted sums over rows; each row weighs 1 unless weights are given.

    Attributes
    ----------
    n : int
        Rows.
    weight : float
        Sum of the weights.
    mean : ndarray of float64, shape (n_features,)
        Weighted means of the features, as near as a float comes to them.
    mean_rest : ndarray of float64, shape (n_features,)
        How much larger the means are: a float of nanoseconds since 1970 is off by up to 128.
    latency_mean_ms : float
        Weighted mean of the latency.
    gram : ndarray of float64, shape (n_features, n_features)
        Weighted sums of products of features, each about its mean.
    cross : ndarray of float64, shape (n_features,)
        The same of each feature with the latency.
    latency_square : float
        The same of the latency with itself.
    """

    n: int
    weight: float
    mean: Floats
    mean_rest: Floats
    latency_mean_ms: float
    gram: Floats
    cross: Floats
    latency_square: float


def moments(
    rows: Rows, relation: str, near: Summary, weight: str | None = None, where: str = "TRUE"
) -> Moments:
    """Add up the rows of a part, reading the files once.

    Parameters
    ----------
    rows : Rows
    relation : str
        A view of `rows`.
    near : Summary
        Means to start from: any near the true ones; exactness does not depend on them.
    weight : str, optional
        SQL expression of a row's weight.
    where : str
        SQL condition of the rows to add up.
    """
    columns = [*rows.features, TARGET]
    centre = np.append(near.mean, near.latency_mean_ms)
    moved = [f"{name(c)} - {number(m)} AS u{k}" for k, (c, m) in enumerate(zip(columns, centre, strict=True))]
    weighted = "" if weight is None else "w * "
    pairs = [(i, j) for i in range(len(columns)) for j in range(i + 1)]
    sums = [
        "count(*)",
        "count(*)" if weight is None else "fsum(w)",
        *[f"fsum({weighted}u{k})" for k in range(len(columns))],
        *[f"fsum({weighted}u{i} * u{j})" for i, j in pairs],
    ]
    inner = f"SELECT {', '.join(moved)}, {weight or 1} AS w FROM {relation} WHERE {where}"
    n, total, *found = rows.scan(f"SELECT {', '.join(sums)} FROM ({inner})")[0]
    if not n:
        return _nothing(len(rows.features))
    return _about_means(n, float(total), centre, np.array(found, dtype=np.float64), pairs)


def _about_means(
    n: int, weight: float, centre: Floats, found: Floats, pairs: list[tuple[int, int]]
) -> Moments:
    """Turn sums about a centre into sums about the means."""
    shift = found[: len(centre)] / weight
    square = np.empty((len(centre), len(centre)))
    for (i, j), total in zip(pairs, found[len(centre) :], strict=True):
        square[i, j] = square[j, i] = total
    square -= weight * np.outer(shift, shift)
    mean = centre + shift
    rest = shift - (mean - centre)
    own = slice(len(centre) - 1)
    gram, cross = square[own, own], square[own, -1]
    return Moments(n, weight, mean[own], rest[own], float(mean[-1]), gram, cross, float(square[-1, -1]))


def _nothing(n_features: int) -> Moments:
    none = np.zeros(n_features)
    return Moments(0, 0.0, none, none, 0.0, np.zeros((n_features, n_features)), none, 0.0)

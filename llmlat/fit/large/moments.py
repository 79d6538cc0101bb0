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

from llmlat.fit.large.summary import Summary
from llmlat.formulas.sql import name, number
from llmlat.records import TARGET
from llmlat.sources.parquet.database import Part

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


@dataclass(frozen=True)
class Sums:
    """Sums over rows of features and latency, each less a centre; those about one centre add up.

    Attributes
    ----------
    centre : ndarray of float64, shape (n_features + 1,)
        What is taken off the features, and off the latency behind them.
    n : int
        Rows.
    weight : float
        Sum of the weights.
    first : ndarray of float64, shape (n_features + 1,)
    second : ndarray of float64, shape (n_features + 1, n_features + 1)
        Of products of two.
    """

    centre: Floats
    n: int
    weight: float
    first: Floats
    second: Floats

    @classmethod
    def of(cls, values: Floats, weights: Floats, centre: Floats) -> "Sums":
        """Add up rows in memory: features and latency, shape (n_rows, n_features + 1)."""
        moved = values - centre
        weighted = moved * weights[:, None]
        return cls(centre, len(values), float(weights.sum()), weighted.sum(axis=0), moved.T @ weighted)

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.centre,
            self.n + other.n,
            self.weight + other.weight,
            self.first + other.first,
            self.second + other.second,
        )

    def moments(self) -> Moments:
        """Return the sums about the means; of no rows, zeros."""
        shift = self.first / (self.weight or 1.0)
        square = self.second - self.weight * np.outer(shift, shift)
        mean = self.centre + shift
        rest = shift - (mean - self.centre)
        own = slice(len(mean) - 1)
        about_means = (square[own, own], square[own, -1], float(square[-1, -1]))
        return Moments(self.n, self.weight, mean[own], rest[own], float(mean[-1]), *about_means)


def sums(part: Part, near: Summary, weight: str | None = None, where: str = "TRUE") -> Sums:
    """Add up the rows of a part, reading the files once.

    Parameters
    ----------
    part : Part
        Of numbers.
    near : Summary
        Its means are the centre: any near the true ones; exactness does not depend on them.
    weight : str, optional
        SQL expression of a row's weight; 1 unless given.
    where : str
        SQL condition of the rows to add up.
    """
    columns = [*part.columns, TARGET]
    centre = np.append(near.mean, near.latency_mean_ms)
    moved = [f"{name(c)} - {number(m)} AS u{k}" for k, (c, m) in enumerate(zip(columns, centre, strict=True))]
    factor = "" if weight is None else "w * "
    pairs = [(i, j) for i in range(len(columns)) for j in range(i + 1)]
    wanted = [
        "count(*)",
        "count(*)" if weight is None else "coalesce(fsum(w), 0)",
        *[f"coalesce(fsum({factor}u{k}), 0)" for k in range(len(columns))],
        *[f"coalesce(fsum({factor}u{i} * u{j}), 0)" for i, j in pairs],
    ]
    inner = f"SELECT {', '.join(moved)}, {weight or 1} AS w FROM {part.view} WHERE {where}"
    n, total, *found = part.database.scan(f"SELECT {', '.join(wanted)} FROM ({inner})")[0]
    second = np.empty((len(columns), len(columns)))
    for (i, j), product in zip(pairs, found[len(columns) :], strict=True):
        second[i, j] = second[j, i] = product
    return Sums(centre, n, float(total), np.array(found[: len(columns)]), second)

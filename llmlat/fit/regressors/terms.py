"""What fitted costs say in the words of physics: bandwidth achieved, rate achieved, ms per 1,000 tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llmlat.fit.regressors.physics import PhysicsRegressor

# How many of each unit make the unit that people speak of, and whether they speak of units per second.
RATES = {"bytes": ("GB/s", 1e9), "operations": ("TFLOP/s", 1e12)}
COSTS = {
    "tokens": ("ms per 1k tokens", 1e3),
    "sequences": ("ms per sequence", 1.0),
    "pairs": ("ms per million pairs", 1e6),
}


@dataclass(frozen=True)
class PhysicalTerm:
    """One cost, as a person reads it.

    Attributes
    ----------
    name : str
        The column, or `overhead` or `floor`.
    value : float or None
        In `unit`; None for the rate of work that costs nothing.
    unit : str
        `GB/s`, `TFLOP/s`, `ms per 1k tokens`, `ms`, or ms per the column's own unit.
    """

    name: str
    value: float | None
    unit: str

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: no cost shows"
        return f"{self.name}: {self.value:.4g} {self.unit}"


def physical_terms(fitted: PhysicsRegressor, units: Mapping[str, str]) -> list[PhysicalTerm]:
    """Return what a fitted physics regressor found.

    Parameters
    ----------
    fitted : PhysicsRegressor
        Fitted on named columns, or on an array whose columns are `units`, in order.
    units : mapping
        The unit of each column: `bytes`, `operations` (floating-point), `tokens`, or any other.

    Returns
    -------
    list of PhysicalTerm
        `overhead`, `floor`, and a term a column, in the order of fitting. A rate is 1 / cost: the bandwidth
        or throughput achieved, where this work is what a step waits for.
    """
    names = getattr(fitted, "feature_names_in_", np.array(list(units)))
    return [
        PhysicalTerm("overhead", fitted.overhead_ms_, "ms"),
        PhysicalTerm("floor", fitted.floor_ms_, "ms"),
        *(_term(str(name), float(cost), units[name]) for name, cost in zip(names, fitted.coef_, strict=True)),
    ]


def _term(name: str, ms_per_unit: float, unit: str) -> PhysicalTerm:
    if unit in RATES:
        spoken, size = RATES[unit]
        return PhysicalTerm(name, 1e3 / ms_per_unit / size if ms_per_unit else None, spoken)
    spoken, size = COSTS.get(unit, (f"ms per {unit}", 1.0))
    return PhysicalTerm(name, ms_per_unit * size, spoken)

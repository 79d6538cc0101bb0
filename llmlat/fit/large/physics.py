"""Physics from sums: what `PhysicsRegressor` fits on rows in memory, fitted on rows that are not.

Non-negative least squares need no more than sums of products. The floor needs more, since it divides the
rows: each is held by the floor or by the line, and both are fitted in turns until no row changes sides. Rows
far from where the two meet change sides in no turn, so those are added up once; only the band of rows around
the meeting point is held in memory, and afterwards the files are read once more to see that none outside it
was misplaced. Where to begin, and whether to look for a floor at all, a sample of requests tells.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from llmlat.errors import ConfigError
from llmlat.fit.large.moments import Moments, Sums, sums
from llmlat.fit.large.rows import Part, name, number
from llmlat.fit.large.sample import Sample, fit_sample
from llmlat.fit.large.summary import Summary
from llmlat.fit.regressors.physics import EXACT, FLOOR_PARAMETERS, PhysicsRegressor
from llmlat.records import TARGET

Floats = npt.NDArray[np.float64]

RELATIVE = f"pow({TARGET}, -2)"
"""The weight that turns squared errors into squared relative ones."""

START_ROWS = 100_000
BAND_ROWS = 200_000
MAX_BANDS = 4
MAX_TURNS = 50
ROUNDING = 1e-13  # of a variance, as a share of the squared range


@dataclass(frozen=True)
class Law:
    """latency = max(floor, overhead + sum of cost * work)."""

    floor_ms: float
    overhead_ms: float
    cost: Floats

    def line(self, work: Floats) -> Floats:
        """Return what rows would take without the floor."""
        predicted: Floats = self.overhead_ms + work @ self.cost
        return predicted

    def line_sql(self, features: Sequence[str]) -> str:
        """Return the same as SQL."""
        terms = [f"{number(cost)} * {name(f)}" for f, cost in zip(features, self.cost, strict=True) if cost]
        return f"({' + '.join([number(self.overhead_ms), *terms])})"


@dataclass(frozen=True)
class Division:
    """Rows that the line holds, rows that the floor holds, and the law that follows.

    `n_misplaced` rows are on one side and belong on the other.
    """

    above: Sums
    below: Sums
    law: Law
    n_turns: int
    n_misplaced: int = 0


def is_physics(pipeline: Pipeline) -> bool:
    """Return whether a pipeline is physics on features in their units."""
    scales = isinstance(pipeline.named_steps["scaled"], StandardScaler)
    return type(pipeline.named_steps["regressor"]) is PhysicsRegressor and not scales


def fit_physics(part: Part, near: Summary, pipeline: Pipeline, drawn: Sample) -> tuple[Pipeline, str]:
    """Return a copy of the pipeline, fitted on all rows of a part, and how it was fitted.

    Parameters
    ----------
    part : Part
        Of work.
    near : Summary
        Of that part.
    pipeline : Pipeline
        One that `is_physics`.
    drawn : Sample
        Rows of that part, by which to begin.

    Raises
    ------
    ConfigError
        Where work is negative.
    """
    negative = [feature for feature, low in zip(part.columns, near.low, strict=True) if low < 0]
    if negative:
        raise ConfigError(
            f"regressor: {negative[0]} is below 0 in some rows; physics takes work of 0 or more."
        )
    pipeline = fit_sample(pipeline, drawn, list(part.columns))
    scaler, fitted = pipeline.named_steps["scaled"], pipeline.named_steps["regressor"]
    start = Law(fitted.floor_ms_, fitted.overhead_ms_, fitted.coef_)
    law, how = _fit(part, near, start, drawn.frame[list(part.columns)].to_numpy())
    fitted.floor_ms_, fitted.overhead_ms_, fitted.coef_ = law.floor_ms, law.overhead_ms, law.cost
    if hasattr(scaler, "scale_"):
        scaler.mean_, scaler.scale_ = near.mean, _deviations(part)
    return pipeline, how


def _fit(part: Part, near: Summary, start: Law, some_work: Floats) -> tuple[Law, str]:
    if not start.floor_ms:
        return _line(sums(part, near, RELATIVE).moments(), near), "exact, without a floor"
    found = _divide(part, near, start, some_work)
    bare = _line((found.above + found.below).moments(), near)
    gain = np.log(_loss(bare, found) / _loss(found.law, found))
    if near.n * gain <= FLOOR_PARAMETERS * np.log(near.n):  # Schwarz's criterion, as in memory
        return bare, "exact, without a floor"
    short = f", {found.n_misplaced:,} rows short of settling" if found.n_misplaced else ""
    return found.law, f"exact, its floor settled in {found.n_turns} turns{short}"


def _divide(part: Part, near: Summary, start: Law, some_work: Floats) -> Division:
    """Divide the rows between line and floor, from a law that is nearly right."""
    law, n_turns, n_misplaced = start, 0, 0
    for _ in range(MAX_BANDS):
        line, border = law.line_sql(part.columns), law.floor_ms
        reach = _reach(np.abs(law.line(some_work) - border), BAND_ROWS / near.n)
        is_above = f"{line} - {number(border)} >= {number(reach)}"
        is_below = f"{number(border)} - {line} > {number(reach)}"
        above = sums(part, near, RELATIVE, is_above)
        below = sums(part, near, RELATIVE, is_below)
        between = f"SELECT {part.selected} FROM {part.view} WHERE NOT ({is_above}) AND NOT ({is_below})"
        found = _settle(above, below, part.database.frame(between).to_numpy(), law, near)
        law, n_turns = found.law, n_turns + found.n_turns
        on_floor = f"{law.line_sql(part.columns)} < {number(law.floor_ms)}"
        misplaced = f"({is_above}) AND {on_floor} OR ({is_below}) AND NOT ({on_floor})"
        n_misplaced = part.database.scan(f"SELECT count(*) FROM {part.view} WHERE {misplaced}")[0][0]
        if not n_misplaced:
            break
    return replace(found, n_turns=n_turns, n_misplaced=n_misplaced)


def _reach(distances: Floats, share: float) -> float:
    """Return how far from the border this share of the rows lies; further than any where that is all.

    A little less, since very many rows may lie just so far.
    """
    return float(np.quantile(distances, share)) * (1 - 1e-9) if share < 1 else 1e300


def _settle(above: Sums, below: Sums, between: Floats, law: Law, near: Summary) -> Division:
    """Move the rows between from side to side until none wants to."""
    work, weights = between[:, :-1], between[:, -1] ** -2
    on_floor, n_turns = law.line(work) < law.floor_ms, 0
    for _ in range(MAX_TURNS):
        held = [Sums.of(between[side], weights[side], above.centre) for side in (~on_floor, on_floor)]
        line_side, floor_side = above + held[0], below + held[1]
        # Of all constants, the weighted mean has the smallest squared relative error.
        law = replace(_line(line_side.moments(), near), floor_ms=floor_side.moments().latency_mean_ms)
        before, on_floor, n_turns = on_floor, law.line(work) < law.floor_ms, n_turns + 1
        if np.array_equal(before, on_floor):
            break
    return Division(line_side, floor_side, law, n_turns)


def _line(found: Moments, near: Summary) -> Law:
    """Return overhead and costs of 0 or more with the smallest squared relative error, without a floor.

    The root of the sums is the same problem as the rows (as the triangle of their QR factorisation is), with
    one row more than there are columns.
    """
    # A column may be constant on one side, but for rounding; the overhead then holds its cost.
    varies = np.diag(found.gram) > ROUNDING * found.weight * (near.high - near.low) ** 2
    unit = np.sqrt(np.diag(found.gram)[varies])
    squares, directions = np.linalg.eigh(found.gram[np.ix_(varies, varies)] / np.outer(unit, unit))
    root = np.sqrt(np.maximum(squares, 0.0))
    told = squares > len(squares) * np.finfo(np.float64).eps
    target = np.divide(directions.T @ (found.cross[varies] / unit), root, out=np.zeros_like(root), where=told)
    at_mean = np.sqrt(found.weight) * np.array([1.0, *found.mean[varies], found.latency_mean_ms])
    about_mean = np.column_stack([np.zeros_like(root), root[:, None] * directions.T * unit, target])
    problem = np.vstack([at_mean, about_mean])
    size = np.linalg.norm(problem[:, :-1], axis=0)
    scale = np.where(size > 0, size, 1.0)
    solution = nnls(problem[:, :-1] / scale, problem[:, -1])[0] / scale
    cost = np.zeros(len(varies))
    cost[varies] = solution[1:]
    return Law(0.0, float(solution[0]), cost)


def _loss(law: Law, found: Division) -> float:
    """Return the mean squared relative error of a law, on the sides as they were found."""
    floor = Law(0.0, law.floor_ms, np.zeros_like(law.cost)) if law.floor_ms else law
    total = _squared(law, found.above.moments()) + _squared(floor, found.below.moments())
    return max(total / (found.above.n + found.below.n), EXACT)


def _squared(law: Law, found: Moments) -> float:
    """Return the weighted squared error of a law's line."""
    at_mean = found.latency_mean_ms - law.line(found.mean)
    about_mean = law.cost @ found.gram @ law.cost - 2 * law.cost @ found.cross + found.latency_square
    return float(found.weight * at_mean**2 + about_mean)


def _deviations(part: Part) -> Floats:
    told = ", ".join(f"stddev_pop({name(feature)})" for feature in part.columns)
    return np.array(part.database.scan(f"SELECT {told} FROM {part.view}")[0])

"""Tables of errors: the same columns everywhere, each error also as a multiple of the noise floor."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmlat.report import wording
from llmlat.report.table import Column, Table
from llmlat.report.wording import MISSING, NBSP, TIMES, count, is_number, number, percent, times

Metrics = Mapping[str, Any]
Block = Mapping[str, Any] | None

LABEL = Column("", right=False)
OVER_FLOOR = Column(f"{TIMES}{NBSP}floor", over_floor=True)
ERROR_COLUMNS = (
    LABEL,
    Column("rows"),
    Column("MAE, ms"),
    OVER_FLOOR,
    Column("RMSE, ms"),
    OVER_FLOOR,
    Column("half within, ms", roomy=True),
    Column("mean % off", roomy=True),
    Column("R²"),
)


def errors(
    metrics: Metrics,
    title: str,
    blocks: Sequence[tuple[str, Block]],
    note: str = "",
    strong: int | None = None,
) -> Table:
    """Lay error blocks side by side, each also as a multiple of the noise floor where there is one."""
    rows = tuple(_error_row(metrics, label, block) for label, block in blocks if block and known(block))
    table = Table(title, ERROR_COLUMNS, rows, note, strong)
    return table if metrics.get("noise_floor") else table.without_floor()


def known(block: Block) -> bool:
    """Whether an error block holds errors; without rows it holds none."""
    return bool(block) and is_number((block or {}).get("mae_ms"))


def _error_row(metrics: Metrics, label: str, block: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        label,
        count(block.get("n")),
        number(block["mae_ms"]),
        over_floor(metrics, "mae", block),
        number(block["rmse_ms"]),
        over_floor(metrics, "rmse", block),
        number(block.get("median_ae_ms")),
        percent(block.get("mape")),
        wording.fit_quality(block.get("r2")),
    )


def over_floor(metrics: Metrics, name: str, block: Mapping[str, Any]) -> str:
    """Spell a block's MAE or RMSE as a multiple of the noise floor: its phase's own, where it has one."""
    if f"{name}_over_floor" in block:
        return times(block[f"{name}_over_floor"])
    error, floor = block[f"{name}_ms"], (metrics.get("noise_floor") or {}).get(f"{name}_ms")
    if not (is_number(floor) and is_number(error)) or floor <= 0:
        return MISSING
    return times(error / floor)


def headline_block(metrics: Metrics) -> dict[str, Any]:
    """Return the error block of the headline fit."""
    names = ("mae_ms", "rmse_ms", "median_ae_ms", "r2", "mape", "mae_over_floor", "rmse_over_floor")
    return {"n": metrics["n_test"], **{name: metrics[name] for name in names if name in metrics}}


def best_baseline(metrics: Metrics) -> tuple[str, Mapping[str, Any]] | None:
    """Return the baseline with the smallest mean error, by name, or None where there is none."""
    told = {k: v for k, v in metrics["baselines"].items() if known(v)}
    name = min(told, key=lambda k: float(told[k]["mae_ms"]), default=None)
    return (name, told[name]) if name else None


def baselines(metrics: Metrics) -> Table:
    """Set the fit beside the simple guesses, on the same test rows."""
    guesses = [(wording.BASELINES.get(k, k), v) for k, v in metrics["baselines"].items()]
    blocks = [("this fit", headline_block(metrics)), *guesses]
    floor = metrics.get("noise_floor")
    if floor:
        blocks.append(("noise floor", {"n": floor.get("n_rows"), **floor}))
    return errors(metrics, "This fit beside simple guesses", blocks, strong=0)


def by_phase(metrics: Metrics) -> Table:
    """Set first tokens beside the later ones."""
    blocks = [(wording.PHASES.get(k, k), v) for k, v in metrics["by_phase"].items()]
    floor = (metrics.get("noise_floor") or {}).get("by_phase")
    note = "Multiples are of the noise floor of the same kind of token." if floor else ""
    return errors(metrics, "How far off, by kind of token", blocks, note)


def splits(metrics: Metrics) -> Table:
    """Set the random division of rows beside every other that the rows allow."""
    blocks = [(wording.split(k), v) for k, v in (metrics.get("splits") or {}).items()]
    trees = ("boosted trees instead, on validation folds", metrics.get("nonlinear_check"))
    validation = ("validation, on folds of the training rows", metrics.get("validation"))
    return errors(metrics, "The same fit, tested in other ways", [*blocks, validation, trees])


def steady(metrics: Metrics) -> Table | None:
    """Show the fit without warm-up and prefill rows, and the headline fit on those same rows."""
    without = metrics.get("without_warmup_and_prefill")
    if not without or not known(without.get("refit")):
        return None
    return _refitted(metrics, "Without the slow start", without)


def revisited(metrics: Metrics) -> Table | None:
    """Show the fit at context lengths that the process had seen, and the headline fit on those same rows."""
    without = metrics.get("without_first_visits")
    if not without or not known(without.get("refit")):
        return None
    return _refitted(metrics, "At context lengths seen before", without)


def _refitted(metrics: Metrics, title: str, without: Mapping[str, Any]) -> Table:
    guesses = [(wording.BASELINES.get(k, k), v) for k, v in (without.get("baselines") or {}).items()]
    blocks = [("fitted without them", without["refit"]), ("headline fit, same rows", without["headline"])]
    return errors(metrics, title, [*blocks, *guesses], strong=0)

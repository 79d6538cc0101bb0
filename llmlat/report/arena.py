"""Every regressor on the same folds, in words and a table."""

from collections.abc import Mapping
from typing import Any

from llmlat.report import wording
from llmlat.report.table import Column, Table
from llmlat.report.wording import MISSING, listed, number, percent, sentence, times

Metrics = Mapping[str, Any]


def grouped_split(metrics: Metrics) -> str:
    """Return the division by which the arena is ordered."""
    known = [told["splits"] for told in metrics["arena"] if not told["reason"]]
    return next(
        (name for name in ("by_prompt", "by_request") if any(name in splits for splits in known)), "random"
    )


def table(metrics: Metrics) -> Table | None:
    """Lay out every regressor's errors by division, and what it costs to fit and to ask."""
    found = [told for told in metrics.get("arena") or [] if not told["reason"]]
    if not found:
        return None
    divisions = list(dict.fromkeys(name for told in found for name in told["splits"]))
    grouped = grouped_split(metrics)
    rows = tuple(
        (
            told["name"],
            *(number((told["splits"].get(name) or {}).get("mae_ms")) for name in divisions),
            times((told["splits"].get(grouped) or {}).get("mae_over_floor")),
            percent((told["splits"].get(grouped) or {}).get("mape")),
            number(told["splits"][grouped]["fit_s"], 2) if grouped in told["splits"] else MISSING,
            number(told["predict_us_per_row"], 2),
            number(told["predict_one_us"], 2),
        )
        for told in found
    )
    columns = (
        Column("regressor", right=False),
        *(Column(f"{_short(name)}, ms") for name in divisions),
        Column("× floor", over_floor=True),
        Column("of the latency", roomy=True),
        Column("fit, s", roomy=True),
        Column("a row, µs", roomy=True),
        Column("one step, µs", roomy=True),
    )
    note = _note(found, grouped)
    made = Table("Every regressor on the same folds: average miss (MAE)", columns, rows, note)
    return made if metrics.get("noise_floor") else made.without_floor()


def _short(name: str) -> str:
    return {
        "random": "at random",
        "by_request": "new requests",
        "by_prompt": "new prompts",
        "extrapolate": "longer",
    }.get(name, name)


def _where(grouped: str) -> str:
    return "rows at random" if grouped == "random" else "what was never seen"


def _note(found: list[Mapping[str, Any]], grouped: str) -> str:
    peers = [f"{told['name']} is {told['of']}" for told in found if told["of"]]
    start = (
        f"Ordered by the error on {_where(grouped)}. Predictions are asked of the fitted pipeline; a linear "
        "one takes a microsecond from its file."
    )
    return f"{start} {sentence(listed(peers))}" if peers else start


def words(metrics: Metrics) -> list[str]:
    """Say who was nearest, and who failed."""
    told = metrics["arena"]
    ranked = [one for one in told if not one["reason"]]
    failed = [f"{one['name']}: {one['reason']}" for one in told if one["reason"]]
    said = []
    if ranked:
        name = grouped_split(metrics)
        best = ranked[0]
        said.append(
            f"Nearest on {_where(name)} ({wording.split(name)}): {best['name']}, off by "
            f"{wording.ms(best['splits'][name]['mae_ms'])} on average. It is the best of {len(ranked)} on "
            "these very test rows, which flatters it: to choose by, there is regressor=auto, which looks at "
            "training rows only."
        )
    return [*said, *(f"Not fitted: {sentence(reason)}" for reason in failed)]


def effects(metrics: Metrics) -> Table | None:
    """Lay out what each regressor makes of each input: the thesis's table for all of them."""
    found = [told for told in metrics.get("arena") or [] if not told["reason"]]
    names = list(dict.fromkeys(name for told in found for name in told["average_effects"]))
    if not names:
        return None
    rows = tuple(
        (
            told["name"],
            *(wording.signed((told["average_effects"].get(name) or {}).get("scaled_ms")) for name in names),
        )
        for told in found
    )
    note = (
        "What one standard deviation more of an input adds to the prediction, on average: for a linear "
        "regressor its coefficients on scaled inputs. A dash: it does not look at that input, or the input "
        "does not vary."
    )
    columns = (Column("regressor", right=False), *(Column(name) for name in names))
    return Table("What each regressor makes of each input, ms", columns, rows, note)

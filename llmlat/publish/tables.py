"""The tables of a dataset card, from its rows and its provenance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from llmlat.publish.cells import by_cell
from llmlat.records import COLUMNS, FLAG_SEPARATOR, FLAGS, TARGET
from llmlat.report.table import Column, Table
from llmlat.report.wording import MISSING, PHASES, count, number, percent
from llmlat.steps import one_row_a_step

QUANTILES = (0.05, 0.5, 0.95, 0.99)
REASONS = {
    "out_of_memory": "ran out of memory",
    "larger_than_one_that_did_not_fit": "larger than one that did not fit, so not tried",
    "not_answered": "not answered by the server",
}


def latencies(rows: pd.DataFrame) -> Table:
    """Say how long steps took: by phase, and by the settings that differ within the dataset."""
    steps = one_row_a_step(rows[~rows["is_warmup"]])
    spelled = [
        (PHASES[phase], name, *_spread(part[part["phase"] == phase][TARGET]))
        for phase in PHASES
        for name, part in by_cell(steps).items()
    ]
    cells = [row for row in spelled if row[2] != "0"]
    names = [Column("", right=False), Column("setting", right=False)]
    numbers = [
        Column(name) for name in ("steps", "median", "5 % under", "95 % under", "99 % under", "slowest")
    ]
    if not any(row[1] for row in cells):
        return Table("", (names[0], *numbers), tuple((row[0], *row[2:]) for row in cells))
    return Table("", (*names, *numbers), tuple(cells))


def _spread(latency: pd.Series) -> tuple[str, ...]:
    if latency.empty:
        return ("0",)
    p5, median, p95, p99 = latency.quantile(list(QUANTILES))
    return count(len(latency)), *(number(value) for value in (median, p5, p95, p99, latency.max()))


def flags(rows: pd.DataFrame) -> Table | None:
    """Say how many counted tokens are doubtful, and why; None where none is."""
    counted = rows[~rows["is_warmup"]]
    words = counted["flags"].str.split(FLAG_SEPARATOR).explode()
    found = words[words != ""].value_counts()
    if found.empty:
        return None
    cells = [
        (str(flag), FLAGS.get(str(flag), MISSING), count(n), percent(n / len(counted)))
        for flag, n in found.items()
    ]
    columns = (Column("flag", right=False), Column("why", right=False), Column("tokens"), Column("of all"))
    return Table("", columns, tuple(cells))


def skipped(requests: list[dict[str, Any]]) -> Table | None:
    """Say which requests were not measured, and why; None where all were."""
    if not requests:
        return None
    headers = (
        "request",
        "prompts",
        "engine",
        "batch",
        "beams",
        "prompt tokens",
        "new tokens",
        "why",
        "wanted",
    )
    words = {"prompts", "engine", "why"}
    return Table(
        "", tuple(Column(name, right=name not in words) for name in headers), tuple(map(_skipped, requests))
    )


def _skipped(request: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = ("batch_size", "num_beams", "prompt_tokens", "max_new_tokens")
    reason = str(request.get("reason"))
    return (
        count(request["request_id"]),
        ", ".join(dict.fromkeys(map(str, request.get("prompt_ids") or []))) or MISSING,
        str(request.get("engine") or MISSING),
        *(count(request.get(name)) for name in numbers),
        REASONS.get(reason, reason),
        size(request.get("wanted_bytes")),
    )


def columns(rows: pd.DataFrame) -> Table:
    """Explain every column, and say in how many of this dataset's rows it is filled."""
    cells = [
        (f"`{c.name}`", str(c.dtype), c.unit, c.meaning, _filled(rows[c.name].notna().mean()))
        for c in COLUMNS
    ]
    names = ("column", "type", "unit", "meaning")
    return Table("", (*(Column(name, right=False) for name in names), Column("filled")), tuple(cells))


def _filled(share: float) -> str:
    return "never" if share == 0 else "always" if share == 1 else percent(share)


def sessions(provenance: Mapping[str, Any], rows: pd.DataFrame) -> Table:
    """List the processes that measured."""
    tokens = rows[~rows["is_warmup"]].groupby("session_id").size()
    cells = [
        (
            str(index),
            str(session.get("started_at", MISSING)),
            count(tokens.get(index, 0)),
            _warmup(session.get("warmup")),
            count((session.get("foreign_processes") or {}).get("count")),
            str(session.get("os", MISSING)),
        )
        for index, session in enumerate(provenance["sessions"])
    ]
    headers = ("session", "began", "tokens", "warm-up", "other processes at work", "operating system")
    text = {"began", "warm-up", "operating system"}
    return Table("", tuple(Column(name, right=name not in text) for name in headers), tuple(cells))


def _warmup(warmup: Mapping[str, Any] | None) -> str:
    if not warmup:
        return MISSING
    words = f"{count(warmup.get('n_tokens'))} steps in {number(warmup.get('seconds'))} s"
    settled = {True: "settled", False: "not settled"}.get(warmup.get("settled"))  # type: ignore[arg-type]
    return f"{words}, {settled}" if settled else words


def files(folder: Path, names: list[str]) -> Table:
    """List what is in the folder, a line a kind of file."""
    kinds: dict[str, list[Path]] = {}
    for name in names:
        place, _, last = name.rpartition("/")
        kind = f"{place}/{last.split('-')[0]}-*.{last.rpartition('.')[2]}" if place else name
        kinds.setdefault(kind, []).append(folder / name)
    cells = [
        (
            f"`{kind}`",
            KINDS.get(kind, ""),
            count(len(paths)),
            size(sum(path.stat().st_size for path in paths)),
        )
        for kind, paths in kinds.items()
    ]
    headers = (Column("file", right=False), Column("what", right=False), Column("files"), Column("size"))
    return Table("", headers, tuple(cells))


KINDS = {
    "provenance.json": "what the key is the hash of, and a record of each session",
    "latency.svg": "the picture above",
    "rows/request-*.parquet": "token rows, a file a request",
    "rows/warmup-*.parquet": "token rows of the warm-up, a file a session",
    "rows/_partial-*.parquet": "token rows of a request that broke off; readers pass them over",
    "rows/_flagged-*.parquet": "token rows that were measured again; readers pass them over",
    "telemetry/session-*.parquet": "every sample of the machine's state, a file a session",
    "skipped/request-*.json": "requests that were not measured, and why",
}


def size(n_bytes: Any) -> str:
    """Spell a size in bytes."""
    if not isinstance(n_bytes, int | float):
        return MISSING
    for unit, divisor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= divisor:
            return f"{number(n_bytes / divisor)}\u00a0{unit}"
    return f"{n_bytes:.0f}\u00a0bytes"

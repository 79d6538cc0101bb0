"""What a dataset card says in words: what was measured, how, on what, and what nobody may overlook."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from llmlat.publish.cells import by_cell
from llmlat.report import wording
from llmlat.report.measurement import endpoint_words
from llmlat.report.table import Column, Table
from llmlat.report.wording import count, counted, listed, number, percent

Facts = Mapping[str, Any]
ARCHITECTURE = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
NOTABLE_FLAGGED = 0.05


def title(identity: Facts) -> str:
    """Return a heading for a dataset that was given none."""
    return f"Token latencies of {wording.model(identity)} on {identity['hardware']['name']}"


def summary(identity: Facts, rows: pd.DataFrame) -> str:
    """Say in a sentence what is in it."""
    tokens = rows[~rows["is_warmup"]]
    engines = _engines(tokens)
    return (
        f"{counted(len(tokens), 'token')} of {counted(tokens['request_id'].nunique(), 'request')}, timed one "
        f"by one: {wording.model(identity)}, {wording.quantization(identity)}, "
        f"{listed(engines)} engine{'s' if len(engines) > 1 else ''}, on {identity['hardware']['name']}."
    )


def warnings(provenance: Facts, rows: pd.DataFrame, skipped: int, is_complete: bool) -> list[tuple[str, str]]:
    """Return what nobody may overlook: a bold start and the rest."""
    identity = provenance["identity"]
    model, asked = wording.model(identity), identity["stand_in_for"]
    found = []
    if asked:
        found.append((f"This is not {asked}.", f"The small model {model} stood in for it."))
    if identity["weights"] == "random":
        rest = "Times are those of this architecture; the tokens that it generated mean nothing."
        found.append(("The weights are random.", rest))
    if not is_complete:
        n_there = rows.loc[~rows["is_warmup"], "request_id"].nunique()
        rest = f"{count(n_there)} of {count(provenance['n_requests'])} planned requests are in it."
        found.append(("The measurement is incomplete.", rest))
    if skipped:
        rest = f"{counted(skipped, 'request')} could not be: see “What was not measured”."
        found.append(("Not everything was measured.", rest))
    flagged = (rows.loc[~rows["is_warmup"], "flags"] != "").mean()
    if flagged > NOTABLE_FLAGGED:
        found.append((f"{percent(flagged)} of the tokens are flagged.", "See “Doubtful rows”."))
    return found


def measured(identity: Facts, rows: pd.DataFrame) -> Table:
    """Say what was measured."""
    tokens = rows[~rows["is_warmup"]]
    shape = [
        f"{name} {identity['architecture'][name]}"
        for name in ARCHITECTURE
        if name in identity["architecture"]
    ]
    prompts = (
        f"{identity['prompt_set']}: {counted(tokens['prompt_id'].nunique(), 'prompt')} of "
        f"{_range(tokens['prompt_tokens'])} tokens, up to {count(tokens['token_index'].max() + 1)} new tokens"
    )
    return _facts(
        {
            "model": f"{identity['model']}, {identity['weights']} weights",
            "architecture": ", ".join([str(identity["architecture"].get("model_type", "")), *shape]),
            "quantization": wording.quantization(identity),
            "engine": listed(_engines(tokens)),
            "decoding": _settings(identity["decoding"]),
            "settings compared": "; ".join(name for name in by_cell(tokens) if name),
            "prompts": prompts,
            "seed": identity["seed"],
        }
    )


def protocol(identity: Facts) -> Table:
    """Return the settings of the measuring protocol, as their configuration keys name them."""
    return _facts({f"`collect.{name}`": _value(value) for name, value in identity["collect"].items()})


def machine(provenance: Facts) -> Table:
    """Say on what was measured, as the key and the last session have it."""
    identity = provenance["identity"]
    session: Facts = provenance["sessions"][-1] if provenance["sessions"] else {}
    memory = session.get("memory_bytes")
    gpu = {name: value for name, value in (session.get("gpu") or {}).items() if name != "driver"}
    return _facts(
        {
            **identity["hardware"],
            "memory": f"{number(memory / 1e9)} GB" if memory else None,
            "GPU at the start": _settings(gpu),
            "CUDA": session.get("cuda"),
            "versions": _settings({**identity["versions"], **session.get("versions", {})}),
        }
    )


def served(provenance: Facts) -> str:
    """Say what was seen of a server; nothing where the engine ran in the measuring process."""
    endpoint = provenance["sessions"][-1].get("endpoint") if provenance["sessions"] else None
    return endpoint_words({"measurement": {"endpoint": endpoint}})


def telemetry(provenance: Facts) -> str | None:
    """Say how the machine's state was sampled and at what cost, in the last session that did."""
    told = [s["telemetry"] for s in provenance["sessions"] if (s.get("telemetry") or {}).get("n_samples")]
    if not told:
        return None
    last, cost = told[-1], told[-1].get("sample_us") or {}
    sources = listed(list(last.get("sources") or []))
    return (
        f"The machine's state was sampled every {number(last.get('interval_ms'))} ms from {sources}; a "
        f"sample cost {number(cost.get('median'))} µs in the median and {number(cost.get('max'))} µs at "
        f"most, {percent(last.get('share_of_time'))} of the time."
    )


def notices(provenance: Facts) -> list[str]:
    """Return what the sessions had to say, each thing once."""
    return list(dict.fromkeys(str(n) for s in provenance["sessions"] for n in s.get("notices", [])))


def _engines(tokens: pd.DataFrame) -> list[str]:
    return sorted(map(str, tokens["engine"].unique()))


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def _settings(settings: Facts) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in settings.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        crossed = {name: below for name, below in value.items() if below not in ([], None)}
        return _settings(crossed) or "none"
    if isinstance(value, str):
        return value
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _facts(facts: Facts) -> Table:
    rows = tuple((name, str(value)) for name, value in facts.items() if value not in (None, ""))
    return Table("", (Column("", right=False), Column("", right=False)), rows)

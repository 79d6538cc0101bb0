"""How the measuring went: warm-up, repetitions, telemetry, doubtful rows, and what did not fit."""

from collections.abc import Mapping
from typing import Any

from llmlat.records import FLAGS
from llmlat.report import wording
from llmlat.report.table import Column, Table
from llmlat.report.wording import MISSING, count, counted, is_number, listed, ms, number, percent, times

Metrics = Mapping[str, Any]

ARRIVALS = {
    "one_at_a_time": "one request at a time",
    "closed_loop": "{concurrency} requests in flight as long as there were so many left",
    "poisson": "requests arriving at random, {rate} a second on average",
}


def words(metrics: Metrics) -> list[str]:
    """Return a paragraph on each thing that is known."""
    told = (
        preparation_words(metrics),
        endpoint_words(metrics),
        attempt_words(metrics),
        warm_up_words(metrics),
        repetition_words(metrics),
        flag_words(metrics),
        telemetry_words(metrics),
        bandwidth_words(metrics),
    )
    return [paragraph for paragraph in told if paragraph]


def preparation_words(metrics: Metrics) -> str:
    """Say what was captured and compiled before the requests, and for how long."""
    prepared = _measurement(metrics).get("preparations") or []
    if not prepared:
        return ""
    capture_s = sum(entry["capture_s"] for entry in prepared)
    compiled = [entry["compile_s"] for entry in prepared if entry["compile_s"] is not None]
    compiling = f", after compiling it for {number(sum(compiled), 2)} s" if compiled else ""
    captured = f"A decode step was captured {counted(len(prepared), 'time')} in {number(capture_s, 2)} s"
    return f"{captured}{compiling}; no row holds any of that."


def endpoint_words(metrics: Metrics) -> str:
    """Say what was seen of a server, and what could not be; nothing where the engine ran in this process."""
    endpoint = _measurement(metrics).get("endpoint")
    if not endpoint:
        return ""
    how = ARRIVALS[endpoint["arrival"]].format(
        concurrency=count(endpoint.get("concurrency")), rate=number(endpoint.get("rate_per_s"))
    )
    most = endpoint.get("concurrency") if endpoint["arrival"] == "poisson" else None
    limit = f", at most {count(most)} in flight" if most else ""
    unknown = endpoint.get("unknown_columns") or []
    untold = f" Not known of the engine, and empty: {listed(unknown)}." if unknown else ""
    by = "the server" if endpoint["prompt_tokens_from"] == "server" else "a tokenizer here"
    return (
        f"Tokens were timed as they arrived from {endpoint['base_url']} (OpenAI's {endpoint['api']} API), "
        f"{how}{limit}. So a time holds the network and the server's own queue and batching, which a client "
        "cannot tell from the engine's step; tokens that arrived together share one, and count as one step. "
        f"Prompts were counted by {by}.{answered_words(endpoint)}{untold}"
    )


def answered_words(endpoint: Mapping[str, Any]) -> str:
    """Say what a server's answers were not: of the asked length, or computed from the prompt's beginning."""
    early = endpoint.get("requests_ended_early") or 0
    cached = endpoint.get("cached_prompt_fraction")
    short = f" {counted(early, 'request')} ended before the length that was asked for." if early else ""
    if not cached:
        return short
    return f"{short} The server had computed {percent(cached)} of the prompts' tokens before."


def attempt_words(metrics: Metrics) -> str:
    """Say which attempts of requests failed, and that they were repeated."""
    failed = (_measurement(metrics).get("endpoint") or {}).get("failed_attempts") or {}
    if not failed:
        return ""
    why = listed([f"{count(n)} with {reason}" for reason, n in failed.items()])
    return (
        f"{counted(sum(failed.values()), 'attempt')} of requests failed ({why}); a request that was answered "
        "later counts from its last attempt on."
    )


def warm_up_words(metrics: Metrics) -> str:
    """Say how it warmed up, and how far off the start was."""
    warm_ups = _measurement(metrics).get("warmups") or []
    if not warm_ups:
        return "Nothing was generated to warm up: the first counted token is the first after loading."
    last = warm_ups[-1]
    took = f"{counted(last['n_tokens'], 'token')} in {number(last['seconds'], 2)} s"
    if last["settled"] is None:
        return f"A warm-up of fixed length came before the counted rows: {took}."
    if not last["settled"]:
        return (
            f"The latency had not settled when the warm-up reached its ceiling ({took}); every row that "
            "followed is flagged for it."
        )
    start = last["start_ratio"]
    off = f", where a token took {times(start)} as long as later" if is_number(start) else ""
    return (
        f"The latency was warmed up until it had settled: {took}, of which the first "
        f"{count(last['settled_after_tokens'])} belong to the start{off}. Rule: {last['rule']}."
    )


def repetition_words(metrics: Metrics) -> str:
    """Say how often each batch of prompts was measured, and whose median is not known as well as asked."""
    cells = metrics.get("cells") or []
    fewest = min((cell["repetitions"][0] for cell in cells), default=1)
    most = max((cell["repetitions"][1] for cell in cells), default=1)
    if most <= 1:
        return ""
    often = f"{count(most)} times" if fewest == most else f"{count(fewest)} to {count(most)} times"
    told = f"Everything was measured {often}, in random order."
    wide = _measurement(metrics).get("wider_than_asked") or []
    asked = (_measurement(metrics).get("protocol") or {}).get("until_ci")
    if wide:
        return f"{told} {counted(len(wide), 'median')} stayed less well known than was asked ({asked})."
    return f"{told} Every median is known as well as was asked ({asked})." if asked else told


def flag_words(metrics: Metrics) -> str:
    """Say how many rows are doubtful, why, and what became of them."""
    flags = metrics.get("flags")
    if flags is None:
        return ""
    retried = sum(entry.get("requests", 0) for entry in _measurement(metrics).get("retries") or [])
    again = f" {counted(retried, 'request')} were measured again for it." if retried else ""
    if not flags["n_flagged"]:
        return f"Nothing speaks against any row.{again}"
    why = listed([f"{count(n)} because {FLAGS[reason]}" for reason, n in flags["by_reason"].items()])
    what = "They were left out." if flags["excluded"] else "They were fitted and tested all the same."
    are = "is" if flags["n_flagged"] == 1 else "are"
    return f"{counted(flags['n_flagged'], 'row')} {are} doubtful: {why}. {what}{again}"


def telemetry_words(metrics: Metrics) -> str:
    """Say what was sampled beside the loop, and what that and the clock cost."""
    telemetry = _measurement(metrics).get("telemetry") or {}
    cost = _measurement(metrics).get("collector_cost") or {}
    mark_ns = cost.get("mark_ns")
    clock = f" Reading the clock once costs {number(mark_ns / 1e3, 2)} µs." if is_number(mark_ns) else ""
    if not telemetry.get("n_samples"):
        return f"The state of the machine was not sampled.{clock}"
    sampled = f"{counted(telemetry['n_samples'], 'sample')} of the machine's state"
    each = f"{number(telemetry['sample_us']['median'], 2)} µs each"
    return (
        f"{sampled} were taken beside the loop, every {ms(telemetry['interval_ms'])}, {each} "
        f"({percent(telemetry['share_of_time'])} of the time); a row carries the last one before it began."
        f"{clock}"
    )


def bandwidth_words(metrics: Metrics) -> str:
    """Say how much of the memory's bandwidth a later step uses for what it must read."""
    bandwidth = _measurement(metrics).get("memory_bandwidth_bytes_per_s")
    shares = [cell.get("achieved_bandwidth_fraction") for cell in metrics.get("cells") or []]
    known = [share for share in shares if share is not None]
    if not is_number(bandwidth) or not known:
        return ""
    low, high = percent(min(known)), percent(max(known))
    share = low if low == high else f"{low} to {high}"
    return (
        f"A large copy moves {number(bandwidth / 1e12, 3)} TB/s within the device's memory, bytes read and "
        f"written. A median later step reads its weights and its context at {share} of that; at all of it, "
        "nothing but the memory would hold it up."
    )


def cells(metrics: Metrics) -> Table | None:
    """Set the ways of generating side by side, or return None where there is only one."""
    found = sorted(metrics.get("cells") or [], key=_in_order)
    if len(found) < 2:
        return None
    n_columns = 8 if any(is_number(cell.get("achieved_bandwidth_fraction")) for cell in found) else 7
    columns = (
        Column("way of generating", right=False),
        Column("steps"),
        Column("first token, ms"),
        Column("later step, ms"),
        Column("5 % under", roomy=True),
        Column("95 % under", roomy=True),
        Column("tokens / s"),
        Column("of the bandwidth", roomy=True),
    )
    # Several models, or one quantised in several ways, where datasets were set side by side.
    models = [name for name in ("model", "quantization") if len({cell.get(name) for cell in found}) > 1]
    rows = tuple(
        (
            ", ".join([*(_model_word(name, cell[name]) for name in models), cell_name(cell)]),
            count(cell["n_steps"]),
            *(
                number(cell[f"{name}_ms"])
                for name in ("prefill_median", "decode_median", "decode_p5", "decode_p95")
            ),
            number(cell["tokens_per_s"]),
            percent(cell.get("achieved_bandwidth_fraction")),
        )[:n_columns]
        for cell in found
    )
    note = "Medians. Tokens a second: what a later step generates, over all sequences of the batch."
    if n_columns == len(columns):
        note += (
            " Of the bandwidth: what a later step must read, over its time, over what the memory can move."
        )
    return Table("What each way of generating costs", columns[:n_columns], rows, note)


def _in_order(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    drawn = (cell["temperature"], cell["top_k"] or 0, cell["top_p"] or 0)
    return (str(cell["engine"]), cell["batch_size"], cell["num_beams"], *drawn)


def _model_word(name: str, value: str) -> str:
    return wording.QUANTIZATIONS.get(value, value) if name == "quantization" else value.rsplit("/", 1)[-1]


def cell_name(cell: Mapping[str, Any]) -> str:
    """Name a way of generating: its engine, and what is not plain greedy decoding of one sequence."""
    parts = [str(cell["engine"])]
    if cell["batch_size"] > 1:
        parts.append(f"batch of {count(cell['batch_size'])}")
    if cell["num_beams"] > 1:
        parts.append(f"{count(cell['num_beams'])} beams")
    if cell["temperature"]:
        parts.append(f"temperature {cell['temperature']:g}")
    parts += [f"{name} {cell[name]:g}" for name in ("top_k", "top_p") if cell[name] is not None]
    return ", ".join(parts)


def not_measured(metrics: Metrics) -> Table | None:
    """List the requests that were not measured, or return None where all were."""
    skipped = _measurement(metrics).get("not_measured") or []
    if not skipped:
        return None
    columns = (
        Column("prompts", right=False),
        Column("way of generating", right=False),
        Column("prompt tokens"),
        Column("why", right=False),
        Column("memory it wanted"),
    )
    rows = tuple(_skipped_row(entry) for entry in skipped)
    return Table("What was not measured", columns, rows)


def _skipped_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    plain = {"temperature": 0, "top_k": None, "top_p": None}
    wanted = entry.get("wanted_bytes")
    because = {
        "out_of_memory": "ran out of memory",
        "larger_than_one_that_did_not_fit": f"larger than request {entry['because_of']}, which ran out",
        "not_answered": f"not answered: {entry.get('why')}",
    }[entry["reason"]]
    return (
        ", ".join(dict.fromkeys(entry["prompt_ids"])),
        cell_name({**plain, **entry}),
        count(entry["prompt_tokens"]),
        because,
        f"{number(wanted / 2**30)} GiB" if is_number(wanted) else MISSING,
    )


def _measurement(metrics: Metrics) -> Mapping[str, Any]:
    return metrics.get("measurement") or {}

"""What the report says in sentences: the result, its scope, and what each table shows."""

from collections.abc import Mapping
from typing import Any

from llmlat.report import error_tables, wording
from llmlat.report.wording import count, listed, ms, percent, sentence, times

Metrics = Mapping[str, Any]

# The terminal remarks on first visits that cost more than this share of a later one, nearly always.
NOTABLE_COST = 0.1
NEARLY_ALWAYS = 0.95


def result(metrics: Metrics) -> str:
    """Say the result in one sentence, with its numbers."""
    where = f"On {wording.model(metrics)} ({wording.quantization(metrics)}), {metrics['device']}"
    if wording.is_table(metrics):
        where = f"On {metrics['prompt_set']}"
    miss = f"predictions of a token's time are off by {ms(metrics['mae_ms'])} on average"
    return f"{where}, {miss}{_against_baseline(metrics)}{_against_floor(metrics)}."


def _against_baseline(metrics: Metrics) -> str:
    best = error_tables.best_baseline(metrics)
    if not best or not wording.is_number(metrics["mae_ms"]):
        return ""
    ours, guess = float(metrics["mae_ms"]), float(best[1]["mae_ms"])
    name = f"the best simple guess ({wording.BASELINES.get(best[0], best[0])}, {ms(guess)})"
    if abs(ours - guess) <= 0.02 * guess:
        return f": no better and no worse than {name}"
    return f": {'better' if ours < guess else 'worse'} than {name}"


def _against_floor(metrics: Metrics) -> str:
    floor = (metrics.get("noise_floor") or {}).get("mae_ms")
    if not floor or not wording.is_number(metrics["mae_ms"]):
        return ""
    return f", and {times(metrics['mae_ms'] / floor)} the {ms(floor)} by which equal steps differ anyway"


def scope(metrics: Metrics) -> str:
    """Say what was fitted and tested, on how much."""
    is_batched = any(cell["batch_size"] > 1 for cell in metrics.get("cells") or [])
    what = "steps" if is_batched else "tokens"
    if wording.is_table(metrics):
        return (
            f"{wording.regressor(metrics)} on {listed(_used(metrics))}; {count(metrics['n_events'])} rows in "
            f"{wording.counted(metrics['n_requests'], 'group')}, {count(metrics['n_train'])} to fit on and "
            f"{count(metrics['n_test'])} to test on, {_divided(metrics)}."
        )
    engines = "engines" if " and " in str(metrics["engine"]) else "engine"
    return (
        f"{wording.regressor(metrics)} on {listed(_used(metrics))}; "
        f"{count(metrics['n_events'])} {what} of {wording.counted(metrics['n_requests'], 'request')} "
        f"measured with the {metrics['engine']} {engines}, "
        f"{count(metrics['n_train'])} to fit on and {count(metrics['n_test'])} to test on, "
        f"{_divided(metrics)}."
    )


def _divided(metrics: Metrics) -> str:
    split = metrics["split"]
    if split["name"] == "leave_one_out":
        return f"all with {split['column']} {split['held_out']}"
    words = wording.split(split["name"])
    return words if words.startswith("fitted") else f"divided {words}"


def _used(metrics: Metrics) -> list[str]:
    return [name for name in metrics["features"] if name not in (metrics.get("left_out") or {})]


def floor_words(metrics: Metrics) -> str:
    """Say what no predictor does better than, or why that is not known."""
    floor = metrics.get("noise_floor")
    if not floor:
        return (
            f"There is no noise floor: {sentence(metrics.get('noise_floor_reason') or 'the rows allow none')}"
        )
    seen = f"{count(floor.get('n_rows'))} rows in {count(floor.get('n_cells'))} groups of equal inputs"
    return (
        f"Steps with equal inputs differ by {ms(floor['mae_ms'])} on average (MAE) and "
        f"{ms(floor['rmse_ms'])} (RMSE), seen in {seen}. No predictor that sees only these inputs does "
        "reliably better than that noise floor, so errors are also given as multiples of it. A guess from "
        "the last token sees more than these inputs, and may lie below."
    )


def worst_words(metrics: Metrics) -> str:
    """Say how much of the squared error the worst test rows hold."""
    shares = metrics["worst_rows"]["share_of_squared_error"]
    spelled = listed(
        [f"{percent(share)} in the worst {'row' if n == '1' else n}" for n, share in shares.items()]
    )
    return f"Of all squared error on the {count(metrics['n_test'])} test rows: {spelled}."


def steady_words(metrics: Metrics) -> str:
    """Say what the same fit reaches without the slow start."""
    without = metrics.get("without_warmup_and_prefill") or {}
    if error_tables.steady(metrics) is None:
        reason = sentence(without.get("reason") or "too few rows are left without them")
        return f"Without first tokens and warm-up, not to be told: {reason}"
    return (
        "The same fit without first tokens, warm-up and the first request after loading "
        f"({count(without['n_dropped'])} rows dropped, {count(without['n_train'])} to fit on, "
        f"{count(without['n_test'])} to test on) is off by {ms(without['refit']['mae_ms'])} on average."
    )


def first_visit_words(metrics: Metrics) -> str:
    """Say what a step costs where its process had not decoded at that context length before."""
    visits = metrics.get("first_visits") or {}
    if visits.get("median_cost_ms") is None:
        return "Not to be told: no context length was visited twice."
    cost = visits["median_cost_ms"]
    took = f"{ms(abs(cost))} {'less' if cost < 0 else 'more'}"
    return (
        f"{count(visits['n_first'])} later tokens came at a context length that the process decoded at for "
        f"the first time, {count(visits['n_later'])} at one it had seen. At {count(visits['n_compared'])} "
        f"context lengths with both, the first visit took {took} (the median). "
        "Some libraries plan or tune for each new shape, and pay for it once."
    )


def split_words(metrics: Metrics) -> str:
    """Say how much of the accuracy came from testing on requests that the fit had seen."""
    divided = metrics.get("splits") or {}
    gap = metrics.get("leakage_gap")
    if not gap:
        reasons = [
            _reason(divided, k)
            for k in ("random", "by_request")
            if not wording.is_number((divided.get(k) or {}).get("mae_ms"))
        ]
        return f"The two ways of testing cannot be compared: {sentence(listed(reasons))}"
    random, grouped = gap["random_mae_ms"], gap["grouped_mae_ms"]
    whole = "prompts" if gap["grouped"] == "by_prompt" else "requests"
    told = "Here the easier test does not flatter the fit."
    n_left = gap.get("n_left_out")
    left = f" Rows that would decide this by themselves took no part: {count(n_left)}." if n_left else ""
    if grouped > random > 0:
        told = f"That leakage gap, {times(gap['mae_ratio'])}, is what testing on partly seen {whole} hides."
    return (
        f"Tested on whole {whole} that the fit never saw, it is off by {ms(grouped)} on average; "
        f"tested on the same tokens, of {whole} that it partly saw, by {ms(random)}. {told}{left}"
    )


def _reason(divided: Mapping[str, Any], name: str) -> str:
    reason = (divided.get(name) or {}).get("reason") or "the rows do not allow it"
    return f"{wording.split(name)}, {str(reason).rstrip(' .')}"


def left_out_words(metrics: Metrics) -> str:
    """Say which inputs were left out since they could explain nothing."""
    left_out = metrics.get("left_out") or {}
    if not left_out:
        return ""
    reasons = [f"{name} {why}" for name, why in left_out.items()]
    return f"Left out, as they can explain nothing here: {listed(reasons)}."


def validation_words(metrics: Metrics) -> str:
    """Say what validation is, or why there is none."""
    block = metrics.get("validation")
    if not error_tables.known(block):
        reason = metrics.get("validation_reason")
        return f"There is no validation error: {sentence(reason)}" if reason else ""
    folds = f"{count(block['n_folds'])} folds" if block and block.get("n_folds") else "folds"
    return (
        f"Validation is on {folds} of the training rows, no test row among them: settings are chosen by it."
    )


def remarks(metrics: Metrics) -> list[str]:
    """Return what a reader of the summary alone should know beside its tables."""
    told = [worst_words(metrics), *([] if wording.is_table(metrics) else [steady_words(metrics)])]
    visits = metrics.get("first_visits") or {}
    cost, later = visits.get("median_cost_ms"), visits.get("median_later_ms")
    if cost and later and cost > NOTABLE_COST * later and visits["slower_share"] >= NEARLY_ALWAYS:
        told.append(first_visit_words(metrics))
    return told

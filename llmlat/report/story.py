"""What the report says, in order: sections of paragraphs, tables and figures that every output renders."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmlat.report import error_tables, tables, wording
from llmlat.report.plots import Plot
from llmlat.report.table import Table
from llmlat.report.wording import count, listed, minus, ms, percent, sentence, times

Metrics = Mapping[str, Any]

# The terminal remarks on first visits that cost more than this share of a later one, nearly always.
NOTABLE_COST = 0.1
NEARLY_ALWAYS = 0.95

SYMBOLS = {"confirmed": "✓", "not confirmed here": "✗", "cannot be told from this data": "?"}


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Formula:
    """A formula, with what it is on."""

    label: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """A claim of the thesis, and what this data says to it."""

    symbol: str
    verdict: str
    claim: str
    evidence: str


@dataclass(frozen=True)
class Figures:
    """Figures side by side."""

    plots: tuple[Plot, ...]


Part = Text | Formula | Verdict | Figures | Table


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    parts: tuple[Part, ...]


def result(metrics: Metrics) -> str:
    """Say the result in one sentence, with its numbers."""
    where = f"On {wording.model(metrics)} ({wording.quantization(metrics)}), {metrics['device']}"
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
    return (
        f"{wording.regressor(metrics)} on {listed(list(metrics['features']))}; "
        f"{count(metrics['n_events'])} tokens of "
        f"{wording.counted(metrics['n_requests'], 'request')} measured with the {metrics['engine']} engine, "
        f"{count(metrics['n_train'])} to fit on and {count(metrics['n_test'])} to test on, "
        f"divided {wording.SPLITS.get(metrics['split']['name'], metrics['split']['name'])}."
    )


def banners(metrics: Metrics) -> list[tuple[str, str]]:
    """Return what nobody may overlook: a bold start and the rest, a banner each."""
    found = []
    if metrics["stand_in"]:
        asked = metrics.get("stand_in_for") or "the model that was asked for"
        found.append(
            (
                f"This is not {asked}.",
                f"The small model {metrics['model']} stood in for it: every time below is that model's, "
                f"and says nothing about {asked}.",
            )
        )
    if metrics["weights"] == "random":
        found.append(
            (
                "The weights are random.",
                "The text it generated means nothing. The time of a step depends on the shapes of the "
                "weights, not on their values, so times are those of this architecture.",
            )
        )
    # A stand-in's notice says no more than its banner; the others say why.
    notices = [
        str(notice) for notice in metrics.get("notices") or [] if not str(notice).startswith("STAND-IN")
    ]
    return [*found, *(("Notice.", minus(notice)) for notice in notices)]


def sections(metrics: Metrics, plots: Mapping[str, Plot]) -> list[Section]:
    """Return the whole report under the summary, in reading order."""
    found = [
        Section(
            "The result in two pictures",
            (_figures(plots, "latency_by_context", "predicted_against_measured"),),
        ),
        _reference(metrics),
        _formula(metrics, plots),
        _verdicts(metrics),
        *_what_the_average_hides(metrics, plots),
        Section("Where it came from", (tables.origin(metrics),)),
    ]
    return [section for section in found if section is not None]


def _figures(plots: Mapping[str, Plot], *names: str) -> Figures:
    return Figures(tuple(plots[name] for name in names))


def _reference(metrics: Metrics) -> Section | None:
    table = tables.reference(metrics)
    if table is None:
        return None
    theirs = metrics["reference"]
    measured = f" It measured {theirs['model']}." if theirs.get("model") else ""
    ours = f"{wording.model(metrics)}, {wording.quantization(metrics)}, on {metrics['device']}"
    source = Text(f"Published: {sentence(theirs.get('source', 'the thesis'))}{measured} Ours: {ours}.")
    return Section("The paper beside ours", (source, table))


def _formula(metrics: Metrics, plots: Mapping[str, Plot]) -> Section:
    figure = _figures(plots, "coefficients")
    table = tables.coefficients(metrics)
    if table is None:
        return Section("The formula", (figure,))
    return Section("The formula", (*formulas(metrics), figure, table))


def formulas(metrics: Metrics) -> tuple[Formula, ...]:
    """Return the fitted formula with its numbers, on scaled inputs and on plain ones."""
    labels = {
        "scaled": "On scaled inputs (0 is the mean, 1 one standard deviation)",
        "per_unit": "In ms per token",
    }
    spelled = metrics.get("formula") or {}
    return tuple(Formula(label, minus(str(spelled[k]))) for k, label in labels.items() if spelled.get(k))


def verdicts(metrics: Metrics) -> tuple[Verdict, ...]:
    """Return the thesis's claims with what this data says to each."""
    return tuple(
        Verdict(SYMBOLS.get(v["verdict"], "?"), v["verdict"], minus(v["claim"]), minus(v["evidence"]))
        for v in metrics.get("verdicts") or []
    )


def _verdicts(metrics: Metrics) -> Section | None:
    found = verdicts(metrics)
    return Section("What the thesis claims, and what this data says", found) if found else None


def _what_the_average_hides(metrics: Metrics, plots: Mapping[str, Plot]) -> list[Section]:
    guide = Text(
        "MAE is the average miss. RMSE weighs large misses more. R² is 1 for a perfect prediction and 0 for "
        "one no better than always saying the mean."
    )
    return [
        Section("What the average hides", (_floor_words(metrics), _figures(plots, "errors", "residuals"))),
        Section("Beside simple guesses", (guide, error_tables.baselines(metrics))),
        Section("First tokens and later tokens", (tables.latency(metrics), error_tables.by_phase(metrics))),
        Section("The few rows that miss most", _worst(metrics, plots)),
        Section("Without the slow start", _steady(metrics)),
        Section("The first time at a context length", _first_visits(metrics)),
        Section("Requests it has never seen", _splits(metrics)),
    ]


def _floor_words(metrics: Metrics) -> Text:
    floor = metrics.get("noise_floor")
    if not floor:
        return Text(
            f"There is no noise floor: {sentence(metrics.get('noise_floor_reason') or 'the rows allow none')}"
        )
    seen = f"{count(floor.get('n_rows'))} rows in {count(floor.get('n_cells'))} groups of equal inputs"
    return Text(
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


def _worst(metrics: Metrics, plots: Mapping[str, Plot]) -> tuple[Part, ...]:
    table = tables.worst_rows(metrics)
    return (Text(worst_words(metrics)), _figures(plots, "request_trace"), *((table,) if table else ()))


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


def _steady(metrics: Metrics) -> tuple[Part, ...]:
    table = error_tables.steady(metrics)
    return (Text(steady_words(metrics)), *((table,) if table else ()))


def _first_visits(metrics: Metrics) -> tuple[Part, ...]:
    table = error_tables.revisited(metrics)
    return (Text(first_visit_words(metrics)), *((table,) if table else ()))


def first_visit_words(metrics: Metrics) -> str:
    """Say what a step costs where its process had not decoded at that context length before."""
    visits = metrics.get("first_visits") or {}
    if visits.get("median_cost_ms") is None:
        return "Not to be told: no context length was visited twice."
    return (
        f"{count(visits['n_first'])} later tokens came at a context length that the process decoded at for "
        f"the first time, {count(visits['n_later'])} at one it had seen. At {count(visits['n_compared'])} "
        f"context lengths with both, the first visit took {ms(visits['median_cost_ms'])} more (the median). "
        "Some libraries plan or tune for each new shape, and pay for it once."
    )


def remarks(metrics: Metrics) -> list[str]:
    """Return what a reader of the summary alone should know beside its tables."""
    told = [worst_words(metrics), steady_words(metrics)]
    visits = metrics.get("first_visits") or {}
    cost, later = visits.get("median_cost_ms"), visits.get("median_later_ms")
    if cost and later and cost > NOTABLE_COST * later and visits["slower_share"] >= NEARLY_ALWAYS:
        told.append(first_visit_words(metrics))
    return told


def _splits(metrics: Metrics) -> tuple[Part, ...]:
    table = error_tables.splits(metrics)
    return (Text(split_words(metrics)), *((table,) if table.rows else ()))


def split_words(metrics: Metrics) -> str:
    """Say how much of the accuracy came from testing on requests that the fit had seen."""
    divided = metrics.get("splits") or {}
    told = {k: divided.get(k) for k in wording.SPLITS}
    errors = {k: v["mae_ms"] for k, v in told.items() if v and wording.is_number(v.get("mae_ms"))}
    if len(errors) < len(told):
        reasons = [_reason(divided, k) for k in told if k not in errors]
        return f"The two ways of testing cannot be compared: {sentence(listed(reasons))}"
    random, by_request = errors["random"], errors["by_request"]
    gap = "Here the easier test does not flatter the fit."
    if by_request > random > 0:
        gap = f"The gap ({times(by_request / random)}) is what testing on partly seen requests hides."
    return (
        f"Tested on whole requests that the fit never saw, it is off by {ms(by_request)} on average; "
        f"tested on tokens of requests that it partly saw, by {ms(random)}. {gap} "
        "Each way has test rows of its own, so one very slow row in one of them moves the comparison too."
    )


def _reason(divided: Mapping[str, Any], name: str) -> str:
    block = divided.get(name) or {}
    reason = block.get("reason") or divided.get(f"{name}_reason") or divided.get("reason")
    return f"{wording.SPLITS[name]}, {str(reason or 'the rows do not allow it').rstrip(' .')}"

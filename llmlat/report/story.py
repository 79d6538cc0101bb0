"""What the report says, in order: sections of paragraphs, tables and figures that every output renders."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmlat.report import arena, drivers, error_tables, intervals, measurement, sentences, tables, wording
from llmlat.report.plots import Plot
from llmlat.report.table import Table
from llmlat.report.wording import minus, sentence

Metrics = Mapping[str, Any]

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


@dataclass(frozen=True)
class Story:
    """All that a report says.

    Attributes
    ----------
    result, scope : str
        A sentence each.
    banners : list of (str, str)
        What nobody may overlook: a bold start and the rest.
    tiles : list of (str, str, str)
        The few numbers on top: a name, a value, what it is.
    sections : list of Section
    """

    result: str
    scope: str
    banners: list[tuple[str, str]]
    tiles: list[tuple[str, str, str]]
    sections: list[Section]


def tell(metrics: Metrics, plots: Mapping[str, Plot]) -> Story:
    """Return what a report says.

    Parameters
    ----------
    metrics : Mapping
        As docs/metrics.md describes.
    plots : Mapping of str to Plot
        The figures' words.
    """
    return Story(
        sentences.result(metrics),
        sentences.scope(metrics),
        banners(metrics),
        tables.key_numbers(metrics),
        sections(metrics, plots),
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
        _arena(metrics, plots),
        _reference(metrics),
        _formula(metrics, plots),
        _verdicts(metrics),
        _drivers(metrics, plots),
        _intervals(metrics, plots),
        *_what_the_average_hides(metrics, plots),
        None if wording.is_table(metrics) else _measurement(metrics, plots),
        Section("Where it came from", (tables.origin(metrics),)),
    ]
    return [section for section in found if section is not None]


def _measurement(metrics: Metrics, plots: Mapping[str, Plot]) -> Section:
    found = (measurement.cells(metrics), measurement.not_measured(metrics))
    return Section(
        "How it was measured",
        (
            *(Text(paragraph) for paragraph in measurement.words(metrics)),
            _figures(plots, "over_time"),
            *(table for table in found if table),
        ),
    )


def _arena(metrics: Metrics, plots: Mapping[str, Plot]) -> Section | None:
    if not metrics.get("arena"):
        return None
    found = (arena.table(metrics), arena.effects(metrics))
    return Section(
        "Every regressor on the same folds",
        (
            *(Text(paragraph) for paragraph in arena.words(metrics)),
            _figures(plots, "arena"),
            *(table for table in found if table),
        ),
    )


def _drivers(metrics: Metrics, plots: Mapping[str, Plot]) -> Section:
    table = drivers.effects(metrics)
    return Section(
        "What drives the latency",
        (
            *(Text(paragraph) for paragraph in drivers.words(metrics)),
            _figures(plots, "along_context", "importance"),
            *((table,) if table else ()),
        ),
    )


def _intervals(metrics: Metrics, plots: Mapping[str, Plot]) -> Section:
    found = (intervals.bands(metrics), intervals.tried(metrics))
    return Section(
        "How far off it may be",
        (
            *(Text(paragraph) for paragraph in intervals.words(metrics)),
            _figures(plots, "coverage"),
            *(table for table in found if table),
        ),
    )


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
    table, left_out = tables.coefficients(metrics), sentences.left_out_words(metrics)
    # Without coefficients the figure is a sentence, which the table's note says too.
    figure = (_figures(plots, "coefficients"),) if metrics.get("coefficients") or not table else ()
    heading = "The formula" if metrics.get("formula") else "What each input adds"
    law = tables.physics(metrics)
    parts = (
        *formulas(metrics),
        *((law,) if law else ()),
        *figure,
        *((table,) if table else ()),
        *((Text(left_out),) if left_out else ()),
    )
    return Section(heading, parts)


def formulas(metrics: Metrics) -> tuple[Formula, ...]:
    """Return the fitted formula with its numbers, on scaled inputs and on plain ones."""
    labels = {
        "scaled": "On scaled inputs (0 is the mean, 1 one standard deviation)",
        "per_unit": "On the inputs as they are",
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
        Section(
            "What the average hides",
            (Text(sentences.floor_words(metrics)), _figures(plots, "errors", "residuals")),
        ),
        Section("Beside simple guesses", (guide, error_tables.baselines(metrics))),
        Section("The few rows that miss most", _worst(metrics, plots)),
        *(() if wording.is_table(metrics) else _of_measured_tokens(metrics)),
        Section("Requests it has never seen", _splits(metrics)),
    ]


def _of_measured_tokens(metrics: Metrics) -> list[Section]:
    return [
        Section("First tokens and later tokens", (tables.latency(metrics), error_tables.by_phase(metrics))),
        Section("Without the slow start", _steady(metrics)),
        Section("The first time at a context length", _first_visits(metrics)),
    ]


def _worst(metrics: Metrics, plots: Mapping[str, Plot]) -> tuple[Part, ...]:
    table = tables.worst_rows(metrics)
    return (
        Text(sentences.worst_words(metrics)),
        *(() if wording.is_table(metrics) else (_figures(plots, "request_trace"),)),
        *((table,) if table else ()),
    )


def _steady(metrics: Metrics) -> tuple[Part, ...]:
    table = error_tables.steady(metrics)
    return (Text(sentences.steady_words(metrics)), *((table,) if table else ()))


def _first_visits(metrics: Metrics) -> tuple[Part, ...]:
    table = error_tables.revisited(metrics)
    return (Text(sentences.first_visit_words(metrics)), *((table,) if table else ()))


def _splits(metrics: Metrics) -> tuple[Part, ...]:
    table = error_tables.splits(metrics)
    said = [sentences.split_words(metrics), sentences.validation_words(metrics)]
    return (*(Text(words) for words in said if words), *((table,) if table.rows else ()))

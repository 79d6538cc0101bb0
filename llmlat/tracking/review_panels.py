"""The panels and blocks of a team review, in the words of wandb_workspaces.

Every panel refers to keys that a run logs: configuration keys as Hydra names them, and metrics.json's numbers
flattened (`llmlat.tracking.tables.scalars`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmlat.report.wording import is_number
from llmlat.tracking import review as words
from llmlat.tracking.review import Review

MOST_FEATURES = 4
MOST_PANELS = 4
LOG_SPAN = 50.0
FULL, HALF = 24, 12
COEFFICIENT = "scaled_ms."
COEFFICIENT_WORDS = (
    "Milliseconds for one standard deviation of an input. Inputs that grow together share their effect: "
    "single coefficients then say little, and their sum much."
)

# Where a swept group's choice shows in the configuration; `decoding` and `collect` have no name there.
CHOICES = {
    "experiment": "name",
    "features": "features.columns",
    "regressor": "regressor._target_",
    **{group: f"{group}.name" for group in ("model", "quantization", "engine", "prompt_set", "split")},
    "decoding": None,
    "collect": None,
    "tracking": None,
}


@dataclass(frozen=True)
class Axis:
    """A swept key as panels see it.

    Attributes
    ----------
    key : str
        As on the command line.
    config : str
        Where the run's configuration holds its value.
    is_number : bool
    is_log : bool
        Whether its values span so much that only a logarithm shows them.
    """

    key: str
    config: str
    is_number: bool
    is_log: bool


def axes(review: Review) -> list[Axis]:
    """Return the swept keys that panels can use, numbers first."""
    found = []
    for key in review.swept:
        config = CHOICES.get(key, key)
        if config is not None:
            values = review.frame[key].dropna().tolist()
            numbers = bool(values) and all(is_number(value) for value in values)
            wide = numbers and min(values) > 0 and max(values) >= LOG_SPAN * min(values)
            found.append(Axis(key, config, numbers, wide))
    return sorted(found, key=lambda axis: not axis.is_number)


def blocks(wr: Any, review: Review, filters: Any) -> list[Any]:
    """Return the report, from top to bottom; `filters` tells the sweep's runs from others."""
    return [
        *(wr.CalloutBlock(text=banner) for banner in words.banners(review)),
        *_section(wr, "What was asked", words.asked(review)),
        *_section(wr, "The best setting", words.chosen(review)),
        *_section(wr, "Error over the sweep", words.error_by_setting(review)),
        _grid(wr, review, filters, error_panels(wr, review)),
        *_section(wr, "Predicted against measured"),
        _grid(wr, review, filters, accuracy_panels(wr)),
        *_section(wr, "Coefficients", COEFFICIENT_WORDS),
        _grid(wr, review, filters, coefficient_panels(wr, review)),
        *_section(wr, "The paper beside ours", words.paper(review)),
        *_section(wr, "Jobs without a result", words.failures(review)),
        *_section(wr, "Runs side by side"),
        _grid(wr, review, filters, [wr.RunComparer(diff_only="split", layout=wr.Layout(w=FULL, h=12))]),
        *_section(wr, "Once more", "Datasets that are on disk are not measured again."),
        wr.CodeBlock(code=words.command(review)),
    ]


def _section(wr: Any, heading: str, text: str | None = "") -> list[Any]:
    if text is None:
        return []
    return [wr.H2(text=heading), *([wr.MarkdownBlock(text=text)] if text else [])]


def _grid(wr: Any, review: Review, filters: Any, panels: Sequence[Any]) -> Any:
    columns = [f"config:{_value_path(axis.config)}" for axis in axes(review)]
    columns += [f"summary:{name}" for name in (*_errors(review), "rmse_ms", "r2")]
    runset = wr.Runset(
        name=review.title,
        filters=filters,
        order=[wr.OrderBy(wr.SummaryMetric("mae_ms"), ascending=True)],
        visible_columns=["run:state", *columns],
    )
    return wr.PanelGrid(runsets=[runset], panels=list(panels))


def _errors(review: Review) -> list[str]:
    """Return the errors that runs are compared by: on the test rows, and on validation folds where known."""
    validated = "validation_mae_ms" in review.jobs and review.jobs["validation_mae_ms"].notna().any()
    return ["mae_ms", *(["validation/mae_ms"] if validated else [])]


def _value_path(config: str) -> str:
    first, _, rest = config.partition(".")
    return f"{first}.value{'.' if rest else ''}{rest}"


def error_panels(wr: Any, review: Review) -> list[Any]:
    """Return MAE over each swept number, by each swept choice, and all of them at once."""
    mae, swept = wr.SummaryMetric("mae_ms"), axes(review)
    panels = [
        wr.ScatterPlot(
            title=f"MAE by {axis.key}",
            x=wr.Config(axis.config),
            y=mae,
            log_x=axis.is_log or None,
            layout=wr.Layout(w=HALF, h=8),
        )
        for axis in swept
        if axis.is_number
    ]
    panels += [
        wr.BarPlot(
            title=f"MAE by {axis.key}: mean, least and most",
            metrics=["mae_ms"],
            groupby=wr.Config(axis.config),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            title_x="MAE, ms",
            layout=wr.Layout(w=HALF, h=8),
        )
        for axis in swept
        if not axis.is_number
    ]
    return [*panels[:MOST_PANELS], *_parallel(wr, swept, _errors(review))] or [
        wr.BarPlot(metrics=["mae_ms"], layout=wr.Layout(w=HALF, h=8))
    ]


def _parallel(wr: Any, swept: Sequence[Axis], errors: Sequence[str]) -> Iterator[Any]:
    if not swept:
        return
    column = wr.ParallelCoordinatesPlotColumn
    ends = [column(wr.SummaryMetric(name), name) for name in reversed(errors)]
    starts = [column(wr.Config(axis.config), axis.key, log=axis.is_log or None) for axis in swept]
    yield wr.ParallelCoordinatesPlot(
        title="Every swept key and the error", columns=[*starts, *ends], layout=wr.Layout(w=FULL, h=9)
    )


def accuracy_panels(wr: Any) -> list[Any]:
    """Return predicted against measured: every test row, and each run's own figure."""
    rows = wr.CustomChart(
        query={"summaryTable": {"tableKey": "tables/prediction_rows"}},
        chart_name="wandb/scatter/v0",
        chart_fields={"x": "token_latency_ms", "y": "predicted_ms"},
        chart_strings={"title": "Predicted against measured, ms: the test rows"},
        layout=wr.Layout(w=HALF, h=9),
    )
    return [
        rows,
        _browser(wr, "figures/predicted_against_measured"),
        _browser(wr, "figures/latency_by_context"),
    ]


def coefficient_panels(wr: Any, review: Review) -> list[Any]:
    """Return each coefficient over the first swept number, or by run, and each run's own figure."""
    features = [c.removeprefix(COEFFICIENT) for c in review.jobs.columns if c.startswith(COEFFICIENT)]
    over = next((axis for axis in axes(review) if axis.is_number), None)
    panels = [_coefficient(wr, feature, over) for feature in features[:MOST_FEATURES]]
    return [*panels, _browser(wr, "figures/coefficients")]


def _coefficient(wr: Any, feature: str, over: Axis | None) -> Any:
    key, layout = f"coefficients/{feature}/scaled_ms", wr.Layout(w=HALF, h=8)
    if over is None:
        return wr.BarPlot(title=f"{feature}, ms", metrics=[key], layout=layout)
    return wr.ScatterPlot(
        title=f"{feature}, ms, by {over.key}",
        x=wr.Config(over.config),
        y=wr.SummaryMetric(key),
        log_x=over.is_log or None,
        layout=layout,
    )


def _browser(wr: Any, key: str) -> Any:
    return wr.MediaBrowser(media_keys=[key], num_columns=2, layout=wr.Layout(w=HALF, h=9))

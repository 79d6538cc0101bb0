"""The files that a run's folder gets: self-contained, the same each time, honest about stand-ins."""

# ruff: noqa: RUF001

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_frames import make_predictions, make_rows
from report_metrics import make_metrics

from llmlat import report

FIGURES = {
    "latency_by_context",
    "predicted_against_measured",
    "residuals",
    "coefficients",
    "request_trace",
    "errors",
    "over_time",
    "along_context",
    "importance",
    "coverage",
}
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects what a browser would load, and checks that tags close in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [v or "" for k, v in attrs if k in {"src", "href", "xlink:href", "srcset", "data"}]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def write(folder: Path, metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame) -> Page:
    """Write the report, check what always holds, and return the page."""
    figures = report.write(folder, metrics, rows, predictions)
    assert {path.stem for path in (folder / "figures").glob("*.svg")} == set(figures) <= set(FIGURES)
    assert not list(folder.rglob(".*"))
    markup = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(markup)
    assert page.open == []
    assert [load for load in page.loads if not load.startswith(("data:", "#"))] == []
    assert not re.search(r"@import|url\((?!#)|https?://", markup)
    assert "script" not in page.tags
    assert len(set(page.ids)) == len(page.ids)
    assert re.search(r"\b(nan|None|inf)\b", page.text) is None
    check_markdown((folder / "report.md").read_text(encoding="utf-8"), folder)
    return page


def check_markdown(text: str, folder: Path) -> None:
    """Check that tables are rectangular and that linked figures are there."""
    for table in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.strip().splitlines()]
        assert len({len(cells) for cells in lines}) == 1, table
        assert all(re.fullmatch(r"\s*:?-{3,}:?\s*", cell) for cell in lines[1])
    for link in re.findall(r"!\[[^]]*\]\(([^)]*)\)", text):
        assert (folder / link).is_file()


def test_whole_report(
    tmp_path: Path, metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    page = write(tmp_path, metrics, rows, predictions)
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == FIGURES
    for said in (
        "The paper beside ours",
        "34.03",
        "159.1",
        "390.9",
        "+48.75",
        "−4.282",
        "0.432 * prompt_tokens_scaled",
        "Do not over-read one coefficient",
        "cannot be told from this data",
        "98.3\u00a0% in the worst row",
        "fitted without them",
        "same as the last token",
        "That leakage gap, 1.4×,",
        "×\u00a0floor",
        "0f3a9c1b2d4e",
        "NVIDIA H200",
        "1,512",
    ):
        assert said in page.text, said
    blocks = [metrics, *metrics["baselines"].values(), *metrics["by_phase"].values(), metrics["noise_floor"]]
    blocks += [*metrics["splits"].values(), metrics["without_warmup_and_prefill"]["refit"]]
    for block in blocks:
        for name in ("mae_ms", "rmse_ms"):
            assert report.wording.number(block[name]) in page.text
    for verdict in metrics["verdicts"]:
        assert verdict["claim"] in page.text


def test_same_bytes_each_time(tmp_path: Path, metrics: dict[str, Any], rows: pd.DataFrame) -> None:
    predictions = make_predictions(rows)
    written = []
    for name in "ab":
        report.write(tmp_path / name, metrics, rows, predictions)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        written.append([(path.name, path.read_bytes()) for path in files])
    assert written[0] == written[1]
    assert len(written[0]) == len(FIGURES) + 2


def test_markup_in_names_stays_text(tmp_path: Path, rows: pd.DataFrame) -> None:
    hostile = "<script>alert(1)</script>|`$x^2$`\n**é 漢字**<img src=http://evil.example/a>"
    rows["prompt_id"] = hostile
    predictions = make_predictions(rows)
    metrics = make_metrics(rows, predictions)
    metrics["notices"] = ["<b>bold</b> | [link](http://evil.example) [red]x[/red]"]
    report.write(tmp_path, metrics, rows, predictions)
    markup = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(markup)
    assert not {"script", "img", "b>"} & page.tags
    assert "<script>alert(1)</script>" in page.text
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    check_markdown(text, tmp_path)
    assert "<script" not in text
    assert "[link]" not in text.replace("\\[", "").replace("\\]", "")


def test_stand_in_and_random_weights_cannot_be_missed(
    tmp_path: Path, metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    metrics |= {
        "stand_in": True,
        "stand_in_for": "mistralai/Mistral-7B-Instruct-v0.3",
        "model": "mistral-mini",
        "weights": "random",
        "notices": ["no CUDA here: mistral-mini stands in."],
    }
    page = write(tmp_path, metrics, rows, predictions)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for shown in (page.text, text):
        for said in (
            "This is not mistralai/",
            "The weights are random.",
            "no CUDA here",
            "ours, on a stand-in",
        ):
            assert shown.find(said) > 0, said
        assert shown.find("This is not") < shown.find("The paper beside ours")


def test_regressor_without_coefficients(
    tmp_path: Path, metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "coefficients.svg").touch()
    metrics |= {
        "regressor": {"name": "RandomForestRegressor", "parameters": {"n_estimators": 10}},
        **dict.fromkeys(["coefficients", "intercept_ms", "intercept_per_unit_ms", "formula"]),
    }
    page = write(tmp_path, metrics, rows, predictions)
    assert "This regressor is not a sum of its inputs" in page.text
    assert "has no coefficients to draw" not in page.text, "a card without a picture"
    assert not (tmp_path / "figures" / "coefficients.svg").exists()
    assert "The paper beside ours" in page.text


def test_without_reference_floor_splits_and_steady_rows(
    tmp_path: Path, metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    nothing = dict.fromkeys(("mae_ms", "rmse_ms", "median_ae_ms", "r2", "mape"))
    metrics |= {
        "reference": None,
        "verdicts": [],
        "noise_floor": None,
        "noise_floor_reason": "no two rows alike",
    }
    metrics["splits"]["by_request"] = {"n": 0, **nothing, "reason": "one request is too few."}
    metrics["leakage_gap"] = None
    metrics["without_warmup_and_prefill"] |= {"refit": {"n": 0, **nothing}, "baselines": None}
    metrics["by_phase"]["prefill"] = {"n": 0, **nothing}
    metrics["latency"]["prefill"] = {"n": 0, **dict.fromkeys(("median_ms", "p5_ms", "p95_ms", "max_ms"))}
    page = write(tmp_path, metrics, rows, predictions)
    assert "The paper beside ours" not in page.text
    assert "no two rows alike." in page.text
    assert "×\u00a0floor" not in page.text
    assert "one request is too few." in page.text
    assert "too few rows are left" in page.text


@pytest.mark.parametrize(
    ("requests", "tokens", "step"),
    [pytest.param(1, 30, 5, id="one request"), pytest.param(1, 4, 3, id="two test rows")],
)
def test_little_data(tmp_path: Path, requests: int, tokens: int, step: int) -> None:
    rows = make_rows(requests, tokens)
    rows["device_latency_ms"] = float("nan")
    predictions = make_predictions(rows, step)
    write(tmp_path, make_metrics(rows, predictions), rows, predictions)


def test_many_rows_make_a_small_page(tmp_path: Path) -> None:
    rows = make_rows(600, 100)
    predictions = make_predictions(rows)
    page = write(tmp_path, make_metrics(rows, predictions), rows, predictions)
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    assert "40,000 of 60,008 rows are drawn" in page.text

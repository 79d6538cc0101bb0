"""The terminal summary: 80 characters, plain when piped, nothing forgotten."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from llmlat import report


def summary(metrics: dict[str, Any], width: int = 80, encoding: str = "utf-8") -> str:
    target = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    report.print_summary(metrics, Path("outputs/thesis/now"), Console(file=target, width=width))
    target.flush()
    return target.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def test_fits_and_is_plain_when_piped(metrics: dict[str, Any]) -> None:
    text = summary(metrics)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text
    assert "…" not in text


def test_says_what_matters(metrics: dict[str, Any]) -> None:
    text = summary(metrics)
    for said in (
        "The paper beside ours",
        "34.03",
        "always the median",
        "first tokens",
        "×\u00a0floor",
        "✓",
        "✗",
        "?",
    ):
        assert said in text, said
    assert "+48.75" in text
    assert text.rstrip().endswith("together (r = 0.99).")


def test_stand_in_is_announced(metrics: dict[str, Any]) -> None:
    metrics |= {
        "stand_in": True,
        "stand_in_for": "the 7B",
        "weights": "random",
        "notices": ["[red]mini[/red]"],
    }
    text = summary(metrics)
    assert "This is not the 7B." in text
    assert "The weights are random." in text
    assert "[red]mini[/red]" in text


def test_without_reference_there_are_tables_still(metrics: dict[str, Any]) -> None:
    metrics |= {"reference": None, "verdicts": [], "formula": None, "noise_floor": None}
    text = summary(metrics)
    assert "The paper beside ours" not in text
    assert "This fit beside simple guesses" in text


@pytest.mark.parametrize("width", [40, 60, 200])
def test_other_widths(metrics: dict[str, Any], width: int) -> None:
    assert max(len(line) for line in summary(metrics, width).splitlines()) <= min(width, 100)


def test_terminal_without_unicode(metrics: dict[str, Any]) -> None:
    metrics["notices"] = ["Łódź"]
    text = summary(metrics, encoding="ascii")
    assert "-4.282" in text
    assert "?\u00f3d?".replace("\u00f3", "?") in text


def test_standard_output_by_default(metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    report.print_summary(metrics, Path("x"))
    assert "The paper beside ours" in capsys.readouterr().out


@pytest.mark.parametrize("width", range(50, 60))
def test_a_number_keeps_its_unit(metrics: dict[str, Any], width: int) -> None:
    metrics |= {"stand_in": True, "stand_in_for": "95\u00a0% of the 7B and 12\u00a0ms " * 9}
    lines = [line.strip(" !") for line in summary(metrics, width).splitlines()]
    assert not [line for line in lines if line.startswith(("%", "ms and", "ms 95"))]
    assert " ".join(lines).count("95\u00a0%") >= 9
    assert "\ue000" not in "".join(lines)

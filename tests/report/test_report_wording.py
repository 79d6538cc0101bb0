"""How numbers read."""

# ruff: noqa: RUF001

from typing import Any

import numpy as np
import pytest

from llmlat.report import sentences, wording


@pytest.mark.parametrize(
    ("value", "digits", "spelled"),
    [
        (34.0332, 4, "34.03"),
        (159.1067, 4, "159.1"),
        (-4.2815, 4, "−4.282"),
        (0, 3, "0"),
        (0.0123456, 3, "0.0123"),
        (99.96, 3, "100"),
        (1512.3, 3, "1,512"),
        (9_302_451_592.0, 3, "9.30 × 10⁹"),
        (1_234_567, 3, "1,234,567"),
        (-0.00000123, 3, "−1.23 × 10⁻⁶"),
        (np.float64(2.5), 2, "2.5"),
        (np.int64(7), 3, "7.00"),
        (None, 3, "–"),
        (float("nan"), 3, "–"),
        (float("inf"), 3, "–"),
        (True, 3, "–"),
    ],
)
def test_number(value: object, digits: int, spelled: str) -> None:
    assert wording.number(value, digits) == spelled


def test_nearly_all_is_not_all() -> None:
    assert wording.percent(0.9999) == "99.99\u00a0%"
    assert wording.percent(1.0) == "100\u00a0%"
    assert wording.percent(0.0741) == "7.4\u00a0%"
    assert wording.percent(0.0) == "0\u00a0%"


def test_minus_leaves_names_and_ranges() -> None:
    assert wording.minus("x = 3 - 0.5 * mistral-7b [-0.30, 2]") == "x = 3 − 0.5 * mistral-7b [−0.30, 2]"
    assert wording.minus("2026-07-01 and 5-10") == "2026-07-01 and 5-10"


def test_lists_and_sentences() -> None:
    assert wording.listed(["a"]) == "a"
    assert wording.listed(["a", "b", "c"]) == "a, b and c"
    assert wording.listed([]) == "–"
    assert wording.sentence("done. ") == "done."


def test_a_scope_reads_as_a_sentence_whatever_the_division(metrics: dict[str, Any]) -> None:
    metrics |= {"engine": "eager and no_cache", "split": {**metrics["split"], "name": "extrapolate"}}
    assert "measured with the eager and no_cache engines, " in sentences.scope(metrics)
    assert sentences.scope(metrics).endswith("to test on, fitted on the shorter, tested on the longer.")
    metrics["split"] = {"name": "leave_one_out", "column": "engine", "held_out": "no_cache"}
    assert sentences.scope(metrics).endswith("to test on, all with engine no_cache.")


def test_a_first_visit_may_cost_less(metrics: dict[str, Any]) -> None:
    metrics["first_visits"] = {"n_first": 9, "n_later": 8, "n_compared": 7, "median_cost_ms": -0.135}
    assert "took 0.135\N{NO-BREAK SPACE}ms less (the median)" in sentences.first_visit_words(metrics)


def test_the_parts_of_a_regressor_are_named(metrics: dict[str, Any]) -> None:
    parts = {"physics": "PhysicsRegressor()", "ridge": "Ridge()"}
    metrics["regressor"] = {"name": "AutoRegressor", "parameters": {"candidates": parts, "cv": 5}}
    assert wording.regressor(metrics, whole=True) == "AutoRegressor (candidates physics and ridge, cv 5)"

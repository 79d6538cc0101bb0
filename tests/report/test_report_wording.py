"""How numbers read."""

# ruff: noqa: RUF001

import numpy as np
import pytest

from llmlat.report import wording


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

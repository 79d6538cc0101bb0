"""A formula on floats says what it says on arrays, or leaves it to them."""

import math
from typing import Any

import numpy as np
import pytest

from llmlat.formulas.formula import FormulaError, parse
from llmlat.formulas.one_step import NAMESPACE, expression_of

FORMULAS = [
    "a + 2 * b - -a / 4",
    "a ** 2 + b ** 0.5",
    "a // 3 + b // 0.7",
    "(a > b) + (a == 3) + (engine == 'eager') + (engine != 'x')",
    "maximum(a, b) - minimum(a, 2)",
    "abs(-a) + ceil(b) + floor(b) + exp(b / 10) + log(a) + sqrt(a)",
    "column('GPU type') * 2 + column('class')",
]


def on_floats(text: str, values: dict[str, Any]) -> Any:
    names = {name: f"v{k}" for k, name in enumerate(values)}
    held = {names[name]: value for name, value in values.items()}
    return eval(expression_of(text, names), dict(NAMESPACE), held)


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize(("a", "b"), [(3.0, 2.5), (7.0, 0.25), (0.5, 40.0)])
def test_it_is_what_arrays_say(text: str, a: float, b: float) -> None:
    values = {"a": a, "b": b, "engine": "eager", "GPU type": 4.0, "class": 1.5}
    assert on_floats(text, values) == pytest.approx(float(parse(text)(values)), rel=1e-15)


@pytest.mark.parametrize("text", ["1 / a", "1 // a", "log(a)", "sqrt(a - 1)", "(a - 8) ** 0.5", "exp(b)"])
def test_where_floats_have_no_answer_it_is_left_to_arrays(text: str) -> None:
    values = {"a": 0.0, "b": 1e5}
    parse(text)(values)
    with pytest.raises((ArithmeticError, ValueError)):
        on_floats(text, values)


def test_what_is_missing_stays_missing() -> None:
    for text in ("maximum(a, b)", "minimum(a, b)", "maximum(b, a)", "minimum(b, a)"):
        assert math.isnan(on_floats(text, {"a": math.nan, "b": 1.0}))
        assert np.isnan(parse(text)({"a": math.nan, "b": 1.0}))


@pytest.mark.parametrize("text", ["c + 1", "a.b", "__import__('os')", "a + (", "lambda: 1"])
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        expression_of(text, {"a": "v0"})

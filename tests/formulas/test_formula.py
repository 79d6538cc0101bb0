"""Derived columns: arithmetic and nothing else, whatever is written."""

import doctest
import time
from typing import Any

import numpy as np
import pytest

from llmlat.formulas import formula as formula_module
from llmlat.formulas.formula import FUNCTIONS, FormulaError, parse
from llmlat.formulas.recipe import recipe_of

VALUES = {
    "a": np.array([1.0, 2.0, -3.0]),
    "b": np.array([4, 5, 6], dtype=np.int32),
    "t": np.array(["x", "y", "x"]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b", [5, 7, 3]),
        ("-a * 2 - +b / 2", [-4, -6.5, 3]),
        ("b // 4", [1, 1, 1]),
        ("b ** 2", [16, 25, 36]),
        ("2 ** -1 + 0 * a", [0.5, 0.5, 0.5]),
        ("a > 1", [0, 1, 0]),
        ("a != 2", [1, 0, 1]),
        ("t == 'x'", [1, 0, 1]),
        ("'y' == t", [0, 1, 0]),
        ("maximum(a, 0)", [1, 2, 0]),
        ("minimum(a, b) + abs(a) + sqrt(b - b)", [2, 4, 0]),
        ("floor(b / 4) + ceil(b / 4)", [2, 3, 3]),
        ("log(exp(b))", [4, 5, 6]),
    ],
)
def test_what_it_comes_to(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(parse(text)(VALUES), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(a > 1) + (b > 4)", [0, 2, 1]),
        ("(a > 1) - (b > 4)", [0, 0, -1]),
        ("-(a > 1)", [0, -1, 0]),
        ("(1 == 1) + (1 == 1) + 0 * a", [2, 2, 2]),
    ],
)
def test_comparisons_are_numbers(text: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(parse(text)(VALUES), expected)


def test_counts_do_not_overflow() -> None:
    many = {"n": np.array([3_000_000_000, 46_341]), "m": np.array([100_000, 2**31 - 1], dtype=np.int32)}
    np.testing.assert_allclose(parse("n * m * m")(many), [3e19, 46_341.0 * (2.0**31 - 1) ** 2])
    np.testing.assert_allclose(parse("m ** 3")(many), many["m"].astype(float) ** 3)


@pytest.mark.parametrize("text", ["9 ** 9 ** 9 ** 9 ** 9", "1 / 0", "exp(1e9)", "1e308 * 10"])
def test_what_is_too_large_is_infinite(text: str) -> None:
    assert parse(text)({}) == np.inf


@pytest.mark.parametrize("base", ["2", "9", "((1 == 1) + (1 == 1))", "((a == a) + (a == a))"])
def test_huge_powers_do_not_hang(base: str) -> None:
    began = time.process_time()
    assert not np.isfinite(parse(" ** ".join([base] * 9))({"a": 1.0}))
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.__class__",
        "().__class__.__bases__",
        "a[0]",
        "open('/etc/passwd')",
        "eval('1')",
        "getattr(a, 'b')",
        "(lambda: 1)()",
        "[x for x in a]",
        "f'{a}'",
        "a if b else t",
        "a and b",
        "not a",
        "a % b",
        "a @ b",
        "a << b",
        "~a",
        "(a := 3)",
        "maximum(*a)",
        "maximum(a, b, out=a)",
        "maximum(a, b, a)",
        "exp(a, b)",
        "log()",
        "abs.__self__",
        "a < b < a",
        "a in b",
        "a is b",
        "{'a': 1}",
        "(a, b)",
        "b'x'",
        "1j",
        "True",
        "None",
        "...",
        "a; b",
        "a = b",
        "import os",
        "",
        "a +",
        "a\x00b",
        "float of(a)",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["-" * 100_000 + "1", "(" * 5_000 + "1" + ")" * 5_000, "1" + "+1" * 100_000])
def test_nesting_without_end_is_refused(text: str) -> None:
    with pytest.raises(FormulaError, match="is no formula") as caught:
        parse(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["t + 1", "t", "'x'", "log(t)", "t < 1", "'x' * 3"])
def test_texts_can_only_be_compared(text: str) -> None:
    with pytest.raises(FormulaError, match="cannot be worked out"):
        parse(text)(VALUES)


def test_names_are_the_columns_that_it_reads() -> None:
    assert parse("maximum(b, a) + b * log(c)").names == ("b", "a", "c")
    with pytest.raises(KeyError):
        parse("a + c")(VALUES)


def test_functions_change_no_column() -> None:
    before = {name: values.copy() for name, values in VALUES.items()}
    for name, n_arguments in FUNCTIONS.items():
        parse(f"{name}({', '.join('ab'[:n_arguments])})")(VALUES)
    for name, values in before.items():
        np.testing.assert_array_equal(VALUES[name], values)


def test_recipes_work_in_order_and_leave_the_rest_aside() -> None:
    recipe = recipe_of(["c", "a"], {"c": "d * d", "d": "a + b", "unused": "z"})
    assert (recipe.inputs, list(recipe.steps)) == (["a", "b"], ["d", "c"])


@pytest.mark.parametrize(
    "derived",
    [{"c": "c + 1"}, {"c": "d", "d": "c"}, {"c": "d", "d": "e * 2", "e": "a + d"}],
    ids=str,
)
def test_a_formula_that_needs_itself_is_refused(derived: dict[str, Any]) -> None:
    with pytest.raises(FormulaError, match="needs itself"):
        recipe_of(["c"], derived)


def test_the_examples_in_the_docstrings_run() -> None:
    results = doctest.testmod(formula_module)
    assert (results.attempted, results.failed) == (4, 0)

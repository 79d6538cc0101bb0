import duckdb
import numpy as np
import pandas as pd
import pytest

from llmlat.errors import ConfigError
from llmlat.formulas.sql import formula_sql

VALUES = pd.DataFrame(
    {
        "a": [1.0, -2.0, 0.0, np.nan, 5.0, 5.0, 1e300],
        "b": [2.0, 3.0, 0.0, 1.0, np.nan, 5.0, 1e300],
        "engine": ["eager", "no_cache", "it's", "eager", None, "eager", ""],
    }
)
FUNCTIONS = {f: getattr(np, f) for f in ("abs", "ceil", "exp", "floor", "log", "maximum", "minimum", "sqrt")}


def in_duckdb(formula: str, derived: dict[str, str] | None = None) -> np.ndarray:
    with duckdb.connect() as connection:
        connection.register("numbers", VALUES.assign(a=VALUES["a"].astype("Float64")))  # with a NULL
        sql = formula_sql(formula, derived or {}, {"engine"})
        return connection.execute(f"SELECT {sql} FROM numbers").df().iloc[:, 0].to_numpy(dtype=np.float64)


@pytest.mark.parametrize(
    "formula",
    [
        "a * b",
        "a * b + 2 - -a",
        "(a + b) * 0.1",
        "a / b",
        "b // 2",
        "b ** 2",
        "b ** -1",
        "+b",
        "abs(a)",
        "ceil(b / 2)",
        "floor(b / 2)",
        "exp(b)",
        "log(a)",
        "sqrt(a)",
        "maximum(a, b)",
        "minimum(a, b)",
        "maximum(minimum(a, 3), 0)",
        *[f"a {sign} b" for sign in ("==", "!=", "<", "<=", ">", ">=")],
        *[f"b {sign} a" for sign in ("<", "<=", ">", ">=")],
        "(a > 0) * b",
        "engine == 'no_cache'",
        "'no_cache' != engine",
        'engine == "it\'s"',
        "maximum(a == b, engine == 'no_cache')",
    ],
)
def test_a_formula_means_in_duckdb_what_it_means_in_numpy(formula: str) -> None:
    values = {
        "a": VALUES["a"].to_numpy(),
        "b": VALUES["b"].to_numpy(),
        "engine": VALUES["engine"].to_numpy(object),
    }
    with np.errstate(all="ignore"):
        expected = np.asarray(eval(formula, {**FUNCTIONS, **values}), dtype=np.float64)
    np.testing.assert_allclose(in_duckdb(formula), expected, rtol=1e-15)


def test_a_formula_may_name_another() -> None:
    derived = {"twice": "2 * b", "more": "twice + 1"}
    np.testing.assert_array_equal(in_duckdb("more * twice", derived), (2 * VALUES["b"] + 1) * 2 * VALUES["b"])


@pytest.mark.parametrize(
    "formula", ["a %", "a % b", "a[0]", "open('x')", "a < b < 3", "lambda: a", "True and a"]
)
def test_what_is_not_of_the_language_is_refused(formula: str) -> None:
    with pytest.raises(ConfigError, match="is no formula"):
        formula_sql(formula, {}, set())

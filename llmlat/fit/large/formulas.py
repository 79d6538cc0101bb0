"""Derived columns as SQL: the small language of `llmlat.formulas.formula`, for DuckDB to evaluate.

A missing number is NaN throughout, and NaN is to DuckDB what it is to numpy: no comparison with it holds but
"unequal". By itself DuckDB takes NaN for the largest number, and NULL swallows whole conditions.
"""

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from llmlat.errors import ConfigError
from llmlat.fit.large.rows import name, number, text
from llmlat.formulas.formula import FormulaError, parse_tree

NAN = "'nan'::DOUBLE"

_ARITHMETIC = {
    ast.Add: "({} + {})",
    ast.Sub: "({} - {})",
    ast.Mult: "({} * {})",
    ast.Div: "({} / {})",
    ast.FloorDiv: "floor({} / {})",
    ast.Pow: "pow({}, {})",
}
_COMPARISONS = {ast.Eq: "=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_FUNCTIONS = {
    "abs": "abs({})",
    "ceil": "ceil({})",
    "exp": "exp({})",
    "floor": "floor({})",
    "log": f"CASE WHEN {{0}} < 0 THEN {NAN} WHEN {{0}} = 0 THEN '-inf'::DOUBLE ELSE ln({{0}}) END",
    "sqrt": f"CASE WHEN {{0}} < 0 THEN {NAN} ELSE sqrt({{0}}) END",
    "maximum": "greatest({}, {})",  # NaN is the greatest
    "minimum": f"CASE WHEN isnan({{0}}) OR isnan({{1}}) THEN {NAN} ELSE least({{0}}, {{1}}) END",
}


def number_sql(column: str) -> str:
    """Return a column of numbers as SQL in which nothing is NULL."""
    return f"coalesce({name(column)}, {NAN})"


def text_sql(column: str) -> str:
    """Return a column of texts as SQL in which nothing is NULL: a missing one is `nan`, as in a frame."""
    return f"coalesce({name(column)}, 'nan')"


def formula_sql(formula: str, derived: Mapping[str, str], texts: Collection[str]) -> str:
    """Return a formula as SQL.

    Parameters
    ----------
    formula : str
        In the language of `llmlat.formulas.formula`, which has checked it.
    derived : mapping of str to str
        Formulas that it may name.
    texts : collection of str
        Columns that hold texts.

    Raises
    ------
    ConfigError
        Where a part of it is not of the language.
    """
    try:
        return _Translation(derived, texts).sql(parse_tree(formula).body)
    except (KeyError, FormulaError) as error:
        raise ConfigError(f"features.derived: '{formula}' is no formula.") from error


@dataclass(frozen=True)
class _Translation:
    derived: Mapping[str, str]
    texts: Collection[str]

    def sql(self, node: ast.expr) -> str:
        """Return a part of a formula as SQL."""
        match node:
            case ast.Constant(value=str(said)):
                return text(said)
            case ast.Constant(value=int() | float() as value):
                return number(float(value))
            case ast.Name(id=column) if column in self.derived:
                return formula_sql(self.derived[column], self.derived, self.texts)
            case ast.Name(id=column):
                return text_sql(column) if column in self.texts else number_sql(column)
            case ast.BinOp():
                return _ARITHMETIC[type(node.op)].format(self.sql(node.left), self.sql(node.right))
            case ast.UnaryOp(op=ast.USub()):
                return f"(-{self.sql(node.operand)})"
            case ast.UnaryOp(op=ast.UAdd()):
                return self.sql(node.operand)
            case ast.Compare(ops=[operator], comparators=[other]):
                return self._compared(node.left, operator, other)
            case ast.Call(func=ast.Name(id=function)):
                return _FUNCTIONS[function].format(*map(self.sql, node.args))
        raise KeyError(ast.unparse(node))

    def _compared(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> str:
        first, second = self.sql(left), self.sql(right)
        is_unequal = isinstance(operator, ast.NotEq)
        holds = f"{first} {'=' if is_unequal else _COMPARISONS[type(operator)]} {second}"
        if not (self._is_text(left) or self._is_text(right)):
            holds = f"({holds} AND NOT isnan({first}) AND NOT isnan({second}))"
        return f"CAST({'NOT ' if is_unequal else ''}({holds}) AS DOUBLE)"

    def _is_text(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=str()):
                return True
            case ast.Name(id=column):
                return column in self.texts
        return False

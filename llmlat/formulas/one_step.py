"""A formula for one step: the same arithmetic on Python's floats, which takes a tenth of the time of arrays.

Where Python's floats raise and numpy's go on (an overflow, a division by 0, the root of what is negative),
the expression raises `ArithmeticError` or `ValueError`, and whoever asked works it out on arrays.
"""

import ast
import math
from collections.abc import Mapping
from typing import Any

from llmlat.formulas.formula import FormulaError, parse, parse_tree


def _maximum(a: float, b: float) -> float:
    return a if a > b or a != a else b


def _minimum(a: float, b: float) -> float:
    return a if a < b or a != a else b


NAMESPACE: dict[str, Any] = {
    "__builtins__": {},
    "abs_": abs,
    "ceil_": lambda x: float(math.ceil(x)),
    "exp_": math.exp,
    "floor_": lambda x: float(math.floor(x)),
    "log_": math.log,
    "maximum_": _maximum,
    "minimum_": _minimum,
    "pow_": math.pow,
    "sqrt_": math.sqrt,
}
"""What expressions are made of, beside the names that they are given."""


def expression_of(text: str, names: Mapping[str, str]) -> str:
    """Return a formula as an expression of Python on floats and texts.

    Parameters
    ----------
    text : str
    names : mapping of str to str
        The variable that holds each column.

    Raises
    ------
    FormulaError
        Where the text is no formula, or reads a column without a variable.

    Examples
    --------
    >>> expression_of("batch_size ** 2 + (engine == 'eager')", {"batch_size": "a", "engine": "b"})
    "pow_(a, 2.0) + (1.0 if b == 'eager' else 0.0)"
    """
    absent = [name for name in parse(text).names if name not in names]
    if absent:
        raise FormulaError(f"'{text}': there is no {absent[0]}")
    try:
        return ast.unparse(_OnFloats(names).visit(parse_tree(text)).body)
    except (RecursionError, OverflowError) as error:
        raise FormulaError(f"'{text[:40]}...' is no formula (a part is too large)") from error


class _OnFloats(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Name(self._names[node.id], ast.Load())

    def visit_Call(self, node: ast.Call) -> ast.expr:
        assert isinstance(node.func, ast.Name)
        arguments = [self.visit(argument) for argument in node.args]
        return ast.Call(ast.Name(f"{node.func.id}_", ast.Load()), arguments, [])

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.Constant(float(node.value)) if isinstance(node.value, int | float) else node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        return ast.IfExp(node, ast.Constant(1.0), ast.Constant(0.0))

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Pow):
            return ast.Call(ast.Name("pow_", ast.Load()), [node.left, node.right], [])
        return node

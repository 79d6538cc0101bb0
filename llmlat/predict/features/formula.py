"""The small language of derived columns: arithmetic on column names, and nothing else.

A formula stands in a config file and in `predictor.json`, so it is parsed and its every part is looked at
before it is evaluated: names, numbers, texts to compare with, + - * / // ** and comparisons (which are 1
where true and 0 elsewhere), and the functions of `FUNCTIONS`. No attribute, index or other call passes.
"""

import ast
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

FUNCTIONS = ("abs", "ceil", "exp", "floor", "log", "maximum", "minimum", "sqrt")
"""numpy's functions of these names."""

_ALLOWED = (
    ast.Expression,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.Pow,
    ast.UnaryOp,
    ast.USub,
    ast.UAdd,
    ast.Compare,
    ast.Eq,
    ast.NotEq,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.Name,
    ast.Load,
)


class FormulaError(ValueError):
    """Text that is no formula; the message says which part is not."""


@dataclass(frozen=True)
class Formula:
    """A formula.

    Attributes
    ----------
    text : str
        As it was written.
    names : tuple of str
        The columns that it reads, each once, in the order of reading.

    Examples
    --------
    >>> tokens = parse("batch_size * maximum(context_length - 1, 0)")
    >>> tokens.names
    ('batch_size', 'context_length')
    >>> float(tokens({"batch_size": 4, "context_length": 11}))
    40.0
    """

    text: str
    names: tuple[str, ...]
    _code: CodeType

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Evaluate the formula.

        Parameters
        ----------
        values : mapping
            A number, a text, or an array of either for each of `names`.

        Returns
        -------
        ndarray of float64
            In the shape of the values.
        """
        import numpy as np

        with np.errstate(all="ignore"):  # what is not finite is found, and named, by whoever uses it
            found = eval(self._code, _namespace(), {name: _as_number(values[name]) for name in self.names})
        return np.asarray(found, dtype=np.float64)


def parse(text: str) -> Formula:
    """Return the formula that a text spells.

    Raises
    ------
    FormulaError
        Where it is none.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise FormulaError(f"'{text}' is no formula ({error.msg})") from error
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        _check(node, text)
        if isinstance(node, ast.Name):
            names[node.id] = None
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return Formula(text, tuple(n for n in names if n not in called), compile(tree, "<formula>", "eval"))


def _check(node: ast.AST, text: str) -> None:
    if isinstance(node, ast.Call):
        is_known = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
        if not is_known:
            raise FormulaError(f"'{text}': there are only the functions {', '.join(FUNCTIONS)}")
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, int | float | str):
            raise FormulaError(f"'{text}': {ast.unparse(node)} is neither a number nor a text")
        if isinstance(node.value, int):
            node.value = float(node.value)  # whole numbers to a power can grow without end
    elif isinstance(node, ast.Compare) and len(node.ops) > 1:
        raise FormulaError(f"'{text}': compare two things at a time")
    elif not isinstance(node, ast.Compare) and not isinstance(node, _ALLOWED):
        raise FormulaError(f"'{text}': {type(node).__name__} has no place in a formula")


def _as_number(value: Any) -> Any:
    """Return numbers as floating point, since the product of two counts may not fit into theirs."""
    import numpy as np

    values = np.asarray(value)
    return values if values.dtype.kind in "OUST" else values.astype(np.float64)


@functools.cache
def _namespace() -> dict[str, Any]:
    import numpy as np

    return {"__builtins__": {}, **{name: getattr(np, name) for name in FUNCTIONS}}

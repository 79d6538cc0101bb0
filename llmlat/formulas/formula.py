"""The small language of derived columns: arithmetic on column names, and nothing else.

A formula stands in a config file and in `predictor.json`, so it is parsed and its every part is looked at
before it is evaluated: names, numbers, texts to compare with, + - * / // ** and comparisons (which are 1
where true and 0 elsewhere), and the functions of `FUNCTIONS`. A column whose name is none of Python's is
written `column('GPU type')`. No attribute, index or other call passes.
"""

import ast
import functools
import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any, cast

from llmlat.errors import one_line

LONGEST = 200  # characters of a formula that a complaint repeats

FUNCTIONS = {
    "abs": 1,
    "ceil": 1,
    "exp": 1,
    "floor": 1,
    "log": 1,
    "maximum": 2,
    "minimum": 2,
    "sqrt": 1,
}
"""numpy's functions of these names, and how many arguments each takes."""

COLUMN = "column"
"""The function that names a column by any text."""

_FLOAT = "float of"
"""What numbers and comparisons are wrapped in; no column of a formula can have this name."""

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

        Raises
        ------
        FormulaError
            Where it calculates with texts, or comes to one.
        """
        import numpy as np

        numbers = {name: _as_number(values[name]) for name in self.names}
        try:
            with np.errstate(all="ignore"):  # what is not finite is found, and named, by whoever uses it
                return np.asarray(eval(self._code, _namespace(), numbers), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise FormulaError(f"'{self.text}': cannot be worked out ({one_line(error)})") from error


def parse(text: str) -> Formula:
    """Return the formula that a text spells.

    Raises
    ------
    FormulaError
        Where it is none.
    """
    tree = parse_tree(text)
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        _check(node, text)
        if isinstance(node, ast.Name):
            names[node.id] = None
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    try:
        code = compile(ast.fix_missing_locations(_InFloats().visit(tree)), "<formula>", "eval")
    except RecursionError as error:
        raise FormulaError(f"'{_short(text)}' is no formula (it is nested too deeply)") from error
    return Formula(text, tuple(n for n in names if n not in called), code)


def parse_tree(text: str) -> ast.Expression:
    """Return the syntax tree of a formula, in which every column is a name, whatever it is called.

    Raises
    ------
    FormulaError
    """
    try:
        return cast(ast.Expression, _Named().visit(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(f"'{_short(text)}' is no formula ({one_line(error)})") from error


def as_column(name: str) -> str:
    """Return how a formula names a column.

    Examples
    --------
    >>> as_column("batch_size"), as_column("GPU type"), as_column("class")
    ('batch_size', "column('GPU type')", "column('class')")
    """
    is_plain = name.isidentifier() and not keyword.iskeyword(name) and name not in {*FUNCTIONS, COLUMN}
    return name if is_plain else f"{COLUMN}({name!r})"


class _Named(ast.NodeTransformer):
    """Makes a name of every `column('...')`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Name(id=called), args=[ast.Constant(value=str(name))], keywords=[]):
                if called == COLUMN and name != _FLOAT:
                    return ast.copy_location(ast.Name(name, ast.Load()), node)
        self.generic_visit(node)
        return node


class _InFloats(ast.NodeTransformer):
    """Wraps numbers and comparisons, so that numpy's floats are all that is calculated with.

    Python's own whole numbers grow without end when raised to a power, its floats raise where they overflow,
    and the sum of two comparisons of numpy is one comparison.
    """

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return node if isinstance(node.value, str) else self._wrapped(node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        return self._wrapped(node)

    def _wrapped(self, node: ast.expr) -> ast.Call:
        return ast.Call(ast.Name(_FLOAT, ast.Load()), [node], [])


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _check(node: ast.AST, text: str) -> None:
    if isinstance(node, ast.Call):
        is_known = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
        if not is_known:
            raise FormulaError(f"'{text}': there are only the functions {', '.join(FUNCTIONS)}")
        name, n_given = ast.unparse(node.func), len(node.args)
        if n_given != FUNCTIONS[name]:
            raise FormulaError(f"'{text}': {name} takes {FUNCTIONS[name]}, not {n_given}")
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, int | float | str):
            raise FormulaError(f"'{text}': {ast.unparse(node)} is neither a number nor a text")
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

    return {"__builtins__": {}, _FLOAT: np.float64, **{name: getattr(np, name) for name in FUNCTIONS}}

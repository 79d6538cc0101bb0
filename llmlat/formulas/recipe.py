"""What features are made of, and in which order. It imports little: files of predictors need it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmlat.formulas.formula import Formula, FormulaError, parse


@dataclass(frozen=True)
class Recipe:
    """What features are made of: the rows' columns, and the formulas in an order of working."""

    inputs: list[str]
    steps: dict[str, Formula]


def recipe_of(columns: Sequence[str], derived: Mapping[str, str] | None) -> Recipe:
    """Return what features are made of; derived columns that none of them needs are left aside.

    Raises
    ------
    FormulaError
        Where a formula is none, or needs itself.
    """
    formulas = {name: parse(text) for name, text in (derived or {}).items()}
    inputs: dict[str, None] = {}
    steps: dict[str, Formula] = {}

    def need(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise FormulaError(f"'{formulas[name].text}': {name} needs itself")
        if name not in formulas:
            inputs[name] = None
        elif name not in steps:
            for part in formulas[name].names:
                need(part, (*above, name))
            steps[name] = formulas[name]

    for name in columns:
        need(name, ())
    return Recipe(list(inputs), steps)

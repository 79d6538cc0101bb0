"""What llmlat says of rows whose truth is known, and how often that has to hold.

A module a theme; each statement is a function of a seed, put into the registry by `statement`. It makes rows
of a known truth (`truths.rows`), asks llmlat, and returns whether what was said held, or a number that has to
come out right on average; None where llmlat withheld the answer, which is no fault.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Answer = bool | float | None

REGISTRY: list["Statement"] = []


@dataclass(frozen=True)
class Statement:
    """Something that llmlat says, beside a truth.

    Attributes
    ----------
    name : str
        Of the function, to name it on the command line.
    says : str
        What is said, in words.
    truth : str
        What the rows were made of.
    at_least, at_most : float or None
        Between which the mean of the answers has to lie; of yes and no, the share of yes.
    ask : callable
        Of a seed; the answer.
    """

    name: str
    says: str
    truth: str
    at_least: float | None
    at_most: float | None
    ask: Callable[[int], Answer]


@dataclass
class Outcome:
    """What a statement came to over seeds; `mean` is None where every answer was withheld."""

    statement: Statement
    answers: list[Answer] = field(default_factory=list)

    @property
    def told(self) -> list[float]:
        """Return the answers that were given."""
        return [float(answer) for answer in self.answers if answer is not None]

    @property
    def mean(self) -> float | None:
        """Return their mean."""
        return sum(self.told) / len(self.told) if self.told else None

    def holds(self, slack: float = 0.0) -> bool:
        """Return whether the mean lies where it has to, or by no more than a slack outside.

        Whoever says nothing says nothing wrong.
        """
        low, high = self.statement.at_least, self.statement.at_most
        return self.mean is None or (
            (low is None or self.mean >= low - slack) and (high is None or self.mean <= high + slack)
        )


def statement(
    says: str, truth: str, at_least: float | None = None, at_most: float | None = None
) -> Callable[[Callable[[int], Answer]], Callable[[int], Answer]]:
    """Put a function of a seed into the registry.

    Parameters
    ----------
    says : str
        What llmlat says.
    truth : str
        What the rows are made of.
    at_least, at_most : float, optional
        Between which the mean of its answers has to lie.
    """

    def register(ask: Callable[[int], Answer]) -> Callable[[int], Answer]:
        REGISTRY.append(Statement(ask.__name__, says, truth, at_least, at_most, ask))
        return ask

    return register


def statements(names: Iterable[str] = ()) -> list[Statement]:
    """Return every statement of this folder's modules, or those whose name begins with one of the names."""
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    wanted = tuple(names)
    return [one for one in REGISTRY if not wanted or one.name.startswith(wanted)]


def ask(one: Statement, seeds: Iterable[int]) -> Outcome:
    """Ask a statement of each seed."""
    return Outcome(one, [one.ask(seed) for seed in seeds])

"""Rows as they could have been measured: what moves with an input by construction moves with it.

A step attends to its prompt and to what was generated since, so context, prompt and place are one sum; a
batch attends to the contexts of all its sequences. A regressor that is asked about a context shorter than its
own prompt, or three thousand tokens after a prompt whose answers had thirty, is asked about nothing.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from llmlat.records import DECODE

Numbers = npt.NDArray[np.float64]
WITH_CONTEXT = ("context_length", "padded_context_length", "batch_context_tokens")
"""Inputs that are the context, or move with it."""


def numbers(column: pd.Series) -> Numbers:
    """Return a column as floating-point numbers, missing ones as NaN."""
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def at_context(rows: pd.DataFrame, context: Any) -> pd.DataFrame:
    """Return steps of the same prompts at other context lengths, and all else that moves with it."""
    return rows.assign(
        context_length=context,
        padded_context_length=context,
        batch_context_tokens=_sequences(rows) * context,
        token_index=context - numbers(rows["prompt_tokens"]),
    )


def at_length(rows: pd.DataFrame, length: float, most: float) -> pd.DataFrame:
    """Return decode steps at one context length, whose prompts ended before it, by `most` tokens at most."""
    prompt = np.clip(numbers(rows["prompt_tokens"]), max(length - most, 0), length - 1)
    return at_context(rows.assign(prompt_tokens=prompt), length)


def at_other_places(rows: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Return each decode step at the place in its request that another was measured at."""
    return at_context(rows, numbers(rows["prompt_tokens"]) + _other_places(rows, generator))


def with_other_prompts(rows: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Return each decode step at the place that another was measured at, and at its own context.

    Its prompt is then as long as that leaves; where nothing is left, the row stays.
    """
    context, place = numbers(rows["context_length"]), _other_places(rows, generator)
    prompt = np.where(place < context, context - place, numbers(rows["prompt_tokens"]))
    return rows.assign(prompt_tokens=prompt, token_index=context - prompt)


def at_other_contexts(rows: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Return rows with the prompt, the context and the place of another row of their phase."""
    other = _other(rows, generator)
    took = ["prompt_tokens", "context_length", "padded_context_length", "token_index"]
    tokens = numbers(rows["batch_context_tokens"])[other] * (_sequences(rows) / _sequences(rows)[other])
    return rows.assign(**{name: rows[name].to_numpy()[other] for name in took}, batch_context_tokens=tokens)


def with_other_values(rows: pd.DataFrame, names: list[str], generator: np.random.Generator) -> pd.DataFrame:
    """Return rows with another row's values of columns, taken together; a batch's tokens follow its size."""
    other = generator.permutation(len(rows))
    moved = rows.assign(**{name: rows[name].to_numpy()[other] for name in names})
    tokens = numbers(rows["batch_context_tokens"]) * _sequences(moved) / _sequences(rows)
    return moved if "batch_context_tokens" in names else moved.assign(batch_context_tokens=tokens)


Move = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def mover_of(names: Sequence[str], seen: Collection[str], *, at_equal_prompts: bool) -> Move:
    """Return what gives rows other values of inputs, as they could have been measured.

    Parameters
    ----------
    names : sequence of str
        The inputs that are moved.
    seen : collection of str
        All inputs of the regressor: what it does not see may move along.
    at_equal_prompts : bool
        Whether a context is moved beside its prompt, or with it.
    """
    if set(names) & set(WITH_CONTEXT):
        return at_other_places if at_equal_prompts and "prompt_tokens" in seen else at_other_contexts
    if "prompt_tokens" in names:
        return with_other_prompts if set(seen) & set(WITH_CONTEXT) else at_other_contexts
    return lambda rows, generator: with_other_values(rows, list(names), generator)


def furthest_place(rows: pd.DataFrame) -> float:
    """Return how far from the prompt's end a step was measured."""
    return float(_places(rows).max(initial=1.0))


def _places(rows: pd.DataFrame) -> Numbers:
    return numbers(rows["context_length"]) - numbers(rows["prompt_tokens"])


def _other_places(rows: pd.DataFrame, generator: np.random.Generator) -> Numbers:
    place, decode = _places(rows), np.flatnonzero(rows["phase"] == DECODE)
    place[decode] = place[generator.permutation(decode)]
    return place


def _sequences(rows: pd.DataFrame) -> Numbers:
    return numbers(rows["batch_size"]) * numbers(rows["num_beams"])


def _other(rows: pd.DataFrame, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return for each row the position of another of its phase."""
    other = np.arange(len(rows))
    phase = rows["phase"].to_numpy()
    for value in pd.unique(rows["phase"]):
        at = np.flatnonzero(phase == value)
        other[at] = generator.permutation(at)
    return other

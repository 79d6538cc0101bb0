"""What a fitted regressor makes of each input, whatever kind of regressor it is.

Three looks at it: the average effect (for a linear regressor exactly its coefficients), how much worse the
predictions get when an input is shuffled, and the predicted latency of a decode step along the context.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.fit.analysis.effects import decode_cells
from llmlat.fit.analysis.possible import (
    WITH_CONTEXT,
    at_length,
    furthest_place,
    mover_of,
    numbers,
)
from llmlat.fit.evaluate import Milliseconds
from llmlat.fit.fitting import input_columns, predict
from llmlat.records import TARGET, TELEMETRY

MOST_ROWS = 500  # more say no more about an average
N_SHUFFLES = 10
N_POINTS = 20

TOGETHER: dict[str, tuple[str, ...]] = {
    "prompt length": ("prompt_tokens",),
    "context length": (*WITH_CONTEXT, "token_index"),
    "batch": ("batch_size",),
    "decoding": ("num_beams", "temperature", "top_k", "top_p"),
    "engine and model": (
        "engine",
        "model",
        "quantization",
        "n_parameters",
        "weight_bytes",
        "kv_bytes_per_token",
    ),
    "first visit": ("first_visit",),
    "machine": (*(column.name for column in TELEMETRY), "telemetry_age_ms"),
}
"""Inputs that say the same thing and are shuffled together."""


def average_effects(fitted: Pipeline, rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return what one standard deviation more of each input adds to the prediction, on average over rows.

    Each row is given another row's value of the input, where the row could then have been measured: a context
    reaches as far beyond its prompt as requests did, and a prompt ends before its context. The changes of the
    prediction are laid against the changes of the input, by least squares through 0. For a regressor that is
    linear in its inputs, these are its coefficients on scaled features, so this is the thesis's table 4.2 for
    any regressor; trees, which do not move with a small step, are asked for values that were measured. Inputs
    that move with the context by construction are moved with it.

    Parameters
    ----------
    fitted : Pipeline
    rows : DataFrame
        The rows that it was fitted on.

    Returns
    -------
    dict
        For each input that is a number and varies: `scaled_ms`, `per_unit_ms` and `relative_impact`, the
        share of the sum of all absolute effects.
    """
    some = _some(rows)
    before = predict(fitted, some)
    found = {}
    for name in _moved(fitted, rows):
        values = numbers(rows[name])
        known = values[~np.isnan(values)]
        scale = float(known.std()) if len(known) else 0.0
        if scale > 0:
            slope = _slope(fitted, some, before, name)
            found[name] = {"scaled_ms": slope * scale, "per_unit_ms": slope, "relative_impact": 0.0}
    total = sum(abs(effect["scaled_ms"]) for effect in found.values())
    for effect in found.values():
        effect["relative_impact"] = abs(effect["scaled_ms"]) / total if total else 0.0
    return found


def shuffled(held_out: Sequence[tuple[Pipeline, pd.DataFrame]]) -> dict[str, dict[str, Any]]:
    """Return how much the error on held-out rows grows when inputs are shuffled among them.

    Inputs that say the same thing are shuffled together (permutation importance; Breiman, *Random Forests*,
    2001, section 10; by groups of inputs as in Au et al., *Grouped feature importance and combined features
    effect plot*, 2022). Only rows are asked about that could have been measured: a context moves with its
    prompt, among the rows of a phase, and the prompt's length is shuffled at equal context.

    Parameters
    ----------
    held_out : sequence of (Pipeline, DataFrame)
        Fits, and rows of groups that each has not seen.

    Returns
    -------
    dict
        For each group of inputs `inputs`, `mae_ms_more` (the mean over ten shuffles), `low_ms` and `high_ms`
        (the least and the most).
    """
    every = 1 + sum(len(rows) for _, rows in held_out) // (20 * MOST_ROWS)
    told = [(fitted, rows.iloc[::every]) for fitted, rows in held_out]
    n_rows = sum(len(rows) for _, rows in told)
    inputs = input_columns(told[0][0])
    varying = [name for name in inputs if any(rows[name].nunique(dropna=False) > 1 for _, rows in told)]
    found = {}
    for group, names in _groups_of(varying).items():
        more = np.sum([_misses_more(fitted, rows, names) for fitted, rows in told], axis=0) / n_rows
        found[group] = {
            "inputs": names,
            "mae_ms_more": float(more.mean()),
            "low_ms": float(more.min()),
            "high_ms": float(more.max()),
        }
    return found


def _misses_more(fitted: Pipeline, rows: pd.DataFrame, names: list[str]) -> Milliseconds:
    """Return for each shuffle how much more the rows are missed by, in all."""
    measured = rows[TARGET].to_numpy()
    generator = np.random.default_rng(0)
    move = mover_of(names, input_columns(fitted), at_equal_prompts=False)
    mixed = pd.concat([move(rows, generator) for _ in range(N_SHUFFLES)])
    # All shuffles are asked at once: for a line, most of a prediction is the asking.
    predicted = predict(fitted, mixed).reshape(N_SHUFFLES, len(rows))
    before = np.abs(rows["predicted_ms"].to_numpy() - measured).sum()
    missed: Milliseconds = np.abs(predicted - measured).sum(axis=1) - before
    return missed


def along_context(fitted: Pipeline, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the predicted latency of a decode step along the context: partial dependence, kept possible.

    Every row's context is set to the same length in turn and the predictions are averaged (Friedman, *Greedy
    function approximation*, 2001, section 8.2). What cannot be is not asked: a prompt is never longer than
    the context, the token's place moves with it, and so do the lengths of a batch.

    Parameters
    ----------
    fitted : Pipeline
    rows : DataFrame
        Counted rows, one a step.

    Returns
    -------
    list of dict
        For each cell of `decode_cells` its settings, `context_length` (a list from the 5th to the 95th
        percentile of what was measured) and `predicted_ms` at each; empty where the regressor does not look
        at the context.
    """
    if not set(WITH_CONTEXT) & set(input_columns(fitted)):
        return []
    curves = []
    for cell, part in decode_cells(rows):
        low, high = part["context_length"].quantile([0.05, 0.95])
        points = np.unique(np.linspace(low, high, N_POINTS).round())
        some = _some(part)
        most = furthest_place(part)
        asked = pd.concat([at_length(some, point, most) for point in points])
        predicted = predict(fitted, asked).reshape(len(points), len(some)).mean(axis=1).tolist()
        curves.append({**cell, "context_length": [int(point) for point in points], "predicted_ms": predicted})
    return curves


def _some(rows: pd.DataFrame) -> pd.DataFrame:
    return rows if len(rows) <= MOST_ROWS else rows.sample(MOST_ROWS, random_state=0)


def _moved(fitted: Pipeline, rows: pd.DataFrame) -> list[str]:
    """Return the inputs that are numbers; of those that move with the context, one."""
    inputs = [name for name in input_columns(fitted) if pd.api.types.is_numeric_dtype(rows[name])]
    with_context = [name for name in WITH_CONTEXT if name in inputs]
    return [name for name in inputs if name not in with_context[1:]]


def _slope(fitted: Pipeline, rows: pd.DataFrame, before: Milliseconds, name: str) -> float:
    """Return what one unit more of an input adds to the predictions `before`, on average."""
    generator = np.random.default_rng(0)
    moved = mover_of([name], input_columns(fitted), at_equal_prompts=True)(rows, generator)
    change = np.nan_to_num(numbers(moved[name]) - numbers(rows[name]))
    squares = float(change @ change)
    return float(change @ (predict(fitted, moved) - before)) / squares if squares else 0.0


def _groups_of(inputs: list[str]) -> dict[str, list[str]]:
    groups = {group: [name for name in names if name in inputs] for group, names in TOGETHER.items()}
    grouped = {name for names in groups.values() for name in names}
    return {k: v for k, v in groups.items() if v} | {name: [name] for name in inputs if name not in grouped}

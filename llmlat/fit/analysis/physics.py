"""What a fitted law says, in the words of physics."""

from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.fit.fitting import features_of
from llmlat.fit.regressors import PhysicsRegressor
from llmlat.fit.regressors.terms import PhysicalTerm, physical_terms

UNITS = ("bytes", "operations", "tokens", "sequences", "pairs")
"""What the name of a feature ends in, where it is of that unit."""

KV_BYTES, KV_BYTES_PER_TOKEN = "kv_bytes", "kv_bytes_per_token"


def physics_terms(fitted: Pipeline, train: pd.DataFrame) -> list[dict[str, Any]] | None:
    """Return the costs that physics found: overhead, floor, and what each feature's work runs at.

    Parameters
    ----------
    fitted : Pipeline
    train : DataFrame
        The rows that it was fitted on.

    Returns
    -------
    list of dict or None
        `name`, `value` (None where no cost shows) and `unit` each: ms, GB/s, TFLOP/s, or ms per unit. Where
        one model was measured, `context` as well, in ms per 1,000 tokens. None for any other regressor.
    """
    regressor = fitted.named_steps["regressor"]
    law = getattr(regressor, "physics_", regressor)  # a hybrid's law, without its correction
    if not isinstance(law, PhysicsRegressor):
        return None
    table = features_of(fitted)
    terms = physical_terms(law, {name: _unit(name) for name in table.feature_names_out_})
    telling = {name for name, tells in zip(table.feature_names_out_, table.telling_, strict=True) if tells}
    shown = [term for term in terms if term.name in {"overhead", "floor", *telling}]
    return [vars(term) for term in (*shown, *_context(law, table.feature_names_out_, train))]


def _unit(feature: str) -> str:
    if feature.startswith("is_") or "=" in feature:
        return "step where it holds"
    ending = feature.rpartition("_")[2]
    return ending if ending in UNITS else f"unit of {feature}"


def _context(law: PhysicsRegressor, features: list[str], train: pd.DataFrame) -> list[PhysicalTerm]:
    """Return what reading the keys and values of 1,000 more tokens costs."""
    if (
        KV_BYTES not in features
        or KV_BYTES_PER_TOKEN not in train
        or train[KV_BYTES_PER_TOKEN].nunique() != 1
    ):
        return []
    per_byte = float(law.coef_[features.index(KV_BYTES)])
    per_1k = per_byte * float(train[KV_BYTES_PER_TOKEN].iloc[0]) * 1e3
    return [PhysicalTerm("context", per_1k, "ms per 1k tokens")]

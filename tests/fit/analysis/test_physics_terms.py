"""What a fitted law says: the rates and costs that the rows were made with."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmlat.config import Config
from llmlat.fit.analysis.physics import physics_terms
from llmlat.fit.fitting import build_pipeline, fit

MakeRows = Callable[..., pd.DataFrame]
PHYSICS: dict[str, Any] = {"_target_": "llmlat.fit.regressors.PhysicsRegressor"}
RIDGE: dict[str, Any] = {"_target_": "sklearn.linear_model.Ridge"}


@pytest.fixture(scope="module")
def rows(make_rows: MakeRows) -> pd.DataFrame:
    """Return rows whose steps read keys and values at 2,000 GB/s, and whose first tokens take 12 ms more."""
    rows = make_rows(np.linspace(100, 4000, 12).astype(int), tokens=20).assign(kv_bytes_per_token=131_072.0)
    is_prefill = rows["phase"] == "prefill"
    read_ms = rows["batch_context_tokens"] * 131_072 / 2e12 * 1e3
    return rows.assign(token_latency_ms=7 + np.where(is_prefill, 12.0, read_ms))


def test_bandwidth_and_context_read_as_they_are(rows: pd.DataFrame, compose: Callable[..., Config]) -> None:
    fitted = fit(build_pipeline(PHYSICS, compose("features=physics").features), rows)
    terms = {term["name"]: term for term in physics_terms(fitted, rows) or []}
    assert terms["overhead"]["value"] == pytest.approx(7.0, rel=1e-6)
    assert (terms["kv_bytes"]["unit"], terms["kv_bytes"]["value"]) == ("GB/s", pytest.approx(2000, rel=1e-6))
    assert terms["context"]["unit"] == "ms per 1k tokens"
    assert terms["context"]["value"] == pytest.approx(131_072e3 / 2e12 * 1e3, rel=1e-6)
    assert terms["is_prefill"]["unit"] == "ms per step where it holds"
    assert "weight_bytes" not in terms, "one model's weights cannot be told from the overhead"


def test_several_models_have_no_one_cost_of_context(
    rows: pd.DataFrame, compose: Callable[..., Config]
) -> None:
    two = rows.assign(kv_bytes_per_token=np.where(rows["request_id"] % 2, 131_072.0, 65_536.0))
    fitted = fit(build_pipeline(PHYSICS, compose("features=physics").features), two)
    assert "context" not in {term["name"] for term in physics_terms(fitted, two) or []}


def test_other_regressors_say_nothing_of_the_kind(rows: pd.DataFrame, compose: Callable[..., Config]) -> None:
    fitted = fit(build_pipeline(RIDGE, compose("features=physics").features), rows)
    assert physics_terms(fitted, rows) is None

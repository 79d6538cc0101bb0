"""Costs in the words of physics."""

import numpy as np
import pandas as pd
import pytest

from llmlat.fit.regressors import PhysicsRegressor
from llmlat.fit.regressors.terms import physical_terms

UNITS = {
    "kv_bytes": "bytes",
    "operations": "operations",
    "step_tokens": "tokens",
    "weight_bytes": "bytes",
    "layers": "layers",
}


def test_costs_read_as_bandwidth_rate_and_ms_per_1k_tokens() -> None:
    generator = np.random.default_rng(0)
    largest = {"kv_bytes": 1e10, "operations": 1e13, "step_tokens": 1e4, "weight_bytes": 0, "layers": 80}
    work = pd.DataFrame({name: generator.uniform(0, top, 200) for name, top in largest.items()})
    # 2,000 GB/s, 400 TFLOP/s, 0.04 ms per 1,000 tokens, 0.1 ms a layer
    latency = (
        3
        + work["kv_bytes"] / 2e9
        + work["operations"] / 4e11
        + 4e-5 * work["step_tokens"]
        + 0.1 * work["layers"]
    )
    terms = {term.name: term for term in physical_terms(PhysicsRegressor().fit(work, latency), UNITS)}
    assert list(terms) == ["overhead", "floor", *UNITS]
    assert terms["overhead"].value == pytest.approx(3)
    assert (terms["kv_bytes"].value, terms["kv_bytes"].unit) == (pytest.approx(2000), "GB/s")
    assert (terms["operations"].value, terms["operations"].unit) == (pytest.approx(400), "TFLOP/s")
    assert str(terms["step_tokens"]) == "step_tokens: 0.04 ms per 1k tokens"
    assert str(terms["layers"]) == "layers: 0.1 ms per layers"
    assert str(terms["weight_bytes"]) == "weight_bytes: no cost shows"

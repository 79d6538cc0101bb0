"""A column may be called anything, `self` too, which pandas' assign() has no place for."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from llmlat.fit.analysis.inputs import average_effects, shuffled
from llmlat.fit.features.table import FeatureTable
from llmlat.records import TARGET


def test_a_column_named_self_has_its_effect() -> None:
    rows = pd.DataFrame({"self": np.arange(40.0), TARGET: 5 + 0.5 * np.arange(40.0)})
    steps = [
        ("features", FeatureTable(["self"])),
        ("scaled", StandardScaler()),
        ("regressor", LinearRegression()),
    ]
    fitted = Pipeline(steps).fit(rows, rows[TARGET])
    assert average_effects(fitted, rows)["self"]["per_unit_ms"] == pytest.approx(0.5)
    assert shuffled(fitted, rows)["self"]["mae_ms_more"] > 1

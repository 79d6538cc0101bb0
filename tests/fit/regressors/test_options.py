"""Every regressor that conf/ offers is made, fitted twice to the same effect, and predicts latencies."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra.utils import instantiate
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from threadpoolctl import threadpool_limits

from llmlat.config import config_dir

OPTIONS = sorted(Path(config_dir(), "regressor").glob("*.yaml"))


@pytest.fixture
def rows() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    context = generator.uniform(10, 4000, 80)
    latency = 20 + 0.004 * context + generator.normal(0, 0.2, len(context))
    return pd.DataFrame(
        {
            "context_length": context,
            "is_prefill": np.arange(len(context)) % 2,
            "previous_token_latency_ms": latency + 0.1,
            "token_latency_ms": latency,
        }
    )


@pytest.mark.parametrize("option", OPTIONS, ids=lambda path: path.stem)
def test_an_option_is_a_regressor(option: Path, rows: pd.DataFrame) -> None:
    settings = yaml.safe_load(option.read_text(encoding="utf-8"))
    if settings["_target_"] == "???":
        pytest.skip("the user's own to fill in")
    if option.stem == "step":
        pytest.skip("it takes the work of a serving engine's steps: test_step.py")
    if option.stem == "xgboost":
        pytest.importorskip("xgboost")
    regressor = instantiate(settings, _convert_="all")
    if not get_tags(regressor).input_tags.positive_only:
        # As llmlat's pipeline does: standardised, with names.
        regressor = make_pipeline(StandardScaler().set_output(transform="pandas"), regressor)
    X, y = rows.drop(columns="token_latency_ms"), rows["token_latency_ms"].to_numpy()
    with threadpool_limits(1):
        first, again = (clone(regressor).fit(X, y).predict(X) for _ in range(2))
    assert np.array_equal(first, again)
    assert first == pytest.approx(y, rel=0.5)

"""Metrics are plain JSON for every split and every shipped regressor, and the predictor says the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from known_rows import never_quicker

from llmlat.config import Config, SplitConfig, SplitName, config_dir
from llmlat.fit.export import write_predictor
from llmlat.fit.fitting import build_pipeline
from llmlat.fit.results import Analysis, analyse
from llmlat.predict.predictor import OutsideError, load_predictor

REGRESSORS = sorted({path.stem for path in (config_dir() / "regressor").glob("*.yaml")} - {"custom"})
BOOSTED = "+regressor.boosted={_target_: llmlat.fit.regressors.BoostedRegressor, max_rounds: 5}"
QUICK = {
    "hybrid": ["regressor.n_folds=2", BOOSTED],
    "auto": [
        "regressor.cv=2",
        "~regressor.candidates.hybrid",
        "regressor.candidates.boosted_trees.regressor.max_rounds=5",
    ],
    "hist_gradient_boosting": ["regressor.regressor.max_rounds=5"],
    "random_forest": ["regressor.n_estimators=5"],
    "xgboost": ["regressor.regressor.max_rounds=5"],
    "mlp": ["regressor.regressor.regressor.hidden_layer_sizes=[8]"],
}
FEATURES = {
    "context_bin": "thesis",
    "last_token": "last_token",
    "auto": "physics",
    "hybrid": "physics",
    "step": "step",
}
pytestmark = pytest.mark.filterwarnings("ignore::llmlat.OutsideWarning")
ABOUT = dict.fromkeys(
    ("llmlat_version", "experiment", "weights", "stand_in", "stand_in_for", "quantization", "device"), "-"
) | {"engine": "eager", "model": "tiny", "dataset_key": "-"}


@pytest.fixture(scope="module")
def rows(make_rows: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    made = make_rows(np.arange(20, 420, 20), tokens=6, repetitions=2, noise_ms=0.5, prefill_ms=9.0)
    return made.assign(engine=np.where(made["request_id"] % 2, "eager", "no_cache"))


def of(
    rows: pd.DataFrame, compose: Callable[..., Config], regressor: str, split: SplitName, features: str = ""
) -> Analysis:
    if regressor == "xgboost":
        pytest.importorskip("xgboost")
    features = features or FEATURES.get(regressor, "extended")
    settings = compose(f"regressor={regressor}", f"features={features}", *QUICK.get(regressor, []))
    pipeline = build_pipeline(settings.regressor, settings.features)
    column, held_out = ("engine", "no_cache") if split is SplitName.leave_one_out else (None, None)
    return analyse(rows, pipeline, SplitConfig(split, 0.3, 0, column, held_out), ABOUT, "thesis")


def check(analysis: Analysis, folder: Path) -> None:
    text = json.dumps(analysis.metrics, allow_nan=False)
    assert json.loads(text) == analysis.metrics
    write_predictor(folder, analysis)
    json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
    predictor, test = load_predictor(folder), analysis.predictions
    said = {name: test[name] for name in predictor.spec["inputs"]}
    if analysis.metrics["split"]["name"] == SplitName.leave_one_out:
        with pytest.raises(OutsideError, match=r"engine no_cache \(measured: eager\)"):
            predictor.predict(**said)
        return
    expected = never_quicker(predictor.spec, test, test["predicted_ms"])
    np.testing.assert_allclose(predictor.predict(**said), expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of so small a network
@pytest.mark.parametrize("regressor", REGRESSORS)
def test_for_every_regressor(
    rows: pd.DataFrame, compose: Callable[..., Config], tmp_path: Path, regressor: str
) -> None:
    analysis = of(rows, compose, regressor, SplitName.by_request)
    check(analysis, tmp_path)
    chosen: Any = analysis.metrics["chosen"]
    assert (set(chosen) if chosen else None) == ({"0", "1"} if regressor == "auto" else None)


@pytest.mark.parametrize("split", list(SplitName))
@pytest.mark.parametrize("regressor", ["ridge", "physics", "random_forest"])
def test_for_every_split(
    rows: pd.DataFrame, compose: Callable[..., Config], tmp_path: Path, split: SplitName, regressor: str
) -> None:
    analysis = of(rows, compose, regressor, split, "physics" if regressor == "physics" else "")
    check(analysis, tmp_path)
    assert analysis.metrics["split"]["name"] == split
    splits = set(analysis.metrics["splits"])
    assert splits == {
        "random",
        "by_request",
        "by_prompt",
        "by_time",
        "extrapolate",
        "leave_one_out:engine",
    }
    assert analysis.metrics["calibration"] is not None
    assert analysis.metrics["coverage"]["n_groups"] >= 6

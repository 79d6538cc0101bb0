"""What may be a feature; and every option of features with every regressor that it suits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmlat.config import Config, FeaturesConfig, config_dir
from llmlat.errors import ConfigError
from llmlat.fit.fitting import build_pipeline, features_of, fit, predict
from llmlat.records import FACTS, KNOWN
from llmlat.steps import with_contents

RIDGE = {"_target_": "sklearn.linear_model.Ridge"}
AFTER = [column.name for column in KNOWN.values() if not column.known_before_step]
OPTIONS = sorted(path.stem for path in (config_dir() / "features").glob("*.yaml"))
REGRESSORS = sorted({path.stem for path in (config_dir() / "regressor").glob("*.yaml")} - {"custom"})
BOOSTED = "+regressor.boosted={_target_: llmlat.fit.regressors.BoostedRegressor, max_rounds: 5}"
QUICK = {
    "hybrid": ["regressor.n_folds=2", BOOSTED],
    "auto": ["regressor.cv=2", "~regressor.candidates.hybrid"],
    "hist_gradient_boosting": ["regressor.regressor.max_rounds=5"],
    "random_forest": ["regressor.n_estimators=5"],
    "xgboost": ["regressor.regressor.max_rounds=5"],
}
WANTS = {
    "context_bin": "context_length",
    "last_token": "previous_token_latency_ms",
    "auto": "is_prefill",
    "step": "layer_bytes",
}
"""The column that a regressor asks for by its name."""


@pytest.mark.parametrize("name", AFTER)
@pytest.mark.parametrize("through", ["{0}", "-{0}", "maximum({0}, 1) * 2", "context_length + ({0} == 7)"])
def test_what_is_known_only_after_the_step_is_no_feature_through_a_formula(name: str, through: str) -> None:
    derived = {"hidden": through.format(name), "further": "hidden * 2"}
    for columns in (["context_length", "hidden"], ["further"]):
        with pytest.raises(ConfigError, match=rf"^features\.columns: {name} is known only after the step"):
            build_pipeline(RIDGE, FeaturesConfig(columns, derived))


def test_a_name_is_no_feature_through_a_formula_either() -> None:
    with pytest.raises(ConfigError, match=r"^features\.columns: request_id names what was measured"):
        build_pipeline(RIDGE, FeaturesConfig(["hidden"], {"hidden": "request_id * 2"}))


@pytest.mark.parametrize(
    ("derived", "complaint"),
    [
        ("a.b", "has no place in a formula"),
        ("f + 1", "f needs itself"),
        ("contxt * 2", "a row has no column 'contxt'"),
        ("engine + 1", "cannot be worked out"),
        ("engine", "cannot be worked out"),
    ],
)
def test_a_wrong_formula_is_one_line_before_measuring(derived: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=r"^features\.(derived|columns): ") as caught:
        build_pipeline(RIDGE, FeaturesConfig(["f"], {"f": derived}))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_formula_may_be_infinite_on_made_up_rows(thesis_rows: pd.DataFrame) -> None:
    pipeline = build_pipeline(RIDGE, FeaturesConfig(["e"], {"e": "1 / (context_length - prompt_tokens)"}))
    later = thesis_rows[thesis_rows["token_index"] > 0]
    assert np.isfinite(predict(fit(pipeline, later), later)).all()
    with pytest.raises(ConfigError, match=r"^features\.columns: e is infinite in 15 of 471 rows\.$"):
        fit(pipeline, thesis_rows)
    with pytest.raises(ConfigError, match=r"^features\.columns: e is infinite in 15 of 471 rows\.$"):
        predict(fit(pipeline, later), thesis_rows)


@pytest.fixture(scope="module")
def varied(thesis_rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of two engines and batch sizes, with telemetry that has gaps."""
    rows = thesis_rows.iloc[30:].reset_index(drop=True)
    odd = rows["request_id"] % 2 == 1
    batch = np.where(rows["request_id"] % 3, 1, 4)
    telemetry = {"sm_clock_mhz": np.where(rows.index % 7, 1980.0 - rows.index, np.nan)}
    return rows.assign(
        engine=np.where(odd, "no_cache", "eager"),
        batch_size=batch,
        batch_context_tokens=batch * rows["context_length"],
        padded_context_length=rows["context_length"],
        **dict.fromkeys((column.name for column in FACTS if not column.is_text), 8.0),
        **telemetry,
    ).pipe(with_contents)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("regressor", REGRESSORS)
def test_every_option_is_fitted_by_every_regressor_that_it_suits(
    compose: Callable[..., Config], varied: pd.DataFrame, option: str, regressor: str
) -> None:
    if regressor == "xgboost":
        pytest.importorskip("xgboost")
    settings = compose(f"features={option}", f"regressor={regressor}", *QUICK.get(regressor, []))
    features = settings.features
    if WANTS.get(regressor) not in {None, *features.columns}:
        with pytest.raises(ConfigError, match=WANTS[regressor]):
            build_pipeline(settings.regressor, features)
        return
    fitted = fit(build_pipeline(settings.regressor, features), varied)
    assert np.isfinite(predict(fitted, varied)).all()
    seen: Any = features_of(fitted)
    assert set(seen.left_out_) <= set(features.columns)
    assert set(seen.inputs()) <= set(KNOWN)

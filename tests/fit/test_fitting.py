"""Everything that a config can get wrong about the regressor is found before anything is measured."""

import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from llmlat.config import Config, FeaturesConfig, config_dir
from llmlat.errors import ConfigError
from llmlat.fit.fitting import build_pipeline, fit, input_columns, unconverged
from llmlat.fit.results import Analysis
from llmlat.records import COLUMNS

THESIS = FeaturesConfig(["prompt_tokens", "context_length"])
RIDGE = {"_target_": "sklearn.linear_model.Ridge", "alpha": 1.0}


def test_the_pipeline_holds_the_features_the_scaler_and_the_regressor() -> None:
    pipeline = build_pipeline(RIDGE | {"alpha": 0.25}, THESIS)
    assert input_columns(pipeline) == THESIS.columns
    assert isinstance(pipeline.named_steps["regressor"], Ridge)
    assert pipeline.named_steps["regressor"].alpha == 0.25
    assert pipeline["features"].columns == THESIS.columns
    assert isinstance(pipeline["scaled"], StandardScaler)


def test_fitting_leaves_the_pipeline_unfitted(
    thesis_rows: pd.DataFrame, make_pipeline: Callable[..., Pipeline]
) -> None:
    pipeline = make_pipeline()
    fitted = fit(pipeline, thesis_rows)
    assert fitted is not pipeline
    assert not hasattr(pipeline.named_steps["regressor"], "coef_")
    check_is_fitted(fitted.named_steps["regressor"])


def test_a_fit_that_has_not_converged_is_said_once_in_a_line(
    thesis_rows: pd.DataFrame, make_pipeline: Callable[..., Pipeline], analysed: Callable[..., Analysis]
) -> None:
    network = make_pipeline("neural_network.MLPRegressor", hidden_layer_sizes=[2], max_iter=1)
    analysis = analysed(thesis_rows, network, about={"notices": ["said before"]})
    before, notice = analysis.metrics["notices"]
    assert before == "said before"
    assert re.fullmatch(
        r"The regressor's fit stopped before it had converged \(.*iterations \(1\) .*\): .*max_iter\.",
        notice,
    )
    assert notice == unconverged(analysis.fitted)
    assert unconverged(fit(make_pipeline(), thesis_rows)) is None


class Warns(Ridge):
    def fit(self, X: Any, y: Any) -> "Warns":
        warnings.warn("of another kind", stacklevel=2)
        fitted: Warns = super().fit(X, y)
        return fitted


def test_what_a_fit_warns_of_otherwise_is_handed_on(
    thesis_rows: pd.DataFrame, make_pipeline: Callable[..., Pipeline]
) -> None:
    with pytest.warns(UserWarning, match="of another kind"):
        fit(make_pipeline().set_params(regressor=Warns()), thesis_rows)


def test_a_regressor_that_reads_a_feature_which_is_not_there_is_refused(
    compose: Callable[..., Config],
) -> None:
    with pytest.raises(ConfigError, match=r"^regressor.by=is_prefill: it is none .* regressor.by=null"):
        build_pipeline(compose("regressor=auto").regressor, THESIS)


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_missing_extra_is_named(is_nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    regressor: dict[str, Any] = {"_target_": "xgboost.XGBRegressor"}
    if is_nested:
        regressor = {"_target_": "sklearn.compose.TransformedTargetRegressor", "regressor": regressor}
    with pytest.raises(
        ConfigError, match=r"^regressor\._target_=.*; install it: pip install 'llmlat\[xgboost\]'\.$"
    ):
        build_pipeline(regressor, THESIS)


@pytest.mark.parametrize(
    "regressor",
    [
        {"_target_": "sklearn.linear_model.Rigde"},
        {"_target_": "no_such_module.Ridge"},
        {"_target_": "Ridge"},
        {"_target_": ""},
        {"_target_": "sklearn.linear_model"},  # a module
        {"_target_": "builtins.dict"},
        {"_target_": "sklearn.preprocessing.StandardScaler"},
        {"_target_": "sklearn.linear_model.LogisticRegression"},
        {"_target_": "sklearn.cluster.KMeans"},
        {"_target_": "sklearn.linear_model.Ridge", "_partial_": True},
        {"_target_": "sklearn.linear_model.Ridge", "alhpa": 1.0},
        {"_target_": "sklearn.ensemble.BaggingRegressor", "estimator": {"_target_": "no.such.Thing"}},
        {"alpha": 1.0},
        {},
    ],
    ids=str,
)
def test_what_is_no_regressor_names_the_target(regressor: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^regressor\._target_=") as caught:
        build_pipeline(regressor, THESIS)
    assert "\n" not in str(caught.value)
    assert str(regressor.get("_target_")) in str(caught.value)


def test_the_reason_is_told_in_the_same_line() -> None:
    with pytest.raises(ConfigError, match="Are you sure that 'Rigde' is importable"):
        build_pipeline({"_target_": "sklearn.linear_model.Rigde"}, THESIS)
    with pytest.raises(ConfigError, match="unexpected keyword argument 'alhpa'"):
        build_pipeline({"_target_": "sklearn.linear_model.Ridge", "alhpa": 1.0}, THESIS)


@pytest.mark.parametrize(
    "regressor",
    [
        RIDGE | {"alpha": -1.0},
        RIDGE | {"alpha": "much"},
        RIDGE | {"solver": "magic"},
        {"_target_": "sklearn.ensemble.RandomForestRegressor", "max_depth": "deep"},
        {"_target_": "sklearn.neighbors.KNeighborsRegressor", "n_neighbors": 0},
    ],
    ids=str,
)
def test_a_wrong_value_is_found_by_rehearsing(regressor: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^regressor._target_=.*made-up rows") as caught:
        build_pipeline(regressor, THESIS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "regressor",
    [
        {"_target_": "sklearn.neighbors.KNeighborsRegressor", "n_neighbors": 100},
        {"_target_": "sklearn.neural_network.MLPRegressor", "max_iter": 2},  # warns that it has not converged
        {
            "_target_": "sklearn.ensemble.BaggingRegressor",
            "estimator": {"_target_": "sklearn.linear_model.Ridge", "alpha": 2.0},
        },
    ],
    ids=str,
)
def test_the_rehearsal_refuses_no_regressor_that_works(regressor: dict[str, Any]) -> None:
    assert input_columns(build_pipeline(regressor, THESIS)) == THESIS.columns


@pytest.mark.parametrize("name", [column.name for column in COLUMNS if not column.known_before_step])
def test_a_column_known_only_after_the_step_is_no_feature(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^features\.columns: {name} is known only after the step"):
        build_pipeline(RIDGE, FeaturesConfig(["context_length", name]))


def test_those_columns_are_the_measured_ones() -> None:
    after = {column.name for column in COLUMNS if not column.known_before_step}
    in_process = {"token_latency_ms", "device_latency_ms", "completed_at_ns", "token_id", "flags"}
    assert after == in_process | {"tokens_in_chunk", "first_byte_ms", "cached_prompt_tokens"}


@pytest.mark.parametrize("option", sorted(path.stem for path in (config_dir() / "features").glob("*.yaml")))
def test_every_feature_option_can_be_fitted(
    compose: Callable[..., Config], thesis_rows: pd.DataFrame, option: str
) -> None:
    pipeline = build_pipeline(RIDGE, compose(f"features={option}").features)
    assert np.isfinite(fit(pipeline, thesis_rows).predict(thesis_rows)).all()


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ([], "empty"),
        (["contxt_length"], "no column 'contxt_length'"),
        (["prompt_id"], "prompt_id names what was measured"),
        (["request_id"], "request_id names what was measured"),
        (["context_length", "context_length"], "context_length is named twice"),
    ],
)
def test_what_cannot_be_features(columns: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=rf"^features\.columns: .*{re.escape(complaint)}"):
        build_pipeline(RIDGE, FeaturesConfig(columns))

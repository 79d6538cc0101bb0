"""Every regressor as data: what the file's function says is what the fitted one says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import Lasso, PoissonRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVR
from sklearn.utils import get_tags

from llmlat.config import config_dir
from llmlat.fit.features.table import InTheirUnits
from llmlat.fit.functions import NoFunctionError, function_spec
from llmlat.fit.regressors import StepRegressor
from llmlat.formulas.step_law import COLUMNS
from llmlat.predict.functions import function_of

OPTIONS = sorted(
    path.stem for path in (config_dir() / "regressor").glob("*.yaml") if path.stem not in {"custom", "step"}
)


def rows(n: int = 240, seed: int = 0) -> tuple[pd.DataFrame, Any]:
    drawn = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "context_length": drawn.integers(1, 4000, n).astype(float),
            "is_prefill": (np.arange(n) % 3 == 0).astype(float),
            "previous_token_latency_ms": drawn.uniform(5, 40, n),
        }
    )
    y = 8 + 0.004 * X["context_length"] + 20 * X["is_prefill"] + drawn.gamma(2, 0.3, n)
    return X, y.to_numpy()


def fitted_option(option: str) -> Any:
    config = OmegaConf.create(
        {"regressor": yaml.safe_load((config_dir() / "regressor" / f"{option}.yaml").read_text())}
    )
    settings = OmegaConf.to_container(config, resolve=True)["regressor"]  # type: ignore[index, call-overload]
    regressor = instantiate(settings, _convert_="all")
    wants = get_tags(regressor).input_tags
    scaler = InTheirUnits() if wants.positive_only else StandardScaler().set_output(transform="pandas")
    X, y = rows()
    return make_pipeline(scaler, regressor).fit(X, y)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_function_says_what_the_fitted_regressor_says(option: str) -> None:
    if option == "xgboost":
        pytest.importorskip("xgboost")
    fitted = fitted_option(option)
    function = function_of(json.loads(json.dumps(function_spec(fitted), allow_nan=False)))
    for X, _ in (rows(), rows(seed=1), rows(n=1, seed=2)):
        np.testing.assert_allclose(function(X.to_numpy()), fitted.predict(X), rtol=1e-12)


def test_what_is_missing_goes_where_the_fitted_trees_send_it() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor

    X, y = rows()
    gaps = X.mask(np.random.default_rng(0).random(X.shape) < 0.2)
    for trees in (HistGradientBoostingRegressor(max_iter=20), RandomForestRegressor(n_estimators=5)):
        fitted = trees.fit(gaps.to_numpy(), y)
        function = function_of(function_spec(fitted))
        np.testing.assert_allclose(function(gaps.to_numpy()), fitted.predict(gaps.to_numpy()), rtol=1e-12)


def test_the_law_of_a_step() -> None:
    work = pd.DataFrame(np.random.default_rng(0).uniform(0, 1, (20, len(COLUMNS))), columns=list(COLUMNS))
    fitted = StepRegressor().fit(work[work.columns[::-1]], np.linspace(5, 9, 20))
    function = function_of(json.loads(json.dumps(function_spec(fitted))))
    backwards = work[work.columns[::-1]]
    np.testing.assert_allclose(function(backwards.to_numpy()), fitted.predict(backwards), rtol=1e-14)


def test_lines_of_scikit_learn_are_lines() -> None:
    X, y = rows()
    for line in (Lasso(alpha=0.1), SVR(kernel="linear", C=0.1), PoissonRegressor()):
        scaled = StandardScaler().fit_transform(X)
        fitted = line.fit(scaled, y)
        np.testing.assert_allclose(
            function_of(function_spec(fitted))(scaled), fitted.predict(scaled), rtol=1e-9
        )


@pytest.mark.parametrize(
    "regressor",
    [
        GaussianProcessRegressor(),
        SVR(),
        make_pipeline(PolynomialFeatures(2), Lasso(max_iter=10)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_no_function_says_is_told(regressor: Any) -> None:
    X, y = rows(n=40)
    with pytest.raises(NoFunctionError, match=r"Regressor|SVR|PolynomialFeatures"):
        function_spec(regressor.fit(X.to_numpy(), y))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"kind": "import os"},
        {"kind": "constant", "value": "NaN"},
        {"kind": "constant", "value": None},
        {"kind": "linear", "weights": [1.0, None], "intercept": 0.0},
        {"kind": "times", "factor": 1.0, "offset": 0.0, "of": {"kind": "constant"}},
        {"kind": "bins", "column": 0, "edges": [1.0], "values": [1.0]},
    ],
    ids=str,
)
def test_what_is_no_function_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        function_of(spec)


def test_trees_that_point_outside_are_refused(tmp_path: Path) -> None:
    spec = function_spec(fitted_option("hist_gradient_boosting"))
    trees = spec
    while trees["kind"] != "trees":
        trees = trees["of"]
    trees["left"][0] = 10**9
    with pytest.raises(ValueError, match="do not fit together"):
        function_of(spec)

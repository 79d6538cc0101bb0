"""Predictors of derived features, texts and floors: as the pipeline says, asking for no more than needed."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from known_rows import never_quicker

from llmlat.config import Config
from llmlat.fit.export import write_predictor
from llmlat.fit.fitting import build_pipeline
from llmlat.fit.results import Analysis
from llmlat.predict.predictor import Predictor, load_predictor

ABOUT = dict.fromkeys(
    (
        "llmlat_version",
        "experiment",
        "model",
        "weights",
        "stand_in",
        "stand_in_for",
        "quantization",
        "engine",
        "device",
        "dataset_key",
    ),
    "-",
)
QUICK = {"random_forest": ["regressor.n_estimators=5"]}
pytestmark = pytest.mark.filterwarnings("ignore::llmlat.OutsideWarning")
Written = tuple[Analysis, Predictor, Path]


@pytest.fixture(scope="module")
def plain(make_rows: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Return rows of one engine and batch size, on a floor at short contexts."""
    rows = make_rows(np.arange(12, 640, 40), tokens=12, noise_ms=0.3, prefill_ms=15.0, per_context=0.05)
    return rows.assign(token_latency_ms=np.maximum(rows["token_latency_ms"], 45.0))


@pytest.fixture(scope="module")
def varied(plain: pd.DataFrame) -> pd.DataFrame:
    """Return rows of two engines, three quantizations and two batch sizes."""
    request = plain["request_id"]
    batch = np.where(request % 3, 1, 4)
    return plain.assign(
        engine=np.where(request % 2, "no_cache", "eager"),
        quantization=np.array(["none", "int8", "it's 4-bit"])[request % 3],
        batch_size=batch,
        batch_context_tokens=batch * plain["context_length"],
    )


@pytest.fixture(scope="module")
def write(
    compose: Callable[..., Config],
    analysed: Callable[..., Analysis],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Written]:
    made: dict[tuple[Any, ...], Written] = {}

    def written(rows: pd.DataFrame, features: str, regressor: str) -> Written:
        key = (id(rows), features, regressor)
        if key not in made:
            settings = compose(f"features={features}", f"regressor={regressor}", *QUICK.get(regressor, []))
            analysis = analysed(rows, build_pipeline(settings.regressor, settings.features), about=ABOUT)
            folder = tmp_path_factory.mktemp("run")
            write_predictor(folder, analysis)
            made[key] = analysis, load_predictor(folder), folder
        return made[key]

    return written


KINDS = [
    ("extended", "ridge", "linear"),
    ("physics", "physics", "linear"),
    ("physics", "ridge", "linear"),
    ("thesis", "physics", "linear"),
    ("first_visit", "huber", "linear"),
    ("extended", "random_forest", "function"),
    ("thesis", "context_bin", "function"),
]


@pytest.mark.parametrize(("features", "regressor", "kind"), KINDS)
@pytest.mark.parametrize("which", ["plain", "varied"])
def test_a_file_says_what_the_pipeline_says(
    request: pytest.FixtureRequest,
    write: Callable[..., Written],
    which: str,
    features: str,
    regressor: str,
    kind: str,
) -> None:
    analysis, predictor, folder = write(request.getfixturevalue(which), features, regressor)
    assert json.loads((folder / "predictor.json").read_text(encoding="utf-8"))["kind"] == kind
    test = analysis.predictions
    everything = {name: test[name] for name in predictor.spec["inputs"]}
    expected = never_quicker(predictor.spec, test, test["predicted_ms"])
    np.testing.assert_allclose(predictor.predict(**everything), expected, rtol=1e-12)
    step = test.iloc[3]
    one = predictor.predict(**{name: step[name] for name in predictor.spec["inputs"]})
    assert isinstance(one, float)
    assert one == pytest.approx(expected.iloc[3], rel=1e-12)


@pytest.mark.parametrize("features", ["extended", "physics"])
@pytest.mark.parametrize("regressor", ["ridge", "random_forest"])
def test_lengths_suffice_where_the_rest_was_constant_or_follows(
    plain: pd.DataFrame, write: Callable[..., Written], features: str, regressor: str
) -> None:
    analysis, predictor, _ = write(plain, features, regressor)
    assert set(predictor.inputs) == {"prompt_tokens", "context_length"}
    test = analysis.predictions
    said = {"prompt_tokens": test["prompt_tokens"], "context_length": test["context_length"]}
    expected = never_quicker(predictor.spec, test, test["predicted_ms"])
    np.testing.assert_allclose(predictor.predict(**said), expected, rtol=1e-12)
    assert predictor.estimate(**said).is_inside.mean() > 0.8
    with pytest.raises(TypeError, match=r"takes .*context_length"):
        predictor.predict(prompt_tokens=12)


def test_what_varied_must_be_said_and_what_follows_need_not(
    varied: pd.DataFrame, write: Callable[..., Written]
) -> None:
    analysis, predictor, _ = write(varied, "extended", "ridge")
    assert set(predictor.inputs) == {
        "prompt_tokens",
        "context_length",
        "batch_size",
        "engine",
        "quantization",
    }
    test = analysis.predictions
    said = {name: test[name] for name in predictor.inputs}
    expected = never_quicker(predictor.spec, test, test["predicted_ms"])
    np.testing.assert_allclose(predictor.predict(**said), expected, rtol=1e-12)


def test_the_state_of_the_machine_need_not_be_said(
    plain: pd.DataFrame, write: Callable[..., Written]
) -> None:
    power = np.where(plain.index % 5, 200.0 + plain.index, np.nan)
    _, predictor, _ = write(plain.assign(gpu_power_w=power), "system", "ridge")
    assert set(predictor.inputs) == {"prompt_tokens", "context_length"}
    step = {"prompt_tokens": 50, "context_length": 60}
    usual = predictor.spec["inputs"]["gpu_power_w"]["default"]
    assert predictor.predict(**step) == pytest.approx(predictor.predict(**step, gpu_power_w=usual))
    assert predictor.predict(**step) != predictor.predict(**step, gpu_power_w=usual + 100)


def test_a_floor_is_kept(plain: pd.DataFrame, write: Callable[..., Written]) -> None:
    analysis, predictor, _ = write(plain, "thesis", "physics")
    floor = analysis.metrics["floor_ms"]
    assert floor == pytest.approx(45.0, rel=0.02)
    assert predictor.predict(prompt_tokens=12, context_length=13) == pytest.approx(floor)
    assert "max(" in analysis.metrics["formula"]["per_unit"]


def test_texts_of_any_shape(varied: pd.DataFrame, write: Callable[..., Written]) -> None:
    for regressor in ("ridge", "random_forest"):
        _, predictor, _ = write(varied, "extended", regressor)
        said: dict[str, Any] = {"prompt_tokens": 50, "context_length": 60, "batch_size": 1}
        texts = ["eager", "no_cache", "eager"]
        kinds = [texts, tuple(texts), np.array(texts), pd.Series(texts), np.array(texts, dtype=object)]
        told = [predictor.predict(**said, engine=kind, quantization="it's 4-bit") for kind in kinds]
        for found in told[1:]:
            np.testing.assert_array_equal(found, told[0])
        single = predictor.predict(**said, engine="no_cache", quantization="it's 4-bit")
        assert told[0][1] == pytest.approx(single, rel=1e-12)
        assert told[0][0] != told[0][1] or regressor != "ridge"


@pytest.mark.parametrize(("features", "regressor"), [("physics", "physics"), ("extended", "ridge")])
def test_formulas_need_none_of_their_makers(
    plain: pd.DataFrame, write: Callable[..., Written], features: str, regressor: str
) -> None:
    program = """
import sys
import llmlat
predictor = llmlat.load_predictor(sys.argv[1])
print(predictor.predict(prompt_tokens=100, context_length=130))
print(predictor.estimate(prompt_tokens=100, context_length=130).high_ms)
print(*({"torch", "transformers", "sklearn", "pandas", "scipy", "pyarrow", "hydra"} & set(sys.modules)))
"""
    analysis, predictor, folder = write(plain, features, regressor)
    run = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    latency, high, heavy = run.stdout.splitlines()
    row = plain.iloc[:1].assign(
        **dict.fromkeys(["context_length", "padded_context_length", "batch_context_tokens"], 130),
        prompt_tokens=100,
    )
    assert float(latency) == pytest.approx(analysis.fitted.predict(row)[0], rel=1e-9)
    assert float(high) == predictor.estimate(prompt_tokens=100, context_length=130).high_ms
    assert heavy == ""

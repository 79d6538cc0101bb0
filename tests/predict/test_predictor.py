"""A predictor file says what the fitted pipeline says, loads without its makers, and refuses others."""

import doctest
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from known_rows import never_quicker
from sklearn.pipeline import Pipeline

import llmlat
from llmlat.errors import LlmlatError
from llmlat.files import write_json
from llmlat.fit.export import write_predictor
from llmlat.fit.results import Analysis
from llmlat.predict import predictor as predictor_module
from llmlat.predict.predictor import Predictor, PredictorError, load_predictor

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
NONLINEAR = {
    "forest": ("ensemble.RandomForestRegressor", {"n_estimators": 5, "random_state": 0}),
    "boosting": ("ensemble.HistGradientBoostingRegressor", {"max_iter": 5, "random_state": 0}),
    "poisson": ("linear_model.PoissonRegressor", {}),
}
pytestmark = pytest.mark.filterwarnings("ignore::llmlat.OutsideWarning")
PROMPTS, CONTEXTS = [10, 100, 640, 7], [10, 130, 700, 5000]

Written = tuple[Analysis, Path]


@pytest.fixture(scope="module")
def write(
    thesis_rows: pd.DataFrame,
    analysed: Callable[..., Analysis],
    make_pipeline: Callable[..., Pipeline],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Written]:
    def written(target: str = "linear_model.Ridge", **parameters: Any) -> Written:
        folder = tmp_path_factory.mktemp("run")
        analysis = analysed(thesis_rows.iloc[30:], make_pipeline(target, **parameters), about=ABOUT)
        write_predictor(folder, analysis)
        return analysis, folder

    return written


@pytest.fixture(scope="module")
def ridge(write: Callable[..., Written]) -> Written:
    return write()


@pytest.fixture(scope="module")
def forest(write: Callable[..., Written]) -> Written:
    target, parameters = NONLINEAR["forest"]
    return write(target, **parameters)


def by_pipeline(analysis: Analysis, prompts: Any = PROMPTS, contexts: Any = CONTEXTS) -> np.ndarray:
    asked = pd.DataFrame({"prompt_tokens": prompts, "context_length": contexts})
    is_prefill = asked["context_length"] <= asked["prompt_tokens"]
    fastest = analysis.train.groupby("phase")["token_latency_ms"].min()
    least = np.where(is_prefill, fastest["prefill"], fastest["decode"])
    return np.maximum(analysis.fitted.predict(asked), least)


def asked(predictor: Predictor, kind: Callable[[list[int]], Any]) -> Any:
    return predictor.predict(prompt_tokens=kind(PROMPTS), context_length=kind(CONTEXTS))


KINDS: dict[str, Callable[[list[int]], Any]] = {
    "lists": list,
    "tuples": tuple,
    "int arrays": np.array,
    "int16 arrays": lambda values: np.array(values, dtype=np.int16),
    "float arrays": lambda values: np.array(values, dtype=float),
    "series": pd.Series,
    "series with another index": lambda values: pd.Series(values, index=np.argsort(values)),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
@pytest.mark.parametrize("name", ["ridge", "forest"])
def test_arrays_agree_with_the_fitted_pipeline(
    request: pytest.FixtureRequest, name: str, kind: Callable[[list[int]], Any]
) -> None:
    analysis, folder = request.getfixturevalue(name)
    latency = asked(load_predictor(folder / "predictor.json"), kind)
    assert isinstance(latency, np.ndarray)
    np.testing.assert_allclose(latency, by_pipeline(analysis), rtol=1e-12)


@pytest.mark.parametrize("number", [int, float, np.int32, np.int64, np.float64])
@pytest.mark.parametrize("name", ["ridge", "forest"])
def test_a_step_agrees_with_the_fitted_pipeline(
    request: pytest.FixtureRequest, name: str, number: Callable[[int], Any]
) -> None:
    analysis, folder = request.getfixturevalue(name)
    predictor = load_predictor(folder)
    for prompt, context, expected in zip(PROMPTS, CONTEXTS, by_pipeline(analysis), strict=True):
        latency = predictor.predict(prompt_tokens=number(prompt), context_length=number(context))
        assert isinstance(latency, float)
        assert latency == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["ridge", "forest"])
def test_one_prompt_with_many_contexts_and_grids(request: pytest.FixtureRequest, name: str) -> None:
    analysis, folder = request.getfixturevalue(name)
    predictor = load_predictor(folder)
    along = predictor.predict(prompt_tokens=100, context_length=np.array(CONTEXTS))
    np.testing.assert_allclose(along, by_pipeline(analysis, 100), rtol=1e-12)
    grid = predictor.predict(
        prompt_tokens=np.reshape(PROMPTS, (2, 2)), context_length=np.reshape(CONTEXTS, (2, 2))
    )
    np.testing.assert_allclose(grid, by_pipeline(analysis).reshape(2, 2), rtol=1e-12)


@pytest.mark.parametrize(("target", "parameters"), NONLINEAR.values(), ids=list(NONLINEAR))
def test_any_other_regressor_is_whole_in_its_file_too(
    write: Callable[..., Written], target: str, parameters: dict[str, Any]
) -> None:
    analysis, folder = write(target, **parameters)
    spec = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
    assert (spec["kind"], spec["formula"]) == ("function", None)
    assert [path.name for path in folder.iterdir()] == ["predictor.json"]
    np.testing.assert_allclose(asked(load_predictor(folder), list), by_pipeline(analysis), rtol=1e-12)


def test_a_yes_or_no_feature(
    make_pipeline: Callable[..., Pipeline],
    analysed: Callable[..., Analysis],
    thesis_rows: pd.DataFrame,
    tmp_path: Path,
) -> None:
    pipeline = make_pipeline(columns=["context_length", "first_visit"])
    analysis = analysed(thesis_rows, pipeline, about=ABOUT)
    write_predictor(tmp_path, analysis)
    predictor = load_predictor(tmp_path)
    test = analysis.predictions
    latency = predictor.predict(context_length=test["context_length"], first_visit=test["first_visit"])
    expected = never_quicker(predictor.spec, test, test["predicted_ms"])
    np.testing.assert_allclose(latency, expected, rtol=1e-12)
    step = test.iloc[0]
    one = predictor.predict(context_length=int(step["context_length"]), first_visit=bool(step["first_visit"]))
    assert one == pytest.approx(expected.iloc[0], rel=1e-12)


def test_a_linear_predictor_is_whole_in_its_file(ridge: Written) -> None:
    analysis, folder = ridge
    assert [path.name for path in folder.iterdir()] == ["predictor.json"]
    spec = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
    assert spec["kind"] == "linear"
    assert spec["formula"] == analysis.metrics["formula"]
    assert spec["tested"]["mae_ms"] == analysis.metrics["mae_ms"]
    seen = analysis.train["context_length"]
    context = spec["inputs"]["context_length"]
    assert (context["from"], context["to"], context["default"]) == (seen.min(), seen.max(), None)


def test_a_linear_predictor_needs_none_of_its_makers(ridge: Written) -> None:
    program = """
import sys
import llmlat
predictor = llmlat.load_predictor(sys.argv[1])
print(predictor.predict(prompt_tokens=100, context_length=130))
heavy = {"torch", "transformers", "sklearn", "pandas", "scipy", "pyarrow", "hydra", "omegaconf"}
print(*({"numpy", *heavy} & set(sys.modules)))
predictor.predict(prompt_tokens=[100, 101], context_length=[130, 131])
print(*(heavy & set(sys.modules)))
"""
    analysis, folder = ridge
    run = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True, cwd=folder
    )
    latency, *heavy = run.stdout.splitlines()
    assert float(latency) == pytest.approx(by_pipeline(analysis, [100], [130])[0], rel=1e-12)
    assert heavy == ["", ""]


@pytest.mark.parametrize(
    "features",
    [
        {},
        {"prompt_tokens": 3},
        {"prompt_tokens": 3, "context": 4},
        {"prompt_tokens": 3, "context_length": 4, "token_index": 1},
        {"prompt_tokens": None, "context_length": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["ridge", "forest"])
def test_wrong_features_are_a_type_error(
    request: pytest.FixtureRequest, name: str, features: dict[str, Any]
) -> None:
    predictor = load_predictor(request.getfixturevalue(name)[1])
    with pytest.raises(TypeError, match=r"^predict\(\) takes"):
        predictor.predict(**features)
    with pytest.raises(TypeError):
        predictor.predict(3, 4)  # type: ignore[call-arg]


LINEAR = {
    "format": 3,
    "kind": "linear",
    "inputs": {"a": {"from": 0.0, "to": 1.0, "default": None}},
    "features": {"a": {"per_unit_ms": 1.0}},
    "intercept_per_unit_ms": 1.0,
}
FOREIGN = {
    "not JSON": "latency = 3",
    "not text": b"\xff\xfe\x00\x01",
    "a list": [1, 2],
    "another's": {"name": "something"},
    "an older format": LINEAR | {"format": 1},
    "a newer format": LINEAR | {"format": 4},
    "no inputs": {k: v for k, v in LINEAR.items() if k != "inputs"},
    "an input as a number": LINEAR | {"inputs": {"a": 1}},
    "a formula that is none": LINEAR | {"features": {"a": {"per_unit_ms": 1.0, "formula": "a.b"}}},
    "a formula that needs itself": LINEAR | {"derived": {"a": "a + 1"}},
    "an unknown kind": LINEAR | {"kind": "tree"},
    "no features": {k: v for k, v in LINEAR.items() if k != "features"},
    "features as a list": LINEAR | {"features": ["a"]},
    "no weight": LINEAR | {"features": {"a": {}}},
    "no intercept": LINEAR | {"intercept_per_unit_ms": None},
    "no function": LINEAR | {"kind": "function"},
    "a function that is none": LINEAR | {"kind": "function", "function": {"kind": "eval"}},
    "a weight that is no number": LINEAR | {"features": {"a": {"per_unit_ms": float("nan")}}},
    "an intercept without end": LINEAR | {"intercept_per_unit_ms": 1e999},
}


def test_these_are_foreign_for_what_they_are_named_after(tmp_path: Path) -> None:
    (tmp_path / "predictor.json").write_text(json.dumps(LINEAR))
    assert load_predictor(tmp_path).predict(a=2.0) == 3.0


@pytest.mark.parametrize("content", FOREIGN.values(), ids=list(FOREIGN))
def test_what_is_no_predictor(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "predictor.json"
    raw = (
        content
        if isinstance(content, str)
        else json.dumps(content)
        if not isinstance(content, bytes)
        else content
    )
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    with pytest.raises(PredictorError, match=r"predictor\.json: ") as caught:
        load_predictor(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["missing.json", "."])
def test_a_missing_file(tmp_path: Path, path: str) -> None:
    with pytest.raises(PredictorError, match=r"name a run folder or its predictor\.json"):
        load_predictor(tmp_path / path)
    assert issubclass(PredictorError, LlmlatError)


@pytest.mark.parametrize("name", ["ridge", "forest"])
def test_a_pickle_beside_the_file_is_never_loaded(
    request: pytest.FixtureRequest, name: str, tmp_path: Path
) -> None:
    spec = json.loads((request.getfixturevalue(name)[1] / "predictor.json").read_text(encoding="utf-8"))
    evil = tmp_path / "ran"
    (tmp_path / "predictor.joblib").write_bytes(pickle.dumps(_Touch(evil)))
    written = {**spec, "pipeline": {"file": "predictor.joblib"}}
    write_json(tmp_path / "predictor.json", written)
    asked(load_predictor(tmp_path), list)
    write_json(tmp_path / "predictor.json", {**written, "format": 2, "kind": "pipeline"})
    with pytest.raises(PredictorError, match="format 2 is not 3; fit again"):
        load_predictor(tmp_path)
    assert not evil.exists()


def test_the_predicting_part_cannot_unpickle() -> None:
    sources = [
        path.read_text(encoding="utf-8") for path in Path(predictor_module.__file__).parent.rglob("*.py")
    ]
    assert not any(re.search(r"\bimport (pickle|joblib|marshal|shelve)\b", source) for source in sources)


class _Touch:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["ridge", "forest"])
def test_a_predictor_can_be_sent_to_another_process(request: pytest.FixtureRequest, name: str) -> None:
    predictor = load_predictor(request.getfixturevalue(name)[1])
    again = pickle.loads(pickle.dumps(predictor))
    assert asked(again, np.array).tolist() == asked(predictor, np.array).tolist()


@pytest.mark.parametrize("name", ["ridge", "forest"])
def test_a_frame_is_answered_with_its_index(request: pytest.FixtureRequest, name: str) -> None:
    analysis, folder = request.getfixturevalue(name)
    frame = pd.DataFrame(
        {"note": "x", "prompt_tokens": PROMPTS, "context_length": CONTEXTS}, index=list("dcba")
    )
    latency = load_predictor(folder).predict(frame)
    assert latency.index.tolist() == list("dcba")
    np.testing.assert_allclose(latency, by_pipeline(analysis), rtol=1e-12)


def test_names_that_are_no_identifiers_are_asked_by_a_mapping() -> None:
    predictor = Predictor.linear({"GPU type": 1.0, "self": 2.0, "level": 4.0}, intercept_ms=0.5)
    assert predictor.predict({"GPU type": 1, "self": 1, "level": 1}) == 7.5
    assert predictor.predict({"GPU type": 1}, self=1, level=1) == 7.5
    with pytest.raises(TypeError, match="by name"):
        predictor.predict(7)


def test_a_regressor_without_a_function_leaves_no_file(
    write: Callable[..., Written], caplog: pytest.LogCaptureFixture
) -> None:
    _, folder = write("gaussian_process.GaussianProcessRegressor", alpha=1.0)
    assert not (folder / "predictor.json").exists()
    assert "predictor.json holds no GaussianProcessRegressor" in caplog.text


def test_the_examples_in_the_docstrings_run() -> None:
    results = doctest.testmod(predictor_module)
    assert results.attempted >= 3
    assert results.failed == 0


def test_it_is_what_the_package_exports(ridge: Written) -> None:
    predictor = llmlat.load_predictor(str(ridge[1]))
    assert isinstance(predictor, llmlat.Predictor)
    assert repr(predictor) == "Predictor(prompt_tokens, context_length)"
    assert predictor.inputs == ("prompt_tokens", "context_length")

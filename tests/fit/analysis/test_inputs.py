"""What a regressor makes of its inputs: its coefficients where it is linear, and nothing that cannot be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from llmlat.config import FeaturesConfig, SplitName
from llmlat.fit.analysis import inputs as inputs_module
from llmlat.fit.analysis.effects import effects_by_cell
from llmlat.fit.analysis.inputs import along_context, average_effects, shuffled
from llmlat.fit.coefficients import coefficient_table
from llmlat.fit.fitting import build_pipeline, fit, predict
from llmlat.fit.results import Analysis

MakeRows = Callable[..., pd.DataFrame]
MakePipeline = Callable[..., Pipeline]
LENGTHS = np.linspace(12, 640, 15).astype(int)
RIDGE = {"_target_": "sklearn.linear_model.Ridge"}


@pytest.fixture(scope="module")
def rows(make_rows: MakeRows) -> pd.DataFrame:
    terms = {"noise_ms": 0.2, "per_context": 0.05, "per_prompt": -0.01, "prefill_ms": 5.0}
    made = make_rows(LENGTHS, tokens=20, repetitions=3, **terms)
    batch = 1 + made["repetition"]
    return made.assign(
        batch_size=batch,
        batch_context_tokens=batch * made["context_length"],
        token_latency_ms=made["token_latency_ms"] + 2.0 * batch,
    )


@pytest.fixture(scope="module")
def alone(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows, as if of one sequence each."""
    return rows.assign(batch_size=1, batch_context_tokens=rows["context_length"])


@pytest.mark.parametrize("target", ["linear_model.Ridge", "linear_model.LinearRegression"])
@pytest.mark.parametrize(
    "columns",
    [["prompt_tokens", "context_length"], ["context_length", "batch_size"], ["batch_size"]],
    ids=str,
)
def test_average_effects_are_the_coefficients_of_what_is_linear(
    rows: pd.DataFrame, make_pipeline: MakePipeline, target: str, columns: list[str]
) -> None:
    fitted = fit(make_pipeline(target, columns), rows)
    effects, coefficients = average_effects(fitted, rows), coefficient_table(fitted)["coefficients"]
    assert set(effects) == set(coefficients)
    for name, effect in effects.items():
        for key in ("scaled_ms", "per_unit_ms", "relative_impact"):
            assert effect[key] == pytest.approx(coefficients[name][key], rel=1e-9), (name, key)


@pytest.mark.parametrize("target", ["ensemble.RandomForestRegressor", "linear_model.Ridge"])
def test_relative_impacts_are_shares(rows: pd.DataFrame, make_pipeline: MakePipeline, target: str) -> None:
    fitted = fit(make_pipeline(target, ["prompt_tokens", "context_length", "batch_size"]), rows)
    effects = average_effects(fitted, rows)
    assert sum(effect["relative_impact"] for effect in effects.values()) == pytest.approx(1.0)
    assert all(0 <= effect["relative_impact"] <= 1 for effect in effects.values())


def test_effects_of_trees_have_the_size_of_what_they_learnt(
    rows: pd.DataFrame, make_pipeline: MakePipeline
) -> None:
    forest = make_pipeline("ensemble.RandomForestRegressor", ["context_length", "batch_size"], random_state=0)
    effects = average_effects(fit(forest, rows), rows)
    assert effects["batch_size"]["per_unit_ms"] == pytest.approx(2.0, rel=0.3)
    assert effects["context_length"]["per_unit_ms"] == pytest.approx(0.04, rel=0.3)


def test_a_yes_or_no_has_an_effect_on_trees(rows: pd.DataFrame, make_pipeline: MakePipeline) -> None:
    dear = rows.assign(token_latency_ms=rows["token_latency_ms"] + 30.0 * rows["first_visit"])
    tree = make_pipeline("tree.DecisionTreeRegressor", ["context_length", "first_visit"], random_state=0)
    effect = average_effects(fit(tree, dear), dear)["first_visit"]
    assert effect["per_unit_ms"] == pytest.approx(30.0, rel=0.3)


def test_an_effect_of_all_tokens_of_a_batch_is_per_such_token(
    rows: pd.DataFrame, make_pipeline: MakePipeline
) -> None:
    fitted = fit(make_pipeline(columns=["batch_context_tokens"]), rows)
    expected = coefficient_table(fitted)["coefficients"]["batch_context_tokens"]
    effect = average_effects(fitted, rows)["batch_context_tokens"]
    assert effect["per_unit_ms"] == pytest.approx(expected["per_unit_ms"])
    assert effect["scaled_ms"] == pytest.approx(expected["scaled_ms"])


def test_an_effect_goes_through_the_formulas(rows: pd.DataFrame) -> None:
    features = FeaturesConfig(["hundreds"], {"hundreds": "context_length / 100"})
    fitted = fit(build_pipeline(RIDGE, features), rows)
    per_hundred = coefficient_table(fitted)["coefficients"]["hundreds"]["per_unit_ms"]
    assert average_effects(fitted, rows)["context_length"]["per_unit_ms"] == pytest.approx(per_hundred / 100)


def test_what_does_not_vary_or_is_missing_has_no_effect(rows: pd.DataFrame) -> None:
    features = FeaturesConfig(["context_length", "num_beams", "gpu_power_w", "engine"])
    assert set(average_effects(fit(build_pipeline(RIDGE, features), rows), rows)) == {"context_length"}


def test_a_constant_prediction_has_effects_of_zero(rows: pd.DataFrame, make_pipeline: MakePipeline) -> None:
    effects = average_effects(fit(make_pipeline("dummy.DummyRegressor"), rows), rows)
    assert {(e["scaled_ms"], e["relative_impact"]) for e in effects.values()} == {(0.0, 0.0)}


def held_out(fitted: Pipeline, rows: pd.DataFrame) -> dict[str, Any]:
    return shuffled([(fitted, rows.assign(predicted_ms=predict(fitted, rows)))])


@pytest.mark.parametrize("target", ["linear_model.Ridge", "ensemble.RandomForestRegressor"])
def test_importance_is_that_of_the_inputs_that_are_used(
    rows: pd.DataFrame, make_pipeline: MakePipeline, target: str
) -> None:
    unrelated = rows.assign(temperature=np.random.default_rng(0).permutation(np.arange(len(rows)) / 100))
    columns = ["context_length", "batch_size", "temperature", "num_beams"]
    test = unrelated["request_id"] % 4 == 0
    found = held_out(fit(make_pipeline(target, columns), unrelated[~test]), unrelated[test])
    assert set(found) == {"context length", "batch", "decoding"}
    assert found["decoding"]["inputs"] == ["temperature"]
    assert found["context length"]["low_ms"] > 3 > found["batch"]["mae_ms_more"] > 0.5
    assert abs(found["decoding"]["mae_ms_more"]) < 0.1
    for worth in found.values():
        assert worth["low_ms"] <= worth["mae_ms_more"] <= worth["high_ms"]


def test_inputs_that_say_the_same_are_shuffled_together(
    rows: pd.DataFrame, make_pipeline: MakePipeline
) -> None:
    same = rows.assign(padded_context_length=rows["context_length"])
    alone = held_out(fit(make_pipeline(columns=["context_length"]), same), same)
    both = held_out(fit(make_pipeline(columns=["context_length", "padded_context_length"]), same), same)
    assert both["context length"]["inputs"] == ["context_length", "padded_context_length"]
    assert both["context length"]["mae_ms_more"] == pytest.approx(
        alone["context length"]["mae_ms_more"], rel=0.2
    )


def test_only_rows_that_can_exist_are_asked_about(
    make_rows: Callable[..., pd.DataFrame], make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(np.linspace(64, 4096, 30).astype(int), tokens=32, noise_ms=0.1, prefill_ms=40.0)
    columns = ["prompt_tokens", "context_length", "batch_size", "batch_context_tokens"]
    rows["batch_size"] = 1 + rows["request_id"] % 3
    rows["batch_context_tokens"] = rows["batch_size"] * rows["context_length"]
    fitted = fit(make_pipeline(columns=columns), rows)
    asked: list[pd.DataFrame] = []
    plain = inputs_module.predict
    monkeypatch.setattr(
        inputs_module, "predict", lambda fitted, frame: asked.append(frame) or plain(fitted, frame)
    )
    average_effects(fitted, rows)
    shuffled([(fitted, rows.assign(predicted_ms=plain(fitted, rows)))])
    along_context(fitted, rows)
    together = pd.concat(asked)
    place = together["context_length"] - together["prompt_tokens"]
    assert place.between(0, 31).all(), "no context ends before its prompt, or later than any was measured"
    tokens = together["batch_size"] * together["context_length"]
    np.testing.assert_allclose(together["batch_context_tokens"], tokens)
    assert (together["prompt_tokens"] > 0).all()


@pytest.mark.parametrize("target", ["linear_model.Ridge", "ensemble.RandomForestRegressor"])
def test_what_costs_a_first_token_only_is_worth_nothing_later(
    make_rows: Callable[..., pd.DataFrame], make_pipeline: MakePipeline, target: str
) -> None:
    rows = make_rows(np.linspace(64, 4096, 30).astype(int), tokens=32, noise_ms=0.1, per_context=0.0)
    rows["token_latency_ms"] += 0.1 * rows["prompt_tokens"] * (rows["phase"] == "prefill")
    decode = rows[rows["phase"] == "decode"].reset_index(drop=True)
    found = held_out(fit(make_pipeline(target), decode), decode)
    assert all(abs(worth["mae_ms_more"]) < 0.1 for worth in found.values())


def test_along_the_context_nothing_impossible_is_asked(
    rows: pd.DataFrame, make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = fit(make_pipeline(columns=["prompt_tokens", "context_length", "batch_context_tokens"]), rows)
    asked: list[pd.DataFrame] = []
    plain = inputs_module.predict

    def spying(pipeline: Pipeline, frame: pd.DataFrame) -> Any:
        asked.append(frame)
        return plain(pipeline, frame)

    monkeypatch.setattr(inputs_module, "predict", spying)
    curves = along_context(fitted, rows)
    assert [curve["batch_size"] for curve in curves] == [1, 2, 3]
    together = pd.concat(asked)
    assert (together["prompt_tokens"] < together["context_length"]).all()
    assert (together["prompt_tokens"] >= 0).all()
    assert (together["prompt_tokens"] + together["token_index"] == together["context_length"]).all()
    expected = together["context_length"] * together["batch_size"] * together["num_beams"]
    np.testing.assert_array_equal(together["batch_context_tokens"], expected)
    np.testing.assert_array_equal(together["padded_context_length"], together["context_length"])
    decode = rows.loc[rows["phase"] == "decode", "context_length"]
    for curve in curves:
        assert curve["context_length"][0] == round(decode.quantile(0.05))
        assert curve["context_length"][-1] == round(decode.quantile(0.95))
        assert set(together["context_length"]) == set(curve["context_length"])


def test_along_the_context_it_rises_as_the_rows_do(alone: pd.DataFrame, make_pipeline: MakePipeline) -> None:
    (curve,) = along_context(fit(make_pipeline(columns=["context_length"]), alone), alone)
    slope = np.polyfit(curve["context_length"], curve["predicted_ms"], 1)[0]
    assert slope == pytest.approx(0.04, rel=0.1)
    assert (curve["model"], curve["quantization"], curve["engine"]) == ("tiny", "none", "eager")
    assert along_context(fit(make_pipeline(columns=["prompt_tokens"]), alone), alone) == []


def test_effects_are_of_the_training_rows(
    rows: pd.DataFrame, analysed: Callable[..., Analysis], make_pipeline: MakePipeline
) -> None:
    tree = make_pipeline("tree.DecisionTreeRegressor", random_state=0)
    analysis = analysed(rows, tree, split=SplitName.extrapolate, test_size=0.4)
    assert analysis.metrics["average_effects"] == average_effects(analysis.fitted, analysis.train)


def test_each_cell_has_its_curve_and_its_effects(
    alone: pd.DataFrame, analysed: Callable[..., Analysis], make_pipeline: MakePipeline
) -> None:
    several = pd.concat([alone, alone.assign(request_id=alone["request_id"] + 100)], ignore_index=True)
    second = several["request_id"] >= 100
    several = several.assign(
        quantization=np.where(second, "nf4", "none"),
        token_latency_ms=several["token_latency_ms"] + 0.03 * several["context_length"] * second,
    )
    pipeline = make_pipeline("ensemble.RandomForestRegressor", ["context_length"], n_estimators=5)
    metrics = analysed(several, pipeline, split=SplitName.by_request).metrics
    assert [cell["quantization"] for cell in metrics["effects"]] == ["none", "nf4"]
    for cell, per_token in zip(metrics["effects"], (0.05, 0.08), strict=True):
        value, low, high = cell["context_length"]
        assert value == pytest.approx(1000 * per_token, rel=0.1)
        assert low < value < high
        assert cell["n_requests"] == 45
    assert [curve["quantization"] for curve in metrics["along_context"]] == ["none", "nf4"]


def test_batches_of_other_sizes_are_not_mixed(alone: pd.DataFrame, make_pipeline: MakePipeline) -> None:
    """A batch of eight reads eight contexts: one slope over both sizes would be nobody's."""
    eight = alone.assign(
        request_id=alone["request_id"] + 100,
        batch_size=8,
        batch_context_tokens=8 * alone["context_length"],
        token_latency_ms=alone["token_latency_ms"] + 0.35 * alone["context_length"],
    )
    both = pd.concat([eight, alone], ignore_index=True)
    told = {cell["batch_size"]: cell["context_length"][0] for cell in effects_by_cell(both)}
    assert list(told) == [1, 8]
    assert told[8] - told[1] == pytest.approx(350, rel=0.01)
    curves = along_context(fit(make_pipeline(columns=["batch_context_tokens"]), both), both)
    one, of_eight = (np.ptp(curve["predicted_ms"]) for curve in curves)
    assert of_eight == pytest.approx(8 * one, rel=0.05)


def test_of_many_cells_the_largest_are_told(alone: pd.DataFrame) -> None:
    many = pd.concat([alone.iloc[: 100 + size].assign(batch_size=size) for size in range(1, 30)])
    assert [cell["batch_size"] for cell in effects_by_cell(many)] == list(range(18, 30))

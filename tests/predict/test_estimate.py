"""An estimate: its interval inside, wider outside, refused or infinite where nothing is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from known_rows import never_quicker

from llmlat.config import FeaturesConfig, SplitName
from llmlat.errors import LlmlatError
from llmlat.fit.export import write_predictor
from llmlat.fit.fitting import build_pipeline
from llmlat.predict.predictor import OutsideError, Predictor, PredictorError, load_predictor

INPUTS = {
    "prompt_tokens": {"from": 10.0, "to": 110.0, "default": None},
    "context_length": {"from": 10.0, "to": 210.0, "default": None},
    "engine": {"values": ["eager", "no_cache"], "default": None},
    "batch_size": {"from": 1.0, "to": 1.0, "default": 1.0},
}
COORDINATES = ("prompt_tokens", "context_length", "batch_size")
MEASURED: dict[str, Any] = {
    "fastest_ms": 0.5,
    "from": [10.0, 10.0, 1.0],
    "to": [110.0, 210.0, 1.0],
    "slack": 0.0,
    "most": [],
    "least": [],
}
DOMAIN: dict[str, Any] = {
    "phase": "context_length <= prompt_tokens",
    "coordinates": {name: name for name in COORDINATES},
    "together": {},
    "along": ["context_length"],
    "leverage_with": [],
    "phases": {"prefill": MEASURED, "decode": MEASURED},
}


def band(level: float | None, median: float | None = 0.0, high: float | None = None) -> dict[str, Any]:
    return {"levels": {"0.9": level}, "quantiles": {"0.5": median, "0.9": level, "0.99": high}}


def predictor(beyond: dict[str, Any] | None = None, **phases: dict[str, Any]) -> Predictor:
    """Return 10 ms + 0.1 ms a token of context, off by 10 % (decode) or 50 % (prefill) at most in 90 %."""
    by_phase = {"decode": band(0.1, 0.01, 0.3), "prefill": band(0.5)} | phases
    spec = {
        "inputs": INPUTS,
        "features": {"context_length": {"per_unit_ms": 0.1}},
        "intercept_per_unit_ms": 10.0,
        "calibration": {"least_ms": 1.0, "by_phase": by_phase, "beyond": beyond},
        "domain": DOMAIN,
    }
    return Predictor({"kind": "linear", **spec})


STEP: dict[str, Any] = {"prompt_tokens": 50, "context_length": 100, "engine": "eager"}


def test_inside_it_is_the_band_of_its_phase() -> None:
    later = predictor().estimate(**STEP)
    assert (later.ms, later.low_ms, later.high_ms) == pytest.approx((20.0, 18.0, 22.0))
    assert (later.p50_ms, later.p90_ms, later.p99_ms) == pytest.approx((20.2, 22.0, 26.0))
    assert (later.level, later.is_inside, later.outside) == (0.9, True, ())
    assert {type(getattr(later, name)) for name in ("ms", "low_ms", "high_ms", "p99_ms")} == {float}
    assert type(later.is_inside) is bool
    first = predictor().estimate(**{**STEP, "context_length": 50})
    assert (first.low_ms, first.high_ms, first.p99_ms) == pytest.approx((7.5, 22.5, np.inf))


def test_arrays_are_as_single_steps() -> None:
    asked = predictor(band(0.2, 0.05))
    contexts = np.array([[50, 100], [210, 410]])
    together = asked.estimate(**{**STEP, "context_length": contexts})
    assert together.ms.shape == together.is_inside.shape == (2, 2)
    for place in np.ndindex(2, 2):
        one = asked.estimate(**{**STEP, "context_length": contexts[place]})
        for name in ("ms", "low_ms", "high_ms", "p50_ms", "p90_ms", "p99_ms", "is_inside"):
            assert getattr(together, name)[place] == pytest.approx(getattr(one, name)), name
    assert together.is_inside.tolist() == [[True, True], [True, False]]
    assert together.outside == ("context_length 410 (measured: 10 to 210)",)


def test_outside_it_widens_the_further_out() -> None:
    asked = predictor(band(0.2))
    shares = []
    for context in (210, 211, 310, 410):
        found = asked.estimate(**{**STEP, "context_length": context})
        shares.append((found.high_ms - found.ms) / found.ms)
        assert found.low_ms == pytest.approx(max(0.0, 2 * found.ms - found.high_ms))
        assert found.is_inside == (context <= 210)
    assert shares == pytest.approx([0.1, 0.2 * 1.005, 0.3, 0.4])


def test_outside_is_never_known_better_than_inside() -> None:
    found = predictor(band(0.01)).estimate(**{**STEP, "context_length": 211})
    assert found.high_ms - found.ms > 0.1 * found.ms


@pytest.mark.parametrize(
    "changes",
    [{"engine": "compiled"}, {"batch_size": 2}, {"engine": ["compiled"]}],
    ids=str,
)
def test_where_nothing_like_it_was_measured_it_is_infinite(changes: dict[str, Any]) -> None:
    for beyond in (band(0.2), band(0.0), None):
        found = predictor(beyond).estimate(**{**STEP, **changes})
        assert np.all(found.high_ms == np.inf)
        assert np.all(found.low_ms == 0.0)
        assert not np.any(found.is_inside)
        assert np.all(np.isfinite(found.ms))


@pytest.mark.parametrize("beyond", [None, band(0.2), band(None, None)])
def test_what_too_few_groups_do_not_tell_is_infinite(beyond: dict[str, Any] | None) -> None:
    asked = predictor(beyond, decode=band(None, None))
    for context in (100, 400):
        found = asked.estimate(**{**STEP, "context_length": context})
        assert (found.low_ms, found.high_ms) == (0.0, np.inf)
        assert (found.p50_ms, found.p90_ms, found.p99_ms) == (np.inf,) * 3


def test_no_interval_reaches_below_zero_and_a_prediction_there_is_not_known() -> None:
    wide = predictor(decode=band(3.0, -2.0)).estimate(**STEP)
    assert (wide.low_ms, wide.p50_ms) == (0.0, 0.0)
    below = predictor(band(0.1)).estimate(**{**STEP, "context_length": -200})
    assert below.ms == 0.5, "the fastest step that was measured"
    assert (below.low_ms, below.high_ms) == (0.0, np.inf)


def test_what_follows_from_others_is_named_where_it_alone_lies_outside() -> None:
    follows = {"formula": "context_length", "constants": {}}
    spec = predictor(band(0.2)).spec
    inputs = {**INPUTS, "padded_context_length": {"from": 10.0, "to": 210.0, "default": follows}}
    measured = {**MEASURED, "from": [*MEASURED["from"], 10.0], "to": [*MEASURED["to"], 210.0]}
    domain = {
        **DOMAIN,
        "coordinates": {**DOMAIN["coordinates"], "padded_context_length": "padded_context_length"},
        "phases": {"decode": measured},
    }
    asked = Predictor({**spec, "inputs": inputs, "domain": domain})
    assert asked.estimate(**{**STEP, "context_length": 410}).outside == (
        "context_length 410 (measured: 10 to 210)",
    )
    with pytest.raises(OutsideError, match="padded_context_length 410 "):
        asked.estimate(**STEP, padded_context_length=410, outside="refuse")


def test_it_refuses_what_lies_outside_with_input_and_range() -> None:
    asked = predictor(band(0.2))
    assert asked.estimate(**STEP, outside="refuse").is_inside
    with pytest.raises(OutsideError) as caught:
        asked.estimate(prompt_tokens=[50, 5], context_length=[100, 900], engine="compiled", outside="refuse")
    assert str(caught.value) == (
        "outside of what was measured: prompt_tokens 5 (measured: 10 to 110); context_length 900 (measured: "
        "10 to 210); engine compiled (measured: eager, no_cache)."
    )
    assert isinstance(caught.value, LlmlatError)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"level": 0.7}, r"^estimate: level=0\.7: it holds intervals of 0\.9"),
        ({"outside": "ignore"}, r"^estimate: outside=ignore: use widen or refuse"),
    ],
)
def test_what_it_does_not_hold_is_one_line(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PredictorError, match=complaint):
        predictor(band(0.2)).estimate(**STEP, **options)


def test_without_intervals_it_says_why() -> None:
    asked = predictor()
    asked.spec["calibration"] = None  # type: ignore[index]
    asked.spec["calibration_reason"] = "1 training requests are too few to hold folds out of"  # type: ignore[index]
    with pytest.raises(
        PredictorError, match=r"^estimate: it holds no intervals \(1 training requests are too"
    ):
        asked.estimate(**STEP)
    with pytest.raises(
        TypeError, match=r"takes prompt_tokens, context_length, engine \(and may be told batch"
    ):
        asked.estimate(prompt_tokens=3)


@pytest.mark.parametrize("target", ["sklearn.linear_model.Ridge", "sklearn.tree.DecisionTreeRegressor"])
def test_estimates_of_a_run_hold_what_its_coverage_says(
    make_rows: Callable[..., pd.DataFrame], analysed: Callable[..., Any], tmp_path: Any, target: str
) -> None:
    rows = make_rows(np.arange(20, 820, 20), tokens=8, noise_ms=1.0, prefill_ms=20.0)
    pipeline = build_pipeline({"_target_": target}, FeaturesConfig(["prompt_tokens", "context_length"]))
    about = dict.fromkeys(
        ("llmlat_version", "experiment", "weights", "stand_in", "stand_in_for", "quantization", "device"), "-"
    )
    analysis = analysed(rows, pipeline, split=SplitName.by_request, about={**about, "dataset_key": "-"})
    write_predictor(tmp_path, analysis)
    asked, test = load_predictor(tmp_path), analysis.predictions
    found = asked.estimate(prompt_tokens=test["prompt_tokens"], context_length=test["context_length"])
    expected = never_quicker(asked.spec, test, test["predicted_ms"])
    np.testing.assert_allclose(found.ms, expected, rtol=1e-12)
    measured = test["token_latency_ms"].to_numpy()
    held = (found.low_ms <= measured) & (measured <= found.high_ms)
    inside = found.is_inside
    assert inside.sum() > 0.8 * len(test)
    half = analysis.calibration.half_widths(test, expected.to_numpy(), 0.9)
    np.testing.assert_allclose((found.high_ms - found.ms)[inside], half[inside])
    assert held[inside].mean() > 0.75

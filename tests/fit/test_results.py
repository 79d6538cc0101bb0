"""The whole analysis: the thesis's counts, no leak from test to fit, and JSON whatever the rows look like."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from llmlat.config import SplitName
from llmlat.errors import ConfigError, DatasetError
from llmlat.fit.coefficients import coefficient_table
from llmlat.fit.evaluate import error_block
from llmlat.fit.export import predictor_spec
from llmlat.fit.fitting import fit
from llmlat.fit.results import Analysis

MakeRows = Callable[..., pd.DataFrame]
Analyse = Callable[..., Analysis]
LENGTHS = np.linspace(12, 640, 15).astype(int)
SPLITS = [name for name in SplitName if name is not SplitName.leave_one_out]
BLOCK = ("mae_ms", "rmse_ms", "median_ae_ms", "r2", "mape")


@pytest.fixture(scope="module")
def thesis(analysed: Analyse, thesis_rows: pd.DataFrame) -> Analysis:
    return analysed(thesis_rows, reference="thesis")


def test_the_thesis_counts(thesis: Analysis) -> None:
    counts = {
        name: thesis.metrics[name] for name in ("n_events", "n_train", "n_test", "n_requests", "n_warmup")
    }
    assert counts == {"n_events": 471, "n_train": 376, "n_test": 95, "n_requests": 15, "n_warmup": 0}
    assert (len(thesis.predictions), len(thesis.train)) == (95, 376)
    assert not set(thesis.predictions.index) & set(thesis.train.index)


def test_the_headline_is_the_error_of_the_predictions(thesis: Analysis) -> None:
    measured, predicted = (thesis.predictions[c].to_numpy() for c in ("token_latency_ms", "predicted_ms"))
    expected = error_block(measured, predicted)
    assert {name: thesis.metrics[name] for name in BLOCK} == {name: expected[name] for name in BLOCK}
    np.testing.assert_allclose(predicted, thesis.fitted.predict(thesis.predictions))
    assert all(thesis.metrics["baselines"][name]["n"] == 95 for name in ("mean", "median", "last_token"))


def test_warmup_rows_are_counted_and_nothing_else(make_rows: MakeRows, analysed: Analyse) -> None:
    rows = make_rows(LENGTHS, noise_ms=1.0, warmup=16)
    slow = rows.assign(token_latency_ms=rows["token_latency_ms"].where(~rows["is_warmup"], 1e6))
    plain, slowed = analysed(rows).metrics, analysed(slow).metrics
    assert (plain["n_warmup"], plain["n_events"]) == (16, 450)
    assert plain == slowed


def measured_of(rows: pd.DataFrame) -> np.ndarray:
    return rows["token_latency_ms"].to_numpy()


def test_without_warmup_and_prefill_drops_the_right_rows(
    thesis: Analysis, make_pipeline: Callable[..., Pipeline]
) -> None:
    both = pd.concat([thesis.train, thesis.predictions])
    steady = both[(both["phase"] == "decode") & (both["session_request"] > 0)]
    kept_test = thesis.predictions[thesis.predictions.index.isin(steady.index)]
    again = thesis.metrics["without_warmup_and_prefill"]
    assert again["n_train"] + again["n_test"] == len(steady) == 471 - 14 - 22
    assert again["n_dropped"] == 14 + 22
    assert again["headline"]["n"] == again["refit"]["n"] == again["n_test"] == len(kept_test)
    expected = error_block(measured_of(kept_test), kept_test["predicted_ms"].to_numpy())
    assert again["headline"].items() >= expected.items()
    assert again["refit"]["mae_ms"] < 1.5 < again["headline"]["mae_ms"], "one row of 1.5 s had bent the fit"
    refitted = fit(make_pipeline(), steady[steady.index.isin(thesis.train.index)])
    assert again["coefficients"] == coefficient_table(refitted)["coefficients"]
    found = error_block(measured_of(kept_test), refitted.predict(kept_test))
    assert again["refit"].items() >= found.items()


def test_every_error_is_told_as_a_multiple_of_the_noise_floor(make_rows: MakeRows, analysed: Analyse) -> None:
    metrics = analysed(make_rows(LENGTHS, repetitions=4, noise_ms=1.0, per_context_squared=1e-4)).metrics
    floor = metrics["noise_floor"]
    assert metrics["mae_over_floor"] == pytest.approx(metrics["mae_ms"] / floor["mae_ms"])
    assert metrics["baselines"]["mean"]["rmse_over_floor"] > metrics["rmse_over_floor"] > 1
    decode = metrics["by_phase"]["decode"]
    assert decode["mae_over_floor"] == pytest.approx(decode["mae_ms"] / floor["by_phase"]["decode"]["mae_ms"])
    steady = metrics["without_warmup_and_prefill"]["refit"]
    assert steady["mae_over_floor"] == pytest.approx(steady["mae_ms"] / floor["by_phase"]["decode"]["mae_ms"])


def test_flagged_rows_are_counted_and_fitted_unless_they_are_excluded(
    make_rows: MakeRows, analysed: Analyse
) -> None:
    rows = make_rows(LENGTHS, noise_ms=0.1)
    doubtful = rows["request_id"] == 3
    rows.loc[doubtful, "flags"] = "throttled"
    rows.loc[doubtful, "token_latency_ms"] += 500.0
    kept, excluded = analysed(rows), analysed(rows, excludes_flagged=True)
    counted = {"n_flagged": int(doubtful.sum()), "by_reason": {"throttled": int(doubtful.sum())}}
    assert kept.metrics["flags"] == {**counted, "excluded": False}
    assert excluded.metrics["flags"] == {**counted, "excluded": True}
    assert kept.metrics["n_events"] == excluded.metrics["n_events"] + doubtful.sum()
    assert excluded.metrics["mae_ms"] < 1 < kept.metrics["mae_ms"]
    assert not (excluded.predictions["flags"] == "throttled").any()


def test_without_first_visits_keeps_steady_rows_at_known_contexts(
    make_rows: MakeRows, analysed: Analyse
) -> None:
    rows = make_rows(LENGTHS, repetitions=2, noise_ms=0.2, prefill_ms=40.0)
    rows["token_latency_ms"] += 30.0 * rows["first_visit"]
    analysis = analysed(rows)
    again = analysis.metrics["without_first_visits"]
    assert again["n_train"] + again["n_test"] == 15 * 29, "the second pass, without its prefill"
    assert again["n_dropped"] == 15 * 29 + 30
    assert again["refit"]["mae_ms"] < 0.5 < 5 < again["headline"]["mae_ms"]
    assert again["coefficients"]["context_length"]["scaled_ms"] > 0


@pytest.mark.parametrize("split", SPLITS)
def test_the_fit_sees_no_test_row(
    make_rows: MakeRows, analysed: Analyse, thesis_rows: pd.DataFrame, split: SplitName
) -> None:
    before = analysed(thesis_rows, split=split)
    other = thesis_rows.copy()
    other.loc[before.predictions.index, "token_latency_ms"] *= np.random.default_rng(0).uniform(
        2, 50, len(before.predictions)
    )
    after = analysed(other, split=split)
    assert after.predictions.index.equals(before.predictions.index)
    np.testing.assert_array_equal(after.predictions["predicted_ms"], before.predictions["predicted_ms"])
    for name in ("coefficients", "intercept_ms", "intercept_per_unit_ms", "formula"):
        assert after.metrics[name] == before.metrics[name]
    untested = [
        {k: v for k, v in predictor_spec(a).items() if k not in {"tested", "measured"}}
        for a in _full(before, after)
    ]
    assert untested[0] == untested[1]
    assert after.metrics["mae_ms"] > before.metrics["mae_ms"]


def _full(*analyses: Analysis) -> list[Analysis]:
    """Fill in what a run says about its dataset, which a predictor repeats."""
    said = (
        "llmlat_version",
        "experiment",
        "weights",
        "stand_in",
        "stand_in_for",
        "quantization",
        "device",
        "dataset_key",
    )
    for analysis in analyses:
        analysis.metrics.update(dict.fromkeys(said, "-"))
    return list(analyses)


def test_both_splits_stand_beside_each_other(thesis: Analysis) -> None:
    splits = thesis.metrics["splits"]
    assert set(splits) == {"random", "by_request", "by_time", "extrapolate"}
    assert splits["random"]["n_test"] == splits["by_request"]["n_test"] == 376, "the same rows"
    assert splits["by_request"]["baselines"]["median"]["n"] == 376
    assert thesis.metrics["nonlinear_check"]["n"] == 376


def plain_json(metrics: dict[str, Any]) -> None:
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


ODD_ROWS = {
    "two requests": {"lengths": [10, 20], "tokens": 10},
    "two requests of three tokens": {"lengths": [10, 20], "tokens": 3},
    "one request": {"lengths": [10], "tokens": 40},
    "prefill only": {"lengths": LENGTHS, "tokens": 1},
    "no noise, constant": {"lengths": LENGTHS, "tokens": 5, "per_context": 0.0},
    "repetitions": {"lengths": LENGTHS, "tokens": 3, "repetitions": 3},
    "warm-up": {"lengths": LENGTHS, "tokens": 3, "warmup": 4},
}


@pytest.mark.parametrize("options", ODD_ROWS.values(), ids=list(ODD_ROWS))
@pytest.mark.parametrize("split", SPLITS)
def test_metrics_are_json_whatever_the_rows(
    make_rows: MakeRows, analysed: Analyse, options: dict[str, Any], split: SplitName
) -> None:
    rows = make_rows(**{"noise_ms": 0.5, **options} if "constant" not in str(options) else options)
    if split is not SplitName.random and len(options["lengths"]) == 1:
        with pytest.raises(ConfigError, match=rf"^split={split}"):
            analysed(rows, split=split)
        return
    metrics = analysed(rows, split=split, test_size=0.4, reference="thesis").metrics
    plain_json(metrics)
    assert len(metrics["verdicts"]) == 4


def test_two_requests_of_one_token_leave_no_feature(make_rows: MakeRows, analysed: Analyse) -> None:
    with pytest.raises(
        ConfigError, match=r"^features\.columns: no feature is left of 1 rows: prompt_tokens is"
    ):
        analysed(make_rows([10, 20], tokens=1), split=SplitName.by_request, test_size=0.5)


def test_metrics_are_json_where_the_test_has_no_prefill_row(make_rows: MakeRows, analysed: Analyse) -> None:
    rows = make_rows([10, 400], tokens=70, noise_ms=1.0)
    metrics = analysed(rows, reference="thesis").metrics
    assert metrics["by_phase"]["prefill"].items() >= error_block(np.array([]), np.array([])).items()
    plain_json(metrics)


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        ("ensemble.RandomForestRegressor", {"n_estimators": 5, "random_state": 0}),
        ("linear_model.PoissonRegressor", {}),
        ("ensemble.BaggingRegressor", {"random_state": 0}),
        ("svm.LinearSVR", {"random_state": 0}),
    ],
)
def test_metrics_are_json_for_any_regressor(
    thesis_rows: pd.DataFrame,
    analysed: Analyse,
    make_pipeline: Callable[..., Pipeline],
    target: str,
    parameters: dict[str, Any],
) -> None:
    analysis = analysed(thesis_rows.iloc[30:], make_pipeline(target, **parameters), reference="thesis")
    plain_json(analysis.metrics)
    assert analysis.metrics["regressor"]["name"] == target.split(".")[1]
    assert (analysis.metrics["coefficients"] is None) == (target != "svm.LinearSVR")


def test_one_feature_is_enough(
    thesis_rows: pd.DataFrame, analysed: Analyse, make_pipeline: Callable[..., Pipeline]
) -> None:
    metrics = analysed(thesis_rows, make_pipeline(columns=["context_length"]), reference="thesis").metrics
    plain_json(metrics)
    assert set(metrics["coefficients"]) == {"context_length"}
    assert metrics["coefficients"]["context_length"]["relative_impact"] == 1.0


def test_one_request_cannot_be_split_by_request(make_rows: MakeRows, analysed: Analyse) -> None:
    metrics = analysed(make_rows([10], tokens=40)).metrics
    by_request = metrics["splits"]["by_request"]
    assert by_request["mae_ms"] is None
    assert by_request["reason"].startswith("1 training requests are too few")
    assert metrics["nonlinear_check"] is None
    assert metrics["without_warmup_and_prefill"]["refit"]["mae_ms"] is None, (
        "all rows are the first request's"
    )


def test_warmup_rows_alone_are_no_dataset(make_rows: MakeRows, analysed: Analyse) -> None:
    rows = make_rows(LENGTHS, warmup=5)
    with pytest.raises(DatasetError, match=r"warm-up rows only"):
        analysed(rows[rows["is_warmup"]])


def test_a_regressor_that_fails_on_the_real_rows_is_one_line(
    make_rows: MakeRows, analysed: Analyse, make_pipeline: Callable[..., Pipeline]
) -> None:
    neighbours = make_pipeline("neighbors.KNeighborsRegressor", n_neighbors=100)
    with pytest.raises(ConfigError, match=r"^regressor: .*n_neighbors"):
        analysed(make_rows([10, 20]), neighbours)


def test_an_infinite_prediction_is_one_line(
    make_rows: MakeRows, analysed: Analyse, make_pipeline: Callable[..., Pipeline]
) -> None:
    pipeline = make_pipeline()
    regressor = pipeline.named_steps["regressor"]
    pipeline.steps[2] = ("regressor", type("Overflowing", (type(regressor),), {"predict": _infinite})())
    with pytest.raises(ConfigError, match=r"^regressor: it predicts"):
        analysed(make_rows(LENGTHS), pipeline)


def _infinite(self: Any, X: Any) -> Any:
    return np.full(len(X), np.inf)

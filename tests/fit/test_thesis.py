"""Each claim of the thesis on data where it is true, where it is false, and where nobody can tell."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from llmlat.fit.results import Analysis
from llmlat.fit.thesis import CONFIRMED, NOT_CONFIRMED, REFERENCE, UNTOLD

MakeRows = Callable[..., pd.DataFrame]
Analyse = Callable[..., Analysis]
LENGTHS = np.linspace(12, 640, 15).astype(int)
DOMINANT, LONGER, GROWTH, LINEAR = range(4)


def judge(analysis: Analysis) -> list[str]:
    verdicts = analysis.metrics["verdicts"]
    assert [set(v) for v in verdicts] == [{"claim", "verdict", "evidence"}] * 4
    assert all(v["claim"] and v["evidence"] and "nan" not in v["evidence"] for v in verdicts)
    return [v["verdict"] for v in verdicts]


@pytest.fixture
def verdicts(analysed: Analyse) -> Callable[..., list[str]]:
    return lambda rows, **options: judge(analysed(rows, reference="thesis", **options))


def test_everything_the_thesis_claims_is_confirmed_where_it_is_true(
    make_rows: MakeRows, verdicts: Callable[..., list[str]]
) -> None:
    cached = make_rows(LENGTHS, per_context=0.05, per_prompt=-0.01, noise_ms=0.5, seed=1)
    uncached = make_rows(LENGTHS, per_context=0.30, noise_ms=0.5, seed=2)
    assert verdicts(cached, contrast=uncached) == [CONFIRMED] * 4


def test_nothing_is_confirmed_where_it_is_false(
    make_rows: MakeRows, verdicts: Callable[..., list[str]]
) -> None:
    # Dearer with the prompt, a parabola with the cache, no steeper without, and far from any line.
    bent = make_rows(
        LENGTHS, per_prompt=0.3, per_context=-0.5, per_context_squared=6e-4, intercept_ms=200, noise_ms=0.5
    )
    flat = make_rows(LENGTHS, per_context=0.0, noise_ms=0.5)
    assert verdicts(bent, contrast=flat) == [NOT_CONFIRMED] * 4


def test_nothing_is_told_from_one_request(make_rows: MakeRows, verdicts: Callable[..., list[str]]) -> None:
    assert verdicts(make_rows([100], tokens=40, noise_ms=1.0)) == [UNTOLD] * 4


@pytest.mark.parametrize("rows_options", [{"per_context": 0.0}, {"per_context": -0.05}])
def test_context_does_not_dominate_where_it_costs_nothing(
    make_rows: MakeRows, verdicts: Callable[..., list[str]], rows_options: dict[str, float]
) -> None:
    assert verdicts(make_rows(LENGTHS, noise_ms=1.0, **rows_options))[DOMINANT] == NOT_CONFIRMED


def test_context_does_not_dominate_where_noise_drowns_it(
    make_rows: MakeRows, verdicts: Callable[..., list[str]]
) -> None:
    assert verdicts(make_rows(LENGTHS, per_context=0.01, noise_ms=20.0))[DOMINANT] == NOT_CONFIRMED


def test_context_does_not_dominate_where_the_prompt_does(
    make_rows: MakeRows, verdicts: Callable[..., list[str]]
) -> None:
    assert verdicts(make_rows(LENGTHS, per_context=0.001, per_prompt=0.5))[DOMINANT] == NOT_CONFIRMED


@pytest.mark.parametrize(
    ("per_prompt", "verdict"), [(-0.03, CONFIRMED), (0.03, NOT_CONFIRMED), (0.0, NOT_CONFIRMED)]
)
def test_longer_prompts(
    make_rows: MakeRows, verdicts: Callable[..., list[str]], per_prompt: float, verdict: str
) -> None:
    assert verdicts(make_rows(LENGTHS, per_prompt=per_prompt, noise_ms=0.3, seed=4))[LONGER] == verdict


@pytest.mark.parametrize(
    "rows_options",
    [{"lengths": [200] * 8, "tokens": 40}, {"lengths": LENGTHS, "tokens": 2}],
    ids=["prompts of one length", "one decode row each"],
)
def test_longer_prompts_cannot_be_told_where_prompt_and_context_move_together(
    make_rows: MakeRows, verdicts: Callable[..., list[str]], rows_options: dict[str, object]
) -> None:
    assert verdicts(make_rows(per_context=0.05, noise_ms=0.3, **rows_options))[LONGER] == UNTOLD


@pytest.mark.parametrize("engine", ["eager", "no_cache"])
@pytest.mark.parametrize(
    ("cached", "uncached", "verdict"),
    [
        ({"per_context": 0.01}, {"per_context": 0.2}, CONFIRMED),
        ({"per_context": 0.0}, {"per_context": 0.0, "per_context_squared": 1e-4}, CONFIRMED),
        ({"per_context": 0.1}, {"per_context": 0.1}, NOT_CONFIRMED),  # no faster without
        ({"per_context_squared": 1e-4}, {"per_context": 2.0}, NOT_CONFIRMED),  # more than O(N) with
    ],
)
def test_growth_from_both_engines_whichever_was_run(
    make_rows: MakeRows,
    verdicts: Callable[..., list[str]],
    engine: str,
    cached: dict[str, float],
    uncached: dict[str, float],
    verdict: str,
) -> None:
    frames = (
        make_rows(LENGTHS, noise_ms=0.5, seed=1, **cached),
        make_rows(LENGTHS, noise_ms=0.5, seed=2, **uncached),
    )
    rows, contrast = frames if engine == "eager" else frames[::-1]
    assert verdicts(rows, contrast=contrast, about={"engine": engine})[GROWTH] == verdict


def test_growth_where_both_engines_were_measured_in_one_go(
    make_rows: MakeRows, verdicts: Callable[..., list[str]]
) -> None:
    cached = make_rows(LENGTHS, noise_ms=0.5, seed=1, per_context=0.01)
    uncached = make_rows(LENGTHS, noise_ms=0.5, seed=2, per_context=0.2)
    uncached = uncached.assign(engine="no_cache", request_id=uncached["request_id"] + len(LENGTHS))
    rows = pd.concat([cached, uncached], ignore_index=True)
    assert verdicts(rows, about={"engine": "eager and no_cache"})[GROWTH] == CONFIRMED


@pytest.mark.parametrize(("engine", "other"), [("eager", "no_cache"), ("no_cache", "eager")])
def test_growth_from_one_engine_says_what_to_run(
    make_rows: MakeRows, analysed: Analyse, engine: str, other: str
) -> None:
    analysis = analysed(make_rows(LENGTHS, noise_ms=0.5), reference="thesis", about={"engine": engine})
    assert judge(analysis)[GROWTH] == UNTOLD
    assert f"engine={other}" in analysis.metrics["verdicts"][GROWTH]["evidence"]


def test_growth_of_an_engine_of_ones_own_cannot_be_told(make_rows: MakeRows, analysed: Analyse) -> None:
    analysis = analysed(make_rows(LENGTHS), reference="thesis", about={"engine": "graphs"})
    assert judge(analysis)[GROWTH] == UNTOLD


def test_growth_from_too_few_requests_does_not_ask_for_the_engine_that_was_run(
    make_rows: MakeRows, analysed: Analyse
) -> None:
    rows = make_rows([10, 400], tokens=40, noise_ms=0.1)
    analysis = analysed(rows, reference="thesis", contrast=rows)
    assert judge(analysis)[GROWTH] == UNTOLD
    assert "engine=" not in analysis.metrics["verdicts"][GROWTH]["evidence"]


@pytest.mark.parametrize(
    ("rows_options", "verdict"),
    [
        ({"per_context": 0.05, "noise_ms": 0.5}, CONFIRMED),
        (
            {"per_context": 0.0, "per_context_squared": 4e-4, "noise_ms": 0.1},
            NOT_CONFIRMED,
        ),  # trees see the bend
        ({"per_context": 0.05, "noise_ms": 12.0}, NOT_CONFIRMED),  # misses by more than a tenth
        ({"per_context": 0.0, "noise_ms": 0.0}, NOT_CONFIRMED),  # no better than the median
    ],
    ids=["line", "parabola", "noise", "constant"],
)
def test_a_linear_model_suffices(
    make_rows: MakeRows, verdicts: Callable[..., list[str]], rows_options: dict[str, float], verdict: str
) -> None:
    assert verdicts(make_rows(LENGTHS, repetitions=2, **rows_options))[LINEAR] == verdict


def test_a_tree_says_nothing_about_linear_models(
    make_rows: MakeRows, make_pipeline: Callable[..., object], verdicts: Callable[..., list[str]]
) -> None:
    trees = make_pipeline("tree.DecisionTreeRegressor", max_depth=3)
    found = verdicts(make_rows(LENGTHS, noise_ms=0.5), pipeline=trees)
    assert (found[DOMINANT], found[LINEAR]) == (UNTOLD, UNTOLD)


def test_claims_are_judged_only_where_the_thesis_is_the_reference(
    make_rows: MakeRows, analysed: Analyse
) -> None:
    rows = make_rows(LENGTHS)
    assert (analysed(rows).metrics["verdicts"], analysed(rows).metrics["reference"]) == ([], None)
    assert analysed(rows, reference="thesis").metrics["reference"] == REFERENCE


def test_the_reference_is_what_the_thesis_printed() -> None:
    assert [REFERENCE[name] for name in ("n_events", "n_train", "n_test")] == [471, 376, 95]
    assert [REFERENCE[name] for name in ("mae_ms", "rmse_ms", "intercept_ms")] == [
        34.0332,
        159.1067,
        390.9156,
    ]
    assert REFERENCE["coefficients"] == {"context_length": 48.75, "prompt_tokens": -4.2815}

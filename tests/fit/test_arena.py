"""The arena: everyone on the same folds, the failing recorded, and every shipped contestant there."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from llmlat.config import Config, SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.fit import arena
from llmlat.fit.arena import Contestant, compete
from llmlat.fit.evaluate import error_block
from llmlat.fit.fitting import build_pipeline, fit, predict
from llmlat.fit.split import split_rows

MakeRows = Callable[..., pd.DataFrame]
MakePipeline = Callable[..., Pipeline]
SPLIT = SplitConfig(SplitName.random, 0.25, 3)


@pytest.fixture(scope="module")
def rows(make_rows: MakeRows) -> pd.DataFrame:
    return make_rows(np.arange(20, 420, 20), tokens=8, repetitions=2, noise_ms=0.2, per_context=0.05)


@pytest.fixture(scope="module")
def contestants(make_pipeline: MakePipeline) -> list[Contestant]:
    return [
        Contestant("median", make_pipeline("dummy.DummyRegressor", strategy="median")),
        Contestant("tree", make_pipeline("tree.DecisionTreeRegressor", random_state=0), of="a peer's"),
        Contestant("ridge", make_pipeline()),
    ]


def failing(pipeline: Pipeline, how: type[Exception], where: str) -> Pipeline:
    """Return a pipeline whose regressor fails when it is fitted, or asked."""

    def fails(self: Any, *arguments: Any, **more: Any) -> Any:
        raise how("it fell over")

    pipeline.steps[2] = ("regressor", type("Failing", (Ridge,), {where: fails})())
    return pipeline


def test_everyone_is_tested_on_the_same_rows(rows: pd.DataFrame, contestants: list[Contestant]) -> None:
    found = compete(rows, contestants, SPLIT)
    assert [told["name"] for told in found] == ["ridge", "tree", "median"], "in the order of their errors"
    assert {told["name"]: told["of"] for told in found}["tree"] == "a peer's"
    by_name = {one.name: one.pipeline for one in contestants}
    shares = {"random": 0.25, "by_prompt": 0.25, "extrapolate": 0.4}
    for told in found:
        assert set(told["splits"]) == set(shares)
        for name, share in shares.items():
            train, test = split_rows(rows, SplitConfig(SplitName(name), share, 3))
            fitted = fit(by_name[told["name"]], rows.iloc[train])
            part = rows.iloc[test]
            expected = error_block(part["token_latency_ms"].to_numpy(), predict(fitted, part))
            assert told["splits"][name].items() >= {**expected, "n_train": len(train)}.items()
            assert told["splits"][name]["fit_s"] > 0
        assert told["predict_one_us"] > 0
        assert told["predict_us_per_row"] > 0
        assert told["reason"] is None
    errors = [told["splits"]["by_prompt"]["mae_ms"] for told in found]
    assert errors == sorted(errors)


@pytest.mark.parametrize("how", [ValueError, RuntimeError, TypeError, MemoryError, ZeroDivisionError])
@pytest.mark.parametrize("where", ["fit", "predict"])
def test_one_that_fails_is_recorded_and_stops_no_other(
    rows: pd.DataFrame,
    contestants: list[Contestant],
    make_pipeline: MakePipeline,
    how: type[Exception],
    where: str,
) -> None:
    bad = Contestant("bad", failing(make_pipeline(), how, where))
    found = compete(rows, [bad, *contestants[2:]], SPLIT)
    assert [told["name"] for told in found] == ["ridge", "bad"]
    assert "it fell over" in found[1]["reason"]
    assert "\n" not in found[1]["reason"]
    assert found[0]["reason"] is None


def test_without_repeated_prompts_requests_are_held_out(
    make_rows: MakeRows, contestants: list[Contestant]
) -> None:
    found = compete(make_rows(np.arange(20, 420, 20), tokens=8, noise_ms=0.2), contestants, SPLIT)
    assert set(found[0]["splits"]) == {"random", "by_request", "extrapolate"}


def test_one_request_is_divided_as_far_as_it_goes(make_rows: MakeRows, contestants: list[Contestant]) -> None:
    found = compete(make_rows([10], tokens=40, noise_ms=0.2), contestants, SPLIT)
    assert set(found[0]["splits"]) == {"random"}
    with pytest.raises(ConfigError, match=r"^arena: "):
        compete(make_rows([10], tokens=3), contestants, SPLIT)


def test_order_is_by_the_grouped_error_whatever_the_random_one() -> None:
    def told(name: str, random: float, grouped: float, reason: str | None = None) -> dict[str, Any]:
        splits = {"random": {"mae_ms": random}, "by_request": {"mae_ms": grouped}}
        return {"name": name, "splits": splits, "reason": reason}

    several = [told("a", 0.1, 9.0), told("b", 5.0, 1.0), told("failed", 0.0, 0.0, "it fell over")]
    assert [one["name"] for one in sorted(several, key=arena._grouped_error)] == ["b", "a", "failed"]
    assert arena._grouped_error(several[2]) == math.inf


def test_every_shipped_contestant_builds(compose: Callable[..., Config]) -> None:
    pytest.importorskip("xgboost")
    shipped = compose("arena=all").arena.contestants
    assert set(shipped) >= {
        "ridge",
        "physics",
        "hybrid",
        "auto",
        "mean",
        "last_token",
        "vidur",
        "llm_d",
        "linear",
    }
    assert {name for name, one in shipped.items() if one.of} == {"linear", "vidur", "llm_d", "interpolation"}
    for one in shipped.values():
        assert build_pipeline(one.regressor, one.features)


def test_the_experiment_is_the_arena(compose: Callable[..., Config]) -> None:
    settings = compose("+experiment=arena")
    assert set(settings.arena.contestants) == set(compose("arena=all").arena.contestants)
    assert settings.split.name is SplitName.by_request
    assert compose().arena.contestants == {}


def test_a_contestant_of_ones_own(compose: Callable[..., Config]) -> None:
    settings = compose(
        "+arena.contestants.mine.regressor._target_=sklearn.linear_model.Lasso",
        "+features@arena.contestants.mine.features=thesis",
    )
    mine = settings.arena.contestants["mine"]
    assert mine.regressor == {"_target_": "sklearn.linear_model.Lasso"}
    assert mine.features.columns == ["prompt_tokens", "context_length"]

"""Boosted trees of the size that held-out groups ask for, and predictions at the level that was asked for."""

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from llmlat.fit.regressors import BoostedRegressor, LevelledRegressor

Floats = npt.NDArray[np.float64]


def rows_of(
    noise: float, n_groups: int = 60, n_rows: int = 10
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Make groups of one configuration each; the logarithm of the latency is a crooked function of it."""
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(n_groups), n_rows)
    settings = generator.uniform(0, 4, (n_groups, 3))[group]
    log = 3 + np.sin(2 * settings[:, 0]) + 0.5 * settings[:, 1] * (settings[:, 2] > 2)
    return settings, np.exp(log + noise * generator.normal(size=len(group))), group


def sized(noise: float, library: str) -> BoostedRegressor:
    X, y, group = rows_of(noise)
    return BoostedRegressor(library).fit(X, np.log(y), groups=group)


@pytest.mark.parametrize("library", ["sklearn", "xgboost"])
def test_noise_asks_for_fewer_rounds(library: str) -> None:
    pytest.importorskip("xgboost") if library == "xgboost" else None
    assert sized(1.0, library).n_rounds_ < sized(0.05, library).n_rounds_ / 2


def test_it_is_sized_on_groups_and_fitted_on_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, group = rows_of(0.1)
    X = np.column_stack([X, group])  # so that the rows say of which group they are
    seen: list[tuple[set[float], set[float] | None]] = []
    fit = HistGradientBoostingRegressor.fit

    def spy(self: object, X: Floats, y: Floats, X_val: Floats | None = None, **told: object) -> object:
        seen.append((set(X[:, -1]), None if X_val is None else set(X_val[:, -1])))
        return fit(self, X, y, X_val=X_val, **told)

    monkeypatch.setattr(HistGradientBoostingRegressor, "fit", spy)
    boosted = BoostedRegressor("sklearn", leaves=(5, 20)).fit(X, np.log(y), groups=group)
    *sizings, last = seen
    assert len(sizings) == 2 * 3
    for fitted_on, held_out in sizings:
        assert held_out is not None
        assert not fitted_on & held_out
        assert fitted_on | held_out == set(range(60))
    assert set.union(*(held_out for _, held_out in sizings[:3] if held_out)) == set(range(60))
    assert last == (set(range(60)), None)
    seen.clear()
    boosted.settled().fit(X, np.log(y), groups=group)
    assert seen == [(set(range(60)), None)]


def test_one_group_is_sized_on_its_rows() -> None:
    X, y, group = rows_of(0.1)
    assert BoostedRegressor("sklearn").fit(X, y, groups=np.zeros_like(group)).n_rounds_ > 1


def test_what_cannot_be_boosted_is_told() -> None:
    X, y, _ = rows_of(0.1)
    with pytest.raises(ValueError, match="library=lightgbm: use sklearn or xgboost"):
        BoostedRegressor("lightgbm").fit(X, y)
    with pytest.raises(ValueError, match="folds=by_weight: use by_group or by_size"):
        BoostedRegressor("sklearn", folds="by_weight").fit(X, y)


def test_the_exponential_of_a_fitted_logarithm_is_lifted_to_the_mean() -> None:
    X, y, group = rows_of(0.5)
    for regressor in (Ridge(), BoostedRegressor("sklearn")):
        levelled = LevelledRegressor(regressor, of_log=True).fit(X, y, groups=group)
        predicted = levelled.predict(X)
        assert predicted.sum() == pytest.approx(y.sum(), rel=0.03)  # by 12 % without
        assert predicted == pytest.approx(levelled.level_ * np.exp(levelled.regressor_.predict(X)))


@pytest.mark.parametrize(
    ("criterion", "share_below"), [("mae", 0.5), ("pinball", 0.9), ("pinball@0.25", 0.25)]
)
def test_another_criterion_has_another_level(criterion: str, share_below: float) -> None:
    X, _, _ = rows_of(0.0)
    y = 20 * np.exp(0.5 * np.random.default_rng(1).normal(size=len(X)))
    levelled = LevelledRegressor(Ridge(), of_log=True, criterion=criterion).fit(X, y)
    assert (y < levelled.predict(X)).mean() == pytest.approx(share_below, abs=0.03)


@pytest.mark.parametrize("criterion", ["rmse", "mean@0.5", "pinball@1.5", "pinball@high"])
def test_a_criterion_that_there_is_not_is_told(criterion: str) -> None:
    with pytest.raises(ValueError, match=rf"criterion={criterion}: "):
        LevelledRegressor(Ridge(), criterion=criterion).fit([[1.0], [2.0]], [1.0, 2.0])

from collections.abc import Iterator

import duckdb
import numpy as np
import pandas as pd
import pytest
from large_rows import Opened, noisy_rows

from llmlat.fit.evaluate import error_block
from llmlat.fit.large import score
from llmlat.formulas.sql import number

GENERATOR = np.random.default_rng(3)


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.mark.parametrize(
    "values",
    [
        np.array([3.0]),
        np.array([3.0, 4.0]),
        np.full(1001, 0.1),
        GENERATOR.normal(size=1000),
        GENERATOR.normal(size=10_001),
        GENERATOR.lognormal(0, 4, 10_000),
        GENERATOR.integers(0, 3, 5000).astype(float),
        np.repeat([1.0, 2.0], 500),
        np.append(GENERATOR.normal(5, 1e-9, 4000), [1e12, -1e150]),
        1.79e18 + 256 * GENERATOR.integers(0, 10_000, 4001),
    ],
    ids=lambda values: f"{len(values)}-{values[0]:.3g}",
)
@pytest.mark.parametrize("n_sorted", [score.N_SORTED, 0, 10])
def test_the_median_is_exact(
    database: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
    values: np.ndarray,
    n_sorted: int,
) -> None:
    monkeypatch.setattr(score, "N_SORTED", n_sorted)
    frame = pd.DataFrame({"x": values})
    database.register("handed_over", frame)
    database.execute("CREATE TABLE numbers AS FROM handed_over")
    found = score.median(lambda sql: database.execute(sql).fetchall(), "numbers", "x")
    assert found == np.median(values)


def test_errors_are_those_of_rows_in_memory(opened: Opened) -> None:
    rows = noisy_rows()
    counted = rows[~rows["is_warmup"]]

    def predict(features: pd.DataFrame) -> np.ndarray:
        return 9.0 + 1e-3 * features["context_length"].to_numpy()

    with opened(rows) as stored:
        score.predict_part(stored, predict)
        found, constant = score.error_block(stored.database), score.error_block(stored.database, number(9.5))
    measured = counted["token_latency_ms"].to_numpy()
    assert found == pytest.approx(error_block(measured, predict(counted)), rel=1e-12)
    assert constant == pytest.approx(error_block(measured, np.full(len(measured), 9.5)), rel=1e-12)
    assert list(found) == list(error_block(measured, measured))


def test_rows_that_do_not_vary_have_no_r2(opened: Opened) -> None:
    rows = noisy_rows().assign(token_latency_ms=5.0)
    with opened(rows) as stored:
        score.predict_part(stored, lambda features: np.full(len(features), 6.0))
        found = score.error_block(stored.database)
    assert (found["r2"], found["mae_ms"], found["median_ae_ms"]) == (None, 1.0, 1.0)


def test_many_batches_are_one_part(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmlat.sources.parquet import database as room

    monkeypatch.setattr(room, "VECTORS_A_BATCH", 1)
    rows = noisy_rows(300)
    seen: list[int] = []
    with opened(rows, n_files=5) as stored:
        score.predict_part(stored, lambda x: seen.append(len(x)) or np.ones(len(x)))
        n = score.error_block(stored.database)["n"]
    assert len(seen) > 3
    assert n == sum(seen) == int((~rows["is_warmup"]).sum())

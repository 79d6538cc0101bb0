"""Fits and predictions use one thread, whoever asks for them."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_info, threadpool_limits

from llmlat.fit import threads
from llmlat.fit.fitting import fit, predict
from llmlat.fit.results import Analysis
from llmlat.fit.threads import one_thread

MakeRows = Callable[..., pd.DataFrame]
Analyse = Callable[..., Analysis]
MakePipeline = Callable[..., Pipeline]


def most_threads() -> int:
    return max(library["num_threads"] for library in threadpool_info())


class CountsThreads(RegressorMixin, BaseEstimator):
    """Notes how many threads it may use."""

    seen: list[int] = []  # noqa: RUF012

    def fit(self, X: Any, y: Any) -> Self:
        self.seen.append(most_threads())
        self.fitted_ = True
        return self

    def predict(self, X: Any) -> Any:
        self.seen.append(most_threads())
        return np.full(len(X), 10.0)


def test_a_fit_and_a_prediction_use_one_thread(
    make_rows: MakeRows, make_pipeline: MakePipeline, analysed: Analyse
) -> None:
    rows = make_rows([10, 200, 300, 400], tokens=5, noise_ms=1.0)
    pipeline = make_pipeline().set_params(regressor=CountsThreads())
    with threadpool_limits(2):
        assert most_threads() == 2
        CountsThreads.seen.clear()
        predict(fit(pipeline, rows), rows)
        before = len(CountsThreads.seen)
        analysed(rows, pipeline)
        assert len(CountsThreads.seen) > before >= 2
        assert set(CountsThreads.seen) == {1}
        assert most_threads() == 2


def test_libraries_that_come_later_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[None] = []
    plain = threads.ThreadpoolController
    monkeypatch.setattr(threads, "ThreadpoolController", lambda: looked.append(None) or plain())
    for name in ("a_library", "another_library"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        for _ in range(3):
            with one_thread():
                pass
    assert len(looked) == 2

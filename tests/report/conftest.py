"""The small run of `report_frames`, as fixtures."""

from typing import Any

import pandas as pd
import pytest
from report_frames import make_predictions, make_rows
from report_metrics import make_metrics


@pytest.fixture
def rows() -> pd.DataFrame:
    return make_rows()


@pytest.fixture
def predictions(rows: pd.DataFrame) -> pd.DataFrame:
    return make_predictions(rows)


@pytest.fixture
def metrics(rows: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, Any]:
    return make_metrics(rows, predictions)

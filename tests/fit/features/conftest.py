"""A small frame of numbers, texts and gaps, and tables made of it."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n": [1, 2, 3, 4],
            "gap": [10.0, np.nan, 90.0, 20.0],
            "empty": [None] * 4,
            "same": 7,
            "text": ["b", "a", "b", "c"],
            "one": "x",
        }
    ).astype({"empty": "Int64"})

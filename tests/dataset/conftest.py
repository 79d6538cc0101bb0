"""The dataset that most of these tests meddle with."""

import pytest

from llmlat.dataset import Dataset


@pytest.fixture
def dataset(complete_dataset: Dataset) -> Dataset:
    return complete_dataset


@pytest.fixture
def identity() -> dict[str, object]:
    return {"model": "tiny", "seed": 0, "nested": {"b": 1, "a": [1, 2]}}

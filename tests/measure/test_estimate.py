"""An estimate may be missing, and is never fatal."""

import pytest
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from llmlat.config import QuantizationName
from llmlat.measure.cells import Cell
from llmlat.measure.estimate import estimate_seconds
from llmlat.measure.prompts import Request

REQUEST = Request(0, ("a",), 0, ((1, 2, 3),), 4, Cell("eager"))


def seconds(config):
    return estimate_seconds(config, [REQUEST], QuantizationName.none, "cpu")


@pytest.mark.parametrize("model_type", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
def test_no_architecture_stops_it(model_type):
    try:
        config = AutoConfig.for_model(model_type)
    except Exception as error:
        pytest.skip(f"it cannot be made without settings ({type(error).__name__})")
    found = seconds(config)
    assert found is None or found > 0


@pytest.mark.parametrize("model_type", ["mamba", "rwkv", "gemma3n_text"])
def test_what_is_not_as_most_are_has_none(model_type):
    assert seconds(AutoConfig.for_model(model_type)) is None

"""What a model weighs, against the tensors that its layers hold and the cache that it fills."""

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from transformers import DynamicCache, MambaConfig, MambaForCausalLM

from llmlat.config import QuantizationName
from llmlat.measure.machine.bandwidth import copy_bandwidth
from llmlat.measure.models.facts import model_facts

# Each layer's weights in a linear layer: query and output, key and value, and three of the MLP.
IN_LINEAR_LAYERS = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
ROWS_OF_LINEAR_LAYERS = 2 * (2 * 64 + 2 * 32 + 2 * 128 + 64)
NORMS, TABLE = 5 * 64, 128 * 64


def test_a_step_reads_all_but_the_embeddings(random_model):
    facts = model_facts(random_model())
    assert facts["n_parameters"] == IN_LINEAR_LAYERS + NORMS + 2 * TABLE
    assert facts["weight_bytes"] == 4 * (IN_LINEAR_LAYERS + NORMS + TABLE)


def test_a_tied_table_is_read_whole_by_the_output_layer(random_model):
    facts = model_facts(random_model(tie_word_embeddings=True))
    assert facts["n_parameters"] == IN_LINEAR_LAYERS + NORMS + TABLE
    assert facts["weight_bytes"] == 4 * (IN_LINEAR_LAYERS + NORMS + TABLE)


def test_int8_weights_are_a_byte_each_and_a_scale_a_row(random_model):
    model = random_model(QuantizationName.int8)
    assert any(isinstance(module, Linear8bitLt) for module in model.modules())
    facts = model_facts(model)
    assert facts["n_parameters"] == model_facts(random_model())["n_parameters"]
    assert facts["weight_bytes"] == IN_LINEAR_LAYERS + 4 * ROWS_OF_LINEAR_LAYERS + 4 * (NORMS + TABLE)


def test_nf4_weights_are_half_a_byte_each_and_a_scale_a_block(random_model):
    model = random_model(QuantizationName.nf4)
    n_layers = sum(isinstance(module, Linear4bit) for module in model.modules())
    facts = model_facts(model)
    assert facts["n_parameters"] == model_facts(random_model())["n_parameters"]
    scales, tables = 4 * IN_LINEAR_LAYERS // 64, 4 * 16 * n_layers
    assert facts["weight_bytes"] == IN_LINEAR_LAYERS // 2 + scales + tables + 4 * (NORMS + TABLE)


def test_a_cached_token_weighs_what_the_cache_grows_by(random_model):
    model = random_model()
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(input_ids=torch.arange(3, 8)[None], past_key_values=cache)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    facts = model_facts(model)
    assert facts["kv_bytes_per_token"] == held / 5
    sizes = ("n_layers", "hidden_size", "n_heads", "n_kv_heads", "head_dim", "vocabulary", "sliding_window")
    assert [facts[name] for name in sizes] == [2, 64, 4, 2, 16, 128, None]


def test_a_window_is_one_where_every_layer_has_it(random_model):
    assert model_facts(random_model(sliding_window=6))["sliding_window"] == 6
    mixed = random_model(sliding_window=6)
    mixed.config.layer_types = ["sliding_attention", "full_attention"]
    assert model_facts(mixed)["sliding_window"] is None


def test_an_architecture_without_attention_has_no_cached_tokens():
    facts = model_facts(MambaForCausalLM(MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1)))
    assert facts["kv_bytes_per_token"] is None
    assert facts["n_heads"] is None
    assert facts["weight_bytes"] > 0


def test_only_a_gpus_memory_is_timed():
    assert copy_bandwidth(torch.device("cpu")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpus_memory_moves_what_gpus_do():
    gpu = torch.device("cuda", 0)
    first, second = copy_bandwidth(gpu), copy_bandwidth(gpu)
    assert 1e10 < first < 2e13
    assert second == pytest.approx(first, rel=0.1)
    assert torch.cuda.memory_reserved(gpu) < 2**30, "the buffers are given back"

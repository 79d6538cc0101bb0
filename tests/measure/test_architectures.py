"""Engines over architectures that keep, count or want something else: generate()'s tokens, or a refusal."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llmlat.errors import ModelError
from llmlat.measure.beams import Beams
from llmlat.measure.decoding import Greedy
from llmlat.measure.engines import agreement
from llmlat.measure.engines.eager import EagerEngine
from llmlat.measure.engines.no_cache import NoCacheEngine

SMALL = {
    "tie_word_embeddings": False,
    "vocab_size": 128,
    "hidden_size": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LAYERS = {"num_hidden_layers": 4}
ATTENTION = {
    **LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
ENCODER = {**LAYERS, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64}
GPT = {
    "tie_word_embeddings": False,
    "vocab_size": 128,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
}
FIELDS = {
    # A state by a name of its own.
    "mamba": {**SMALL, **LAYERS, "state_size": 8},
    "falcon_mamba": {**SMALL, **LAYERS, "state_size": 8},
    "mamba2": {
        **SMALL,
        **LAYERS,
        "num_heads": 4,
        "head_dim": 16,
        "state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "rwkv": {**SMALL, **LAYERS, "attention_hidden_size": 32, "context_length": 64},
    # A cache of a kind of its own.
    "minimax": {**SMALL, **ATTENTION, "head_dim": 8, "num_local_experts": 2},
    # Positions counted otherwise, where none are given.
    "bamba": {
        **SMALL,
        **ATTENTION,
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_d_state": 8,
        "attn_layer_indices": [1, 3],
    },
    "roberta": {**SMALL, **ENCODER, "is_decoder": True},
    "camembert": {**SMALL, **ENCODER, "is_decoder": True},
    # And plain ones.
    "gpt2": GPT,
    "mixtral": {**SMALL, **ATTENTION, "num_local_experts": 2},
    "gemma3_text": {**SMALL, **ATTENTION, "head_dim": 8, "sliding_window": 8},
    "openai-gpt": GPT,
}
PROMPTS = ([7, 9, 21, 4, 30, 11, 90, 3, 17], [12, 80, 33])


def made(model_type, **changes):
    """Return a small model with weights so spread out that greedy decoding does not repeat one token."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**FIELDS[model_type], **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def generated(engine_class, model, prompts, decoder=None, n_tokens=16):
    decoder = decoder or Greedy()
    with torch.inference_mode():
        engine = engine_class(model, decoder)
        decoder.begin(len(prompts), n_tokens, 0)
        state = engine.prepare(prompts, n_tokens)
        steps = [engine.prefill(state)]
        steps += [engine.decode_one_token(state) for _ in range(n_tokens - 1)]
    return decoder.tokens(steps)


def reference(model, prompts, n_tokens=16):
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = model.generate(
        ids, attention_mask=mask, max_new_tokens=n_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return output[:, longest:].tolist()


@pytest.mark.parametrize("engine_class", [EagerEngine, NoCacheEngine])
@pytest.mark.parametrize("model_type", sorted(set(FIELDS) - {"openai-gpt"}))
def test_tokens_are_those_of_generate(model_type, engine_class):
    model = made(model_type)
    expected = reference(model, PROMPTS[:1])
    assert len(set(expected[0])) > 1
    assert generated(engine_class, model, PROMPTS[:1]) == expected


@pytest.mark.parametrize("model_type", ["mamba", "mamba2", "bamba", "gpt2", "minimax"])
def test_ragged_batches_are_those_of_generate(model_type):
    model = made(model_type)
    assert generated(EagerEngine, model, PROMPTS) == reference(model, PROMPTS)


@pytest.mark.parametrize("model_type", ["mamba", "gpt2"])
def test_beams_take_a_state_with_them(model_type):
    model = made(model_type)
    found = generated(EagerEngine, model, PROMPTS[:1], Beams(3))
    assert found == generated(NoCacheEngine, model, PROMPTS[:1], Beams(3))


def test_a_state_that_cannot_change_places_is_refused_for_beams():
    with pytest.raises(ModelError, match=r"decoding\.num_beams=3: what Rwkv.* use decoding\.num_beams=1"):
        generated(EagerEngine, made("rwkv"), PROMPTS[:1], Beams(3))


def test_a_model_that_keeps_nothing_is_refused_by_name_and_runs_without():
    model = made("openai-gpt")
    with pytest.raises(ModelError, match=r"^engine=eager: OpenAIGPT.* keeps nothing.*engine=no_cache"):
        EagerEngine(model, Greedy())
    assert generated(NoCacheEngine, model, PROMPTS[:1]) == reference(model, PROMPTS[:1])


def test_a_model_that_takes_a_cache_and_does_not_use_it_is_refused():
    model = made("gpt2")

    class Swallowing(type(model)):
        """Looks at the newest token alone, unless it is told what only generate() tells it."""

        def forward(self, input_ids, past_key_values=None, is_told=False, **others):
            fed = {"past_key_values": past_key_values} if is_told or input_ids.shape[1] > 1 else {}
            output = super().forward(input_ids=input_ids, **fed, **others)
            output.past_key_values = past_key_values
            return output

        def prepare_inputs_for_generation(self, input_ids, **others):
            return {**super().prepare_inputs_for_generation(input_ids, **others), "is_told": True}

    model.__class__ = Swallowing
    said = (
        r"^engine=eager: Swallowing does not generate what generate\(\) does, from token 1 on; use engine=no"
    )
    with pytest.raises(ModelError, match=said):
        EagerEngine(model, Greedy())


def test_a_model_that_fails_is_refused_with_what_it_said(monkeypatch):
    model = made("gpt2")
    monkeypatch.setattr(type(model), "forward", lambda self, **fed: [][0])
    with pytest.raises(
        ModelError, match=r"engine=eager: GPT2.* cannot be run so \(list index out of range\)"
    ):
        EagerEngine(model, Greedy())


def test_it_is_looked_at_once(monkeypatch):
    model, calls = made("gpt2"), []
    monkeypatch.setattr(agreement, "_difference", lambda *_: calls.append(1))
    for _ in range(3):
        EagerEngine(model, Greedy())
    assert len(calls) == 1

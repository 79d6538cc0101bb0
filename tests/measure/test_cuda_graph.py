"""What engine=cuda_graph does besides generating, its step taken and not captured: memory, reports, errors.

test_engines.py holds its tokens against transformers', test_cuda_graph_on_gpu.py the captured ones.
"""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import AutoConfig, AutoModelForCausalLM

from llmlat.config import QuantizationName
from llmlat.errors import ConfigError, ModelError
from llmlat.measure.cells import Cell
from llmlat.measure.decoding import Greedy
from llmlat.measure.engines import decode_step
from llmlat.measure.engines.cuda_graph import CudaGraphEngine
from llmlat.measure.engines.eager import EagerEngine
from llmlat.measure.engines.used_length import NAME, attend_used_length
from llmlat.measure.plan import make_plan

pytestmark = pytest.mark.usefixtures("quick_requests", "uncaptured")

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(initializer_range=0.4)


@pytest.fixture
def prompts_of(batch_of):
    return lambda *lengths: batch_of(lengths, Cell("greedy")).prompts


def generate(engine, prompts, n_tokens=8):
    """Return the tokens of each prompt, and the state at the end."""
    with torch.inference_mode():
        engine.decoder.begin(len(prompts), n_tokens, seed=0)
        state = engine.prepare(prompts, n_tokens)
        steps = [engine.prefill(state), *(engine.decode_one_token(state) for _ in range(n_tokens - 1))]
    return engine.decoder.tokens(steps), state


def sizes(engine):
    return [(entry["rows"], entry["capacity"]) for entry in engine.preparations]


def test_a_step_is_captured_once_for_all_requests_that_fit(model, prompts_of):
    engine = CudaGraphEngine(model, Greedy())
    for lengths in [(9,), (400,), (1,), (11, 4), (5, 5), (9,)]:
        generate(engine, prompts_of(*lengths))
    assert sizes(engine) == [(1, 1024), (2, 1024)]


def test_room_is_made_for_the_prompt_and_every_token_after_it(model, prompts_of):
    engine = CudaGraphEngine(model, Greedy())
    with torch.inference_mode():
        for n_tokens, capacity in [(1015, 1024), (1016, 2048), (1, 2048)]:
            assert engine.prepare(prompts_of(9), n_tokens).step.capacity == capacity
    assert sizes(engine) == [(1, 1024), (1, 2048)]


def test_a_larger_cache_takes_the_place_of_the_smaller(model, prompts_of):
    engine = CudaGraphEngine(model, Greedy())
    with torch.inference_mode():
        small = engine.prepare(prompts_of(9), 8).step
        large = engine.prepare(prompts_of(9), 1500).step
        assert large.capacity == 2048
        assert engine.prepare(prompts_of(9), 8).step is large
    assert [step for step, _ in engine._ready.values()] == [large]
    assert small is not large


def test_what_was_there_before_is_not_attended_to(model, prompts_of):
    expected, _ = generate(EagerEngine(model, Greedy()), prompts_of(9, 4))
    engine = CudaGraphEngine(model, Greedy())
    _, state = generate(engine, prompts_of(300, 200))
    for layer in state.step.cache.layers:
        for memory in (layer.keys, layer.values):
            with torch.inference_mode():
                memory.fill_(1e4)
    assert generate(engine, prompts_of(9, 4))[0] == expected


def test_the_device_keeps_count_of_what_is_used(model, prompts_of):
    engine = CudaGraphEngine(model, Greedy())
    _, state = generate(engine, prompts_of(11, 4, 1), n_tokens=5)
    # Token 0 comes out of the prompt, and the last token is never fed.
    assert state.step.place.column.tolist() == [11 + 4]
    assert state.used == 11 + 4
    assert state.step.place.first_columns.tolist() == [0, 7, 10]
    assert state.step.position_ids[:, 0].tolist() == [11 + 4, 4 + 4, 1 + 4]


def test_the_model_attends_as_before_afterwards(model, prompts_of):
    usual = model.config._attn_implementation
    generate(CudaGraphEngine(model, Greedy()), prompts_of(9))
    assert model.config._attn_implementation == usual != NAME


def test_getting_ready_is_reported_in_seconds(model, prompts_of):
    engine = CudaGraphEngine(model, Greedy())
    generate(engine, prompts_of(9))
    (entry,) = engine.preparations
    assert entry["compile_s"] is None
    assert 0 < entry["capture_s"] < 60


@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler for the CPU")
@pytest.mark.filterwarnings("ignore")
def test_one_compilation_serves_every_capacity_with_the_same_tokens(model, prompts_of, monkeypatch):
    requests = [prompts_of(9), prompts_of(1100), prompts_of(2)]
    expected = [generate(EagerEngine(model, Greedy()), prompts)[0] for prompts in requests]
    monkeypatch.setattr(model.config, "max_position_embeddings", 4096)
    torch._dynamo.reset()
    counters.clear()
    engine = CudaGraphEngine(model, Greedy(), compile=True)
    assert [generate(engine, prompts)[0] for prompts in requests] == expected
    assert counters["stats"]["unique_graphs"] == 1
    assert sizes(engine) == [(1, 1024), (1, 2048)]
    first, second = (entry["compile_s"] for entry in engine.preparations)
    assert second < first / 4
    torch._dynamo.reset()


# --- what cannot be captured ---------------------------------------------


@pytest.mark.parametrize(
    ("device", "quantization", "words"),
    [
        (CPU, QuantizationName.none, ("CUDA", "device=cpu", "engine=eager")),
        (CUDA, QuantizationName.int8, ("quantization=int8", "outliers", "quantization=nf4")),
    ],
)
def test_what_cannot_be_captured_is_refused_with_the_way_out(device, quantization, words):
    with pytest.raises(ConfigError) as caught:
        CudaGraphEngine.check(device, quantization)
    message = str(caught.value)
    assert message.startswith("engine=cuda_graph: ")
    assert "\n" not in message
    assert all(word in message for word in words)


@pytest.mark.parametrize("quantization", [QuantizationName.none, QuantizationName.nf4])
def test_the_others_are_not_refused(quantization):
    CudaGraphEngine.check(CUDA, quantization)


@pytest.mark.parametrize(
    "overrides", [["engine=cuda_graph"], ["collect.interleave.engine=[eager,cuda_graph]"]]
)
def test_without_cuda_it_is_refused_before_anything_is_loaded(compose, tiny, overrides, monkeypatch):
    monkeypatch.setattr("llmlat.measure.plan.find_model", lambda *_: pytest.fail("it looked for the model"))
    with pytest.raises(ConfigError, match=r"^engine=cuda_graph: needs a CUDA device, and device=cpu"):
        make_plan(compose(*tiny, "device=cpu", *overrides))


def test_a_step_that_cannot_be_captured_is_told_in_one_line(model, prompts_of, monkeypatch):
    def refuse(step, device):
        try:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nSearch for ...")
        except RuntimeError:
            # As torch.cuda.graph does, whose own ending fails thereupon.
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")  # noqa: B904

    monkeypatch.setattr(decode_step, "capture", refuse)
    with pytest.raises(ModelError) as caught:
        generate(CudaGraphEngine(model, Greedy()), prompts_of(9))
    assert str(caught.value) == (
        "engine=cuda_graph: a decode step of MistralForCausalLM cannot be captured "
        "(CUDA error: operation not permitted when stream is capturing); use engine=eager."
    )


@pytest.mark.parametrize("is_hidden", [False, True])
def test_running_out_of_memory_stays_what_it_is(model, prompts_of, monkeypatch, is_hidden):
    def full(step, device):
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB.")
        finally:
            if is_hidden:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    monkeypatch.setattr(decode_step, "capture", full)
    engine = CudaGraphEngine(model, Greedy())
    with pytest.raises(torch.OutOfMemoryError):
        generate(engine, prompts_of(9))
    assert engine._ready == {}


SIZES = {
    "vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "n_embd": 32,
    "n_layer": 2, "n_head": 4, "intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8,
    "sliding_window": 8, "num_local_experts": 4, "num_experts": 4, "initializer_range": 0.4, "state_size": 4,
}  # fmt: skip


def of_architecture(name):
    known = vars(AutoConfig.for_model(name))
    shape = AutoConfig.for_model(name, **{size: value for size, value in SIZES.items() if size in known})
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(shape).eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "olmo2", "cohere2", "mixtral"])
def test_other_architectures_make_their_eager_tokens(name, prompts_of):
    model = of_architecture(name)
    for prompts in (prompts_of(13), prompts_of(11, 4, 1)):
        expected, _ = generate(EagerEngine(model, Greedy()), prompts)
        assert generate(CudaGraphEngine(model, Greedy()), prompts)[0] == expected


def test_a_model_that_leaves_the_cache_alone_is_refused(model, prompts_of, monkeypatch):
    forward = type(model).forward
    monkeypatch.setattr(
        type(model), "forward", lambda self, **fed: forward(self, **{**fed, "past_key_values": None})
    )
    with pytest.raises(
        ModelError, match=r"^engine=cuda_graph: MistralForCausalLM keeps no keys and values, "
    ):
        generate(CudaGraphEngine(model, Greedy()), prompts_of(9))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bloom", "BloomForCausalLM attends in a way of its own"),
        ("gemma2", "Gemma2Attention attends with softcap"),
        ("gpt_oss", "GptOssAttention attends with s_aux"),
        ("mamba", "MambaForCausalLM has layers of the kind linear_attention"),
    ],
)
def test_an_architecture_that_would_make_other_tokens_is_refused(name, why, prompts_of):
    with pytest.raises(ModelError) as caught:
        generate(CudaGraphEngine(of_architecture(name), Greedy()), prompts_of(9))
    message = str(caught.value)
    assert message.startswith(f"engine=cuda_graph: {why}, ")
    assert message.endswith("use engine=eager.")


def test_an_architecture_that_does_not_hand_its_columns_over_is_refused():
    states = torch.zeros(1, 1, 1, 8)
    with pytest.raises(ModelError, match="does not hand over"):
        attend_used_length(torch.nn.Linear(1, 1), states, states, states, None)

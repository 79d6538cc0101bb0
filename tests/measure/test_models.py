"""Loading for real: bitsandbytes on the CPU, weights from a seed and from a folder."""

import logging
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from transformers import AutoModelForCausalLM

from llmlat.config import ModelConfig, QuantizationName, Weights
from llmlat.errors import ModelError
from llmlat.measure.models import load as models
from llmlat.measure.models.load import compute_dtype, load_model
from llmlat.measure.models.sources import ModelSource, find_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
QUANTISED = {QuantizationName.int8: Linear8bitLt, QuantizationName.nf4: Linear4bit}
IDS = torch.arange(3, 40)[None]


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS).logits


@pytest.fixture(scope="module")
def saved(random_model, tmp_path_factory):
    """A folder with the weights that seed 0 makes."""
    folder = tmp_path_factory.mktemp("saved")
    random_model(initializer_range=0.2).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("quantization", "layer"), QUANTISED.items())
def test_quantised_layers_are_those_of_bitsandbytes(random_model, quantization, layer):
    model = random_model(quantization)
    inner = [m for name, m in model.named_modules() if name.endswith(("_proj",))]
    assert len(inner) == 2 * 7
    assert all(type(m) is layer for m in inner)
    assert type(model.lm_head) is torch.nn.Linear
    if layer is Linear8bitLt:
        assert all(m.weight.dtype is torch.int8 for m in inner)
    else:
        assert all(m.quant_state.quant_type == "nf4" for m in (m.weight for m in inner))
        assert all(m.compute_dtype is torch.float32 for m in inner)


@pytest.mark.parametrize("quantization", list(QuantizationName))
def test_random_weights_are_loaded_as_the_same_weights_from_disk(random_model, saved, quantization):
    from_disk = load_model(find_model(ModelConfig(str(saved)), CPU), quantization, CPU, seed=99)
    from_seed = random_model(quantization, initializer_range=0.2)
    assert torch.equal(logits(from_seed), logits(from_disk))
    assert [type(m) for m in from_seed.modules()] == [type(m) for m in from_disk.modules()]
    assert {p.dtype for p in from_seed.parameters()} == {p.dtype for p in from_disk.parameters()}


def test_quantising_changes_little_and_something(random_model):
    exact = logits(random_model(initializer_range=0.2))
    for quantization in QUANTISED:
        error = (logits(random_model(quantization, initializer_range=0.2)) - exact).abs().mean()
        assert 0 < error < exact.abs().mean()


@pytest.mark.parametrize("quantization", list(QuantizationName))
def test_a_seed_decides_the_weights(random_model, quantization):
    torch.manual_seed(1)
    once = logits(random_model(quantization, seed=4))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(logits(random_model(quantization, seed=4)), once)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(logits(random_model(quantization, seed=5)), once)


def test_a_model_is_ready_to_generate(random_model):
    model = random_model()
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_the_dtype_that_is_not_quantised():
    assert compute_dtype(QuantizationName.none, CUDA) is torch.bfloat16
    assert compute_dtype(QuantizationName.nf4, CUDA) is torch.bfloat16
    assert compute_dtype(QuantizationName.int8, CUDA) is torch.float16
    assert all(compute_dtype(q, CPU) is torch.float32 for q in QuantizationName)


@pytest.mark.parametrize("quantization", list(QuantizationName))
def test_nothing_is_said_a_layer_and_call(random_model, quantization, caplog, capfd):
    """test_command_line.py asserts the same of a whole run, in a process of its own."""
    with caplog.at_level(logging.INFO), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        model = random_model(quantization)
        for _ in range(2):
            logits(model)
    assert [record.getMessage() for record in caplog.records] == []
    assert [str(warning.message) for warning in warned] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("quantization", list(QUANTISED))
def test_bitsandbytes_that_cannot_run_is_found_before_loading(monkeypatch, quantization, random_model):
    import bitsandbytes

    def broken(*arguments, **options):
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(bitsandbytes.nn, QUANTISED[quantization].__name__, broken)
    monkeypatch.setattr(models, "_initialise", lambda *_: pytest.fail("it began to load"))
    with pytest.raises(ModelError) as caught:
        random_model(quantization)
    message = str(caught.value)
    assert message.startswith(f"quantization={quantization}: bitsandbytes cannot run on cpu")
    assert "no kernel image" in message
    assert "\n" not in message
    assert "quantization=none" in message


def test_bitsandbytes_that_is_not_installed(monkeypatch, random_model):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r"^quantization=int8: bitsandbytes cannot run"):
        random_model(QuantizationName.int8)


def expect_model_error(source, *words):
    with pytest.raises(ModelError) as caught:
        load_model(source, QuantizationName.none, CPU, 0)
    message = str(caught.value)
    assert "\n" not in message
    for word in ("model", *words):
        assert word in message
    return message


@pytest.fixture
def copy_of_saved(saved, tmp_path):
    folder = tmp_path / "copy"
    AutoModelForCausalLM.from_pretrained(saved).save_pretrained(folder)
    return folder


def test_truncated_weights(copy_of_saved):
    weights = copy_of_saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    expect_model_error(
        find_model(ModelConfig(str(copy_of_saved)), CPU), str(copy_of_saved), "cannot be loaded"
    )


def test_weights_of_another_architecture(copy_of_saved):
    config = copy_of_saved / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 128', '"intermediate_size": 96'))
    expect_model_error(find_model(ModelConfig(str(copy_of_saved)), CPU), "cannot be loaded")


def test_weights_that_lack_a_layer_are_not_taken_for_the_real_thing(copy_of_saved):
    from safetensors.torch import load_file, save_file

    weights = copy_of_saved / "model.safetensors"
    tensors = {k: v for k, v in load_file(weights).items() if ".layers.1." not in k}
    save_file(tensors, weights, metadata={"format": "pt"})
    expect_model_error(find_model(ModelConfig(str(copy_of_saved)), CPU), "model.layers.1")


def test_a_folder_emptied_after_it_was_found(copy_of_saved):
    source = find_model(ModelConfig(str(copy_of_saved), Weights.pretrained), CPU)
    (copy_of_saved / "model.safetensors").unlink()
    expect_model_error(source, "cannot be loaded")


def test_weights_that_cannot_fit_are_refused_before_the_system_ends_the_process(monkeypatch, saved):
    source = find_model(ModelConfig(str(saved), Weights.pretrained), CPU)
    whole = sum(weights.nbytes for weights in load_model(source, QuantizationName.none, CPU, 0).parameters())
    free = {"virtual_memory": SimpleNamespace(available=whole // 4), "swap_memory": SimpleNamespace(free=0)}
    for name, told in free.items():
        monkeypatch.setattr(models.psutil, name, lambda told=told: told)
    expect_model_error(source, "of memory are free", "use quantization=nf4, a smaller model")
    load_model(source, QuantizationName.nf4, CPU, 0)  # an eighth
    made_up = ModelSource("tiny", source.hf_config, "random")
    with pytest.raises(ModelError, match="of memory are free; use a smaller model"):
        load_model(made_up, QuantizationName.nf4, CPU, 0)
    free["swap_memory"].free = whole
    load_model(made_up, QuantizationName.none, CPU, 0)


def test_an_error_of_ours_is_not_dressed_up(monkeypatch, tiny_architecture):
    def failing(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(models, "_initialise", failing)
    with pytest.raises(ZeroDivisionError):
        load_model(ModelSource("tiny", tiny_architecture, "random"), QuantizationName.none, CPU, 0)

"""Which model is loaded, and from where. Substitutions are announced, and never made for a model by name."""

import io
import json

import pytest
import torch
from transformers import AutoConfig

from llmlat.config import LanguageModelConfig, ModelConfig, QuantizationName, Weights
from llmlat.errors import ConfigError, ModelError
from llmlat.measure.models import hub
from llmlat.measure.models.load import load_model
from llmlat.measure.models.sources import find_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"


@pytest.fixture
def unreachable(monkeypatch):
    """The Hub's closed port of tests/conftest.py, or a reason to say so sooner."""
    monkeypatch.setattr(
        hub, "obstacle_to_download", lambda config: "the Hub cannot be reached (ConnectError)"
    )


@pytest.fixture
def no_hub(monkeypatch):
    """A Hub that must not be asked."""
    monkeypatch.setattr(hub, "obstacle_to_download", lambda config: pytest.fail("it asked the Hub"))


@pytest.fixture
def folder(tmp_path, random_model):
    """A local folder with a tiny model's weights."""
    random_model().save_pretrained(tmp_path / "local-model")
    return tmp_path / "local-model"


def test_the_stand_in_takes_the_thesis_models_place_without_cuda(compose, no_hub):
    source = find_model(compose("model=thesis").model, CPU)
    assert source.name == "mistral-mini"
    assert source.stand_in_for == MISTRAL
    assert source.weights == "random"
    assert source.hf_config.hidden_size == 512
    (notice,) = source.notices
    assert notice.startswith("STAND-IN: ")
    assert "mistral-mini" in notice
    assert MISTRAL in notice
    assert "\n" not in notice


def test_no_stand_in_with_cuda(compose, unreachable):
    source = find_model(compose("model=thesis").model, CUDA)
    assert source.name == MISTRAL
    assert source.stand_in_for is None
    assert source.hf_config.hidden_size == 4096


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize(
    "overrides",
    [["model=mistral-7b-instruct-v0.3"], ["+experiment=thesis", "model=mistral-7b-instruct-v0.3"]],
)
def test_a_model_asked_for_by_name_is_never_substituted(compose, unreachable, device, overrides):
    source = find_model(compose(*overrides).model, device)
    assert source.name == MISTRAL
    assert source.stand_in_for is None
    assert source.hf_config.num_hidden_layers == 32
    assert source.hf_config.vocab_size == 32768
    assert not any(notice.startswith("STAND-IN") for notice in source.notices)


def test_auto_takes_random_weights_where_the_hub_is_out_of_reach(compose, unreachable):
    source = find_model(compose("model=mistral-7b-instruct-v0.3").model, CPU)
    assert source.weights == "random"
    (notice,) = source.notices
    assert notice.startswith(f"RANDOM WEIGHTS: {MISTRAL} cannot be had (the Hub cannot be reached")


def test_random_weights_that_were_asked_for_need_no_notice_and_no_hub(compose, no_hub):
    source = find_model(compose("model=mistral-7b-instruct-v0.3", "model.weights=random").model, CPU)
    assert (source.weights, source.notices) == ("random", ())


def test_the_embedded_model_needs_no_notice_and_no_hub(compose, no_hub):
    for weights in ("random", "auto"):
        source = find_model(compose(f"model.weights={weights}").model, CPU)
        assert (source.name, source.weights, source.notices) == ("mistral-mini", "random", ())


def test_the_embedded_model_has_no_pretrained_weights(compose, no_hub):
    with pytest.raises(ConfigError, match=r"^model\.weights=pretrained: mistral-mini is embedded"):
        find_model(compose("model.weights=pretrained").model, CPU)


def test_pretrained_out_of_reach_is_an_error(compose, unreachable):
    with pytest.raises(ModelError) as caught:
        find_model(compose("model=mistral-7b-instruct-v0.3", "model.weights=pretrained").model, CPU)
    assert str(caught.value).startswith(f"model.name={MISTRAL}: ")
    assert "cannot be reached" in str(caught.value)


@pytest.mark.parametrize("weights", list(Weights))
def test_an_unknown_model_out_of_reach_is_an_error(compose, unreachable, weights):
    with pytest.raises(ModelError, match=r"^model\.name=some/model: "):
        find_model(compose("model=hub", "model.name=some/model", f"model.weights={weights}").model, CPU)


@pytest.mark.parametrize("name", ["mistralai/Mistral-7B-Instruct-v0.2", "mistral-min"])
def test_a_renamed_model_does_not_inherit_the_architecture(compose, unreachable, name):
    for option in ("mistral-7b-instruct-v0.3", "mistral-mini"):
        for weights in ("auto", "random"):
            config = compose(f"model={option}", f"model.name={name}", f"model.weights={weights}").model
            with pytest.raises(ModelError, match=f"^model.name={name}: "):
                find_model(config, CPU)


def test_an_architecture_can_be_changed_from_the_command_line(compose):
    source = find_model(compose("model.architecture.num_hidden_layers=3").model, CPU)
    assert source.hf_config.num_hidden_layers == 3


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.architecture.model_type=mistrall", "model.architecture.model_type=mistrall"),
        ("model.architecture.hidden_size=wide", "model.architecture"),
    ],
)
def test_an_architecture_that_is_none(compose, override, key):
    with pytest.raises(ConfigError) as caught:
        find_model(compose(override).model, CPU)
    assert str(caught.value).startswith(key)
    assert "\n" not in str(caught.value)


def test_a_local_folder_with_weights(folder, no_hub):
    for weights in (Weights.auto, Weights.pretrained):
        source = find_model(ModelConfig(str(folder), weights), CPU)
        assert source.weights == "pretrained"
        assert source.location == str(folder)
        assert source.notices == ()
        assert source.hf_config.hidden_size == 64
        assert set(source.fingerprint["files"]) == {"model.safetensors"}
        assert source.local_files_only


def test_other_weights_of_the_same_size_are_other_weights(folder, no_hub):
    before = find_model(ModelConfig(str(folder)), CPU).fingerprint
    assert find_model(ModelConfig(str(folder)), CPU).fingerprint == before
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert find_model(ModelConfig(str(folder)), CPU).fingerprint != before


def test_a_local_folder_named_for_another_models_config(compose, folder, no_hub):
    source = find_model(compose("model=mistral-7b-instruct-v0.3", f"model.name={folder}").model, CPU)
    assert source.hf_config.hidden_size == 64
    assert source.weights == "pretrained"


def test_a_local_folder_without_weights(folder, no_hub):
    (folder / "model.safetensors").unlink()
    source = find_model(ModelConfig(str(folder)), CPU)
    assert source.weights == "random"
    (notice,) = source.notices
    assert notice.startswith(f"RANDOM WEIGHTS: {folder} comes without weights")
    with pytest.raises(ModelError, match=r"^model\.weights=pretrained: "):
        find_model(ModelConfig(str(folder), Weights.pretrained), CPU)


def test_random_weights_for_a_local_folder(folder, no_hub):
    source = find_model(ModelConfig(str(folder), Weights.random), CPU)
    assert (source.weights, source.notices, source.location) == ("random", (), None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "the folder has no config.json; name a folder"),
        ("", "its config.json cannot be read (It looks like"),
        ("{not json", "its config.json cannot be read (It looks like"),
        ("{}", "its config.json cannot be read (Unrecognized model"),
        (
            '{"model_type": "unheard-of"}',
            "its config.json cannot be read (The checkpoint you are trying to load has model type",
        ),
        ("[1]", "its config.json cannot be read ("),
        ('{"model_type": "llama", "hidden_size": "wide"}', "its config.json cannot be read ("),
    ],
)
def test_a_local_folder_without_a_usable_config(folder, content, reason):
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        find_model(ModelConfig(str(folder)), CPU)
    assert str(caught.value).startswith(f"model.name={folder}: {reason}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_folder_of_gguf_says_so(folder):
    (folder / "config.json").unlink()
    (folder / "model.Q4_1.gguf").touch()
    with pytest.raises(ModelError, match=r"has no config\.json \(it has model\.Q4_1\.gguf: "):
        find_model(ModelConfig(str(folder)), CPU)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("here.gguf", "it is a GGUF file, and no folder"),
        ("here.safetensors", "it is a file, and no folder"),
        ("nowhere", "there is no such folder. Relative paths start at"),
        ("n" * 300, "there is no such folder"),
        ("\0", "there is no such folder"),
    ],
)
def test_a_path_is_never_looked_for_on_the_hub(tmp_path, no_hub, name, words):
    for suffix in ("gguf", "safetensors"):
        (tmp_path / f"here.{suffix}").touch()
    with pytest.raises(ModelError) as caught:
        find_model(ModelConfig(str(tmp_path / name)), CPU)
    assert words in str(caught.value)


@pytest.mark.parametrize("model_type", ["t5", "vit"])
def test_what_does_not_generate_is_refused_by_name(tmp_path, model_type):
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    with pytest.raises(ModelError) as caught:
        find_model(ModelConfig(str(tmp_path), Weights.random), CPU)
    assert str(caught.value).startswith(f"model.name={tmp_path}: {model_type} is no causal language model")


def test_a_model_that_sees_is_known_by_its_text(tmp_path):
    AutoConfig.for_model("gemma3").save_pretrained(tmp_path)
    assert find_model(ModelConfig(str(tmp_path), Weights.random), CPU).hf_config.model_type == "gemma3"


# --- code of its own ---------------------------------------------


CODE = """
open({ran!r}, "w").close()
from transformers import MistralConfig, MistralForCausalLM
class OwnConfig(MistralConfig):
    model_type = "own"
class OwnModel(MistralForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def with_code(folder, tmp_path):
    """A local folder whose model comes with code of its own, and the file that the code makes."""
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(CODE.format(ran=str(ran)))
    config = json.loads((folder / "config.json").read_text())
    named = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": named}))
    return folder, ran


def test_code_of_a_models_own_is_not_run_and_not_asked_about(with_code, monkeypatch):
    folder, ran = with_code
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\n"))
    with pytest.raises(ModelError, match=r"code of its own.*model\.trust_remote_code=true"):
        find_model(ModelConfig(str(folder)), CPU)
    assert not ran.exists()


@pytest.mark.parametrize("weights", [Weights.auto, Weights.random])
def test_code_that_the_config_trusts_is_run_and_part_of_the_key(with_code, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, ran = with_code
    source = find_model(ModelConfig(str(folder), weights, trust_remote_code=True), CPU)
    assert ran.exists()
    model = load_model(source, QuantizationName.none, CPU, seed=0)
    assert type(model).__name__ == "OwnModel"
    if weights is Weights.auto:
        assert set(source.fingerprint["files"]) == {"model.safetensors", "own.py"}


# --- what may be stood in for ---------------------------------------------


@pytest.mark.parametrize("overrides", [["model=thesis"], ["+experiment=thesis"]])
def test_a_model_named_on_the_command_line_is_never_stood_in_for(compose, unreachable, tmp_path, overrides):
    missing = tmp_path / "nowhere"
    with pytest.raises(ModelError, match="there is no such folder"):
        find_model(compose(*overrides, f"model.name={missing}").model, CPU)
    with pytest.raises(ModelError, match="it is no local folder"):
        find_model(compose(*overrides, "model.name=some/other").model, CPU)


# --- the Hub's cache ---------------------------------------------

NAME, COMMIT = "some/tiny-model", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch, random_model):
    """The Hub's cache on disk, holding one tiny model in two shards."""
    from huggingface_hub import constants

    root = tmp_path / "hub"
    model = root / "models--some--tiny-model"
    snapshot = model / "snapshots" / COMMIT
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    random_model().save_pretrained(snapshot, max_shard_size="300KB")
    assert len(list(snapshot.glob("*.safetensors"))) > 1
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    try:
        import transformers.utils.hub as transformers_hub

        monkeypatch.setattr(transformers_hub.constants, "HF_HUB_CACHE", str(root))
    except AttributeError:
        pass
    return snapshot


def shards(snapshot):
    return sorted(
        set(json.loads((snapshot / "model.safetensors.index.json").read_text())["weight_map"].values())
    )


@pytest.mark.parametrize("weights", [Weights.auto, Weights.pretrained])
def test_a_whole_model_in_the_cache_is_taken_without_the_hub(cache, no_hub, weights):
    source = find_model(ModelConfig(NAME, weights), CPU)
    assert source.weights == "pretrained"
    assert source.local_files_only
    assert source.location == NAME
    assert source.fingerprint == {"commit": COMMIT}
    assert source.notices == ()


def test_a_model_from_the_cache_loads(cache, no_hub, random_model):
    from llmlat.config import QuantizationName
    from llmlat.measure.models.load import load_model

    model = load_model(find_model(ModelConfig(NAME), CPU), QuantizationName.none, CPU, seed=77)
    for ours, theirs in zip(model.parameters(), random_model().parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("which", [0, -1])
def test_a_missing_shard_sends_it_to_the_hub(cache, unreachable, which):
    (cache / shards(cache)[which]).unlink()
    source = find_model(ModelConfig(NAME), CPU)
    assert source.weights == "random"
    assert source.hf_config.hidden_size == 64
    assert source.notices[0].startswith(f"RANDOM WEIGHTS: {NAME} cannot be had")
    with pytest.raises(ModelError, match="not complete in the Hub's cache"):
        find_model(ModelConfig(NAME, Weights.pretrained), CPU)


def test_a_cache_of_one_file_of_weights(cache, no_hub, random_model):
    for path in cache.glob("model*"):
        path.unlink()
    random_model().save_pretrained(cache)
    assert find_model(ModelConfig(NAME), CPU).weights == "pretrained"


def test_a_cache_of_shards_in_the_older_format(cache, no_hub):
    index = json.loads((cache / "model.safetensors.index.json").read_text())
    for path in cache.glob("model*"):
        path.unlink()
    index["weight_map"] = dict.fromkeys(index["weight_map"], "pytorch_model-00001-of-00001.bin")
    (cache / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (cache / "pytorch_model-00001-of-00001.bin").write_bytes(b"")
    assert find_model(ModelConfig(NAME), CPU).weights == "pretrained"


def test_a_cached_config_alone_gives_its_architecture(cache, unreachable):
    for path in cache.glob("model*"):
        path.unlink()
    assert find_model(ModelConfig(NAME), CPU).weights == "random"
    source = find_model(ModelConfig(NAME, Weights.random), CPU)
    assert (source.weights, source.notices) == ("random", ())


def test_another_revision_is_not_in_the_cache(cache, unreachable):
    with pytest.raises(ModelError, match=f"^model.name={NAME}"):
        find_model(ModelConfig(NAME, revision="v2"), CPU)
    assert find_model(ModelConfig(NAME, revision=COMMIT), CPU).revision == COMMIT


def test_random_weights_of_a_hub_model_still_fetch_its_tokenizer(monkeypatch, tiny_architecture):
    monkeypatch.setattr(hub, "obstacle_to_download", lambda config: None)
    monkeypatch.setattr(hub, "remote_architecture", lambda config: tiny_architecture)
    source = find_model(ModelConfig("some/model", Weights.random), CPU)
    assert source.weights == "random"
    assert not source.local_files_only


def test_the_stand_in_is_of_the_embedded_kind():
    """A stand-in must be had everywhere: it is never one that has to be downloaded."""
    config = ModelConfig("a/b", architecture={"of": "a/b"}, stand_in=LanguageModelConfig("c/d"))
    with pytest.raises(ModelError):
        find_model(config, CPU)

"""The plan: what decides a dataset's key, and what is found out before anything is loaded."""

import pytest
import torch

from llmlat.dataset import key_of
from llmlat.errors import ConfigError
from llmlat.measure import plan as plan_module
from llmlat.measure.plan import make_plan


def key(config):
    return key_of(make_plan(config).identity)


# --- what decides the key ---------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "model.architecture.num_hidden_layers=3",
        "model.architecture.rope_theta=5000.0",
        "quantization=int8",
        "quantization=nf4",
        "engine=no_cache",
        "decoding=sampling",
        "decoding.stop_at_eos=true",
        "decoding.temperature=0.5",
        "prompt_set.max_new_tokens=5",
        "prompt_set.limit=2",
        "prompt_set=short",
        "collect.warmup=4",
        "collect.repetitions=2",
    ],
)
def test_the_key_changes_with_what_decides_the_measurement(config_of, change):
    assert key(config_of(change)) != key(config_of())


@pytest.mark.parametrize(
    "change",
    [
        "regressor.alpha=10",
        "regressor=custom",
        "split=by_request",
        "split.test_size=0.5",
        "features.columns=[prompt_tokens]",
        "tracking=none",
        "tracking.project=other",
        "name=other",
        "datasets_dir=elsewhere",
        "reference=thesis",
        "device=auto",
    ],
)
def test_the_key_does_not_change_with_anything_else(config_of, change, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    changed = [change, "regressor._target_=x.Y"] if change == "regressor=custom" else [change]
    assert key(config_of(*changed)) == key(config_of())


def test_the_key_holds_the_prompts_and_not_where_they_are(config_of, tmp_path):
    before = key(config_of())
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "p.txt").rename(tmp_path / "elsewhere" / "q.txt")
    assert key(config_of(f"prompt_set.path={moved}")) == before
    moved.write_text(moved.read_text().replace("Two", "Too"))
    assert key(config_of(f"prompt_set.path={moved}")) != before


def test_the_key_changes_with_the_model(config_of, random_model, tmp_path):
    mini = key(config_of())
    folders = []
    for name in ("a", "b"):
        made = random_model(seed=len(folders), num_hidden_layers=1 + len(folders), vocab_size=32768)
        made.save_pretrained(tmp_path / name)
        folders.append(key(config_of(f"model.name={tmp_path / name}", "model.weights=pretrained")))
    without = key(config_of(f"model.name={tmp_path / 'a'}", "model.weights=random"))
    assert len({mini, without, *folders}) == 4


def test_the_key_tells_a_stand_in_from_the_model_itself(compose):
    stand_in, itself = (compose(f"model={name}", "device=cpu") for name in ("thesis", "mistral-mini"))
    assert make_plan(stand_in).identity["stand_in_for"] == "mistralai/Mistral-7B-Instruct-v0.3"
    assert key(stand_in) != key(itself)


@pytest.mark.parametrize("what", ["versions", "hardware"])
def test_the_key_changes_with_the_machine(config_of, monkeypatch, what):
    before = key(config_of())
    real = getattr(plan_module, what)
    monkeypatch.setattr(plan_module, what, lambda *a: {**real(*a), "torch": "99", "driver": "99"})
    assert key(config_of()) != before


def test_the_key_is_the_same_in_another_process_and_hour(config_of):
    identity = make_plan(config_of()).identity
    assert key_of(identity) == key(config_of())
    assert "time" not in str(identity).lower()


# --- bad settings are found before anything is loaded ---------------------------------------------


def test_a_key_that_an_engine_does_not_take_is_answered_with_those_it_takes(config_of):
    with pytest.raises(ConfigError, match=r"argument 'colour'\); it takes no settings\.$"):
        make_plan(config_of("+engine.colour=red"))
    graph = "engine._target_=llmlat.measure.engines.cuda_graph.CudaGraphEngine"
    with pytest.raises(ConfigError, match=r"argument 'compiel'\); it takes engine\.compile\.$"):
        make_plan(config_of(graph, "+engine.compiel=true"))


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("decoding.temperature=-1", "decoding.temperature=-1.0: "),
        ("decoding.temperature=nan", "decoding.temperature=nan: "),
        (
            "engine._target_=llmlat.measure.engines.eager.Eagre",
            "engine._target_=llmlat.measure.engines.eager.Eagre: ",
        ),
        ("engine._target_=nowhere.Engine", "engine._target_=nowhere.Engine: "),
        (
            "+engine.colour=red",
            "engine._target_=llmlat.measure.engines.eager.EagerEngine: cannot be made (got an unexpected ",
        ),
        ("~engine.name", "engine.name: "),
        ("device=tpu", "device=tpu: "),
        ("device=nonsense", "device=nonsense: "),
        ("device=cuda:99", "device=cuda:99: "),
        ("device=mps", "device=mps: "),
    ],
)
def test_a_bad_setting(config_of, override, start):
    with pytest.raises(ConfigError) as caught:
        make_plan(config_of(override))
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)

"""Every option and experiment composes; every mistake is one line that names its key."""

import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import hydra
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from llmlat import config, config_errors
from llmlat.config import Config, SplitName, config_dir
from llmlat.errors import ConfigError

Compose = Callable[..., Config]

CONF = config_dir()
FILES = sorted(CONF.rglob("*.yaml"))
GROUPS = sorted(
    path.name for path in CONF.iterdir() if path.is_dir() and path.name not in {"experiment", "hydra"}
)
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
MANDATORY = {  # what an option leaves to the user
    ("engine", "custom"): ["engine.name=custom", "engine._target_=mine.MyEngine"],
    ("engine", "endpoint"): ["engine.base_url=http://localhost:8000/v1"],
    ("model", "hub"): ["model.name=organisation/model"],
    ("prompt_set", "file"): ["prompt_set.path=prompts.jsonl"],
    ("regressor", "custom"): ["regressor._target_=sklearn.linear_model.Lasso"],
}


def relative(path: Path) -> str:
    return str(path.relative_to(CONF))


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids="=".join)
def test_every_option_composes(compose: Compose, group: str, option: str) -> None:
    settings = compose(f"{group}={option}", *MANDATORY.get((group, option), []))
    assert isinstance(settings, Config)
    chosen = getattr(settings, group)
    name = chosen.get("name") if isinstance(chosen, dict) else getattr(chosen, "name", None)
    if name is not None and group != "model":
        assert name == option, "an option is named as its file is"


@pytest.mark.parametrize(("group", "option"), MANDATORY, ids="=".join)
def test_an_option_that_leaves_a_value_open_asks_for_it(compose: Compose, group: str, option: str) -> None:
    key = MANDATORY[group, option][0].partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)}: has no value yet"):
        compose(f"{group}={option}")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes(compose: Compose, name: str) -> None:
    assert compose(f"+experiment={name}").name == name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_selects_options_and_pins_no_field_of_a_group(name: str) -> None:
    content = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
    hints = get_type_hints(Config)
    scalars = {f.name for f in fields(Config) if not _is_group(hints[f.name])}
    assert set(content) <= scalars | {"defaults", "hydra"}
    # Another experiment to build on, or an option to select.
    assert all(
        entry in {"_self_", *EXPERIMENTS} if isinstance(entry, str) else _selects_options(entry)
        for entry in content["defaults"]
    )


def _selects_options(entry: dict[str, Any]) -> bool:
    return all(key.startswith("override /") for key in entry)


def test_the_thesis_sweep_is_the_command_as_a_file(compose: Compose) -> None:
    content = yaml.safe_load((CONF / "experiment" / "thesis_sweep.yaml").read_text(encoding="utf-8"))
    assert content["hydra"]["mode"] == "MULTIRUN"
    params = content["hydra"]["sweeper"]["params"]
    assert params == {"prompt_set": "short,chat,code,long_context", "regressor.alpha": "0.01,0.1,1,10,100"}
    job = ("prompt_set=chat", "regressor.alpha=10")
    from_file, typed = (compose(f"+experiment={name}", *job) for name in ("thesis_sweep", "thesis"))
    for settings in (from_file, typed):
        settings.name, settings.tracking = "", None  # type: ignore[assignment]
    assert from_file == typed
    assert (from_file.prompt_set.name, from_file.regressor["alpha"]) == ("chat", 10)


def _is_group(hint: Any) -> bool:
    return is_dataclass(hint) or get_origin(hint) is dict


def test_scalars_and_groups_are_told_apart() -> None:
    hints = get_type_hints(Config)
    groups = {name for name, hint in hints.items() if _is_group(hint)}
    assert groups - {"large"} == set(GROUPS)  # which has no options to choose from


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_conf_file_is_bare_yaml_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert isinstance(yaml.safe_load(text), dict)
    assert "!!python" not in text
    first = next(line for line in text.splitlines() if not line.startswith("# @package")) if text else ""
    is_hydras = path.is_relative_to(CONF / "hydra" / "help")
    assert is_hydras or re.match(r"# \S.{10,}", first), (
        "its first line is a comment that says what the option is"
    )


def test_no_option_is_named_as_yaml_reads_otherwise() -> None:
    assert not {path.stem for path in FILES} & {"on", "off", "yes", "no", "null", "true", "false"}


def test_the_defaults_are_the_embedded_model(compose: Compose) -> None:
    settings = compose()
    assert (settings.model.name, settings.quantization.name, settings.prompt_set.name) == (
        "mistral-mini",
        "none",
        "short",
    )
    assert settings.regressor == {"_target_": "sklearn.linear_model.Ridge", "alpha": 1.0}
    assert settings.split.name is SplitName.random
    assert settings.tracking.name == "wandb"


def test_the_keys_that_commands_and_docs_use(compose: Compose) -> None:
    settings = compose(
        "model.name=x", "model.weights=random", "prompt_set.path=p.txt", "prompt_set.max_new_tokens=7",
        "decoding.temperature=0.5", "collect.warmup=1", "collect.repetitions=2", "regressor.alpha=3",
        "split.test_size=0.3", "tracking.mode=offline", "seed=9",
    )  # fmt: skip
    assert (settings.prompt_set.max_new_tokens, settings.collect.repetitions, settings.seed) == (7, 2, 9)
    assert (settings.regressor["alpha"], settings.split.seed) == (3, 9)


def test_nothing_of_omegaconf_goes_below_the_edge(compose: Compose) -> None:
    settings = compose("+experiment=thesis")
    assert type(settings.regressor) is dict
    assert type(settings.engine) is dict
    assert type(settings.features.columns) is list
    assert type(settings.model.architecture) is dict
    assert settings.model.stand_in is not None
    assert settings.model.stand_in.name == "mistral-mini"


def test_the_checkouts_conf_is_preferred_to_the_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_dir().is_absolute()
    package = tmp_path / "llmlat"
    (package / "conf").mkdir(parents=True)
    monkeypatch.setattr(config, "PACKAGE_DIR", package)
    assert config_dir() == package / "conf"
    (tmp_path / "conf").mkdir()
    assert config_dir() == package / "conf", "a folder of that name beside site-packages is not ours"
    (tmp_path / "conf" / "config.yaml").touch()
    assert config_dir() == tmp_path / "conf"


@pytest.mark.parametrize(
    ("parent", "known"),
    [
        ("", [f.name for f in fields(Config)]),
        ("split", ["name", "test_size", "seed", "column", "held_out"]),
        ("model.stand_in", ["name", "weights", "tokenizer", "architecture", "revision", "trust_remote_code"]),
        ("regressor", []),
        ("model.architecture", []),
        ("seed", []),
        ("nothing.at.all", []),
    ],
)
def test_known_keys(parent: str, known: list[str]) -> None:
    assert config_errors.known_keys(parent, Config) == known


def explained(*overrides: str) -> str:
    """Compose as the command line does, and return the line that it would print."""
    config.register()
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config.from_composed(hydra.compose("config", list(overrides)))
    except ConfigError as error:
        return str(error)
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
        if not config_errors.is_of_the_command_line(error):
            raise
        return config_errors.explain(error, Config)
    pytest.fail(f"{overrides} composes")


MISTAKES = {
    # an option
    "model=mistral-mni": "model=mistral-mni: no such option; did you mean mistral-mini? There are: hub, ",
    "quantization=int9": "quantization=int9: no such option; did you mean int8? There are: int8, nf4, none.",
    "split=zzz": "split=zzz: no such option. There are: by_prompt, by_request, by_time, extrapolate, ",
    "+experiment=thesiss": "+experiment=thesiss: no such option; did you mean thesis? There are: ",
    "experiment=thesis": "experiment=thesis: there is none yet that it could replace; use +experiment=thesis",
    # a key
    "sead=1": "sead: no such key; did you mean seed? Groups and keys: name, model, ",
    "zzz=1": "zzz: no such key. Groups and keys: ",
    "split.tset_size=0.1": "split.tset_size: no such key; did you mean test_size? Keys of split: name, ",
    "regressor.alhpa=1": "regressor.alhpa: no such key; did you mean alpha? --cfg job",
    "regressor.tol=1": "regressor.tol: no such key; +regressor.tol=VALUE adds it, if",
    "model.architecture.hiden_size=1": "model.architecture.hiden_size: no such key; did you mean hidden_size",
    "hydra.run.dri=x": "hydra.run.dri: no such key; did you mean dir?",
    "hydra.run.zzz=x": "hydra.run.zzz: no such key.",
    # a key that + adds and nothing reads
    "+sead=1": "sead: no such key; did you mean seed?",
    "+prompt_set.max_tokens=8": "prompt_set.max_tokens: no such key; did you mean max_new_tokens?",
    "+model.foo.bar=3": "model.foo: no such key.",
    "++collect.repetition=2": "collect.repetition: no such key; did you mean repetitions?",
    # below a key that is null
    "model.stand_in.name=x": "model.stand_in.name: model.stand_in is null",
    # a value
    "seed=abc": "seed: Value 'abc' of type 'str' could not be converted to Integer; use a whole number.",
    "seed=null": "seed: field 'seed' is not Optional; null is no value for it.",
    "prompt_set.max_new_tokens=x": "prompt_set.max_new_tokens: Value 'x'",
    "split.test_size=most": "split.test_size: Value 'most'",
    "decoding.stop_at_eos=maybe": "decoding.stop_at_eos: Value 'maybe' is not a valid bool (type str); use ",
    "decoding.batch_size=[1,4]": "decoding.batch_size: Value '[1, 4]' of type 'list' could not be converted "
    "to Integer; one value is wanted, and -m decoding.batch_size=A,B tries several.",
    "decoding.batch_size=1,4": "decoding.batch_size=1,4: several values; add -m to try each, or write",
    "model.architecture=3": "model.architecture: Cannot assign int to Dict[str, Any]; use a mapping, as in ",
    "split=3": "a group is given a number; use one of its options",
    "collect.warmup=1.5": "collect.warmup: Value '1.5'",
    "model.weights=best": "model.weights: Invalid value 'best', expected one of [auto, pretrained, random].",
    "split.name=zzz": "split.name: Invalid value 'zzz', expected one of [random, by_request, by_prompt, ",
    "tracking.mode=zzz": "tracking.mode: Invalid value 'zzz', expected one of [auto, online, offline].",
    "features.columns=context_length": "features.columns: Invalid value assigned: str is not a ListConfig, "
    "list or tuple; use a list, as in features.columns=[A,B].",
    # a value that is missing or refers to nothing
    "model=hub": "model.name: has no value yet; give it one, model.name=...",
    "prompt_set=file": "prompt_set.path: has no value yet; give it one, prompt_set.path=...",
    "~model": "model.name: has no value yet",
    "model.name=${nothing}": "model.name: Interpolation key 'nothing' not found.",
    "datasets_dir=${oc.env:LLMLAT_NOTHING}": "datasets_dir: ",
    # what cannot be read
    "seed=[": "seed: [ ends before its bracket is closed",
    "seed": "seed: there is no value; write key=value",
    "prompt_set.path=a=b": "prompt_set.path: cannot be read; quote the value for Hydra too, as in",
    "~zzz": "Could not delete from config. 'zzz' does not exist.",
    "+split=random": "split appears more than once",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line_with_its_key(override: str) -> None:
    line = explained(override)
    assert "\n" not in line
    assert line.startswith(MISTAKES[override])
    assert ".." not in line.replace("=...", "")
    assert "hydra.cc" not in line


def test_a_missing_value_is_told_by_either_route() -> None:
    class MissingError(Exception):
        pass

    text = "Missing mandatory value: model.name\n    full_key: model.name\n    object_type=ModelConfig"
    assert (
        config_errors.explain(MissingError(text), Config)
        == "model.name: has no value yet; give it one, model.name=..."
    )


def test_an_error_of_ones_own_is_not_explained_away() -> None:
    assert not config_errors.is_of_the_command_line(AssertionError("something else"))
    assert not config_errors.is_of_the_command_line(ValueError("something else"))


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed=-1", "seed=-1: use a whole number"),
        ("split.seed=-1", "split.seed=-1: use a whole number"),
        ("split.test_size=0", "split.test_size=0.0: use a share"),
        ("split.test_size=1.5", "split.test_size=1.5: use a share"),
        ("reference=thesiss", "reference=thesiss: use thesis"),
        ("features.columns=[]", "features.columns: empty"),
        ("table.latency=ms", "table.path: it is not set"),
        ("large.rows=0", "large.rows=0: use a whole number"),
        ("large.sample_rows=-1", "large.sample_rows=-1: use a whole number"),
        ("dataset=nowhere", "dataset=nowhere: there is no such folder"),
        ("dataset=[tests,tests/../tests]", "dataset: tests/../tests is named twice"),
        (
            "features.columns=[contxt_length]",
            "features.columns: a row has no column 'contxt_length'; did you mean",
        ),
        ("regressor=last_token", "regressor._target_=llmlat.fit.regressors.LastTokenRegressor"),
        ("+regressor.alhpa=1", "regressor._target_=sklearn.linear_model.Ridge: cannot be made"),
        ("regressor.alpha=much", "regressor._target_=sklearn.linear_model.Ridge (alpha=much): fails on"),
    ],
)
def test_what_types_cannot_refuse_is_refused_before_a_plan_is_made(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, line: str
) -> None:
    from llmlat import pipeline

    monkeypatch.setitem(sys.modules, "llmlat.measure.session", None)
    with pytest.raises(ConfigError) as caught:
        pipeline.run(compose(override, "tracking=none"), {}, tmp_path)
    assert str(caught.value).startswith(line)

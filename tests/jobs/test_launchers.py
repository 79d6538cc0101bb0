"""The launchers that give each job a process of its own."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import open_dict

import llmlat.config
from llmlat.jobs import edge

LAUNCHERS = ["local", "slurm"]


def composed(*overrides: str) -> Any:
    llmlat.config.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(llmlat.config.config_dir()), version_base="1.3"):
        return hydra.compose("config", list(overrides), return_hydra_config=True)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_without_the_extra_it_composes_and_one_line_says_what_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = composed(f"hydra/launcher={name}").hydra.launcher._target_
    edge._need_launcher(target)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit_of:
        edge._need_launcher(target)
    assert exit_of.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    edge._need_launcher("hydra._internal.core_plugins.basic_launcher.BasicLauncher")


def test_slurm_is_asked_for_a_gpu_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("srun", "sbatch"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    settings = composed(
        "hydra/launcher=slurm", "hydra.launcher.partition=fast", "hydra.launcher.timeout_min=30"
    )
    settings.hydra.launcher.submitit_folder = str(tmp_path / "logs")
    launcher: Any = Plugins.instance()._instantiate(settings.hydra.launcher)
    executor = launcher._executor()._executor
    script = executor._make_submission_file_text("command", "uid")
    for line in (
        "--partition=fast",
        "--gpus-per-node=1",
        "--time=30",
        "--cpus-per-task=8",
        "--job-name=default",
    ):
        assert f"#SBATCH {line}\n" in script
    assert "--account" not in script


def test_without_slurm_one_line_says_so(cli: SimpleNamespace) -> None:
    run = cli.run("hydra/launcher=slurm", "seed=1,2", "-m", PATH="/nowhere")
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: hydra/launcher: slurm takes no jobs: ")


@pytest.mark.parametrize(
    ("overrides", "n_jobs", "swept"),
    [
        (["+experiment=thesis_sweep"], 20, ["prompt_set", "regressor.alpha"]),
        (["seed=range(3)", "regressor.alpha=1,10"], 6, ["seed", "regressor.alpha"]),
        (["+experiment=thesis_sweep", "regressor.alpha=1"], 4, ["prompt_set"]),
        (["seed=1", "model.name=${name}"], 1, []),
    ],
    ids=str,
)
def test_jobs_are_counted_before_they_run(overrides: list[str], n_jobs: int, swept: list[str]) -> None:
    fixed = [override for override in overrides if "," not in override and "range" not in override]
    settings = composed(*fixed)
    with open_dict(settings):
        settings.hydra.overrides.task = overrides
    planned, keys = edge._plan(settings)
    assert (len(planned or ()), keys) == (n_jobs, swept)
    assert len({tuple(job) for job in planned or ()}) == n_jobs
    edge._pin(settings, "it's/a folder")
    (pinned,) = llmlat.config.as_given(settings.hydra.overrides.hydra)
    assert OverridesParser.create().parse_override(pinned).value() == "it's/a folder"

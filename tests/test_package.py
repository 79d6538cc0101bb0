"""The wheel, built and run from an empty directory, without the checkout in sight."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from llmlat.config import PACKAGE_DIR

CHECKOUT = PACKAGE_DIR.parent

pytestmark = pytest.mark.skipif(
    not (CHECKOUT / "pyproject.toml").is_file(), reason="a wheel is built from a checkout"
)


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, CHECKOUT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_dir(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment of its own, which borrows every other package from this one."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    variables = {"base": str(home), "platbase": str(home)}
    scripts, site = (Path(sysconfig.get_path(name, "venv", variables)) for name in ("scripts", "purelib"))
    python = scripts / Path(sys.executable).name
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=home
    )
    # Only now, and as plain paths: the .pth of this environment's editable install goes unread.
    (site / "borrowed.pth").write_text(
        "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    )
    return scripts


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"llmlat", "hydra_plugins"}
    expected = {
        f"llmlat/{path.relative_to(PACKAGE_DIR)}"
        for path in PACKAGE_DIR.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {
        f"llmlat/conf/{path.relative_to(CHECKOUT / 'conf')}" for path in (CHECKOUT / "conf").rglob("*.yaml")
    }
    expected.add("hydra_plugins/llmlat_launchers.py")
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {
        "llmlat/conf/config.yaml",
        "llmlat/prompt_sets/thesis.jsonl",
        "llmlat/report/page.html.j2",
    } <= names


def test_it_runs_from_an_empty_directory(bin_dir: Path, tmp_path: Path, tiny: tuple[str, ...]) -> None:
    python, script = bin_dir / Path(sys.executable).name, bin_dir / "llmlat"
    where = run(
        python, "-c", "import llmlat.config as c; print(c.__file__); print(c.config_dir())", cwd=tmp_path
    )
    assert all(Path(line).is_relative_to(bin_dir.parent) for line in where.splitlines()), where
    assert "_target_: sklearn.linear_model.Ridge" in run(python, "-m", "llmlat", "--cfg", "job", cwd=tmp_path)
    assert "+experiment=thesis" in run(script, "--help", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    run(script, "tracking=none", *tiny, "prompt_set.limit=3", "prompt_set.max_new_tokens=4", cwd=tmp_path)
    (metrics,) = tmp_path.glob("outputs/default/*/metrics.json")
    assert json.loads(metrics.read_text(encoding="utf-8"))["n_events"] == 12
    assert (metrics.parent / "report.html").is_file()

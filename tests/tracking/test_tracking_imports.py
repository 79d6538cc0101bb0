from pathlib import Path

from tracked_runs import script

BLOCK = """
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "wandb":
            raise ModuleNotFoundError("No module named 'wandb'", name="wandb")
sys.meta_path.insert(0, Blocked())
"""
START = """
from pathlib import Path
from tracked_runs import RUN_CONFIG, config
from llmlat import tracking
from llmlat.config import TrackingConfig, TrackingName
from llmlat.errors import ConfigError
none = TrackingConfig(name=TrackingName.none)
"""
MISSING = """
try:
    tracking.start(config(), RUN_CONFIG, Path("run"))
except ConfigError as error:
    print(error)
"""
EXPECTED = "tracking=wandb: wandb is not installed; pip install wandb, or run with tracking=none.\n"


def output(body: str) -> str:
    process = script(body)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return out


def test_without_wandb_tracking_none_works_and_tracking_wandb_says_what_to_do():
    started = "with tracking.start(none, RUN_CONFIG, Path('run')) as tracker: print(tracker.where)"
    assert output(BLOCK + START + started + MISSING) == "None\n" + EXPECTED
    assert not Path("run").exists()


def test_a_folder_named_wandb_is_not_the_package():
    (Path("wandb") / "run").mkdir(parents=True)
    hidden = "import os; sys.path = [os.getcwd()] + [p for p in sys.path if 'site-packages' not in p]\n"
    check = "from llmlat.tracking import run_note, session\n"
    # Everything else is imported while it still can be.
    assert output(START + check + hidden + "sys.modules.pop('wandb', None)" + MISSING) == EXPECTED


def test_nothing_imports_wandb_until_it_is_asked_for():
    started = "tracking.start(none, RUN_CONFIG, Path('run')).finish(); print('wandb' in sys.modules)"
    assert output(START + started) == "False\n"

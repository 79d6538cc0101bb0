"""An engine from outside of llmlat: the one that docs/engines.md shows, taken from the page and run."""

import importlib
import re
import shlex
import sys
from functools import partial

import pytest
from test_engines import Counting, generate, measured, reference

from llmlat.config import PACKAGE_DIR
from llmlat.dataset import Dataset, key_of
from llmlat.errors import ConfigError
from llmlat.measure.cells import Cell
from llmlat.measure.engines.eager import EagerEngine
from llmlat.measure.plan import make_plan
from llmlat.measure.session import measure

pytestmark = pytest.mark.usefixtures("quick_requests")

PAGE = PACKAGE_DIR.parent / "docs" / "engines.md"
MODULE = "chunked_prefill.py"
OPTION = "my_conf/engine/chunked_prefill.yaml"
CUSTOM = (
    "engine=custom",
    "engine.name=chunked_prefill",
    "engine._target_=chunked_prefill.ChunkedPrefillEngine",
)
RAGGED = (11, 4, 1)  # in pieces of 3 the shortest is padding, and nothing else, for three of four


@pytest.fixture
def folder(shown_files, tmp_path, monkeypatch):
    """The page's files, in a folder where modules are looked for."""
    for name, text in shown_files(PAGE).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("chunked_prefill", None)


@pytest.fixture
def chunked(folder):
    """Return a function that gives the page's engine with pieces of so many tokens."""
    engine_class = importlib.import_module("chunked_prefill").ChunkedPrefillEngine
    return lambda chunk_tokens: partial(engine_class, chunk_tokens=chunk_tokens)


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(initializer_range=0.4)


def test_the_page_shows_one_in_under_60_lines(shown_files):
    files = shown_files(PAGE)
    assert set(files) == {MODULE, OPTION}
    assert 30 < len(files[MODULE].splitlines()) < 60


@pytest.mark.parametrize("chunk_tokens", [1, 3, 4, 11, 512])
@pytest.mark.parametrize("lengths", [(11,), (9, 9, 9), RAGGED])
def test_its_tokens_are_those_of_transformers(model, batch_of, chunked, lengths, chunk_tokens):
    request = batch_of(lengths, Cell("greedy"), max_new_tokens=12)
    assert generate(chunked(chunk_tokens), model, request) == reference(model, request)


@pytest.mark.parametrize("lengths", [(11,), RAGGED])
def test_its_beams_are_those_of_transformers(random_model, batch_of, chunked, lengths):
    undecided = random_model(initializer_range=0.15)
    request = batch_of(lengths, Cell("beams", num_beams=3), max_new_tokens=10)
    assert generate(chunked(3), undecided, request) == reference(undecided, request)


@pytest.mark.parametrize("chunk_tokens", [3, 6, 8])
def test_a_sliding_window_sees_what_it_does_in_transformers(random_model, batch_of, chunked, chunk_tokens):
    model = random_model(initializer_range=0.15, sliding_window=6)
    request = batch_of(RAGGED, Cell("any", num_beams=2), max_new_tokens=10)
    assert generate(chunked(chunk_tokens), model, request) == reference(model, request)


def test_it_draws_what_eager_draws(model, batch_of, chunked):
    request = batch_of(RAGGED, Cell("sampling", temperature=1.0, top_k=50), max_new_tokens=12)
    assert generate(chunked(3), model, request) == generate(EagerEngine, model, request)


def test_a_prompt_is_fed_in_pieces(model, batch_of, chunked):
    counting = Counting(model)
    measured(chunked(4), counting, batch_of(RAGGED, Cell("greedy"), max_new_tokens=3))
    assert counting.seen == [(3, 4), (3, 4), (3, 3), (3, 1), (3, 1)]


def commands():
    """Return the arguments of the page's commands, options last, where more can be put before them."""
    section = PAGE.read_text(encoding="utf-8").partition("## Running it")[2]
    lines = "".join(re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)).replace("\\\n", "")
    split = [shlex.split(line) for line in lines.splitlines()]
    return [sorted(words[3:], key=lambda word: word.startswith("--")) for words in split]


def test_the_pages_command_measures_it_beside_eager(cli, folder, tiny):
    (beside,) = [arguments for arguments in commands() if "interleave" in " ".join(arguments)]
    few = ("prompt_set.limit=4", "prompt_set.max_new_tokens=6", "engine.chunk_tokens=4", "collect.warmup=0")
    beside = [word.replace("chunked_prefill_256", "chunked_prefill_4") for word in beside]
    run = cli.run(*tiny, *few, *beside)
    assert run.returncode == 0, run.stderr
    (path,) = folder.glob("outputs/datasets/*")
    rows = Dataset(path).read()
    assert rows.groupby("engine").size().to_dict() == {"chunked_prefill_4": 24, "eager": 24}
    assert (rows["prompt_tokens"] > 4).all(), "there is something to cut"
    (look,) = re.findall(
        r"^```python\n(import pandas.*?)\n```", PAGE.read_text(encoding="utf-8"), re.M | re.S
    )
    *lines, verdict = look.replace("<key>", path.name).splitlines()
    names = {}
    exec("\n".join(lines), names)
    assert eval(verdict, names) == 1


def test_the_pages_shortest_command_is_planned(compose, folder, tiny):
    (custom,) = [arguments for arguments in commands() if "engine=custom" in arguments]
    assert tuple(custom[:3]) == CUSTOM
    plan = make_plan(compose(*tiny, *custom))
    assert plan.engines["chunked_prefill"]["chunk_tokens"] == 256
    assert plan.requests[0].cell.engine == "chunked_prefill"


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("+engine.chunk_token=8", "got an unexpected keyword argument 'chunk_token'"),
        ("engine._target_=chunked_prefill", "is not a callable object"),
    ],
)
def test_what_its_class_does_not_take_is_refused_before_the_model_is_loaded(
    compose, folder, tiny, override, reason
):
    with pytest.raises(
        ConfigError, match=r"^engine\._target_=chunked_prefill.*: cannot be made \("
    ) as caught:
        make_plan(compose(*tiny, *CUSTOM, override))
    assert reason in str(caught.value)


def test_what_it_refuses_itself_is_said_in_its_words(compose, folder, tiny):
    config = compose(*tiny, *CUSTOM, "+engine.chunk_tokens=0", "collect.warmup=0")
    with pytest.raises(ConfigError, match=r"^engine\.chunk_tokens=0: use a whole number from 1 on\.$"):
        measure(config, make_plan(config), {}, lambda request, rows: None)


def test_the_key_changes_with_the_settings_and_the_source_file(compose, folder, tiny):
    def identity(*overrides):
        return make_plan(compose(*tiny, *CUSTOM, *overrides)).identity

    before = identity("+engine.chunk_tokens=8")
    assert identity("+engine.chunk_tokens=8") == before
    assert key_of(identity("+engine.chunk_tokens=9")) != key_of(before)
    with (folder / MODULE).open("a") as file:
        file.write("# another way\n")
    assert key_of(identity("+engine.chunk_tokens=8")) != key_of(before)


def test_the_key_of_a_shipped_engine_holds_no_source(compose, folder, tiny):
    assert "engine_sources_sha256" not in make_plan(compose(*tiny)).identity
    mixed = make_plan(compose(*tiny, *CUSTOM, "collect.interleave.engine=[eager,chunked_prefill]"))
    assert set(mixed.identity["engine_sources_sha256"]) == {"chunked_prefill"}

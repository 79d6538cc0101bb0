"""What the README, the docs and --help tell people to type composes, and the make targets exist."""

import contextlib
import itertools
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from llmlat.__main__ import main
from llmlat.config import PACKAGE_DIR, config_dir

CHECKOUT = PACKAGE_DIR.parent
PAGES = [
    CHECKOUT / "README.md",
    *sorted((CHECKOUT / "docs").rglob("*.md")),
    CHECKOUT / "benchmarks" / "README.md",
]
HELP = config_dir() / "hydra" / "help" / "llmlat.yaml"


def bash_lines(markdown: str) -> Iterator[list[str]]:
    """Yield the words of each command in the bash blocks: comments gone, lines joined, && parted."""
    for block in re.findall(r"^ *```bash\n(.*?)^ *```", markdown, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(re.sub(r"<(\w+)>", r"\1", line), comments=True)
            for is_and, command in itertools.groupby(words, lambda word: word in {"&&", ";"}):
                if not is_and:
                    yield list(command)


def llmlat_arguments(words: list[str]) -> list[str] | None:
    """Return what a command hands to llmlat, or None where it runs something else."""
    words = list(itertools.dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words))
    program = Path(words[0]).name if words else ""
    if program == "llmlat":
        return words[1:]
    if re.fullmatch(r"python3?", program) and words[1:3] == ["-m", "llmlat"]:
        return words[3:]
    return None


def commands_of(page: Path) -> list[list[str]]:
    return [words for words in bash_lines(page.read_text(encoding="utf-8")) if words]


def help_commands() -> list[list[str]]:
    examples = HELP.read_text(encoding="utf-8").partition("Examples")[2].partition("Groups")[0]
    return [
        shlex.split(re.split(r" {2,}", line.strip())[0]) for line in examples.splitlines() if line.strip()
    ]


COMMANDS = [
    (page, " ".join(words), arguments)
    for page in PAGES
    if page.is_file()
    for words in commands_of(page)
    if (arguments := llmlat_arguments(words)) is not None
] + [(HELP, " ".join(words), words[1:]) for words in help_commands()]


def single_jobs(arguments: list[str]) -> Iterator[list[str]]:
    """Yield the arguments of each job of a sweep; --cfg cannot show a sweep, only its jobs."""
    if not {"-m", "--multirun"} & set(arguments):
        yield arguments
        return
    options = [word for word in arguments if word.startswith("--") and word != "--multirun"]
    words = [word for word in arguments if not word.startswith("-")]
    overrides = OverridesParser.create().parse_overrides(words)
    choices = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [word]
        for word, o in zip(words, overrides, strict=True)
    ]
    yield from ([*options, *job] for job in itertools.product(*choices))


@pytest.mark.parametrize(
    ("page", "command", "arguments"),
    COMMANDS,
    ids=[f"{page.name}: {command}" for page, command, _ in COMMANDS],
)
def test_every_command_composes(
    page: Path,
    command: str,
    arguments: list[str],
    shown_files: Callable[[Path], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # main() sets it; let it be undone
    for name, text in shown_files(page).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    for job in single_jobs(arguments):
        GlobalHydra.instance().clear()
        shown = [] if {"--help", "--cfg"} & set(job) else ["--cfg", "job"]
        monkeypatch.setattr(sys, "argv", ["llmlat", *job, *shown])
        with contextlib.suppress(SystemExit):
            main()
        shown_text, complaint = capsys.readouterr()
        assert complaint == ""
        assert "regressor" in shown_text


def test_the_readme_shows_the_main_commands() -> None:
    commands = {" ".join(words) for words in commands_of(CHECKOUT / "README.md")}
    assert {"make thesis", "make test", "python -m llmlat +experiment=thesis"} <= commands


def test_every_make_target_is_in_the_makefile() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    asked = {
        target
        for page in PAGES
        if page.is_file()
        for words in commands_of(page)
        if words[0] == "make"
        for target in words[1:]
        if "=" not in target
    }
    assert {"thesis", "test"} <= asked <= targets


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_file()], ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_what_is_read_from_a_page() -> None:
    page = """
```bash
make thesis   # sets up
A=1 .venv/bin/python -m llmlat -m prompt_set=short,chat \\
  regressor.alpha=1,10 && llmlat dataset=outputs/datasets/<key>
```
  ```python
  import llmlat
  ```
"""
    words = list(bash_lines(page))
    assert [llmlat_arguments(command) for command in words] == [
        None,
        ["-m", "prompt_set=short,chat", "regressor.alpha=1,10"],
        ["dataset=outputs/datasets/key"],
    ]
    jobs = list(single_jobs(["-m", "prompt_set=short,chat", "regressor.alpha=1,10", "seed=1"]))
    assert len(jobs) == 4
    assert jobs[1] == ["prompt_set=short", "regressor.alpha=10", "seed=1"]

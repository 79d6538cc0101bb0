"""The dataset card: every column, every warning, nobody's name."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from llmlat.dataset import Dataset
from llmlat.publish import Publishing, publish
from llmlat.publish import scrub as scrub_module
from llmlat.publish.card import card as render
from llmlat.publish.figure import draw
from llmlat.publish.licences import LICENCES
from llmlat.publish.scrub import Scrubber, places_in, without_places
from llmlat.records import COLUMNS


def card_of(dataset: Dataset, to: Path, **how: Any) -> str:
    folder, _ = publish(dataset.folder, to, Publishing(**how))
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def card(published: Path) -> str:
    return (published / "README.md").read_text(encoding="utf-8")


def front_matter(card: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return loaded


# --- what it says ---------------------------------------------


def test_every_column_is_explained(card: str) -> None:
    section = card.partition("## Columns")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.+) \| (.+) \|$", section, re.MULTILINE)
    assert [row[:3] for row in rows] == [(c.name, str(c.dtype), c.unit) for c in COLUMNS]
    assert [row[3] for row in rows] == [c.meaning for c in COLUMNS]
    filled = {row[0]: row[4] for row in rows}
    assert (filled["token_latency_ms"], filled["gpu_power_w"]) == ("always", "never")


def test_a_servers_tokens_are_said_to_be_arrivals(dataset: Dataset, tmp_path: Path, card: str) -> None:
    assert "with the device synchronised" in card
    dataset.update_session(
        0,
        endpoint={
            "base_url": "http://localhost:8000/v1", "api": "chat", "arrival": "one_at_a_time",
            "concurrency": 1, "rate_per_s": None, "prompt_tokens_from": "server",
            "unknown_columns": ["token_id"],
        },
    )  # fmt: skip
    told = card_of(dataset, tmp_path / "to")
    assert "as they arrived from http://localhost:8000/v1" in told.replace("\\", "")
    assert "with the device synchronised" not in told


def test_the_hub_can_read_it(card: str, published: Path) -> None:
    about = front_matter(card)
    assert about["license"] == "cc-by-4.0"
    assert about["size_categories"] == ["n<1K"]
    assert about["pretty_name"] == "Token latencies of tiny on A <CPU> (2 threads)"
    assert [config["config_name"] for config in about["configs"]] == ["tokens", "warmup", "telemetry"]
    assert about["configs"][0]["default"] is True
    found = {
        config["config_name"]: sorted(p.name for glob in config["data_files"] for p in published.glob(glob))
        for config in about["configs"]
    }
    assert found["tokens"] == [f"request-{i:06d}.parquet" for i in range(3)]
    assert found["warmup"] == ["warmup-0000.parquet"]
    assert len(found["telemetry"]) == 1


def test_a_dataset_without_warmup_or_telemetry_has_no_such_tables(dataset: Dataset, tmp_path: Path) -> None:
    (dataset.rows_dir / "warmup-0000.parquet").unlink()
    (dataset.folder / "telemetry" / "session-0000.parquet").unlink()
    card = card_of(dataset, tmp_path / "published")
    assert [config["config_name"] for config in front_matter(card)["configs"]] == ["tokens"]
    assert "to warm up are kept" not in card


@pytest.mark.parametrize("name", LICENCES)
def test_every_licence_is_named_and_linked(published: Path, name: str) -> None:
    licensed = Dataset(published)
    licensed.update(publication=licensed.provenance["publication"] | {"licence": name})
    card = render(licensed, licensed.read(), None)
    assert front_matter(card)["license"] == name
    assert f"[{LICENCES[name].name}]({LICENCES[name].url})" in card


def test_latencies_are_the_rows_own(card: str, dataset: Dataset) -> None:
    rows = dataset.read()
    decode = rows.loc[(rows["phase"] == "decode") & ~rows["is_warmup"], "token_latency_ms"]
    line = next(line for line in card.splitlines() if line.startswith("| later tokens (decode) |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == ["15", f"{decode.median():.2f}"]
    assert cells[-1] == f"{decode.max():.2f}"
    assert "3 tokens that were generated to warm up" in card


def test_tokens_of_a_batch_count_one_step(
    measured: Callable[..., Dataset], token_rows: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    dataset = measured()
    batch = pd.concat([token_rows(2, 6, batch_size=2, sequence_index=index) for index in range(2)])
    dataset.append_request(2, batch)
    card = card_of(dataset, tmp_path / "published")
    assert "| later tokens (decode) | batch 1 | 10 |" in card
    assert "| later tokens (decode) | batch 2 | 5 |" in card
    assert "24 tokens of 3 requests" in card
    assert "batch 2" in draw(dataset.read())


def test_engines_that_were_compared_are_named(
    dataset: Dataset, token_rows: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    dataset.append_request(2, token_rows(2, 6, engine="no_cache"))
    card = card_of(dataset, tmp_path / "published")
    assert "tiny, unquantized, eager and no_cache engines, on" in card
    assert "| later tokens (decode) | no_cache | 5 |" in card


def test_flags_are_counted_with_their_reasons(
    dataset: Dataset, token_rows: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    flags = ["throttled;busy_cpu", "busy_cpu", "", "", "", ""]
    dataset.append_request(2, token_rows(2, 6, flags=flags))
    card = card_of(dataset, tmp_path / "published")
    assert "| busy_cpu | other processes kept more than half a core busy | 2 | 11.1\u00a0% |" in card
    assert "| throttled | the device held its clock back" in card
    assert "**11.1\u00a0% of the tokens are flagged.**" in card


def test_a_clean_dataset_says_so(card: str) -> None:
    assert "No row is flagged.\n" in card
    assert "are flagged.**" not in card
    assert "What was not measured" not in card


def test_a_stand_in_and_random_weights_stand_at_the_top(
    measured: Callable[..., Dataset], tmp_path: Path
) -> None:
    card = card_of(measured(stand_in_for="Mistral-7B"), tmp_path / "published")
    top = card.partition("## ")[0]
    assert "> **This is not Mistral-7B.**" in top
    assert "> **The weights are random.**" in top


def test_what_did_not_fit(dataset: Dataset, tmp_path: Path) -> None:
    dataset.update(n_requests=4)
    dataset.skip(
        {
            "request_id": 3,
            "prompt_ids": ["long", "long"],
            "engine": "eager",
            "batch_size": 2,
            "num_beams": 1,
            "prompt_tokens": 4096,
            "max_new_tokens": 8,
            "reason": "out_of_memory",
            "wanted_bytes": 2_500_000_000,
        }
    )
    card = card_of(dataset, tmp_path / "published")
    assert "> **Not everything was measured.** 1 request could not be" in card
    assert "| 3 | long | eager | 2 | 1 | 4,096 | 8 | ran out of memory | 2.50\u00a0GB |" in card


def test_what_a_title_holds_is_not_markup(dataset: Dataset, tmp_path: Path) -> None:
    title = 'A: "b" *c* <script> ---'
    card = card_of(dataset, tmp_path / "published", title=title)
    assert front_matter(card)["pretty_name"] == title
    assert '# A: "b" \\*c\\* &lt;script> ---' in card


def test_the_commands_name_the_folder(card: str, published: Path) -> None:
    for command in ("python -m llmlat.publish --verify", "sha256sum --check"):
        assert command in card
    assert f"python -m llmlat dataset={published.name}\n" in card


def test_the_picture_is_the_same_each_time(dataset: Dataset, published: Path) -> None:
    picture = draw(dataset.read())
    assert picture == (published / "latency.svg").read_text()
    assert "tokens in the context" in picture
    assert "(latency.svg)" in (published / "README.md").read_text()


def test_slow_steps_are_drawn_apart(token_rows: Callable[..., pd.DataFrame]) -> None:
    rows = token_rows(0, 40)
    assert "slower steps" not in draw(rows)
    rows.loc[7, "token_latency_ms"] = 500.0
    assert "slower steps" in draw(rows)


def test_a_legend_of_more_cells_than_anyone_tells_apart_is_left_out(
    token_rows: Callable[..., pd.DataFrame],
) -> None:
    def drawn(n_cells: int) -> str:
        return draw(pd.concat([token_rows(i, temperature=i / 16) for i in range(n_cells)], ignore_index=True))

    assert "temperature 0.5625" in drawn(10)
    assert "temperature" not in (many := drawn(11))
    assert "later tokens" in many


def test_a_machine_that_was_not_watched_cannot_have_raised_flags(
    measured: Callable[..., Dataset], tmp_path: Path
) -> None:
    card = card_of(measured(session={"notices": []}), tmp_path / "published")
    assert "No row is flagged. The machine's state was not sampled." in card


# --- what it does not say ---------------------------------------------

TELLTALES = ("alice", "secret", "payroll", "/home", "/scratch", "/work", "My Models", "wandb")


def test_no_published_text_names_the_machine_or_its_user(published: Path, tmp_path: Path) -> None:
    texts = [p for p in published.rglob("*") if p.suffix in {".md", ".json", ".svg"}]
    assert len(texts) == 3
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert [word for word in (*TELLTALES, str(tmp_path)) if word in text.replace(path.name, "")] == []
    for path in published.rglob("*.parquet"):
        assert b"alice" not in path.read_bytes()


def test_what_was_left_out_is_said(card: str, published: Path) -> None:
    section = card.partition("## What was left out")[2].partition("\n## ")[0]
    named = re.findall(r"^- `(.+)`$", section, re.MULTILINE)
    assert named == [
        "sessions.config.dataset",
        "sessions.config.datasets_dir",
        "sessions.config.model.name",
        "sessions.config.prompt_set.path",
        "sessions.config.tracking",
        "sessions.foreign_processes.names",
        "sessions.hostname",
        "sessions.notices",
    ]
    assert json.loads((published / "provenance.json").read_text())["publication"]["left_out"] == named


def test_what_matters_stays(published: Path) -> None:
    (session,) = Dataset(published).provenance["sessions"]
    assert session["config"]["prompt_set"] == {"name": "made-up", "path": "…/chat.jsonl"}
    assert session["config"]["regressor"]["alpha"] == 1.0
    assert session["foreign_processes"] == {"count": 2}
    assert session["notices"] == ["RANDOM WEIGHTS: …/tiny comes without weights in its folder."]
    assert session["git"]["commit"] == "c0ffee"


def test_this_machine_and_its_user_are_not_named(
    measured: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub_module.platform, "node", lambda: "build-7.corp.example")
    monkeypatch.setattr(scrub_module.getpass, "getuser", lambda: "bobby")
    notice = "Waited for bobby on build-7 and build-7.corp.example; bobbysox stay."
    dataset = measured(session={"notices": [notice]})
    folder, _ = publish(dataset.folder, tmp_path / "published")
    assert Dataset(folder).provenance["sessions"][0]["notices"] == ["Waited for … on … and …; bobbysox stay."]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/me/data/chat.jsonl", "…/chat.jsonl"),
        ("/home/me", "…"),
        ("/Users/me/", "…"),
        ("~/data/chat.jsonl", "…/chat.jsonl"),
        ("~me/data", "…/data"),
        (r"C:\Users\me\models\x", "…/x"),
        ("D:/models/a/x", "…/x"),
        (r"\\server\share\x", "…/x"),
        ("file:///srv/a/x.txt", "…/x.txt"),
        ("error:/srv/a/x.txt, line 3", "error:…/x.txt, line 3"),
        ("model.name=/srv/a/x: gone", "model.name=…/x: gone"),
        ("('/srv/a/x')", "('…/x')"),
        ("…/x.txt", "…/x.txt"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("mistralai/Mistral-7B", "mistralai/Mistral-7B"),
        ("models/mine", "models/mine"),
        ("../shared/x", "../shared/x"),
        ("3/4 of 12 tok/s, and/or", "3/4 of 12 tok/s, and/or"),
        ("Linux-6.1-x86_64-with-glibc2.36", "Linux-6.1-x86_64-with-glibc2.36"),
        ("a / b", "a / b"),
    ],
)
def test_paths_are_cut_to_their_last_name(text: str, clean: str) -> None:
    assert without_places(text) == clean
    assert without_places(clean) == clean


def test_what_is_no_text_is_left_alone() -> None:
    record = {"a": 1, "b": [1.5, None, True], "c": {"d": "x"}}
    scrubber = Scrubber()
    assert scrubber.scrub(record) == record
    assert scrubber.left_out == set()


def test_places_are_found_wherever_they_stand() -> None:
    found = places_in({"model": "/m/a/b", "engine": {"list": ["~/x/y"]}, "hostname": "kept", "n": 1})
    assert found == ["engine.list", "model"]

"""The protocol in real sessions: warm-up, flags, telemetry, cells, repetitions until it is known."""

import logging
import signal
import sys
from functools import partial

import pandas as pd
import pytest

from llmlat.dataset import Dataset

QUICK = ("collect.warmup_floor_s=0.05", "collect.warmup_ceiling_s=3")


@pytest.fixture
def run(run):
    return partial(run, "prompt_set.limit=3", "collect.warmup=16")


def session_of(dataset: Dataset):
    (session,) = dataset.provenance["sessions"]
    return session


# --- warm-up ---------------------------------------------


def test_an_automatic_warm_up_is_reported_and_kept(run):
    dataset = run("collect.warmup=auto", *QUICK)
    warm_up = session_of(dataset)["warmup"]
    assert set(warm_up) == {
        "rule", "seconds", "n_tokens", "settled", "settled_after_tokens", "start_ratio", "first_visit_ratio",
    }  # fmt: skip
    assert warm_up["rule"].startswith("MSER-5")
    assert warm_up["seconds"] >= 0.05
    rows = dataset.read()
    warmed = rows[rows["is_warmup"]]
    assert len(warmed) == warm_up["n_tokens"]
    assert (warmed["request_id"] == -1).all()
    assert warmed["prompt_id"].nunique() == 1
    assert warmed["completed_at_ns"].max() < rows.loc[~rows["is_warmup"], "completed_at_ns"].min()
    flagged = rows.loc[~rows["is_warmup"], "flags"].str.contains("not_settled")
    assert flagged.eq(not warm_up["settled"]).all()


def test_what_never_settles_is_said_once_and_flags_every_row(run, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = run("collect.warmup=auto", "collect.warmup_floor_s=0", "collect.warmup_ceiling_s=0")
    assert session_of(dataset)["warmup"]["settled"] is False
    rows = dataset.read()
    counted = rows[~rows["is_warmup"]]
    assert counted["flags"].str.split(";").map(lambda flags: "not_settled" in flags).all()
    assert not rows.loc[rows["is_warmup"], "flags"].str.contains("not_settled").any()
    lines = [r.getMessage() for r in caplog.records if "had not settled" in r.getMessage()]
    assert len(lines) == 1
    assert "collect.warmup_ceiling_s" in lines[0]


@pytest.mark.parametrize(("warmup", "per_cell"), [("0", [0, 0]), ("3", [3, 3]), ("auto", [40, 4])])
def test_every_cell_is_warmed_up_before_anything_counts(run, warmup, per_cell):
    cells = "collect.interleave.engine=[eager,no_cache]"
    rows = run(f"collect.warmup={warmup}", cells, *QUICK).read()
    warmed = rows[rows["is_warmup"]]
    sizes = sorted(warmed.groupby("engine").size().reindex(["eager", "no_cache"], fill_value=0), reverse=True)
    if warmup == "auto":
        # The first cell until it has settled; the other a short pass, no longer than a request.
        assert sizes[0] > per_cell[0]
        assert sizes[1] == per_cell[1]
    else:
        assert sizes == per_cell
    if len(warmed):
        assert warmed["completed_at_ns"].max() < rows.loc[~rows["is_warmup"], "completed_at_ns"].min()


# --- cells ---------------------------------------------


def test_engines_and_batches_are_interleaved_in_one_dataset(run):
    dataset = run(
        "collect.interleave.engine=[eager,no_cache]", "collect.interleave.batch_size=[1,2]",
        "collect.repetitions=3", "collect.warmup=0",
    )  # fmt: skip
    rows = dataset.read()
    assert dataset.is_complete
    requests = rows.drop_duplicates("request_id")
    assert len(requests) == 3 * 4 * 3
    cells = requests.groupby(["engine", "batch_size", "prompt_id", "repetition"]).size()
    assert (cells == 1).all()
    assert len(cells) == 36
    per_request = rows.groupby("request_id")
    assert (per_request.size() == 4 * requests.set_index("request_id")["batch_size"]).all()
    # Both engines are measured throughout, not one after the other.
    for _, block in requests.groupby("repetition"):
        order = block.sort_values("completed_at_ns")["engine"].tolist()
        assert order != sorted(order)
        assert order != sorted(order, reverse=True)
    # What is generated depends on the prompt alone: not on engine, batch or place.
    generated = rows.groupby(["prompt_id", "engine", "batch_size", "request_id", "sequence_index"])[
        "token_id"
    ]
    assert generated.agg(tuple).groupby("prompt_id").nunique().eq(1).all()


def test_repetitions_until_the_medians_are_known(run, caplog):
    with caplog.at_level(logging.INFO):
        dataset = run("collect.until_ci=99%", "collect.warmup=0", "collect.budget_s=20")
    assert dataset.is_complete
    assert dataset.provenance["finished"]
    assert dataset.read().groupby("prompt_id")["repetition"].nunique().min() >= 3
    assert "collect.until_ci takes 3 repetitions at least" in caplog.text
    assert "then until every median is known to ±99 %, within 20 s" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run("collect.until_ci=99%", "collect.warmup=0", "collect.budget_s=20")
    assert "Already measured" in caplog.text


# --- what a session records ---------------------------------------------


def test_a_session_records_its_costs_and_samples(run):
    dataset = run("collect.warmup=3", "collect.telemetry_interval_ms=5")
    session = session_of(dataset)
    assert 0 < session["collector_cost"]["mark_ns"] < 1e6
    assert session["telemetry"]["n_samples"] > 0
    assert session["retries"] == {"requests": 0, "tries_set_aside": 0, "flagged_to_the_end": 0}
    assert (session["skipped"], session["finished"]) == (0, True)
    samples = pd.read_parquet(dataset.folder / "telemetry" / "session-0000.parquet")
    rows = dataset.read()
    assert samples["at_ns"].min() < rows["completed_at_ns"].max()
    assert samples["at_ns"].max() > rows["completed_at_ns"].min()
    assert rows["telemetry_age_ms"].notna().any()
    assert rows.loc[rows["is_warmup"], "telemetry_age_ms"].notna().any(), "warm-up rows are annotated too"


def test_without_telemetry_there_is_no_file(run):
    dataset = run("collect.warmup=0", "collect.telemetry_interval_ms=0")
    assert not (dataset.folder / "telemetry").exists()
    assert session_of(dataset)["telemetry"]["n_samples"] == 0


def test_an_interrupted_session_keeps_what_it_knows(run):
    def interrupt(request, rows):
        if request.request_id == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("collect.warmup=3", "collect.telemetry_interval_ms=5", on_request=interrupt)
    dataset = run("collect.warmup=3", "collect.telemetry_interval_ms=5")
    first, second = dataset.provenance["sessions"]
    assert (first["finished"], second["finished"]) == (False, True)
    assert first["warmup"]["n_tokens"] == 3
    assert first["telemetry"]["n_samples"] > 0
    names = sorted(path.name for path in (dataset.folder / "telemetry").iterdir())
    assert names == ["session-0000.parquet", "session-0001.parquet"]


def test_flagged_requests_are_measured_again_in_a_session(run, monkeypatch):
    """Whatever the machine does: the first two tries of request 1 are called throttled."""
    from llmlat.measure import measuring

    tries = []

    class Throttled:
        def annotate(self, rows):
            tries.extend(rows["request_id"].unique())
            is_hot = tries.count(1) <= 2 and (rows["request_id"] == 1).all()
            return rows.assign(flags="throttled" if is_hot else "")

        def __getattr__(self, name):
            return getattr(self.real, name)

    real = measuring.Measuring.__init__

    def with_throttling(self, *arguments):
        real(self, *arguments)
        self._telemetry = Throttled()

    monkeypatch.setattr(measuring.Measuring, "__init__", with_throttling)
    dataset = run("collect.warmup=0", "collect.flagged=retry", "collect.cool_down_s=0.01")
    assert tries == [0, 1, 1, 1, 2]
    assert session_of(dataset)["retries"] == {"requests": 1, "tries_set_aside": 2, "flagged_to_the_end": 0}
    rows = dataset.read()
    assert rows["flags"].eq("").all()
    assert rows.groupby("request_id").size().tolist() == [4, 4, 4]
    assert len(list(dataset.rows_dir.glob("_flagged-000001-*.parquet"))) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_while_repeating_until_it_is_known(cli, tiny):
    """Killed with SIGKILL after the plain repetitions; the second run goes on and ends."""
    import time

    command = [
        *tiny, "prompt_set.limit=2", "prompt_set.max_new_tokens=4", "collect.until_ci=0.01%",
        "collect.budget_s=3", "collect.warmup=0", "split=by_request", "split.test_size=0.5",
    ]  # fmt: skip
    process = cli.start(*command)
    deadline = time.monotonic() + 60
    while len(list(cli.folder.glob("outputs/datasets/*/rows/request-*.parquet"))) < 9:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (folder,) = cli.folder.glob("outputs/datasets/*")
    dataset = Dataset(folder)
    before = {path.name: path.stat().st_mtime_ns for path in dataset.rows_dir.glob("request-*.parquet")}
    assert not dataset.is_complete
    assert dataset.provenance["further_repetitions"]
    resumed = cli.run(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert dataset.is_complete
    after = {path.name: path.stat().st_mtime_ns for path in dataset.rows_dir.glob("request-*.parquet")}
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)
    assert len(dataset.provenance["sessions"]) == 2

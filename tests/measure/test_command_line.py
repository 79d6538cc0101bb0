"""The real command, killed, interrupted and out of memory in the middle; then run again."""

import json
import signal

import pandas as pd
import pytest

from llmlat.dataset import Dataset

REQUESTS, TOKENS = 48, 6
ENGINES = __file__.rpartition("/")[0]


@pytest.fixture
def command(tiny):
    """A measurement of 48 requests of 6 tokens, at least five milliseconds a token."""
    return [
        *tiny,
        "engine._target_=failing_engines.Slow",
        "engine.name=slow",
        f"collect.repetitions={REQUESTS // 12}",
        f"prompt_set.max_new_tokens={TOKENS}",
    ]


def only_dataset(folder):
    (path,) = folder.glob("outputs/datasets/*")
    return Dataset(path)


def assert_resumed(dataset):
    """Assert that two sessions measured every token once, and return the rows that count."""
    rows = dataset.read()
    counted = rows[~rows["is_warmup"]]
    assert dataset.is_complete
    assert len(counted) == REQUESTS * TOKENS
    assert sorted(counted["request_id"].unique()) == list(range(REQUESTS))
    assert not counted.duplicated(["request_id", "token_index"]).any()
    assert len(dataset.provenance["sessions"]) == 2
    for session_id in (0, 1):
        session = counted[counted["session_id"] == session_id]
        requests = session.drop_duplicates("request_id")
        assert requests["session_request"].tolist() == list(range(len(requests)))
        assert len(requests) > 0
        assert (rows["is_warmup"] & (rows["session_id"] == session_id)).sum() == 16
    assert not list(dataset.rows_dir.glob("_partial*"))
    assert not list(dataset.folder.rglob(".*.tmp"))
    return counted


def test_killed_in_the_middle_then_resumed(cli, command):
    process = cli.start(*command, PYTHONPATH=ENGINES)
    cli.wait_for_requests(process, 5)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    dataset = only_dataset(cli.folder)
    kept = dataset.completed_requests()
    assert 5 <= len(kept) < REQUESTS
    before = dataset.read()
    (dataset.rows_dir / ".request-000040.parquet.1.tmp").write_bytes(b"as a kill may leave it")

    resumed = cli.run(*command, PYTHONPATH=ENGINES)
    assert resumed.returncode == 0, resumed.stderr
    assert f"Resuming dataset {dataset.key}: {len(kept)} requests are on disk" in resumed.stderr
    counted = assert_resumed(dataset)
    first = counted[counted["session_id"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, before[~before["is_warmup"]].reset_index(drop=True))
    (metrics,) = cli.folder.glob("outputs/default/*/metrics.json")
    assert json.loads(metrics.read_text())["dataset_key"] == dataset.key


def test_interrupted_in_the_middle(cli, command):
    process = cli.start(*command, PYTHONPATH=ENGINES)
    cli.wait_for_requests(process, 5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    dataset = only_dataset(cli.folder)
    n_kept = len(dataset.completed_requests())
    assert 5 <= n_kept < REQUESTS
    assert "Traceback" not in output + errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith(
        f"interrupted: {n_kept} of {REQUESTS} requests are kept in outputs/datasets/{dataset.key}"
    )
    assert "same command" in last
    assert "resume" in last
    rows = dataset.read()
    assert (rows[~rows["is_warmup"]].groupby("request_id").size() == TOKENS).all()
    for path in dataset.rows_dir.glob("_partial*"):  # none, where it fell between two requests
        partial = pd.read_parquet(path)
        assert partial["request_id"].unique().tolist() == [n_kept]
        assert partial["token_index"].tolist() == list(range(len(partial)))


def test_out_of_memory_in_the_middle(cli, tiny):
    run = cli.run(
        *tiny,
        "engine._target_=failing_engines.HostOutOfMemory",
        "engine.name=failing",
        "collect.warmup=0",
        "quantization=int8",
        PYTHONPATH=ENGINES,
    )
    # A result, not a failure; and not one line of bitsandbytes's own for each layer and call.
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert len(run.stderr.strip().splitlines()) < 12, run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("Out of memory")]
    assert line.startswith("Out of memory: request 2 (")
    assert "wanted 1.0 GiB more of" in line
    dataset = only_dataset(cli.folder)
    skipped = {entry["request_id"]: entry for entry in dataset.skipped()}
    assert skipped[2]["reason"] == "out_of_memory"
    assert all(entry["because_of"] == 2 for number, entry in skipped.items() if number != 2)
    assert dataset.completed_requests() == set(range(12)) - set(skipped)
    assert dataset.is_complete
    assert len(dataset.read()) == 32 * len(dataset.completed_requests())
    (partial,) = dataset.rows_dir.glob("_partial-000002.parquet")
    assert len(pd.read_parquet(partial)) == 3

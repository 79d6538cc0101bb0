"""The real command against a server: killed, interrupted, run again; what it loads, keeps and reports."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from scripted_server import Reply, counting, on_prompt

from llmlat.dataset import Dataset

COMMAND = ("prompt_set=short", "prompt_set.max_new_tokens=5", "collect.repetitions=4", "engine=endpoint")


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_then_resumed(cli, server, signal_number):
    def hang(asked):
        return Reply([*counting(asked).writes[:2], (20, b"")])

    server.script = on_prompt(6, hang, counting)
    loop = ("engine.arrival=closed_loop", "engine.concurrency=3")
    command = [*COMMAND, *loop, f"engine.base_url={server.base_url}"]
    process = cli.start(*command)
    cli.wait_for_requests(process, 6)
    time.sleep(0.5)
    process.send_signal(signal_number)
    _, said = process.communicate(timeout=30)
    (folder,) = (cli.folder / "outputs" / "datasets").iterdir()
    kept = Dataset(folder).completed_requests()
    assert len(kept) == 6
    if signal_number == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted: 6 of 48 requests are kept" in said
        partial = [pd.read_parquet(path) for path in (folder / "rows").glob("_partial-*")]
        assert [len(rows) for rows in partial] == [2, 2, 2]
    server.script = lambda asked, number: counting(asked)
    resumed = cli.run(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert f"Resuming dataset {folder.name}: {len(kept)} requests are on disk." in resumed.stderr
    dataset = Dataset(folder)
    rows = dataset.read().query("not is_warmup")
    assert dataset.is_complete
    assert len(rows) == 48 * 5
    assert not rows.duplicated(["request_id", "token_index"]).any()
    assert sorted(rows["session_id"].unique()) == [0, 1]
    assert not list((folder / "rows").glob("_partial-*"))


def test_a_run_loads_no_torch_keeps_no_key_and_its_report_says_what_is_unknown(server, tmp_path):
    program = (
        "import sys; sys.argv[0] = 'llmlat'; from llmlat.__main__ import main; main(); "
        "assert not {'torch', 'transformers'} & set(sys.modules), 'loaded for nothing'"
    )
    arguments = [*COMMAND, f"engine.base_url={server.base_url}", "tracking.mode=offline"]
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        env={**os.environ, "OPENAI_API_KEY": "sk-secret-of-the-test"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert server.headers[-1]["Authorization"] == "Bearer sk-secret-of-the-test"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 50
    assert not [path for path in written if b"sk-secret-of-the-test" in path.read_bytes()]
    assert "sk-secret-of-the-test" not in run.stdout + run.stderr
    (report,) = tmp_path.glob("outputs/default/*/report.md")
    told = report.read_text()
    assert f"Tokens were timed as they arrived from {server.base_url} (OpenAI's chat API)" in told
    assert "padded_context_length, batch_context_tokens, device_latency_ms, token_id and cached_" in told
    metrics = json.loads(Path(report.with_name("metrics.json")).read_text())
    assert metrics["measurement"]["endpoint"]["arrival"] == "one_at_a_time"
    assert (metrics["weights"], metrics["quantization"], metrics["stand_in"]) == ("served", "unknown", False)
    assert metrics["device"] == f"endpoint {server.base_url.split('/')[2]}"

"""The real thing: `transformers serve` with a tiny model on the loopback, measured by the real command."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

TOKENS = 8
SECONDS_TO_START = 90


def save_tiny_model(folder):
    """Save a random Mistral of 128 words and a tokenizer that knows them: nothing is downloaded."""
    words = ["<unk>", "<s>", "</s>", *(f"w{index}" for index in range(125))]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.chat_template = "{{ bos_token }}{% for m in messages %} {{ m['content'] }}{% endfor %}"
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, bos_token_id=1, sliding_window=None,
        eos_token_id=None,  # this server takes no ignore_eos: nothing must end by itself
    )  # fmt: skip
    model = MistralForCausalLM(config)
    model.generation_config.suppress_tokens = [0, 1, 2]  # they have no text, and would not be counted
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Run `transformers serve` for the module's tests; give its address."""
    folder = tmp_path_factory.mktemp("served")
    save_tiny_model(folder / "tiny")
    (folder / "hub").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    start = [str(program)] if program.is_file() else [sys.executable, "-m", "transformers.cli.transformers"]
    command = [*start, "serve", "tiny", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()


def wait_until_healthy(url, process, log):
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url, timeout=1, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail(f"it did not start within {SECONDS_TO_START} s: {log.read_text()}")


@pytest.fixture
def prompts(tmp_path):
    lengths = {"short": 3, "longer": 9, "long": 30}
    lines = [
        json.dumps({"id": name, "prompt": " ".join(f"w{index}" for index in range(n))})
        for name, n in lengths.items()
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    return lengths


def measured(cli, served, *overrides):
    run = cli.run(
        "engine=endpoint", f"engine.base_url={served}", "engine.model=tiny", "prompt_set=file",
        "prompt_set.path=prompts.jsonl", f"prompt_set.max_new_tokens={TOKENS}", *overrides,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    (folder,) = (cli.folder / "outputs" / "datasets").iterdir()
    rows = pd.read_parquet(folder / "rows")
    (run_folder,) = (cli.folder / "outputs" / "default").iterdir()
    return rows[~rows["is_warmup"]], json.loads((run_folder / "metrics.json").read_text()), run_folder


def test_one_at_a_time(cli, served, prompts):
    rows, metrics, folder = measured(cli, served, "collect.repetitions=3")
    assert len(rows) == 3 * 3 * TOKENS
    assert (rows["flags"] == "").all()
    # The chat template puts one token before the prompt's words.
    expected = rows["prompt_id"].map(prompts) + 1
    assert (rows["prompt_tokens"] == expected).all()
    assert (rows["requests_in_flight"] == 1).all()
    assert rows["token_latency_ms"].gt(0).all()
    assert rows["first_byte_ms"].gt(0).all()
    arrivals = rows.drop_duplicates(["request_id", "completed_at_ns"])
    assert arrivals.groupby("request_id")["tokens_in_chunk"].sum().eq(TOKENS).all()
    told = metrics["measurement"]["endpoint"]
    assert (told["prompt_tokens_from"], told["failed_attempts"]) == ("server", {})
    assert "ignore_eos" not in told["taken_fields"]
    assert metrics["versions"]["server"] == "uvicorn"
    assert "Tokens were timed as they arrived" in (folder / "report.md").read_text()


def test_in_a_closed_loop_through_the_completions_api_with_drawn_tokens(cli, served, prompts):
    loop = ("engine.arrival=closed_loop", "engine.concurrency=4", "collect.repetitions=4")
    rows, metrics, _ = measured(cli, served, "engine.api=completions", *loop, "decoding.temperature=0.9")
    assert rows["request_id"].nunique() == 12
    assert (rows["prompt_tokens"] == rows["prompt_id"].map(prompts)).all()
    assert rows["requests_in_flight"].between(1, 4).all()
    assert rows["requests_in_flight"].max() == 4
    assert (rows["temperature"] == 0.9).all()
    assert metrics["measurement"]["endpoint"]["concurrency"] == 4


def test_requests_in_flight_may_be_a_feature(cli, served, prompts):
    poisson = ("engine.arrival=poisson", "engine.rate_per_s=30", "collect.repetitions=5")
    features = "features.columns=[prompt_tokens,context_length,requests_in_flight]"
    rows, metrics, _ = measured(cli, served, *poisson, features, "split=by_request")
    assert rows["requests_in_flight"].max() >= 2
    assert "requests_in_flight" in metrics["coefficients"]
    assert (rows["queue_ms"] >= 0).all()

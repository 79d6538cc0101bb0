"""The Hub, as a server on this machine that answers what the real one would, or does not answer."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import constants

from llmlat.config import ModelConfig, Weights
from llmlat.errors import ModelError
from llmlat.measure.models import hub
from llmlat.measure.models.sources import find_model

CPU = torch.device("cpu")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MISTRAL = "model=mistral-7b-instruct-v0.3"


class Hub(BaseHTTPRequestHandler):
    """Knows `real/model` (its config only), `gated/model`, and a `broken/model`; nothing else exists."""

    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.server.asked.append(self.path)
        config = json.dumps(self.server.architecture).encode()
        if "/gated/model" in self.path or "mistralai" in self.path:
            self.answer(403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        elif "/broken/model" in self.path:
            self.answer(500)
        elif self.path.endswith("/real/model/auth-check"):
            self.answer(200)
        elif self.path.endswith("real/model/resolve/main/config.json"):
            self.answer(200, config, ETag='"abc"', X_Repo_Commit=COMMIT)
        elif "real/model/resolve/main/" in self.path:
            self.answer(404, X_Error_Code="EntryNotFound")
        elif "real/model/resolve/" in self.path:
            self.answer(404, X_Error_Code="RevisionNotFound")
        else:
            self.answer(404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path, tiny_architecture):
    made = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    made.daemon_threads = True
    made.asked = []
    made.architecture = tiny_architecture.to_dict()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{made.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield made
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("weights", list(Weights))
@pytest.mark.parametrize("name", ["nobody/nothing", "notamodel", "a/b/c", "spaced out/name"])
def test_a_model_that_the_hub_does_not_know(server, weights, name):
    with pytest.raises(ModelError) as caught:
        find_model(ModelConfig(name, weights), CPU)
    message = str(caught.value)
    assert message.startswith(f"model.name={name}: the Hub has no such model")
    assert "\n" not in message


def test_a_misspelt_name_is_not_passed_over_for_random_weights(server, compose):
    config = compose(
        MISTRAL, "model.name=mistral/Mistral-7B", "model.architecture.of=mistral/Mistral-7B"
    ).model
    with pytest.raises(ModelError, match="has no such model"):
        find_model(config, CPU)


def test_a_gated_model_is_initialised_at_random_and_says_how_to_get_it(server, compose):
    source = find_model(compose(MISTRAL).model, CPU)
    assert source.weights == "random"
    (notice,) = source.notices
    assert "accepted its terms" in notice
    assert "hf auth login" in notice
    with pytest.raises(ModelError, match="hf auth login"):
        find_model(compose(MISTRAL, "model.weights=pretrained").model, CPU)
    with pytest.raises(ModelError, match="hf auth login"):
        find_model(ModelConfig("gated/model"), CPU)


def test_a_model_that_the_hub_gives(server):
    source = find_model(ModelConfig("real/model"), CPU)
    assert source.weights == "pretrained"
    assert not source.local_files_only
    assert source.hf_config.hidden_size == 64
    assert source.fingerprint == {"commit": COMMIT}


def test_a_revision_that_the_hub_does_not_have(server):
    with pytest.raises(ModelError) as caught:
        find_model(ModelConfig("real/model", revision="v9"), CPU)
    assert "model.revision" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_in_trouble_is_an_obstacle_not_an_answer(server, compose):
    config = compose(MISTRAL, "model.name=broken/model", "model.architecture.of=broken/model").model
    source = find_model(config, CPU)
    assert source.weights == "random"
    assert "cannot be reached" in source.notices[0]


def test_a_hub_that_refuses_the_connection(compose):
    assert constants.ENDPOINT.endswith(":9"), "tests/conftest.py points at a closed port"
    before = time.perf_counter()
    source = find_model(compose(MISTRAL).model, CPU)
    assert time.perf_counter() - before < 5
    assert source.weights == "random"
    assert len(source.notices) == 1
    assert "cannot be reached" in source.notices[0]


@pytest.mark.parametrize("hangs_at", ["connect", "name"])
def test_a_hub_that_hangs_is_given_up(compose, monkeypatch, hangs_at):
    """It accepts and never answers; or its name is never resolved, which no HTTP timeout bounds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        if hangs_at == "name":
            monkeypatch.setattr(hub, "HUB_DEADLINE_S", 0.5)
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
        before = time.perf_counter()
        source = find_model(compose(MISTRAL).model, CPU)
        assert time.perf_counter() - before < 5
    assert source.weights == "random"
    assert "did not answer within" in source.notices[0]


def test_offline_by_choice_asks_nobody(server, compose, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = find_model(compose(MISTRAL).model, CPU)
    assert source.weights == "random"
    assert "HF_HUB_OFFLINE" in source.notices[0]
    assert server.asked == []

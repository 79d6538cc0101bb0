"""What a config may say of a server, and what it is told that may not be."""

import socket
import time

import pytest

from llmlat.config import config_dir
from llmlat.errors import ConfigError
from llmlat.measure.endpoint.plan import make_plan
from llmlat.measure.endpoint.server import software_words
from llmlat.measure.endpoint.settings import Api, Arrival, Endpoint, is_endpoint, read_endpoint

URL = "engine.base_url=http://localhost:8000/v1"


def test_the_option_has_every_setting_and_the_class_its_defaults(compose):
    config = compose("engine=endpoint", URL)
    assert is_endpoint(config.engine)
    assert read_endpoint(config.engine) == Endpoint("http://localhost:8000/v1")
    assert not is_endpoint(compose().engine)
    assert (config_dir() / "engine" / "endpoint.yaml").is_file()


def test_where_requests_go_and_how_many_at_once():
    endpoint = Endpoint("https://host:8/v1/", api=Api.completions)
    assert (endpoint.url, endpoint.host) == ("https://host:8/v1/completions", "host:8")
    assert endpoint.most_in_flight == 1
    assert Endpoint("http://h/v1", arrival=Arrival.closed_loop, concurrency=4).most_in_flight == 4
    assert Endpoint("http://h/v1", arrival=Arrival.poisson, rate_per_s=1).most_in_flight is None


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("engine.base_url=localhost:8000", "use an address up to the version, such as http"),
        ("engine.base_url=ftp://host/v1", "use an address up to the version"),
        ("engine.base_url='http://host:port/v1'", "engine.base_url=http://host:port/v1: no address"),
        ("engine.base_url='http://host/v1?a=1'", "use an address up to the version"),
        ("engine.base_url=http://me:secret@host/v1", "it holds credentials"),
        ("engine.base_url=http://host/v1/chat/completions", "leave /chat/completions out; engine.api=chat"),
        ("engine.api=responses", "engine.api=responses: use chat, completions."),
        ("engine.arrival=burst", "engine.arrival=burst: use one_at_a_time, closed_loop, poisson."),
        ("engine.arrival=closed_loop", "say how many requests are in flight, engine.concurrency=4"),
        ("engine.arrival=poisson", "say how many requests arrive a second, engine.rate_per_s=2"),
        ("engine.rate_per_s=2", "only engine.arrival=poisson has a rate"),
        ("engine.concurrency=2", "with engine.arrival=one_at_a_time there is one request in flight"),
        ("engine.concurrency=0", "engine.concurrency=0: use a whole number of at least 1."),
        ("engine.concurrency=1.5", "engine.concurrency=1.5: use a whole number"),
        ("engine.retries=null", "engine.retries=None: use a whole number of at least 0."),
        ("engine.read_timeout_s=0", "engine.read_timeout_s=0: use a number above 0."),
        ("engine.connect_timeout_s=null", "engine.connect_timeout_s=None: use a number above 0."),
        ("engine.rate_per_s=fast", "engine.rate_per_s=fast: use a number above 0."),
        ("engine.extra=top", "engine.extra=top: use fields and values"),
        ("+engine.concurency=2", "engine.concurency: no such key. Keys of engine: base_url, name, model"),
    ],
)
def test_a_setting_that_cannot_be_is_told_in_a_line_that_names_it(compose, override, said):
    config = compose("engine=endpoint", URL, override)
    with pytest.raises(ConfigError) as error:
        read_endpoint(config.engine)
    assert said in str(error.value)
    assert str(error.value).startswith(override.lstrip("+").partition("=")[0])
    assert "secret" not in str(error.value)


def test_without_an_address_the_key_is_named(compose):
    with pytest.raises(ConfigError, match=r"engine\.base_url: has no value yet"):
        compose("engine=endpoint")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("decoding.batch_size=4", "decoding.batch_size=4: a server batches by itself"),
        ("decoding.num_beams=2", "decoding.num_beams=2: a stream has no beams"),
        ("decoding.temperature=-1", "decoding.temperature=-1: use 0 or more"),
        ("quantization=int8", "quantization=int8: a server stores its weights as it was told to"),
        ("device=cpu", "device=cpu: the server's device is its own"),
        ("prompt_set.prompt_tokens=[5,5]", "prompt_set.prompt_tokens=[5, 5]: a length is there twice"),
        ("collect.interleave.engine=[eager]", "a server cannot take turns with other engines"),
        ("collect.repetitions=0", "collect.repetitions=0"),
        ("prompt_set.limit=0", "prompt_set.limit=0"),
    ],
)
def test_what_a_server_cannot_be_asked_for_is_told(compose, server, override, said):
    with pytest.raises(ConfigError) as error:
        make_plan(compose("engine=endpoint", f"engine.base_url={server.base_url}", override))
    assert said in str(error.value)


def test_a_server_that_takes_connections_and_is_silent_is_told_of_within_seconds(compose):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        began = time.monotonic()
        with pytest.raises(ConfigError, match="nothing answers there"):
            make_plan(
                compose("engine=endpoint", f"engine.base_url={address}", "engine.connect_timeout_s=0.3")
            )
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("key", ["", "sk-wrong"])
def test_a_key_that_is_missing_or_refused_is_told(compose, server, monkeypatch, key):
    monkeypatch.setenv("A_KEY", key)
    server.key = "sk-right"
    config = compose("engine=endpoint", f"engine.base_url={server.base_url}", "engine.api_key_env=A_KEY")
    with pytest.raises(ConfigError) as error:
        make_plan(config)
    state = "the server refuses the key in it" if key else "the server asks for a key"
    assert f"engine.api_key_env=A_KEY: {state} (HTTP 401)" in str(error.value)
    assert "sk-" not in str(error.value)
    monkeypatch.setenv("A_KEY", "sk-right")
    make_plan(config)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (
            {"software": "uvicorn", "version": "0.32.0", "model": {"owned_by": "vllm"}},
            "vllm 0.32.0 (uvicorn)",
        ),
        ({"version": "0.5.23", "model": {"owned_by": "sglang"}}, "sglang 0.5.23"),
        ({"software": "uvicorn", "model": {"owned_by": "a person"}}, "uvicorn"),
        ({"software": "uvicorn", "version": "1", "model": {}}, "uvicorn, 1"),
        ({"model": {}}, ""),
    ],
)
def test_a_version_goes_with_the_name_that_it_is_of(server, words):
    assert software_words(server) == words


def test_the_key_names_what_decides_and_no_timeouts_or_keys(compose, server):
    def identity(*overrides):
        return make_plan(
            compose("engine=endpoint", f"engine.base_url={server.base_url}", *overrides)
        ).identity

    plain = identity()
    assert plain["versions"]["server"] == "scripted/1, 9.9"
    assert plain["server"] == {"software": "scripted/1", "version": "9.9", "model": {}}
    assert identity("engine.model=scripted")["server"]["model"] == {"id": "scripted"}
    assert (plain["weights"], plain["quantization"], plain["model"]) == ("served", "unknown", "mistral-mini")
    assert plain["hardware"]["name"] == f"endpoint {Endpoint(server.base_url).host}"
    for same in ("engine.retries=0", "engine.read_timeout_s=9", "engine.api_key_env=OTHER"):
        assert identity(same) == plain
    for other in (
        ["engine.api=completions"],
        ["engine.arrival=closed_loop", "engine.concurrency=2"],
        ["engine.arrival=poisson", "engine.rate_per_s=2"],
        ["+engine.extra.min_tokens=3"],
        ["prompt_set.max_new_tokens=3"],
        ["decoding.temperature=0.5"],
    ):
        assert identity(*other) != plain

"""A measuring session of a server: what is on disk after all goes well, and after it does not."""

import itertools
import re
import time

import numpy as np
import pytest
from scripted_server import DONE, Reply, chunk, counting, on_prompt, refusal, sse, well_behaved

from llmlat.dataset import Dataset
from llmlat.errors import ConfigError, MeasurementError
from llmlat.measure.endpoint.plan import make_plan
from llmlat.measure.endpoint.session import measure

N_PROMPTS, TOKENS = 4, 5
N_QUESTIONS = 5
"""Asked before anything is timed: a token, and one with each field that a server may not take."""


@pytest.fixture
def config_of(compose, server, tmp_path):
    """Return a function that composes a measurement of four prompts of five tokens each."""

    def make(*overrides):
        return compose(
            "engine=endpoint",
            f"engine.base_url={server.base_url}",
            "prompt_set=short",
            f"prompt_set.limit={N_PROMPTS}",
            f"prompt_set.max_new_tokens={TOKENS}",
            "collect.warmup=2",
            f"datasets_dir={tmp_path / 'datasets'}",
            *overrides,
        )

    return make


@pytest.fixture
def run(config_of):
    """Return a function that measures, and returns the dataset."""

    def measured(*overrides, on_request=lambda request, rows: None):
        config = config_of(*overrides)
        return measure(config, make_plan(config), {"a": "config"}, on_request)

    return measured


@pytest.fixture
def only_dataset(tmp_path):
    def find():
        (folder,) = (tmp_path / "datasets").iterdir()
        return Dataset(folder)

    return find


def counted(dataset):
    rows = dataset.read()
    return rows[~rows["is_warmup"]]


def test_every_request_has_its_rows(server, run):
    told = []
    dataset = run(on_request=lambda request, rows: told.append((request.request_id, len(rows))))
    rows = counted(dataset)
    assert dataset.is_complete
    assert told == [(n, TOKENS) for n in range(N_PROMPTS)]
    assert len(rows) == N_PROMPTS * TOKENS
    assert (rows["flags"] == "").all()
    assert rows["tokens_in_chunk"].between(1, TOKENS).all()
    assert (rows["requests_in_flight"] == 1).all()
    assert (rows["attempt"] == 1).all()
    assert (rows["context_length"] == rows["prompt_tokens"] + rows["token_index"]).all()
    warm_up = dataset.read().query("is_warmup")
    assert len(warm_up) == 2
    (session,) = dataset.provenance["sessions"]
    assert session["finished"]
    assert session["warmup"]["rule"] == "2 tokens"
    assert session["endpoint"]["prompt_tokens_from"] == "server"
    assert session["endpoint"]["failed_attempts"] == {}
    assert "token_id" in session["endpoint"]["unknown_columns"]


def test_what_is_asked(server, run):
    run("decoding.temperature=0.7", "decoding.top_k=5", "decoding.top_p=0.9", "+engine.extra.min_tokens=3")
    asked = server.of_prompts()[-1]
    assert asked["messages"][-1]["role"] == "user"
    seed = asked.pop("seed")
    assert 0 <= seed < 2**31
    assert {name: asked[name] for name in asked if name != "messages"} == {
        "model": "mistral-mini", "max_tokens": TOKENS, "temperature": 0.7, "top_k": 5, "top_p": 0.9,
        "stream": True, "min_tokens": 3, "ignore_eos": True, "timings_per_token": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }  # fmt: skip
    assert len({asked["seed"] for asked in server.of_prompts() if "seed" in asked}) >= N_PROMPTS - 1


def test_the_completions_api_is_asked_with_text(server, run):
    run("engine.api=completions", "decoding.stop_at_eos=true")
    asked = server.of_prompts()[-1]
    assert isinstance(asked["prompt"], str)
    assert "messages" not in asked
    assert "ignore_eos" not in asked
    assert "seed" not in asked


def test_one_text_is_cut_to_lengths(server, run):
    rows = counted(run("engine.api=completions", "prompt_set=length_grid", "prompt_set.max_new_tokens=5"))
    asked = [asked["prompt"] for asked in server.of_prompts()[-N_PROMPTS:]]
    assert all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(asked))
    assert rows["prompt_id"].unique().tolist() == ["16-tokens", "32-tokens", "64-tokens", "128-tokens"]
    # The scripted server counts words.
    per_word = np.array([16, 32, 64, 128]) / rows["prompt_tokens"].unique()
    assert ((per_word > 1) & (per_word <= 2)).all()


@pytest.mark.parametrize(
    ("refused", "taken"),
    [
        ({"continuous_usage_stats", "timings_per_token"}, {"stream_options": {"include_usage": True}}),
        ({"stream_options"}, {"timings_per_token": True}),
    ],
)
def test_fields_that_a_server_refuses_are_left_out(server, run, caplog, refused, taken):
    refused = refused | {"ignore_eos"}

    def strict(asked, number):
        if asked.keys() & refused or refused & asked.get("stream_options", {}).keys():
            return refusal(422, "unexpected field")
        return well_behaved(asked)

    server.script = strict
    with caplog.at_level("INFO"):
        dataset = run()
    assert len(counted(dataset)) == N_PROMPTS * TOKENS
    assert "The server takes no ignore_eos" in caplog.text
    (session,) = dataset.provenance["sessions"]
    assert session["endpoint"]["taken_fields"] == taken


def test_a_server_that_is_busy_while_it_is_asked_still_takes_what_it_takes(server, run):
    """A refusal for now is none of the field; and every question has a connection of its own."""

    def busy(asked, number):
        if number in {1, 3}:
            return refusal(503, "loading model", Retry_After="0")
        whole = well_behaved(asked)
        return Reply(whole.writes, end="closing") if number < N_QUESTIONS + 2 else whole

    server.script = busy
    (session,) = run().provenance["sessions"]
    assert set(session["endpoint"]["taken_fields"]) == {"ignore_eos", "stream_options", "timings_per_token"}


def test_a_running_count_is_not_asked_for_twice(server, run):
    server.script = lambda asked, number: counting(asked, interval_s=0.001)
    (session,) = run().provenance["sessions"]
    assert "timings_per_token" not in session["endpoint"]["taken_fields"]
    assert session["endpoint"]["requests_counted_by"] == {"running": N_PROMPTS}


def test_a_model_that_is_not_listed_and_answers_all_the_same_is_told(server, run, caplog):
    (session,) = run().provenance["sessions"]
    (notice,) = session["notices"]
    assert notice.startswith("The server lists no model mistral-mini (it lists scripted) and answers all")
    assert notice in caplog.text
    (session,) = run("engine.model=scripted").provenance["sessions"]
    assert session["notices"] == []


def test_what_a_person_would_not_expect_of_the_rows_is_told(server, run, caplog):
    def answer(asked, number):
        counts = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 9}}
        return Reply(
            [(0, chunk("a")), (0, chunk("b", finish="stop")), (0, sse({"usage": counts})), (0, DONE)]
        )

    server.script = answer
    (session,) = run("engine.model=scripted").provenance["sessions"]
    assert session["endpoint"]["requests_ended_early"] == N_PROMPTS
    assert session["endpoint"]["cached_prompt_fraction"] == 0.9
    assert f"{N_PROMPTS} of {N_PROMPTS} requests ended before prompt_set.max_new_tokens" in caplog.text
    assert "had computed 90 % of the prompts' tokens before" in caplog.text
    caplog.clear()
    (session,) = run("engine.model=scripted", "decoding.stop_at_eos=true").provenance["sessions"]
    assert session["endpoint"]["requests_ended_early"] == 0
    assert "ended before" not in caplog.text


def test_what_is_measured_was_not_asked_before(server, run):
    """A server that remembers how prompts begin must not have seen one in its questions or its warm-up."""
    run()
    said = [asked["messages"][-1]["content"] for asked in server.asked]
    measured = said[-N_PROMPTS:]
    assert len(set(measured)) == N_PROMPTS
    assert {len(before) for before in said[:-N_PROMPTS]} == {len(measured[0])}
    for before in said[:-N_PROMPTS]:
        assert not any(before.startswith(prompt[:8]) for prompt in measured)


def test_several_in_flight_end_in_any_order_and_are_all_there(server, run):
    server.script = lambda asked, number: well_behaved(asked, interval_s=0.02 if number % 2 else 0.005)
    dataset = run("engine.arrival=closed_loop", "engine.concurrency=3", "collect.repetitions=3")
    rows = counted(dataset)
    assert len(rows) == 3 * N_PROMPTS * TOKENS
    assert rows["requests_in_flight"].max() == 3
    assert server.most_in_flight == 3
    assert sorted(rows["session_request"].unique()) == list(range(3 * N_PROMPTS))


def test_poisson_arrivals_queue_where_there_is_no_room(server, run):
    server.script = lambda asked, number: well_behaved(asked, interval_s=0.02)
    dataset = run("engine.arrival=poisson", "engine.rate_per_s=200", "engine.concurrency=1")
    queued = counted(dataset).groupby("request_id")["queue_ms"].first()
    assert queued.max() > 100
    assert (queued >= 0).all()


def test_until_the_medians_are_known(server, run):
    dataset = run("collect.until_ci=90%", "prompt_set.limit=2")
    assert dataset.is_complete
    assert len(counted(dataset)) >= 3 * 2 * TOKENS


def test_nothing_is_asked_again_of_what_is_on_disk(server, run, caplog):
    run()
    n_asked = len(server.asked)
    with caplog.at_level("INFO"):
        run()
    assert len(server.asked) == n_asked
    assert "Already measured" in caplog.text


def test_a_cut_stream_is_kept_and_marked(server, run):
    def cut(asked):
        return Reply([(0.01, chunk("a")), (0.02, chunk("b")), (0.02, b"")], end="cut")

    server.script = on_prompt(N_PROMPTS - 1, cut)
    dataset = run("collect.repetitions=1")
    rows = counted(dataset)
    marked = rows[rows["flags"].str.contains("cut_stream")]
    assert marked["request_id"].unique().tolist() == [N_PROMPTS - 1]
    assert len(marked) == 2
    assert dataset.is_complete


def test_a_prompt_that_was_cut_before_its_count_is_counted_afterwards(server, run):
    server.script = on_prompt(0, lambda asked: Reply([(0, chunk("a"))], end="cut"))
    rows = counted(run())
    whole = [len(str(asked["messages"]).split()) for asked in server.of_prompts()[-N_PROMPTS:]]
    assert rows["prompt_tokens"].tolist() == whole


def test_flagged_requests_are_measured_again(server, run):
    cuts = []

    def once(asked, number):
        if asked["max_tokens"] == TOKENS and len(cuts) < 2:
            cuts.append(number)
            return Reply([(0, chunk("a"))], end="cut")
        return well_behaved(asked)

    server.script = once
    dataset = run("collect.flagged=retry", "collect.cool_down_s=0", "collect.retries=2")
    assert (counted(dataset)["flags"] == "").all()
    assert len(list(dataset.rows_dir.glob("_flagged-*"))) == 2
    (session,) = dataset.provenance["sessions"]
    assert session["retries"] == {"requests": 2, "tries_set_aside": 2, "flagged_to_the_end": 0}


def test_attempts_that_fail_are_recorded(server, run):
    def moody(asked, number):
        failed = {N_QUESTIONS: 429, N_QUESTIONS + 1: 500}.get(number)
        return refusal(failed, "later", Retry_After="0") if failed else well_behaved(asked)

    server.script = moody
    dataset = run("collect.warmup=0")
    rows = counted(dataset)
    assert rows.groupby("request_id")["attempt"].first().tolist() == [3, 1, 1, 1]
    assert (rows["flags"] == "retried").sum() == TOKENS
    (session,) = dataset.provenance["sessions"]
    assert session["endpoint"]["failed_attempts"] == {"HTTP 429": 1, "HTTP 500": 1}


def test_one_request_that_is_refused_is_recorded_and_the_others_go_on(server, run, caplog):
    server.script = lambda asked, number: (
        refusal(400, "too long") if number == N_QUESTIONS + 1 else well_behaved(asked)
    )
    dataset = run("collect.warmup=0")
    assert dataset.is_complete
    assert sorted(counted(dataset)["request_id"].unique()) == [0, 2, 3]
    (skipped,) = dataset.skipped()
    assert (skipped["request_id"], skipped["reason"]) == (1, "not_answered")
    assert skipped["why"] == "HTTP 400: too long"
    assert "Request 1 " in caplog.text
    assert "was not answered: HTTP 400: too long" in caplog.text


def test_a_server_that_refuses_everything_ends_it_and_resumes(server, run, only_dataset):
    server.script = on_prompt(2, lambda asked: refusal(400, "no more"))
    with pytest.raises(MeasurementError) as error:
        run("collect.repetitions=4")
    assert "5 requests in a row were not answered (HTTP 400: no more)" in str(error.value)
    assert f"2 of {4 * N_PROMPTS} requests are kept" in str(error.value)
    assert only_dataset().skipped() == []
    server.script = lambda asked, number: well_behaved(asked)
    dataset = run("collect.repetitions=4")
    assert dataset.is_complete
    assert len(counted(dataset)) == 4 * N_PROMPTS * TOKENS


def test_a_server_that_vanishes_is_a_clear_line_within_seconds(server, run, only_dataset):
    def vanish(asked):
        server.vanish()
        return Reply([(0.2, chunk("a"))], end="reset")

    server.script = on_prompt(2, vanish)
    began = time.monotonic()
    with pytest.raises(MeasurementError) as error:
        run("engine.retries=1")
    assert time.monotonic() - began < 10
    assert re.search(
        rf"engine.base_url={server.base_url}: the server cannot be reached any more \(ConnectError: .+\); "
        rf"[23] of {N_PROMPTS} requests are kept in .+; run the same command to resume there\.",
        str(error.value),
    )
    assert len(counted(only_dataset())) >= 2 * TOKENS


def test_where_nothing_answers_it_is_told_at_once(server, run):
    server.vanish()
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"engine\.base_url=http://127.*: nothing answers there"):
        run()
    assert time.monotonic() - began < 5


def test_a_model_that_is_not_served_is_told_with_those_that_are(server, run):
    server.script = lambda asked, number: refusal(404, "no such model.")
    with pytest.raises(MeasurementError) as error:
        run()
    assert "(HTTP 404: no such model). It lists no model mistral-mini; engine.model may be scripted." in str(
        error.value
    )


def test_without_the_servers_counts_the_tokenizer_counts_and_says_so(server, run, caplog):
    server.script = lambda asked, number: Reply(
        [*((0.001, chunk("a")) for _ in range(asked["max_tokens"])), (0, chunk(finish="length")), (0, DONE)]
    )
    dataset = run()
    rows = counted(dataset)
    assert len(rows) == N_PROMPTS * TOKENS
    assert rows["prompt_tokens"].between(5, 60).all()
    assert (rows["flags"] == "uncounted_tokens").all()
    assert f"in {N_PROMPTS} of {N_PROMPTS} requests each was taken for one" in caplog.text
    (session,) = dataset.provenance["sessions"]
    assert session["endpoint"]["prompt_tokens_from"] == "tokenizer"
    assert "counted with the tokenizer of mistral-mini" in session["notices"][-1]
    assert session["notices"][-1] in caplog.text


def test_without_counts_and_without_a_tokenizer_it_says_what_to_do(server, run):
    server.script = lambda asked, number: Reply([(0, chunk("a", finish="length")), (0, DONE)])
    with pytest.raises(MeasurementError) as error:
        run("model=hub", "model.name=no/such")
    assert "does not tell how many tokens a prompt has" in str(error.value)
    assert "model=hub model.name=NAME" in str(error.value)

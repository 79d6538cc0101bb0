"""Prompt sets: the shipped ones, the user's files, and what is wrong with a bad one."""

import json
import os

import pytest

from llmlat.config import Batching, PromptSetConfig, config_dir
from llmlat.errors import ConfigError
from llmlat.measure.cells import Cell
from llmlat.measure.models.tokenizers import MistralV3Tokenizer
from llmlat.measure.prompt_files import load_prompts
from llmlat.measure.prompts import plan_requests

SHIPPED = sorted(path.stem for path in (config_dir() / "prompt_set").glob("*.yaml") if path.stem != "file")
MINI_CONTEXT = 32768
BOS, INST, END_INST = 1, 3, 4


@pytest.fixture(scope="module")
def tokenizer():
    return MistralV3Tokenizer()


EAGER = (Cell("eager"),)


def plan(prompt_set, tokenizer, cells=EAGER, max_context=MINI_CONTEXT):
    return plan_requests(prompt_set, cells, tokenizer, max_context)


def ids_of(request):
    """Return the ids of a request of one sequence."""
    (token_ids,) = request.prompts
    return token_ids


@pytest.fixture
def write(tmp_path):
    def written(name, content, **settings):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8", newline="")
        return PromptSetConfig("file", str(path), **{"max_new_tokens": 8, **settings})

    return written


# --- the shipped sets ---------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sets_plan_within_the_embedded_models_context(compose, tokenizer, name):
    config = compose(f"prompt_set={name}")
    assert config.model.architecture["max_position_embeddings"] == MINI_CONTEXT
    requests = plan(config.prompt_set, tokenizer)
    assert len(requests) >= 5
    assert [request.request_id for request in requests] == list(range(len(requests)))
    assert len({request.prompt_ids for request in requests}) == len(requests)
    assert all(request.max_new_tokens >= 1 for request in requests)
    assert len({request.prompt_tokens for request in requests}) > 1


def test_the_thesis_is_exactly_471_tokens(compose, tokenizer):
    config = compose("+experiment=thesis")
    requests = plan(config.prompt_set, tokenizer)
    assert sum(request.max_new_tokens for request in requests) == 471
    assert config.collect.warmup == 0
    assert config.decoding.stop_at_eos is False
    lengths = [request.prompt_tokens for request in requests]
    assert max(lengths) > 20 * min(lengths)


def test_the_length_grid_is_exact(compose, tokenizer):
    config = compose("prompt_set=length_grid")
    requests = plan(config.prompt_set, tokenizer)
    assert [request.prompt_tokens for request in requests] == config.prompt_set.prompt_tokens
    assert [request.name for request in requests][:2] == ["16-tokens", "32-tokens"]
    longest = ids_of(requests[-1])
    for request in requests:
        assert ids_of(request) == longest[: request.prompt_tokens]
        assert ids_of(request)[0] == BOS
        assert INST not in ids_of(request)


def test_the_long_contexts_are_long(compose, tokenizer):
    requests = plan(compose("prompt_set=long_context").prompt_set, tokenizer)
    assert all(900 < request.prompt_tokens < 4500 for request in requests)


def test_the_chats_have_turns(compose):
    prompts = load_prompts(compose("prompt_set=chat").prompt_set)
    assert any(len(prompt.messages) > 3 for prompt in prompts)
    assert any(prompt.messages[0]["role"] == "system" for prompt in prompts)


# --- batches and cells ---------------------------------------------


@pytest.fixture
def five(write):
    return write("p.txt", "One\nTwo words\nAnd three words\nFour\nFive it is\n")


def test_an_equal_batch_is_one_prompt_over_and_over(five, tokenizer):
    requests = plan(five, tokenizer, [Cell("eager", batch_size=3)])
    assert len(requests) == 5
    for number, request in enumerate(requests, 1):
        assert request.prompt_ids == (f"line-{number}",) * 3
        assert len(set(request.prompts)) == 1
        assert len(request.prompts) == 3
        assert request.name == f"line-{number}"


def test_a_ragged_batch_is_prompts_that_follow_each_other(five, tokenizer):
    requests = plan(five, tokenizer, [Cell("eager", batch_size=3, batching=Batching.ragged)])
    assert [request.prompt_ids for request in requests] == [
        ("line-1", "line-2", "line-3"),
        ("line-4", "line-5", "line-1"),  # filled up from the beginning
    ]
    assert requests[0].prompt_tokens == max(map(len, requests[0].prompts)) == len(requests[0].prompts[2])
    assert requests[0].name == "line-1, line-2, line-3"


def test_a_ragged_batch_generates_what_its_longest_asks_for(write, tokenizer):
    lines = [{"prompt": "Hi", "max_new_tokens": n} for n in (3, 9)]
    prompt_set = write("p.jsonl", "\n".join(map(json.dumps, lines)), max_new_tokens=None)
    (request,) = plan(prompt_set, tokenizer, [Cell("eager", batch_size=2, batching=Batching.ragged)])
    assert request.max_new_tokens == 9


def test_every_batch_of_prompts_is_in_every_cell(five, tokenizer):
    cells = [Cell("eager"), Cell("no_cache"), Cell("eager", batch_size=2, batching=Batching.ragged)]
    requests = plan(five, tokenizer, cells)
    assert [request.request_id for request in requests] == list(range(5 + 5 + 3))
    assert [request.cell for request in requests] == [cells[0]] * 5 + [cells[1]] * 5 + [cells[2]] * 3
    assert all(request.repetition == 0 for request in requests)


# --- the user's files ---------------------------------------------


def test_jsonl(write, tokenizer):
    lines = [
        {"prompt": "Hello there"},
        {"id": "named", "prompt": "Hi", "max_new_tokens": 3},
        {"id": 7, "messages": [{"role": "user", "content": "Hi", "name": "ignored"}]},
    ]
    prompt_set = write("p.jsonl", "\n\n".join(json.dumps(line) for line in lines) + "\n")
    assert [p.prompt_id for p in load_prompts(prompt_set)] == ["line-1", "named", "7"]
    assert [p.max_new_tokens for p in load_prompts(prompt_set)] == [None, 3, None]
    first, second, third = plan(prompt_set, tokenizer)
    assert (first.max_new_tokens, second.max_new_tokens) == (8, 8)  # the set's word goes before the prompt's
    assert second.prompts == third.prompts
    prompt_set.max_new_tokens = None
    with pytest.raises(ConfigError, match=r"^prompt_set\.max_new_tokens: not set, and the prompt 'line-1'"):
        plan(prompt_set, tokenizer)


def test_csv(write, tokenizer):
    prompt_set = write(
        "p.csv",
        'id,prompt,max_new_tokens\na,"Hello, you",5\n,"Two\nlines ""quoted""",\n\nc,plain,\n',
        max_new_tokens=None,
    )
    prompts = load_prompts(prompt_set)
    assert [p.messages[0]["content"] for p in prompts] == ["Hello, you", 'Two\nlines "quoted"', "plain"]
    assert [p.max_new_tokens for p in prompts] == [5, None, None]
    assert prompts[0].prompt_id == "a"
    assert prompts[2].prompt_id == "c"
    with pytest.raises(ConfigError, match="not set"):
        plan(PromptSetConfig("file", prompt_set.path), tokenizer)


def test_text(write):
    prompts = load_prompts(write("p.txt", "One\n\n  \nTwo \r\nThree"))
    assert [p.messages[0]["content"].strip() for p in prompts] == ["One", "Two", "Three"]
    assert [p.prompt_id for p in prompts] == ["line-1", "line-4", "line-5"]


def test_a_suffix_in_capitals(write):
    assert len(load_prompts(write("P.TXT", "One"))) == 1


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.txt"])
@pytest.mark.parametrize("break_like", ["\u2028", "\x0c", "\x85", "\x1c"])
def test_what_unicode_calls_a_line_break_ends_no_prompt(write, name, break_like):
    said = f"before{break_like}after"
    content = {
        "p.jsonl": json.dumps({"prompt": said}, ensure_ascii=False),
        "p.csv": f"prompt\n{said}\n",
        "p.txt": said,
    }[name]
    if name == "p.jsonl" and break_like in "\x0c\x1c":
        pytest.skip("JSON itself escapes control characters")
    (prompt,) = load_prompts(write(name, content))
    assert prompt.messages[0]["content"] == said


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv"])
def test_a_byte_order_mark_is_not_part_of_the_file(write, name):
    content = {"p.jsonl": '{"prompt": "Hi"}', "p.csv": "prompt\nHi\n"}[name]
    (prompt,) = load_prompts(write(name, b"\xef\xbb\xbf" + content.encode()))
    assert prompt.messages[0]["content"] == "Hi"


def test_a_csv_prompt_as_long_as_a_document(write):
    (prompt,) = load_prompts(write("p.csv", f"prompt\n{'word ' * 60_000}\n"))
    assert len(prompt.messages[0]["content"]) == 300_000


MESSAGES = '{"prompt": "fine"}\n'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.jsonl", "", ["holds no prompts"]),
        ("p.txt", "\n  \n", ["holds no prompts"]),
        ("p.csv", "prompt\n", ["holds no prompts"]),
        ("p.csv", "", ["no column `prompt`"]),
        ("p.csv", "text,id\nhello,1\n", ["no column `prompt`"]),
        ("p.csv", "prompt,id\n,second\n", ["line 2", "neither"]),
        ("p.csv", 'prompt\nfine\n"never closed\n', ["line", "not CSV"]),
        ("p.md", "hello", [".jsonl, .csv or .txt"]),
        ("p", "hello", [".jsonl, .csv or .txt"]),
        ("p.jsonl", MESSAGES + "\n{'prompt': 'single quotes'}", ["line 3", "not JSON"]),
        ("p.jsonl", MESSAGES + '{"prompt": "unfinished', ["line 2", "not JSON"]),
        ("p.jsonl", '"just text"', ["line 1", "neither"]),
        ("p.jsonl", MESSAGES + '{"text": "wrong key"}', ["line 2", "neither"]),
        ("p.jsonl", MESSAGES + '{"prompt": ""}', ["line 2", "neither"]),
        ("p.jsonl", MESSAGES + '{"prompt": 5}', ["line 2", "must be text"]),
        ("p.jsonl", MESSAGES + '{"messages": "hi"}', ["line 2", "`messages`"]),
        ("p.jsonl", MESSAGES + '{"messages": [{"role": "user"}]}', ["line 2", "content"]),
        ("p.jsonl", MESSAGES + '{"messages": [{"role": "robot", "content": "x"}]}', ["line 2", "role"]),
        ("p.jsonl", '{"messages": [{"role": "assistant", "content": "x"}]}', ["line 1", "user's"]),
        ("p.jsonl", MESSAGES + '{"prompt": "x", "max_new_tokens": 0}', ["line 2", "max_new_tokens is 0"]),
        ("p.jsonl", '{"prompt": "x", "max_new_tokens": "many"}', ["line 1", "max_new_tokens is 'many'"]),
        ("p.jsonl", '{"prompt": "x", "max_new_tokens": 2.5}', ["line 1", "max_new_tokens is 2.5"]),
        ("p.csv", "prompt,max_new_tokens\nx,3\ny,-1\n", ["line 3", "max_new_tokens is '-1'"]),
        ("p.jsonl", '{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}', ["'a' is used twice"]),
        ("p.txt", b"caf\xe9\n", ["not UTF-8"]),
        ("p.jsonl", MESSAGES + "[" * 100_000 + "]" * 100_000, ["line 2", "nested too deeply"]),
        ("p.jsonl", '{"prompt": "a", "id": %s}' % ("9" * 5000), ["line 1", "an integer of 5000 digits"]),
        ("p.jsonl", '{"prompt": "a", "max_new_tokens": 1e999}', ["line 1", "no JSON"]),
        ("p.jsonl", MESSAGES + '{"prompt": "hi \\ud83d there"}', ["line 2", "surrogate"]),
        ("p.jsonl", '{"prompt": "hi", "id": "\\udc00"}', ["line 1", "surrogate"]),
        ("p.jsonl", '{"prompt": {"text": "hi"}}', ["line 1", "must be text"]),
        ("p.jsonl", '{"messages": [{"role": {}, "content": "x"}]}', ["line 1", "role"]),
        ("p.jsonl", '{"prompt": "hi", "max_new_tokens": {"n": 3}}', ["line 1", "max_new_tokens is {'n': 3}"]),
    ],
)
def test_a_bad_file_is_named_with_the_line(write, tokenizer, name, content, words):
    prompt_set = write(name, content)
    with pytest.raises(ConfigError) as caught:
        plan(prompt_set, tokenizer)
    message = str(caught.value)
    assert message.startswith(f"prompt_set.path={prompt_set.path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "p.jsonl")
    with pytest.raises(ConfigError, match=r"cannot read the file \(it is no regular file\)"):
        load_prompts(PromptSetConfig("file", str(tmp_path / "p.jsonl")))


def test_a_name_that_no_file_can_have(tmp_path):
    for name in ("n" * 300 + ".txt", "a\0b.txt"):
        with pytest.raises(ConfigError, match="cannot read the file"):
            load_prompts(PromptSetConfig("file", str(tmp_path / name)))


@pytest.mark.parametrize(
    ("name", "line"), [("p.jsonl", '{"prompt": "%d"}\n'), ("p.csv", "%d\n"), ("p.txt", "%d\n")]
)
def test_no_more_is_read_than_the_limit_asks_for(write, name, line):
    head = "prompt\n" if name == "p.csv" else ""
    content = head + "".join(line % number for number in range(50_000)) + "\n{"
    prompt_set = write(name, content.encode() + b"\xff", limit=2)
    assert [p.messages[0]["content"] for p in load_prompts(prompt_set)] == ["0", "1"]


def test_a_prompt_of_no_tokens_is_refused(write):
    class Words:
        def encode_chat(self, messages):
            return [1 for _ in messages[-1]["content"].split()]

    prompt_set = write("p.jsonl", '{"prompt": "a b"}\n{"prompt": " "}')
    with pytest.raises(ConfigError, match=r"the prompt 'line-2' is no tokens to the model's tokenizer"):
        plan(prompt_set, Words())


def test_tokens_that_the_model_does_not_know_are_refused(write, tokenizer):
    prompt_set = write("p.jsonl", '{"prompt": "a b"}')
    cells = [Cell("eager")]
    (request,) = plan_requests(prompt_set, cells, tokenizer, 100, 40_000)
    largest = max(request.prompts[0])
    assert plan_requests(prompt_set, cells, tokenizer, 100, largest + 1) == [request]
    with pytest.raises(
        ConfigError, match=rf"^model\.tokenizer: .* holds token {largest}, but the model knows"
    ):
        plan_requests(prompt_set, cells, tokenizer, 100, largest)


@pytest.mark.parametrize("name", ["missing.jsonl", "folder.jsonl", "missing/deep.txt"])
def test_a_file_that_cannot_be_read(tmp_path, tokenizer, name):
    (tmp_path / "folder.jsonl").mkdir()
    path = tmp_path / name
    with pytest.raises(ConfigError) as caught:
        plan(PromptSetConfig("file", str(path), 8), tokenizer)
    assert str(caught.value).startswith(f"prompt_set.path={path}: cannot read the file")


def test_messages_that_the_chat_format_refuses(write, tokenizer):
    chat = [{"role": role, "content": "x"} for role in ("assistant", "system", "user")]
    prompt_set = write("p.jsonl", MESSAGES + json.dumps({"messages": chat}))
    with pytest.raises(ConfigError) as caught:
        plan(prompt_set, tokenizer)
    message = str(caught.value)
    assert message.startswith(f"prompt_set.path={prompt_set.path}: ")
    assert "'line-2'" in message
    assert "\n" not in message


def test_a_prompt_longer_than_the_context(write, tokenizer):
    prompt_set = write("p.txt", "short\n" + "long " * 200, max_new_tokens=10)
    needed = plan(prompt_set, tokenizer)[1].prompt_tokens + 10
    assert plan(prompt_set, tokenizer, max_context=needed)
    with pytest.raises(ConfigError) as caught:
        plan(prompt_set, tokenizer, max_context=needed - 1)
    message = str(caught.value)
    assert message.startswith("prompt_set=file: the prompt 'line-2'")
    assert "prompt_set.max_new_tokens" in message


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("prompt_set.max_new_tokens=0", "prompt_set.max_new_tokens=0"),
        ("prompt_set.limit=0", "prompt_set.limit=0"),
        ("+prompt_set.prompt_tokens=[0,5]", "prompt_set.prompt_tokens=[0, 5]"),
        ("+prompt_set.prompt_tokens=[5,1000000]", "prompt_set.prompt_tokens=[5, 1000000]"),
        ("+prompt_set.prompt_tokens=[5,5]", "prompt_set.prompt_tokens=[5, 5]"),
    ],
)
def test_counts_that_cannot_be(compose, tokenizer, override, key):
    config = compose(override)
    with pytest.raises(ConfigError) as caught:
        plan(config.prompt_set, tokenizer)
    assert str(caught.value).startswith(key)

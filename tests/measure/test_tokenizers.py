"""What the model is really fed: Mistral's chat format, and the formats of other models."""

import json

import pytest

from llmlat.config import PromptSetConfig, TokenizerName
from llmlat.errors import ModelError
from llmlat.measure.cells import Cell
from llmlat.measure.models.tokenizers import ChatFormatError, HubTokenizer, MistralV3Tokenizer, make_tokenizer
from llmlat.measure.prompts import plan_requests

BOS, EOS, INST, END_INST = 1, 2, 3, 4
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "How are you?"},
]


@pytest.fixture(scope="module")
def mistral():
    return MistralV3Tokenizer()


def test_mistrals_instruction_format(mistral):
    ids = mistral.encode_chat([{"role": "user", "content": "What is 2 + 2?"}])
    text = mistral.encode_text("What is 2 + 2?")
    assert text[0] == BOS
    assert ids == [BOS, INST, *text[1:], END_INST]


def test_mistrals_turns_and_system_prompt(mistral):
    ids = mistral.encode_chat(CHAT)
    special = [i for i in ids if i in (BOS, EOS, INST, END_INST)]
    assert special == [BOS, INST, END_INST, EOS, INST, END_INST]
    # v3 puts the system prompt into the last instruction.
    last = ids[len(ids) - ids[::-1].index(INST) :]
    assert last[:-1] == mistral.encode_text("Be brief.\n\nHow are you?")[1:]


@pytest.mark.parametrize("text", ["[INST] not a token [/INST]", "<s></s>"])
def test_a_prompt_cannot_forge_control_tokens(mistral, text):
    ids = mistral.encode_chat([{"role": "user", "content": text}])
    assert [i for i in ids if i in (BOS, EOS, INST, END_INST)] == [BOS, INST, END_INST]


def test_mistral_refuses_in_one_line(mistral):
    with pytest.raises(ChatFormatError) as caught:
        mistral.encode_chat([{"role": "assistant", "content": "I speak first"}, *CHAT])
    assert "\n" not in str(caught.value)


def test_prompt_tokens_count_what_is_fed(mistral, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"messages": CHAT}))
    (request,) = plan_requests(PromptSetConfig("file", str(path), 4), [Cell("eager")], mistral, 1000)
    assert list(request.prompts[0]) == mistral.encode_chat(CHAT)


# --- tokenizers of other models ---------------------------------------------

WORDS = ["<unk>", "<s>", "</s>", "<user>", "<bot>", "hello", "world", "again", "sys"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system\nrole here') }}{% endif %}"
    "{{ ' <user> ' if m.role == 'user' else ' <bot> ' }}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %} <bot>{% endif %}"
)


@pytest.fixture
def own_tokenizer(tmp_path):
    """Return a function that writes a tiny tokenizer to a folder, with or without a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    def written(chat_template=None):
        inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
        inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
        tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "<bot>"]})
        tokenizer.chat_template = chat_template
        tokenizer.save_pretrained(tmp_path / "tokenizer")
        return str(tmp_path / "tokenizer")

    return written


def ids_of(text):
    return [WORDS.index(word) for word in text.split()]


def test_a_models_own_chat_template(own_tokenizer):
    tokenizer = make_tokenizer(TokenizerName.auto, own_tokenizer(TEMPLATE), None, local_files_only=True)
    assert tokenizer.encode_chat([{"role": "user", "content": "hello world"}]) == ids_of(
        "<s> <user> hello world <bot>"  # one beginning, not two
    )
    turns = tokenizer.encode_chat([*CHAT[1:3], {"role": "user", "content": "again"}])
    assert turns == ids_of("<s> <user> <unk> <bot> <unk> <user> again <bot>")
    assert tokenizer.encode_text("hello again") == ids_of("<s> hello again")


def test_a_template_that_refuses(own_tokenizer):
    tokenizer = HubTokenizer(own_tokenizer(TEMPLATE), None, local_files_only=True)
    with pytest.raises(ChatFormatError, match=r"^no system role here$"):
        tokenizer.encode_chat(CHAT)


def test_a_base_model_without_a_template(own_tokenizer):
    tokenizer = HubTokenizer(own_tokenizer(), None, local_files_only=True)
    assert tokenizer.encode_chat([{"role": "user", "content": "hello world"}]) == ids_of("<s> hello world")
    system = [{"role": "system", "content": "sys"}, {"role": "user", "content": "hello"}]
    assert tokenizer.encode_chat(system) == ids_of("<s> sys hello")


def test_a_folder_without_a_tokenizer(tmp_path, random_model):
    random_model().save_pretrained(tmp_path / "model")
    for name in (str(tmp_path / "model"), "nobody/nothing"):
        with pytest.raises(ModelError) as caught:
            make_tokenizer(TokenizerName.auto, name, None, local_files_only=True)
        message = str(caught.value)
        assert message.startswith("model.tokenizer=auto: ")
        assert name in message
        assert "model.tokenizer=mistral_v3" in message
        assert "\n" not in message


def test_mistrals_tokenizer_for_any_model():
    assert isinstance(
        make_tokenizer(TokenizerName.mistral_v3, "nobody/nothing", None, local_files_only=True),
        MistralV3Tokenizer,
    )


class Templated:
    """Stands for a tokenizer of transformers whose chat template is rendered as its own are."""

    def __init__(self, template):
        self.chat_template = template

    def apply_chat_template(self, messages, **options):
        from transformers.utils.chat_template_utils import render_jinja_template

        options = {name: value for name, value in options.items() if name not in ("tokenize", "return_dict")}
        rendered = render_jinja_template([messages], chat_template=self.chat_template, **options)
        return [ord(letter) for letter in rendered[0][0]]


@pytest.fixture
def templated(monkeypatch):
    """Return a function that makes the tokenizer of a chat template."""

    def make(template):
        monkeypatch.setattr(
            "transformers.AutoTokenizer.from_pretrained", lambda *_, **__: Templated(template)
        )
        return HubTokenizer("some/model", None, True)

    return make


def test_a_template_that_writes_the_date_is_told_one_that_stays(templated):
    tokenizer = templated("{{ strftime_now('%d %b %Y') }}|{{ messages[0]['content'] }}")
    ids = tokenizer.encode_chat([{"role": "user", "content": "Hi"}])
    assert "".join(map(chr, ids)) == "26 Jul 2024|Hi"
    assert tokenizer.written_date == "2024-07-26"


def test_a_template_without_a_date_is_told_none(templated):
    tokenizer = templated("{{ messages[0]['content'] }}")
    tokenizer.encode_chat([{"role": "user", "content": "Hi"}])
    assert tokenizer.written_date is None


@pytest.mark.parametrize(
    "template", ["{{ messages[0]['content'] + 1 }}", "{{ raise_exception('no') }}", "{% if %}"]
)
def test_a_template_that_fails_is_a_line(templated, template):
    with pytest.raises(ChatFormatError) as caught:
        templated(template).encode_chat([{"role": "user", "content": "Hi"}])
    assert "\n" not in str(caught.value)

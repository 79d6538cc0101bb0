"""Tokenizers: text and chat messages to the token ids that the model is really fed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import Any, Protocol

from llmlat.config import TokenizerName
from llmlat.errors import ModelError, one_line
from llmlat.measure.models.own_code import first_sentence, is_own_code, own_code_error

TEMPLATE_DATE = datetime(2024, 7, 26)
"""What chat templates are told is today: the date that Llama's falls back on."""

Message = Mapping[str, str]
"""A chat message: `role` (system, user or assistant) and `content`."""


class ChatFormatError(Exception):
    """Messages that a model's chat format has no place for; the message says why, in one line."""


class Tokenizer(Protocol):
    """Turns text into token ids."""

    written_date: str | None
    """The date that a chat's template has written into prompts so far."""

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a chat, template and special tokens included, ready for the model's answer.

        Raises
        ------
        ChatFormatError
            Where the model's format has no place for such messages.
        """

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of plain text, with the beginning-of-sequence token and no template."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""


class MistralV3Tokenizer:
    """Mistral's v3 tokenizer, as `mistral-common` ships it: the real one, without a download."""

    written_date: str | None = None

    def __init__(self) -> None:
        from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

        self._tokenizer = MistralTokenizer.v3()

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a chat in Mistral's instruction format."""
        from mistral_common.exceptions import MistralCommonException
        from mistral_common.protocol.instruct.request import ChatCompletionRequest

        try:
            request: Any = ChatCompletionRequest.from_openai(messages=[dict(m) for m in messages])
            return list(self._tokenizer.encode_chat_completion(request).tokens)
        except (MistralCommonException, ValueError) as error:
            raise ChatFormatError(one_line(error)) from error

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of plain text after the beginning-of-sequence token."""
        return list(self._tokenizer.instruct_tokenizer.tokenizer.encode(text, bos=True, eos=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return str(self._tokenizer.instruct_tokenizer.tokenizer.decode(list(ids)))


class HubTokenizer:
    """A model's own tokenizer, from the Hub, its cache or a local folder.

    Where it has a chat template, chats go through it; where it has none (a base model), the messages'
    contents are joined by blank lines. A template that writes the date is told one that stays: prompts
    are the same tomorrow, and so is what is measured.
    """

    def __init__(
        self, name: str, revision: str | None, local_files_only: bool, trust_remote_code: bool = False
    ) -> None:
        from transformers import AutoTokenizer

        self.written_date: str | None = None
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                name,
                revision=revision,
                local_files_only=local_files_only,
                trust_remote_code=trust_remote_code,
            )
        except Exception as error:
            if is_own_code(error):
                raise own_code_error(name) from error
            raise ModelError(
                f"model.tokenizer=auto: {name} has no usable tokenizer here ({first_sentence(error)}); "
                "name a model with one, or use model.tokenizer=mistral_v3."
            ) from error

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a chat in the model's own format."""
        if not self._tokenizer.chat_template:
            return list(self._tokenizer("\n\n".join(m["content"] for m in messages)).input_ids)
        from jinja2.exceptions import TemplateError

        try:
            with self._told_the_date():
                ids = self._tokenizer.apply_chat_template(
                    [dict(m) for m in messages], add_generation_prompt=True, tokenize=True, return_dict=False
                )
            return list(ids)
        except (TemplateError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ChatFormatError(one_line(error)) from error

    @contextmanager
    def _told_the_date(self) -> Iterator[None]:
        """Let templates take `TEMPLATE_DATE` for today within the block; transformers asks its own module."""
        from transformers.utils import chat_template_utils

        tokenizer = self

        class Pinned(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                tokenizer.written_date = f"{TEMPLATE_DATE:%Y-%m-%d}"
                return TEMPLATE_DATE

        asked = chat_template_utils.datetime
        chat_template_utils.datetime = Pinned
        try:
            yield
        finally:
            chat_template_utils.datetime = asked

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of plain text with the tokenizer's own special tokens in front."""
        return list(self._tokenizer(text).input_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


def make_tokenizer(
    name: TokenizerName,
    model: str,
    revision: str | None,
    local_files_only: bool,
    trust_remote_code: bool = False,
) -> Tokenizer:
    """Return the tokenizer that a model config names."""
    if name is TokenizerName.mistral_v3:
        return MistralV3Tokenizer()
    return HubTokenizer(model, revision, local_files_only, trust_remote_code)

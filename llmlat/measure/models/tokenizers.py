"""Tokenizers: text and chat messages to the token ids that the model is really fed."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from llmlat.config import TokenizerName
from llmlat.errors import ModelError, one_line

Message = Mapping[str, str]
"""A chat message: `role` (system, user or assistant) and `content`."""


class ChatFormatError(Exception):
    """Messages that a model's chat format has no place for; the message says why, in one line."""


class Tokenizer(Protocol):
    """Turns text into token ids."""

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
    contents are joined by blank lines.
    """

    def __init__(self, name: str, revision: str | None, local_files_only: bool) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                name, revision=revision, local_files_only=local_files_only
            )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"model.tokenizer=auto: {name} has no usable tokenizer here ({one_line(error)}); "
                "name a model with one, or use model.tokenizer=mistral_v3."
            ) from error

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a chat in the model's own format."""
        if not self._tokenizer.chat_template:
            return list(self._tokenizer("\n\n".join(m["content"] for m in messages)).input_ids)
        from jinja2.exceptions import TemplateError

        try:
            return list(
                self._tokenizer.apply_chat_template(
                    [dict(m) for m in messages], add_generation_prompt=True, tokenize=True, return_dict=False
                )
            )
        except TemplateError as error:
            raise ChatFormatError(one_line(error)) from error

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of plain text with the tokenizer's own special tokens in front."""
        return list(self._tokenizer(text).input_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


def make_tokenizer(
    name: TokenizerName, model: str, revision: str | None, local_files_only: bool
) -> Tokenizer:
    """Return the tokenizer that a model config names."""
    if name is TokenizerName.mistral_v3:
        return MistralV3Tokenizer()
    return HubTokenizer(model, revision, local_files_only)

"""How many tokens a prompt has: what the server says, or, where it says nothing, the model's tokenizer."""

from collections.abc import Callable

from llmlat.config import LanguageModelConfig
from llmlat.errors import LlmlatError, MeasurementError, one_line
from llmlat.measure.endpoint.answers import Answer
from llmlat.measure.endpoint.plan import EndpointPlan, Messages
from llmlat.measure.endpoint.settings import Api
from llmlat.measure.endpoint.tokenizing import find_tokenizer
from llmlat.measure.prompts import Request

Count = Callable[[Messages], int]


class PromptCounts:
    """Knows the prompts' tokens, once a server has told, and remembers them for answers that do not.

    Parameters
    ----------
    plan : EndpointPlan
    count : callable or None
        Counts a prompt's tokens where the server never tells.
    """

    def __init__(self, plan: EndpointPlan, count: Count | None = None) -> None:
        self._messages = plan.messages
        self._count = count
        self._known: dict[str, int] = {}

    def of(self, request: Request, answer: Answer) -> int | None:
        """Return the tokens of a request's prompt, or None where nobody tells."""
        name = request.prompt_ids[0]
        if answer.prompt_tokens is not None:
            self._known[name] = answer.prompt_tokens
        elif name not in self._known and self._count is not None:
            self._known[name] = self._count(self._messages[name])
        return self._known.get(name)

    def of_warm_up(self, request: Request, answer: Answer) -> int | None:
        """Return the tokens of what warmed up, which is the prompt with another beginning."""
        return self.of(request, answer) if answer.prompt_tokens is None else answer.prompt_tokens

    def known(self, request: Request) -> int | None:
        """Return the tokens of a request's prompt where they are known by now."""
        return self._known.get(request.prompt_ids[0])


def tokenizer_count(plan: EndpointPlan, model: LanguageModelConfig) -> Count:
    """Return what counts prompts with the tokenizer of `model`, for a server that does not.

    Raises
    ------
    MeasurementError
        Where there is no such tokenizer here.
    """
    try:
        tokenizer = find_tokenizer(model)
    except LlmlatError as error:
        raise MeasurementError(
            f"engine.base_url={plan.endpoint.base_url}: the server does not tell how many tokens a prompt "
            f"has, and there is no tokenizer to count them ({one_line(error)}); name the model whose "
            "tokenizer it uses, model=hub model.name=NAME."
        ) from error

    def count(messages: Messages) -> int:
        if plan.endpoint.api is Api.chat:
            return len(tokenizer.encode_chat(messages))
        return len(tokenizer.encode_text("\n\n".join(message["content"] for message in messages)))

    return count

"""Models that come with code of their own: it is run where the config says so, and never unasked."""

from llmlat.errors import ModelError, one_line


def is_own_code(error: BaseException) -> bool:
    """Tell whether transformers refused to run a model's own code."""
    return "trust_remote_code" in str(error)


def own_code_error(name: str) -> ModelError:
    """Return what says that a model comes with code of its own."""
    return ModelError(
        f"model.name={name}: it comes with code of its own, which is not run unasked. Read it, and set "
        "model.trust_remote_code=true to run it."
    )


def first_sentence(error: BaseException) -> str:
    """Return how an exception begins: those of transformers go on for a paragraph."""
    sentence, dot, _ = one_line(error).partition(". ")
    return sentence.rstrip(".") if dot else sentence

"""How numbers and names read: one spelling for the page, the markdown and the terminal."""

import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any, TypeGuard

NBSP, MINUS, TIMES, DASH = "\u00a0", "\u2212", "\u00d7", "\u2013"
MISSING = DASH
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

BASELINES = {
    "mean": "always the mean",
    "median": "always the median",
    "last_token": "same as the last token",
}
PHASES = {"prefill": "first tokens (prefill)", "decode": "later tokens (decode)"}
SPLITS = {
    "random": "token by token, at random",
    "by_request": "request by request",
    "by_prompt": "prompt by prompt",
    "by_time": "fitted on the first, tested on the last",
    "extrapolate": "fitted on the shorter, tested on the longer",
    "leave_one_out": "one left out",
}
QUANTIZATIONS = {
    "none": "unquantized",
    "int8": "8-bit weights",
    "nf4": "4-bit weights",
    "unknown": "quantization unknown",
}
THESIS_NAMES = {"context_length": "Context_Size", "prompt_tokens": "Input_Token_Length"}


LEAST_R2 = -10


def is_number(value: Any) -> TypeGuard[float]:
    """Whether `value` is a finite number, numpy's own kinds included."""
    return isinstance(value, Real) and value is not True and value is not False and math.isfinite(value)


def number(value: Any, digits: int = 3) -> str:
    """Spell a number with `digits` significant digits, thousands separated, with a true minus.

    Examples
    --------
    >>> number(34.0332, 4), number(1512.3), number(0.00428123)
    ('34.03', '1,512', '0.00428')
    """
    if not is_number(value):
        return MISSING
    value = float(value)
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded number: 99.96 is 100
    if exponent < -5 or exponent > 6:
        mantissa = f"{value / 10.0**exponent:.{digits - 1}f}"
        return minus(f"{mantissa} {TIMES} 10{str(exponent).translate(SUPERSCRIPT)}")
    return minus(f"{value:,.{max(0, digits - 1 - exponent)}f}")


def ms(value: Any, digits: int = 3) -> str:
    """Spell a duration in milliseconds, with its unit."""
    spelled = number(value, digits)
    return spelled if spelled == MISSING else f"{spelled}{NBSP}ms"


def count(value: Any) -> str:
    """Spell a count, thousands separated."""
    return f"{int(value):,}" if is_number(value) else MISSING


def counted(number_of: int, noun: str) -> str:
    """Spell a count with its noun, as in 1 token and 2 tokens."""
    return f"{count(number_of)} {noun}{'' if number_of == 1 else 's'}"


def percent(fraction: Any) -> str:
    """Spell a fraction as a percentage."""
    if not is_number(fraction):
        return MISSING
    value = 100.0 * float(fraction)
    if abs(value) < 0.05:
        return f"0{NBSP}%"
    digits = 3 if abs(value) >= 10 else 2
    while digits < 6 and value < 100 <= float(f"{value:.{digits}g}"):
        digits += 1  # nearly all is not all
    return f"{number(value, digits)}{NBSP}%"


def times(ratio: Any) -> str:
    """Spell a ratio, as in 2.3 times, with the sign for it."""
    spelled = number(ratio, 3 if is_number(ratio) and abs(ratio) >= 10 else 2)
    return spelled if spelled == MISSING else f"{spelled}{TIMES}"


def fit_quality(r2: Any) -> str:
    """Spell an R², whose size says something only beside 1: a few like rows make it any negative number."""
    if not is_number(r2):
        return MISSING
    return minus(f"{round(r2, 3) + 0.0:.3f}") if r2 > LEAST_R2 else f"below {minus(str(LEAST_R2))}"


def minus(text: str) -> str:
    """Give the negative numbers and the differences in `text` a true minus."""
    return re.sub(r"(?<![\w.-])-(?=[\d.]|\s)", MINUS, text)


def signed(value: Any, digits: int = 3) -> str:
    """Spell a number with its sign, the plus too."""
    spelled = number(value, digits)
    return f"+{spelled}" if is_number(value) and value > 0 else spelled


def model(metrics: Mapping[str, Any]) -> str:
    """Name the model as people say it, without who published it or the folder it lies in."""
    return str(metrics["model"]).rstrip("/").rsplit("/", 1)[-1]


def regressor(metrics: Mapping[str, Any], whole: bool = False) -> str:
    """Name the regressor with its settings: alpha, as in `Ridge (alpha 1)`, or the whole of them."""
    settings = metrics["regressor"].get("parameters") or {}
    settings = {name: value for name, value in settings.items() if whole or name == "alpha"}
    spelled = ", ".join(f"{name} {_setting(value)}" for name, value in settings.items())
    name = str(metrics["regressor"]["name"])
    return f"{name} ({spelled})" if spelled else name


def is_table(metrics: Mapping[str, Any]) -> bool:
    """Whether the rows are somebody's own table, of whose measuring nothing is known."""
    return metrics.get("source") == "table"


def split(name: str) -> str:
    """Say how rows were divided, in words; `leave_one_out:engine` leaves out each engine in turn."""
    kind, _, column = name.partition(":")
    return f"each {column} in turn, never seen" if column else SPLITS.get(kind, kind)


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return listed(list(value))
    return minus(f"{value:g}") if is_number(value) else str(value)


def quantization(metrics: Mapping[str, Any]) -> str:
    """Say how the weights were stored."""
    name = str(metrics.get("quantization"))
    return QUANTIZATIONS.get(name, name)


def sentence(text: Any) -> str:
    """End a reason given by someone else as a sentence ends."""
    return f"{str(text).rstrip(' .')}."


def listed(names: list[str]) -> str:
    """Join names as a sentence does: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else MISSING

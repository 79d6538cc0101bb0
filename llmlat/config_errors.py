"""Hydra's and OmegaConf's complaints in one line: what, which key, what to do."""

import re
import traceback
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import get_args, get_type_hints

from omegaconf.errors import OmegaConfBaseException

from llmlat.errors import did_you_mean

WANTED = {
    "converted to Integer": "use a whole number",
    "converted to Float": "use a number",
    "not a valid bool": "use true or false",
    "type hint 'Optional[Union[float, str]]'": "use a share, as in 2% or 0.02",
    "is not a ListConfig": "use a list, as in {key}=[A,B]",
    "is not Optional": "null is no value for it",
    "to Dict[": "use a mapping, as in {key}={{name: value}}",
    "is not a subclass of": "it holds keys of its own, which are set one by one",
}


def explain(error: Exception, schema: type) -> str:
    """Return one line for an error of composing the configuration.

    Parameters
    ----------
    error : Exception
        Of Hydra or OmegaConf.
    schema : type
        The root of the typed configuration, where there are keys to hint at.
    """
    text = str(error)
    if isinstance(error, AssertionError):
        key = key_below_null(error) or ""
        return f"{key}: {key.rpartition('.')[0]} is null, so nothing can be set in it; choose another option."
    missing_option = re.search(
        r"Could not find '(.+)/([^/']+)'\s+Available options in '.+':\n((?:\t.+\n)+)", text
    )
    if missing_option:
        group, option, listed = missing_option.groups()
        options = listed.split()
        wrong = f"{_plus(group)}{group}={option}: no such option{did_you_mean(option, options)}"
        return f"{wrong} There are: {', '.join(options)}."
    unknown_key = re.search(r"Could not override '([\w.]+)'\.\s+To append to your config", text)
    if unknown_key:
        beside = getattr(error.__cause__, "parent_node", None)
        return explain_unknown_key(unknown_key[1], schema, list(beside or ()))
    several = re.search(r"Ambiguous value for argument '([^=\n]+)=([^\n]*)'\n", text)
    if several:
        key, value = several.groups()
        return f"{key}={value}: several values; add -m to try each, or write {key}=[{value}] for one list."
    unreadable = re.search(r"(?:Exception: |Error parsing override ')([~+\w./@]+=[^\n']*)", text)
    override = str(getattr(error, "override", None) or (unreadable[1].rstrip(" ^") if unreadable else ""))
    if override:
        return _unreadable(override)
    unmatched = re.search(
        r"No match in the defaults list\.\s+To append to your default list use \+(\S+)", text
    )
    if unmatched:
        return f"{unmatched[1]}: there is none yet that it could replace; use +{unmatched[1]}"
    if "Config group override must be" in text:
        return "a group is given a number; use one of its options, group=option, which --help lists."
    if error.__cause__ is not None and "full_key" in str(error.__cause__):
        return _from_omegaconf(error.__cause__)
    if "full_key" in text:
        return _from_omegaconf(error)
    return " ".join(line.strip() for line in text.splitlines() if "hydra.cc" not in line)


def _unreadable(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals:
        return f"{key}: there is no value; write key=value, and quote the whole where it holds spaces."
    value = value.strip().strip("'\"")
    if value.startswith(("[", "{")) and not value.endswith(("]", "}")):
        return f"{key}: {value} ends before its bracket is closed; quote the whole where it holds spaces."
    return f"{key}: cannot be read; quote the value for Hydra too, as in \"{key}='{value}'\"."


def _plus(group: str) -> str:
    return "+" if group == "experiment" else ""


def is_of_the_command_line(error: Exception) -> bool:
    """Tell whether an error is Hydra's word about the command line, and not one of our own."""
    if isinstance(error, ValueError) and not isinstance(error, OmegaConfBaseException):
        return str(error).startswith(("Config group override must be", "Only one of --run, --multirun"))
    return not isinstance(error, AssertionError) or key_below_null(error) is not None


def key_below_null(error: AssertionError) -> str | None:
    """Return the key that was set below a key that is null, which Hydra only asserts against; or None."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_apply_overrides_to_config":
            return str(frame.f_locals.get("key"))
    return None


def explain_unknown_key(key: str, schema: type, beside: Sequence[str] = ()) -> str:
    """Return one line for a key that the configuration does not have; `beside` it are those that are set."""
    parent, _, leaf = key.rpartition(".")
    known = known_keys(parent, schema)
    if not known:
        meant = did_you_mean(leaf, list(beside)).rstrip(".")
        takes_more = parent.partition(".")[0] in {"regressor", "engine"}
        hint = f"; +{key}=VALUE adds it, if the class it goes to takes it" if takes_more and not meant else ""
        return f"{key}: no such key{meant or f'{hint}.'} --cfg job shows the keys there are."
    where = f"Keys of {parent}:" if parent else "Groups and keys:"
    return f"{key}: no such key{did_you_mean(leaf, known)} {where} {', '.join(known)}."


def known_keys(parent: str, schema: type) -> list[str]:
    """Return the keys below a dotted path of the typed configuration; empty where it is not typed."""
    node: type | None = schema
    for part in filter(None, parent.split(".")):
        hint = get_type_hints(node).get(part) if node is not None else None
        candidates = [hint, *get_args(hint)]
        node = next((c for c in candidates if isinstance(c, type) and is_dataclass(c)), None)
    return [f.name for f in fields(node)] if node is not None and is_dataclass(node) else []


def _from_omegaconf(error: BaseException) -> str:
    first, *rest = str(error).splitlines()
    key = next((line.split("full_key:")[1].strip() for line in rest if "full_key:" in line), "")
    if "issing mandatory value" in first:
        return f"{key}: has no value yet; give it one, {key}=..."
    return f"{key}: {first.rstrip('.')}{_wanted(key, first)}."


def _wanted(key: str, complaint: str) -> str:
    """Return what to write instead, where OmegaConf's complaint does not say it."""
    if "of type 'list'" in complaint or "of type 'ListConfig'" in complaint:
        return f"; one value is wanted, and -m {key}=A,B tries several"
    for sign, wanted in WANTED.items():
        if sign in complaint:
            return f"; {wanted.format(key=key)}"
    return ""

"""Hydra's and OmegaConf's complaints in one line: what, which key, what to do."""

import difflib
import re
import traceback
from dataclasses import fields, is_dataclass
from typing import get_args, get_type_hints


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
        wrong = f"{_plus(group)}{group}={option}: no such option{_did_you_mean(option, options)}"
        return f"{wrong} There are: {', '.join(options)}."
    unknown_key = re.search(r"Could not override '([\w.]+)'\.\s+To append to your config", text)
    if unknown_key:
        return explain_unknown_key(unknown_key[1], schema)
    unreadable = re.search(r"(?:Exception: |Error parsing override ')([~+\w./@]+=[^\n']*)", text)
    if unreadable:
        key, _, value = unreadable[1].rstrip(" ^").partition("=")
        return f"{key}: cannot be read; quote the value for Hydra too, as in \"{key}='{value.strip()}'\"."
    if "No match in the defaults list" in text:
        return " ".join(text.split())
    if error.__cause__ is not None and "full_key" in str(error.__cause__):
        return _from_omegaconf(error.__cause__)
    if "full_key" in text:
        return _from_omegaconf(error)
    return " ".join(line.strip() for line in text.splitlines() if "hydra.cc" not in line)


def _plus(group: str) -> str:
    return "+" if group == "experiment" else ""


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else "."


def key_below_null(error: AssertionError) -> str | None:
    """Return the key that was set below a key that is null, which Hydra only asserts against; or None."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_apply_overrides_to_config":
            return str(frame.f_locals.get("key"))
    return None


def explain_unknown_key(key: str, schema: type) -> str:
    """Return one line for a key that the configuration does not have."""
    parent, _, leaf = key.rpartition(".")
    known = known_keys(parent, schema)
    if not known:
        hint = (
            f"; +{key}=VALUE adds it, if the class it goes to takes it"
            if parent.partition(".")[0] in {"regressor", "engine"}
            else ""
        )
        return f"{key}: no such key{hint}. --cfg job shows the keys there are."
    where = f"Keys of {parent}:" if parent else "Groups and keys:"
    return f"{key}: no such key{_did_you_mean(leaf, known)} {where} {', '.join(known)}."


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
    return f"{key}: {first.rstrip('.')}."

"""Overrides: read as Hydra reads them, told apart, and spelled in short."""

import math

from llmlat.sweep.overrides import ABSENT, in_short, label, parse, short_names, spelled, swept_keys


def test_overrides_are_read_as_hydra_reads_them() -> None:
    lines = [
        "prompt_set=short",
        "regressor.alpha=0.1",
        "+experiment=thesis",
        "++seed=3",
        "name='a,b'",
        "a.b=null",
    ]
    assert parse([*lines, "hydra.sweep.dir=x", "hydra/launcher=joblib"]) == {
        "prompt_set": "short",
        "regressor.alpha": 0.1,
        "experiment": "thesis",
        "seed": 3,
        "name": "a,b",
        "a.b": "null",
    }


def test_a_value_of_another_kind_is_its_text() -> None:
    assert parse(["features.columns=[context_length]"]) == {"features.columns": "['context_length']"}


def test_what_the_grammar_refuses_is_kept_as_text() -> None:
    assert parse(["+odd={[=1"]) == {"odd": "{[=1"}


def test_swept_keys_are_those_that_differ() -> None:
    jobs = [parse(["a=1", "b=2", "c=3"]), parse(["a=1", "b=4", "c=3"]), parse(["a=1", "b=4", "c=3", "d=0"])]
    assert swept_keys(jobs) == ["b", "d"]
    assert swept_keys(jobs[:1]) == []
    assert swept_keys([parse(["a=1"]), parse(["a=true"])]) == ["a"], "1 is not true here"
    assert swept_keys([parse(["a=null"]), parse([])]) == ["a"], "null is not the default"


def test_short_names_stay_apart() -> None:
    assert short_names(["seed", "split.seed", "regressor.alpha"]) == {
        "seed": "seed",
        "split.seed": "split.seed",
        "regressor.alpha": "alpha",
    }


def test_in_short() -> None:
    assert in_short({"prompt_set": "chat", "regressor.alpha": 10.0}) == "prompt_set=chat alpha=10"
    assert label({"prompt_set": "chat"}) == "chat"
    assert label({"prompt_set": "chat", "engine": "eager"}) == "prompt_set=chat engine=eager"
    assert (spelled(1e-9), spelled(math.nan), spelled(None), spelled(0)) == ("1e-09", ABSENT, ABSENT, "0")


def test_what_a_job_leaves_alone_is_named_only_where_nothing_else_is() -> None:
    assert in_short({"prompt_set": "short", "regressor.alpha": None}) == "prompt_set=short"
    assert in_short({"prompt_set": None, "regressor.alpha": None}) == "prompt_set=(default) alpha=(default)"

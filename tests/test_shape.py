"""The shape of a model from its config.json, and every config.json that is none."""

import doctest
from pathlib import Path

import pytest

from llmlat import shape
from llmlat.errors import ConfigError
from llmlat.shape import read_shape, shape_of

TINY = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
}


def test_what_follows_from_the_sizes() -> None:
    found = shape_of(TINY | {"tie_word_embeddings": True, "torch_dtype": "float32"})
    a_layer = 64 * (4 * 64 + 3 * 128)
    assert found["n_kv_heads"] == 4
    assert found["head_dim"] == 16
    assert found["n_parameters"] == 2 * a_layer + 6400
    assert found["weight_bytes"] == 4 * found["n_parameters"]
    assert found["kv_bytes_per_token"] == 2 * 2 * 64 * 4


def test_embeddings_of_their_own_are_counted_and_not_read() -> None:
    tied, apart = shape_of(TINY | {"tie_word_embeddings": True}), shape_of(TINY)
    assert apart["n_parameters"] - tied["n_parameters"] == 6400
    assert apart["weight_bytes"] == tied["weight_bytes"]


def test_a_text_config_within_a_larger_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"text_config": ' + str(TINY).replace("'", '"') + "}")
    assert read_shape(path) == shape_of(TINY)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "no model's config.json"),
        ('{"hidden_size": 64}', "num_hidden_layers"),
        (str(TINY | {"dtype": "int3"}).replace("'", '"'), "int3"),
    ],
)
def test_what_is_no_shape_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        read_shape(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("model.config=")


def test_examples() -> None:
    assert doctest.testmod(shape).failed == 0

"""Cells: what one measurement compares, and what it cannot."""

import pytest

from llmlat.errors import ConfigError
from llmlat.measure.cells import engine_settings, plan_cells


def crossed(compose, *overrides):
    config = compose(*overrides)
    return config, plan_cells(config)


def test_without_interleaving_there_is_the_configs_own_cell(compose):
    config, cells = crossed(compose, "decoding=sampling", "decoding.batch_size=4", "engine=no_cache")
    (cell,) = cells
    assert (cell.engine, cell.batch_size) == ("no_cache", 4)
    assert cell.temperature == config.decoding.temperature > 0
    assert engine_settings(config, cells) == {"no_cache": config.engine}


def test_interleaved_values_are_crossed(compose):
    _, cells = crossed(
        compose, "collect.interleave.engine=[eager,no_cache]", "collect.interleave.batch_size=[1,2,8]"
    )
    assert len(cells) == len(set(cells)) == 6
    assert {(cell.engine, cell.batch_size) for cell in cells} == {
        (engine, size) for engine in ("eager", "no_cache") for size in (1, 2, 8)
    }
    assert {cell.num_beams for cell in cells} == {1}, "what is not interleaved is the config's"


def test_null_is_a_value_too(compose):
    _, cells = crossed(compose, "collect.interleave.top_k=[null,5]", "decoding.temperature=1")
    assert [cell.top_k for cell in cells] == [None, 5]


def test_an_interleaved_engine_has_its_options_settings(compose):
    config, cells = crossed(compose, "collect.interleave.engine=[no_cache,eager]", "+engine.block=16")
    settings = engine_settings(config, cells)
    assert list(settings) == ["no_cache", "eager"]
    assert settings["eager"]["block"] == 16, "the config's own keeps what the user said"
    assert settings["no_cache"]["_target_"].endswith("NoCacheEngine")


@pytest.mark.parametrize(
    ("name", "values"), [("engine", "[eager,eager]"), ("batch_size", "[1,2,1]"), ("top_k", "[null,null]")]
)
def test_a_value_that_is_there_twice(compose, name, values):
    with pytest.raises(ConfigError, match=rf"^collect\.interleave\.{name}=.*: a value is there twice"):
        crossed(compose, f"collect.interleave.{name}={values}")


def test_an_engine_that_is_no_option(compose):
    config, cells = crossed(compose, "collect.interleave.engine=[eager,egaer]")
    with pytest.raises(ConfigError, match=r"^collect\.interleave\.engine=egaer: no such option\..*eager, "):
        engine_settings(config, cells)

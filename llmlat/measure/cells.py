"""Cells: the ways of generating that one measurement compares, an engine and decoding settings each."""

from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import yaml

from llmlat.config import Batching, Config, config_dir
from llmlat.errors import ConfigError


@dataclass(frozen=True)
class Cell:
    """One way of generating: the engine's name, and the fields of `llmlat.config.DecodingConfig`."""

    engine: str
    batch_size: int = 1
    batching: Batching = Batching.equal
    num_beams: int = 1
    length_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    stop_at_eos: bool = False


def plan_cells(config: Config) -> list[Cell]:
    """Return the cells that a config asks for: one, or the product of what it interleaves.

    Raises
    ------
    ConfigError
        Where the engine has no name, or `collect.interleave` names a value twice.
    """
    if "name" not in config.engine:
        raise ConfigError("engine.name: the engine has none; give it one, +engine.name=mine.")
    crossed = {name: values for name, values in asdict(config.collect.interleave).items() if values}
    for name, values in crossed.items():
        if len(set(values)) < len(values):
            raise ConfigError(
                f"collect.interleave.{name}={values}: a value is there twice; they must differ."
            )
    own = Cell(str(config.engine["name"]), **asdict(config.decoding))
    return [replace(own, **dict(zip(crossed, values, strict=True))) for values in product(*crossed.values())]


def engine_settings(config: Config, cells: list[Cell]) -> dict[str, dict[str, Any]]:
    """Return the settings of each engine that the cells name: the config's own, or a shipped option's.

    Raises
    ------
    ConfigError
        Where an interleaved engine is none of the options.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(cell.engine for cell in cells):
        if name == config.engine.get("name"):
            found[name] = config.engine
            continue
        path = config_dir() / "engine" / f"{name}.yaml"
        if not path.is_file():
            options = sorted(option.stem for option in path.parent.glob("*.yaml"))
            raise ConfigError(
                f"collect.interleave.engine={name}: no such option. There are: {', '.join(options)}."
            )
        found[name] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found

"""What decides any measurement, of an engine or a server; each plan adds what it knows beside."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from llmlat.config import Config
from llmlat.measure.protocol.schedule import deciding
from llmlat.records import ROWS_VERSION


def identify_settings(config: Config, asked: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the part of a measurement's identity that the config and the requests decide.

    Parameters
    ----------
    config : Config
    asked : sequence of dict
        What is generated, each batch of prompts in each cell once; JSON-serialisable.
    """
    return {
        "rows": ROWS_VERSION,
        "decoding": asdict(config.decoding),
        "prompt_set": config.prompt_set.name,
        "requests_sha256": hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
        "collect": deciding(config.collect),
        "seed": config.seed,
    }

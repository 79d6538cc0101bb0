"""Reads a folder of step records: `models.csv` with shapes, `NAME-steps.parquet`, `NAME-requests.parquet`."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from llmlat.config import config_dir
from llmlat.formulas.recipe import recipe_of
from llmlat.shape import shape_of
from llmlat.steps import first_visits

LARGEST_GRAPH_TOKENS = 512  # vLLM's default for 256 sequences
CONTENTS = [
    "decode_requests",
    "decode_context_tokens",
    "prefill_requests",
    "prefill_tokens",
    "prefill_cached_tokens",
    "prefill_pairs",
    "longest_context",
]
_FEATURES = yaml.safe_load((config_dir() / "features" / "step.yaml").read_text(encoding="utf-8"))
WORK: list[str] = _FEATURES["columns"]
AISIMULATE = [
    "n_layers",
    "hidden_size",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "feed_forward",
    "vocabulary",
    "n_parameters",
    "step_tokens",
    "sequences",
    *CONTENTS,
    "kv_bytes",
]
"""What a learned model of steps is given elsewhere, as far as these records have it."""

_COLUMNS = {
    "num_hidden_layers": "layers",
    "hidden_size": "hidden_size",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_size",
    "intermediate_size": "feed_forward",
    "vocab_size": "vocabulary",
    "tie_word_embeddings": "tied_embeddings",
}


def read_models(folder: Path) -> dict[str, dict[str, float]]:
    """Return the shape of each model of a folder."""
    table = pd.read_csv(folder / "models.csv").set_index("model")
    return {
        str(name): shape_of({ours: row[theirs] for ours, theirs in _COLUMNS.items()})
        for name, row in table.iterrows()
    }


def read_steps(folder: Path) -> pd.DataFrame:
    """Return every step of a folder's models in their order, with its work; warm-up left out."""
    frames = []
    for model, shape in read_models(folder).items():
        steps = pd.read_parquet(folder / f"{model}-steps.parquet").assign(**shape, model=model)
        steps["largest_graph_tokens"] = LARGEST_GRAPH_TOKENS
        steps["first_visit"] = first_visits(steps, LARGEST_GRAPH_TOKENS).astype(float)
        frames.append(steps[steps["part"] != "warm"])
    return with_work(pd.concat(frames, ignore_index=True))


def with_work(steps: pd.DataFrame) -> pd.DataFrame:
    """Return steps with the columns of `features=step`."""
    values: dict[str, Any] = {name: steps[name].to_numpy() for name in steps}
    recipe = recipe_of(WORK, _FEATURES["derived"])
    for name, formula in recipe.steps.items():
        values[name] = formula(values)
    return steps.assign(**{name: values[name] for name in (*WORK, *recipe.steps)})

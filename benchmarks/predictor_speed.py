"""What a prediction costs: the loaded predictor beside the scikit-learn pipeline it came from.

python benchmarks/predictor_speed.py
"""

import tempfile
import timeit
from pathlib import Path

import numpy as np
import pandas as pd

from llmlat import load_predictor
from llmlat.config import FeaturesConfig
from llmlat.dataset import write_json
from llmlat.predict.coefficients import coefficient_table
from llmlat.predict.fit import build_pipeline, fit
from llmlat.predict.predictor import FORMAT
from llmlat.records import TARGET


def main() -> None:
    """Fit Ridge on made-up rows, and time a prediction of one step both ways."""
    generator = np.random.default_rng(0)
    rows = pd.DataFrame(generator.integers(1, 4000, (471, 2)), columns=["prompt_tokens", "context_length"])
    rows[TARGET] = 20 + rows["context_length"] / 1000 + generator.normal(0, 0.2, len(rows))
    ridge = {"_target_": "sklearn.linear_model.Ridge", "alpha": 1.0}
    pipeline = fit(build_pipeline(ridge, FeaturesConfig(["prompt_tokens", "context_length"])), rows)
    table = coefficient_table(pipeline)
    spec = {
        "format": FORMAT,
        "kind": "linear",
        "features": table["coefficients"],
        "intercept_per_unit_ms": table["intercept_per_unit_ms"],
    }
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "predictor.json", spec)
        predictor = load_predictor(folder)
    one = rows.iloc[:1]
    timings = {
        "predictor.predict, one step": lambda: predictor.predict(prompt_tokens=100, context_length=140),
        "scikit-learn pipeline, one step": lambda: pipeline.predict(one),
    }
    for name, call in timings.items():
        n, total = timeit.Timer(call).autorange()
        print(f"{name}: {total / n * 1e6:.2f} µs")


if __name__ == "__main__":
    main()

"""What a prediction costs: the loaded predictor beside the scikit-learn pipeline it came from.

    python benchmarks/predictor_speed.py [key=value ...]

Measures the embedded model, or what the overrides say, fits Ridge, and asks for the time of one step.
"""

import json
import subprocess
import sys
import tempfile
import timeit
from pathlib import Path

from llmlat import load_predictor
from llmlat.config import FeaturesConfig
from llmlat.dataset import Dataset
from llmlat.fit.fitting import build_pipeline, fit
from llmlat.steps import one_row_a_step

RIDGE = {"_target_": "sklearn.linear_model.Ridge", "alpha": 1.0}
FEATURES = FeaturesConfig(["prompt_tokens", "context_length"])


def measured(folder: Path, overrides: list[str]) -> Dataset:
    """Run llmlat into a folder, and return the dataset that the run used."""
    placed = [f"hydra.run.dir={folder / 'run'}", f"datasets_dir={folder / 'datasets'}", "tracking=none"]
    subprocess.run(
        [sys.executable, "-m", "llmlat", *placed, *overrides], check=True, stdout=subprocess.DEVNULL
    )
    described = json.loads((folder / "run" / "dataset.json").read_text(encoding="utf-8"))
    return Dataset(folder / "datasets" / described["key"])


def main() -> None:
    """Measure, fit, and time a prediction of one step each way."""
    with tempfile.TemporaryDirectory() as folder:
        rows = one_row_a_step(measured(Path(folder), sys.argv[1:]).read())
        predictor = load_predictor(Path(folder) / "run")
    counted = rows[~rows["is_warmup"]]
    pipeline, one = fit(build_pipeline(RIDGE, FEATURES), counted), counted.iloc[:1]
    step = {name: int(one[name].iloc[0]) for name in FEATURES.columns}
    timings = {
        "predictor.predict, one step": lambda: predictor.predict(**step),
        "predictor.estimate, one step": lambda: predictor.estimate(**step),
        "scikit-learn pipeline, one step": lambda: pipeline.predict(one),
    }
    for name, call in timings.items():
        n, total = timeit.Timer(call).autorange()
        print(f"{name}: {total / n * 1e6:.2f} µs")


if __name__ == "__main__":
    main()

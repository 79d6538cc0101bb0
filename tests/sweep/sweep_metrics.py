"""What a job's metrics.json holds, for sweeps made up on disk."""

from typing import Any


def metrics_of(**changes: Any) -> dict[str, Any]:
    """Return what a job's metrics.json holds, as far as a sweep reads it."""
    coefficient = {"scaled_ms": 1.5, "per_unit_ms": 0.01}
    return {
        "mae_ms": 1.0, "rmse_ms": 1.4, "median_ae_ms": 0.8, "r2": 0.5, "mape": 0.1,
        "n_train": 80, "n_test": 20,
        "validation": {"mae_ms": 1.1, "rmse_ms": 1.5}, "validation_reason": None,
        "splits": {"by_request": {"mae_ms": 1.3}}, "noise_floor": {"mae_ms": 0.3}, "intercept_ms": 30.0,
        "coefficients": {"prompt_tokens": coefficient, "context_length": {**coefficient, "scaled_ms": -0.5}},
        "dataset_key": "0123456789abcdef", "experiment": "sweep", "model": "mistral-mini",
        "weights": "pretrained", "stand_in": False, "stand_in_for": None, "quantization": "none",
        "engine": "eager", "prompt_set": "short", "regressor": {"name": "Ridge", "parameters": {}},
        "split": {"name": "random", "test_size": 0.2, "seed": 42}, "device": "a machine", **changes,
    }  # fmt: skip

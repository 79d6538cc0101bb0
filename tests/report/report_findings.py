"""What the analysis of a small run finds, as the report sees it: intervals, drivers, and an arena."""

from typing import Any

LEVELS = ("0.5", "0.8", "0.9", "0.95", "0.99")
CELL = {
    "model": "mistralai/Mistral-7B-Instruct-v0.3",
    "quantization": "int8",
    "engine": "eager",
    "batch_size": 1,
    "num_beams": 1,
}


def band(n_groups: int, *shares: float | None) -> dict[str, Any]:
    quantiles = {"0.5": 0.001, "0.9": shares[1], "0.99": None}
    return {
        "n_groups": n_groups,
        "n_rows": 29 * n_groups,
        "levels": dict(zip(LEVELS, shares, strict=True)),
        "quantiles": quantiles,
    }


def tried(n_rows: int, share: float, width_ms: float | None) -> dict[str, Any]:
    return {
        "n_groups": 2,
        "n_rows": n_rows,
        "coverage": share,
        "row_coverage": share,
        "median_width_ms": width_ms,
        "median_relative_width": None if width_ms is None else width_ms / 40,
    }


def findings() -> dict[str, Any]:
    """Return the keys of metrics that say how far off, and what drives the latency."""
    return {
        "average_effects": {
            "prompt_tokens": {"scaled_ms": -0.4321, "per_unit_ms": -0.004, "relative_impact": 0.267},
            "context_length": {"scaled_ms": 1.188, "per_unit_ms": 0.011, "relative_impact": 0.733},
        },
        "intervals": {
            "errors": {"mae_ms": [4.1, 61.7], "rmse_ms": [7.0, 330.0], "mape": [0.05, 0.2], "n_groups": 10},
            "coefficients": {
                "prompt_tokens": {"scaled_ms": [-1.5, 0.71], "per_unit_ms": [-0.014, 0.0066]},
                "context_length": {"scaled_ms": [0.33, 2.22], "per_unit_ms": [0.003, 0.02]},
            },
        },
        "calibration": {
            "grouped_by": "request_id",
            "least_ms": 2.0,
            "by_phase": {
                "prefill": band(10, 0.11, 0.4, 0.971, None, None),
                "decode": band(10, 0.012, 0.031, 0.047, None, None),
            },
            "beyond": band(6, 0.021, 0.08, None, None, None),
        },
        "calibration_reason": None,
        "coverage": {
            "level": 0.9,
            **tried(60, 0.883, 3.76),
            "by_phase": {"prefill": tried(2, 0.5, 77.1), "decode": tried(58, 0.897, 3.75)},
            "by_context": [
                {"from": 12, "to": 90, **tried(20, 0.91, 3.7)},
                {"from": 91, "to": 300, **tried(20, 0.85, None)},
                {"from": 301, "to": 489, **tried(20, 0.88, 3.9)},
            ],
        },
        "importance": {
            "context length": {
                "inputs": ["context_length"],
                "mae_ms_more": 0.81,
                "low_ms": 0.77,
                "high_ms": 0.86,
            },
            "prompt length": {
                "inputs": ["prompt_tokens"],
                "mae_ms_more": 0.01,
                "low_ms": -0.02,
                "high_ms": 0.05,
            },
        },
        "effects": [
            {
                **CELL,
                "n_rows": 290,
                "n_requests": 10,
                "context_alone": [11.2, 10.1, 12.4],
                "context_length": [11.4, 9.8, 13.1],
                "prompt_tokens": None,
            }
        ],
        "along_context": [
            {**CELL, "context_length": [15, 120, 240, 480], "predicted_ms": [38.1, 39.2, 40.5, 43.1]}
        ],
    }


def contestant(name: str, mae: float, of: str = "", **changes: Any) -> dict[str, Any]:
    """Return what the arena tells of one regressor."""

    def errors(mae: float) -> dict[str, Any]:
        return {
            "n": 60,
            "mae_ms": mae,
            "rmse_ms": 1.4 * mae,
            "median_ae_ms": mae / 2,
            "r2": 0.9,
            "mape": mae / 40,
            "mae_over_floor": mae / 0.41,
            "rmse_over_floor": 1.4 * mae / 0.52,
            "n_train": 240,
            "fit_s": 0.012,
        }

    return {
        "name": name,
        "of": of,
        "features": ["prompt_tokens", "context_length"],
        "splits": {"random": errors(0.7 * mae), "by_request": errors(mae), "extrapolate": errors(3 * mae)},
        "predict_one_us": 412.0,
        "predict_us_per_row": 1.7,
        "average_effects": {
            "context_length": {"scaled_ms": 1.1, "per_unit_ms": 0.011, "relative_impact": 1.0}
        },
        "reason": None,
        **changes,
    }


def arena() -> list[dict[str, Any]]:
    """Return an arena of three, of which the last one failed."""
    return [
        contestant("physics", 0.52),
        contestant("a_peers_forest", 0.97, of="a peer's forest, as published", average_effects={}),
        {
            "name": "last_token",
            "of": "",
            "splits": {},
            "reason": "regressor: it predicts infinite latencies.",
        },
    ]

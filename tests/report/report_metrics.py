"""The metrics of a small run, every key that docs/metrics.md names, without a model and without a fit."""

from typing import Any

import pandas as pd
from report_findings import findings
from report_frames import INTERCEPT, MODEL, PER_CONTEXT, PER_PROMPT


def block(n: int, mae: float, rmse: float) -> dict[str, Any]:
    return {"n": n, "mae_ms": mae, "rmse_ms": rmse, "median_ae_ms": mae / 2, "r2": -0.0123, "mape": 0.0741}


def make_cell(**changes: Any) -> dict[str, Any]:
    """Return what one way of generating costs."""
    return {
        "model": MODEL,
        "quantization": "int8",
        "engine": "eager",
        "batch_size": 1,
        "num_beams": 1,
        "temperature": 0.0,
        "top_k": None,
        "top_p": None,
        "n_requests": 10,
        "n_steps": 300,
        "repetitions": [2, 2],
        "prefill_median_ms": 61.0,
        "decode_median_ms": 38.0,
        "decode_p5_ms": 37.0,
        "decode_p95_ms": 40.0,
        "tokens_per_s": 26.3,
        **changes,
    }


def make_metrics(rows: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, Any]:
    """Fill every key that docs/metrics.md names."""
    return {
        **_measured(),
        **_counts(rows, predictions),
        **_fitted(),
        **findings(),
        **_tested(rows, predictions),
        **_latency(),
        **_beside_the_thesis(),
    }


def _measured() -> dict[str, Any]:
    """Return what was measured, and how."""
    return {
        "schema_version": 1,
        "llmlat_version": "0.1.0",
        "experiment": "thesis",
        "source": "measured",
        "model": MODEL,
        "weights": "pretrained",
        "stand_in": False,
        "stand_in_for": None,
        "quantization": "int8",
        "engine": "eager",
        "device": "NVIDIA H200",
        "dataset_key": "0f3a9c1b2d4e",
        "measurement": {
            "n_sessions": 1,
            "protocol": {"warmup": "auto", "repetitions": 2, "until_ci": "2%"},
            "warmups": [
                {
                    "rule": "MSER-5",
                    "seconds": 12.3,
                    "n_tokens": 400,
                    "settled": True,
                    "settled_after_tokens": 120,
                    "start_ratio": 2.5,
                    "first_visit_ratio": 1.8,
                }
            ],
            "telemetry": {
                "sources": ["cpu", "nvml"],
                "interval_ms": 100.0,
                "n_samples": 581,
                "sample_us": {"median": 260.0, "max": 900.0},
                "share_of_time": 0.0026,
            },
            "collector_cost": {"mark_ns": 11_000.0},
            "retries": [{"requests": 0, "tries_set_aside": 0, "flagged_to_the_end": 0}],
            "wider_than_asked": [],
            "not_measured": [],
        },
        "flags": {"n_flagged": 3, "by_reason": {"throttled": 3}, "excluded": False},
        "cells": [make_cell()],
        "notices": [],
    }


def _counts(rows: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, Any]:
    """Return how many rows there are of what."""
    counted = rows[~rows["is_warmup"]]
    return {
        "n_events": len(counted),
        "n_train": len(counted) - len(predictions),
        "n_test": len(predictions),
        "n_requests": int(counted["request_id"].nunique()),
        "n_warmup": len(rows) - len(counted),
    }


def _fitted() -> dict[str, Any]:
    """Return the regressor, and its formula."""
    return {
        "regressor": {"name": "ridge", "parameters": {"alpha": 1.0}},
        "features": ["prompt_tokens", "context_length"],
        "inputs": ["prompt_tokens", "context_length"],
        "derived": {},
        "left_out": {},
        "chosen": None,
        "split": {"name": "random", "test_size": 0.2, "seed": 0, "column": None, "held_out": None},
        "intercept_ms": 40.915,
        "intercept_per_unit_ms": INTERCEPT,
        "floor_ms": None,
        "coefficients": {
            "prompt_tokens": {
                "scaled_ms": -0.4321,
                "per_unit_ms": PER_PROMPT,
                "relative_impact": 0.267,
                "mean": 136.0,
                "scale": 108.0,
            },
            "context_length": {
                "scaled_ms": 1.188,
                "per_unit_ms": PER_CONTEXT,
                "relative_impact": 0.733,
                "mean": 150.5,
                "scale": 108.4,
            },
        },
        "formula": {
            "scaled": "ms = 40.92 - 0.432 * prompt_tokens_scaled + 1.188 * context_length_scaled",
            "per_unit": "token_latency_ms = 38.00 - 0.00400 * prompt_tokens + 0.0110 * context_length",
        },
    }


def _tested(rows: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the errors of the predictions, and made-up ones beside them."""
    miss = predictions["token_latency_ms"] - predictions["predicted_ms"]
    n_test, n_train = len(predictions), int((~rows["is_warmup"]).sum()) - len(predictions)
    mae, rmse = float(miss.abs().mean()), float((miss**2).mean() ** 0.5)
    worst = predictions.loc[miss.abs().sort_values(ascending=False).index[:10]]
    headline = block(n_test, mae, rmse)
    return {
        **{k: v for k, v in headline.items() if k != "n"},
        "splits": {
            "random": {**headline, "n_train": n_train, "n_test": n_test},
            "by_request": {**block(n_test, 1.4 * mae, 1.1 * rmse), "n_train": 240, "n_test": 60},
        },
        "leakage_gap": {
            "grouped": "by_request",
            "random_mae_ms": mae,
            "grouped_mae_ms": 1.4 * mae,
            "mae_ratio": 1.4,
        },
        "baselines": {
            "mean": block(n_test, 1.2 * mae, 1.02 * rmse),
            "median": block(n_test, 0.95 * mae, 1.01 * rmse),
            "last_token": block(n_test, 1.7 * mae, 1.4 * rmse),
        },
        "noise_floor": {"mae_ms": 0.41, "rmse_ms": 0.52, "n_cells": 120, "n_rows": 240},
        "noise_floor_reason": None,
        "by_phase": {"prefill": block(6, 250.0, 600.0), "decode": block(n_test - 6, 0.6, 0.8)},
        "worst_rows": {
            "share_of_squared_error": {"1": 0.983, "5": 0.9991, "10": 0.9995},
            "rows": worst.to_dict("records"),
        },
        "without_warmup_and_prefill": {
            "n_train": 210,
            "n_test": 52,
            "n_dropped": 38,
            "refit": block(52, 0.42, 0.55),
            "headline": block(52, 3.1, 3.9),
            "baselines": {"mean": block(52, 0.9, 1.1), "median": block(52, 0.9, 1.1)},
            "coefficients": None,
            "intercept_ms": 39.0,
        },
    }


def _latency() -> dict[str, Any]:
    """Return how long tokens took."""
    return {
        "latency": {
            "prefill": {"n": 10, "median_ms": 66.1, "p5_ms": 63.0, "p95_ms": 860.0, "max_ms": 1512.0},
            "decode": {"n": 290, "median_ms": 39.8, "p5_ms": 38.2, "p95_ms": 43.0, "max_ms": 44.1},
        },
    }


def _beside_the_thesis() -> dict[str, Any]:
    """Return verdicts, and published figures."""
    return {
        "verdicts": [
            {
                "claim": "Context size is the main driver of latency.",
                "verdict": "confirmed",
                "evidence": "Its scaled coefficient is +1.19 ms, 2.7 times that of prompt_tokens (-0.43 ms).",
            },
            {
                "claim": "Ridge on two features predicts within 34 ms.",
                "verdict": "not confirmed here",
                "evidence": "It misses by less, but always saying the median misses by less still.",
            },
            {
                "claim": "Longer prompts lower the time of later tokens.",
                "verdict": "cannot be told from this data",
                "evidence": "prompt_tokens and context_length rise together (r = 0.99).",
            },
        ],
        "reference": {
            "source": "LLM Latency, chapter 4",
            "n_events": 471,
            "n_train": 376,
            "n_test": 95,
            "mae_ms": 34.0332,
            "rmse_ms": 159.1067,
            "intercept_ms": 390.9156,
            "coefficients": {"context_length": 48.75, "prompt_tokens": -4.2815},
        },
    }

"""The thesis beside ours: its published figures, and a verdict on each of its claims from the data at hand.

The rules of the verdicts stand here, in code, so that a verdict can be argued with.
"""

from typing import Any

import pandas as pd

from llmlat.fit.analysis.effects import MIN_REQUESTS, Slope, decode_curvature, decode_slopes

REFERENCE: dict[str, Any] = {
    "source": "A Predictive Modeling Approach to Estimate Per-Token Inference Latency in Large Language "
    "Models",
    "model": "Mistral-7B-Instruct-v0.3, 8-bit (bitsandbytes)",
    "n_events": 471,
    "n_train": 376,
    "n_test": 95,
    "mae_ms": 34.0332,
    "rmse_ms": 159.1067,
    "intercept_ms": 390.9156,
    "coefficients": {"context_length": 48.7500, "prompt_tokens": -4.2815},
}

CONFIRMED = "confirmed"
NOT_CONFIRMED = "not confirmed here"
UNTOLD = "cannot be told from this data"

DOMINANT_SHARE = 0.5
SUFFICIENT_MAPE = 0.10
SUFFICIENT_RATIO = 1.10


def verdicts(
    metrics: dict[str, Any], rows: pd.DataFrame, contrast: pd.DataFrame | None
) -> list[dict[str, str]]:
    """Judge the thesis's claims.

    Parameters
    ----------
    metrics : dict
        What `llmlat.fit.results.analyse` has computed so far.
    rows : DataFrame
        All token rows.
    contrast : DataFrame or None
        Token rows of the same measurement with the other engine (with a key-value cache where `rows` are
        without, and the reverse), where they have been measured.

    Returns
    -------
    list of dict
        `claim`, `verdict` and `evidence`, in the order of the thesis.
    """
    engine = metrics["engine"]
    if {"eager", "no_cache"} <= set(rows["engine"]):  # interleaved: each is the other's contrast
        engine, contrast = "eager", rows[rows["engine"] == "no_cache"]
        rows = rows[rows["engine"] == "eager"]
    slopes = decode_slopes(rows)
    judged = [
        ("Context size is the dominant driver", *_dominant_context(metrics, slopes)),
        ("Longer prompts slightly lower the later latency", *_longer_prompts(slopes)),
        (
            "Latency is O(N) with a KV cache and grows faster without one",
            *_growth(engine, rows, contrast),
        ),
        ("A lightweight linear model suffices", *_linear_suffices(metrics)),
    ]
    return [{"claim": claim, "verdict": verdict, "evidence": evidence} for claim, verdict, evidence in judged]


def _dominant_context(metrics: dict[str, Any], slopes: dict[str, Slope] | None) -> tuple[str, str]:
    """Confirm where its coefficient leads, its decode slope is above 0, and half the variance follows."""
    coefficients = metrics["coefficients"] or {}
    explained = _explained_share(metrics)
    if slopes is None or explained is None or not {"context_length", "prompt_tokens"} <= set(coefficients):
        return (
            UNTOLD,
            "It takes a linear regressor on both features, and decode rows of at least "
            f"{MIN_REQUESTS} requests.",
        )
    context = coefficients["context_length"]["scaled_ms"]
    prompt = coefficients["prompt_tokens"]["scaled_ms"]
    alone = slopes["context_alone"]
    leads = context > abs(prompt)
    evidence = (
        f"Scaled coefficients: context {context:+.2f} ms, prompt {prompt:+.2f} ms. On steady decode rows, "
        f"1,000 more tokens of context cost {alone}, and both features together take "
        f"{100 * max(explained, 0):.0f} % off the squared error of always guessing the mean."
    )
    dominant = leads and alone.low_ms > 0 and explained >= DOMINANT_SHARE
    return (CONFIRMED if dominant else NOT_CONFIRMED), evidence


def _explained_share(metrics: dict[str, Any]) -> float | None:
    """Return the share of the training mean's squared error that the fit on settled rows takes off.

    R² would compare with the test rows' own mean, which a handful of held-out requests of like length brings
    so near that any fit looks bad.
    """
    for name in ("without_first_visits", "without_warmup_and_prefill"):
        settled = metrics[name]
        if settled["baselines"] is not None and settled["baselines"]["mean"]["rmse_ms"]:
            return float(1 - (settled["refit"]["rmse_ms"] / settled["baselines"]["mean"]["rmse_ms"]) ** 2)
    return None


def _longer_prompts(slopes: dict[str, Slope] | None) -> tuple[str, str]:
    """Confirm where, at equal context, the interval of the prompt's slope lies below 0."""
    if slopes is None or "prompt_tokens" not in slopes:
        return (
            UNTOLD,
            f"It takes decode rows of at least {MIN_REQUESTS} requests with prompts of different lengths.",
        )
    slope = slopes["prompt_tokens"]
    evidence = (
        f"At equal context, 1,000 more prompt tokens change a decode step by {slope} (95 % interval over "
        "requests)."
    )
    return (CONFIRMED if slope.high_ms < 0 else NOT_CONFIRMED), evidence


def _growth(engine: str, rows: pd.DataFrame, contrast: pd.DataFrame | None) -> tuple[str, str]:
    """Confirm where growth with a cache is at most linear, and without one the slope is clearly steeper."""
    if engine not in {"eager", "no_cache"}:
        return UNTOLD, f"It takes engine=eager and engine=no_cache; this is {engine}."
    cached, uncached = (rows, contrast) if engine == "eager" else (contrast, rows)
    slope_of = {name: _alone(frame) for name, frame in (("with", cached), ("without", uncached))}
    known = [
        f"{name} a cache {slope} per 1,000 tokens" for name, slope in slope_of.items() if slope is not None
    ]
    growth = (
        f"Growth of a decode step: {'; '.join(known)}." if known else "No growth of a decode step is known."
    )
    if contrast is None:
        other = "no_cache" if engine == "eager" else "eager"
        return UNTOLD, f"{growth} Half of it: run the same with engine={other}."
    bend = None if cached is None else decode_curvature(cached)
    if slope_of["with"] is None or slope_of["without"] is None or bend is None:
        return (
            UNTOLD,
            f"{growth} It takes decode rows of at least {MIN_REQUESTS} requests at several contexts.",
        )
    linear = bend.low_ms <= 0
    faster = slope_of["without"].low_ms > slope_of["with"].high_ms
    evidence = (
        f"{growth} With a cache the bend away from a line is {bend} per (1,000 tokens)², "
        f"{'not above' if linear else 'above'} 0."
    )
    return (CONFIRMED if linear and faster else NOT_CONFIRMED), evidence


def _alone(rows: pd.DataFrame | None) -> Slope | None:
    slopes = None if rows is None else decode_slopes(rows)
    return None if slopes is None else slopes["context_alone"]


def _linear_suffices(metrics: dict[str, Any]) -> tuple[str, str]:
    """Confirm where it is near a boosted-tree model, beats the median, and misses by at most a tenth."""
    grouped, trees = metrics["splits"]["by_request"], metrics["nonlinear_check"]
    if grouped.get("mae_ms") is None or trees is None or metrics["coefficients"] is None:
        return UNTOLD, "It takes a linear regressor, and enough requests to hold some out."
    mae, median = grouped["mae_ms"], grouped["baselines"]["median"]["mae_ms"]
    evidence = (
        f"On held-out requests the mean error is {mae:.2f} ms ({100 * grouped['mape']:.0f} % of the "
        f"latency); boosted trees on the same features reach {trees['mae_ms']:.2f} ms, always guessing "
        f"the median {median:.2f} ms."
    )
    suffices = (
        mae <= SUFFICIENT_RATIO * trees["mae_ms"] and mae < median and grouped["mape"] <= SUFFICIENT_MAPE
    )
    return (CONFIRMED if suffices else NOT_CONFIRMED), evidence

"""What a dataset measured, and how that went, in the words of metrics.json."""

from collections.abc import Mapping
from typing import Any

import llmlat
from llmlat.dataset import Dataset
from llmlat.records import FACTS


def describe(dataset: Dataset, experiment: str) -> dict[str, Any]:
    """Return what a dataset measured, and how that went."""
    provenance = dataset.provenance
    sessions = provenance["sessions"]
    notices = list(sessions[-1]["notices"]) if sessions else []
    if not dataset.is_complete:
        notices.append(
            f"INCOMPLETE: {len(dataset.completed_requests())} of {provenance['n_requests']} requests were "
            "measured."
        )
    return {
        **describe_identity(provenance["identity"], experiment),
        "dataset_key": dataset.key,
        "notices": notices,
        "measurement": _describe_measurement(dataset, provenance),
    }


def describe_identity(identity: Mapping[str, Any], experiment: str) -> dict[str, Any]:
    """Return what a dataset's identity says."""
    engines = [identity["engine"]["name"], *identity.get("interleaved_engines", {})]
    crossed = identity.get("collect", {}).get("interleave", {}).get("engine") or engines[:1]
    return {
        "llmlat_version": llmlat.__version__,
        "experiment": experiment,
        "model": identity["model"],
        "weights": identity["weights"],
        "stand_in": identity["stand_in_for"] is not None,
        "stand_in_for": identity["stand_in_for"],
        "quantization": identity["quantization"],
        "engine": " and ".join(crossed),
        "prompt_set": identity["prompt_set"],
        "device": identity["hardware"]["name"],
        "versions": identity["versions"],
    }


def _describe_measurement(dataset: Dataset, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the measuring went: the sessions' warm-ups, telemetry and retries, and what did not fit."""
    sessions = provenance["sessions"]
    last = sessions[-1] if sessions else {}
    return {
        "n_sessions": len(sessions),
        "protocol": dict(provenance["identity"].get("collect", {})),
        "warmups": [session["warmup"] for session in sessions if session.get("warmup")],
        "preparations": [entry for session in sessions for entry in session.get("preparations", [])],
        "model": last.get("model"),
        "memory_bandwidth_bytes_per_s": last.get("memory_bandwidth_bytes_per_s"),
        "telemetry": last.get("telemetry"),
        "collector_cost": last.get("collector_cost"),
        "endpoint": last.get("endpoint"),
        "retries": [session["retries"] for session in sessions if session.get("retries")],
        "wider_than_asked": provenance.get("wider_than_asked", []),
        "not_measured": dataset.skipped(),
    }


def facts(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is one value for a whole dataset, by the names of `llmlat.records.FACTS`.

    Sizes of the model are what its last session noted; NaN in a dataset that is older than that.
    """
    sessions = provenance["sessions"]
    sizes = (sessions[-1].get("model") if sessions else None) or {}
    identity = provenance["identity"]
    texts = {name: str(identity.get(name)) for name in ("model", "quantization")}
    numbers = [column.name for column in FACTS if not column.is_text]
    return {**texts, **{name: float(sizes.get(name) or float("nan")) for name in numbers}}

"""What a step of a serving engine takes: a law with a coefficient for each thing that a step waits for.

A step holds the next tokens of some requests and pieces of others' prompts. Its time is

    host + device                        where it is one recorded graph, launched at once
    host + longer(launching, device)     where it is launched piece by piece, beside the device: an engine
                                         without graphs always, others where they work on prompts

    device    = longer(weights / bandwidth, operations / rate), of the layers and of the output layer
                + keys and values / bandwidth + attended operations / rate + activations / bandwidth
                + layers * layer
    host      = step + sequences * sequence
    launching = launch + prompts * prompt + layers * (graph, eager or first visit)

Each of the device's terms is a roofline's (Williams, Waterman and Patterson 2009, "Roofline: an insightful
visual performance model for multicore architectures", Communications of the ACM 52): bytes over bandwidth or
operations over rate, whichever takes longer. Where two things go on beside each other the longer counts, and
near the ridge a little more than that: `longer` is their power mean. A batch of more tokens than any recorded
graph is launched kernel by kernel, and its number of tokens costs more the first time, when libraries plan
for it.

numpy alone: fits and predictor files evaluate the same function.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RIDGE = 2.0
"""How softly bytes and operations give way to each other."""
BESIDE = 4.0
"""How softly the host and the device do."""


@dataclass(frozen=True)
class Coefficient:
    """A coefficient of the law.

    Attributes
    ----------
    name : str
        Ends in its unit.
    meaning : str
    start : float
        What it is taken for before anything was measured: of a large GPU of 2022 to 2024.
    spread : float
        How far off that may be: the standard deviation of its logarithm.
    """

    name: str
    meaning: str
    start: float
    spread: float


COEFFICIENTS = (
    Coefficient("bandwidth_gb_s", "at which weights are read", 2500.0, 0.5),
    Coefficient("kv_bandwidth_gb_s", "at which keys and values are read", 2000.0, 0.5),
    Coefficient("activation_bandwidth_gb_s", "at which activations pass from kernel to kernel", 2000.0, 0.5),
    Coefficient("matrix_tflop_s", "at which matrices are multiplied", 500.0, 0.5),
    Coefficient("attention_tflop_s", "at which prompts attend", 400.0, 0.5),
    Coefficient("layer_us", "a layer's kernels beyond their work", 50.0, 0.7),
    Coefficient("step_us", "the host's time, whatever the batch", 600.0, 0.7),
    Coefficient("sequence_us", "the host's time for each sequence", 20.0, 0.5),
    Coefficient("launch_us", "the host's time for a step that is launched piece by piece", 1500.0, 0.7),
    Coefficient("prompt_us", "the host's time for each prompt that is worked on", 50.0, 0.9),
    Coefficient("graph_launch_us", "launching a layer's recorded pieces", 100.0, 0.7),
    Coefficient("eager_launch_us", "launching a layer kernel by kernel", 500.0, 0.7),
    Coefficient("first_visit_us", "a layer's first time at this number of tokens", 200.0, 1.0),
)
"""All that is fitted; times in microseconds are of one layer, sequence, prompt or step."""

COLUMNS = (
    "layers",
    "sequences",
    "layer_bytes",
    "head_bytes",
    "layer_operations",
    "head_operations",
    "kv_bytes",
    "attended_operations",
    "activation_bytes",
    "prompts",
    "is_launched",
    "is_beyond_graphs",
    "first_visit",
)
"""The work of a step, as `features=step` derives it."""

_MS_PER_US = 1e-3
_PER_MS = 1e6  # bytes in a millisecond at 1 GB/s
_TERA_PER_MS = 1e9  # operations in a millisecond at 1 TFLOP/s


def device_ms(coefficients: Mapping[str, float], work: Mapping[str, Any]) -> dict[str, Floats]:
    """Return the device's share of steps, by what it waits for.

    Parameters
    ----------
    coefficients : mapping
        A value for each of `COEFFICIENTS`, by name.
    work : mapping
        A number or an array for each of `COLUMNS`.

    Returns
    -------
    dict
        Milliseconds: `matrices` (weights read or multiplied, whichever takes longer), `keys_and_values`,
        `attention`, `activations`, `layers`.
    """
    c = coefficients
    reads, multiplies = c["bandwidth_gb_s"] * _PER_MS, c["matrix_tflop_s"] * _TERA_PER_MS
    return {
        "matrices": longer(work["layer_bytes"] / reads, work["layer_operations"] / multiplies, RIDGE)
        + longer(work["head_bytes"] / reads, work["head_operations"] / multiplies, RIDGE),
        "keys_and_values": work["kv_bytes"] / (c["kv_bandwidth_gb_s"] * _PER_MS),
        "attention": work["attended_operations"] / (c["attention_tflop_s"] * _TERA_PER_MS),
        "activations": work["activation_bytes"] / (c["activation_bandwidth_gb_s"] * _PER_MS),
        "layers": work["layers"] * c["layer_us"] * _MS_PER_US,
    }


def launching_ms(coefficients: Mapping[str, float], work: Mapping[str, Any]) -> Any:
    """Return what launching takes the host in steps that are launched piece by piece; 0 in the others."""
    c = coefficients
    beyond = work["is_beyond_graphs"]
    a_layer_us = (
        c["graph_launch_us"] * (1 - beyond)
        + c["eager_launch_us"] * beyond
        + c["first_visit_us"] * work["first_visit"]
    )
    launched_us = c["launch_us"] + c["prompt_us"] * work["prompts"] + a_layer_us * work["layers"]
    return work["is_launched"] * launched_us * _MS_PER_US


def host_ms(coefficients: Mapping[str, float], work: Mapping[str, Any]) -> Any:
    """Return the host's time that nothing goes on beside."""
    return (coefficients["step_us"] + coefficients["sequence_us"] * work["sequences"]) * _MS_PER_US


def step_ms(coefficients: Mapping[str, float], work: Mapping[str, Any]) -> Any:
    """Return what steps take, in milliseconds, in the shape of the work.

    Parameters
    ----------
    coefficients, work : mapping
        As `device_ms` takes them.

    Examples
    --------
    >>> typical = {one.name: one.start for one in COEFFICIENTS}
    >>> nothing = dict.fromkeys(COLUMNS, 0.0)
    >>> decode = nothing | {"layers": 32, "sequences": 1, "layer_bytes": 14e9}  # of a model of 7B in bf16
    >>> round(float(step_ms(typical, decode)), 2)
    7.82
    """
    device = sum(device_ms(coefficients, work).values())
    beside = longer(device, launching_ms(coefficients, work), BESIDE)
    return host_ms(coefficients, work) + beside


def longer(a: Any, b: Any, softness: float) -> Any:
    """Return the longer of two times that pass beside each other: the power mean of `softness`."""
    largest = np.maximum(np.maximum(a, b), np.finfo(np.float64).tiny)
    return largest * ((a / largest) ** softness + (b / largest) ** softness) ** (1 / softness)

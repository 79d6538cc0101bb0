"""The law of a step: each of its parts by itself, in numbers that can be worked out by hand."""

import doctest

import numpy as np
import pytest

from llmlat.formulas import step_law
from llmlat.formulas.step_law import COEFFICIENTS, COLUMNS, device_ms, host_ms, launching_ms, longer, step_ms

NOTHING = dict.fromkeys(COLUMNS, 0.0)
ROUND = {
    "bandwidth_gb_s": 2000.0,
    "kv_bandwidth_gb_s": 1000.0,
    "activation_bandwidth_gb_s": 500.0,
    "matrix_tflop_s": 400.0,
    "attention_tflop_s": 200.0,
    "layer_us": 10.0,
    "step_us": 300.0,
    "sequence_us": 20.0,
    "launch_us": 1000.0,
    "prompt_us": 50.0,
    "graph_launch_us": 100.0,
    "eager_launch_us": 500.0,
    "first_visit_us": 200.0,
}


def test_a_coefficient_has_a_unit_a_start_and_a_spread() -> None:
    assert [one.name for one in COEFFICIENTS] == list(ROUND)
    assert all(one.name.endswith(("_gb_s", "_tflop_s", "_us")) for one in COEFFICIENTS)
    assert all(one.start > 0 and one.spread > 0 and one.meaning for one in COEFFICIENTS)


@pytest.mark.parametrize(
    ("work", "part", "ms"),
    [
        ({"layer_bytes": 8e9}, "matrices", 4.0),
        ({"layer_operations": 4e12}, "matrices", 10.0),
        ({"layer_bytes": 6e9, "layer_operations": 1.6e12}, "matrices", 5.0),  # 3 and 4 ms, near the ridge
        ({"head_bytes": 1e9}, "matrices", 0.5),
        ({"kv_bytes": 2e9}, "keys_and_values", 2.0),
        ({"attended_operations": 1e12}, "attention", 5.0),
        ({"activation_bytes": 1e9}, "activations", 2.0),
        ({"layers": 32.0}, "layers", 0.32),
    ],
)
def test_the_device_waits_for_each_kind_of_work(work: dict[str, float], part: str, ms: float) -> None:
    assert device_ms(ROUND, NOTHING | work)[part] == pytest.approx(ms)


@pytest.mark.parametrize(
    ("work", "ms"),
    [
        ({}, 0.0),
        ({"is_launched": 1.0, "prompts": 2.0}, 1.0 + 0.1 + 10 * 0.1),
        ({"is_launched": 1.0, "prompts": 1.0, "is_beyond_graphs": 1.0}, 1.0 + 0.05 + 10 * 0.5),
        ({"is_launched": 1.0, "is_beyond_graphs": 1.0, "first_visit": 1.0}, 1.0 + 10 * 0.7),
    ],
)
def test_the_host_launches_what_is_not_one_graph(work: dict[str, float], ms: float) -> None:
    assert launching_ms(ROUND, NOTHING | {"layers": 10.0} | work) == pytest.approx(ms)


def test_the_host_and_the_device_pass_beside_each_other() -> None:
    work = NOTHING | {"layers": 10.0, "sequences": 5.0, "layer_bytes": 80e9}
    assert host_ms(ROUND, work) == pytest.approx(0.4)
    assert step_ms(ROUND, work) == pytest.approx(0.4 + 40.1)
    launched = work | {"is_launched": 1.0}
    assert step_ms(ROUND, launched) == pytest.approx(40.5, abs=0.001)  # 2 ms of launching pass beside 40


def test_longer_is_at_least_the_longest_and_both_where_they_are_equal() -> None:
    assert longer(3.0, 4.0, 2.0) == pytest.approx(5.0)
    assert longer(0.0, 0.0, 4.0) == pytest.approx(0.0, abs=1e-300)
    assert longer(1.0, 1.0, 4.0) == pytest.approx(2**0.25)
    assert longer(np.array([1.0, 9.0]), np.array([9.0, 1.0]), 4.0) == pytest.approx([9.0, 9.0], rel=1e-3)


def test_arrays_of_steps_are_answered_one_by_one() -> None:
    work = {name: np.linspace(0, 5, 4) for name in COLUMNS}
    together = step_ms(ROUND, work)
    alone = [step_ms(ROUND, {name: values[i] for name, values in work.items()}) for i in range(4)]
    assert together.tolist() == pytest.approx([float(one) for one in alone], rel=1e-14)


def test_examples() -> None:
    assert doctest.testmod(step_law).failed == 0

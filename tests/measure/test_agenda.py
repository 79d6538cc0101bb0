"""What is still to be measured: further repetitions, the budget, and going on after a kill."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from llmlat.config import CollectConfig
from llmlat.dataset import Dataset
from llmlat.measure.protocol.agenda import Agenda
from llmlat.measure.protocol.intervals import relative_half_width, typical_latency_ms
from llmlat.measure.protocol.schedule import is_open_ended, planned

N = 4


@pytest.fixture
def fake(tmp_path, request_of, token_rows):
    """Measure made-up latencies: prompt-0's vary by so much, those of the others do not."""

    def measured(collect, noisy=0.2, stop_after=None, block_s=10.0, skip=()):
        single_pass = [request_of(index) for index in range(N)]
        plan = SimpleNamespace(single_pass=single_pass, requests=planned(single_pass, collect, seed=0))
        identity = {"collect": str(collect)}
        dataset = Dataset.create(
            tmp_path, identity, len(plan.requests), is_finished=not is_open_ended(collect)
        )
        agenda = Agenda(plan, collect, 0, dataset)
        seen, blocks = [], []
        for block in agenda.blocks(lambda: block_s * len(blocks)):
            blocks.append(block)
            for request in block:
                if stop_after is not None and len(seen) == stop_after:
                    return dataset, agenda, seen
                seen.append(request)
                if request.request_id in skip:
                    dataset.skip({"request_id": request.request_id})
                    continue
                generator = np.random.default_rng(request.request_id)
                spread = noisy if request.name == "prompt-0" else 1e-4
                latency = 5 * np.exp(generator.normal(0, spread))
                rows = token_rows(
                    request.request_id, repetition=request.repetition, first_visit=False,
                    prompt_id=request.name, latency_ms=latency,
                )  # fmt: skip
                dataset.append_request(request.request_id, rows)
                agenda.note(request, rows)
        return dataset, agenda, seen

    return measured


def repetitions_of(requests):
    counts = dict.fromkeys([f"prompt-{i}" for i in range(N)], 0)
    for request in requests:
        counts[request.name] += 1
    return counts


# --- intervals ---------------------------------------------


def test_the_interval_is_students():
    # Mean 10, deviation 1, three values: t(0.975, 2) = 4.3027, so 4.3027 / sqrt(3) = 2.4841 of 10.
    assert relative_half_width([9, 10, 11]) == pytest.approx(0.24841, rel=1e-4)
    assert relative_half_width([9, 10, 11, float("nan")]) == pytest.approx(0.24841, rel=1e-4)
    assert relative_half_width([10, 10, 10]) == 0
    assert relative_half_width([10, 10]) == float("inf")


def test_the_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    runs = generator.normal(100, 3, (2000, 5))
    covered = [abs(r.mean() - 100) <= relative_half_width(r) * np.median(r) for r in runs]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_a_requests_latency_is_its_decode_steps_median(token_rows):
    rows = token_rows(3, 5, latency_ms=1).assign(
        token_latency_ms=[900.0, 5.0, 6.0, 50.0, 7.0], first_visit=False
    )
    assert typical_latency_ms(rows) == 6.5
    assert typical_latency_ms(rows.iloc[:1]) == 900, "where there is but a prefill, it is that"
    visited = rows.assign(first_visit=[True, False, False, True, True])
    assert typical_latency_ms(visited) == 5.5
    assert np.isnan(typical_latency_ms(rows.assign(first_visit=True)))


# --- repetitions ---------------------------------------------


def test_a_fixed_number_of_repetitions(fake):
    dataset, _, seen = fake(CollectConfig(repetitions=3))
    assert repetitions_of(seen) == dict.fromkeys(repetitions_of(seen), 3)
    assert dataset.is_complete
    assert "further_repetitions" not in dataset.provenance


def test_only_what_is_not_known_well_is_repeated(fake, caplog):
    with caplog.at_level(logging.INFO):
        dataset, agenda, seen = fake(CollectConfig(until_ci="10%", repetitions=3))
    counts = repetitions_of(seen)
    assert counts["prompt-0"] > 8
    assert {counts[f"prompt-{i}"] for i in (1, 2, 3)} == {3}
    assert dataset.is_complete
    provenance = dataset.provenance
    assert provenance["finished"] is True
    assert provenance["n_requests"] == len(seen) == len(agenda.requests)
    assert provenance["wider_than_asked"] == []
    assert len({request.request_id for request in seen}) == len(seen)
    medians = dataset.read().query("prompt_id == 'prompt-0' and phase == 'decode'")
    of_request = medians.groupby("request_id")["token_latency_ms"].median()
    assert relative_half_width(of_request) <= 0.1 < relative_half_width(of_request[:-1])
    assert "Every median is known to ±10 %" in caplog.text


def test_the_budget_ends_it_and_what_stayed_wide_is_told(fake, caplog):
    with caplog.at_level(logging.INFO):
        dataset, _, seen = fake(CollectConfig(until_ci="1%", repetitions=3, budget_s=45))
    # Blocks begin at 0, 10, 20, 30 and 40 s; at 50 s none does.
    assert repetitions_of(seen)["prompt-0"] == 5
    assert dataset.is_complete
    (wide,) = dataset.provenance["wider_than_asked"]
    assert wide["prompt_ids"] == ["prompt-0"]
    assert wide["repetitions"] == 5
    assert wide["half_width"] > 0.01
    assert "1 of 4 medians are known less well than ±1 %" in caplog.text
    assert "collect.budget_s" in caplog.text


def test_the_budget_ends_plain_repetitions_too_after_the_first(fake, caplog):
    with caplog.at_level(logging.INFO):
        dataset, _, seen = fake(CollectConfig(repetitions=10, budget_s=25))
    assert repetitions_of(seen) == dict.fromkeys(repetitions_of(seen), 3)
    assert dataset.is_complete
    assert (dataset.provenance["n_requests"], dataset.provenance["repetitions"]) == (12, 3)
    assert "3 of 10 repetitions were measured" in caplog.text
    dataset, _, seen = fake(CollectConfig(repetitions=11, budget_s=1))
    assert repetitions_of(seen) == dict.fromkeys(repetitions_of(seen), 1)


def test_repetitions_end_somewhere(fake, monkeypatch, caplog):
    from llmlat.measure.protocol import agenda

    monkeypatch.setattr(agenda, "MAX_REPETITIONS", 6)
    with caplog.at_level(logging.INFO):
        dataset, _, seen = fake(CollectConfig(until_ci="0.001%"))
    assert max(repetitions_of(seen).values()) == 6
    assert dataset.is_complete
    assert "6 repetitions" in caplog.text


def test_a_complete_dataset_has_nothing_pending(fake):
    collect = CollectConfig(until_ci="10%")
    fake(collect)
    _, agenda, seen = fake(collect)
    assert seen == []
    assert agenda.pending() == []


@pytest.mark.parametrize("stop_after", [0, 5, 11, 12, 13, 15])
def test_killed_anywhere_it_goes_on_with_the_same(fake, stop_after, tmp_path):
    collect = CollectConfig(until_ci="10%", repetitions=3)
    dataset, _, first = fake(collect, stop_after=stop_after)
    assert not dataset.is_complete
    dataset, agenda, second = fake(collect)
    assert dataset.is_complete
    resumed = [request.request_id for request in first + second]
    assert len(set(resumed)) == len(resumed)
    assert set(resumed) == dataset.completed_requests() == {request.request_id for request in agenda.requests}
    # The same as in one go.
    for path in [*dataset.folder.rglob("*.parquet"), dataset.folder / "provenance.json"]:
        path.unlink()
    _, _, at_once = fake(collect)
    assert [request.request_id for request in at_once] == resumed


def test_a_file_deleted_afterwards_is_measured_again_and_no_more(fake):
    collect = CollectConfig(until_ci="10%")
    dataset, _, seen = fake(collect)
    last = seen[-1].request_id
    (dataset.rows_dir / f"request-{last:06d}.parquet").unlink()
    assert not dataset.is_complete
    dataset, _, again = fake(collect)
    assert [request.request_id for request in again] == [last]
    assert dataset.is_complete


def test_what_does_not_fit_is_not_waited_for(fake):
    collect = CollectConfig(until_ci="10%", repetitions=3)
    _, agenda, _ = fake(CollectConfig(until_ci="9%", repetitions=3))
    noisy = {request.request_id for request in agenda.requests if request.name == "prompt-0"}
    dataset, _, seen = fake(collect, skip=noisy)
    assert repetitions_of(seen) == dict.fromkeys(repetitions_of(seen), 3)
    assert dataset.is_complete

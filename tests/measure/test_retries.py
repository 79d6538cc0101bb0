"""A flagged request is measured again; what is set aside is kept."""

import pandas as pd
import pytest

from llmlat.config import CollectConfig, Flagged
from llmlat.measure.protocol.retries import Retries, flags_in, with_flag


@pytest.fixture
def retried(request_of, token_rows, complete_dataset):
    """Measure a request whose tries have these flags."""

    def measured(*flags, flagged=Flagged.retry, retries=2):
        tries, pauses = iter(flags), []
        collect = CollectConfig(flagged=flagged, retries=retries, cool_down_s=3.0)
        policy = Retries(collect, complete_dataset.set_aside, pauses.append)

        def once(request):
            return token_rows(request.request_id, 3, flags=["", next(tries), ""])

        rows = policy.measure(request_of(5), once)
        return rows, policy.describe(), pauses

    return measured


def aside(dataset):
    return sorted(path.name for path in dataset.rows_dir.glob("_flagged*"))


def test_a_clean_request_is_measured_once(retried, complete_dataset):
    rows, counts, pauses = retried("")
    assert flags_in(rows) == set()
    assert counts == {"requests": 0, "tries_set_aside": 0, "flagged_to_the_end": 0}
    assert pauses == aside(complete_dataset) == []


def test_a_flagged_request_is_measured_again_after_cooling_down(retried, complete_dataset, caplog):
    caplog.set_level("INFO")
    rows, counts, pauses = retried("throttled", "busy_cpu;throttled", "")
    assert flags_in(rows) == set()
    assert counts == {"requests": 1, "tries_set_aside": 2, "flagged_to_the_end": 0}
    assert pauses == [3.0, 3.0]
    assert aside(complete_dataset) == ["_flagged-000005-0.parquet", "_flagged-000005-1.parquet"]
    kept = pd.read_parquet(complete_dataset.rows_dir / "_flagged-000005-1.parquet")
    assert kept["flags"].tolist() == ["", "busy_cpu;throttled", ""]
    assert len(complete_dataset.read()) == 8, "readers pass over them"
    assert complete_dataset.completed_requests() == {0, 1}
    assert (
        "Request 5 (prompt-5) is flagged busy_cpu, throttled: measuring it again in 3 s (2 of 2)"
        in caplog.text
    )


def test_the_last_try_counts_flagged_as_it_is(retried, complete_dataset):
    rows, counts, _ = retried("throttled", "throttled", "busy_cpu")
    assert flags_in(rows) == {"busy_cpu"}
    assert counts == {"requests": 1, "tries_set_aside": 2, "flagged_to_the_end": 1}
    assert len(aside(complete_dataset)) == 2


def test_tries_of_a_later_session_do_not_overwrite(retried, complete_dataset):
    retried("throttled", "")
    retried("throttled", "")
    assert aside(complete_dataset) == ["_flagged-000005-0.parquet", "_flagged-000005-1.parquet"]


@pytest.mark.parametrize("flagged", [Flagged.keep, Flagged.exclude])
def test_otherwise_nothing_is_measured_again(retried, complete_dataset, flagged):
    rows, counts, _ = retried("throttled", flagged=flagged)
    assert flags_in(rows) == {"throttled"}
    assert counts["flagged_to_the_end"] == 0
    assert aside(complete_dataset) == []


def test_not_settled_is_the_sessions_and_no_reason(retried):
    rows, counts, _ = retried("not_settled")
    assert flags_in(rows) == {"not_settled"}
    assert counts["requests"] == 0


def test_a_flag_more(token_rows):
    rows = with_flag(token_rows(0, 2, flags=["", "throttled"]), "not_settled")
    assert rows["flags"].tolist() == ["not_settled", "throttled;not_settled"]
    assert flags_in(rows) == {"throttled", "not_settled"}

"""When requests are sent, and how many are in flight."""

import numpy as np
import pytest
from scripted_server import Reply, chunk, well_behaved

from llmlat.measure.endpoint.arrival import poisson_offsets_s


def slowly(asked, number):
    return well_behaved(asked, interval_s=0.02)


@pytest.mark.parametrize("n", [1, 4])
def test_a_closed_loop_keeps_so_many_in_flight_and_no_more(server, exchange_all, n):
    server.script = slowly
    exchanges = exchange_all(9, in_flight=n)
    assert sorted(exchange.request_id for exchange in exchanges) == list(range(9))
    assert server.most_in_flight == n
    seen = [count for exchange in exchanges for count in exchange.in_flight]
    assert (min(seen), max(seen)) == (1, n)


def test_requests_end_in_their_own_order(server, exchange_all):
    server.script = lambda asked, number: Reply(
        [(0.4 if asked["id"] == 0 else 0.01, chunk("a", finish="length"))]
    )
    assert [exchange.request_id for exchange in exchange_all(3, in_flight=2)][-1] == 0


def test_requests_are_sent_at_their_times_though_earlier_ones_are_not_answered(server, exchange_all):
    server.script = lambda asked, number: well_behaved(asked, interval_s=0.1)
    exchanges = exchange_all(4, in_flight=None, offsets_s=[0.0, 0.05, 0.1, 0.3])
    planned = sorted(exchange.planned_ns for exchange in exchanges)
    assert np.diff(planned).tolist() == [50_000_000, 50_000_000, 200_000_000]
    assert all(exchange.sent_ns >= exchange.planned_ns for exchange in exchanges)
    assert server.most_in_flight >= 3


def test_where_there_is_no_room_a_request_queues_here(server, exchange_all):
    server.script = lambda asked, number: Reply([(0.1, chunk("a", finish="length"))])
    exchanges = exchange_all(4, in_flight=1, offsets_s=[0.0] * 4)
    queued_ms = sorted((exchange.sent_ns - exchange.planned_ns) / 1e6 for exchange in exchanges)
    assert server.most_in_flight == 1
    assert queued_ms[0] < queued_ms[1] < queued_ms[2] < queued_ms[3]
    assert queued_ms[3] >= 290


def test_poisson_gaps_are_exponential_and_the_seeds_own():
    offsets = poisson_offsets_s(4000, rate_per_s=5, seed=(42, 1))
    gaps = np.diff([0.0, *offsets])
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(0.2, rel=0.06)
    assert gaps.std() == pytest.approx(0.2, rel=0.06)
    assert offsets == poisson_offsets_s(4000, 5, (42, 1))
    assert offsets != poisson_offsets_s(4000, 5, (42, 2))

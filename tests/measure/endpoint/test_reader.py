"""The process that talks to the server: what it hands over, and when it ends."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from scripted_server import DONE, Reply, chunk, job, well_behaved

from llmlat.errors import MeasurementError
from llmlat.measure.endpoint.answers import read_answer
from llmlat.measure.endpoint.arrival import Load
from llmlat.measure.endpoint.exchange import Outcome
from llmlat.measure.endpoint.reader import Reader


def endless(asked, number):
    return Reply([(0.02, chunk("a"))] * 500)


def wait_until(holds, seconds=10):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_loads_follow_each_other_in_one_process(server, endpoint_of):
    with Reader(endpoint_of()) as reader:
        assert abs(reader.epoch_offset_ns + time.perf_counter_ns() - time.time_ns()) < 10**9
        for load in (Load([job(0), job(1)], 2), Load([job(2)], 1), Load([], 1)):
            assert {exchange.request_id for exchange in reader.send(load)} == {
                j.request_id for j in load.jobs
            }
        process = psutil.Process(reader._process.pid)
    assert not process.is_running()
    assert len(server.asked) == 3


def test_a_slow_consumer_distorts_nothing(server, endpoint_of):
    server.script = lambda asked, number: well_behaved(asked, interval_s=0.02)
    with Reader(endpoint_of()) as reader:
        spans = []
        for exchange in reader.send(Load([job(index) for index in range(6)], 3)):
            spans.append((exchange.arrival_ns[-1] - exchange.sent_ns) / 1e9)
            end = time.perf_counter() + 0.3
            while time.perf_counter() < end:  # holds this process's interpreter
                pass
    # Each takes 0.08 s; a consumer on the same clock would have added 0.3 s to those in flight.
    assert sorted(spans)[3] < 0.3


def test_breaking_off_hands_over_what_had_come(server, endpoint_of):
    server.script = endless
    with Reader(endpoint_of()) as reader:
        reader._hand_over(Load([job(0), job(1)], 2))
        wait_until(lambda: server.in_flight == 2)
        time.sleep(0.3)
        exchanges = list(reader.stop())
    assert [exchange.outcome for exchange in exchanges] == [Outcome.interrupted] * 2
    assert all(sum(read_answer(exchange).n_tokens) > 3 for exchange in exchanges)


def test_a_reader_that_dies_is_an_error_and_no_hang(server, endpoint_of):
    server.script = endless
    with Reader(endpoint_of()) as reader:
        reader._hand_over(Load([job(0)], 1))
        wait_until(lambda: server.in_flight == 1)
        os.kill(reader._process.pid, signal.SIGKILL)
        with pytest.raises(MeasurementError, match=r"reads the server's answers died \(exit code -9\)"):
            reader._next()
        with pytest.raises(MeasurementError):
            list(reader.send(Load([job(1)], 1)))


def test_it_does_not_outlive_who_started_it(server, tmp_path):
    server.script = endless
    program = f"""
from llmlat.measure.endpoint.arrival import Load
from llmlat.measure.endpoint.client import Job
from llmlat.measure.endpoint.reader import Reader
from llmlat.measure.endpoint.settings import Endpoint
with Reader(Endpoint({server.base_url!r}, api_key_env=None)) as reader:
    print(reader._process.pid, flush=True)
    list(reader.send(Load([Job(0, b'{{"prompt": "a", "max_tokens": 9}}')], 1)))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as starter:
        child = psutil.Process(int(starter.stdout.readline()))
        wait_until(lambda: server.in_flight == 1)
        starter.kill()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_ctrl_c_is_left_to_who_started_it(server, endpoint_of):
    server.script = lambda asked, number: Reply([(0.3, chunk("a", finish="length")), (0, DONE)])
    with Reader(endpoint_of()) as reader:
        os.kill(reader._process.pid, signal.SIGINT)
        (exchange,) = reader.send(Load([job(0)], 1))
        assert exchange.outcome is Outcome.ended

"""What provenance keeps of the collector's own cost."""

import psutil
import pytest
import torch

from llmlat.measure.engines.fake import ScriptedTimer
from llmlat.measure.machine.environment import describe_session, hardware, mark_cost_ns
from llmlat.measure.machine.host import describe_host
from llmlat.measure.machine.neighbours import notice_foreign_processes
from llmlat.measure.protocol.memory import memory_state
from llmlat.measure.timers import WallTimer


def test_the_cost_of_a_mark_is_the_time_between_two_of_them():
    class SlowTimer(ScriptedTimer):
        def mark(self) -> None:
            super().mark()
            self.advance(0.000_7)

    assert mark_cost_ns(SlowTimer()) == 700


def test_a_mark_on_the_cpu_costs_next_to_nothing():
    assert 0 < mark_cost_ns(WallTimer()) < 50_000


@pytest.mark.parametrize(
    "error", [NotImplementedError(), ZeroDivisionError(), FileNotFoundError(), ValueError("x")]
)
def test_a_processor_that_does_not_tell_its_clock(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(psutil, "cpu_freq", fail)
    assert describe_host()["cpu_frequency_mhz"] is None


def test_a_system_that_hides_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    cpu = torch.device("cpu")
    described = describe_session(cpu)
    assert described["memory_bytes"] is None
    assert described["started_at"]
    assert hardware(cpu)["cores"]
    assert notice_foreign_processes(cpu) == {"count": 0, "names": []}
    assert memory_state(cpu)["memory_total_bytes"] is None

"""What provenance keeps of the collector's own cost."""

from llmlat.measure.engines.fake import ScriptedTimer
from llmlat.measure.machine.environment import mark_cost_ns
from llmlat.measure.timers import WallTimer


def test_the_cost_of_a_mark_is_the_time_between_two_of_them():
    class SlowTimer(ScriptedTimer):
        def mark(self) -> None:
            super().mark()
            self.advance(0.000_7)

    assert mark_cost_ns(SlowTimer()) == 700


def test_a_mark_on_the_cpu_costs_next_to_nothing():
    assert 0 < mark_cost_ns(WallTimer()) < 50_000

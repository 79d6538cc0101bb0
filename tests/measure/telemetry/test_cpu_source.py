"""The processor's state: rates from counters, whose work it is, and what is too slow beside a step."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from llmlat.measure.telemetry import cpu
from llmlat.measure.telemetry.cpu import CpuSource


@pytest.fixture
def machine(monkeypatch):
    """Return a machine of two cores whose counters and clock are set by hand."""
    told = SimpleNamespace(now_s=0.0, own_s=0.0, user=0.0, idle=0.0, iowait=0.0, steal=0.0)

    def times():
        fields = {"user": told.user, "idle": told.idle, "iowait": told.iowait, "steal": told.steal}
        return SimpleNamespace(_asdict=lambda: fields)

    clock = SimpleNamespace(
        perf_counter=lambda: told.now_s,
        perf_counter_ns=lambda: round(told.now_s * 1e9),
        process_time=lambda: told.own_s,
    )
    monkeypatch.setattr(cpu, "time", clock)
    monkeypatch.setattr(psutil, "cpu_times", times)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)

    def passes(seconds, own=0.0, others=0.0, **kinds):
        told.now_s += seconds
        told.own_s += own * seconds
        told.user += (own + others) * seconds
        told.idle += (2 - own - others - sum(kinds.values())) * seconds
        for kind, cores in kinds.items():
            setattr(told, kind, getattr(told, kind) + cores * seconds)

    told.passes = passes
    return told


def load(source):
    values = source.read()
    return values["cpu_utilization"], values["other_cpu_cores"]


def test_who_keeps_the_cores_busy(machine):
    source = CpuSource()
    assert load(source) == (None, None), "there is no rate before there is an interval"
    machine.passes(0.1, own=1.0)
    assert load(source) == (pytest.approx(0.5), pytest.approx(0))
    machine.passes(0.1, own=1.0, others=0.8)
    assert load(source) == (pytest.approx(0.9), pytest.approx(0.8))
    machine.passes(0.1)
    assert load(source) == (pytest.approx(0), pytest.approx(0))


def test_waiting_and_stolen_time_are_no_work(machine):
    source = CpuSource()
    source.read()
    machine.passes(0.1, others=0.5, iowait=0.5, steal=0.5)
    assert load(source) == (pytest.approx(0.25), pytest.approx(0.5))


def test_what_was_counted_late_is_never_less_than_nothing(machine):
    source = CpuSource()
    source.read()
    machine.passes(0.1, own=1.0)
    machine.own_s += 0.01  # the system counts in ticks and lags behind
    assert load(source)[1] == 0


def test_short_intervals_are_judged_over_a_whole_window(machine):
    source = CpuSource()
    source.read()
    for _ in range(8):
        machine.passes(0.01, others=1.0)
        assert load(source) == (None, None)
    machine.passes(0.01, others=1.0)
    assert load(source) == (pytest.approx(0.5), pytest.approx(1))
    for _ in range(9):
        machine.passes(0.01)
        last = load(source)
    assert last == (pytest.approx(0), pytest.approx(0))
    assert len(source._load._counts) <= 11, "old counts are forgotten"


def test_many_cores_need_a_longer_window(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_count", lambda: 64)
    assert CpuSource()._load._window_s == pytest.approx(1.024)


def test_what_children_use_is_not_others(machine, monkeypatch):
    class Child:
        pid, used_s, is_alive = 9, 5.0, True

        def cpu_times(self):
            if not self.is_alive:
                raise psutil.NoSuchProcess(self.pid)
            return SimpleNamespace(user=self.used_s, system=0.0)

    child = Child()
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [child])
    source = CpuSource()
    source.refresh()
    source.read()
    machine.passes(0.1, others=1.0)
    child.used_s += 0.1
    assert load(source)[1] == pytest.approx(0), "what it used before it was known does not count"
    machine.passes(0.1, others=1.0)
    child.is_alive = False
    assert load(source)[1] == pytest.approx(1)


def test_slow_gauges_are_read_between_requests_only(machine, monkeypatch):
    n_read = 0

    def frequency():
        nonlocal n_read
        n_read += 1
        machine.now_s += 0.001
        return SimpleNamespace(current=2000.0 + n_read)

    monkeypatch.setattr(psutil, "cpu_freq", frequency)
    source = CpuSource()
    assert source.read()["cpu_frequency_mhz"] is None
    source.refresh()
    assert [source.read()["cpu_frequency_mhz"] for _ in range(30)] == [2001] * 30
    source.refresh()
    assert n_read == 1, "more than once a second"
    machine.now_s += 1
    source.refresh()
    assert source.read()["cpu_frequency_mhz"] == 2002


def test_quick_gauges_are_read_with_every_tenth_sample(machine, monkeypatch):
    readings = iter([50.0, 60.0, 70.0])
    sensors = {"nvme": [SimpleNamespace(current=99.0)]}

    def temperatures():
        cores = [SimpleNamespace(current=next(readings)), SimpleNamespace(current=40.0)]
        return {**sensors, "coretemp": cores}

    monkeypatch.setattr(psutil, "sensors_temperatures", temperatures, raising=False)
    source = CpuSource()
    source.refresh()
    told = [source.read()["cpu_temperature_c"] for _ in range(20)]
    assert told == [50] * 9 + [60] * 10 + [70]


def test_what_the_machine_does_not_tell_is_null_and_asked_for_once(machine, monkeypatch, caplog):
    asked = []

    def nothing():
        asked.append("frequency")

    def broken():
        asked.append("temperature")
        raise OSError("no such sensor")

    monkeypatch.setattr(psutil, "cpu_freq", nothing)
    monkeypatch.setattr(psutil, "sensors_temperatures", broken, raising=False)
    source = CpuSource()
    with caplog.at_level("INFO"):
        for _ in range(3):
            source.refresh()
            values = source.read()
            machine.now_s += 2
    assert (values["cpu_frequency_mhz"], values["cpu_temperature_c"]) == (None, None)
    assert asked == ["frequency", "temperature"]
    assert caplog.messages == ["Telemetry goes on without the processor's temperature: no such sensor."]


def test_the_real_machine_tells_its_load():
    source = CpuSource()
    source.refresh()
    source.read()
    time.sleep(0.15)
    values = source.read()
    assert 0 <= values["cpu_utilization"] <= 1
    assert 0 <= values["other_cpu_cores"] <= psutil.cpu_count() + 0.5
    assert values["load_average"] >= 0


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="counts of /proc")
def test_own_work_and_a_childs_are_not_others():
    """Others may be at work here too: beside a source that knows no family, the family's work is missing."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        process = psutil.Process(child.pid)
        source, blind = CpuSource(), CpuSource()
        source.refresh()
        blind._load.family.used_s = lambda: 0.0

        def used_s():
            return time.process_time() + sum(process.cpu_times()[:2])

        values = source.read(), blind.read()
        began_s, before_s = time.perf_counter(), used_s()
        while used_s() < before_s + 0.4:
            pass
        values = source.read(), blind.read()
        family_cores = (used_s() - before_s) / (time.perf_counter() - began_s)
    finally:
        child.kill()
        child.wait()
    others, everyone = (value["other_cpu_cores"] for value in values)
    assert everyone - others == pytest.approx(family_cores, rel=0.2, abs=0.1)

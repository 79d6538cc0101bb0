"""When requests are sent: a fixed number in flight, or at the times of a Poisson process."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from llmlat.measure.endpoint.client import Client, Job


@dataclass(frozen=True)
class Load:
    """Requests, and when they are sent.

    Attributes
    ----------
    jobs : list of Job
        In order.
    most_in_flight : int or None
        A closed loop keeps so many in flight; otherwise no more than so many are, and None is no limit.
    offsets_s : list of float or None
        When each is to be sent, from the beginning; None for a closed loop.
    """

    jobs: list[Job]
    most_in_flight: int | None
    offsets_s: list[float] | None = None


def poisson_offsets_s(n: int, rate_per_s: float, seed: Sequence[int]) -> list[float]:
    """Return the times of `n` arrivals of a Poisson process: exponential gaps, the first one too."""
    gaps = np.random.default_rng(list(seed)).exponential(1 / rate_per_s, n)
    return [float(offset) for offset in np.cumsum(gaps)]


async def send(load: Load, client: Client) -> None:
    """Send every request of a load, and return when the last exchange has ended."""
    if load.offsets_s is None:
        await _closed_loop(load.jobs, load.most_in_flight or len(load.jobs), client)
    else:
        await _at_times(load.jobs, load.offsets_s, load.most_in_flight, client)


async def _closed_loop(jobs: list[Job], n: int, client: Client) -> None:
    """Keep `n` requests in flight: the next is due when one has ended."""
    waiting = iter(jobs)

    async def one_after_the_other() -> None:
        for job in waiting:
            await client.ask(job, time.perf_counter_ns())

    async with asyncio.TaskGroup() as group:
        for _ in range(min(n, len(jobs))):
            group.create_task(one_after_the_other())


async def _at_times(
    jobs: list[Job], offsets_s: list[float], most_in_flight: int | None, client: Client
) -> None:
    """Send each request at its time, or as soon after it as there is room."""
    room = asyncio.Semaphore(most_in_flight) if most_in_flight else nullcontext()

    async def ask(job: Job, planned_ns: int) -> None:
        async with room:
            await client.ask(job, planned_ns)

    begun_ns = time.perf_counter_ns()
    async with asyncio.TaskGroup() as group:
        for job, offset_s in zip(jobs, offsets_s, strict=True):
            planned_ns = begun_ns + round(offset_s * 1e9)
            await asyncio.sleep(max(planned_ns - time.perf_counter_ns(), 0) / 1e9)
            group.create_task(ask(job, planned_ns))

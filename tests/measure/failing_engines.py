"""Engines for `engine._target_=failing_engines.…`: real ones, that fail on purpose at one token."""

import resource
import time
from contextlib import contextmanager

import torch

from llmlat.measure.engines.eager import EagerEngine


def failing(name, *more):
    """Return the overrides that measure with one of these engines, and without a warm-up."""
    return (f"engine._target_=failing_engines.{name}", "engine.name=failing", "collect.warmup=0", *more)


@contextmanager
def memory_left(n_bytes):
    """Let this process's address space end so many bytes beyond what it uses now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class AtToken(EagerEngine):
    """Calls `strike` before token `at_token` of request `at_request`, counted from 0 and without warm-up."""

    def __init__(self, model, decoder, at_request=2, at_token=3):
        super().__init__(model, decoder)
        self.at = (at_request, at_token)
        self.here = [-1, 0]

    def prepare(self, prompts, max_new_tokens):
        self.here = [self.here[0] + 1, 0]
        return super().prepare(prompts, max_new_tokens)

    def _forward(self, state):
        if tuple(self.here) == self.at:
            self.strike()
        self.here[1] += 1
        return super()._forward(state)

    def strike(self):
        raise NotImplementedError


class DeviceOutOfMemory(AtToken):
    def strike(self):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has ...")


class NeverFits(EagerEngine):
    def _forward(self, state):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB.")


class TooLarge(EagerEngine):
    """Runs out of memory at a context of more than `fits_tokens`, over all rows."""

    def __init__(self, model, decoder, fits_tokens):
        super().__init__(model, decoder)
        self.fits_tokens = fits_tokens

    def _forward(self, state):
        if len(state.input_ids) * (state.cached + state.input_ids.shape[1]) > self.fits_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has ...")
        return super()._forward(state)


class HostOutOfMemory(AtToken):
    """Makes this process's memory end, and lets torch's own allocator meet the end."""

    def strike(self):
        with memory_left(64 * 2**20):
            torch.empty(2**30, dtype=torch.uint8).fill_(1)


class Broken(AtToken):
    def strike(self):
        raise ZeroDivisionError("a bug in an engine")


class Interrupted(AtToken):
    def strike(self):
        raise KeyboardInterrupt


class Slow(EagerEngine):
    """Takes at least five milliseconds a token, so that a test can strike in the middle."""

    def _forward(self, state):
        time.sleep(0.005)
        return super()._forward(state)


class Unmade:
    def __init__(self, model, decoder):
        raise RuntimeError("no such\nkernel")

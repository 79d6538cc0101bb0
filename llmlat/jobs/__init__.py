"""A sweep's jobs: each folder says how its job ended, so that a sweep can lose one, and resume.

`edge` is where Hydra comes in; the rest knows folders and plain values only. What a sweep knows about itself
is kept in `<sweep>/.jobs/`, on disk, since its jobs may be processes of their own or wait in a queue.
"""

from llmlat.jobs.job import attempt
from llmlat.jobs.outcome import Outcome, read_outcome

__all__ = ["Outcome", "attempt", "read_outcome"]

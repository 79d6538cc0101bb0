"""Sweeps made readable: a row a job, the best setting chosen without the test rows, and one offline page.

What is chosen is chosen on folds of the training rows, and only then scored on the test rows: the lowest of
many test errors would flatter.
"""

from llmlat.sweep.frame import read_jobs
from llmlat.sweep.summary import Summary, summarise
from llmlat.sweep.terminal import terminal_lines

__all__ = ["Summary", "read_jobs", "summarise", "terminal_lines"]

"""One thread for fits and predictions: the one place that says so.

On two busy cores, boosted trees with two threads took 36 times longer than with one, as threads wait for each
other at every split. And sums in another order end in other digits, so that one dataset would give other
metrics on a machine with more cores.
"""

import functools
import sys
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which OpenMP and BLAS use one thread."""
    limited: AbstractContextManager[Any] = _libraries(len(sys.modules)).limit(limits=1)
    return limited


@functools.lru_cache(maxsize=1)
def _libraries(n_imported: int) -> ThreadpoolController:
    """Return the libraries with threads. Looking takes a millisecond, and only an import adds to them."""
    return ThreadpoolController()

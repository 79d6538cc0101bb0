"""The Triton kernel against plain attention, without a GPU: Triton interprets it, block by block.

Triton comes with torch's builds for CUDA. Products in bfloat16 are wrong under its interpreter;
test_cuda_graph_on_gpu.py tries them.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context

import pytest
import torch
from kernel_error import kernel_error
from packaging.version import Version

TRITON = version("triton") if find_spec("triton") else "0"
# The interpreter of older ones calls NumPy as it no longer lets itself be called.
pytestmark = pytest.mark.skipif(Version(TRITON) < Version("3.7"), reason=f"Triton {TRITON}")

COLUMNS = 150


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Executor]:
    """A process of its own, as Triton must be told before it is imported."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRITON_INTERPRET", "1")
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            yield pool


def errors_in(n_parts: int, dtype: torch.dtype, *shape: int | None) -> list[float]:
    """Return the errors up to some columns, which are divided into so many parts."""
    from llmlat.measure.engines import decode_attention

    decode_attention._parts = lambda *_: n_parts
    lasts = (0, 63, 64, COLUMNS - 1)
    return [kernel_error(*shape, columns=COLUMNS, last=last, dtype=dtype, device="cpu") for last in lasts]


@pytest.mark.parametrize(
    ("shape", "n_parts"),
    [
        pytest.param((1, 8, 2, 16, 16, None), 4, id="grouped queries"),
        pytest.param((3, 2, 2, 16, 16, None), 1, id="padded rows"),
        pytest.param((2, 3, 1, 20, 12, 100), 2, id="no powers of two"),
        pytest.param((1, 20, 1, 32, 16, 7), 4, id="window"),
    ],
)
def test_the_kernel_attends_as_plain_attention(interpreter, shape, n_parts):
    assert max(interpreter.submit(errors_in, n_parts, torch.float32, *shape).result()) < 1e-6


def test_the_kernel_attends_in_half_precision(interpreter):
    assert max(interpreter.submit(errors_in, 2, torch.float16, 1, 4, 2, 16, 16, None).result()) < 1e-3

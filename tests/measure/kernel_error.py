"""How far the Triton kernel is off plain attention, on a GPU or interpreted."""

import torch

from llmlat.measure.engines.used_length import attend_masked


def kernel_error(
    rows: int,
    heads: int,
    key_heads: int,
    size: int,
    value_size: int,
    window: int | None,
    *,
    columns: int,
    last: int,
    dtype: torch.dtype,
    device: str,
) -> float:
    """Return the relative error over all outputs, against float64; NaN where an unused column was read."""
    from llmlat.measure.engines.decode_attention import attend

    query = torch.randn(rows, heads, 1, size, device=device, dtype=dtype)
    keys = torch.randn(rows, key_heads, columns, size, device=device, dtype=dtype)
    values = torch.randn(rows, key_heads, columns, value_size, device=device, dtype=dtype)
    first = torch.arange(rows, device=device) % (last + 1)
    end = torch.tensor([last], device=device)
    exact = attend_masked(query.double(), keys.double(), values.double(), first, end, 0.1, window)
    keys[:, :, last + 1 :] = values[:, :, last + 1 :] = float("nan")
    attended = attend(query, keys, values, first, end, 0.1, window).double()
    return float(torch.linalg.norm(attended - exact) / torch.linalg.norm(exact))

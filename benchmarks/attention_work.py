"""The work in one call of FlashAttention-2's kernel for key-value caches, on an A100: what waits for what.

The kernel gives each block of threads 64 queries of one head, and 128 keys at a time. Heads that share keys
are one head of more queries when decoding. Where the blocks would fill less than 80 % of the
multiprocessors, the keys are split among more blocks, and a second kernel combines their results; how many
splits is decided from the longest sequence that the block table has room for, so a short one leaves some of
them idle. Two blocks fit on a multiprocessor; the blocks that are left over when all are taken wait for a
further wave. (FlashAttention-2's `num_splits_heuristic` and `flash_fwd_splitkv_kernel`; A100 data sheet.)
"""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

MULTIPROCESSORS = 108
CACHE_BYTES = 40e6  # second-level cache: keys and values that fit need not come from memory
QUERY_HEADS, KEY_HEADS, HEAD_SIZE = 32, 4, 128  # Llama-2-70B on two devices
QUERIES, KEYS = 64, 128  # of one block
MAX_KEY_BLOCKS = 4096 // KEYS


def decode_work(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the work of decode calls.

    Parameters
    ----------
    rows : DataFrame
        `batch_size` and `kv_cache_size`, tokens of each sequence.

    Returns
    -------
    dict of DataFrame
        `tokens`, what any kernel would have to do; `kernel`, what this one waits for; and `shape`, which is
        no work and costs nothing by itself.
    """
    batch, context = rows["batch_size"].to_numpy(float), rows["kv_cache_size"].to_numpy(float) + 1
    kv_tokens = batch * context
    is_from_memory = kv_tokens * KEY_HEADS * HEAD_SIZE * 2 * 2 > CACHE_BYTES
    tokens = {"sequences": batch, "kv_tokens": kv_tokens}
    from_memory = {"memory_kv_tokens": kv_tokens * is_from_memory, "is_from_memory": is_from_memory}
    waits, shape = _waits(batch * KEY_HEADS, np.ceil(context / KEYS))
    return _frames(rows, tokens=tokens, kernel=from_memory | waits, shape=shape)


def prefill_work(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the work of prefill calls, as `decode_work` does.

    Parameters
    ----------
    rows : DataFrame
        `prefill_chunk_size`, new tokens, and `kv_cache_size`, those before them.
    """
    chunk, cached = rows["prefill_chunk_size"].to_numpy(float), rows["kv_cache_size"].to_numpy(float)
    query_blocks = np.ceil(chunk / QUERIES)
    tokens = {"new_tokens": chunk, "pairs_within": chunk**2, "pairs_with_cached": chunk * cached}
    blocks = query_blocks * QUERY_HEADS
    done = {"query_blocks": blocks, "tiles": QUERY_HEADS * _causal_tiles(chunk, cached)}
    waits, shape = _waits(blocks, np.ceil((chunk + cached) / KEYS))
    return _frames(rows, tokens=tokens, kernel=done | waits, shape=shape)


def _waits(blocks: Floats, key_blocks: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return what a call waits for, and its shape.

    It waits for waves of blocks, and for the key blocks that a multiprocessor walks through wave by wave;
    both for one and for two blocks on a multiprocessor, since two at once take longer than one, and less
    than twice as long. Of the shape, `filled` is the share of the last wave's places that are taken.
    """
    splits = np.array([_splits(int(n)) for n in blocks], float)
    per_split = np.ceil(MAX_KEY_BLOCKS / splits)
    longest = np.minimum(key_blocks, per_split)
    busy = blocks * np.ceil(key_blocks / per_split)
    single, double = np.ceil(busy / MULTIPROCESSORS), np.ceil(busy / (2 * MULTIPROCESSORS))
    waits = {
        "is_split": splits > 1,
        "single_waves": single,
        "double_waves": double,
        "single_wave_keys": single * longest,
        "double_wave_keys": double * longest,
        "launch_waves": np.ceil(blocks * splits / MULTIPROCESSORS),
    }
    shape = {
        "splits": splits,
        "key_blocks": key_blocks,
        "filled_single": busy / (MULTIPROCESSORS * single),
        "filled_double": busy / (2 * MULTIPROCESSORS * double),
    }
    return waits, shape


def _splits(blocks: int) -> int:
    """Return among how many blocks the keys are split: the fewest within 85 % of the best filling."""
    if blocks >= 0.8 * MULTIPROCESSORS:
        return 1
    filling = {
        n: (waves := blocks * n / MULTIPROCESSORS) / math.ceil(waves)
        for n in range(1, MAX_KEY_BLOCKS + 1)
        if n == 1 or math.ceil(MAX_KEY_BLOCKS / n) != math.ceil(MAX_KEY_BLOCKS / (n - 1))
    }
    return next(n for n, share in filling.items() if share >= 0.85 * max(filling.values()))


def _causal_tiles(chunk: Floats, cached: Floats) -> Floats:
    """Return how many tiles of 64 queries by 128 keys one head works through: no query sees later keys."""
    index = np.arange(int(np.ceil(chunk.max() / QUERIES)))
    last_query = np.minimum(QUERIES * (index + 1), chunk[:, None])
    tiles = np.ceil((cached[:, None] + last_query) / KEYS)
    used: Floats = np.where(QUERIES * index < chunk[:, None], tiles, 0).sum(axis=1)
    return used


def _frames(rows: pd.DataFrame, **parts: dict[str, Floats]) -> dict[str, pd.DataFrame]:
    return {name: pd.DataFrame(part, index=rows.index).astype(float) for name, part in parts.items()}

"""A key-value cache in memory that stays where it is, and knows on the device how far it is used.

A captured step writes and reads the same addresses at every replay, so the cache is allocated whole, and
the place of the next token is itself a number in device memory, which the step moves on.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass
class Place:
    """Where the sequences of a batch are in a cache. They end in the same column, and begin where they may.

    Attributes
    ----------
    first_columns : Tensor of shape (rows,)
        Where each row's sequence begins.
    column : Tensor of shape (1,)
        Where the next token of every row goes.
    is_prefilling : bool
        Whether whole prompts come in, and are attended to as they come.
    """

    first_columns: torch.Tensor
    column: torch.Tensor
    is_prefilling: bool = True


class StaticCache(Cache):  # type: ignore[misc]
    """Keys and values of so many tokens a row.

    Parameters
    ----------
    capacity : int
        Tokens that there is room for, each row.
    place : Place
        Read at every step; the step moves it on.
    """

    def __init__(self, capacity: int, place: Place) -> None:
        super().__init__(layers=[])
        self._capacity = capacity
        self._place = place

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep new keys and values in a layer, and return all that are attended to."""
        while len(self.layers) <= layer_idx:
            self.layers.append(_StaticLayer(self._capacity, self._place))
        layer: _StaticLayer = self.layers[layer_idx]
        return layer.update(key_states, value_states)

    def reorder(self, source: torch.Tensor, length: int) -> None:
        """Let row `i` go on from what row `source[i]` holds in its first `length` columns."""
        for layer in self.layers:
            for memory in (layer.keys, layer.values):
                used = memory[:, :, :length]
                used.copy_(used.index_select(0, source))


class _StaticLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, each of shape (rows, key heads, capacity, head_dim)."""

    is_sliding = False

    def __init__(self, capacity: int, place: Place) -> None:
        super().__init__()
        self._capacity = capacity
        self._place = place

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate what is like the first prompt's keys and values, only longer."""
        self.keys, self.values = self._memory(key_states), self._memory(value_states)
        self.is_initialized = True

    def _memory(self, states: torch.Tensor) -> torch.Tensor:
        rows, heads, _, size = states.shape
        memory = states.new_zeros((rows, heads, self._capacity, size))
        # One compilation then serves caches of every capacity.
        torch._dynamo.maybe_mark_dynamic(memory, 2)
        return memory

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep new keys and values, and return all that are attended to."""
        if self._place.is_prefilling:
            return self._prefill(key_states, value_states)
        self.keys.index_copy_(2, self._place.column, key_states)
        self.values.index_copy_(2, self._place.column, value_states)
        return self.keys, self.values

    def _prefill(
        self, key_states: torch.Tensor, value_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = key_states.shape[2]
        self.keys[:, :, :length] = key_states
        self.values[:, :, :length] = value_states
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many keys a prompt attends to: its own. A decode step has no mask."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Return 0: nothing comes before a prompt, and a decode step is told its positions."""
        return 0

    def get_max_length(self) -> int:
        """Return how many tokens there is room for."""
        return self._capacity

    # Its name before transformers 5.16.
    get_max_cache_shape = get_max_length

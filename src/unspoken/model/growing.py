"""Keys and values in room that doubles when it is full: a pass copies in what is new, not all that was there before.

Apart from `cache`, because transformers is slow to import.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class GrowingLayer(DynamicLayer):
    """A `DynamicLayer` whose keys and values are views of larger tensors. Cropping frees the room behind them."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.rooms: list[Tensor | None] = [None, None]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Appends, and returns all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        self.keys = self._appended(0, self.keys, key_states)
        self.values = self._appended(1, self.values, value_states)
        return self.keys, self.values

    def _appended(self, which: int, held: Tensor, new: Tensor) -> Tensor:
        room, n = self.rooms[which], held.shape[-2] if held.numel() else 0
        end = n + new.shape[-2]
        if n == 0 or room is None or room.data_ptr() != held.data_ptr() or room.shape[-2] < end:
            *rows, _, width = new.shape
            room = self.rooms[which] = new.new_empty(*rows, end if n == 0 else 2 * end, width)
            if n:
                room[..., :n, :] = held
        room[..., n:end, :] = new
        return room[..., :end, :]


def growing_cache() -> Cache:
    """An empty cache of as many such layers as a trunk has."""
    return Cache(layer_class_to_replicate=GrowingLayer)

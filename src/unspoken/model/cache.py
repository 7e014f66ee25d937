"""The context's keys and values, kept from pass to pass.

Exact wherever `Attention.cacheable`: a said token's states never change, because it sees no latents and nothing that is
said after it. The latents' keys are dropped after every pass, or kept, as stale latents, where one asks for it: that is
no longer exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unspoken.layout.entries import Layout, entries_of


class Cache:
    """What of the context a trunk need not compute again. Empty when made. Each loop of the trunk has its own keys.

    states: `[batch, entries, width]` the last states of what is held, kept where the model answers at them
        (`Denoiser.shift`), else None. newest: those of the last pass, which the model leaves here.
    """

    def __init__(self, loops: int = 1) -> None:
        from unspoken.model.growing import growing_cache  # slow to import

        self.keys: list[Any] = [growing_cache() for _ in range(loops)]
        self.layout: Layout | None = None
        self.context = 0  # columns of it; behind them are the stale latents
        self.states: Tensor | None = None
        self.newest: Tensor | None = None

    def __len__(self) -> int:
        """Entries held a row, padding included."""
        return 0 if self.layout is None else self.layout.shape[1]

    def of(self, loops: int) -> list[Any]:
        """The keys and values of each of so many loops. Raises ValueError where it was made for another number."""
        if loops != len(self.keys):
            raise ValueError(
                f"the cache was made for {len(self.keys)} loops, and the model has {loops}: take model.new_cache()"
            )
        return self.keys

    @property
    def layers(self) -> list[Any]:
        """Every layer of every loop; what they hold is typed as if it could be missing."""
        return [layer for keys in self.keys for layer in keys.layers]

    def before(self, layout: Layout) -> Layout:
        """What is held, then the entries of `layout`: the keys that a pass over `layout` sees."""
        read = layout.carried is not None or layout.foreseen is not None
        bare = replace(layout, carried=None, foreseen=None) if read else layout  # what was read is in the keys
        return bare if self.layout is None else self.layout.join(bare)

    def keep(self, layout: Layout, width: int) -> None:
        """After a pass over `layout`: its first `width` entries stay, the others' keys are dropped.

        Entries in no document are never seen, so rows may keep fewer.
        """
        columns = torch.arange(width, device=layout.token.device).expand(layout.shape[0], width)
        if width < layout.shape[1]:
            self._drop(layout.shape[1] - width)
        self.states = self._states_with(columns)
        self.layout, self.context = self.before(layout.select(columns)), self.context + width

    def keep_at(self, layout: Layout, at: Tensor, real: Tensor, unsaid: Tensor | None = None) -> None:
        """After a pass over `layout`: its entries `at` `[batch, f]` stay where `real`, the others' keys are dropped.

        unsaid: `[batch, seq]`; where given, the newest keys of the latents at these positions stay too (stale latents).
        """
        if unsaid is not None:
            self._keep_stale(layout, at, real, unsaid)
            return
        held = len(self)
        picked = [
            (_columns(layer.keys[:, :, held:], at), _columns(layer.values[:, :, held:], at)) for layer in self.layers
        ]
        self._drop(layout.shape[1])
        for layer, (keys, values) in zip(self.layers, picked, strict=True):
            layer.update(keys, values)
        self.states = self._states_with(at)
        self.layout = self.before(layout.select(at).without(~real))
        self.context += at.shape[1]

    def _keep_stale(self, layout: Layout, at: Tensor, real: Tensor, unsaid: Tensor) -> None:
        whole, held, newest = self.before(layout), len(self), self._newest(self.before(layout), unsaid)
        old = torch.arange(self.context, device=at.device).expand(len(at), -1)
        index = torch.cat([old, held + at, newest.clamp_min(0)], dim=1)
        there = torch.cat([torch.ones_like(old, dtype=torch.bool), real, newest >= 0], dim=1)
        kept = whole.select(index).without(~there)
        every = self._states_with(torch.arange(layout.shape[1], device=at.device).expand(layout.shape))
        self.states = None if every is None else entries_of(every, index)
        # Older than every latent of the next pass: all of them may see these, whatever the rule.
        self.layout = replace(kept, order=torch.where(kept.block >= 0, -1, kept.order))
        self.context += at.shape[1]
        for layer in self.layers:
            layer.keys, layer.values = _columns(layer.keys, index), _columns(layer.values, index)

    def _states_with(self, at: Tensor) -> Tensor | None:
        """The states held, then those of the entries `at` `[batch, f]` of the last pass; None where none are kept."""
        if self.newest is None:
            return None
        new = entries_of(self.newest, at)
        return new if self.states is None else torch.cat([self.states, new], 1)

    def _drop(self, entries: int) -> None:
        """Takes so many off the end, in every layer."""
        for keys in self.keys:
            keys.crop(-entries)

    def _newest(self, whole: Layout, unsaid: Tensor) -> Tensor:
        """`[batch, u]`: the column of the newest latent of each unsaid position, -1 where there is none."""
        columns = torch.arange(whole.shape[1], device=unsaid.device).expand(whole.shape)
        newest = torch.full_like(unsaid, -1, dtype=torch.int64).scatter_reduce(
            1, whole.position, torch.where(whole.unsaid, columns, -1), "amax"
        )
        return torch.where(unsaid, newest, -1).topk(int(unsaid.sum(1).max()), dim=1).values

    def forget(self, gone: Tensor) -> None:
        """Stale latents at the positions `gone` `[batch, seq or more]` are seen no more."""
        if self.layout is not None:
            latent = self.layout.block >= 0
            self.layout = self.layout.without(latent & gone.gather(1, self.layout.position))

    def take(self, rows: Tensor) -> Cache:
        """A cache of some rows of the batch; this one stays as it is."""
        taken = Cache(len(self.keys))
        if self.layout is not None:
            there = rows.to(self.layout.token.device)
            taken.layout, taken.context = self.layout.rows(there), self.context
            taken.states = None if self.states is None else self.states[there]
            for mine, its in zip(self.keys, taken.keys, strict=True):
                for number, layer in enumerate(mine.layers):
                    its.update(layer.keys[there], layer.values[there], number)
        return taken


def _columns(held: Tensor, at: Tensor) -> Tensor:
    """`[batch, heads, m, width]`: of keys or values the entries `at` `[batch, m]`."""
    return held.gather(2, at[:, None, :, None].expand(-1, held.shape[1], -1, held.shape[3]))

"""What a decoder tells of every pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """What one forward pass did, for its r rows of the batch: those that are done are in no pass of `decode`.

    tokens: `[batch, seq]` after the step, the mask id where still unsaid.
    rows: `[r]` the rows of the batch in the pass.
    position: `[r, m]` the unsaid positions in the pass, the candidates first; `real` `[r, m]` False for filling.
    held: how many of those m are candidates.
    said: `[r, k]` the positions said in this step, the best first, where `chosen` `[r, k]`.
    likeliest, probability: `[r, a]` at the first a of `position`: what the network would say there.
    entries: how many entries the pass held a row: the width that was computed, padding of short rows included.
    cached: how many entries of context a row were seen from the cache.
    asked: at how many entries a row the head ran: the candidates; the latents too when peeking.
    """

    index: int
    tokens: Tensor
    rows: Tensor
    position: Tensor
    real: Tensor
    held: int
    said: Tensor
    chosen: Tensor
    likeliest: Tensor
    probability: Tensor
    entries: int
    cached: int
    asked: int
    mask_id: int

    @cached_property
    def committed(self) -> Tensor:
        """`[batch, seq]` bool, said in this step."""
        return self._spread(self.said, self.chosen, self.chosen, False)

    @cached_property
    def candidates(self) -> Tensor:
        """`[batch, seq]` bool; they hold the committed ones."""
        real = self.real[:, : self.held]
        return self._spread(self.position[:, : self.held], real, real, False)

    @cached_property
    def latents(self) -> Tensor:
        """`[batch, seq]` bool: predicted and not said."""
        real = self.real[:, self.held :]
        return self._spread(self.position[:, self.held :], real, real, False)

    @cached_property
    def guess(self) -> Tensor:
        """`[batch, seq]`: the likeliest token where the head ran, elsewhere the mask id."""
        real = self.real[:, : self.likeliest.shape[1]]
        return self._spread(self.position[:, : real.shape[1]], self.likeliest, real, self.mask_id)

    @cached_property
    def confidence(self) -> Tensor:
        """`[batch, seq]`: the likeliest token's probability where the head ran, elsewhere 0."""
        real = self.real[:, : self.likeliest.shape[1]]
        return self._spread(self.position[:, : real.shape[1]], self.probability, real, 0.0)

    def _spread(self, position: Tensor, values: Tensor, real: Tensor, empty: bool | float) -> Tensor:
        """`[batch, seq]`: the values of the rows in the pass at their positions."""
        whole = values.new_full(self.tokens.shape, empty)
        return whole.index_copy(0, self.rows, put(whole[self.rows], position, values, real))

    def __str__(self) -> str:
        said, seen = int(self.chosen.sum()), int(self.real[:, self.held :].sum())
        return f"step {self.index}: {said} said beside {seen} latents, {self.entries} entries a row"


def put(into: Tensor, position: Tensor, values: Tensor, real: Tensor) -> Tensor:
    """`into` `[batch, seq]` with `values` `[batch, m]` at `position` `[batch, m]` where `real` `[batch, m]`."""
    # What is not real goes to a column past the end: it may share a position with what is.
    wide = torch.cat([into, into[:, :1]], dim=1)
    index = torch.where(real, position, into.shape[1])
    return wide.scatter(1, index, values.to(into.dtype))[:, :-1]


def last(steps: Iterator[Step], tokens: Tensor) -> Tensor:
    """The tokens `[batch, seq]` after the last step, or `tokens` where there was nothing to say."""
    for step in steps:
        tokens = step.tokens
    return tokens

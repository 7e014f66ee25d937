"""What a decoder tells of every pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """What one forward pass did, for its r rows of the batch: those that are done are in no pass of `Slots`.

    tokens: `[batch, seq]` after the step, the mask id where still unsaid.
    rows: `[r]` the rows of the batch in the pass.
    position: `[r, m]` the unsaid positions in the pass, the candidates first; `real` `[r, m]` False for filling.
    n_candidates: how many of those m are candidates.
    said: `[r, k]` the positions said in this step, the best first, where `chosen` `[r, k]`.
    likeliest, probability: `[r, a]` at the first a of `position`: what the network would say there.
    entries: how many entries the pass held a row: the width that was computed, padding of short rows included.
    cached: how many entries of context a row were seen from the cache.
    asked: at how many entries a row the head ran: the candidates; the latents too where they are predicted.
    value: `[batch, seq, width]` after the step, where tokens are values: codes, -1 where not known yet; or vectors.
    """

    index: int
    tokens: Tensor
    rows: Tensor
    position: Tensor
    real: Tensor
    n_candidates: int
    said: Tensor
    chosen: Tensor
    likeliest: Tensor
    probability: Tensor
    entries: int
    cached: int
    asked: int
    mask_id: int
    value: Tensor | None = None

    @property
    def answer(self) -> Tensor:
        """What tasks show and judge: the tokens, or the values where tokens are values."""
        return self.tokens if self.value is None else self.value

    @classmethod
    def of_all(
        cls,
        index: int,
        tokens: Tensor,
        said: Tensor,
        chosen: Tensor,
        read: tuple[Tensor, Tensor],
        *,
        mask_id: int,
        entries: int,
        cached: int = 0,
        asked: int | None = None,
        position: Tensor | None = None,
        real: Tensor | None = None,
        value: Tensor | None = None,
    ) -> Step:
        """A pass over every row of the batch, that has no candidates but those that it may say.

        read: the likeliest tokens and their probabilities. asked: by default as many as were read.
        position, real: by default what is `said` and `chosen`; latents come after it.
        """
        likeliest, probability = read
        return cls(
            index=index,
            tokens=tokens,
            rows=torch.arange(len(tokens), device=tokens.device),
            position=said if position is None else position,
            real=chosen if real is None else real,
            n_candidates=said.shape[1],
            said=said,
            chosen=chosen,
            likeliest=likeliest,
            probability=probability,
            entries=entries,
            cached=cached,
            asked=likeliest.shape[1] if asked is None else asked,
            mask_id=mask_id,
            value=value,
        )

    @cached_property
    def committed(self) -> Tensor:
        """`[batch, seq]` bool, said in this step."""
        return self._spread(self.said, self.chosen, self.chosen, False)

    @cached_property
    def candidates(self) -> Tensor:
        """`[batch, seq]` bool; they hold the committed ones."""
        real = self.real[:, : self.n_candidates]
        return self._spread(self.position[:, : self.n_candidates], real, real, False)

    @cached_property
    def latents(self) -> Tensor:
        """`[batch, seq]` bool: predicted and not said."""
        real = self.real[:, self.n_candidates :]
        return self._spread(self.position[:, self.n_candidates :], real, real, False)

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
        said, seen = int(self.chosen.sum()), int(self.real[:, self.n_candidates :].sum())
        return f"step {self.index}: {said} said beside {seen} latents, {self.entries} entries a row"


def put(into: Tensor, position: Tensor, values: Tensor, real: Tensor) -> Tensor:
    """`into` `[batch, seq]` with `values` `[batch, m]` at `position` `[batch, m]` where `real` `[batch, m]`."""
    # What is not real goes to a column past the end: it may share a position with what is.
    wide = torch.cat([into, into[:, :1]], dim=1)
    index = torch.where(real, position, into.shape[1])
    return wide.scatter(1, index, values.to(into.dtype))[:, :-1]


def last(steps: Iterator[Step], tokens: Tensor) -> Tensor:
    """The tokens, or values, after the last step, or `tokens` where there was nothing to say."""
    for step in steps:
        tokens = step.answer
    return tokens

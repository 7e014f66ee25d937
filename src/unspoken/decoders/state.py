"""The rows of a batch that a decoding still has something to say in: those that are done leave it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unspoken.decoders.policies import Ahead
from unspoken.layout.entries import PADDING, Layout

_ON_CPU = ("left", "news", "length")


@dataclass
class DecodingState:
    """The rows that are still going, written into in place.

    Tensors `[r, seq + 1]` end in a column that means nothing, for what is not real to be written to (`bin`):
    tokens; value, `[r, seq + 1, width]` where tokens are values; unsaid and context, bool, what is to be said and what
    was; order, of the context; document, of what is there; entropy and looked, see `Ahead`; carried, `[r, seq + 1,
    width]` the states of the slots of the pass before, where the model carries them: 0 at all other positions, None
    before the first pass; foreseen, `[r, seq + 1, width]` what a predictor's states tell (`Layout.foreseen`), or None.

    index: `[r]` which of the batch they are.
    fresh, new: `[r, f]` context that the next pass computes beside a cache: positions, and which of them are real.
    count: `[r, 1]` how many were said.
    left, news, length: `[r]` on the CPU, how many are to be said, are fresh, and are there in all.
    """

    index: Tensor
    tokens: Tensor
    value: Tensor | None
    unsaid: Tensor
    context: Tensor
    order: Tensor
    document: Tensor
    entropy: Tensor
    looked: Tensor
    fresh: Tensor
    new: Tensor
    count: Tensor
    left: Tensor
    news: Tensor
    length: Tensor
    carried: Tensor | None = None
    foreseen: Tensor | None = None

    @property
    def seq(self) -> int:
        """Tokens a row; and the column that means nothing."""
        return self.tokens.shape[1] - 1

    def take(self, at: Tensor) -> DecodingState:
        """A copy of the rows `at`, a tensor on the CPU."""
        there = at.to(self.tokens.device)
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return DecodingState(
            **{n: None if v is None else v[at if n in _ON_CPU else there] for n, v in mine.items()}  # pyright: ignore
        )

    def put_back(self, at: Tensor, part: DecodingState) -> None:
        """The rows `at` (on the CPU) become those of `part`."""
        there = at.to(self.tokens.device)
        for f in fields(self):
            here = at if f.name in _ON_CPU else there
            if getattr(self, f.name) is None:
                continue
            setattr(self, f.name, getattr(self, f.name).index_copy(0, here, getattr(part, f.name)))

    def narrow(self) -> None:
        """Without the columns of the fresh context in which nothing is real."""
        width = int(self.news.max())
        self.fresh, self.new = self.fresh[:, :width], self.new[:, :width]

    def where(self, position: Tensor, real: Tensor) -> Tensor:
        """`[r, m]` columns to write to."""
        return torch.where(real, position, self.seq)

    def carry(self, layout: Layout, states: Tensor) -> None:
        """After a pass over `layout`: its slots' last states `[r, entries, width]` are those that the next may read."""
        at = self.where(layout.position, layout.unsaid)[..., None].expand_as(states)
        self.carried = states.new_zeros(*self.tokens.shape, states.shape[2]).scatter_(1, at, states)
        self.carried[:, -1] = 0

    def first(self) -> Tensor:
        """`[r, 1]`: the first unsaid position of each row; 0 where there is none."""
        return self.unsaid[:, :-1].to(torch.uint8).argmax(1, keepdim=True)

    def end(self, past: Tensor) -> None:
        """What is unsaid at the positions `past` `[r, seq]` is not there any more."""
        gone = self.unsaid.clone()
        gone[:, :-1] &= past
        gone[:, -1] = False
        self.unsaid = self.unsaid & ~gone
        self.document = torch.where(gone, PADDING, self.document)
        dropped = gone.sum(1).cpu()
        self.left, self.length = self.left - dropped, self.length - dropped

    def ahead(self, generator: torch.Generator) -> Ahead:
        """What is known before a pass."""
        return Ahead(self.unsaid[:, :-1], self.entropy[:, :-1], self.looked[:, :-1], generator)

    def said(self) -> tuple[Tensor, Tensor]:
        """The whole context, as `fresh` and `new`."""
        new, position = self.context[:, :-1].to(torch.uint8).topk(int((self.length - self.left).max()), dim=1)
        return position, new.bool()


def begin(tokens: Tensor, value: Tensor | None, unsaid: Tensor, present: Tensor) -> DecodingState:
    """All rows: the prompt is the context, and nothing was computed or seen."""
    bin_column = tokens.new_zeros(len(tokens), 1)
    wide = torch.cat([tokens, bin_column], dim=1)
    is_unsaid, context = (torch.cat([part, bin_column.bool()], dim=1) for part in (unsaid, present & ~unsaid))
    state = DecodingState(
        index=torch.arange(len(tokens), device=tokens.device),
        tokens=wide,
        value=None if value is None else torch.cat([value, value[:, :1]], dim=1),
        unsaid=is_unsaid,
        context=context,
        order=torch.zeros_like(wide),
        document=torch.where(context | is_unsaid, 0, PADDING),
        entropy=torch.full(wide.shape, math.inf, device=wide.device),
        looked=torch.full(wide.shape, -1.0, device=wide.device),
        fresh=bin_column[:, :0],
        new=bin_column[:, :0].bool(),
        count=torch.zeros_like(bin_column),
        left=unsaid.sum(1).cpu(),
        news=(present & ~unsaid).sum(1).cpu(),
        length=present.sum(1).cpu(),
    )
    if len(tokens):
        state.fresh, state.new = state.said()
    return state

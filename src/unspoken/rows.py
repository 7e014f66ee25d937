"""The rows of a batch that a decoding still has something to say in: those that are done leave it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unspoken.policies import Ahead

_ON_CPU = ("left", "length")


@dataclass(frozen=True)
class Rows:
    """The rows that are still going.

    index: `[r]` which of the batch they are. tokens: `[r, seq]`.
    unsaid, context: `[r, seq]` bool, what is to be said and what was. said_at: `[r, seq]` the orders of the context.
    entropy, looked: `[r, seq]`, see `Ahead`.
    fresh, new: `[r, f]` context that the next pass computes beside a cache: positions, and which of them are real.
    count: `[r, 1]` how many were said.
    left, length: `[r]` on the CPU, how many are to be said, and how many there are in all.
    """

    index: Tensor
    tokens: Tensor
    unsaid: Tensor
    context: Tensor
    said_at: Tensor
    entropy: Tensor
    looked: Tensor
    fresh: Tensor
    new: Tensor
    count: Tensor
    left: Tensor
    length: Tensor

    def take(self, at: Tensor) -> Rows:
        """The rows `at`, a tensor on the CPU."""
        there = at.to(self.tokens.device)
        return Rows(
            **{f.name: getattr(self, f.name)[at if f.name in ("left", "length") else there] for f in fields(self)}
        )

    def replaced(self, at: Tensor, part: Rows) -> Rows:
        """These rows, those `at` (on the CPU) as in `part`."""
        there = at.to(self.tokens.device)
        merged = {}
        for f in fields(self):
            mine, other = getattr(self, f.name), getattr(part, f.name)
            merged[f.name] = mine.index_copy(0, at if f.name in _ON_CPU else there, other)
        return Rows(**merged)

    def ahead(self, generator: torch.Generator) -> Ahead:
        """What is known before a pass."""
        return Ahead(self.unsaid, self.entropy, self.looked, generator)

    def said(self) -> tuple[Tensor, Tensor]:
        """The whole context, as `fresh` and `new`."""
        new, position = self.context.to(torch.uint8).topk(int((self.length - self.left).max()), dim=1)
        return position, new.bool()


def begin(tokens: Tensor, unsaid: Tensor, present: Tensor) -> Rows:
    """All rows: the prompt is the context, and nothing was computed or seen."""
    context = present & ~unsaid
    new, fresh = context.to(torch.uint8).topk(int(context.sum(1).max()) if len(tokens) else 0, dim=1)
    return Rows(
        index=torch.arange(len(tokens), device=tokens.device),
        tokens=tokens,
        unsaid=unsaid,
        context=context,
        said_at=torch.zeros_like(tokens),
        entropy=torch.full(tokens.shape, math.inf, device=tokens.device),
        looked=torch.full(tokens.shape, -1.0, device=tokens.device),
        fresh=fresh,
        new=new.bool(),
        count=torch.zeros_like(tokens[:, :1]),
        left=unsaid.sum(1).cpu(),
        length=present.sum(1).cpu(),
    )

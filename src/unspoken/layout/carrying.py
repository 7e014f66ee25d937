"""Two passes of training, the second of which reads states of the first.

In decoding, a slot may read the last state that its position had in the pass before (RELAY, arXiv 2605.22967). Between
two passes a decoder commits tokens. So here: of the masked tokens of a pass some are revealed, and a second pass over
the same entries asks for the rest. The gradient of its loss goes through both passes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.entries import Layout, uniform
from unspoken.layout.packing import Packed, ask_masks
from unspoken.messages import quoted

Reveal = int | Literal["uniform"]


def check_reveal(name: str, value: Any) -> None:
    """Raises ValueError for what is no number of tokens, and not `uniform`."""
    if value != "uniform" and (type(value) is not int or not 0 <= value <= checks.MOST):
        raise ValueError(f"{name}={quoted(value)}; give a whole number of tokens, 0 for one pass, or 'uniform'")


def two_passes(packed: Packed, x0: Tensor, reveal: Reveal, generator: torch.Generator | None = None) -> Packed:
    """A pass, and the one after some of its tokens are revealed; the loss is the mean of theirs.

    packed: a pass of masked diffusion (`random_order`) and its question. x0: `[batch, seq]` clean tokens.
    reveal: see `revealed`.
    """
    second = ask_masks(revealed(packed.layout, x0, reveal, generator), x0)
    half = [tuple(q.scaled(0.5) for q in each.questions) for each in (packed, second)]
    return Packed(packed.layout, half[0], Packed(second.layout, half[1]))


def revealed(layout: Layout, x0: Tensor, reveal: Reveal, generator: torch.Generator | None = None) -> Layout:
    """The same entries, some of the unsaid ones said, dated as a decoder that commits them in one pass would.

    layout: of `random_order`: the unsaid are ranked at random, so that the last of them are random ones. Under
        `ordered` attention they are those that see all others, as the tokens that a decoder commits do.
    x0: `[batch, seq]` clean tokens.
    reveal: how many of a row are said; `uniform` draws from 1 to all but one. At least one stays unsaid.
    """
    unsaid = layout.unsaid
    left = unsaid.sum(1, keepdim=True)
    count = torch.full_like(left, 0 if reveal == "uniform" else reveal)
    if reveal == "uniform":
        count = 1 + (uniform(left, generator) * (left - 1)).long()
    count = torch.minimum(count, left - 1)
    now = unsaid & (layout.order >= left - count)
    before = (layout.said & (layout.order > 0)).sum(1, keepdim=True)  # one of each order from 1 on
    order = torch.where(now, before + left - layout.order, layout.order)
    return replace(
        layout,
        token=torch.where(now, x0.gather(1, layout.position), layout.token),
        order=order,
        horizon=torch.where(now, order + 1, layout.horizon),
        block=torch.where(now, -1, layout.block),
    )

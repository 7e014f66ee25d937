"""The logits of open slots, each read beside as many of the others as asked: in one pass where one gives them all."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unspoken.layout.entries import FOREVER, PADDING, Layout
from unspoken.model.network import Model

ROWS = 64  # slots that are asked in passes of their own, this many passes together


def slot_logits(model: Model, layout: Layout, position: Tensor, is_open: Tensor, latents: int | None) -> Tensor:
    """Logits `[batch, s, vocab]` at the slots `position` `[batch, s]` of a layout of whole rows (`one_block`).

    is_open: `[batch, s]` bool, which of those are slots; the logits of the others may be anything.
    latents: how many other slots are in the pass beside the one that is read; None for all. See `readings_ids`.
    """
    attention, all_others = model.attention, latents is None
    if attention.latents == "alone" or (all_others and attention.latents == "joint"):
        return model(layout, position)
    if latents == 0 and not attention.context_sees_latents:
        apart = torch.where(layout.unsaid, layout.position, layout.block)  # each slot a block: none sees another
        return model(replace(layout, block=apart), position)
    return _one_by_one(model, layout, position, is_open, latents)


def _one_by_one(model: Model, layout: Layout, position: Tensor, is_open: Tensor, latents: int | None) -> Tensor:
    """Logits `[batch, s, vocab]` of a pass for every slot, which holds `latents` others beside it."""
    row, column = is_open.nonzero(as_tuple=True)
    found: list[Tensor] = []
    for first in range(0, len(row), ROWS):
        part, slot = layout.rows(row[first : first + ROWS]), position[row, column][first : first + ROWS, None]
        distance = (part.position - slot).abs() * 2 + (part.position > slot)  # 0 is the slot itself
        rank = torch.where(part.unsaid, distance, FOREVER).argsort(1).argsort(1)
        left_out = part.unsaid & (rank > (part.shape[1] if latents is None else latents))
        order = torch.where(part.unsaid, part.position, part.order).scatter(1, slot, part.shape[1])
        asked = replace(part, order=order, document=torch.where(left_out, PADDING, part.document))
        # What is left out leaves the pass, and the slot's entry moves.
        kept = asked.document != PADDING
        place = (kept.cumsum(1) - 1).gather(1, slot)
        found.append(model(asked.select_where(kept), place)[:, 0])
    logits = torch.cat(found)
    whole = logits.new_zeros(*position.shape, logits.shape[-1])
    whole[row, column] = logits
    return whole

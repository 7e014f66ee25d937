"""Queries: unsaid positions that are all asked in one pass, and the paths of tokens and blanks that they say.

By NARVL (arXiv 2403.02249), after connectionist temporal classification (Graves et al. 2006).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.entries import Layout, first_where
from unspoken.layout.packing import Clean, blocks, slot_of


def queries(clean: Clean, mask_id: int, size: Tensor | None = None) -> tuple[Layout, Tensor]:
    """The prompt as context and every unsaid position as a query; and the queries' entries `[batch, most]` in order.

    size: `[batch, 1]`: so many neighbouring queries see each other, at least 1; None for all. No query sees what any
        other is said to be.
    """
    slots = torch.arange(clean.most, device=clean.x0.device)
    layout = blocks(clean, torch.zeros_like(clean.free), slots[None], mask_id)
    if size is not None:
        block = slot_of(layout, clean.x0.shape[1]) // size.clamp_min(1)
        layout = replace(layout, block=torch.where(layout.unsaid, block, layout.block))
    return layout, first_where(layout.unsaid, clean.most)


def collapse(path: Tensor, blank: int) -> Tensor:
    """`[..., m]`: paths with repeats merged and blanks dropped, filled up with blanks.

    path: `[..., m]` ids.
    """
    checks.count("blank", blank)
    first = torch.ones_like(path[..., :1], dtype=torch.bool)
    keep = torch.cat([first, path[..., 1:] != path[..., :-1]], -1) & (path != blank)
    index = keep.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    there = torch.arange(path.shape[-1], device=path.device) < keep.sum(-1, keepdim=True)
    return torch.where(there, path.gather(-1, index), blank)

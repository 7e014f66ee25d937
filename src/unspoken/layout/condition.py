"""What is known before anything is said: a pass without its noise, its times and what was said so far."""

from __future__ import annotations

from dataclasses import replace

import torch

from unspoken.layout.entries import FOREVER, PADDING, Layout, rank_of


def condition_of(layout: Layout, mask_id: int) -> Layout:
    """The same entries when nothing but the prompt (context of order 0) is said: all others are one block of masks.

    So it does not change while a sequence is decoded. Values that are not the prompt's are hidden (0), and no time is
    shown. The masks are ranked from the left, which matters under `ordered` attention alone.
    """
    given = layout.said & (layout.order == 0)
    free = ~given & (layout.document != PADDING)
    value = None if layout.value is None else torch.where(given[..., None], layout.value, 0)
    return replace(
        layout,
        token=torch.where(given, layout.token, mask_id),
        order=torch.where(free, rank_of(layout.position, free), 0),
        horizon=torch.where(given, 1, FOREVER),
        block=torch.where(given, -1, 0),
        time=None,
        value=value,
        carried=None,
        foreseen=None,
    )

"""The shift by one: the answer for a position is read at the entry to its left, as a causal model reads it.

Dream (arXiv 2508.15487) and DiffuLLaMA (arXiv 2410.17891) were made from causal models and keep this habit. What an
entry reads does not change: the mask at its own position. Only where the head is asked does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unspoken.layout.entries import PADDING, Layout, entries_of
from unspoken.model.cache import Cache


def answering(states: Tensor, layout: Layout, at: Tensor | None, cache: Cache | None, shift: bool) -> Tensor:
    """The states `[batch, m, width]` at which the head answers for the entries `at` `[batch, m]` (all when None).

    states: `[batch, entries, width]` the last ones of a pass over `layout`. cache: what the pass saw beside it, with
        its last states. shift: those of `left_of`, else those of the entries themselves.
    """
    if not shift:
        return states if at is None else entries_of(states, at)
    if at is None:
        at = torch.arange(layout.shape[1], device=states.device).expand(layout.shape)
    if cache is None or cache.states is None:
        return entries_of(states, left_of(layout, at))
    answers = left_of(cache.before(layout), at + len(cache))
    return entries_of(torch.cat([cache.states, states], 1), answers)


def left_of(seen: Layout, at: Tensor) -> Tensor:
    """`[batch, m]`: which of the entries `seen` answers for each of the entries `at` `[batch, m]`.

    For an unsaid entry it is the entry of its block at the position before its own; where its block has none, the
    context token there, if the entry sees it. A said entry is asked for the token after it, and answers itself.
    Raises ValueError where there is neither: at position 0, and where the token before is unsaid and not in the block.
    """
    if not at.numel():
        return at
    blocks, places = seen.block.max() + 2, seen.position.max() + 2
    # One number for document, block and position. Positions count from 1, so that nothing is to the left of the first.
    key = (seen.document * blocks + seen.block + 1) * places + seen.position + 1
    key, index = torch.where(seen.document == PADDING, -1, key).sort(dim=1)

    def find(wanted: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.searchsorted(key, wanted.contiguous()).clamp_max(key.shape[1] - 1)
        return index.gather(1, found), key.gather(1, found) == wanted

    document, block, position = (field.gather(1, at) for field in (seen.document, seen.block, seen.position))
    peer, is_peer = find((document * blocks + block + 1) * places + position)
    said, is_said = find(document * blocks * places + position)
    is_said = is_said & (seen.order.gather(1, said) < seen.horizon.gather(1, at))
    unsaid = seen.unsaid.gather(1, at)
    _check(unsaid & ~is_peer & ~is_said, position)
    return torch.where(unsaid, torch.where(is_peer, peer, said), at)


def _check(missing: Tensor, position: Tensor) -> None:
    """Raises ValueError where an entry asked is `missing` `[batch, m]` the one to its left."""
    if not bool(missing.any()):
        return
    row, column = missing.nonzero()[0].tolist()
    where = int(position[row, column])
    if where == 0:
        raise ValueError(
            f"shift=True and position 0 of row {row} is asked: the answer is read at the position before it, and there "
            "is none; begin every row with a given token, such as BOS"
        )
    raise ValueError(
        f"shift=True: the answer for position {where} of row {row} is read at position {where - 1}, whose token is "
        "unsaid and not in the same block of the pass; take all latents or the order left_to_right, and in training "
        "an objective whose blocks hold neighbours"
    )

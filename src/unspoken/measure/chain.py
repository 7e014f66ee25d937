"""The exact likelihood of a sequence along an order: one token at a time, each in view of those before it."""

from __future__ import annotations

import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.entries import draw_ranks, one_block
from unspoken.layout.packing import Packed, ask_masks, ask_values, show_values
from unspoken.model.denoiser import Denoiser
from unspoken.tasks.base import Examples
from unspoken.training.losses import losses_in_parts


@torch.no_grad()
def chain_nll(
    model: Denoiser,
    examples: Examples,
    *,
    latents: int | None = None,
    rank: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`[n]`: -log p(what is not given | what is) in nats, of ids or of codes, said one token at a time.

    As many passes as tokens are not given. The probabilities of all sequences sum to 1 for every order; over random
    orders, exp of the mean of -log p is no more than the likelihood of the mixture of orders.

    latents: how many of the other unsaid tokens, those that come next, share a pass with the one asked; None for all.
    rank: `[n, length]` when each token is said, 0, 1, ... among those not given; by default a uniformly random order
        for every row.
    Raises ValueError where vectors are asked, which have no probabilities, and for rows that are not whole.
    """
    checks.seeded(generator)
    if latents is not None:
        checks.count("latents", latents)
    value, given = examples.whole().value, examples.given
    if value is not None and value.is_floating_point() and not examples.says_ids:
        raise ValueError("vectors have a density, and no probability: give a task of ids or of codes")
    if rank is None:
        rank = draw_ranks(~given, generator)
    checks.ranks(rank, given)
    total = torch.zeros(len(examples), dtype=torch.float64)
    for step in range(int((~given).sum(1).max()) if len(examples) else 0):
        packed = _asked(model.mask_id, examples, torch.where(given, -1, rank), step, latents)
        packed = packed.to(model.device)
        losses = losses_in_parts(model, packed).double() * packed.one.real
        total += losses.sum(1).cpu()
    return total


def _asked(mask_id: int, examples: Examples, rank: Tensor, step: int, latents: int | None) -> Packed:
    """The pass that says the token of rank `step`; what is given has rank -1."""
    unsaid = rank >= step
    tokens = torch.where(unsaid, mask_id, examples.x0)
    layout = one_block(tokens, unsaid, torch.where(unsaid, rank - step, rank + 1))
    if latents is not None:
        layout = layout.without(rank > step + latents)
    packed = ask_masks(layout, examples.x0, rank == step)
    if examples.value is None:
        return packed
    if examples.says_ids:
        return show_values(packed, examples.value, mask_id)
    return ask_values(packed, examples.value, mask_id)

"""The losses of a pass in nats, unreduced, and the noise that masked diffusion is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from unspoken.layout.entries import Layout, random_order
from unspoken.layout.packing import Packed, ask_masks
from unspoken.layout.pricing import by_entry, price
from unspoken.model.denoiser import Denoiser
from unspoken.noise import Absorbing, Ids
from unspoken.noise.times import stratified_times

NUMBERS = 1 << 26  # see `losses_in_parts`: 256 MB in float32
Forward = Callable[..., Any]  # a `Model`, or one that a launcher has wrapped


def packed_losses(model: Forward, packed: Packed) -> Tensor:
    """The losses of what a pass is asked, `[batch, m]`: in nats, or squared units; 0 where a row has nothing to ask.

    The losses of several questions stand one after the other. One pass of the trunk, or two (`Packed.then`). A
    `Denoiser` runs each head on what is asked of it alone (`pricing`); any other `Model` is asked for logits.
    `Packed.reduce` reduces the losses to a training loss.
    """
    if _prices(model):
        losses = model(packed.layout, questions=packed.questions, then=packed.then)
    else:
        answers = _by_head(model, packed)
        losses = [price(q, answer, answers) for q, answer in zip(packed.asked, answers, strict=True)]
    return losses[0] if len(losses) == 1 else torch.cat(losses, 1)


@torch.no_grad()
def losses_in_parts(model: Denoiser, packed: Packed, numbers: int = NUMBERS) -> Tensor:
    """`packed_losses` without gradients, of as many rows at a time as memory is wanted for.

    numbers: of the largest tensor of the trunk, about, that a part may need; a part has one row at least.
    """
    rows, entries = packed.layout.shape
    size = entries * max(entries, 4 * model.trunk.config.hidden_size)
    size += sum(q.at.shape[1] * model.vocab_size for q in packed.asked if not by_entry(q.loss))
    most = max(1, numbers // max(1, size))
    parts = [packed_losses(model, packed.rows(first, first + most)) for first in range(0, rows, most)]
    return torch.cat(parts) if parts else packed_losses(model, packed)


def _prices(model: Forward) -> bool:
    """Whether a model takes questions and says what the answers cost, as a `Denoiser` does, wrapped or not."""
    if not isinstance(model, nn.Module):
        return False
    parameters = signature(model.forward).parameters
    return "questions" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _by_head(model: Forward, packed: Packed) -> tuple[Tensor, ...]:
    """The logits of every question to the head over ids: one call of any `Model`."""
    at = packed.questions[0].at if len(packed.questions) == 1 else torch.cat([q.at for q in packed.questions], 1)
    return model(packed.layout, at).split([q.at.shape[1] for q in packed.questions], 1)


def token_losses(model: Forward, layout: Layout, x0: Tensor) -> Tensor:
    """Cross-entropy in nats of every unsaid token of a pass, put back in its place: `[batch, seq]`, 0 elsewhere.

    layout: entries in any order or number, at most one unsaid entry a position; x0: `[batch, seq]` clean tokens.
    """
    packed = ask_masks(layout, x0)
    losses = packed_losses(model, packed)
    # scatter_add, so that the padding of short rows (set to 0) may share a place with a real loss
    places = layout.position.gather(1, packed.one.at)
    return torch.zeros(x0.shape, dtype=losses.dtype, device=losses.device).scatter_add(1, places, losses)


@dataclass(frozen=True)
class Noised:
    """A batch on its way through the process: `xt`, `t`, `unsaid`, each `[batch, seq]`, and its training layout."""

    xt: Tensor
    t: Tensor
    unsaid: Tensor
    layout: Layout


def noised(
    process: Absorbing, x0: Tensor, given: Tensor, mask_id: int, generator: torch.Generator | None = None
) -> Noised:
    """Draws a time a row (stratified over the batch), noises what is not given, and lays it out in random order.

    Raises ValueError for a process that is not masks alone.
    """
    if not process.absorbs:
        raise ValueError(f"{process} has other noise than masks; take Absorbing(), or measure it by nelbo_along")
    t = stratified_times(x0.shape[0], generator, x0.device)[:, None].expand(x0.shape)
    xt = torch.where(given, x0, process.sample(x0, t, Ids(mask_id), generator))
    unsaid = (xt == mask_id) & ~given
    return Noised(xt, t, unsaid, random_order(xt, unsaid, given, generator))


def bound_weight(process: Absorbing, z: Noised) -> Tensor:
    """`[batch, seq]`: what a token's loss weighs in the NELBO. The sum over a row is an unbiased estimate of its bound.

    Only masked tokens are weighed: where t is 0 the weight is infinite, and nothing is masked.
    """
    return torch.where(z.unsaid, process.nelbo_weight(z.t), 0.0)

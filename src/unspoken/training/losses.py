"""The losses of a pass in nats, unreduced, and the noise that masked diffusion is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unspoken.layout.entries import Layout, random_order
from unspoken.layout.packing import Packed, ask_masks
from unspoken.layout.questions import Distilled, Question
from unspoken.noise import Absorbing, Ids
from unspoken.noise.times import stratified_times

Forward = Callable[..., Any]  # a `Model`, or one that a launcher has wrapped


def packed_losses(model: Forward, packed: Packed) -> Tensor:
    """The losses of what a pass is asked, `[batch, m]`: in nats, or squared units; 0 where a row has nothing to ask.

    The losses of several questions stand one after the other. One pass of the trunk, or two (`Packed.then`); each head
    runs on the entries that are asked of it alone. `Packed.reduce` reduces them to a training loss.
    """
    if packed.then is not None:
        answers = model(packed.layout, questions=packed.questions, then=packed.then)
    elif all(q.port == "ids" for q in packed.questions):
        answers = _by_head(model, packed)
    else:
        answers = model(packed.layout, questions=packed.questions)
    losses = [
        torch.where(q.real, _price(q, answer, answers), 0.0) for q, answer in zip(packed.asked, answers, strict=True)
    ]
    return losses[0] if len(losses) == 1 else torch.cat(losses, 1)


def _price(question: Question, answer: Any, answers: Sequence[Any]) -> Tensor:
    """What an answer costs; a distilled one is compared with another question's as well."""
    loss = question.loss
    if isinstance(loss, Distilled):
        return loss(answer, question.target, answers[loss.question].detach())
    return loss(answer, question.target)


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

"""Decoding through noise: all tokens at once, each at a time of its own, along a path from the prior to clean.

One loop for discrete and Gaussian tokens, and for every path: what one pass does to the tokens is a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from unspoken.decoders.decode import check_tokens
from unspoken.decoders.step import Step
from unspoken.layout.entries import draw_ranks
from unspoken.model.denoiser import Model
from unspoken.model.prediction import Prediction, guided, predictor
from unspoken.noise import Absorbing, AnyProcess, Discrete, Gaussian, Ids, Views
from unspoken.noise.gaussian import View
from unspoken.noise.times import Diagonal, Path

P = TypeVar("P")
# What a pass does: the prediction, the state, its times before and after, and the randomness, to the next state.
Advance = Callable[[P, Tensor, Tensor, Tensor, torch.Generator | None], Tensor]


@dataclass(frozen=True)
class Move(Generic[P]):
    """What one pass of a walk did.

    z: the state after it, `[batch, seq]` tokens or `[batch, seq, width]` vectors. t: its times, `[batch, seq]`.
    changed: `[batch, seq]` bool, where the state is another. prediction: what the network said.
    """

    index: int
    z: Tensor
    t: Tensor
    changed: Tensor
    prediction: P


@torch.no_grad()
def walk(
    predict: Callable[[Tensor, Tensor], P],
    advance: Advance[P],
    z: Tensor,
    given: Tensor,
    *,
    steps: int,
    path: Path | None = None,
    rank: Tensor | None = None,
    shown: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Move[P]]:
    """From the prior to clean in `steps` passes along a path; yields each.

    predict: of the state and its times. advance: `ancestral`, `remasking` or `gaussian`.
    z: the state at the prior, what is given in place. given: `[batch, seq]` bool; it never changes.
    rank: in which order the path takes the free tokens, by default from the left.
    shown: the network is shown no time below this: a little doubt at what is final (Diffusion Forcing's stabilisation).
        The state does not notice.
    """
    path = path or Diagonal()
    _check_walk(steps, shown)
    if not len(z):
        return
    times = path.grid(steps, given, rank)
    for index in range(steps):
        t, s = times[index].to(z.device), times[index + 1].to(z.device)
        prediction = predict(z, t.clamp_min(shown))
        moved = advance(prediction, z, t, s, generator)
        changed = moved != z if z.dim() == 2 else (moved != z).any(-1)
        z = moved
        yield Move(index, z, s, changed, prediction)


def ancestral(process: Discrete, mask_id: int) -> Advance[Prediction]:
    """z_s ~ p(z_s | z_t) of every token on its own (`Discrete.bridge`), for any process."""

    def advance(prediction: Prediction, z: Tensor, t: Tensor, s: Tensor, generator: torch.Generator | None) -> Tensor:
        guess = prediction.leave_one_out(z, process.marginal(t, Ids(mask_id))).softmax(-1)
        return draw(process.bridge(guess, z, t, s, Ids(mask_id)), generator)

    return advance


def remasking(process: Absorbing, mask_id: int, share: float) -> Advance[Prediction]:
    """ReMDM (Wang et al. 2025, arXiv 2503.00307): said tokens are masked again with a probability, and said anew.

    share: of the largest probability at which a token's marginals stay what they were, min(1, (1 - alpha_s) / alpha_t).
    """

    def advance(prediction: Prediction, z: Tensor, t: Tensor, s: Tensor, generator: torch.Generator | None) -> Tensor:
        alpha_t, alpha_s = process.alpha(t), process.alpha(s)
        tiny = torch.finfo(alpha_t.dtype).tiny
        again = share * ((1 - alpha_s) / alpha_t.clamp_min(tiny)).clamp_max(1) * (s < t)
        speak = (alpha_s - (1 - again) * alpha_t) / (1 - alpha_t).clamp_min(tiny)
        device = z.device if generator is None else generator.device
        u = torch.rand(z.shape, generator=generator, dtype=t.dtype, device=device).to(z.device)
        said = draw(prediction.logits.softmax(-1), generator)
        masked = z == mask_id
        return torch.where(
            masked, torch.where((u < speak) & (s < t), said, mask_id), torch.where(u < again, mask_id, z)
        )

    return advance


def gaussian(process: Gaussian, view: View) -> Advance[Tensor]:
    """One step of DDIM, or ancestral by the process's `eta`; the network predicts a `view`.

    Raises ValueError for eps: a walk begins at t = 1, where eps is all that z is and does not tell x0.
    """
    if view == "eps":
        raise ValueError("a walk begins at t = 1, where eps does not tell x0: let the network predict x0, v or u")

    def advance(prediction: Tensor, z: Tensor, t: Tensor, s: Tensor, generator: torch.Generator | None) -> Tensor:
        views: Views = process.views(prediction, z, t.to(z.dtype), view)
        return process.step(views, z, t.to(z.dtype), s.to(z.dtype), generator)

    return advance


def denoise(
    model: Model,
    process: AnyProcess,
    tokens: Tensor,
    *,
    steps: int,
    path: Path | None = None,
    random_order: bool = False,
    remask: float = 0.0,
    guidance: float = 1.0,
    shown: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Move[Prediction]]:
    """Says all tokens that are masks, under any process, in `steps` passes; the others are given and stay.

    tokens: `[batch, seq]` int64, the mask id where unsaid: prompts and infilling are one thing.
    path: how the times of the tokens run from 1 to 0; by default all together.
    random_order: the path takes the tokens in random order, not from the left.
    remask: above 0, under `Absorbing`: said tokens may be masked again (see `remasking`).
    guidance: classifier-free, 1 is none (see `prediction.guided`).
    shown: see `walk`.
    generator: every random choice; None = a fresh one of seed 0.
    Raises ValueError on tokens outside the vocabulary, and on what does not go together.
    """
    check_tokens(model, tokens)
    mask_id, given = model.mask_id, tokens != model.mask_id
    if isinstance(process, Gaussian):
        raise ValueError(f"{process} noises vectors, and these tokens are ids")
    if model.vocab_size != mask_id + 1 and not process.absorbs:
        raise ValueError(
            f"{model.vocab_size} token ids with the mask at {mask_id}: the noise of {process} is drawn from the ids "
            "below the mask, so the mask should be the last one"
        )
    if not 0 <= remask <= 1 or (remask and not isinstance(process, Absorbing)):
        raise ValueError(f"remask={remask} under {process}: give a share in [0, 1], above 0 under Absorbing alone")
    _check_walk(steps, shown)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    blind = process.prior(tokens, torch.zeros_like(given), Ids(mask_id), generator) if guidance != 1 else tokens
    predict = guided(predictor(model, given), given, guidance, blind)
    advance = ancestral(process, mask_id)
    if remask and isinstance(process, Absorbing):
        advance = remasking(process, mask_id, remask)
    start = process.prior(tokens, given, Ids(mask_id), generator)
    rank = draw_ranks(~given, generator) if random_order else None
    return walk(predict, advance, start, given, steps=steps, path=path, rank=rank, shown=shown, generator=generator)


def as_steps(moves: Iterator[Move[Prediction]], given: Tensor, mask_id: int, first: int = 0) -> Iterator[Step]:
    """Moves as the other decoders tell theirs: every free token is a candidate, and what changes to a token is said.

    first: the number of the first.
    """
    position = torch.arange(given.shape[1], device=given.device).expand_as(given)
    for move in moves:
        probability, likeliest = move.prediction.logits.softmax(-1).max(-1)
        yield Step(
            index=first + move.index,
            tokens=move.z,
            rows=torch.arange(len(given), device=given.device),
            position=position,
            real=~given,
            held=given.shape[1],
            said=position,
            chosen=move.changed & (move.z != mask_id),
            likeliest=likeliest,
            probability=probability,
            entries=given.shape[1],
            cached=0,
            asked=given.shape[1],
            mask_id=mask_id,
        )


def _check_walk(steps: int, shown: float) -> None:
    if steps < 1 or not 0 <= shown < 1:
        raise ValueError(f"steps={steps}, shown={shown}: give 1 step or more, and a time in [0, 1)")


def draw(p: Tensor, generator: torch.Generator | None) -> Tensor:
    """`[batch, m]`: one token each of `p` `[batch, m, vocab]`."""
    device = p.device if generator is None else generator.device
    return torch.multinomial(p.flatten(0, 1).to(device), 1, generator=generator).view(p.shape[:2]).to(p.device)

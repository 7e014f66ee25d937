"""Walks through noise: all tokens at once, each at a time of its own, along a path from the prior to clean.

One loop for discrete and Gaussian tokens, and for every path: what one pass does to the tokens is a function.
`denoise` makes a decoder of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import Numbers, check_answers, check_path
from unspoken.model.prediction import Prediction
from unspoken.noise import Absorbing, Discrete, Gaussian, Ids, Views
from unspoken.noise.gaussian import View
from unspoken.noise.times import Diagonal, Path

P = TypeVar("P")
# What a pass does: the prediction, the state, its times before and after, and the randomness, to the next state.
Advance = Callable[[P, Tensor, Tensor, Tensor, torch.Generator | None], Tensor]


@dataclass(frozen=True)
class DenoisingStep(Generic[P]):
    """What one pass of a walk did.

    z: the state after it, `[batch, seq]` tokens or `[batch, seq, width]` vectors. t: its times, `[batch, seq]`.
    changed: `[batch, seq]` bool, where the state is another. prediction: what the network said.
    """

    index: int
    z: Tensor
    t: Tensor
    changed: Tensor
    prediction: P


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
) -> Iterator[DenoisingStep[P]]:
    """From the prior to clean in `steps` passes along a path; yields each.

    predict: of the state and its times. advance: `ancestral`, `remasking` or `gaussian`.
    z: the state at the prior, what is given in place. given: `[batch, seq]` bool; it never changes.
    rank: in which order the path takes the free tokens, by default from the left.
    shown: the network is shown no time below this: a little doubt at what is final (Diffusion Forcing's stabilisation).
        The state does not notice.
    Raises ValueError for numbers and shapes that make no walk, and while it walks for a prediction that is no number.
    """
    checks.function("predict", predict, "the state and its times to a prediction")
    checks.function("advance", advance, "us.walk's other argument, such as `ancestral` makes")
    check_walk(steps, shown, path, generator)
    checks.kind("z", z, Tensor, "a tensor, [batch, seq] or [batch, seq, width]")
    checks.tensor("given", given, torch.bool, z.shape[:2])
    checks.ranks(rank, given)
    if not z.numel():
        return iter(())
    times = (path or Diagonal()).grid(steps, given, rank)
    return _walk(predict, advance, z, given, times, shown, generator)


@torch.no_grad()
def _walk(
    predict: Callable[[Tensor, Tensor], P],
    advance: Advance[P],
    z: Tensor,
    given: Tensor,
    times: Tensor,
    shown: float,
    generator: torch.Generator | None,
) -> Iterator[DenoisingStep[P]]:
    """The loop of `walk`, whose arguments are checked."""
    numbers, rows = Numbers(z.device), torch.arange(len(z), device=z.device)
    for index in range(len(times) - 1):
        t, s = times[index].to(z.device), times[index + 1].to(z.device)
        prediction = predict(z, t.clamp_min(shown))
        if isinstance(prediction, Prediction):  # of which a token is drawn: that waits for the device too
            check_answers(index, prediction.logits.amax(-1) * 0)  # nan where that is infinite
        elif isinstance(prediction, Tensor):
            numbers.see(index, (prediction * 0).sum(-1), ~given, rows, waits=False)
        moved = advance(prediction, z, t, s, generator)
        changed = moved != z if z.dim() == 2 else (moved != z).any(-1)
        z = moved
        yield DenoisingStep(index, z, s, changed, prediction)
    numbers.end()


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


def check_walk(steps: int, shown: float, path: Path | None, generator: torch.Generator | None) -> None:
    """Raises ValueError for a walk of no steps, and for a time that is none; TypeError for what is no path."""
    checks.count("steps", steps, 1)
    checks.number("shown", shown, 0, checks.BELOW_1, "a time in [0, 1)")
    check_path(path)
    checks.seeded(generator)


def draw(p: Tensor, generator: torch.Generator | None) -> Tensor:
    """`[batch, m]`: one token each of `p` `[batch, m, vocab]`."""
    device = p.device if generator is None else generator.device
    return torch.multinomial(p.flatten(0, 1).to(device), 1, generator=generator).view(p.shape[:2]).to(p.device)

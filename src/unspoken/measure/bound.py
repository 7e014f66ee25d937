"""The bound on the likelihood along any monotone path of per-token times, for every process.

For token i whose time t_i(u) moves along a path, u from 0 to 1,

    -log p(x) <= int du sum_i t_i'(u) E_{z ~ q_t(. | x)} [ rate(z_i) / q(z_i | x_i) (KL + IS) ]  + the ends,

and for a prediction that leaves the token itself out, exactly made, it is the entropy on every path and for every
process (arXiv 2503.04482's bound, token by token). The ends are 0 where a path runs from clean to the prior.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unspoken import checks
from unspoken.messages import quoted
from unspoken.model.prediction import Predict
from unspoken.noise import AnyProcess, Discrete, Gaussian, Ids
from unspoken.noise.times import Diagonal, Path, stratified_times


def bound_density(
    predict: Predict, process: Discrete, x0: Tensor, z: Tensor, t: Tensor, speed: Tensor, mask_id: int
) -> Tensor:
    """The integrand at one u, `[batch]` nats: x0, z, t, speed `[batch, seq]`; tokens of speed 0 add nothing."""
    marginal = process.marginal(t, Ids(mask_id))
    logits = predict(z, t).leave_one_out(z, marginal).to(t.dtype)
    losses = process.weight(z, x0, t, Ids(mask_id)) * marginal.divergence(z, x0, logits)
    return torch.where(speed > 0, losses * speed, 0.0).sum(1)


def curved(u: Tensor) -> tuple[Tensor, Tensor]:
    """u^2 / (u^2 + (1 - u)^2) and its slope: ramps that leave both ends slowly, where integrands may have roots.

    A bound is the same for every timing (so this is its importance sampling), but its variance is not.
    """
    up, down = u**2, (1 - u) ** 2
    return up / (up + down), 2 * u * (1 - u) / (up + down) ** 2


@torch.no_grad()
def nelbo_along(
    predict: Predict,
    process: AnyProcess,
    x0: Tensor,
    given: Tensor,
    mask_id: int,
    *,
    path: Path | None = None,
    draws: int = 8,
    ends: tuple[float, float] = (0.0, 1.0),
    rank: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A Monte-Carlo estimate of the bound on -log p(x0 | given) along a path, in nats: `[batch, draws]`, each unbiased.

    x0, given: `[batch, seq]`. path: `Diagonal()` by default. rank: in which order the path takes the free tokens.
    ends: times that the path keeps between. Inside (0, 1) the model is one that begins with tokens guessed uniformly
        and noised to the late end, and ends with a draw of p(x | z) at the early one; what these lose is added, and so
        the number stays a bound.
    Times are stratified over the batch and the draws, and drawn more often near both ends (`curved`).
    """
    if isinstance(process, Gaussian):
        raise ValueError(f"{process} noises vectors: this bound is of ids; measure vectors by their squared error")
    checks.function("predict", predict, "tokens and their times to a us.Prediction")
    checks.kind("process", process, Discrete, "a process of ids, such as us.Absorbing()")
    checks.count("mask_id", mask_id)
    checks.clean(x0, given, mask_id, checks.MOST if process.absorbs else mask_id + 1)
    checks.kind("path", path, (Path, type(None)), "a path, such as us.Diagonal()")
    checks.count("draws", draws, 1)
    checks.ranks(rank, given)
    checks.seeded(generator)
    early, late = _checked(ends)
    path = path or Diagonal()
    us = stratified_times(draws * len(x0), generator, x0.device).double().view(draws, len(x0))
    estimates = []
    for u in us:
        ramp, speed = path.at(u, given, rank)
        t, slope = curved(ramp)
        t, speed = torch.where(given, 0.0, early + (late - early) * t), speed * slope * (late - early)
        z = torch.where(given, x0, process.sample(x0, t, Ids(mask_id), generator))
        estimates.append(bound_density(predict, process, x0, z, t, speed, mask_id))
    total = torch.stack(estimates, dim=1)
    if early > 0:
        total = total + _said_at(predict, process, x0, given, mask_id, early, generator)[:, None]
    if late < 1:
        total = total + _begun_at(process, x0, given, mask_id, late)[:, None]
    return total


def _checked(ends: tuple[float, float]) -> tuple[float, float]:
    """Raises ValueError for what is no early and no late time."""
    checks.kind("ends", ends, (tuple, list), "two times, (early, late)")
    for time in ends:
        checks.number("ends", time, 0, 1, "the early and the late time, each in [0, 1]")
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise ValueError(f"ends={quoted(ends)}: give the early and the late time, 0 <= early < late <= 1")
    return ends[0], ends[1]


def _said_at(
    predict: Predict,
    process: Discrete,
    x0: Tensor,
    given: Tensor,
    mask_id: int,
    early: float,
    generator: torch.Generator | None,
) -> Tensor:
    """`[batch]`: -log p(x0 | z) of all tokens at once, z ~ q at the early end."""
    t = torch.where(given, 0.0, torch.full(x0.shape, early, dtype=torch.float64, device=x0.device))
    z = torch.where(given, x0, process.sample(x0, t, Ids(mask_id), generator))
    said = predict(z, t).posterior(z, process.marginal(t, Ids(mask_id))).double().log_softmax(-1)
    # Where z decides, its logit is infinite, and the softmax of it no number.
    losses = -said.gather(2, x0[..., None])[..., 0]
    sure = process.noise(t, Ids(mask_id)).at(z) == 0
    return torch.where(given | sure, 0.0, losses).sum(1)


def _begun_at(process: Discrete, x0: Tensor, given: Tensor, mask_id: int, late: float) -> Tensor:
    """`[batch]`: KL(q_late(. | x0) | q_late(. | a uniform guess)), summed over the free tokens."""
    t = torch.full(x0.shape, late, dtype=torch.float64, device=x0.device)
    guess = torch.zeros(*x0.shape, mask_id + 1, dtype=torch.float64, device=x0.device)
    guess[..., mask_id] = -torch.inf
    guess = guess.log_softmax(-1)
    return torch.where(given, 0.0, process.marginal(t, Ids(mask_id)).kl(x0, guess)).sum(1)

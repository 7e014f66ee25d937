"""Noise on tokens: a clean token stays with probability alpha(t), else the state is drawn from the process's noise.

Each process says three things of the time tau in [0, 1] that its schedule makes of t: alpha, the noise's mass, and the
rate at which mass flows into a state (of the jump process, from whichever state). Everything else is written once. A
re-timing changes no bound, and so the schedule is the same few curves for all.

| process         | noise                                                       | literature                  |
| --------------- | ----------------------------------------------------------- | --------------------------- |
| `Absorbing`     | the mask                                                    | MDLM, arXiv 2406.07524      |
| `Uniform`       | any of the data's tokens                                    | UDLM, arXiv 2412.10193      |
| `Hybrid(p_u)`   | the mask at both ends, p_u on tokens in the middle          | GIDD, arXiv 2503.04482      |
| `SNRMix(a, b)`  | tokens while little is noise, the mask as all becomes noise | arXiv 2512.10858            |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from unspoken import checks
from unspoken.noise.marginal import Marginal, Mass
from unspoken.noise.schedule import Linear, Schedule
from unspoken.noise.space import Ids

LIMIT = 30.0  # |log-SNR| past this is as good as infinite; so exp(LIMIT) is, and a mix of b = 1000 has a prior


class Discrete(ABC):
    """What every process on tokens has. A final process is a frozen dataclass with a `schedule`."""

    schedule: Schedule
    absorbs: ClassVar[bool] = False  # all noise is the mask: what is not masked is clean

    def __post_init__(self) -> None:
        """Raises TypeError for what is no schedule."""
        schedule = getattr(self, "schedule", None)
        checks.has("schedule", schedule, ("alpha", "beta", "rate"), "a curve, such as us.Linear() or us.Cosine()")

    @abstractmethod
    def _alpha(self, tau: Tensor, rest: Tensor) -> Tensor:
        """Probability to be untouched. rest: 1 - tau, with a precision of its own."""

    @abstractmethod
    def _noise(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Mass of noise on the mask, and on all the data's tokens together; both sum to 1 - alpha."""

    @abstractmethod
    def _inflow(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Rates a unit of tau into the mask, and into all the data's tokens: noise' - (alpha' / alpha) noise."""

    def alpha(self, t: Tensor) -> Tensor:
        """Probability that a token is untouched at `t`, of any shape."""
        return self._alpha(self.schedule.beta(t), self.schedule.alpha(t))

    def noise(self, t: Tensor, space: Ids) -> Mass:
        """The mass of noise at `t` on the mask and on each of the tokens of the data."""
        mask, uniform = self._noise(self.schedule.beta(t), self.schedule.alpha(t))
        return self._mass(mask, uniform, space)

    def rate(self, t: Tensor, space: Ids) -> Mass:
        """How much mass flows into each state, a unit of t: (noise)' - (alpha' / alpha) noise (arXiv 2503.04482)."""
        mask, uniform = self._inflow(self.schedule.beta(t), self.schedule.alpha(t))
        speed = self.schedule.rate(t)
        return self._mass(mask * speed, uniform * speed, space)

    def _mass(self, mask: Tensor, uniform: Tensor, space: Ids) -> Mass:
        """uniform: of all the data's tokens together; where the mask is 0 there are none below it, and masks alone."""
        if not (space.mask_id or self.absorbs):
            raise ValueError(
                f"mask_id=0 under {self}: its noise is drawn from the ids below the mask; give one above 0"
            )
        return Mass(mask, uniform / max(space.mask_id, 1), space.mask_id)

    def marginal(self, t: Tensor, space: Ids) -> Marginal:
        """q_t(. | x) of tokens at times `t` `[batch, m]`."""
        return Marginal(self.alpha(t), self.noise(t, space))

    def log_snr_speed(self, t: Tensor) -> Tensor:
        """|d log((1 - tau) / tau) / dt|: divides weights a unit of time into weights a unit of log-SNR."""
        tau, rest = self.schedule.beta(t), self.schedule.alpha(t)
        return self.schedule.rate(t) * _inverse(tau * rest)

    def sample(self, x0: Tensor, t: Tensor, space: Ids, generator: torch.Generator | None = None) -> Tensor:
        """xt ~ q_t(. | x0): `[batch, seq]` token ids. `t` broadcasts against `x0`. One random number a token."""
        device = x0.device if generator is None else generator.device
        alpha = self.alpha(t)
        u = torch.rand(x0.shape, generator=generator, device=device, dtype=alpha.dtype).to(x0.device)
        if self.absorbs:
            return torch.where(u < alpha, x0, space.mask_id)
        noise = self.noise(t, space)
        drawn = ((u - alpha - noise.mask) / noise.each.clamp_min(torch.finfo(u.dtype).tiny)).long()
        noisy = torch.where(u < alpha + noise.mask, space.mask_id, drawn.clamp(0, space.mask_id - 1))
        return torch.where(u < alpha, x0, noisy)

    def prior(self, tokens: Tensor, given: Tensor, space: Ids, generator: torch.Generator | None = None) -> Tensor:
        """`[batch, seq]`: the tokens that are given, and noise of t = 1 everywhere else."""
        return torch.where(given, tokens, self.sample(tokens, torch.ones(()), space, generator))

    def weight(self, z: Tensor, x0: Tensor, t: Tensor, space: Ids) -> Tensor:
        """What `Marginal.divergence` weighs in the NELBO, a unit of t: rate(z) / q_t(z | x0), `[batch, m]`."""
        q = self.marginal(t, space).probability(z, x0)
        return self.rate(t, space).at(z) / q.clamp_min(torch.finfo(q.dtype).tiny)

    def bridge(self, guess: Tensor, z: Tensor, t: Tensor, s: Tensor, space: Ids) -> Tensor:
        """p(z_s | z_t = z), `[batch, m, vocab]`, for times s <= t: Bayes' rule with a guess in the clean token's place.

        q(z_t | z_s) q_s(z_s | guess) / q_t(z_t | guess): exact for a guess that leaves z_t itself out, as the NELBO
        trains it. Where s = t the token stays. guess: `[batch, m, vocab]`, 0 for the mask.
        """
        late, early = self.marginal(t, space), self.marginal(s, space)
        stay = late.alpha / early.alpha.clamp_min(torch.finfo(late.alpha.dtype).tiny)
        jump = (late.noise.at(z) - stay * early.noise.at(z)).clamp_min(0)
        p = early.probabilities(guess)  # what follows is in place
        same = p.gather(2, z[..., None]) * stay[..., None].to(p.dtype)
        p.mul_(jump[..., None]).scatter_add_(2, z[..., None], same)
        total = p.sum(-1, keepdim=True)
        # A token that can only be clean stays, also where rounding has left the guess nothing for it.
        moves = torch.as_tensor(s != t).expand(z.shape)[..., None] & (total > 0)
        p.div_(total.clamp_min(torch.finfo(p.dtype).tiny))
        return p.mul_(moves).scatter_add_(2, z[..., None], (~moves).to(p.dtype))


def _log_snr(tau: Tensor, rest: Tensor) -> Tensor:
    return (rest.log() - tau.log()).clamp(-LIMIT, LIMIT)


def _inverse(x: Tensor) -> Tensor:
    """1 / x, large and finite at 0: it meets a factor there that is 0."""
    return 1 / x.clamp_min(torch.finfo(x.dtype).tiny)


@dataclass(frozen=True)
class Absorbing(Discrete):
    """Each token turns into the mask on its own, and stays there: q(xt = x0) = alpha(t), else the mask.

    Masked diffusion (Sahoo et al. 2024, arXiv 2406.07524; Shi et al. 2024, arXiv 2406.04329).
    """

    schedule: Schedule = field(default_factory=Linear)
    absorbs: ClassVar[bool] = True

    def _alpha(self, tau: Tensor, rest: Tensor) -> Tensor:
        return rest

    def _noise(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        return tau, torch.zeros_like(tau)

    def _inflow(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        return _inverse(rest), torch.zeros_like(tau)

    def nelbo_weight(self, t: Tensor) -> Tensor:
        """What the cross-entropy of a masked token at time t weighs in the NELBO: -alpha' / beta.

        The general law's weight times its divergence, in closed form (arXiv 2406.07524, eq. 10). Same shape as `t`;
        infinite at t = 0, where no token is masked: weigh masked tokens alone (`likelihood.bound_weight`).
        """
        return self.schedule.rate(t) / self.schedule.beta(t)


@dataclass(frozen=True)
class Uniform(Discrete):
    """Each token is redrawn from all of the data's tokens: q(xt = x0) = alpha, else uniform (no mask is ever seen)."""

    schedule: Schedule = field(default_factory=Linear)

    def _alpha(self, tau: Tensor, rest: Tensor) -> Tensor:
        return rest

    def _noise(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(tau), tau

    def _inflow(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(tau), _inverse(rest)


@dataclass(frozen=True)
class Hybrid(Discrete):
    """GIDD: the mask at t = 1, clean at t = 0, and in between tokens that are wrong: the network learns to doubt.

    q_t(z | x) = [(1 - tau) x + tau m + c u] / (1 + c), c = B tau^(gamma/2) (1 - tau)^(gamma/2),
    B = 2^gamma p_u / (1 - p_u) (von Ruette et al. 2025, arXiv 2503.04482, eq. 8).

    Attributes:
        p_u: Mass of uniform noise in the middle, tau = 1/2; 0 is `Absorbing`.
        gamma: How fast it comes and goes; past 2 transition probabilities would be negative.
    """

    p_u: float = 0.2
    gamma: float = 1.0
    schedule: Schedule = field(default_factory=Linear)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number(
            "p_u", self.p_u, 0, checks.BELOW_1, "the share of uniform noise at the middle, in [0, 1), e.g. 0.2"
        )
        past = "past 2 transition probabilities would be negative"
        checks.number("gamma", self.gamma, checks.TINY, 2, f"a number in (0, 2]: {past}")

    def _bump(self, tau: Tensor, rest: Tensor) -> Tensor:
        """c: the weight of uniform noise, before all is divided by 1 + c."""
        return 2**self.gamma * self.p_u / (1 - self.p_u) * (tau * rest) ** (self.gamma / 2)

    def _alpha(self, tau: Tensor, rest: Tensor) -> Tensor:
        return rest / (1 + self._bump(tau, rest))

    def _noise(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        c = self._bump(tau, rest)
        return tau / (1 + c), c / (1 + c)

    def _inflow(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        c = self._bump(tau, rest)
        mask = _inverse(rest) / (1 + c)
        return mask, mask * c * (1 + self.gamma / 2 * (rest - tau) * _inverse(tau))


@dataclass(frozen=True)
class SNRMix(Discrete):
    """Noise that is a mixture by the log-SNR l = log((1 - tau) / tau): s = sigmoid(a l + b) of it is uniform.

    arXiv 2512.10858, whose a is 1 and b in {-1000 (masks), -2, 0, 2, 1000 (uniform)}.

    Attributes:
        a: How fast noise turns into masks as the signal fades, in [-1, 1]; other slopes are no process.
        b: More is more uniform.
    """

    a: float = 1.0
    b: float = 0.0
    schedule: Schedule = field(default_factory=Linear)

    def __post_init__(self) -> None:
        super().__post_init__()
        past = "past that mass would flow out of a state faster than it came in"
        checks.number("a", self.a, -1, 1, f"a slope in [-1, 1]: {past}")
        checks.number("b", self.b, -checks.HUGE, checks.HUGE, "a number: more is more uniform")

    def _shares(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """How much of the noise is the mask, and how much is uniform."""
        x = self.a * _log_snr(tau, rest) + self.b
        return torch.sigmoid(-x), torch.sigmoid(x)

    def _alpha(self, tau: Tensor, rest: Tensor) -> Tensor:
        return rest

    def _noise(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        mask, uniform = self._shares(tau, rest)
        return tau * mask, tau * uniform

    def _inflow(self, tau: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        mask, uniform = self._shares(tau, rest)
        return mask * (1 + self.a * uniform) * _inverse(rest), uniform * (1 - self.a * mask) * _inverse(rest)

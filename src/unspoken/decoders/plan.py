"""Who is in a pass of decoding from slots: a list of positions `[r, few]`, not a mask over the sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.policies import (
    LATENT_POLICIES,
    NEXT_IN_ORDER,
    ORDERS,
    UNIFORM_LATENTS,
    Around,
    LatentPolicy,
    Order,
    at_random,
)
from unspoken.decoders.rules import Rules, Width
from unspoken.decoders.state import DecodingState


@dataclass(frozen=True)
class Plan:
    """Positions `[r, m]` of unsaid tokens and which of them are real: `candidates` of them, then latents, in order."""

    position: Tensor
    real: Tensor
    candidates: int

    def take(self, at: Tensor) -> Plan:
        """The rows `at`."""
        return Plan(self.position[at], self.real[at], self.candidates)

    def first(self, width: Width) -> Plan:
        """With so many latents at most."""
        return Plan(self.position[:, : width.unsaid], self.real[:, : width.unsaid], self.candidates)


def plan_of(state: DecodingState, width: Width, rules: Rules) -> Plan:
    """A step's candidates, and its latents among the rest: as many as the step may come to."""
    c, m = width.candidates, width.most
    ahead = state.ahead(rules.generator)
    before = _scores(rules.order.before(ahead), ahead.unsaid, rules.order)
    alike = rules.latent_policy is NEXT_IN_ORDER or (
        rules.latent_policy is UNIFORM_LATENTS and rules.order.before is at_random
    )
    value, position = before.topk(c + m if alike else c, dim=1, largest=False)
    real = value < math.inf
    if alike or m == 0:
        return Plan(position, real, c)
    rest = state.unsaid.scatter(1, state.where(position, real), False)[:, :-1]
    score = rules.latent_policy.rank(Around(rest, position, real, before, ahead))
    value, latents = _scores(score, rest, rules.latent_policy).topk(m, dim=1, largest=False)
    return Plan(torch.cat([position, latents], dim=1), torch.cat([real, value < math.inf], dim=1), c)


def _scores(score: Tensor, among: Tensor, policy: Order | LatentPolicy) -> Tensor:
    """`[r, seq]`: the scores of those `among`, infinite for the others alone: whoever is scored so can be taken.

    Raises ValueError where a policy of one's own scores with what is no number.
    """
    ours = policy in ORDERS.values() or policy in LATENT_POLICIES.values()
    if not ours:
        checks.kind(f"the score of {policy.name!r}", score, Tensor, "a tensor, [r, seq]")
        if score.shape != among.shape or not score.is_floating_point():
            what = f"{policy.name!r} gives scores {score.dtype} of shape {tuple(score.shape)}"
            raise ValueError(f"{what}: give floats {tuple(among.shape)}, one a position")
        if bool(score[among].isnan().any()):
            raise ValueError(f"{policy.name!r} scores a position with nan: give numbers, the lowest for the first")
    return torch.where(among, score.clamp_max(torch.finfo(score.dtype).max), math.inf)

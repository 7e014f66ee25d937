"""Who is in a pass of decoding from slots: a list of positions `[r, few]`, not a mask over the sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.decoders.policies import NEXT_IN_ORDER, UNIFORM_LATENTS, Around, at_random
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
    before = torch.where(ahead.unsaid, rules.order.before(ahead), math.inf)
    alike = rules.latent_policy is NEXT_IN_ORDER or (
        rules.latent_policy is UNIFORM_LATENTS and rules.order.before is at_random
    )
    value, position = before.topk(c + m if alike else c, dim=1, largest=False)
    real = value < math.inf
    if alike or m == 0:
        return Plan(position, real, c)
    rest = state.unsaid.scatter(1, state.where(position, real), False)[:, :-1]
    score = rules.latent_policy.rank(Around(rest, position, real, before, ahead))
    value, latents = torch.where(rest, score, math.inf).topk(m, dim=1, largest=False)
    return Plan(torch.cat([position, latents], dim=1), torch.cat([real, value < math.inf], dim=1), c)

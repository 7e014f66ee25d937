"""How many of the best candidates a pass commits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.policies import entropy_of

# Log-probabilities `[r, k, vocab]` of the best candidates, the best first, and which are real `[r, k]`, to bool.
Rule = Callable[[Tensor, Tensor], Tensor]


def check_bounds(threshold: float, entropy_bound: float) -> None:
    """Raises ValueError for what is no probability, or no number of nats."""
    checks.number("threshold", threshold, 0, 1, "a probability")
    checks.number("entropy_bound", entropy_bound, 0, math.inf, "nats of 0 or more")


@dataclass(frozen=True)
class Commit:
    """How many of the best candidates are committed; the best one in any case.

    Attributes:
        most: Tokens a step, at most.
        threshold: Each after the best must have a likeliest token of this probability, and so must those before it.
        entropy_bound: The entropies of those before it must sum to at most this, in nats (EB-sampler, Ben-Hamu et al.
            2025, arXiv 2505.24857).
        rule: A function of your own: log-probabilities `[r, k, vocab]` of the best candidates, the best first, and
            which of them are real, `[r, k]`, to those that it would commit, `[r, k]` bool. The bounds hold beside it.
    """

    most: int = 1
    threshold: float = 0.0
    entropy_bound: float = math.inf
    rule: Rule | None = None

    def __post_init__(self) -> None:
        checks.count("commit", self.most, 1)
        if self.rule is not None:
            checks.function("rule", self.rule, "log-probabilities of the candidates to bool")
        if self.rule is not None and self.most == 1:
            raise ValueError(
                "a rule chooses among the `most` best candidates, and most=1: give Commit(most=8, rule=...)"
            )
        check_bounds(self.threshold, self.entropy_bound)

    @property
    def fixed(self) -> bool:
        """Whether the number is known ahead."""
        return self.most == 1 or (self.rule is None and self.threshold == 0 and math.isinf(self.entropy_bound))

    def among(self, logp: Tensor, real: Tensor) -> Tensor:
        """`[r, k]` bool: which of the k best candidates are committed.

        logp: `[r, k, vocab]` of the best candidates, the best first; real: `[r, k]`.
        """
        if self.fixed:
            return real
        sure = logp.amax(-1).exp() >= self.threshold
        spent = entropy_of(logp).cumsum(1)
        sure[:, 1:] &= spent[:, :-1] <= self.entropy_bound
        sure[:, 0] = True
        sure = sure.cumprod(1) > 0
        if self.rule is not None:
            sure &= self._ruled(self.rule(logp, real), real)
        return real & sure

    def _ruled(self, found: Tensor, real: Tensor) -> Tensor:
        """What the rule would commit, and the best. Raises ValueError where it gives something else."""
        if not isinstance(found, Tensor) or found.shape != real.shape or found.dtype != torch.bool:
            what = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else repr(found)
            raise ValueError(f"the commit rule gave {what}; let it return bool {tuple(real.shape)}, like `real`")
        first = torch.zeros_like(found)
        first[:, :1] = True
        return found | first

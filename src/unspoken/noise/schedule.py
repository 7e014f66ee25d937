"""alpha(t): the probability that a token is still itself at time t in [0, 1]. 0 is clean, 1 is the prior.

beta = 1 - alpha has a formula of its own, because near t = 0 the subtraction would leave nothing but rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken import checks


@dataclass(frozen=True)
class Linear:
    """alpha = 1 - t: MDLM's log-linear noise, LLaDA's uniform masking rate."""

    def alpha(self, t: Tensor) -> Tensor:
        """`t` of any shape in, the same shape out."""
        return 1 - t

    def beta(self, t: Tensor) -> Tensor:
        """1 - alpha."""
        return t

    def rate(self, t: Tensor) -> Tensor:
        """-d alpha / dt."""
        return torch.ones_like(t)


@dataclass(frozen=True)
class Polynomial:
    """alpha = 1 - t^power: larger powers keep more of the tokens for longer."""

    power: float = 2.0

    def __post_init__(self) -> None:
        checks.number("power", self.power, checks.TINY, checks.HUGE, "alpha = 1 - t^power a power above 0, e.g. 2.0")

    def alpha(self, t: Tensor) -> Tensor:
        """`t` of any shape in, the same shape out."""
        return 1 - self.beta(t)

    def beta(self, t: Tensor) -> Tensor:
        """1 - alpha."""
        return t**self.power

    def rate(self, t: Tensor) -> Tensor:
        """-d alpha / dt."""
        return self.power * t ** (self.power - 1)


@dataclass(frozen=True)
class Cosine:
    """alpha = 1 - sin(pi/2 t): MaskGIT's cosine schedule, which has most tokens masked for most of the time."""

    def alpha(self, t: Tensor) -> Tensor:
        """`t` of any shape in, the same shape out."""
        return 1 - self.beta(t)

    def beta(self, t: Tensor) -> Tensor:
        """1 - alpha."""
        return torch.sin(math.pi / 2 * t)

    def rate(self, t: Tensor) -> Tensor:
        """-d alpha / dt."""
        return math.pi / 2 * torch.cos(math.pi / 2 * t)


Schedule = Linear | Polynomial | Cosine

"""Intervals and p-values: of shares, and of means over seeds and examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEVEL, Z95 = 0.95, 1.959964  # of intervals; the normal distribution's 97.5% quantile


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% Wilson interval of a proportion."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}: give 0 <= successes <= n and n >= 1")
    low, high = _widened(successes / n, Z95**2 / n)
    # At the ends the formula is exact but for rounding.
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def interval(values: Tensor, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the mean of `values` `[seeds, examples]`, for other seeds and other examples.

    Two parts, each with its own Student's t: the seeds' means over the seeds (seeds - 1 degrees of freedom), and the
    examples' means over the examples. Their squares are added. (Cochran and Cox; common degrees of freedom would run
    away from seeds - 1 where seeds agree by chance. The examples' noise is also in the seeds' means, so it errs to the
    wide side.) With one seed it holds the examples' part alone. The difference of two methods on the same seeds and
    examples is a paired interval.
    """
    values = values.double()
    mean, half = float(values.mean()), 0.0
    for along in (0, 1):
        if (n := values.shape[along]) > 1:
            half += _t(n - 1, level) ** 2 * float(values.mean(1 - along).var()) / n
    return mean - math.sqrt(half), mean + math.sqrt(half)


def share_interval(right: Tensor) -> tuple[float, float]:
    """The 95% interval of the share of `right` `[seeds, examples]` (0 or 1), inside [0, 1].

    Of the mean share over all seeds that could be drawn. See `seeds_share_interval`.
    """
    return seeds_share_interval(right.double().mean(1).tolist(), right.shape[1])


def seeds_share_interval(shares: Sequence[float], examples: int) -> tuple[float, float]:
    """`share_interval` from each seed's share of the same `examples`: Wilson's formula with the seeds' part added.

    Its z^2 / n is z^2 / examples + t^2 v / (p (1 - p)): t of seeds - 1 degrees of freedom, v the variance of the mean
    over the seeds. Seeds that agree, and one seed, leave Wilson's interval over the examples.
    """
    n, p = len(shares), math.fsum(shares) / len(shares)
    if p in (0, 1) or n == 1:
        return wilson(round(p * examples), examples)
    seeds = float(torch.tensor(shares, dtype=torch.float64).var()) / n / (p * (1 - p))
    return _widened(p, Z95**2 / examples + _t(n - 1, LEVEL) ** 2 * seeds)


def p_value(values: Tensor) -> float:
    """Of the mean of `[seeds, examples]` being 0, on both sides: 1 less the level at which `interval` touches 0."""
    mean = abs(float(values.double().mean()))
    inside, outside = 1.0, 0.0  # p-values
    for _ in range(50):
        p = (inside + outside) / 2
        low, high = interval(values, 1 - p)
        inside, outside = (p, outside) if (high - low) / 2 < mean else (inside, p)
    return inside if mean else 1.0


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which of several looks stand so that the chance of one false alarm or more is at most alpha (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    stands = [False] * len(p_values)
    for rank, i in enumerate(order):
        if p_values[i] > alpha / (len(order) - rank):
            break
        stands[i] = True
    return stands


def _t(freedom: int, level: float) -> float:
    """Student's t at both sides of a level."""
    from scipy.special import stdtrit  # slow to import

    return float(stdtrit(freedom, (1 + level) / 2))


def _widened(p: float, z2_n: float) -> tuple[float, float]:
    """Wilson's formula at z^2 / n."""
    middle, half = p + z2_n / 2, math.sqrt(z2_n * p * (1 - p) + z2_n**2 / 4)
    return (middle - half) / (1 + z2_n), (middle + half) / (1 + z2_n)


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval, written `0.500 [0.400, 0.600]`, and with signs by `f"{estimate:+}"`."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Tensor, share: bool = False, level: float = LEVEL) -> Estimate:
        """Of `[seeds, examples]`: by `share_interval` (of 95%) where they are a share. Of a difference it is paired."""
        low, high = share_interval(values) if share else interval(values, level)
        return cls(float(values.mean()), low, high)

    @classmethod
    def of_ratios(cls, over: Tensor, under: Tensor) -> Estimate:
        """The geometric mean of the ratios of paired measurements `[seeds, turns]`, as of two ways' seconds."""
        its = cls.of(over.double().log() - under.double().log())
        return cls(math.exp(its.mean), math.exp(its.low), math.exp(its.high))

    @property
    def signed(self) -> str:
        """The interval of a difference: `[-0.010, +0.020]`."""
        return f"[{self.low:+.3f}, {self.high:+.3f}]"

    def __format__(self, sign: str) -> str:
        return f"{self.mean:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"

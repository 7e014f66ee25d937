"""95% intervals: of shares, and of means over seeds and examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

Z95 = 1.959964  # the normal distribution's 97.5% quantile


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% Wilson interval of a proportion."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}: give 0 <= successes <= n and n >= 1")
    p, z2 = successes / n, Z95**2
    middle, half = p + z2 / (2 * n), Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At the ends the formula is exact but for rounding.
    low = 0.0 if successes == 0 else (middle - half) / (1 + z2 / n)
    high = 1.0 if successes == n else (middle + half) / (1 + z2 / n)
    return low, high


def interval(values: Tensor) -> tuple[float, float]:
    """The 95% interval of the mean of `values` `[seeds, examples]`, for other seeds and other examples.

    Student's t on the sum of two variances: of the seeds' means over the seeds, and of the examples' means over the
    examples, with Satterthwaite's degrees of freedom. (It errs to the wide side: the examples' noise is also in the
    seeds' means. Three seeds alone make a t interval wide, and a bootstrap of three far too narrow.) With one seed it
    holds the examples' share alone. The difference of two methods on the same seeds and examples is a paired interval.
    """
    values = values.double()
    mean = float(values.mean())
    parts = [values.mean(1 - along) for along in (0, 1) if values.shape[along] > 1]
    variances = [(float(v.var()) / len(v), len(v) - 1) for v in parts]
    total = sum(v for v, _ in variances)
    if total == 0:
        return mean, mean
    freedom = total**2 / sum(v**2 / df for v, df in variances)
    from scipy.special import stdtrit  # Student's t; slow to import

    half = float(stdtrit(freedom, 0.975)) * math.sqrt(total)
    return mean - half, mean + half


def share_interval(right: Tensor) -> tuple[float, float]:
    """The 95% interval of the share of `right` `[seeds, examples]` (0 or 1), inside [0, 1].

    `interval`, but Wilson's over the examples where there is one seed, and where every answer is the same: a variance
    of nothing would leave an interval of nothing.
    """
    low, high = interval(right)
    if right.shape[0] == 1 or low == high:
        return wilson(round(float(right.double().mean()) * right.shape[1]), right.shape[1])
    return max(low, 0.0), min(high, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval, written `0.500 [0.400, 0.600]`, and with signs by `f"{estimate:+}"`."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Tensor, share: bool = False) -> Estimate:
        """Of `[seeds, examples]`: by `share_interval` where they are a share. Of a difference it is a paired one."""
        low, high = share_interval(values) if share else interval(values)
        return cls(float(values.mean()), low, high)

    @property
    def signed(self) -> str:
        """The interval of a difference: `[-0.010, +0.020]`."""
        return f"[{self.low:+.3f}, {self.high:+.3f}]"

    def __format__(self, sign: str) -> str:
        return f"{self.mean:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"

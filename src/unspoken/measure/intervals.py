"""Intervals of shares, and of means over seeds and examples; p-values, and their correction for several looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEVEL = 0.95


def wilson(successes: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The Wilson interval of a proportion."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}: give 0 <= successes <= n and n >= 1")
    z = _quantile(math.inf, level)
    p, z2 = successes / n, z**2
    middle, half = p + z2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At the ends the formula is exact but for rounding.
    low = 0.0 if successes == 0 else (middle - half) / (1 + z2 / n)
    high = 1.0 if successes == n else (middle + half) / (1 + z2 / n)
    return low, high


def interval(values: Tensor, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the mean of `values` `[seeds, examples]`, for other seeds and other examples.

    Student's t on the sum of two variances: of the seeds' means over the seeds, and of the examples' means over the
    examples. Its degrees of freedom are the seeds less one: more would trust seeds that agree by chance. (It errs to
    the wide side: the examples' noise is also in the seeds' means.) With one seed it holds the examples' share alone.
    The difference of two methods on the same seeds and examples is a paired interval.
    """
    mean, error, freedom = _mean_and_error(values)
    half = _quantile(freedom, level) * error if error else 0.0
    return mean - half, mean + half


def share_interval(right: Tensor, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the share of `right` `[seeds, examples]` (0 or 1): of its mean over other seeds and examples.

    Student's t of `interval`, in log-odds, where the spread of seeds hardly depends on the share; and never narrower
    than Wilson's of one seed's examples. Simulated coverage with three and five seeds that differ by up to 1 in
    log-odds: .94 or more (tests/test_intervals.py).
    """
    right = right.double()
    seeds, n = right.shape
    mean = float(right.mean())
    low, high = wilson(mean * n, n, level)
    if seeds == 1:
        return low, high
    counts = right.sum(1)
    odds = ((counts + 0.5) / (n - counts + 0.5)).log()
    middle = (float(counts.sum()) + 0.5) / (seeds * n + 1)
    slope = middle * (1 - middle)
    of_examples = float(right.mean(0).var()) / n if n > 1 else 0.0
    half = _quantile(seeds - 1, level) * math.sqrt(float(odds.var()) / seeds + of_examples / slope**2)
    centre = math.log(middle / (1 - middle))
    return min(low, _expit(centre - half)), max(high, _expit(centre + half))


def p_value(values: Tensor) -> float:
    """Of the mean of `values` `[seeds, examples]` being 0: two-sided, of the test that `interval` belongs to."""
    from scipy.special import stdtr  # Student's t; slow to import

    mean, error, freedom = _mean_and_error(values)
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(stdtr(freedom, -abs(mean) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979), so that .05 bounds the odds of any false alarm among them."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = least
    return corrected


def _mean_and_error(values: Tensor) -> tuple[float, float, int]:
    """The mean, its standard error, and the degrees of freedom of Student's t."""
    values = values.double()
    parts = [values.mean(1 - along) for along in (0, 1) if values.shape[along] > 1]
    error = math.sqrt(sum(float(v.var()) / len(v) for v in parts))
    return float(values.mean()), error, max(1, (values.shape[0] if values.shape[0] > 1 else values.shape[1]) - 1)


def _quantile(freedom: float, level: float) -> float:
    """What bounds the middle share `level` of Student's t; of the normal distribution where freedom is infinite."""
    from scipy.special import ndtri, stdtrit  # slow to import

    if not 0 < level < 1:
        raise ValueError(f"level={level}; give a share between 0 and 1, as in 0.95")
    upper = (1 + level) / 2
    return float(ndtri(upper) if freedom == math.inf else stdtrit(freedom, upper))


def _expit(x: float) -> float:
    return float(torch.sigmoid(torch.tensor(x, dtype=torch.float64)))


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval, written `0.500 [0.400, 0.600]`, and with signs by `f"{estimate:+}"`."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Tensor, share: bool = False, level: float = LEVEL) -> Estimate:
        """Of `[seeds, examples]`: by `share_interval` where they are a share. Of a difference it is a paired one."""
        low, high = share_interval(values, level) if share else interval(values, level)
        return cls(float(values.mean()), low, high)

    @property
    def signed(self) -> str:
        """The interval of a difference: `[-0.010, +0.020]`."""
        return f"[{self.low:+.3f}, {self.high:+.3f}]"

    def __format__(self, sign: str) -> str:
        return f"{self.mean:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"

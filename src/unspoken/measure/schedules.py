"""Schedules of parallel decoding: how many tokens each pass says, and the best sizes by what they are foretold to cost.

A profile tells what s tokens cost that are said together beside k known ones. A schedule costs the sum over its passes,
so the best one is a small dynamic programme over where passes begin and end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from math import cos, floor, fsum, pi

import numpy as np

from unspoken import checks
from unspoken.messages import quoted


class Profile(ABC):
    """What tokens cost, by how many are said together and how many are known; and what schedules are foretold."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens that are said."""

    @abstractmethod
    def cost(self, size: int, known: int) -> float:
        """Nats of `size` tokens that are said together when `known` are known."""

    @property
    def nll(self) -> float:
        """Nats of a sequence whose tokens are said one at a time."""
        return self._nats((1,) * self.length)

    def overhead(self, sizes: Sequence[int]) -> float:
        """Nats that saying tokens together loses, expected over orders."""
        check_sizes(sizes, self.length)
        return self._lost(self._nats(sizes))

    def predicted_nll(self, sizes: Sequence[int]) -> float:
        """Nats of a sequence that is said in such steps."""
        return self.nll + self.overhead(sizes)

    def schedule(self, steps: int) -> tuple[int, ...]:
        """The sizes of so many steps that lose least: exact, by dynamic programming."""
        checks.count("steps", steps, 1, self.length)
        before = self._programme()[1]
        sizes, end = [], self.length
        for left in range(steps, 0, -1):
            start = int(before[left, end])
            sizes.append(end - start)
            end = start
        return tuple(reversed(sizes))

    def least_overhead(self) -> list[float]:
        """Nats lost by the best schedule of 1, 2, ..., L steps."""
        return [self._lost(float(nats)) for nats in self._programme()[0][1:, self.length]]

    def fewest(self, overhead: float) -> tuple[int, ...]:
        """The best schedule of the fewest steps that lose at most so many nats a sequence."""
        least = self.least_overhead()
        give = f"nats a sequence, {min(least):.4g} or more: no schedule loses less"
        checks.number("overhead", overhead, min(least) - 1e-12, checks.HUGE, give)
        return self.schedule(next(n for n, lost in enumerate(least, 1) if lost <= overhead + 1e-12))

    def _nats(self, sizes: Sequence[int]) -> float:
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
        return fsum(self.cost(size, n) for size, n in zip(sizes, starts, strict=True))

    def _lost(self, nats: float) -> float:
        return nats - self.nll

    def _programme(self) -> tuple[np.ndarray, np.ndarray]:
        """`[steps + 1, end + 1]`: the least nats of so many steps up to each end, and where the last of them starts."""
        n = self.length
        least, before = np.full((n + 1, n + 1), np.inf), np.zeros((n + 1, n + 1), dtype=int)
        least[0, 0] = 0
        passes = np.full((n, n + 1), np.inf)  # [start, end]
        for start in range(n):
            passes[start, start + 1 :] = [self.cost(size, start) for size in range(1, n - start + 1)]
        for step in range(1, n + 1):
            through = least[step - 1, :n, None] + passes
            before[step], least[step] = through.argmin(0), through.min(0)
        return least, before


def check_sizes(sizes: Sequence[int], length: int) -> None:
    """Raises ValueError for what is no schedule of so many tokens."""
    checks.counts("sizes", sizes, 1)
    if sum(sizes) != length:
        raise ValueError(f"sizes={quoted(tuple(sizes))}: give steps of 1 or more that sum to {length}")


def even(length: int, steps: int) -> tuple[int, ...]:
    """Sizes as equal as can be, the smaller ones first."""
    checks.count("length", length, 1)
    checks.count("steps", steps, 1, length)
    ends = [length * i // steps for i in range(steps + 1)]
    return tuple(b - a for a, b in pairwise(ends))


def cosine(length: int, steps: int) -> tuple[int, ...]:
    """Sizes that leave floor(length cos(pi / 2 s / steps)) tokens masked after step s (MaskGIT, arXiv 2202.04200).

    Few tokens first, many at the end; every step says one at least.
    """
    checks.count("length", length, 1)
    checks.count("steps", steps, 1, length)
    left = [length]
    for step in range(1, steps + 1):
        # cos(pi / 2) is no zero in floats
        masked = 0 if step == steps else floor(length * cos(pi / 2 * step / steps))
        left.append(max(min(masked, left[-1] - 1), steps - step))
    return tuple(before - after for before, after in pairwise(left))

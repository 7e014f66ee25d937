"""How many tokens may be said at once? The information profile h(k): what a token costs when k others are known.

Tokens said in one pass are drawn as if they were independent, and what that loses is known exactly (expected over
random orders, in nats; Li & Cai, arXiv 2505.21400; Lavenant & Zanella, arXiv 2510.25544): with sizes s_1, ..., s_T,
n_t = s_1 + ... + s_t and h(k) = mean of H(X_i | X_S) over sets S of k tokens and i outside,

    E KL(p | sampler) = sum_t [ s_t h(n_{t-1}) - (h(n_{t-1}) + ... + h(n_t - 1)) ].

It is the area by which stairs exceed a falling curve, so the best stairs are a small dynamic programme. With a trained
network its cross-entropy with k tokens known stands for h, and what is predicted is the negative log-likelihood of its
own parallel decoding: no samples are needed. Random order, factorised predictions; confidence orders are outside this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.entries import draw_ranks, one_block, random_order
from unspoken.layout.packing import ask_masks
from unspoken.measure.likelihood import check_clean, losses_by_latents
from unspoken.messages import quoted
from unspoken.model.denoiser import Model
from unspoken.training.losses import packed_losses


@dataclass(frozen=True)
class InformationProfile:
    """h(0), ..., h(L - 1) in nats a token, falling; of a distribution exactly, or `fitted` to a network's losses."""

    h: tuple[float, ...]

    def __post_init__(self) -> None:
        checks.kind("h", self.h, (tuple, list), "the cross-entropy beside 0, 1, ... known tokens")
        for nats in self.h:
            checks.number("h", nats, -checks.HUGE, checks.HUGE, "numbers, in nats")
        if not self.h or (np.diff(self.h) > 1e-9).any():
            raise ValueError(
                f"h={quoted(self.h)}: give the cross-entropy beside 0, 1, ... known tokens, which never rises"
            )

    @classmethod
    def fitted(cls, losses: Tensor) -> InformationProfile:
        """From losses `[examples, L]` beside 0, 1, ... known tokens, noise and all: the nearest curve that falls."""
        from scipy.optimize import isotonic_regression  # slow to import

        checks.kind("losses", losses, Tensor, "a tensor, [examples, L] nats")
        if losses.dim() != 2 or not losses.numel() or not bool(losses.isfinite().all()):
            raise ValueError(
                f"losses of shape {tuple(losses.shape)}: give finite numbers [examples, L], 1 or more each"
            )
        mean = losses.double().mean(0).cpu().numpy()
        return cls(tuple(isotonic_regression(mean, increasing=False).x.tolist()))

    @property
    def length(self) -> int:
        """Tokens that are said."""
        return len(self.h)

    @property
    def nll(self) -> float:
        """Nats of a sequence whose tokens are said one at a time: the sum of h."""
        return float(sum(self.h))

    @property
    def total_correlation(self) -> float:
        """TC = L h(0) - sum of h: what is lost when all are said at once."""
        return self.length * self.h[0] - self.nll

    @property
    def dual_total_correlation(self) -> float:
        """DTC = sum of h - L h(L - 1)."""
        return self.nll - self.length * self.h[-1]

    @property
    def total_information(self) -> float:
        """Sum over tokens of what the others tell of each, I(X_i; X_others): TC + DTC."""
        return self.length * (self.h[0] - self.h[-1])

    def overhead(self, sizes: Sequence[int]) -> float:
        """Nats that saying tokens together loses, expected over orders: what the stairs have above the curve."""
        self._check(sizes)
        starts = np.cumsum([0, *sizes[:-1]])
        lost = sum(size * self.h[n] - sum(self.h[n : n + size]) for size, n in zip(sizes, starts, strict=True))
        return max(float(lost), 0.0)  # nothing is never less, but for rounding

    def predicted_nll(self, sizes: Sequence[int]) -> float:
        """Nats of a sequence that is said in such steps."""
        return self.nll + self.overhead(sizes)

    def bound(self, sizes: Sequence[int]) -> float:
        """(s_max - 1) / L of the total information: no schedule of that largest step loses more."""
        self._check(sizes)
        return (max(sizes) - 1) / self.length * self.total_information

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
        return [max(float(c), 0.0) for c in self._programme()[0][1:, self.length] - self.nll]

    def fewest(self, overhead: float) -> tuple[int, ...]:
        """The best schedule of the fewest steps that lose at most so many nats a sequence."""
        checks.number("overhead", overhead, 0, checks.HUGE, "nats a sequence, 0 or more")
        steps = next(n for n, lost in enumerate(self.least_overhead(), 1) if lost <= overhead + 1e-12)
        return self.schedule(steps)

    def _programme(self) -> tuple[np.ndarray, np.ndarray]:
        """`[steps + 1, end + 1]`: the least sum of s h(start) of so many steps up to each end, and the last start."""
        n, h = self.length, np.array(self.h)
        cost = np.full((n + 1, n + 1), np.inf)
        before = np.zeros((n + 1, n + 1), dtype=int)
        cost[0, 0] = 0
        stairs = np.maximum(np.arange(n + 1)[None, :] - np.arange(n)[:, None], 0) * h[:, None]  # [start, end]
        stairs[np.arange(n)[:, None] >= np.arange(n + 1)[None, :]] = np.inf
        for step in range(1, n + 1):
            through = cost[step - 1, :n, None] + stairs
            before[step], cost[step] = through.argmin(0), through.min(0)
        return cost, before

    def _check(self, sizes: Sequence[int]) -> None:
        _check_sizes(sizes, self.length)


def _check_sizes(sizes: Sequence[int], length: int) -> None:
    checks.counts("sizes", sizes, 1)
    if sum(sizes) != length:
        raise ValueError(f"sizes={quoted(tuple(sizes))}: give steps of 1 or more that sum to {length}")


def _check_latents(latents: int | None) -> None:
    if latents is not None:
        checks.count("latents", latents)


def even(length: int, steps: int) -> tuple[int, ...]:
    """Sizes as equal as can be, the smaller ones first."""
    checks.count("length", length, 1)
    checks.count("steps", steps, 1, length)
    ends = [length * i // steps for i in range(steps + 1)]
    return tuple(b - a for a, b in pairwise(ends))


@torch.no_grad()
def profile_losses(
    model: Model,
    x0: Tensor,
    given: Tensor,
    latents: int | None = None,
    generator: torch.Generator | None = None,
    draws: int = 1,
) -> Tensor:
    """`[batch, L]`: the loss in nats of a random token when k = 0, ..., L - 1 random ones of L are known.

    x0, given: `[batch, seq]`, each row with L tokens that are not given; those are known besides. A pass for every k.
    latents: how many random unknown tokens each is predicted beside; None = all the others. What is ordered or joint
        follows the model's rule.
    draws: random sets for each row and k.
    Raises ValueError where rows have different numbers of free tokens.
    """
    check_clean(model, x0, given, draws, generator)
    _check_latents(latents)
    length = _one_length((~given).sum(1))
    counts = [length if latents is None else latents]
    columns = []
    for known in range(length):
        total = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
        for _ in range(draws):
            unsaid = (draw_ranks(~given, generator) < length - known) & ~given
            layout = random_order(torch.where(unsaid, model.mask_id, x0), unsaid, given, generator)
            total += losses_by_latents(model, layout, x0, counts)[:, 0]
        columns.append(total / draws)
    return torch.stack(columns, 1)


@torch.no_grad()
def parallel_nll(
    model: Model,
    x0: Tensor,
    given: Tensor,
    sizes: Sequence[int],
    latents: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`[batch]`: -log p of saying x0 in steps of such sizes, in one random order a row; a pass for every step.

    What `decode(..., order="uniform", commit=sizes, temperature=1)` draws from: candidates see what is said and the
    latents. Its mean over orders and data is what `InformationProfile.predicted_nll` predicts.
    """
    check_clean(model, x0, given, 1, generator)
    _check_latents(latents)
    length = _one_length((~given).sum(1))
    _check_sizes(sizes, length)
    turn, seq = draw_ranks(~given, generator), x0.shape[1]
    total, said = torch.zeros(len(x0), dtype=torch.float64, device=x0.device), 0
    for size in sizes:
        unsaid = (turn >= said) & ~given
        now = unsaid & (turn < said + size)
        rank = torch.where(now, seq, turn - said - size)  # candidates after every latent, and together
        layout = one_block(
            torch.where(unsaid, model.mask_id, x0), unsaid, torch.where(unsaid, rank, (turn + 1) * ~given)
        )
        seen = layout if latents is None else layout.select_where(layout.said | now | (unsaid & (rank < latents)))
        packed = ask_masks(seen, x0, seen.unsaid & (seen.order == seq))
        total += packed_losses(model, packed).sum(1)
        said += size
    return total


def _one_length(free: Tensor) -> int:
    """How many tokens every row has to say. ValueError where that is not one number."""
    fewest, most = (int(free.min()), int(free.max())) if len(free) else (0, 0)
    if fewest < 1 or fewest < most:
        raise ValueError(
            f"rows have {fewest} to {most} tokens to say: a profile needs as many in each; take rows of one number, 1 "
            "or more"
        )
    return fewest

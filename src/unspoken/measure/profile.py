"""How many tokens may be said at once? What a token costs when k others are known, and s are said together.

Tokens said in one pass are drawn as if they were independent, and what that loses is known exactly (expected over
random orders, in nats; Li & Cai, arXiv 2505.21400; Lavenant & Zanella, arXiv 2510.25544): with sizes s_1, ..., s_T,
n_t = s_1 + ... + s_t and h(k) = mean of H(X_i | X_S) over sets S of k tokens and i outside,

    E KL(p | sampler) = sum_t [ s_t h(n_{t-1}) - (h(n_{t-1}) + ... + h(n_t - 1)) ].

It is the area by which stairs exceed a falling curve. With a trained network its cross-entropy with k tokens known
stands for h, and what is predicted is the negative log-likelihood of its own parallel decoding: no samples are needed.

A network's cross-entropy may also depend on the unsaid tokens in the pass, and so on how many are said together:
candidates of an ordered model see the latents and not each other, those of a joint model see both. The profile of its
sampler is therefore h(k, s), and a schedule costs the sum of s_t h(n_{t-1}, s_t). Random order, factorised predictions;
orders by confidence are outside this: see `pseudo_cost`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.attention import Attention
from unspoken.layout.entries import draw_ranks, random_order
from unspoken.measure.likelihood import check_clean, losses_by_latents, pass_nll
from unspoken.measure.schedules import Profile, check_sizes
from unspoken.messages import quoted
from unspoken.model.network import Model


@dataclass(frozen=True)
class InformationProfile(Profile):
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
        checks.kind("losses", losses, Tensor, "a tensor, [examples, L] nats")
        if losses.dim() != 2 or not losses.numel() or not bool(losses.isfinite().all()):
            raise ValueError(
                f"losses of shape {tuple(losses.shape)}: give finite numbers [examples, L], 1 or more each"
            )
        return cls(_falling(losses))

    @property
    def length(self) -> int:
        """Tokens that are said."""
        return len(self.h)

    def cost(self, size: int, known: int) -> float:
        """Nats of `size` tokens that are said together when `known` are known: a stair."""
        return size * self.h[known]

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

    def bound(self, sizes: Sequence[int]) -> float:
        """(s_max - 1) / L of the total information: no schedule of that largest step loses more."""
        check_sizes(sizes, self.length)
        return (max(sizes) - 1) / self.length * self.total_information

    def lower_bound(self, most: int) -> float:
        """What some schedule with steps of at most `most` (s, 2 to L) loses at least, in nats.

        s / 16 times the sum over j = 0, 1, ... of 2^-j (h(0) - h(w_j)), w_j = L - s / 2^j, rounded down and at most
        L - 1. It has the form of Theorem 2 of Li & Cai (arXiv 2505.21400), known to us at second hand: the sizes w_j
        are a reconstruction. In this form it is proved: the s schedules of even steps s, each begun one token later
        than the one before, lose at least twice this on average.
        """
        checks.count("most", most, 2, self.length)
        halvings = range(most.bit_length())
        told = [2.0**-j * (self.h[0] - self.h[self._seen(most, j)]) for j in halvings]
        rest = 2.0 ** (1 - most.bit_length()) * (self.h[0] - self.h[-1])  # all j after these, where w_j = L - 1
        return most / 16 * (sum(told) + rest)

    def _seen(self, most: int, halved: int) -> int:
        return min(self.length - -(-most // 2**halved), self.length - 1)

    def _lost(self, nats: float) -> float:
        return max(super()._lost(nats), 0.0)  # a falling curve has nothing above its stairs, but for rounding


@dataclass(frozen=True)
class SamplerProfile(Profile):
    """h(k, s) in nats a token: what one of s tokens costs that a model says together when k are known.

    h: by size and then by k: `h[s - 1][k]`, k = 0, ..., L - s; or one curve, where the size makes no difference.
    """

    h: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        give = "curves of nats a token, one for each size 1, 2, ..., L, or one for all"
        checks.kind("h", self.h, (tuple, list), give)
        for curve in self.h:
            checks.kind("h", curve, (tuple, list), give)
            for nats in curve:
                checks.number("h", nats, -checks.HUGE, checks.HUGE, "numbers, in nats")
        length = len(self.h[0]) if self.h else 0
        if not length or len(self.h) not in (1, length) or any(len(c) != length - n for n, c in enumerate(self.h)):
            raise ValueError(
                f"h has curves of {quoted([len(c) for c in self.h])} numbers: give {give}, of L - s + 1 each"
            )

    @classmethod
    def fitted(cls, losses: Tensor) -> SamplerProfile:
        """From `sampler_losses` `[examples, L, sizes]`: for each size the nearest curve that falls with k."""
        checks.kind("losses", losses, Tensor, "a tensor, [examples, L, sizes] nats")
        curves = [losses[:, : losses.shape[1] - n, n] for n in range(losses.shape[2])] if losses.dim() == 3 else []
        if not (curves and losses.numel() and all(bool(c.isfinite().all()) for c in curves)):
            raise ValueError(
                f"losses of shape {tuple(losses.shape)}: give finite numbers [examples, L, sizes], 1 or more each, as "
                "sampler_losses tells them"
            )
        return cls(tuple(map(_falling, curves)))

    @property
    def length(self) -> int:
        """Tokens that are said."""
        return len(self.h[0])

    def cost(self, size: int, known: int) -> float:
        """Nats of `size` tokens that are said together when `known` are known."""
        return size * self.h[min(size, len(self.h)) - 1][known]


def _falling(losses: Tensor) -> tuple[float, ...]:
    """The nearest falling curve to the mean of `[examples, n]`."""
    from scipy.optimize import isotonic_regression  # slow to import

    mean = losses.double().mean(0).cpu().numpy()
    return tuple(isotonic_regression(mean, increasing=False).x.tolist())


def others_seen(rule: Attention, latents: int | None, size: int, left: int) -> int:
    """How many other unsaid tokens a candidate sees, in a pass with `size` candidates and so many latents of `left`.

    latents: None = all that are no candidates. 0 where none makes a difference.
    """
    beside = left - size if latents is None else min(latents, left - size)
    return {"joint": beside + size - 1, "ordered": beside, "alone": 0}[rule.latents]


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
    return _losses(model, x0, given, latents, 1, generator, draws)[:, :, 0]


@torch.no_grad()
def sampler_losses(
    model: Model,
    x0: Tensor,
    given: Tensor,
    latents: int | None = None,
    generator: torch.Generator | None = None,
    draws: int = 1,
) -> Tensor:
    """`[batch, L, sizes]`: the loss in nats of a token that is said with s - 1 others when k random ones are known.

    As `decode(..., order="uniform", latents=latents)` says them: candidates see what their model's rule lets them see.
    Not a number where fewer than s are left. One size alone stands for all where it makes no difference: all unsaid
    tokens see each other, or none sees any.
    Arguments and errors: see `profile_losses`. A pass for every k; joint latents beside a number of others take up to L
    passes for every k.
    """
    return _losses(model, x0, given, latents, None, generator, draws)


def _losses(
    model: Model,
    x0: Tensor,
    given: Tensor,
    latents: int | None,
    sizes: int | None,
    generator: torch.Generator | None,
    draws: int,
) -> Tensor:
    """See `sampler_losses`. sizes: 1 to so many; None = as many as make a difference."""
    check_clean(model, x0, given, draws, generator)
    _check_latents(latents)
    length = _one_length((~given).sum(1))

    def seen(left: int, most: int) -> list[int]:
        return [others_seen(model.attention, latents, size, left) for size in range(1, min(most, left) + 1)]

    sizes = sizes or (length if len(set(seen(length, length))) > 1 else 1)
    columns = []
    for known in range(length):
        beside = seen(length - known, sizes)
        counts = sorted(set(beside))
        total = torch.zeros(len(x0), len(counts), dtype=torch.float64, device=x0.device)
        for _ in range(draws):
            unsaid = (draw_ranks(~given, generator) < length - known) & ~given
            layout = random_order(torch.where(unsaid, model.mask_id, x0), unsaid, given, generator)
            total += losses_by_latents(model, layout, x0, counts)
        by_size = total[:, [counts.index(n) for n in beside]] / draws
        columns.append(torch.nn.functional.pad(by_size, (0, sizes - len(beside)), value=torch.nan))
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
    latents. Its mean over orders and data is what `SamplerProfile.predicted_nll` predicts.
    """
    check_clean(model, x0, given, 1, generator)
    _check_latents(latents)
    length = _one_length((~given).sum(1))
    check_sizes(sizes, length)
    turn, seq = draw_ranks(~given, generator), x0.shape[1]
    total, said = torch.zeros(len(x0), dtype=torch.float64, device=x0.device), 0
    for size in sizes:
        unsaid = (turn >= said) & ~given
        now = unsaid & (turn < said + size)
        latent = unsaid & ~now & (turn - said - size < (seq if latents is None else latents))
        order = torch.where(unsaid, turn - said - size, (turn + 1) * ~given)
        order = torch.where(now, seq, order)  # candidates after every latent, and together
        total += pass_nll(model, x0, unsaid, order, ~unsaid | now | latent, now)
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


def _check_latents(latents: int | None) -> None:
    if latents is not None:
        checks.count("latents", latents)

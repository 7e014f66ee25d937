"""Several samples of a vector answer against the true one: how far, how much they differ, and whether as they should.

Consistency rewards samples that are alike, right or not, so the others stand beside it (ForeDiff, arXiv 2505.16474).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken import checks
from unspoken.tasks.valued import relative_l2


@dataclass(frozen=True)
class Ensemble:
    """What `ensemble` tells: each `[n]` float64, a number a question.

    Attributes:
        relative_l2: The L2 distance to the truth relative to the truth's norm, the mean over samples.
        worst: The largest such distance of a sample.
        consistency: The standard deviation over samples of such distances; 0 where all samples are equal.
        crps: The continuous ranked probability score, the mean over numbers (see `crps`).
        std: The standard deviation over samples of a number, the mean over numbers.
        variance: The variance over samples of a number, the mean over numbers.
        mean_error: The squared error of the samples' mean, the mean over numbers.
        samples: How many a question has.

    Standard deviations and variances have k - 1 in the denominator.
    """

    relative_l2: Tensor
    worst: Tensor
    consistency: Tensor
    crps: Tensor
    std: Tensor
    variance: Tensor
    mean_error: Tensor
    samples: int

    @property
    def spread_skill(self) -> float:
        """Spread over skill of all questions, sqrt((k + 1) / k * variance / mean_error): 1 for exchangeable draws.

        Below 1 the samples are too narrow. nan where both are 0. Fortin et al. 2014, "Why should ensemble spread match
        the RMSE of the ensemble mean?", J. Hydrometeorology 15.
        """
        finite = (self.samples + 1) / self.samples
        return float((finite * self.variance.mean() / self.mean_error.mean()).sqrt())

    def means(self) -> dict[str, float]:
        """Over questions, and the spread over skill."""
        told = ("relative_l2", "worst", "consistency", "crps", "std")
        return {name: float(getattr(self, name).mean()) for name in told} | {"spread_skill": self.spread_skill}


def ensemble(samples: Tensor, truth: Tensor) -> Ensemble:
    """Of `samples` `[n, k, ...]` of n answers, k of 2 or more, and the true ones, `truth` `[n, ...]`, both of floats.

    Give what was asked alone: tokens of a prompt are equal in all samples. ValueError for other shapes, for numbers
    that are not finite, and for a truth that is 0 everywhere.
    """
    x, y = _checked(samples, truth)
    if not bool((y != 0).any(1).all()):
        raise ValueError("a truth is 0 everywhere: there is no distance relative to its norm")
    distance = relative_l2(x, y[:, None])
    return Ensemble(
        relative_l2=distance.mean(1),
        worst=distance.max(1).values,
        consistency=distance.std(1),
        crps=_crps(x, y).mean(1),
        std=x.std(1).mean(1),
        variance=x.var(1).mean(1),
        mean_error=(x.mean(1) - y).square().mean(1),
        samples=x.shape[1],
    )


def crps(samples: Tensor, truth: Tensor) -> Tensor:
    """`[n, ...]` float64: of each number of `truth` `[n, ...]`, the CRPS of its samples in `[n, k, ...]`.

    E|X - y| - E|X - X'| / 2 for independent X and X' of the samples' distribution, without bias: pairs of two different
    samples alone are counted, so it may be below 0 (Gneiting and Raftery 2007; "fair", Ferro 2014). ValueError for
    other shapes and for numbers that are not finite.
    """
    x, y = _checked(samples, truth)
    return _crps(x, y).view(truth.shape)


def _crps(x: Tensor, y: Tensor) -> Tensor:
    """`[n, d]`, of `[n, k, d]` and `[n, d]`."""
    k = x.shape[1]
    rank = 2.0 * torch.arange(k, dtype=x.dtype, device=x.device) - (k - 1)
    apart = (x.sort(1).values * rank[:, None]).sum(1)  # the sum over pairs of |x_i - x_j|
    return (x - y[:, None]).abs().mean(1) - apart / (k * (k - 1))


def _checked(samples: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """`[n, k, d]` and `[n, d]` float64."""
    checks.kind("samples", samples, Tensor, "a tensor [n, k, ...]")
    checks.kind("truth", truth, Tensor, "a tensor [n, ...]")
    fits = samples.dim() >= 3 and truth.shape == samples.shape[:1] + samples.shape[2:] and truth.numel()
    if not fits or samples.shape[1] < 2:
        raise ValueError(
            f"samples of shape {tuple(samples.shape)} and a truth of {tuple(truth.shape)} given; give [n, k, ...] and "
            "[n, ...], two samples or more of one question or more"
        )
    x, y = samples.double().flatten(2), truth.double().flatten(1)
    if not bool(x.isfinite().all() and y.isfinite().all()):
        raise ValueError("a sample or a truth is not finite; give finite numbers, without the unknown")
    return x, y

"""Integers for real numbers after training, dim by dim (TokenBridge, Wang et al. 2025, arXiv 2503.16430)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken import checks


def normal_levels(levels: int) -> Tensor:
    """`[levels]` float64: sqrt(3) Phi^-1((i + .5) / levels), the levels of a standard normal number.

    The squared error of many levels is least where their density goes with p^(1/3) (Panter and Dite 1951), and for
    N(0, 1) that is the density of N(0, 3). The paper takes N(0, 1) after a rescaling by 5/3, which is nearly the same.
    """
    checks.count("levels", levels, 2)
    share = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
    return math.sqrt(3) * torch.special.ndtri(share)


@dataclass(frozen=True)
class ScalarQuantizer:
    """Every dim has levels of its own, mean + std sqrt(3) Phi^-1((i + .5) / levels).

    mean, std: `[dims]` of the numbers. levels: of every dim.
    """

    mean: Tensor
    std: Tensor
    levels: int

    def __post_init__(self) -> None:
        checks.count("levels", self.levels, 2)
        if self.mean.dim() != 1 or self.mean.shape != self.std.shape:
            raise ValueError(f"mean {tuple(self.mean.shape)}, std {tuple(self.std.shape)}: give [dims] of both")
        if not bool((self.std > 0).all() and self.std.isfinite().all() and self.mean.isfinite().all()):
            raise ValueError("a dim of the numbers does not vary, or is not finite: it has no levels; leave it out")

    @classmethod
    def fit(cls, latents: Tensor, levels: int) -> ScalarQuantizer:
        """By the mean and the standard deviation of every dim of `latents` `[..., dims]`."""
        flat = latents.reshape(-1, latents.shape[-1]).double()
        return cls(flat.mean(0).float(), flat.std(0).float(), levels)

    @property
    def table(self) -> Tensor:
        """`[dims, levels]` float64: the number that every code of every dim stands for."""
        return self.mean.double()[:, None] + self.std.double()[:, None] * normal_levels(self.levels)

    def encode(self, latents: Tensor) -> Tensor:
        """Codes `[..., dims]` int64 from 0 to levels - 1: the nearest level of every number of `latents`."""
        if latents.shape[-1] != len(self.mean) or bool(latents.isnan().any()):
            raise ValueError(f"numbers of shape {tuple(latents.shape)}: give [..., {len(self.mean)}], none of them nan")
        level = normal_levels(self.levels)
        middle = (level[1:] + level[:-1]) / 2
        return torch.bucketize((latents.double() - self.mean) / self.std, middle)

    def decode(self, codes: Tensor) -> Tensor:
        """The numbers `[..., dims]` float32 that codes `[..., dims]` stand for."""
        if codes.shape[-1] != len(self.mean) or bool(((codes < 0) | (codes >= self.levels)).any()):
            raise ValueError(
                f"codes of shape {tuple(codes.shape)}: give [..., {len(self.mean)}] from 0 to {self.levels - 1}"
            )
        return (normal_levels(self.levels)[codes] * self.std + self.mean).float()


def frequency_order(maps: Tensor, radius: float = 0.25) -> Tensor:
    """`[dims]`: the dims by their share of energy at low frequencies, the largest share first.

    The paper's recipe: the mean over images of |FFT2|^2 of every dim's map, less its mean over images and places, and
    of that the share within a radius of frequency 0. Its code has the outcome alone, so radius and mean are ours.

    maps: `[n, height, width, dims]`. radius: in cycles a place, at most 1 / 2 along an axis.
    """
    maps = maps.double()
    power = torch.fft.fft2(maps - maps.mean((0, 1, 2)), dim=(1, 2)).abs().square().mean(0)
    vertical, horizontal = (torch.fft.fftfreq(n, dtype=torch.float64) for n in maps.shape[1:3])
    low = (vertical[:, None] ** 2 + horizontal**2).sqrt() <= radius
    share = power[low].sum(0) / power.sum((0, 1)).clamp_min(torch.finfo(torch.float64).tiny)
    return share.argsort(descending=True, stable=True)

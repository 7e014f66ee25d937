"""Noise on continuous tokens, and one prediction seen as eps, x0, v or u."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unspoken import checks
from unspoken.noise.space import Reals

View = Literal["eps", "x0", "v", "u"]


@dataclass(frozen=True)
class Seen:
    """What a network states of clean vectors and noise: `value` `[batch, m, width]`, read as that view of them."""

    value: Tensor
    view: View


@dataclass(frozen=True)
class Normal:
    """Independent normal numbers, as a network states them: `mean` and `logvar` `[batch, m, width]`."""

    mean: Tensor
    logvar: Tensor

    def at(self, eps: Tensor) -> Tensor:
        """The draw that standard normal numbers `eps` make: mean + standard deviation * eps."""
        return self.mean + (self.logvar / 2).exp() * eps

    @property
    def divergence(self) -> Tensor:
        """`[batch, m, width]` nats: of each number from a standard normal one."""
        return (self.mean**2 + self.logvar.exp() - 1 - self.logvar) / 2


@dataclass(frozen=True)
class Views:
    """One prediction: the clean token and the noise that z = alpha x0 + sigma eps is made of, `[batch, seq, width]`."""

    x0: Tensor
    eps: Tensor


@dataclass(frozen=True)
class Gaussian:
    """z_t = alpha(t) x0 + sigma(t) eps, eps standard normal; z `[batch, seq, width]`, t `[batch, seq]`.

    Attributes:
        path: `vp` keeps the variance, alpha = cos(pi/2 t) (arXiv 2102.09672's cosine, without its offset); `linear` is
            the straight line of rectified flow, alpha = 1 - t (arXiv 2209.03003).
        eta: Of sampling: 0 is DDIM (no new noise), 1 the ancestral step (arXiv 2010.02502, eq. 16).
    """

    path: Literal["vp", "linear"] = "vp"
    eta: float = 0.0
    absorbs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.path not in ("vp", "linear"):
            raise ValueError(f"path is {self.path!r}; give 'vp' or 'linear'")
        checks.number("eta", self.eta, 0, 1, "a number in [0, 1]: 0 is DDIM, 1 the ancestral step")

    def alpha(self, t: Tensor) -> Tensor:
        """What is left of the signal. `t` of any shape."""
        return 1 - t if self.path == "linear" else torch.cos(math.pi / 2 * t)

    def sigma(self, t: Tensor) -> Tensor:
        """The noise's standard deviation."""
        return t if self.path == "linear" else torch.sin(math.pi / 2 * t)

    def _slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt."""
        if self.path == "linear":
            return -torch.ones_like(t), torch.ones_like(t)
        return -math.pi / 2 * self.sigma(t), math.pi / 2 * self.alpha(t)

    def snr(self, t: Tensor) -> Tensor:
        """alpha^2 / sigma^2, infinite at t = 0."""
        return (self.alpha(t) / self.sigma(t)) ** 2

    def sample(self, x0: Tensor, t: Tensor, space: Reals, generator: torch.Generator | None = None) -> Tensor:
        """zt ~ q_t(. | x0); x0 `[batch, seq, width]`, t `[batch, seq]`. ValueError for another width."""
        space.check(x0)
        return self.mix(Views(x0, normal(x0, generator)), t)

    def prior(self, values: Tensor, given: Tensor, space: Reals, generator: torch.Generator | None = None) -> Tensor:
        """`[batch, seq, width]`: the vectors that are given, and noise of t = 1 everywhere else."""
        space.check(values)
        return torch.where(given[..., None], values, self.sigma(torch.ones(())) * normal(values, generator))

    def mix(self, views: Views, t: Tensor) -> Tensor:
        """alpha x0 + sigma eps."""
        return self.alpha(t)[..., None] * views.x0 + self.sigma(t)[..., None] * views.eps

    def seen(self, views: Views, t: Tensor, view: View) -> Tensor:
        """A prediction as a network states it. v = alpha eps - sigma x0 (arXiv 2202.00512), u = dz / dt."""
        alpha, sigma = self.alpha(t)[..., None], self.sigma(t)[..., None]
        if view == "v":
            return alpha * views.eps - sigma * views.x0
        if view == "u":
            down, up = (s[..., None] for s in self._slopes(t))
            return down * views.x0 + up * views.eps
        return views.eps if view == "eps" else views.x0

    def views(self, predicted: Tensor, z: Tensor, t: Tensor, view: View) -> Views:
        """What `seen` shows, back to x0 and eps. At the ends of time some views do not tell: eps at t = 1, x0 at 0."""
        alpha, sigma = self.alpha(t)[..., None], self.sigma(t)[..., None]
        if view == "v":
            norm = alpha**2 + sigma**2
            return Views((alpha * z - sigma * predicted) / norm, (sigma * z + alpha * predicted) / norm)
        if view == "u":
            down, up = (s[..., None] for s in self._slopes(t))
            norm = alpha * up - sigma * down
            return Views((up * z - sigma * predicted) / norm, (alpha * predicted - down * z) / norm)
        if view == "eps":
            return Views((z - sigma * predicted) / alpha, predicted)
        return Views(predicted, (z - alpha * predicted) / sigma)

    def step(self, views: Views, z: Tensor, t: Tensor, s: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """z at times s <= t; tokens whose time does not change stay as they are, bit by bit."""
        ratio = self.alpha(t) / self.alpha(s).clamp_min(torch.finfo(z.dtype).tiny)
        fresh = (self.sigma(t) ** 2 - (ratio * self.sigma(s)) ** 2).clamp_min(0)  # variance between s and t
        spread = self.eta * fresh.sqrt() * self.sigma(s) / self.sigma(t).clamp_min(torch.finfo(z.dtype).tiny)
        kept = (self.sigma(s) ** 2 - spread**2).clamp_min(0).sqrt()
        moved = self.alpha(s)[..., None] * views.x0 + kept[..., None] * views.eps
        if self.eta:
            moved = moved + spread[..., None] * normal(z, generator)
        return torch.where((s == t)[..., None], z, moved)

    def loss_weight(self, snr: Tensor, view: View, clip: float = 5.0) -> Tensor:
        """Min-SNR weights of the squared error of a view (arXiv 2303.09556); `clip` bounds the SNR.

        Raises ValueError for u, whose weight is 1 on both paths.
        """
        bounded = snr.clamp_max(clip)  # eps: bounded / snr, which is 1 at snr 0
        if view == "u":
            raise ValueError("the velocity u has weight 1 on every path: leave its squared error as it is")
        return {"eps": 1 / (snr / clip).clamp_min(1), "x0": bounded, "v": bounded / (snr + 1)}[view]


def normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers of the shape of `like`, drawn where the generator is."""
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


def fused_snr(snr: Tensor, decay: float, clip: float = 5.0) -> Tensor:
    """An SNR for each token that counts what its past tells: `[batch, seq]` in and out (Diffusion Forcing's code).

    With S = min(snr, clip) / clip and its running mean C: S' = 1 - (1 - decay C_before)(1 - S), times clip. A token
    with a clean past is not really in the dark. The first token, and decay 0, keep S.
    """
    checks.number("decay", decay, 0, checks.BELOW_1, "a number in [0, 1): how much of the past counts")
    checks.number("clip", clip, checks.TINY, checks.HUGE, "the largest SNR that counts, above 0")
    checks.tensor("snr", snr, snr.dtype, ("batch", "seq"))
    s = snr.clamp_max(clip) / clip
    n = torch.arange(s.shape[1], device=s.device)
    lag = (n[:, None] - n[None, :]).clamp_min(0)  # of the running mean at a token (row) behind a token (column)
    share = torch.tril(decay ** lag.to(s.dtype))
    share[:, 1:] *= 1 - decay
    before = torch.cat([torch.zeros_like(s[:, :1]), (s @ share.T)[:, :-1]], dim=1)
    return clip * (1 - (1 - decay * before) * (1 - s))

"""A time for every token: how training draws them, and the paths that sampling and bounds walk.

Two objects, because they are two questions: a model trained on independent times (`Independent`) may be walked along
the diagonal, from left to right, or along any other path. Both serve discrete and Gaussian tokens alike. Tokens that
are given are clean: their time is 0.

| drawn in training | literature                                                   |
| ----------------- | ------------------------------------------------------------ |
| `Shared`          | masked diffusion, UDLM, GIDD, full-sequence diffusion        |
| `Independent`     | Diffusion Forcing (arXiv 2407.01392)                         |
| `BlockConstant`   | block diffusion (arXiv 2503.09573), LaDiR (arXiv 2510.04573) |
| `PrefixClean`     | teacher forcing                                              |
| `AlongPath`       | what a path visits                                           |
| `Mixture`         | two of them, by shares                                       |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unspoken import checks


def stratified_times(n: int, generator: torch.Generator | None = None, device: torch.device | None = None) -> Tensor:
    """`[n]` times in (0, 1], one in each n-th of the interval, in random order: uniform, with low variance."""
    at = "cpu" if generator is None else generator.device
    offset = torch.rand(n, generator=generator, device=at)
    stratum = torch.randperm(n, generator=generator, device=at)
    # 1 - u keeps away from t = 0, where the NELBO's weight is infinite.
    return (1 - (stratum + offset) / n).clamp_min(torch.finfo(torch.float32).tiny).to(device or at)


def turns(given: Tensor) -> Tensor:
    """`[batch, seq]`: which of its row's free tokens each is, counted from the left; those given count nothing."""
    return ((~given).cumsum(1) - 1).clamp_min(0)


class Path(ABC):
    """Monotone times in [0, 1] of every token, from all at the prior (u = 1) to all clean (u = 0).

    A path says how many ramps late each token sets out; all ramps are as long, and follow one curve.
    """

    @abstractmethod
    def delay(self, rank: Tensor, free: Tensor) -> Tensor:
        """`[batch, seq]`, in ramps: when the token of that rank, of `free` `[batch, 1]`, begins to get clean."""

    def at(self, u: Tensor, given: Tensor, rank: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Times `[batch, seq]`, and their speed dt / du, at `u` `[batch]` in [0, 1], of linear ramps.

        given: `[batch, seq]` bool, tokens at time 0. rank: `[batch, seq]`, the order of those that are not, from 0; by
        default from the left.
        """
        _check_given(given)
        checks.tensor("u", u, u.dtype, given.shape[:1])
        if rank is not None:
            checks.tensor("rank", rank, torch.int64, given.shape)
        rank = turns(given) if rank is None else rank
        late = torch.where(given, 0, self.delay(rank, (~given).sum(1, keepdim=True))).to(u.dtype)
        longest = 1 + late.amax(1, keepdim=True) if late.shape[1] else torch.ones_like(u[:, None])
        t = 1 + late - (1 - u[:, None]) * longest
        moving = (t > 0) & (t < 1) & ~given
        return torch.where(given, 0, t.clamp(0, 1)), moving * longest

    def grid(self, steps: int, given: Tensor, rank: Tensor | None = None) -> Tensor:
        """`[steps + 1, batch, seq]`: the times before the first of so many steps and after each; the last are 0."""
        checks.count("steps", steps, 1)
        _check_given(given)
        checks.ranks(rank, given)
        us = 1 - torch.arange(steps + 1, device=given.device, dtype=torch.float64) / steps
        return torch.stack([self._rounded(self.at(u.expand(len(given)), given, rank)[0]) for u in us])

    @staticmethod
    def _rounded(t: Tensor) -> Tensor:
        """Times that rounding has kept from an end are at it: a ramp that is over is over."""
        return torch.where(t < 1e-9, 0.0, torch.where(t > 1 - 1e-9, 1.0, t))


@dataclass(frozen=True)
class Diagonal(Path):
    """All tokens at one time."""

    def delay(self, rank: Tensor, free: Tensor) -> Tensor:
        """None."""
        return torch.zeros_like(rank)


@dataclass(frozen=True)
class Autoregressive(Path):
    """One token after the other, each from prior to clean."""

    def delay(self, rank: Tensor, free: Tensor) -> Tensor:
        """Its rank."""
        return rank


@dataclass(frozen=True)
class Pyramid(Path):
    """Each token `scale` of a ramp after the one before: between `Diagonal` (0) and `Autoregressive` (1)."""

    scale: float = 0.15

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    def delay(self, rank: Tensor, free: Tensor) -> Tensor:
        """In proportion to its rank."""
        return self.scale * rank


@dataclass(frozen=True)
class Blockwise(Path):
    """Blocks of `size` tokens one after the other, each block at one time."""

    size: int = 4

    def __post_init__(self) -> None:
        checks.count("size", self.size, 1)

    def delay(self, rank: Tensor, free: Tensor) -> Tensor:
        """Its block."""
        return rank // self.size


@dataclass(frozen=True)
class Trapezoid(Path):
    """Both ends first, the middle last: for a middle between what is known."""

    scale: float = 0.15

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    def delay(self, rank: Tensor, free: Tensor) -> Tensor:
        """In proportion to how far the nearer end is."""
        return self.scale * torch.minimum(rank, free - 1 - rank)


@dataclass(frozen=True)
class Sizes(Path):
    """So many tokens in each step, one step after the other, such as an `InformationProfile` plans.

    Walked in `len(sizes)` steps, every token goes from prior to clean in one: parallel decoding.
    """

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        checks.counts("sizes", self.sizes, 1)
        if not self.sizes:
            raise ValueError("sizes=() says nothing: give a number of tokens, 1 or more, for every step")

    def delay(self, rank: Tensor, free: Tensor) -> Tensor:
        """The step that it is said in. Raises ValueError where a row has not so many free tokens."""
        if bool((free != sum(self.sizes)).any()):
            raise ValueError(
                f"sizes={self.sizes} say {sum(self.sizes)} tokens; rows have {int(free.min())} to {int(free.max())} to "
                "say: give sizes that sum to that"
            )
        ends = torch.tensor(self.sizes, device=rank.device).cumsum(0)
        return torch.searchsorted(ends, rank, right=True)


def _check_scale(scale: float) -> None:
    # Past 1 nothing moves between a token's ramp and the next: of long pauses a few random times see nothing else.
    checks.number("scale", scale, 0, 10, "the delay from token to token, in ramps, from 0 to 10")


def _check_given(given: Tensor) -> None:
    checks.tensor("given", given, torch.bool, ("batch", "seq"))


Paths = Diagonal | Autoregressive | Pyramid | Blockwise | Trapezoid | Sizes


@dataclass(frozen=True)
class Shared:
    """One time a row, stratified over the batch."""

    def draw(self, given: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """`[batch, seq]` times in (0, 1], 0 where given."""
        _check_given(given)
        t = stratified_times(len(given), generator, given.device)
        return torch.where(given, 0.0, t[:, None])


@dataclass(frozen=True)
class Independent:
    """A time for every token, stratified over the batch and the sequence.

    With masks, how many tokens are masked is then binomial, and the empty and full ends are hardly seen: mix in some
    `Shared`. The mean loss is no bound; `bound.nelbo_along` is.
    """

    def draw(self, given: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Shared.draw`."""
        _check_given(given)
        t = stratified_times(given.numel(), generator, given.device).view(given.shape)
        return torch.where(given, 0.0, t)


@dataclass(frozen=True)
class BlockConstant:
    """A time for every block of `size` free tokens."""

    size: int = 4

    def __post_init__(self) -> None:
        checks.count("size", self.size, 1)

    def draw(self, given: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Shared.draw`."""
        _check_given(given)
        block = turns(given) // self.size
        blocks = int(block.max()) + 1 if block.numel() else 1
        times = stratified_times(len(given) * blocks, generator, given.device).view(len(given), blocks)
        return torch.where(given, 0.0, times.gather(1, block))


@dataclass(frozen=True)
class PrefixClean:
    """A clean prefix of random length, and one time for what follows: teacher forcing, or a prompt of any length."""

    def draw(self, given: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Shared.draw`. At least one token of a row is noisy."""
        _check_given(given)
        free = (~given).sum(1)
        cut = ((1 - stratified_times(len(given), generator, given.device)) * free).floor()
        t = stratified_times(len(given), generator, given.device)
        return torch.where(given | (turns(given) < cut[:, None]), 0.0, t[:, None])


@dataclass(frozen=True)
class AlongPath:
    """The times that a path visits, uniformly along its way."""

    path: Paths = field(default_factory=Autoregressive)

    def __post_init__(self) -> None:
        checks.kind("path", self.path, Path, "a path, such as us.Diagonal()")

    def draw(self, given: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Shared.draw`; tokens that have arrived are at 0 too."""
        _check_given(given)
        return self.path.at(stratified_times(len(given), generator, given.device), given)[0]


Simple = Shared | Independent | BlockConstant | PrefixClean | AlongPath


@dataclass(frozen=True)
class Mixture:
    """Each row's times from one of two ways to draw them: `share` of the rows from the second."""

    first: Simple = field(default_factory=Shared)
    second: Simple = field(default_factory=Independent)
    share: float = 0.5

    def __post_init__(self) -> None:
        for name, times in (("first", self.first), ("second", self.second)):
            checks.has(name, times, ("draw",), "a way to draw times, such as us.Shared()")
        checks.number("share", self.share, 0, 1, "the second's share of the rows, in [0, 1]")

    def draw(self, given: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Shared.draw`."""
        first, second = self.first.draw(given, generator), self.second.draw(given, generator)
        return torch.where(stratified_times(len(given), generator, given.device)[:, None] <= self.share, second, first)


Times = Simple | Mixture

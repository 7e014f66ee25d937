"""Viscous Burgers in one dimension: vectors whose future is known, or, with a hidden force, its exact distribution.

u_t + u u_x = nu u_xx + f on a circle of length 1, nu = .02. Two frames are given, four asked; f is 0 until the second.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unspoken import checks
from unspoken.messages import quoted
from unspoken.tasks.base import SPLITS, Examples, Split, Values, check_range, check_seed
from unspoken.tasks.sampled import Form
from unspoken.tasks.store import cache_dir, kept
from unspoken.tasks.valued import WORDS, Valued, relative_l2

VISCOSITY = 0.02
POINTS = 64  # of a frame
PAST, FUTURE = 2, 4  # frames
GAP = 0.05  # of time, between two frames
STEPS = 10  # of the solver, between two frames
MODES = 3  # of a random field
WIDTH = 16  # values of a token
MOST = 4.0  # of a value that a person writes: the solver's steps are for such

_TOKENS = POINTS // WIDTH  # of a frame
_VERSION = 1  # of what is drawn: part of the cache's key
_TOGETHER = 2_000  # trajectories solved at a time


@dataclass(frozen=True)
class Burgers(Valued):
    """Six frames of 64 points, each four tokens of 16 values; the first two frames are the prompt.

    The first frame is a random field of three waves, with mean 0 and root mean square 1. Without forcing the prompt
    determines the rest, and an answer is right where its relative L2 error is within `tolerance`. With forcing a second
    such field, times `forcing`, acts from the second frame on. It is drawn for each example and not shown, so a prompt
    has many futures (`futures`), and no answer is the only right one: `judged` is False.

    Attributes:
        forcing: The root mean square of the force, 0 to 4.
        tolerance: Of an answer, relative to the norm of the true one.
        train: Examples in the split.
        validation: Examples in the split.
        test: Examples in the split.
        seed: Of all splits. It and the split determine the past, whatever the forcing.
    """

    forcing: float = 0.0
    tolerance: float = 0.1
    train: int = 20_000
    validation: int = 200
    test: int = 500
    seed: int = 0

    values: ClassVar[Values] = Values("Vectors", (WIDTH,))

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        checks.plain(self)
        check_range(self, "forcing", 0, 4)
        check_seed(self.seed)
        if not self.tolerance > 0:
            raise ValueError(f"tolerance={self.tolerance}; give a number above 0")
        if self.train < 1 or min(self.validation, self.test) < 0:
            sizes = self.train, self.validation, self.test
            raise ValueError(f"train, validation, test = {sizes} given, at least 1, 0 and 0 expected")

    @cached_property
    def form(self) -> Form:
        """The tokens of the past, and of the future."""
        title = f"viscous Burgers, {POINTS} points" + (f", hidden forcing {self.forcing:g}" if self.forcing else "")
        return Form(title, WORDS, asked=PAST * _TOKENS, said=FUTURE * _TOKENS)

    @property
    def judged(self) -> bool:
        """Whether the prompt determines the future."""
        return self.forcing == 0

    def holds(self, split: Split) -> int:
        """Examples in a split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    def numbered(self, split: Split, index: Tensor) -> Examples:
        return self.examples(_stored(self.forcing, self.seed, split, self.holds(split))[index])

    def more(self, split: Split) -> str:
        return f", or a larger {split}= in {type(self).__name__}(...)"

    def frames(self, value: Tensor) -> Tensor:
        """`[..., 6, 64]` points in space, of values `[..., 24, 16]`."""
        return value.unflatten(-2, (PAST + FUTURE, _TOKENS)).flatten(-2)

    def tokens(self, frames: Tensor) -> Tensor:
        """`[..., 24, 16]` values, of frames `[..., 6, 64]`: see `frames`."""
        return frames.unflatten(-1, (_TOKENS, WIDTH)).flatten(-3, -2)

    def truth(self, prompt: Tensor) -> Tensor:
        """`[n, length, 16]` float64: what follows on the past of `prompt` `[n, length, 16]` where nothing forces it."""
        past = self._past(prompt)
        return self.tokens(torch.cat([past, solve(past[:, -1], FUTURE)], 1))

    def futures(self, prompt: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
        """`[n, k, length, 16]` float32: draws of the true future of each row of `prompt` `[n, length, 16]`, the past
        with them.

        generator: of the forces, None = a fresh one of seed 0. Without forcing all draws of a row are equal.
        """
        checks.count("k", k, 1)
        past = self._past(prompt)
        if not self.forcing:
            return self.truth(prompt).float()[:, None].repeat(1, k, 1, 1)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        every = past.repeat_interleave(k, 0)
        force = self.forcing * field(_uniform(len(every), generator))
        after = [solve(u[:, -1], FUTURE, f) for u, f in zip(*_parts(every, force), strict=True)]
        return self.tokens(torch.cat([every, torch.cat(after)], 1)).float().unflatten(0, (len(past), k))

    def error(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]`: relative L2 distance of the future of `answer` `[n, length, 16]` to that without forcing."""
        true, said = (its[:, self.asked :].double().flatten(1) for its in (self.truth(prompt), answer.cpu()))
        return relative_l2(said, true)

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: the error is within the tolerance; with forcing, every number is finite."""
        if self.forcing:
            return tokens.isfinite().flatten(1).all(1)
        return self.error(tokens, tokens) <= self.tolerance

    def word(self, value: Tensor) -> str:
        """Sixteen numbers with commas between."""
        return ",".join(f"{x:.3f}" for x in value.tolist())

    def parse(self, word: str) -> Tensor:
        """See `word`. ValueError for other than 16 numbers, or one that is too large."""
        try:
            value = torch.tensor([float(x) for x in word.split(",")])
        except ValueError:
            value = torch.empty(0)
        if value.shape != (WIDTH,) or not bool((value.abs() <= MOST).all()):
            raise ValueError(f"{quoted(word)} given, {WIDTH} numbers from -{MOST:g} to {MOST:g} expected, with commas")
        return value

    def describe(self) -> dict[str, Any]:
        """The card, and the equation."""
        equation = f"u_t + u u_x = {VISCOSITY} u_xx{' + f' if self.forcing else ''}, a frame each {GAP} of time"
        return super().describe() | {"equation": equation}

    def _past(self, prompt: Tensor) -> Tensor:
        """`[n, 2, 64]` float64: the frames that are given; ValueError where one is not known."""
        if prompt.dim() != 3 or prompt.shape[1:] != (self.length, WIDTH):
            raise ValueError(f"prompt is of shape {tuple(prompt.shape)}; give [n, {self.length}, {WIDTH}] values")
        past = self.frames(prompt.cpu().double())[:, :PAST]
        if not bool(past.isfinite().all()):
            raise ValueError(f"a prompt lacks values of its first {PAST} frames; give all of them, finite")
        return past


def field(u: Tensor) -> Tensor:
    """`[n, 64]` float64: waves of mean 0 and root mean square 1, of uniform numbers in [0, 1) `[n, 6]`.

    Before it is scaled, wave k has independent normal coefficients of standard deviation 1 / k (Box and Muller 1958).
    """
    wave = torch.arange(1, MODES + 1, dtype=torch.float64)
    size = (-2 * (1 - u[:, :MODES]).log()).sqrt() / wave
    x = torch.arange(POINTS, dtype=torch.float64) / POINTS
    phase = 2 * math.pi * (wave[:, None] * x + u[:, MODES:, None])
    raw = (size[..., None] * phase.cos()).sum(1)
    return raw / (size.square().sum(1, keepdim=True) / 2).sqrt()


def solve(start: Tensor, frames: int, force: Tensor | None = None, *, gap: float = GAP, steps: int = STEPS) -> Tensor:
    """`[n, frames, points]` float64: u at times `gap`, 2 `gap`, ... where it is `start` `[n, points]` at time 0.

    force: `[n, points]`, constant in time; None for none. steps: of Runge and Kutta's fourth-order method, a frame. In
    space by Fourier series, of which two thirds are kept, so that products have no aliases (Orszag 1971).
    """
    points = start.shape[-1]
    if not len(start):
        return start.new_zeros(0, frames, points, dtype=torch.float64)  # of which there are no Fourier series
    mode = torch.arange(points // 2 + 1, dtype=torch.float64)
    kept_modes, k = mode <= points // 3, 2 * math.pi * mode
    advect, decay = -0.5j * k * kept_modes, VISCOSITY * k**2
    forced = 0.0 if force is None else torch.fft.rfft(force.double()) * kept_modes
    h, u, found = gap / steps, torch.fft.rfft(start.double()) * kept_modes, []

    def slope(u: Tensor) -> Tensor:
        return advect * torch.fft.rfft(torch.fft.irfft(u, n=points) ** 2) - decay * u + forced

    for _ in range(frames):
        for _ in range(steps):
            a = slope(u)
            b = slope(u + h / 2 * a)
            c = slope(u + h / 2 * b)
            u = u + h / 6 * (a + 2 * b + 2 * c + slope(u + h * c))
        found.append(torch.fft.irfft(u, n=points))
    return torch.stack(found, 1)


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    """`[n, 6]`: what a field is made of."""
    return torch.rand(n, 2 * MODES, generator=generator, dtype=torch.float64, device=generator.device).cpu()


def _parts(*rows: Tensor) -> list[tuple[Tensor, ...]]:
    """Each of several `[n, ...]` in parts that the caches of a processor hold."""
    return [its.split(_TOGETHER) for its in rows]


def _drawn(forcing: float, seed: int, split: Split, n: int) -> Tensor:
    """`[n, 24, 16]` float32: the first n examples of a split's own stream."""
    generator = torch.Generator().manual_seed((1_000_003 * seed + 1 + SPLITS.index(split)) % 2**63)
    # A row of numbers each, so that the first examples do not depend on how many are drawn, nor the past on the force.
    u = torch.rand(n, 4 * MODES, generator=generator, dtype=torch.float64)
    found = []
    for begins, forces in zip(*_parts(u[:, : 2 * MODES], u[:, 2 * MODES :]), strict=True):
        first = field(begins)
        past = torch.cat([first[:, None], solve(first, PAST - 1)], 1)
        force = forcing * field(forces) if forcing else None
        found.append(torch.cat([past, solve(past[:, -1], FUTURE, force)], 1).float())
    return Burgers().tokens(torch.cat(found))


@lru_cache(maxsize=8)
def _stored(forcing: float, seed: int, split: Split, n: int) -> Tensor:
    """What `_drawn` gives, kept on the disk."""
    key = hashlib.sha256(repr((_VERSION, float(forcing), seed, split, n)).encode()).hexdigest()[:16]
    data = kept(cache_dir() / f"burgers-{key}.bin", lambda: _drawn(forcing, seed, split, n).numpy().tobytes())
    rows = np.frombuffer(data, np.float32).reshape(n, (PAST + FUTURE) * _TOKENS, WIDTH)
    return torch.from_numpy(rows.copy())

"""Trajectories of a particle that bounces in a box: vectors whose answer is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from unspoken import checks
from unspoken.messages import quoted
from unspoken.tasks.base import SPLITS, Examples, Split, Values
from unspoken.tasks.sampled import Form
from unspoken.tasks.valued import WORDS, Valued


@dataclass(frozen=True)
class Bouncing(Valued):
    """Positions in the square [-1, 1] x [-1, 1] at equal times; walls reflect, and nothing else happens.

    The prompt is the first two positions (no wall is met between them), and so the rest is determined. An answer is
    right where no position is farther than `tolerance` from the true one.

    Attributes:
        positions: Of a trajectory, the prompt's two included.
        speed: The largest distance between two positions; the least is half of it.
        tolerance: Of an answer.
        validation: Trajectories in the split.
        test: Trajectories in the split.
        seed: Of validation and test; training draws new trajectories without end.
    """

    positions: int = 16
    speed: float = 0.4
    tolerance: float = 0.2
    validation: int = 500
    test: int = 1_000
    seed: int = 0

    values: ClassVar[Values] = Values("Vectors", (2,))

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        checks.plain(self)
        if self.positions < 3 or not 0 < self.speed < 1 or not self.tolerance > 0:
            raise ValueError(
                f"positions={self.positions}, speed={self.speed}, tolerance={self.tolerance}: give 3 or more, "
                "a speed in (0, 1) and a tolerance above 0"
            )
        if min(self.validation, self.test, self.seed) < 0:
            raise ValueError(f"validation, test, seed = {self.validation}, {self.test}, {self.seed}: give 0 or more")

    @cached_property
    def form(self) -> Form:
        """The first two positions, and the rest."""
        return Form(f"bouncing particle, {self.positions} positions", WORDS, asked=2, said=self.positions - 2)

    def holds(self, split: Split) -> int:
        """Trajectories in a split; of train there is no end, and this is what counts as one epoch."""
        return {"train": 100_000, "validation": self.validation, "test": self.test}[split]

    def numbered(self, split: Split, index: Tensor) -> Examples:
        """Those of a stream of the split's own."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + 1 + SPLITS.index(split))
        return self.examples(self._fresh(int(index.max()) + 1 if len(index) else 0, generator)[index])

    def drawn(self, n: int, generator: torch.Generator) -> Examples:
        return self.examples(self._fresh(n, generator))

    def truth(self, prompt: Tensor) -> Tensor:
        """`[n, length, 2]`: where the particle goes, from the first two positions of `prompt` `[n, length, 2]`."""
        first = prompt[:, :2].double()
        return self._path(first[:, 0], first[:, 1] - first[:, 0])

    def error(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n, length]`: how far each position of an answer is from the true one."""
        return (answer.double() - self.truth(prompt)).norm(dim=-1)

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: every position is within the tolerance."""
        return (self.error(tokens, tokens) <= self.tolerance).all(1)

    def word(self, value: Tensor) -> str:
        """`x,y`."""
        return ",".join(f"{x:.3f}" for x in value.tolist())

    def parse(self, word: str) -> Tensor:
        """See `word`. ValueError for other than two finite numbers inside the box."""
        try:
            value = torch.tensor([float(x) for x in word.split(",")])
        except ValueError:
            value = torch.empty(0)
        if value.shape != (2,) or not bool((value.abs() <= 1).all()):
            raise ValueError(f"{quoted(word)} given, a position x,y with numbers from -1 to 1 expected")
        return value

    def _fresh(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, length, 2]` new trajectories, float32."""
        # A row of numbers each, so that the first trajectories of a stream do not depend on how many are drawn.
        u = torch.rand(n, 4, generator=generator, dtype=torch.float64)
        speed, angle = self.speed * (1 + u[:, :1]) / 2, 2 * torch.pi * u[:, 1:2]
        velocity = speed * torch.cat([angle.cos(), angle.sin()], 1)
        low, high = -1 - velocity.clamp_max(0), 1 - velocity.clamp_min(0)
        start = low + (high - low) * u[:, 2:]  # both it and the next position are inside
        return self._path(start, velocity).float()

    def _path(self, start: Tensor, velocity: Tensor) -> Tensor:
        """`[n, length, 2]`: the straight line from `start` `[n, 2]`, folded back into the box at its walls."""
        line = start[:, None] + velocity[:, None] * torch.arange(self.length, dtype=start.dtype)[:, None]
        along = (line + 1).remainder(4)
        return torch.where(along > 2, 4 - along, along) - 1

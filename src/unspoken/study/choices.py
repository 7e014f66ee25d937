"""Which setting of a decoder? The one of fewest FLOPs that is as accurate as a baseline, on validation puzzles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from unspoken.decoders.slots import Slots
from unspoken.measure.accuracy import Outcome, Solved, solved
from unspoken.model.denoiser import Denoiser
from unspoken.study.speed import floor_of
from unspoken.tasks.base import Examples, Task

TOGETHER = 500  # puzzles decoded together
BEHIND = 0.01  # a setting that is so far below the least accuracy is tried on no more of them


@dataclass(frozen=True)
class Choice:
    """A way to decode a model.

    accuracy, low, flops: of one that was tried on validation: share solved, the least as good, a puzzle's FLOPs.
    """

    model: str
    decoding: Slots
    accuracy: float = 0.0
    low: float = 0.0
    flops: float = inf

    @property
    def way(self) -> tuple[str, Slots]:
        """What is done, whatever it is called."""
        return self.model, self.decoding


def tried(
    name: str, models: Sequence[Denoiser], task: Task, held_out: Examples, decoding: Slots, floor: float
) -> Choice:
    """A setting on validation: on all of it, unless the first puzzles say that it is not as accurate as `floor`."""
    parts: list[list[Solved]] = []
    for some in held_out.split(TOGETHER):
        parts.append([solved(model, task, some, decoding, TOGETHER) for model in models])
        if float(Outcome.of(parts).right.mean()) < floor - BEHIND:
            break
    its = Outcome.of(parts)
    return Choice(name, decoding, float(its.right.mean()), floor_of(its.right), its.flops)


def cheapest(choices: Sequence[Choice], floor: float) -> Choice:
    """The fewest FLOPs of those that reach the accuracy `floor`; where none does, the most accurate."""
    good = [c for c in choices if c.accuracy >= floor]
    return min(good, key=lambda c: c.flops) if good else max(choices, key=lambda c: (c.accuracy, -c.flops))

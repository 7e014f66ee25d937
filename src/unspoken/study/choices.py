"""Which setting of a decoder? The one of fewest FLOPs that is as accurate as a baseline, on validation puzzles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from torch import Tensor

from unspoken.decoders.slots import Slots
from unspoken.measure.accuracy import Outcome, Solved, solved
from unspoken.model.denoiser import Denoiser
from unspoken.study.speed import floor_of
from unspoken.tasks.base import Examples, Task

TOGETHER = 250  # puzzles decoded together
BEHIND = 0.01  # a setting that falls so far behind the least accuracy is tried on no more puzzles


@dataclass(frozen=True)
class Choice:
    """A way to decode a model; accuracy and flops (a puzzle's) are those on validation, of one that was tried there."""

    model: str
    decoding: Slots
    accuracy: float = 0.0
    flops: float = inf

    @property
    def way(self) -> tuple[str, Slots]:
        """What is done, whatever it is called."""
        return self.model, self.decoding


def tried(
    name: str, models: Sequence[Denoiser], task: Task, held_out: Examples, decoding: Slots, base: Tensor | None = None
) -> tuple[Choice, Tensor]:
    """A setting on validation, and what it solves of it `[seeds, puzzles]`.

    base: what the baseline solves `[seeds, puzzles]`. A setting that falls behind it, on the puzzles so far, by more
        than counts as equal (Wilson's interval) and `BEHIND`, is tried on no more. Its accuracy is then the baseline's
        less what it fell behind, as those puzzles may be easier than the others.
    """
    parts: list[list[Solved]] = []
    for some in held_out.split(TOGETHER):
        parts.append([solved(model, task, some, decoding, TOGETHER) for model in models])
        if base is not None and _gain(Outcome.of(parts).right, base) < floor_of(base) - float(base.mean()) - BEHIND:
            break
    its = Outcome.of(parts)
    accuracy = float(its.right.mean()) if base is None else float(base.mean()) + _gain(its.right, base)
    return Choice(name, decoding, accuracy, its.flops), its.right


def _gain(right: Tensor, base: Tensor) -> float:
    """Over the baseline, on the puzzles that both were asked."""
    return float((right - base[:, : right.shape[1]]).mean())


def cheapest(choices: Sequence[Choice], floor: float) -> Choice:
    """The fewest FLOPs of those that reach the accuracy `floor`; where none does, the most accurate."""
    good = [c for c in choices if c.accuracy >= floor]
    return min(good, key=lambda c: c.flops) if good else max(choices, key=lambda c: (c.accuracy, -c.flops))

"""Choosing, on validation, the cheapest way to decode that keeps an accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unspoken.decoders.slots import Slots
from unspoken.measure.intervals import share_interval
from unspoken.model.denoiser import Denoiser
from unspoken.study.outcome import Outcome, solved
from unspoken.tasks.base import Examples, Task


@dataclass(frozen=True)
class Choice:
    """A way to decode a model, and what it gave on validation: share solved, its interval's lower end, FLOPs."""

    model: str
    decoding: Slots
    accuracy: float
    low: float
    flops: float


def tried(
    name: str, models: Sequence[Denoiser], task: Task, held_out: Examples, decoding: Slots, batch: int = 64
) -> Choice:
    """A setting on validation."""
    its = Outcome.of([[solved(model, task, held_out, decoding, batch) for model in models]])
    return Choice(name, decoding, float(its.right.mean()), share_interval(its.right)[0], its.flops)


def cheapest(choices: Sequence[Choice], floor: float) -> Choice:
    """The fewest FLOPs of those that reach the accuracy `floor`; where none does, the most accurate."""
    good = [c for c in choices if c.accuracy >= floor]
    return min(good, key=lambda c: c.flops) if good else max(choices, key=lambda c: (c.accuracy, -c.flops))

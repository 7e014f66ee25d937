"""Choosing, on validation, the cheapest way to decode that keeps an accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unspoken.decoders.decode import Decoder
from unspoken.decoders.slots import Slots
from unspoken.measure.accuracy import Solved, solve
from unspoken.measure.intervals import share_interval
from unspoken.model.denoiser import Denoiser
from unspoken.tasks.base import Examples, Task


@dataclass(frozen=True)
class Choice:
    """A way to decode a model, and what it gave on validation: share solved, its interval's lower end, FLOPs."""

    model: str
    decoding: Slots
    accuracy: float
    low: float
    flops: float


def solved(model: Denoiser, task: Task, examples: Examples, decoding: Decoder, batch: int) -> Solved:
    """`accuracy.solve` to its end."""
    return next(e for e in solve(model, task, examples, decoding, batch=batch) if isinstance(e, Solved))


def tried(
    name: str, models: Sequence[Denoiser], task: Task, held_out: Examples, decoding: Slots, batch: int = 64
) -> Choice:
    """A setting on validation."""
    of_seeds = [solved(model, task, held_out, decoding, batch) for model in models]
    right = torch.stack([s.right for s in of_seeds]).double()
    return Choice(
        name, decoding, float(right.mean()), share_interval(right)[0], sum(s.flops for s in of_seeds) / len(of_seeds)
    )


def cheapest(choices: Sequence[Choice], floor: float) -> Choice:
    """The fewest FLOPs of those that reach the accuracy `floor`; where none does, the most accurate."""
    good = [c for c in choices if c.accuracy >= floor]
    return min(good, key=lambda c: c.flops) if good else max(choices, key=lambda c: (c.accuracy, -c.flops))

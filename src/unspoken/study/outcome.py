"""What decoding gives and costs over seeds and examples, and the columns that say it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder
from unspoken.measure.accuracy import Solved, solve
from unspoken.model.denoiser import Denoiser
from unspoken.study.report import Stage
from unspoken.study.table import Column
from unspoken.tasks.base import Examples, Task

Way = TypeVar("Way", bound=Hashable)  # what a way to decode goes by


@dataclass(frozen=True)
class Outcome:
    """A way to decode, on the same examples for every seed.

    right: `[seeds, examples]` float64, 1 where the answer is right. The rest are means an example, entries and latents
        a pass.
    """

    right: Tensor
    passes: float
    entries: float
    latents: float
    flops: float
    seconds: float

    @classmethod
    def of(cls, parts: Sequence[Sequence[Solved]]) -> Outcome:
        """From every part of the examples and, in it, every seed."""
        right = torch.cat([torch.stack([s.right for s in seeds]) for seeds in parts], dim=1).double()
        share = [len(seeds[0].right) / right.shape[1] for seeds in parts]
        mean = {
            name: sum(
                w * sum(getattr(s, name) for s in seeds) / len(seeds) for w, seeds in zip(share, parts, strict=True)
            )
            for name in ("passes", "entries", "latents", "flops", "seconds")
        }
        return cls(right, **mean)

    def costs(self, of: str) -> dict[str, float]:
        """The values of `cost_columns`."""
        return {
            "passes": self.passes,
            "entries_per_pass": self.entries,
            f"flops_per_{of}": self.flops,
            f"seconds_per_{of}": self.seconds,
        }


def cost_columns(of: str, mflops: int = 0, milliseconds: int = 2, hidden: tuple[str, ...] = ()) -> tuple[Column, ...]:
    """Passes, entries, FLOPs and seconds of a puzzle or an example.

    mflops, milliseconds: how many digits are shown. hidden: headings of those that are recorded and not shown.
    """
    columns = (
        Column("passes", "passes", "{:.1f}".format),
        Column("entries_per_pass", "entries", "{:.1f}".format),
        Column(f"flops_per_{of}", "MFLOPs", lambda flops: f"{flops / 1e6:.{mflops}f}"),
        Column(f"seconds_per_{of}", "ms", lambda seconds: f"{seconds * 1e3:.{milliseconds}f}"),
    )
    return tuple(replace(c, heading="") if c.heading in hidden else c for c in columns)


def measured(
    ways: Mapping[Way, tuple[Sequence[Denoiser], Decoder]],
    task: Task,
    test: Examples,
    batch: int,
    stage: Callable[[Way, int], Stage],
) -> Generator[Stage, None, dict[Way, Outcome]]:
    """Every way, with a model for each seed, on the same examples; a stage for each pass of a way and its entries.

    Batches outside, ways inside: whatever else the machine does falls on all ways alike.
    """
    found: dict[Way, list[list[Solved]]] = {way: [] for way in ways}
    for part in test.split(batch):
        for way, (models, decoding) in ways.items():
            found[way].append([])
            for model in models:
                for event in solve(model, task, part, decoding, batch=batch):
                    if isinstance(event, Solved):
                        found[way][-1].append(event)
                    else:
                        yield stage(way, event)
    return {way: Outcome.of(parts) for way, parts in found.items()}


def solved(model: Denoiser, task: Task, examples: Examples, decoding: Decoder, batch: int) -> Solved:
    """`accuracy.solve` to its end."""
    return next(e for e in solve(model, task, examples, decoding, batch=batch) if isinstance(e, Solved))

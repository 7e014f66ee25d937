"""What the benchmarks share: random trunks of a shape, prompts, and timing several ways in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unspoken import Attention, Decoder, Denoiser, Trunk
from unspoken.measure.costs import pass_flops

VOCAB = 32


@dataclass(frozen=True)
class Shape:
    """A trunk and a sequence: width x layers, tokens, the share of them that is the prompt."""

    layers: int
    width: int
    heads: int
    length: int
    given: float = 0.25

    @property
    def trunk(self) -> str:
        """Width x layers."""
        return f"{self.width} x {self.layers}"


@dataclass
class Timed:
    """Seconds of each repeat, and what one decoding computed a row of the batch."""

    seconds: list[float] = field(default_factory=list)
    passes: int = 0
    entries: float = 0.0
    flops: float = 0.0
    tokens: Tensor | None = None


def model_of(shape: Shape, attention: Attention) -> Denoiser:
    """A random trunk in float32: one seed, so the same weights whatever the attention."""
    torch.manual_seed(0)
    trunk = Trunk(layers=shape.layers, width=shape.width, heads=shape.heads, init=0.05)
    config = trunk.config(VOCAB + 1, shape.length)
    return Denoiser.from_config(config, attention=attention, mask_id=VOCAB, positions=shape.length)


def prompts(shape: Shape, batch: int, scattered: bool = False) -> Tensor:
    """`[batch, length]`: a random prompt on the left (or scattered), masks elsewhere."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCAB, (batch, shape.length), generator=generator)
    said = round(shape.given * shape.length)
    place = torch.rand(batch, shape.length, generator=generator).argsort(1)[:, said:]
    return (
        tokens.scatter(1, place, VOCAB) if scattered else tokens.index_fill(1, torch.arange(said, shape.length), VOCAB)
    )


def measure(ways: Mapping[str, tuple[Denoiser, Decoder]], tokens: Tensor, repeats: int) -> dict[str, Timed]:
    """Times every way in turns, so that whatever else the machine does falls on all; one turn before does not count."""
    timed = {name: Timed() for name in ways}
    for turn in range(repeats + 1):
        for name, (model, decoding) in ways.items():
            clock = time.perf_counter()
            steps = list(decoding.steps(model, tokens))
            seconds = time.perf_counter() - clock
            if turn:
                timed[name].seconds.append(seconds)
                continue
            share = [len(s.rows) / len(tokens) for s in steps]
            entries = sum(part * s.entries for part, s in zip(share, steps, strict=True))
            flops = sum(
                part * pass_flops(model, s.entries, s.asked, s.cached) for part, s in zip(share, steps, strict=True)
            )
            timed[name] = Timed([], len(steps), entries, flops, steps[-1].tokens)
    return timed


def costs(mine: Timed, base: Timed) -> dict[str, object]:
    """What a way costs, and its ratios to another of the same run: medians, and the range over the turns."""
    ratios = [b / m for b, m in zip(base.seconds, mine.seconds, strict=True)]
    return {
        "passes": mine.passes,
        "entries": mine.entries,
        "mflops": mine.flops / 1e6,
        "seconds": statistics.median(mine.seconds),
        "faster": statistics.median(ratios),
        "faster_range": [min(ratios), max(ratios)],
        "fewer_flops": base.flops / mine.flops,
    }

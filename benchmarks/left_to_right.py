"""Left to right with latents: what the KV cache saves, and what self-speculation saves or costs. Ratios in one run.

    make bench

Random weights: a pass takes as long with them, but their drafts are right more or less often than a trained model's, so
read speculation's passes in `study ar-latents`. All ways of a row say the same tokens (the share is printed), from one
set of weights, in turns, so that whatever else the machine does falls on all of them alike; medians of the repeats.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from unspoken import CACHED_JOINT, Decoding, Denoiser, Trunk
from unspoken.metrics import pass_flops
from unspoken.record import environment, write_json

VOCAB = 32


@dataclass(frozen=True)
class Shape:
    """A trunk and a sequence: width x layers, tokens, the share of them that is the prompt."""

    layers: int
    width: int
    heads: int
    length: int
    given: float = 0.25


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        shapes: Trunks and lengths.
        batches: Rows decoded together.
        latents: Beside the next token.
        repeats: Timings of each way, of which the median counts.
        out: Folder for left_to_right.json; none is written without it.
    """

    shapes: tuple[Shape, ...] = (Shape(4, 96, 4, 36), Shape(6, 256, 8, 81))
    batches: tuple[int, ...] = (1, 32)
    latents: tuple[int, ...] = (0, 8)
    repeats: int = 3
    out: Path | None = None


@dataclass
class Timed:
    """Seconds of each repeat, and what one decoding computed a row."""

    seconds: list[float] = field(default_factory=list)
    passes: int = 0
    entries: int = 0
    flops: int = 0
    tokens: Tensor | None = None


def model_of(shape: Shape) -> Denoiser:
    """A random trunk in float32."""
    torch.manual_seed(0)
    trunk = Trunk(layers=shape.layers, width=shape.width, heads=shape.heads, init=0.05)
    config = trunk.config(VOCAB + 1, shape.length)
    return Denoiser.from_config(config, attention=CACHED_JOINT, mask_id=VOCAB, positions=shape.length)


def prompts(shape: Shape, batch: int) -> Tensor:
    """`[batch, length]`: a random prompt on the left, masks after it."""
    tokens = torch.randint(VOCAB, (batch, shape.length), generator=torch.Generator().manual_seed(0))
    tokens[:, round(shape.given * shape.length) :] = VOCAB
    return tokens


def ways(latents: int) -> dict[str, Decoding]:
    """The decodings compared: all say the same."""
    plain = partial(Decoding, order="left_to_right", beside="next", latents=latents)
    found = {"recomputed": plain(cache=False), "cached": plain(cache=True)}
    if latents:
        found["speculation"] = Decoding(by="speculation", latents=latents, drafts=2)
    return found


def measure(model: Denoiser, tokens: Tensor, decodings: dict[str, Decoding], repeats: int) -> dict[str, Timed]:
    """Times every way in turns, after one turn that does not count."""
    timed = {name: Timed() for name in decodings}
    for turn in range(repeats + 1):
        for name, decoding in decodings.items():
            clock = time.perf_counter()
            steps = list(decoding.steps(model, tokens))
            seconds = time.perf_counter() - clock
            if turn:
                timed[name].seconds.append(seconds)
                continue
            flops = sum(pass_flops(model, s.entries, s.asked, s.cached) for s in steps)
            timed[name] = Timed([], len(steps), sum(s.entries for s in steps), flops, steps[-1].tokens)
    return timed


def row_of(shape: Shape, batch: int, latents: int, way: str, timed: dict[str, Timed]) -> dict[str, object]:
    """A line of the table: ratios are to the recomputed way of the same run."""
    mine, base = timed[way], timed["recomputed"]
    assert mine.tokens is not None and base.tokens is not None
    ratios = [b / m for b, m in zip(base.seconds, mine.seconds, strict=True)]
    return {
        "trunk": f"{shape.width} x {shape.layers}",
        "length": shape.length,
        "batch": batch,
        "latents": latents,
        "way": way,
        "passes": mine.passes,
        "entries": mine.entries,
        "mflops": mine.flops / 1e6,
        "seconds": statistics.median(mine.seconds),
        "faster": statistics.median(ratios),
        "faster_range": [min(ratios), max(ratios)],
        "fewer_flops": base.flops / mine.flops,
        "same_tokens": float((mine.tokens == base.tokens).double().mean()),
    }


def main(options: Options) -> None:
    """Measures, prints the table, writes it."""
    console, rows = Console(width=132), []
    columns = ("trunk", "length", "batch", "latents", "way", "passes", "entries", "seconds", "faster", "fewer_flops")
    table = Table(*columns, "same tokens", box=None)
    for shape in options.shapes:
        model = model_of(shape)
        for batch in options.batches:
            for latents in options.latents:
                timed = measure(model, prompts(shape, batch), ways(latents), options.repeats)
                for way in timed:
                    row = row_of(shape, batch, latents, way, timed)
                    rows.append(row)
                    cells = [f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in columns]
                    table.add_row(*cells, f"{row['same_tokens']:.1%}")
    console.print(table)
    if options.out is not None:
        path = options.out / "left_to_right.json"
        write_json(path, {"environment": environment(), "repeats": options.repeats, "rows": rows})
        console.print(f"written: {path}")


if __name__ == "__main__":
    main(tyro.cli(Options))

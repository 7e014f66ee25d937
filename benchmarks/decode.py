"""Decoding side by side: what users of masked diffusion get today, and what each ingredient saves. Ratios in one run.

    make bench

Three tables: the ways to decode at the shapes of 6x6 and 9x9 Sudoku and of a text; what the sampler itself costs, with
a network that is free; and what a step costs as the sequence grows. Random weights: a pass takes as long with them, but
confidences mean nothing, so the tokens said a pass are given (`commit`), as `study decode` finds them on trained
models, where accuracy and adaptive counts are measured too.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from timing import VOCAB, Shape, costs, measure, model_of, prompts
from torch import Tensor

from unspoken import CACHED_JOINT, MDM, SCDM, Attention, Decoder, Denoiser, Slots
from unspoken.layout.entries import Layout
from unspoken.record import environment, write_json

BASE = "MDM, one a pass"


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        shapes: Trunks and lengths; a prompt is scattered over the sequence, as on a board.
        batches: Rows decoded together.
        text: A longer sequence, its prompt on the left; not at the largest of the batches.
        commit: Tokens said a pass by the ways that say several.
        latents: Beside the candidates, for the ways that take few.
        repeats: Timings of each way, of which the median counts.
        lengths: Sequences of which a step's cost is measured.
        sampler: Rows, and lengths, of the decodings with a free network.
        out: Folder for decode.json; none is written without it.
    """

    shapes: tuple[Shape, ...] = (Shape(4, 96, 4, 36, 0.28), Shape(6, 256, 8, 81, 0.3))
    batches: tuple[int, ...] = (1, 16, 64)
    text: Shape = field(default_factory=lambda: Shape(6, 256, 8, 512, 0.75))
    commit: int = 4
    latents: int = 8
    repeats: int = 3
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    sampler: tuple[int, tuple[int, ...]] = (16, (96, 192, 384))
    out: Path | None = None


def ways(shape: Shape, commit: int, latents: int) -> dict[str, tuple[Denoiser, Decoder]]:
    """The ways compared, the baseline first. The weights are one set, the attention is the way's."""
    mdm, scdm, cached = (model_of(shape, attention) for attention in (MDM, SCDM, CACHED_JOINT))
    return {
        BASE: (mdm, Slots()),
        f"MDM, {commit} a pass": (mdm, Slots(commit=commit)),
        f"SCDM beside {latents}": (scdm, Slots(latents=latents)),
        f"SCDM beside {latents}, {commit} a pass": (scdm, Slots(latents=latents, commit=commit)),
        "cached": (cached, Slots()),
        f"cached, {commit} a pass": (cached, Slots(commit=commit)),
        f"cached beside {latents}, {commit} a pass": (cached, Slots(latents=latents, commit=commit)),
        f"cached, stale, {latents} refreshed, {commit} a pass": (
            cached,
            Slots(latents=latents, commit=commit, stale=True, latent_policy="oldest", order="promising"),
        ),
    }


def side_by_side(options: Options) -> list[dict[str, Any]]:
    """Every way at every shape and batch."""
    rows: list[dict[str, Any]] = []
    for shape in (*options.shapes, options.text):
        compared = ways(shape, options.commit, options.latents)
        board = shape is not options.text
        for batch in options.batches if board else options.batches[:-1] or options.batches:
            timed = measure(compared, prompts(shape, batch, scattered=board), options.repeats)
            for way, mine in timed.items():
                where = {"trunk": shape.trunk, "length": shape.length, "batch": batch, "way": way}
                rows.append(where | costs(mine, timed[BASE]))
    return rows


class Free:
    """A network that costs nothing: the same logits, whatever it is asked."""

    attention: Attention = MDM
    mask_id, vocab_size = VOCAB, VOCAB + 1

    def __init__(self, batch: int, length: int):
        self.logits = torch.randn(batch, length, VOCAB + 1, generator=torch.Generator().manual_seed(0))
        self.logits[..., VOCAB] = -torch.inf

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Any = None) -> Tensor:
        """See `Model`."""
        b, m = layout.shape if at is None else at.shape
        return self.logits[:b, :m]

    def new_cache(self) -> None:
        """Keeps none."""


@torch.no_grad()
def plain(network: Free, tokens: Tensor) -> Tensor:
    """The plain batched sampler that most codes hold: softmax over the sequence, the most confident mask is said."""
    tokens, rows = tokens.clone(), torch.arange(len(tokens))
    for _ in range(int((tokens == VOCAB).sum(1).max())):
        masked = tokens == VOCAB
        probability, guess = network.logits[: len(tokens)].softmax(-1).max(-1)
        best = torch.where(masked, probability, -torch.inf).argmax(1)
        tokens[rows, best] = torch.where(masked[rows, best], guess[rows, best], tokens[rows, best])
    return tokens


def sampler(options: Options) -> list[dict[str, Any]]:
    """CPU-seconds of whole decodings with a free network, in turns: ours and the plain one by the same rule.

    The rule: of all masks the most confident is said. Ours from 8 candidates, the default, is beside it.
    """
    batch, lengths = options.sampler
    rows = []
    for length in lengths:
        network, tokens = Free(batch, length), torch.full((batch, length), VOCAB)
        tokens[:, 0] = 0
        ways = {"ours": Slots(candidates=length), "ours_of_8": Slots(), "plain": None}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(max(5, options.repeats) + 1):
            for name, decoding in ways.items():
                clock = time.process_time()
                if decoding is None:
                    plain(network, tokens)
                else:
                    for _ in decoding.steps(network, tokens):
                        pass
                if turn:
                    seconds[name].append(time.process_time() - clock)
        medians = {f"{name}_cpu_seconds": statistics.median(s) for name, s in seconds.items()}
        ratios = {
            f"{name}_ratio": statistics.median(a / b for a, b in zip(seconds[name], seconds["plain"], strict=True))
            for name in ("ours", "ours_of_8")
        }
        rows.append({"batch": batch, "length": length, "steps": length - 1, **medians, **ratios})
    return rows


def by_length(options: Options) -> list[dict[str, Any]]:
    """Milliseconds a step and row beside a few latents, with nearly everything said: cached, and recomputed in full."""
    rows, said = [], 16
    for length in options.lengths:
        shape = Shape(6, 256, 8, length, 1 - 2 * said / length)
        found: dict[str, Any] = {"length": length}
        for name, attention, decoding in (
            ("cached", CACHED_JOINT, Slots(latents=options.latents, candidates=1)),
            ("recomputed", MDM, Slots()),
        ):
            steps = decoding.steps(model_of(shape, attention), prompts(shape, 1))
            next(steps)  # the prompt's pass, which fills the cache
            taken = []
            for _ in range(said):
                clock = time.perf_counter()
                next(steps)
                taken.append(time.perf_counter() - clock)
            found[f"{name}_ms"] = 1e3 * statistics.median(taken)
        rows.append(found)
    return rows


def show(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """A table of all that is no list."""
    columns = [name for name, value in rows[0].items() if not isinstance(value, list)]
    table = Table(*columns, title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*(f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in columns))
    console.print(table)


def main(options: Options) -> None:
    """Measures, prints the tables, writes them."""
    console = Console(width=150)
    cost, lengths, rows = sampler(options), by_length(options), side_by_side(options)
    show(console, "ways to decode", rows)
    show(console, "the sampler alone, with a free network", cost)
    show(console, "a step as the sequence grows, batch 1, trunk 256 x 6", lengths)
    if options.out is not None:
        path = options.out / "decode.json"
        record = {"environment": environment(), "repeats": options.repeats, "commit": options.commit}
        write_json(path, record | {"ways": rows, "sampler": cost, "by_length": lengths})
        console.print(f"written: {path}")


if __name__ == "__main__":
    main(tyro.cli(Options))

"""Left to right with latents: what the KV cache saves, and what self-speculation saves or costs. Ratios in one run.

    make bench

Random weights: a pass takes as long with them, but their drafts are right more or less often than a trained model's, so
read speculation's passes in `study ar-latents`. All ways of a row say the same tokens (the share is printed), from one
set of weights, in turns, so that whatever else the machine does falls on all of them alike; medians of the repeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table
from timing import Shape, Timed, costs, measure, model_of, prompts

from unspoken import CACHED_JOINT, Decoder, Slots, Speculation
from unspoken.record import environment, write_json


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


def ways(latents: int) -> dict[str, Decoder]:
    """The decodings compared: all say the same."""
    plain = partial(Slots, order="left_to_right", latent_policy="next", latents=latents)
    found: dict[str, Decoder] = {"recomputed": plain(cache=False), "cached": plain(cache=True)}
    if latents:
        found["speculation"] = Speculation(latents=latents, drafts=2)
    return found


def row_of(shape: Shape, batch: int, latents: int, way: str, timed: dict[str, Timed]) -> dict[str, object]:
    """A line of the table: ratios are to the recomputed way of the same run."""
    mine, base = timed[way], timed["recomputed"]
    assert mine.tokens is not None and base.tokens is not None
    return {
        "trunk": shape.trunk,
        "length": shape.length,
        "batch": batch,
        "latents": latents,
        "way": way,
        **costs(mine, base),
        "same_tokens": float((mine.tokens == base.tokens).double().mean()),
    }


def main(options: Options) -> None:
    """Measures, prints the table, writes it."""
    console, rows = Console(width=132), []
    columns = ("trunk", "length", "batch", "latents", "way", "passes", "entries", "seconds", "faster", "fewer_flops")
    table = Table(*columns, "same tokens", box=None)
    for shape in options.shapes:
        model = model_of(shape, CACHED_JOINT)
        for batch in options.batches:
            for latents in options.latents:
                compared = {name: (model, decoding) for name, decoding in ways(latents).items()}
                timed = measure(compared, prompts(shape, batch), options.repeats)
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

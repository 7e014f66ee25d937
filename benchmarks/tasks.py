"""How long 100,000 training examples of every task take, from nothing: drawn, stored, and sampled with their disguises.

    python benchmarks/tasks.py --out docs/results/benchmarks

Sudoku of 9x9 and Zebra draw base puzzles, and the symmetries make the rest; all others draw every example.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from unspoken.presets.tasks import TASKS
from unspoken.record import environment, write_json
from unspoken.tasks import Sudoku, Tasks, Text, Zebra


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        tasks: Names of `unspoken tasks list`; by default all but those whose examples are given by books.
        examples: Drawn of each.
        base: Puzzles that Sudoku and Zebra make them from.
        out: Folder for tasks.json; none is written without it.
    """

    tasks: tuple[str, ...] = tuple(name for name, make in TASKS.items() if not isinstance(make(), Text))
    examples: int = 100_000
    base: int = 10_000
    out: Path | None = None


def sized(task: Tasks, options: Options) -> Tasks:
    """With as many training examples, or base puzzles, as are asked for."""
    if getattr(task, "train", 0) == 0:
        return task  # its training examples are drawn as they are needed
    by_symmetry = isinstance(task, (Sudoku, Zebra))
    return replace(task, train=min(task.train, options.base) if by_symmetry else options.examples)


def measure(name: str, options: Options) -> dict[str, object]:
    """Seconds to draw and store all splits, and to sample the examples in batches of 1,000."""
    task = sized(TASKS[name](), options)
    began = time.perf_counter()
    task.sample("test", 1)
    built = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    for _ in range(options.examples // 1000):
        task.sample("train", 1000, generator)
    ended = time.perf_counter()
    return {
        "task": name,
        "title": task.title,
        "base": getattr(task, "train", 0) or None,
        "examples": options.examples,
        "drawn_seconds": built - began,
        "sampled_seconds": ended - built,
        "examples_per_second": options.examples / (ended - began),
    }


def main(options: Options) -> None:
    """Measures and prints; writes where asked."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UNSPOKEN_CACHE"] = folder
        for name in options.tasks:
            rows.append(measure(name, options))
    table = Table("task", "base examples", "drawn, s", "sampled, s", "examples a second")
    for row in rows:
        cells = [f"{row[key]:.1f}" for key in ("drawn_seconds", "sampled_seconds")]
        table.add_row(row["task"], str(row["base"] or "-"), *cells, f"{row['examples_per_second']:,.0f}")  # type: ignore[arg-type]
    Console().print(table)
    if options.out is not None:
        write_json(options.out / "tasks.json", {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Options))

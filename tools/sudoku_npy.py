"""The .npy files of Shah et al. 2024 as text for the Sudoku task.

    python tools/sudoku_npy.py theirs.npy puzzles.csv

Then `Sudoku(3, 3, path="puzzles.csv")`, which checks every puzzle and its solution. A row of theirs is 325 integers:
the number of givens, then row, column, value and strategy for each of 81 cells, givens first. The solver's order and
strategies are not kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

from unspoken.record import write_text
from unspoken.tasks.arrays import load_integers
from unspoken.tasks.sudoku.rules import Board, write

_WIDTH = 325


def convert(source: Path, target: Path) -> None:
    """Writes their puzzles with a header as in Sudoku-Extreme.

    Args:
        source: Their file.
        target: The .csv file to write.
    """
    puzzle, answer = read(source)
    lines = [f"unspoken,{write(p)},{write(a)},\n" for p, a in zip(puzzle, answer, strict=True)]
    write_text(target, "source,question,answer,rating\n" + "".join(lines))
    print(f"{target}: {len(puzzle)} puzzles")


def read(path: Path) -> tuple[Board, Board]:
    """Puzzles and answers, `[n, 81]` each, 0 = blank; ValueError names the row of what is wrong."""
    rows = _load(path)
    where = [f"{path}, row {i}" for i in range(len(rows))]
    steps = rows[:, 1:].reshape(-1, 81, 4).astype(np.int64)
    cell = _based(steps[..., 0], 0, "rows", where) * 9 + _based(steps[..., 1], 0, "columns", where)
    value = _based(steps[..., 2], 1, "values", where)
    for i in np.flatnonzero((np.sort(cell, axis=1) != np.arange(81)).any(1))[:1]:
        raise ValueError(f"{where[i]}: each of the 81 cells is expected once, {len(set(cell[i].tolist()))} are named")
    for i in np.flatnonzero((rows[:, 0] < 0) | (rows[:, 0] > 81))[:1]:
        raise ValueError(f"{where[i]}: {rows[i, 0]} givens given, 0..81 expected")
    answer, puzzle = np.zeros((len(rows), 81), np.uint8), np.zeros((len(rows), 81), np.uint8)
    np.put_along_axis(answer, cell, value.astype(np.uint8), axis=1)
    said = np.arange(81) < rows[:, :1]
    np.put_along_axis(puzzle, cell, np.where(said, value, 0).astype(np.uint8), axis=1)
    return puzzle, answer


def _load(path: Path) -> NDArray[np.integer]:
    rows = load_integers(path)
    if rows.ndim != 2 or rows.shape[1] != _WIDTH:
        raise ValueError(
            f"{path}: an array {rows.shape} of {rows.dtype} given, integers [n, {_WIDTH}] expected: "
            "the number of givens, then (row, column, value, strategy) for each of 81 cells, givens first"
        )
    if len(rows) == 0:
        raise ValueError(f"{path}: the file holds no puzzle; one puzzle a row expected")
    return rows


def _based(numbers: NDArray[np.int64], first: int, name: str, where: list[str]) -> NDArray[np.int64]:
    """Numbers counted from `first`; a file that counts them from the other of 0 and 1 is shifted."""
    other = 1 - first
    if numbers.min() >= other and numbers.max() == other + 8:
        numbers = numbers + (first - other)
    for i in np.flatnonzero((numbers < first).any(1) | (numbers > first + 8).any(1))[:1]:
        raise ValueError(
            f"{where[i]}: {name} from {numbers[i].min()} to {numbers[i].max()} given; rows and columns "
            "0..8 and values 1..9 expected (a file that throughout counts rows and columns from 1, or values "
            "from 0, is read too)"
        )
    return numbers


if __name__ == "__main__":
    tyro.cli(convert)

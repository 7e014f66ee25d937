"""Puzzles in an array of whole numbers, 0 for a blank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unspoken.tasks.arrays import load_integers
from unspoken.tasks.sudoku.rules import write


def read_array(path: Path, side: int) -> Iterator[tuple[str, str, str]]:
    """Of each puzzle which it is, the puzzle, and its solution or ''. ValueError for another array.

    The array is `[n, side, side]` or `[n, cells]`, of puzzles, or `[n, 2, side, side]` or `[n, 2, cells]`, of each the
    puzzle and its solution; or one board `[side, side]`.
    """
    array, cells = load_integers(path), side * side
    shape: tuple[int, ...] = array.shape
    if shape[-2:] == (side, side):
        shape = (*shape[:-2], cells) if len(shape) > 2 else (1, cells)
    if shape[-1:] != (cells,) or shape[1:-1] not in ((), (2,)) or len(shape) < 2:
        expected = f"[n, {side}, {side}], or with solutions [n, 2, {side}, {side}]"
        theirs = "; for files of Shah et al., python tools/sudoku_npy.py" if shape[1:] == (325,) else ""
        raise ValueError(f"{path}: an array {array.shape} given, {expected}, expected{theirs}")
    boards = array.reshape(shape[0], len(shape) - 1, cells)
    for i in np.flatnonzero(((boards < 0) | (boards > side)).any((1, 2)))[:1]:
        found = f"numbers from {boards[i].min()} to {boards[i].max()} given"
        raise ValueError(f"{path}, board {i}: {found}, 0 (a blank) to {side} expected")
    for i in range(len(boards)):
        yield f"board {i}", write(boards[i, 0]), write(boards[i, 1]) if len(shape) > 2 else ""

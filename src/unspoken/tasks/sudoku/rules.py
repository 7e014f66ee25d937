"""The rules of Sudoku: a solver, a judge and a measure of difficulty, for boards of any box shape.

A board of n = box_rows * box_cols digits is a row of n * n numbers, 0 for a blank cell.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unspoken.tasks.sudoku.search import jit, solve_batch

Box = tuple[int, int]
Array = NDArray[np.integer]
Board = NDArray[np.uint8]

MAX_SIDE = 35  # digits 1-9 and the letters A-Z

_DETERMINISTIC = np.zeros(0, np.uint64)


def check_box(box: Box) -> int:
    """The side n of a board with this box; ValueError unless the box is at least 2 x 2 and n <= 35."""
    rows, cols = box
    if rows < 2 or cols < 2 or rows * cols > MAX_SIDE:
        raise ValueError(
            f"a box of {rows} x {cols} cells is not supported: each side must be at least 2 and the board "
            f"at most {MAX_SIDE} wide; write for example box_rows=2, box_cols=3 for 6x6 or 3, 3 for 9x9"
        )
    return rows * cols


@lru_cache(maxsize=32)
def geometry(box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`units` `[3n, n]`: the cells of each row, column, box. `unit_of` `[cells, 3]`: the units of a cell."""
    n = check_box(box)
    row, col = np.divmod(np.arange(n * n), n)
    box_id = row // box[0] * box[0] + col // box[1]
    unit_of = np.stack([row, n + col, 2 * n + box_id], axis=1).astype(np.int64)
    units = np.stack([np.flatnonzero((unit_of == unit).any(1)) for unit in range(3 * n)]).astype(np.int64)
    return units, unit_of


def solve(boards: Array, box: Box, limit: int = 2) -> tuple[NDArray[np.int64], NDArray[np.int64], Board]:
    """Solve `boards` `[n, cells]` (0 = blank).

    Returns the number of solutions `[n]` (counted up to `limit`; 0 for contradictory givens), the difficulty
    `[n]` and the first solution `[n, cells]` (zeros where there is none).

    The difficulty is the number of guesses: candidates tried, after naked and hidden singles have run out,
    until the solution is found and, with `limit=2`, every other is ruled out. 0 means that propagation alone
    solves it. ValueError for boards of another shape, or digits outside 0..side.
    """
    units, unit_of = geometry(box)
    _check_digits(boards, box)
    puzzles = _batch(boards, box)
    counts, guesses = np.zeros(len(puzzles), np.int64), np.zeros(len(puzzles), np.int64)
    solutions = np.zeros_like(puzzles)
    solve_batch(puzzles, units, unit_of, limit, _DETERMINISTIC, counts, guesses, solutions)
    return counts, guesses, solutions


def _check_digits(boards: Array, box: Box) -> None:
    side = check_box(box)
    low, high = np.min(boards, initial=0), np.max(boards, initial=0)
    if low < 0 or high > side:
        raise ValueError(f"digits {low} to {high} given, 0 (blank) to {side} expected")


def count_solutions(board: Array, box: Box, limit: int = 2) -> int:
    """The number of solutions of one board `[cells]`, counted up to `limit`."""
    return int(solve(np.asarray(board)[None], box, limit)[0][0])


@jit
def _judge(prompts, answers, units, right):
    full = (1 << units.shape[1]) - 1
    for i in range(prompts.shape[0]):
        good = True
        for cell in range(prompts.shape[1]):
            digit = answers[i, cell]
            good &= 1 <= digit <= units.shape[1] and (prompts[i, cell] == 0 or prompts[i, cell] == digit)
        unit = 0
        while good and unit < units.shape[0]:
            seen = 0
            for cell in units[unit]:
                seen |= 1 << (np.int64(answers[i, cell]) - 1)
            good = seen == full
            unit += 1
        right[i] = good


def is_solution(prompt: Array, answer: Array, box: Box) -> NDArray[np.bool_]:
    """`[n]`: does `answer` `[n, cells]` obey the rules and keep the givens of `prompt` `[n, cells]`?

    0 is a blank. It judges by the rules, so any of a prompt's solutions is right; digits outside 1..n are wrong, not an
    error.
    """
    prompt, answer = _batch(prompt, box, np.int64), _batch(answer, box, np.int64)
    if len(prompt) != len(answer):
        raise ValueError(f"{len(prompt)} prompts and {len(answer)} answers: give one answer for each prompt")
    right = np.zeros(len(prompt), np.bool_)
    _judge(prompt, answer, geometry(box)[0], right)
    return right


def _batch(boards: Array, box: Box, dtype: type[np.integer] = np.uint8) -> NDArray:
    """Boards as a contiguous `[n, cells]` array; ValueError for any other shape."""
    boards, cells = np.asarray(boards), check_box(box) ** 2
    if boards.ndim != 2 or boards.shape[1] != cells:
        raise ValueError(
            f"boards of shape {boards.shape} given, [n, {cells}] expected for boxes of {box[0]} x {box[1]}; "
            f"write board.reshape(-1, {cells})"
        )
    return np.ascontiguousarray(boards, dtype)

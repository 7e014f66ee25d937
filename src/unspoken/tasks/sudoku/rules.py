"""The rules of Sudoku: a solver, a judge, a measure of difficulty, new puzzles, and boards as text; for any box shape.

A board of n = box_rows * box_cols digits is a row of n * n numbers, 0 for a blank cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unspoken.extras import need
from unspoken.tasks.base import check_seed
from unspoken.tasks.hashing import mix
from unspoken.tasks.sudoku.signs import DIGITS, blanks_of, plain, shown

Box = tuple[int, int]
Array = NDArray[np.integer]
Board = NDArray[np.uint8]

_ILLEGAL = 255
_ATTEMPTS = 1000  # grids dug before `givens` is declared out of reach
_DETERMINISTIC = np.zeros(0, np.uint64)


def check_box(box: Box) -> int:
    """The side n of a board with this box; ValueError unless the box is at least 2 x 2 and n <= 35."""
    rows, cols = box
    if rows < 2 or cols < 2 or rows * cols > len(DIGITS):
        raise ValueError(
            f"a box of {rows} x {cols} cells is not supported: each side must be at least 2 and the board "
            f"at most {len(DIGITS)} wide; write for example box_rows=2, box_cols=3 for 6x6 or 3, 3 for 9x9"
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
    need("numba", "puzzles")
    from unspoken.tasks.sudoku.search import solve_batch

    units, unit_of = geometry(box)
    low, high = np.min(boards, initial=0), np.max(boards, initial=0)
    if low < 0 or high > len(units[0]):
        raise ValueError(f"digits {low} to {high} given, 0 (blank) to {len(units[0])} expected")
    puzzles = _batch(boards, box)
    counts, guesses = np.zeros(len(puzzles), np.int64), np.zeros(len(puzzles), np.int64)
    solutions = np.zeros_like(puzzles)
    solve_batch(puzzles, units, unit_of, limit, _DETERMINISTIC, counts, guesses, solutions)
    return counts, guesses, solutions


def generate(box: Box, count: int, seed: int = 0, givens: int = 0, start: int = 0) -> tuple[Board, Board]:
    """Puzzles `start` to `start + count - 1` of the endless sequence of `seed`, each with its only solution.

    Returns puzzles and solutions, `[count, cells]` each, 0 = blank. A puzzle has exactly `givens` givens, or,
    for `givens=0`, is minimal: without any one of its givens it has several solutions. Puzzle i depends on
    (box, seed, givens, i) alone, however the sequence is cut into calls. Proving uniqueness is exponential at
    worst: minimal boards wider than 9 can take very long, so set `givens` (about half of the cells) there.
    """
    cells = check_box(box) ** 2
    if not 0 <= givens <= cells:
        raise ValueError(f"givens={givens} given, 0 (minimal) to {cells} expected for a board of {cells} cells")
    check_seed(seed)
    need("numba", "puzzles")
    from unspoken.tasks.sudoku.search import generate_batch

    seeds = mix(mix(np.array([seed], np.uint64)) ^ np.arange(start, start + count, dtype=np.uint64))
    puzzles, solutions = np.zeros((count, cells), np.uint8), np.zeros((count, cells), np.uint8)
    if generate_batch(seeds, *geometry(box), givens, _ATTEMPTS, puzzles, solutions) >= 0:
        raise ValueError(
            f"givens={givens} given, but {_ATTEMPTS} grids in a row could not be dug that far with boxes of "
            f"{box[0]} x {box[1]}; write a larger givens, or givens=0 for puzzles that are minimal"
        )
    return puzzles, solutions


def is_solution(prompt: Array, answer: Array, box: Box) -> NDArray[np.bool_]:
    """`[n]`: does `answer` `[n, cells]` obey the rules and keep the givens of `prompt` `[n, cells]`?

    0 is a blank. It judges by the rules, so any of a prompt's solutions is right; digits outside 1..n are wrong, not an
    error.
    """
    prompt, answer = _batch(prompt, box, np.int64), _batch(answer, box, np.int64)
    if len(prompt) != len(answer):
        raise ValueError(f"{len(prompt)} prompts and {len(answer)} answers: give one answer for each prompt")
    kept = ((prompt == 0) | (prompt == answer)).all(1)
    units = geometry(box)[0]
    return kept & (np.sort(answer[:, units], axis=2) == np.arange(1, len(units[0]) + 1)).all((1, 2))


def _batch(boards: Array, box: Box, dtype: type[np.integer] = np.uint8) -> NDArray:
    """Boards as a contiguous `[n, cells]` array; ValueError for any other shape."""
    boards, cells = np.asarray(boards), check_box(box) ** 2
    if boards.ndim != 2 or boards.shape[1] != cells:
        raise ValueError(
            f"boards of shape {boards.shape} given, [n, {cells}] expected for boxes of {box[0]} x {box[1]}; "
            f"write board.reshape(-1, {cells})"
        )
    return np.ascontiguousarray(boards, dtype)


def parse(text: str, box: Box) -> Board:
    """`[cells]`: a board from text, whitespace ignored; ValueError for another length or character.

    A blank is one of `.0-*_x`; see `signs` for how digits may be written, and where 0 is refused.
    """
    side, text = check_box(box), "".join(text.split())
    if len(text) != side * side:
        raise ValueError(
            f"{len(text)} characters given, {side * side} expected for a {side}x{side} board; "
            "write its rows one after the other, with . or 0 for a blank cell"
        )
    told = text.translate(plain(side, [text]))
    board = _digits(side)[np.frombuffer(told.encode("latin-1", "replace"), np.uint8)]
    for cell in np.flatnonzero(board == _ILLEGAL)[:1]:
        raise ValueError(
            f"illegal character {text[cell]!r} at {cell_name(cell, side)}; the digits of a {side}x{side} board are "
            f"{shown(side)}, a blank is one of {' '.join(blanks_of(side))}"
        )
    return board


@lru_cache(maxsize=32)
def _digits(side: int) -> NDArray[np.uint8]:
    """`[256]`: the digit that a byte stands for, 0 for blank, 255 for an illegal one."""
    table = np.full(256, _ILLEGAL, np.uint8)
    for digit, letter in enumerate("." + DIGITS[:side]):
        table[ord(letter)] = digit
    return table


def write(board: Sequence[int] | Array) -> str:
    """One board `[cells]` as text, `.` for 0."""
    return "".join("." if digit == 0 else DIGITS[digit - 1] for digit in np.asarray(board).tolist())


def cell_name(cell: int, side: int) -> str:
    """`r1c1` is the cell at the top left."""
    return f"r{cell // side + 1}c{cell % side + 1}"


def clash(board: Array, box: Box) -> str | None:
    """What is wrong with the digits of a board `[cells]`: the unit and the cells that hold the same digit."""
    side = check_box(box)
    for unit, cells in enumerate(geometry(box)[0]):
        digits = np.asarray(board)[cells]
        for digit in range(1, side + 1):
            twice = cells[digits == digit]
            if len(twice) > 1:
                name = f"{('row', 'column', 'box')[unit // side]} {unit % side + 1}"
                cells_text = " and ".join(cell_name(cell, side) for cell in twice)
                return f"{name} holds {write([digit])} at {cells_text}"
    return None

"""New puzzles: a random full grid, then cells removed for as long as the solution stays the only one."""

from __future__ import annotations

import numpy as np

from unspoken.extras import need
from unspoken.tasks.sudoku.rules import Board, Box, check_box, geometry

_ATTEMPTS = 1000  # grids dug before `givens` is declared out of reach


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
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed} given, 0 <= seed < 2**63 expected")
    need("numba", "puzzles")
    from unspoken.tasks.sudoku.search import generate_batch, puzzle_seeds

    seeds = np.zeros(count, np.uint64)
    puzzle_seeds(np.uint64(seed), np.uint64(start), seeds)
    puzzles, solutions = np.zeros((count, cells), np.uint8), np.zeros((count, cells), np.uint8)
    if generate_batch(seeds, *geometry(box), givens, _ATTEMPTS, puzzles, solutions) >= 0:
        raise ValueError(
            f"givens={givens} given, but {_ATTEMPTS} grids in a row could not be dug that far with boxes of "
            f"{box[0]} x {box[1]}; write a larger givens, or givens=0 for puzzles that are minimal"
        )
    return puzzles, solutions

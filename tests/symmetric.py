"""A canonical form of small Sudokus by brute force: the oracle of what is equal up to symmetry."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from unspoken.tasks.sudoku.rules import Array, Board, Box, check_box

_LARGEST_CANONICAL = 100_000  # cell permutations that brute force is asked to walk through


@lru_cache(maxsize=8)
def _all_cells(box: Box) -> NDArray[np.int64]:
    """`[symmetries, cells]`: every symmetry of the board as in `random_cells`, digits aside."""
    side = check_box(box)

    def lines(groups: int, size: int) -> list[list[int]]:
        inner = list(itertools.permutations(range(size)))
        return [
            [group * size + line for group, order in zip(outer, orders, strict=True) for line in order]
            for outer in itertools.permutations(range(groups))
            for orders in itertools.product(inner, repeat=groups)
        ]

    rows, cols = np.array(lines(box[1], box[0])), np.array(lines(box[0], box[1]))
    cells = rows[:, None, :, None] * side + cols[None, :, None, :]
    if box[0] == box[1]:
        cells = np.concatenate([cells, cells.swapaxes(2, 3)])
    return np.ascontiguousarray(cells.reshape(-1, side * side), np.int64)


@njit(cache=True)
def _canonical(puzzles, moves, side, best):
    label = np.zeros(side + 1, np.int64)
    for i in range(puzzles.shape[0]):
        best[i] = 255
        for move in range(moves.shape[0]):
            label[:] = 0
            used, smaller = 0, False
            for cell in range(puzzles.shape[1]):
                digit = puzzles[i, moves[move, cell]]
                if digit and label[digit] == 0:
                    used += 1
                    label[digit] = used
                value = label[digit]
                if not smaller and value > best[i, cell]:
                    break
                smaller |= value < best[i, cell]
                best[i, cell] = value


def canonical(puzzles: Array, box: Box) -> Board:
    """`[n, cells]`: each puzzle's smallest image under all symmetries, digits named by first appearance.

    Two puzzles are equal up to symmetry if and only if their canonical forms are equal. By brute force, so only for
    boards of few symmetries: 128 moves of cells for 4x4, 3,456 for 6x6. ValueError for larger boards.
    """
    rows, cols = box
    moves = _count_lines(cols, rows) * _count_lines(rows, cols) * (2 if rows == cols else 1)
    if moves > _LARGEST_CANONICAL:
        raise ValueError(
            f"boxes of {rows} x {cols} cells have {moves:,} symmetries, too many to try each; at most "
            f"{_LARGEST_CANONICAL:,} expected (4x4 and 6x6 boards); compare invariant(...) instead"
        )
    best = np.empty(np.shape(puzzles), np.uint8)
    _canonical(np.ascontiguousarray(puzzles, np.uint8), _all_cells(box), check_box(box), best)
    return best


def _count_lines(groups: int, size: int) -> int:
    def factorial(k: int) -> int:
        return k * factorial(k - 1) if k else 1

    return factorial(groups) * factorial(size) ** groups

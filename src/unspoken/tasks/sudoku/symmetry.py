"""What leaves a Sudoku a Sudoku: digit relabelling, and rows, columns, bands and stacks that change places.

A band is a row of boxes (box_rows rows of cells), a stack a column of boxes (box_cols columns of cells).
Transposition is a symmetry only of boards whose boxes are square.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.tasks.sudoku.rules import Array, Board, Box, check_box, geometry
from unspoken.tasks.sudoku.search import jit, mix64

Augment = Literal["none", "digits", "all"]

_ROUNDS = 8  # of colour refinement; boards up to 9x9 stop gaining after about four
_LARGEST_CANONICAL = 100_000  # cell permutations that brute force is asked to walk through


def _shuffles(n: int, k: int, generator: torch.Generator) -> Tensor:
    """`[n, k]` int64: n random permutations of 0..k-1, on the generator's device."""
    return torch.rand(n, k, generator=generator, device=generator.device).argsort(1)


def _lines(n: int, groups: int, size: int, generator: torch.Generator) -> Tensor:
    """`[n, groups * size]`: for each line, which one moves there; whole groups move, and lines in a group."""
    outer = _shuffles(n, groups, generator)[:, :, None] * size
    inner = _shuffles(n * groups, size, generator).view(n, groups, size)
    return (outer + inner).view(n, groups * size)


def random_cells(n: int, box: Box, generator: torch.Generator) -> Tensor:
    """`[n, cells]` int64: n random symmetries; entry c is the cell whose content moves to cell c."""
    side = check_box(box)
    rows = _lines(n, box[1], box[0], generator)[:, :, None]
    cols = _lines(n, box[0], box[1], generator)[:, None, :]
    cells = rows * side + cols
    if box[0] == box[1]:
        flip = torch.rand(n, 1, 1, generator=generator, device=generator.device) < 0.5
        cells = torch.where(flip, cells.transpose(1, 2), cells)
    return cells.reshape(n, side * side)


def transform(
    tokens: Tensor, given: Tensor, box: Box, generator: torch.Generator, augment: Augment = "all"
) -> tuple[Tensor, Tensor]:
    """Move each example by a random symmetry of its own.

    tokens: `[n, cells]` int64 of digits less one, 0..side-1 (token ids). given: `[n, cells]` bool.
    augment: "digits" relabels the digits only, "all" moves the cells too, "none" returns what came in.
    """
    if augment == "none":
        return tokens, given
    side, device = check_box(box), tokens.device
    if augment == "all":
        cells = random_cells(len(tokens), box, generator).to(device)
        tokens, given = tokens.gather(1, cells), given.gather(1, cells)
    return _shuffles(len(tokens), side, generator).to(device).gather(1, tokens), given


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


@jit
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

    Two puzzles are equal up to symmetry if and only if their canonical forms are equal. By brute force, so
    only for
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


@jit
def _add_up(colour, member, salt, out):
    """Add to `out[member[i]]` a hash of `colour[i]`: a sum, so the order of the members does not matter."""
    for i in range(member.shape[0]):
        out[member[i]] += mix64(colour[i] ^ salt)


@jit
def _refine(cell, unit, digit_of, unit_of, band_of, salts):
    """One round on the colours of one board: cells to units and digits, units to bands, and back."""
    side = band_of.shape[0] // 2
    digit, next_unit = np.zeros(side, np.uint64), np.zeros_like(unit)
    _add_up(cell, digit_of, salts[0], digit)
    for k in range(3):
        _add_up(cell, unit_of[:, k], salts[1], next_unit)
    for i in range(unit.shape[0]):
        unit[i] = mix64(mix64(unit[i]) + next_unit[i])
    group = np.zeros(2 * side, np.uint64)  # bands, then stacks
    _add_up(unit, band_of, salts[2], group)
    for i in range(band_of.shape[0]):
        unit[i] = mix64(unit[i] + mix64(group[band_of[i]]))
    for i in range(cell.shape[0]):
        around = mix64(digit[digit_of[i]] ^ salts[3])
        for k in range(3):
            around += mix64(unit[unit_of[i, k]])
        cell[i] = mix64(mix64(cell[i]) + around)


@jit
def _invariant(puzzles, solutions, unit_of, band_of, start, salts, rounds, out):
    digit_of = np.zeros(puzzles.shape[1], np.int64)
    cell, unit = np.zeros(puzzles.shape[1], np.uint64), np.zeros(start.shape[0], np.uint64)
    for i in range(puzzles.shape[0]):
        unit[:] = start
        for c in range(cell.shape[0]):
            digit_of[c] = np.int64(solutions[i, c]) - 1
            cell[c] = salts[4] if puzzles[i, c] else salts[5]
        for _ in range(rounds):
            _refine(cell, unit, digit_of, unit_of, band_of, salts)
        total = np.zeros(1, np.uint64)
        _add_up(cell, np.zeros_like(digit_of), salts[0], total)
        out[i] = total[0]


def invariant(puzzles: Array, solutions: Array, box: Box) -> NDArray[np.uint64]:
    """`[n]`: a 64-bit hash of each puzzle that no symmetry of the board changes.

    puzzles: `[n, cells]`, 0 = blank. solutions: `[n, cells]`, their only solutions, every digit in 1..side.

    Colour refinement: a cell starts as given or not; then cells, digits, rows, columns, boxes, bands and
    stacks exchange hashes of what they contain and belong to, always as sums over unordered members, so no
    order and no name of a digit gets in. Rows and columns share a type only when transposition is a symmetry.

    Puzzles equal up to symmetry have equal invariants. A split that is a fixed range of the hash therefore
    never shares a puzzle, in any disguise, with another split; this holds for every board size, while a
    canonical form of a 9x9 puzzle would have to try 3,359,232 moves. The converse does not hold: puzzles that
    refinement cannot tell apart, or a collision of hashes, are taken for equal. That costs a puzzle, never a
    leak. The split is by puzzle and not by solution, because there are too few grids to split: 6x6 has 49 up
    to symmetry, 4x4 has 2.
    """
    side, (_, unit_of) = check_box(box), geometry(box)
    line = np.arange(side)
    band_of = np.concatenate([line // box[0], side + line // box[1]])
    turned = 1 if box[0] == box[1] else 2  # columns are of the rows' type on boards that may be transposed
    start = np.repeat(np.array([1, turned, 3], np.uint64), side)
    salts = np.random.Generator(np.random.PCG64(20240607)).integers(1, 2**63, 6).astype(np.uint64)
    out = np.zeros(len(puzzles), np.uint64)
    boards = np.ascontiguousarray(puzzles, np.uint8), np.ascontiguousarray(solutions, np.uint8)
    _invariant(*boards, unit_of, band_of, start, salts, _ROUNDS, out)
    return out

"""What leaves a Sudoku a Sudoku: digit relabelling, and rows, columns, bands and stacks that change places.

A band is a row of boxes (box_rows rows of cells), a stack a column of boxes (box_cols columns of cells).
Transposition is a symmetry only of boards whose boxes are square.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unspoken.tasks.hashing import Hashes, mix
from unspoken.tasks.refine import collected
from unspoken.tasks.sudoku.rules import Array, Box, check_box, geometry

Augment = Literal["none", "digits", "all"]

_ROUNDS = 8  # of colour refinement; boards up to 9x9 stop gaining after about four


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


def invariant(puzzles: Array, solutions: Array, box: Box) -> Hashes:
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
    side, (units, unit_of) = check_box(box), geometry(box)
    turned = 1 if box[0] == box[1] else 2  # columns are of the rows' type on boards that may be transposed
    salts = np.random.Generator(np.random.PCG64(20240607)).integers(1, 2**63, 6).astype(np.uint64)
    digit_of = np.asarray(solutions, np.int64) - 1
    cell = np.where(np.asarray(puzzles) > 0, salts[4], salts[5])
    unit = np.tile(np.repeat(np.array([1, turned, 3], np.uint64), side), (len(cell), 1))
    for _ in range(_ROUNDS):
        digit = collected(mix(cell ^ salts[0]), digit_of, side)
        unit = mix(mix(unit) + mix(cell ^ salts[1])[:, units].sum(2, dtype=np.uint64))
        told = mix(unit ^ salts[2])
        bands = mix(told[:, :side].reshape(-1, box[1], box[0]).sum(2, dtype=np.uint64))
        stacks = mix(told[:, side : 2 * side].reshape(-1, box[0], box[1]).sum(2, dtype=np.uint64))
        groups = np.concatenate([bands.repeat(box[0], axis=1), stacks.repeat(box[1], axis=1)], axis=1)
        unit[:, : 2 * side] = mix(unit[:, : 2 * side] + groups)
        around = np.take_along_axis(mix(digit ^ salts[3]), digit_of, 1)
        cell = mix(mix(cell) + around + mix(unit)[:, unit_of].sum(2, dtype=np.uint64))
    return mix(cell ^ salts[0]).sum(1, dtype=np.uint64)

"""Boards of digits; and Sudoku generation: whole valid grids, nothing given, of which validity and diversity count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.tasks.generated import Generated
from unspoken.tasks.hashing import Hashes, in_any_order, in_order
from unspoken.tasks.sampled import Form
from unspoken.tasks.store import Rows
from unspoken.tasks.sudoku.rules import DIGITS, Box, check_box, generate, is_solution, parse


@dataclass(frozen=True)
class Boards(Generated):
    """Boards of boxes of `box_rows` x `box_cols` cells, row by row: n x n cells for n = box_rows * box_cols.

    Digit d is token d - 1, the mask is token n.
    """

    box_rows: int = 2
    box_cols: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_box(self.box)

    @property
    def box(self) -> Box:
        """Rows and columns of a box."""
        return self.box_rows, self.box_cols

    @property
    def side(self) -> int:
        """Cells in a row, and digits."""
        return self.box_rows * self.box_cols

    def board(self, title: str) -> Form:
        """The cells, all of them said."""
        return Form(title, tuple(DIGITS[: self.side]), asked=0, said=self.side**2)

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: whether each row, column and box holds each digit once."""
        grids = tokens.numpy() + 1
        return torch.from_numpy(is_solution(np.zeros_like(grids), grids, self.box))

    def encode(self, text: str) -> Tensor:
        """`[length]` of a board, `.` or `0` for what is not said; ValueError for a wrong length or character."""
        digits = torch.from_numpy(parse(text, self.box).astype("int64"))
        return torch.where(digits == 0, self.mask_id, digits - 1)

    def show(self, tokens: Tensor) -> str:
        """A board on one line."""
        return "".join(self.check_tokens(tokens))

    def gap(self, position: int) -> str:
        """What a board has after a cell: a space, two between boxes, a new line, an empty one between bands."""
        row, column = divmod(position + 1, self.side)
        if position + 1 == self.length:
            return ""
        if column == 0:
            return "\n\n" if row % self.box_rows == 0 else "\n"
        return "  " if column % self.box_cols == 0 else " "


@dataclass(frozen=True)
class SudokuGrids(Boards):
    """Full grids of boxes of `box_rows` x `box_cols` cells, each filled by random backtracking, none of them given.

    Grids made by permuting one of them would share a structure with the test split: these are drawn one by one.
    No split holds a grid of another under renamed digits; on boards of 9x9 and beyond, under any symmetry (a 6x6
    board has 49 grids up to all its symmetries: too few to keep apart).

    Attributes:
        box_rows: Rows of a box.
        box_cols: Columns of a box.
    """

    name: ClassVar[str] = "sudoku-grids"
    between: ClassVar[str] = ""

    @cached_property
    def form(self) -> Form:
        return self.board(f"{self.side}x{self.side} Sudoku grids, nothing given")

    @property
    def symmetries(self) -> str:  # type: ignore[override]
        """What no two splits share a grid under."""
        return "digits" + (", rows, columns, bands, stacks and transposition" if self.side >= 9 else "")

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, length]`: random grids."""
        grids = generate(self.box, n, int(rng.integers(2**62)), givens=self.length)[1]
        return grids.astype(np.int16) - 1

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: of the grid with its digits renamed in the order of the first row, or up to all symmetries."""
        if self.side >= 9:
            return _up_to_symmetry(rows.astype(np.int64).reshape(-1, self.side, self.side), self.box)
        return in_order(np.take_along_axis(rows[:, : self.side].argsort(1), rows.astype(np.int64), 1))


def _up_to_symmetry(grids: NDArray[np.int64], box: Box) -> Hashes:
    """`[n]` of grids `[n, side, side]`: by the cycles of what takes a row to another, and a column to another.

    Full grids defeat the colour refinement of puzzles: each of their cells looks like every other.
    """
    along_rows, along_columns = _cycles(grids, box[0], 0), _cycles(grids.swapaxes(1, 2), box[1], box[0] != box[1])
    return in_any_order(np.stack([along_rows, along_columns], axis=1))


def _cycles(grids: NDArray[np.int64], band: int, salt: int) -> Hashes:
    """`[n]`: of the cycle types of every pair of rows, told apart by whether they share a band of `band` rows."""
    n, side, _ = grids.shape
    first, second = np.triu_indices(side, 1)
    to = np.zeros((n, len(first), side), np.int64)  # the digit of the first row to that of the second
    np.put_along_axis(to, grids[:, first], grids[:, second], 2)
    power, fixed = to, []
    for _ in range(side):  # the fixed points of every power tell the lengths of the cycles
        fixed.append((power == np.arange(side)).sum(2))
        power = np.take_along_axis(to, power, 2)
    together = (first // band == second // band).astype(np.int64)
    kind = np.stack([*fixed, np.broadcast_to(together, fixed[0].shape)], axis=2)
    return in_any_order(in_order(kind, salt))


def diversity(grids: Tensor) -> float:
    """The share of `grids` `[n, length]` that are distinct: 1 where none is said twice."""
    return len(torch.unique(grids, dim=0)) / max(1, len(grids))

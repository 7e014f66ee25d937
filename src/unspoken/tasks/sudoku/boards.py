"""What puzzles and whole grids share: a board of digits, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unspoken.tasks.generated import Generated
from unspoken.tasks.sudoku.rules import DIGITS, Box, check_box, is_solution, parse


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

    @property
    def length(self) -> int:
        return self.side**2

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(DIGITS[: self.side])

    def judge(self, tokens: list[int]) -> bool:
        """Whether each row, column and box holds each digit once."""
        return bool(self.judge_all(torch.tensor([tokens]))[0])

    def judge_all(self, tokens: Tensor) -> Tensor:
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

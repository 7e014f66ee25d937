"""Puzzles in memory, and one puzzle as text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from unspoken.tasks.sudoku.rules import Array, Board, Box, check_box, geometry
from unspoken.tasks.sudoku.symmetry import invariant

DIGITS = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ILLEGAL = 255


@dataclass(frozen=True)
class Puzzles:
    """Puzzles with one solution each.

    puzzle: `[n, cells]` uint8, 0 = blank. solution: `[n, cells]` uint8. guesses: `[n]` int64, the difficulty
    as in `rules.solve`. rating: `[n]` float64, the source's own difficulty, NaN where it has none. dropped:
    how many duplicates were left out, so `len(puzzles) + puzzles.dropped` were read.
    """

    box: Box
    puzzle: Board
    solution: Board
    guesses: NDArray[np.int64]
    rating: NDArray[np.float64] | None = field(default=None)
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.puzzle)

    def take(self, index: NDArray[np.intp]) -> Puzzles:
        """The puzzles numbered `index` `[m]`."""
        return replace(
            self,
            puzzle=self.puzzle[index],
            solution=self.solution[index],
            guesses=self.guesses[index],
            rating=None if self.rating is None else self.rating[index],
        )

    def distinct(self) -> Puzzles:
        """The first of each set of puzzles that are equal up to symmetry; `dropped` counts the others."""
        _, first = np.unique(invariant(self.puzzle, self.solution, self.box), return_index=True)
        kept = self.take(np.sort(first))
        return replace(kept, dropped=self.dropped + len(self) - len(kept))


def _table(side: int) -> NDArray[np.uint8]:
    """`[256]`: the digit that a byte stands for, 0 for blank, 255 for an illegal one."""
    table = np.full(256, _ILLEGAL, np.uint8)
    table[[ord("."), ord("0")]] = 0
    for digit, letter in enumerate(DIGITS[:side], start=1):
        table[[ord(letter), ord(letter.lower())]] = digit
    return table


def parse(texts: list[str], box: Box, where: list[str]) -> Board:
    """`[n, cells]`: boards as digits from text, whitespace ignored; `where` names each for the error."""
    side = check_box(box)
    texts = ["".join(text.split()) for text in texts]
    for text, place in zip(texts, where, strict=True):
        if len(text) != side * side:
            raise ValueError(
                f"{place}: {len(text)} characters given, {side * side} expected for a {side}x{side} board; "
                "write its rows one after the other, with . or 0 for a blank cell"
            )
    joined = "".join(texts).encode("latin-1", "replace")
    boards = _table(side)[np.frombuffer(joined, np.uint8)].reshape(len(texts), side * side)
    bad = np.argwhere(boards == _ILLEGAL)
    if len(bad):
        row, cell = bad[0]
        raise ValueError(
            f"{where[row]}: illegal character {texts[row][cell]!r} at {cell_name(cell, side)}; the "
            f"digits of a {side}x{side} board are {DIGITS[:side]}, a blank is . or 0"
        )
    return boards


def write(board: Array) -> str:
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
                return f"{name} holds {DIGITS[digit - 1]} at {cells_text}"
    return None


def gap(position: int, box: Box) -> str:
    """What a board has after a cell: a space, two between boxes, a new line, an empty one between bands."""
    side = box[0] * box[1]
    row, column = divmod(position + 1, side)
    if position + 1 == side**2:
        return ""
    if column == 0:
        return "\n\n" if row % box[0] == 0 else "\n"
    return "  " if column % box[1] == 0 else " "

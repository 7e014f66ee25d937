"""The Sudoku task: puzzles with one solution on boards of any box shape, and a judge that knows the rules.

from unspoken.tasks.sudoku import Sudoku

task = Sudoku()  # 6x6, minimal puzzles
batch = task.sample("train", 192, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from unspoken.messages import quoted
from unspoken.tasks.base import Examples, Split, check_range
from unspoken.tasks.files import Text
from unspoken.tasks.hashing import Hashes
from unspoken.tasks.sampled import Form
from unspoken.tasks.store import Rows
from unspoken.tasks.sudoku.formats import check_puzzle, file_texts, solved_puzzle
from unspoken.tasks.sudoku.grids import Boards
from unspoken.tasks.sudoku.rules import generate, parse, solve
from unspoken.tasks.sudoku.symmetry import Augment, invariant, transform

__all__ = ["Sudoku"]


@dataclass(frozen=True)
class Sudoku(Boards):
    """Puzzles with one solution on boards of boxes of `box_rows` x `box_cols` cells.

    Digit d is token d - 1, the mask is token n, and a sequence is the board row by row; some of its cells are given. A
    stored row is the puzzle, 0 for a blank, and then its solution.

    Each puzzle of a file is checked to have one solution, which the file may give or not. What a file holds is told by
    its content: a puzzle a line (behind `=`, a comma or white space its solution, or notes), a row a line, .sdm, .sdk,
    .ss, CSV with a header (question, puzzle or quizzes; answer or solution), JSON lines, a .npy array. A blank is one
    of `.0-*_x`; digits are 1-9 and A-Z, or A, B, ... alone. What follows a `#` is left out. A file in which `0` may be
    a blank or a digit is refused.

    Attributes:
        box_rows: Rows of a box: 2, 2 is 4x4; 2, 3 is 6x6; 3, 3 is 9x9.
        box_cols: Columns of a box.
        givens: How many cells each puzzle shows; 0 for minimal puzzles, which no given can be taken from. Minimal
            puzzles take about 30 us each for 6x6, 0.3 ms for 9x9 and 0.3 s for 16x16; about half of the cells is fast.
            It has no effect on a file.
        augment: What `sample("train", n, generator)` does to each puzzle: nothing, relabel its digits, or move it by
            any symmetry of the board.
    """

    train: int = field(default=30_000, kw_only=True)
    givens: int = 0
    augment: Augment = "all"

    name: ClassVar[str] = "sudoku"
    part: ClassVar[int] = 128
    patience: ClassVar[tuple[int, str]] = (100_000, "set more givens: small boards have few puzzles")
    unstored: ClassVar[tuple[str, ...]] = ("augment",)
    difficulty_is: ClassVar[str] = "guesses"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "givens", 0, self.length, " for its cells; 0 is minimal")
        if self.augment not in get_args(Augment):
            raise ValueError(f"augment={quoted(self.augment)} given, one of {', '.join(get_args(Augment))} expected")

    @cached_property
    def form(self) -> Form:
        kind = f", {self.givens} givens" if self.givens else ", minimal puzzles"
        return self.board(f"{self.side}x{self.side} Sudoku{f' of {self.path}' if self.path else kind}")

    @property
    def symmetries(self) -> str:  # type: ignore[override]
        """Under which training puzzles are disguised."""
        transposed = ", transposition" if self.box_rows == self.box_cols else ""
        moves = f", rows in bands, bands, columns in stacks, stacks{transposed}"
        return {"none": "none", "digits": "digits", "all": "digits" + moves}[self.augment]

    def draw_part(self, index: int) -> Rows:
        puzzle, solution = generate(self.box, self.part, self.seed, self.givens, index * self.part)
        return np.concatenate([puzzle, solution], axis=1)

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: by colour refinement, up to every symmetry of the board."""
        puzzle, solution = np.split(rows, 2, axis=1)
        return invariant(puzzle, solution, self.box)

    def examples(self, rows: Tensor) -> Examples:
        puzzle, solution = rows.chunk(2, dim=1)
        return Examples(solution - 1, puzzle > 0)

    def disguise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        its = self.examples(rows)
        x0, given = transform(its.x0, its.given, self.box, generator, self.augment)
        return torch.cat([(x0 + 1) * given, x0 + 1], dim=1)

    def encode(self, text: str, unique: bool = True) -> Tensor:
        """`[length]` token ids of a puzzle as text: `.` or `0` is a blank, whitespace is ignored.

        ValueError for a wrong length or character, and unless the puzzle has exactly one solution.
        `unique=False` reads any board, an answer that breaks the rules included.
        """
        if unique:
            check_puzzle(parse(text, self.box), self.box)
        return super().encode(text)

    def solved(self, text: str) -> Tensor:
        """The puzzle and its solution, of the puzzle alone or with `=` and its solution behind it."""
        question, _, answer = text.partition("=")
        return torch.from_numpy(np.concatenate(solved_puzzle(question, answer, self.box)).astype(np.int64))

    def grid(self, tokens: Tensor) -> str:
        """A board `[length]` as lines, with gaps between boxes; `encode` reads it back."""
        return "".join(symbol + self.gap(i) for i, symbol in enumerate(self.show(tokens)))

    def hardness(self, rows: Tensor) -> Tensor:
        """`[n]`: guesses of the solver; 0 where naked and hidden singles solve the puzzle."""
        return torch.from_numpy(solve(rows.chunk(2, dim=1)[0].numpy(), self.box)[1])

    def texts(self, path: Path) -> Iterator[Text]:
        return file_texts(path, self.box)

    def counts(self, split: Split) -> dict[str, Any]:
        givens = self.sample(split, self.size(split)).given.sum(1).double()
        if len(givens) == 0:
            return super().counts(split)
        counts = {"givens_mean": givens.mean().item(), "givens_min": int(givens.min()), "givens_max": int(givens.max())}
        return super().counts(split) | counts

"""The Sudoku task: puzzles with one solution on boards of any box shape, and a judge that knows the rules.

from unspoken.tasks.sudoku import Sudoku

task = Sudoku()  # 6x6, minimal puzzles
batch = task.sample("train", 192, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from unspoken.tasks.base import Examples, Split
from unspoken.tasks.splits import SPLITS
from unspoken.tasks.sudoku.formats import Puzzles, check_puzzles, parse_puzzle, read_puzzles, write_puzzles
from unspoken.tasks.sudoku.puzzles import DIGITS, gap, write
from unspoken.tasks.sudoku.rules import Board, Box, check_box, count_solutions, is_solution, solve
from unspoken.tasks.sudoku.store import Recipe, Table, tables
from unspoken.tasks.sudoku.symmetry import Augment, transform

__all__ = [
    "Difficulty",
    "Puzzles",
    "Sudoku",
    "count_solutions",
    "is_solution",
    "read_puzzles",
    "solve",
    "write_puzzles",
]


class Difficulty(NamedTuple):
    """Of each puzzle of a split, as stored: the number of givens and of guesses, `[n]` int64 each.

    0 guesses: naked and hidden singles solve it. More: it needs search.
    """

    givens: Tensor
    guesses: Tensor


@dataclass(frozen=True)
class Sudoku:
    """Boards of boxes of `box_rows` x `box_cols` cells: n x n for n = box_rows * box_cols.

    Digit d is token d - 1, the mask is token n, and a sequence is the board row by row.

    The puzzles are made at first use and kept in `$UNSPOKEN_CACHE` (by default `~/.cache/unspoken`). A puzzle's split
    is a function of the puzzle up to symmetry, so no test puzzle, in any disguise, is a training puzzle of any seed or
    size. Duplicates up to symmetry are left out of validation and test, and of a file's train; others are counted.

    Attributes:
        box_rows: Rows of a box: 2, 2 is 4x4; 2, 3 is 6x6; 3, 3 is 9x9.
        box_cols: Columns of a box.
        givens: How many cells each puzzle shows; 0 for minimal puzzles, which no given can be taken from. Minimal
            puzzles take about 30 us each for 6x6, 0.3 ms for 9x9 and 0.3 s for 16x16; about half of the cells is fast.
        train: Puzzles in the split.
        validation: Puzzles in the split.
        test: Puzzles in the split.
        seed: Of the generator.
        augment: What `sample("train", n, generator)` does to each puzzle: nothing, relabel its digits, or move it by
            any symmetry of the board.
        path: A .txt, .csv or .npy file of puzzles (see `read_puzzles`) to use instead of generated ones. All of it is
            used, split at random by the same function in proportion to train : validation : test, which then are
            shares and not counts; givens and seed have no effect.
    """

    box_rows: int = 2
    box_cols: int = 3
    givens: int = 0
    train: int = 30_000
    validation: int = 1_000
    test: int = 1_000
    seed: int = 0
    augment: Augment = "all"
    path: str = ""

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        cells = check_box(self.box) ** 2
        if not 0 <= self.givens <= cells:
            raise ValueError(f"givens={self.givens} given, 0 (minimal) to {cells} expected for {cells} cells")
        if min(self.sizes) < 0 or self.train == 0:
            raise ValueError(f"train, validation, test = {self.sizes} given, at least 1, 0 and 0 expected")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed} given, 0 <= seed < 2**63 expected")
        if self.augment not in get_args(Augment):
            raise ValueError(f"augment={self.augment!r} given, one of {', '.join(get_args(Augment))} expected")

    @property
    def box(self) -> Box:
        """Rows and columns of a box."""
        return self.box_rows, self.box_cols

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Train, validation and test."""
        return self.train, self.validation, self.test

    @property
    def side(self) -> int:
        """Cells in a row, and digits."""
        return self.box_rows * self.box_cols

    @property
    def length(self) -> int:
        """Cells of the board."""
        return self.side**2

    @property
    def vocab_size(self) -> int:
        """The digits and the mask."""
        return self.side + 1

    @property
    def mask_id(self) -> int:
        """The blank cell."""
        return self.side

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        if self.path:
            return f"{self.side}x{self.side} Sudoku of {self.path}"
        return f"{self.side}x{self.side} Sudoku, {f'{self.givens} givens' if self.givens else 'minimal puzzles'}"

    def size(self, split: Split) -> int:
        """Puzzles in a split."""
        return len(self._table(split).tokens)

    def sample(self, split: Split, n: int, generator: torch.Generator | None = None) -> Examples:
        """With a generator: n random examples, of train with replacement and augmented. Without: the first n.

        What comes out depends on the generator's state alone. ValueError when validation, test or the stored
        order are asked for more examples than there are.
        """
        table = self._table(split)
        size = len(table.tokens)
        if n < 0 or (n > size and (generator is None or split != "train" or size == 0)):
            raise ValueError(
                f"{n} examples of {split} asked for, which holds {size}; write n <= {size}, or a larger "
                f"{split}= in Sudoku(...)" + (" (shares of the file here)" if self.path else "")
            )
        if generator is None:
            return Examples(table.tokens[:n].clone(), table.given[:n].clone())
        device = generator.device
        if split != "train":
            index = torch.randperm(size, generator=generator, device=device)[:n].to("cpu")
            return Examples(table.tokens[index], table.given[index])
        index = torch.randint(size, (n,), generator=generator, device=device).to("cpu")
        return Examples(*transform(table.tokens[index], table.given[index], self.box, generator, self.augment))

    def read(self, path: str | Path) -> Examples:
        """The puzzles of a .txt, .csv or .npy file and their solutions (see `read_puzzles`)."""
        puzzles = read_puzzles(path, self.box)
        x0 = torch.from_numpy(puzzles.solution.astype("int64")) - 1
        return Examples(x0, torch.from_numpy(puzzles.puzzle > 0))

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: each row, column and box of `answer` holds each digit once, and every given is kept.

        prompt, answer: token ids `[n, length]`, on any device; a mask left in the answer makes it wrong.
        """
        blank = torch.where(prompt == self.mask_id, 0, prompt + 1)
        right = is_solution(blank.cpu().numpy(), (answer + 1).cpu().numpy(), self.box)
        return torch.from_numpy(right).to(answer.device)

    def encode(self, text: str, unique: bool = True) -> Tensor:
        """`[length]` token ids of a puzzle as text: `.` or `0` is a blank, whitespace is ignored.

        ValueError for a wrong length or character, and unless the puzzle has exactly one solution.
        `unique=False` reads any board, an answer that breaks the rules included.
        """
        board = parse_puzzle(text, self.box)
        if unique:
            check_puzzles(board[None], self.box, ["the puzzle"])
        digits = torch.from_numpy(board.astype("int64"))
        return torch.where(digits == 0, self.mask_id, digits - 1)

    def show(self, tokens: Tensor) -> str:
        """A board `[length]` on one line, `.` for the mask; `encode` reads it back."""
        return write(self._digits(tokens))

    def symbol(self, token: int) -> str:
        """A token as `show` writes it."""
        return "." if token == self.mask_id else DIGITS[token]

    def gap(self, position: int) -> str:
        """What `grid` puts after a cell: a space, two between boxes, a new line, an empty one between bands."""
        return gap(position, self.box)

    def grid(self, tokens: Tensor) -> str:
        """A board `[length]` as lines, with gaps between boxes; `encode` reads it back."""
        return "".join(symbol + self.gap(i) for i, symbol in enumerate(self.show(tokens)))

    def difficulty(self, split: Split) -> Difficulty:
        """The difficulty of each puzzle of the split, in the order of `sample(split, n)`."""
        table = self._table(split)
        return Difficulty(table.given.sum(1), table.guesses.clone())

    def describe(self) -> dict[str, Any]:
        """What the data are: sizes, vocabulary, givens, difficulty, duplicates and symmetries, by split."""
        return {
            "board": f"{self.side}x{self.side} in boxes of {self.box_rows}x{self.box_cols}",
            "length": self.length,
            "vocab_size": self.vocab_size,
            "vocabulary": " ".join(DIGITS[: self.side]),
            "source": self.path or f"generated, seed {self.seed}",
            "licence": "that of the file" if self.path else "generated here: no rights reserved",
            "symmetries": self._symmetries(),
            "splits": {split: self._describe(split) for split in SPLITS},
        }

    def _describe(self, split: Split) -> dict[str, Any]:
        givens, guesses = self.difficulty(split)
        row: dict[str, Any] = {"puzzles": len(givens), "duplicates": self._table(split).duplicates}
        if len(givens):
            row |= {
                "givens_mean": givens.double().mean().item(),
                "givens_min": int(givens.min()),
                "givens_max": int(givens.max()),
                "needs_search": (guesses > 0).double().mean().item(),
            }
        return row

    def _symmetries(self) -> str:
        transposed = ", transposition" if self.box_rows == self.box_cols else ""
        moves = f", rows in bands, bands, columns in stacks, stacks{transposed}"
        return {"none": "none", "digits": "digits", "all": "digits" + moves}[self.augment]

    def _digits(self, tokens: Tensor) -> Board:
        if tokens.shape != (self.length,) or tokens.min() < 0 or tokens.max() > self.mask_id:
            raise ValueError(
                f"tokens of shape {tuple(tokens.shape)} given, one board [{self.length}] of ids "
                f"0..{self.mask_id} expected; write tokens[i] for one example of a batch"
            )
        return torch.where(tokens == self.mask_id, 0, tokens + 1).to("cpu", torch.uint8).numpy()

    def _table(self, split: Split) -> Table:
        if split not in SPLITS:
            raise ValueError(f"split={split!r} given, one of {', '.join(SPLITS)} expected")
        return tables(Recipe(self.box, self.givens, self.sizes, self.seed, self.path))[split]

"""The Zebra (Einstein) puzzle: who lives where, by clues with one solution. Shah et al. 2024 (arXiv 2409.10502).

task = Zebra()  # 4 houses, 4 attributes
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unspoken.messages import quoted
from unspoken.tasks.base import check_range
from unspoken.tasks.generated import Generated
from unspoken.tasks.hashing import Hashes
from unspoken.tasks.sampled import BLANK, Form
from unspoken.tasks.store import Rows
from unspoken.tasks.zebra.clues import DIGITS, ID, WORDS, Clue, Size, parse_clues, places
from unspoken.tasks.zebra.english import in_words, is_zebralogic
from unspoken.tasks.zebra.generate import draw_puzzle
from unspoken.tasks.zebra.propagate import open_cells
from unspoken.tasks.zebra.symmetry import canonical, disguise, pack, unpack

__all__ = ["Zebra"]

_PATIENCE = 1_000  # puzzles in a row without one that there is room for


@dataclass(frozen=True)
class Zebra(Generated):
    """The clues, EXTRA up to the room there is, ANSWER, and the grid: attribute by attribute the value in each house.

    The words are those of Shah et al.: a clue is its kind, `LHS c attribute value`, `RHS c attribute value` (twice for
    `inbetween`, not for `ends`) and CLUE_END; `n 0 h` in place of `c ...` is the house h. Numbers count from 0. The
    clues drawn here name no house; those of a file may. `inbetween` means left to right in the order of its words.
    Their answers are triples in a solver's order, and here a grid, so that it can be said in any order.

    Drawn puzzles have one solution and lose that with any clue. Any answer that every clue holds in is right.

    JSON lines may also be ZebraLogic's records (`english`), of one size; a clue whose meaning is not clear is refused.
    The .pkl files of Shah et al. become .jsonl files by `python tools/zebra_pickles.py`.

    Attributes:
        houses: And values of each attribute, 3 to 6.
        attributes: 3 to 6.
        clues: Room for so many clues of ten words (`ends` takes 6, `inbetween` 14); 0: room for 98% of the puzzles that
            there are. Those that take more are not drawn.
    """

    train: int = field(default=10_000, kw_only=True)
    houses: int = 4
    attributes: int = 4
    clues: int = 0

    name: ClassVar[str] = "zebra"
    between: ClassVar[str] = " "
    part: ClassVar[int] = 128
    symmetries: ClassVar[str] = (
        "names of attributes and values, order of clues, of the two things in =, != and nbr, left and right"
    )
    difficulty_is: ClassVar[str] = "cells that propagation leaves open"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(3 <= side <= 6 for side in self.shape):
            raise ValueError(f"houses={self.houses}, attributes={self.attributes} given, 3 to 6 of each expected")
        check_range(self, "clues", 0, 100, "; 0 is room for nearly all puzzles")

    @property
    def shape(self) -> Size:
        """Houses and attributes."""
        return Size(self.houses, self.attributes)

    @cached_property
    def form(self) -> Form:
        """The room for clues and ANSWER, and the grid."""
        title = f"Zebra puzzle, {self.houses} houses, {self.attributes} attributes"
        return Form(title, WORDS, asked=self.room + 1, said=self.shape.cells)

    @property
    def room(self) -> int:
        """Words that clues may take."""
        return 10 * (self.clues or self.houses * (4 * self.attributes + 3) // 6)

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, length]`: minimal puzzles with one solution that there is room for."""
        rows: list[list[int]] = []
        tries = 0
        while len(rows) < n:
            clues, grid = draw_puzzle(self.shape, rng)
            said = sum(len(clue.words(self.shape)) for clue in clues)
            tries = 0 if said <= self.room else tries + 1
            if tries == 0:
                rows.append(self._tokens(clues, grid))
            elif tries == _PATIENCE:
                raise ValueError(
                    f"clues={self.clues} given, but {tries} puzzles in a row took more than {self.room} words, the "
                    f"last {said}; write at least clues={-(-said // 10)} for {self.houses} x {self.attributes}"
                )
        return np.array(rows, np.int16).reshape(n, self.length)

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: by colour refinement."""
        kind, things = self._unpack(torch.from_numpy(np.asarray(rows, np.int64)))
        return canonical(kind.numpy(), things.numpy(), self.shape)

    def disguise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Each puzzle under a random symmetry."""
        kind, things, grid = disguise(*self._unpack(rows), rows[:, self.asked :], self.shape, generator)
        answer = torch.full((len(rows), 1), ID["ANSWER"], device=rows.device)
        return torch.cat([pack(kind, things, self.shape, self.room), answer, grid], dim=1)

    def hardness(self, rows: Tensor) -> Tensor:
        """`[n]`: 0 where no step takes two clues at once; of 4x4 puzzles three in four are such."""
        return open_cells(*self._unpack(rows), self.shape)

    def judge(self, tokens: list[int]) -> bool:
        """Each attribute's values are in the grid once, and every clue holds."""
        question, grid = tokens[: self.room], tokens[self.asked :]
        place = places(grid, self.shape)
        try:
            clues = parse_clues((WORDS[token] for token in question if token != ID["EXTRA"]), self.shape)
        except ValueError:
            return False
        return place is not None and all(clue.holds(place, self.houses) for clue in clues)

    def encode(self, text: str) -> Tensor:
        """`[length]` ids of clues, ANSWER, and the grid as digits; nothing or `.` for what is not said yet.

        ValueError for an unknown word, a clue of another form or out of range, too many words or another grid.
        """
        words = text.split()
        for word in words:
            if word not in ID and word != BLANK:
                raise ValueError(f"word {quoted(word)} given, one of {' '.join(WORDS[:-1])} or {BLANK} expected")
        if words.count("ANSWER") != 1:
            raise ValueError(f"{words.count('ANSWER')} ANSWER given, clues, ANSWER and the grid expected")
        at = words.index("ANSWER")
        cells = words[at + 1 :] or [BLANK] * self.shape.cells
        if len(cells) != self.shape.cells:
            expected = f"{self.attributes} x {self.houses} = {self.shape.cells}, or none"
            raise ValueError(f"{len(cells)} cells behind ANSWER given, {expected}, expected; {BLANK} is a blank")
        values = (*DIGITS[: self.houses], BLANK)
        for cell in cells:
            if cell not in values:
                raise ValueError(f"{quoted(cell)} behind ANSWER given, 0..{self.houses - 1} or {BLANK} expected")
        grid = [self.mask_id if cell == BLANK else int(cell) for cell in cells]
        return torch.tensor(self._tokens(parse_clues(words[:at], self.shape), grid))

    def show(self, tokens: Tensor) -> str:
        """The words with a space between them, without EXTRA behind the clues."""
        words = self.check_tokens(tokens)
        return " ".join([*(word for word in words[: self.room] if word != "EXTRA"), *words[self.room :]])

    def gap(self, position: int) -> str:
        """A line for the clues, one for ANSWER, and one for each attribute."""
        cell = position - self.room
        return "\n" if cell == -1 or (cell % self.houses == 0 <= cell < self.shape.cells) else super().gap(position)

    def line(self, record: dict[str, Any]) -> str:
        """Of `{"input": "= LHS ... ANSWER", "output": "0 1 ..."}`, or of a record of ZebraLogic."""
        return super().line(in_words(record, self.shape) if is_zebralogic(record) else record)

    def file(self, path: str | Path) -> Path:
        if Path(path).suffix.lower() == ".pkl":
            size = f"--houses {self.houses} --attributes {self.attributes}"
            raise ValueError(f"{path}: write it as text, `python tools/zebra_pickles.py {path} PUZZLES.jsonl {size}`")
        return super().file(path)

    def _unpack(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return unpack(rows[:, : self.room], self.shape)

    def _tokens(self, clues: list[Clue], grid: list[int]) -> list[int]:
        said = [ID[word] for clue in clues for word in clue.words(self.shape)]
        if len(said) > self.room:
            needed = f"at most {self.room} expected; write Zebra(clues={-(-len(said) // 10)}) or more"
            raise ValueError(f"clues of {len(said)} words given, {needed}")
        return [*said, *[ID["EXTRA"]] * (self.room - len(said)), ID["ANSWER"], *grid]

"""Strips of hand-written digits and their transcription, whose length depends on what is seen.

One to three 8x8 digits of scikit-learn stand at random gaps in an image of 8 x 40. Each digit is written as a word of
two or three sub-words. With two spellings of every digit a strip has several right transcriptions, of different
lengths.

task = Strips(spellings=2)
batch = task.sample("train", 64, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from unspoken.messages import quoted
from unspoken.tasks.base import Split, Values, check_range
from unspoken.tasks.images import INK, ORIGIN, SIZES, Source
from unspoken.tasks.pictured import PATCH, Pictured, pick, pool
from unspoken.tasks.sampled import PAD, Form

MOST, SIDE, COLUMNS, WIDE = 3, 8, 40, 4  # digits; of a digit; of a strip; columns of a patch
SPELLINGS = (  # of the digits 0 to 9: only the first sub-word has a b, so words are told apart; both begin alike
    ("ba da", "ba ge do"),
    ("be gi da", "be do"),
    ("bi go", "bi da ge"),
    ("bo do gi", "bo ga"),
    ("ba gi", "ba de go"),
    ("be de ga", "be go"),
    ("bi ga", "bi do de"),
    ("bo go di", "bo da"),
    ("ba do", "ba di ga"),
    ("be ga gi", "be di"),
)
_SUBWORDS = ("ba", "be", "bi", "bo", "da", "de", "di", "do", "ga", "ge", "gi", "go")
_LONGEST = 3 * MOST  # of a transcription
_AT = re.compile(r"(\d{1,4})@(\d{1,2})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Strips(Pictured):
    """A strip of 8 x 40 as ten patches of 8 x 4, and its transcription from left to right.

    A person writes a strip as the numbers of its images (`pictured.Pool`), each with its first column:
    `12@0 130@13 = ba da be di`. Validation and test show images that training never does. Any spelling of a digit is
    right, whichever the stored answer has; a word that mixes two is not.

    Attributes:
        spellings: Of every digit: 1, or 2 of different lengths, of which a stored answer has one at random.
        queries: Positions of the answer, which is filled up.
    """

    spellings: int = 1
    queries: int = 16

    source: ClassVar[Source] = "digits"
    values: ClassVar[Values] = Values("Vectors", (SIDE * WIDE,), asked="ids")
    numbers: ClassVar[int] = 1 + 3 * MOST
    recipe: ClassVar[int] = 2 * MOST
    symmetries: ClassVar[str] = "none; the images of a split are in no other"
    origin: ClassVar[tuple[str, str]] = (f"strips generated here, of {ORIGIN['digits'][0]}", ORIGIN["digits"][1])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "spellings", 1, 2)
        check_range(self, "queries", _LONGEST, 64, ": the longest transcription has nine sub-words")

    @cached_property
    def form(self) -> Form:
        """Ten patches, then the sub-words."""
        title = f"strips of digits, {self.spellings} spelling{'s' * (self.spellings > 1)}"
        return Form(title, (PATCH, *_SUBWORDS, PAD), asked=self.places, said=self.queries)

    @property
    def places(self) -> int:
        """Patches of a strip."""
        return COLUMNS // WIDE

    def made(self, u: Tensor, split: Split) -> Tensor:
        """Rows: image numbers and first columns (-1 where there are fewer digits than three), then the answer."""
        its = pool("digits")
        count = 1 + pick(u[:, :1], MOST)
        there = torch.arange(MOST) < count
        image = its.pick(u[:, 1 : 1 + MOST], split)
        # Free columns before each digit: sorted, so that the gaps are any.
        free = pick(u[:, 1 + MOST : 1 + 2 * MOST], COLUMNS - SIDE * count + 1)
        free = torch.where(there, free, COLUMNS).sort(1).values
        column = free + SIDE * torch.arange(MOST)
        table, length = _spelled(self.words)
        word = pick(u[:, 1 + 2 * MOST :], self.spellings)
        label = its.label[image]
        length = length[label, word] * there
        # Where each sub-word of each digit goes: those past the end of a word or of the strip go past the answer.
        at = (length.cumsum(1) - length)[..., None] + torch.arange(3)
        at = torch.where(torch.arange(3) < length[..., None], at, self.queries)
        answer = torch.full((len(u), self.queries + 1), self.end)
        answer = answer.scatter(1, at.flatten(1), table[label, word].flatten(1))[:, :-1]
        return torch.cat([torch.where(there, image, -1), torch.where(there, column, -1), answer], 1)

    def patches(self, recipe: Tensor) -> Tensor:
        """Ink from 0 to 1; a patch is read row by row."""
        image, column = recipe[:, :MOST], recipe[:, MOST:]
        strip = torch.zeros(len(recipe), SIDE, COLUMNS + SIDE)  # absent digits are drawn past the end
        ink = pool("digits").pixels[image.clamp_min(0)].float() / INK["digits"]
        at = torch.where(image < 0, COLUMNS, column)[..., None] + torch.arange(SIDE)
        for digit in range(MOST):
            strip.scatter_(2, at[:, digit, None].expand(-1, SIDE, -1), ink[:, digit])
        return strip[..., :COLUMNS].unflatten(2, (self.places, WIDE)).transpose(1, 2).flatten(2)

    def strip(self, patches: Tensor) -> Tensor:
        """`[..., 8, 40]` ink, of `patches` `[..., 10, 32]`: an image to look at."""
        return patches.unflatten(-1, (SIDE, WIDE)).transpose(-3, -2).flatten(-2)

    def seen(self, patches: Tensor) -> list[int] | None:
        """The recipe of known digits that a strip is made of."""
        strip = self.strip(patches) * INK["digits"]
        levels = strip.round().clamp(0, INK["digits"]).to(torch.uint8)
        if not torch.equal(levels.to(strip.dtype), strip):
            return None
        found = _read(levels, 0, MOST)
        if not found:
            return None
        missing = [-1] * (MOST - len(found))
        return [*(number for number, _ in found), *missing, *(column for _, column in found), *missing]

    def answers(self, recipe: Sequence[int], asked: Sequence[str], said: Sequence[str]) -> bool:
        """Whether the sub-words spell the digits of a strip, one after the other."""
        text = " ".join(said) + " "
        for label in self._labels(recipe):
            word = next((w for w in SPELLINGS[label][: self.spellings] if text.startswith(w + " ")), None)
            if word is None:
                return False
            text = text[len(word) + 1 :]
        return not text.strip()

    def shown(self, recipe: Sequence[int]) -> list[int]:
        """The numbers of its digits."""
        return [number for number in recipe[:MOST] if number >= 0]

    def picture(self, words: Sequence[str]) -> list[int]:
        """Of `12@0 130@13`."""
        total = sum(SIZES["digits"].values())
        if not 1 <= len(words) <= MOST:
            raise ValueError(f"{len(words)} digits given, 1 to {MOST} expected, as in 12@0 130@13")
        numbers, columns = [], []
        for word in words:
            found = _AT.fullmatch(word)
            if found is None or int(found[1]) >= total or int(found[2]) > COLUMNS - SIDE:
                raise ValueError(
                    f"{quoted(word)} given, IMAGE@COLUMN expected: an image of 0 to {total - 1}, and its first column "
                    f"of 0 to {COLUMNS - SIDE}"
                )
            numbers.append(int(found[1]))
            columns.append(int(found[2]))
        if any(b - a < SIDE for a, b in pairwise(columns)):
            raise ValueError(f"columns {columns}: a digit has {SIDE}, and they stand from left to right")
        missing = [-1] * (MOST - len(words))
        return [*numbers, *missing, *columns, *missing]

    def written(self, recipe: Sequence[int]) -> str:
        """`12@0 130@13`."""
        pairs = zip(recipe[:MOST], recipe[MOST:], strict=True)
        return " ".join(f"{number}@{column}" for number, column in pairs if number >= 0)

    def answered(self, row: Tensor) -> Tensor:
        """With the first spelling of every digit."""
        words = " ".join(SPELLINGS[label][0] for label in self._labels(row[: self.recipe].tolist()))
        return torch.cat([row[: self.recipe], torch.tensor(self._field(words, self.queries))])

    def describe(self) -> dict[str, Any]:
        """The card, and what is held out."""
        return super().describe() | {"held out": "200 digits for validation and 200 for test, in no training strip"}

    def _labels(self, recipe: Sequence[int]) -> list[int]:
        return [int(pool("digits").label[number]) for number in self.shown(recipe)]


@lru_cache(maxsize=8)
def _spelled(words: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """`[10, 2, 3]` ids of every spelling, and `[10, 2]` how many of them it has."""
    ids = [[[words.index(part) for part in word.split()] for word in spellings] for spellings in SPELLINGS]
    padded = [[word + [0] * (3 - len(word)) for word in spellings] for spellings in ids]
    return torch.tensor(padded), torch.tensor([[len(word) for word in spellings] for spellings in ids])


@lru_cache(maxsize=1)
def _known() -> dict[bytes, int]:
    """The number of every image, by its levels."""
    return {image.numpy().tobytes(): number for number, image in enumerate(pool("digits").pixels)}


def _read(levels: Tensor, first: int, most: int) -> list[tuple[int, int]]:
    """Numbers and first columns of known digits that make up a strip `[8, 40]` of levels from a column on.

    Empty where there are none. A digit may begin with columns of no ink, so that it is looked for from each column.
    """
    if most == 0:
        return []
    inked = (levels[:, first:] > 0).any(0).nonzero()
    last = min(first + int(inked[0]) if len(inked) else first, COLUMNS - SIDE)
    for column in range(first, last + 1):
        number = _known().get(levels[:, column : column + SIDE].numpy().tobytes())
        if number is not None:
            rest = levels[:, column + SIDE :]
            if not bool((rest > 0).any()):
                return [(number, column)]
            if after := _read(levels, column + SIDE, most - 1):
                return [(number, column), *after]
    return []

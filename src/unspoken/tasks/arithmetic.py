"""Arithmetic in words: `seven plus two minus four`, a thought for each operation, and the result.

task = Arithmetic()
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unspoken.messages import quoted
from unspoken.tasks.base import check_range
from unspoken.tasks.generated import Generated
from unspoken.tasks.hashing import Hashes, in_order
from unspoken.tasks.reasoned import Reasoned, words
from unspoken.tasks.sampled import Form
from unspoken.tasks.store import Rows

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_WORDS = words(*NUMBERS, "plus", "minus", "is")
_PLUS, _MINUS, _IS, _PAD = range(len(NUMBERS), len(NUMBERS) + 4)


@dataclass(frozen=True)
class Arithmetic(Reasoned, Generated):
    """Sums and differences of zero to nine from left to right, whose every result is zero to nine too.

    A thought is one operation: `seven plus two is nine`. There are as many as operations, which is drawn uniformly;
    the question and the thoughts are filled up with `_`, which is said in place of thoughts, as their number is not
    given. An answer is right where every thought and the result are: there is one for each question.

    There are 110 questions of one operation, and 11 times as many of each more; a sixteenth of them is in validation,
    and one in test. So most questions of these have many operations, and those of train come twice.

    Attributes:
        terms: Numbers of the longest question, 2 to 8: one more than operations.
    """

    terms: int = 4
    validation: int = field(default=200, kw_only=True)
    test: int = field(default=300, kw_only=True)

    name: ClassVar[str] = "arithmetic"
    symmetries: ClassVar[str] = "none"
    difficulty_is: ClassVar[str] = "operations"
    of_thought: ClassVar[int] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "terms", 2, 8)

    @cached_property
    def form(self) -> Form:
        """Numbers with operations between; a thought for each operation, and the result."""
        operations = self.terms - 1
        title = f"arithmetic in words, {self.terms} numbers at most"
        return Form(title, _WORDS, asked=self.terms + operations, said=operations * self.of_thought + 1)

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, length]`: of a random number of operations, each of the 11 that its left number allows."""
        operations = rng.integers(1, self.terms, n)
        asked = np.full((n, self.asked), _PAD, np.int64)
        asked[:, 0] = value = rng.integers(0, 10, n)
        for i in range(self.terms - 1):
            # To a number v there are v + 1 to subtract and 10 - v to add.
            option, there = rng.integers(0, 11, n), i < operations
            minus = option <= value
            number = np.where(minus, option, option - value - 1)
            asked[there, 2 * i + 1] = np.where(minus, _MINUS, _PLUS)[there]
            asked[there, 2 * i + 2] = number[there]
            value = np.where(minus, value - number, value + number)
        return self._solved(torch.from_numpy(asked))[0].numpy().astype(np.int16)

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: of the question."""
        return in_order(rows[:, : self.asked])

    def hardness(self, rows: Tensor) -> Tensor:
        """`[n]`: operations of the question."""
        return (rows[:, 1 : self.asked : 2] != _PAD).sum(1)

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: whether these are the thoughts and the result of the question, and it is one."""
        right, fine = self._solved(tokens[:, : self.asked])
        return fine & (tokens == right).all(1)

    def encode(self, text: str) -> Tensor:
        """See `Reasoned.encode`; ValueError for a question without a result, too."""
        row = super().encode(text)
        if not self._solved(row[None, : self.asked])[1][0]:
            question = quoted(text.partition("=")[0].strip())
            raise ValueError(
                f"question {question} given, numbers with plus or minus between expected, whose every result from the "
                "left is zero to nine"
            )
        return row

    def answered(self, row: Tensor) -> Tensor:
        """With its thoughts and the result."""
        return self._solved(row[None, : self.asked])[0][0]

    def _solved(self, asked: Tensor) -> tuple[Tensor, Tensor]:
        """`[n, length]`: questions `[n, asked]` with their thoughts and results; `[n]` bool: whether they are such.

        What follows on the first mistake of a question that is none has no meaning.
        """
        value, blocks = asked[:, 0], []
        fine, ended = value < len(NUMBERS), torch.zeros_like(value, dtype=torch.bool)
        for i in range(self.terms - 1):
            sign, number = asked[:, 2 * i + 1], asked[:, 2 * i + 2]
            over = (sign == _PAD) & (number == _PAD) & (i > 0)
            result = torch.where(sign == _PLUS, value + number, value - number)
            legal = ((sign == _PLUS) | (sign == _MINUS)) & (number < len(NUMBERS)) & (result >= 0) & (result < 10)
            fine = fine & torch.where(over, over, legal & ~ended)
            thought = torch.stack([value, sign, number, torch.full_like(value, _IS), result], 1)
            blocks.append(torch.where(over[:, None], _PAD, thought))
            value, ended = torch.where(over, value, result), ended | over
        return torch.cat([asked, *blocks, value[:, None]], 1), fine

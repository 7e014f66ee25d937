"""Carry addition: the sum of two numbers, the carries unseen. A digit of the sum may depend on all digits to its right.

Long runs of carries are hard, and rare among random sums.

task = Addition(least=4, digits=10)
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.messages import quoted
from unspoken.tasks.generated import Generated
from unspoken.tasks.hashing import Hashes, in_order
from unspoken.tasks.sampled import BLANK, PAD, Form
from unspoken.tasks.store import Rows

_WORDS = (*"0123456789", "+", "=", PAD)
_NUMBER = {word: number for number, word in enumerate(_WORDS)}
_WHOLE = re.compile(r"0|[1-9]\d*", re.ASCII)


@dataclass(frozen=True)
class Addition(Generated):
    """Two numbers of equally many digits, and their sum, each at the right of its field and filled up with `_`.

    So a digit of the sum stands under those it comes from. The answer's `_` are said too, as its length is not given.
    Questions of one's own may have numbers of unequal lengths: they are judged, and none are trained on.

    Attributes:
        least: Digits of the shortest numbers.
        digits: Digits of the longest; how many an example has is drawn uniformly.
    """

    least: int = 4
    digits: int = 10

    name: ClassVar[str] = "addition"
    symmetries: ClassVar[str] = "the order of the numbers"
    difficulty_is: ClassVar[str] = "the longest run of carries"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.least <= self.digits <= 17:
            raise ValueError(f"least={self.least}, digits={self.digits} given, 1 <= least <= digits <= 17 expected")

    @cached_property
    def form(self) -> Form:
        """Both numbers with `+` between and `=` behind, and a sum of one digit more."""
        title = f"addition of numbers of {self.least} to {self.digits} digits"
        return Form(title, _WORDS, asked=2 * self.digits + 2, said=self.digits + 1)

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, length]`: uniformly random numbers of a random length."""
        size = rng.integers(self.least, self.digits + 1, n)[:, None]
        a, b = (rng.integers(np.where(size > 1, 10 ** (size - 1), 0), 10**size) for _ in range(2))
        fields = [_digits(a, self.digits), _sign(n, "+"), _digits(b, self.digits), _sign(n, "=")]
        return np.concatenate([*fields, _digits(a + b, self.digits + 1)], axis=1)

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: of the two numbers, the smaller first."""
        return in_order(np.sort(self._numbers(rows), axis=1))

    def hardness(self, rows: Tensor) -> Tensor:
        """`[n]`: the longest run of neighbouring digits that carry into the next."""
        a, b = self._numbers(rows.numpy()).T
        run, longest, carry = np.zeros_like(a), np.zeros_like(a), np.zeros_like(a)
        for _ in range(self.digits):
            carry = (a % 10 + b % 10 + carry) // 10
            run = (run + 1) * carry
            longest, a, b = np.maximum(longest, run), a // 10, b // 10
        return torch.from_numpy(longest)

    def judge(self, tokens: list[int]) -> bool:
        """Whether the answer is the sum, at the right of its field."""
        text = "".join(_WORDS[token] for token in tokens)
        try:
            a, b = self._parsed(text[: self.asked])
        except ValueError:
            return False
        return text[self.asked :] == str(a + b).rjust(self.digits + 1, PAD)

    def encode(self, text: str) -> Tensor:
        """`[length]` of `1234+5678=`, or of it and an answer with `.` for what is not said.

        ValueError for what is no such question, or numbers that are too long.
        """
        question, _, answer = re.sub(r"\s*([+=])\s*", r"\1", text.strip()).partition("=")
        a, b = self._parsed(question + "=")
        room = self.digits + 1
        if len(answer) > room or any(c not in "0123456789" + BLANK + PAD for c in answer):
            raise ValueError(f"answer {quoted(answer)} given, at most {room} of 0-9 {PAD} and {BLANK} expected")
        fields = f"{str(a).rjust(self.digits, PAD)}+{str(b).rjust(self.digits, PAD)}="
        said = answer.rjust(room, PAD) if answer else BLANK * room
        return torch.tensor([_NUMBER.get(word, self.mask_id) for word in fields + said])

    def answered(self, row: Tensor) -> Tensor:
        """With the sum."""
        a, b = self._numbers(row[None].numpy())[0].tolist()
        return self.encode(f"{a}+{b}={a + b}")

    def show(self, tokens: Tensor) -> str:
        """`1234+5678=6912`, without what fills it up; a `_` between what is said is shown."""
        words = "".join(self.check_tokens(tokens))
        question, answer = words[: self.asked].replace(PAD, ""), words[self.asked :]
        return question + (answer.lstrip(PAD) or answer)

    def _numbers(self, rows: NDArray) -> NDArray[np.int64]:
        """`[n, 2]`: the two numbers."""
        fields = rows[:, : self.digits], rows[:, self.digits + 1 : 2 * self.digits + 1]
        tens = 10 ** np.arange(self.digits - 1, -1, -1, dtype=np.int64)
        return np.stack([(np.where(field < 10, field, 0) * tens).sum(1) for field in fields], axis=1)

    def _parsed(self, question: str) -> tuple[int, int]:
        """The numbers of `1234+5678=`, filled up or not."""
        numbers = [number.lstrip(PAD) for number in question.removesuffix("=").split("+")]
        if len(numbers) != 2 or not all(_WHOLE.fullmatch(number) for number in numbers):
            raise ValueError(
                f"question {quoted(question.rstrip('='))} given, two numbers without leading zeros expected, such as "
                "1234+5678"
            )
        if max(map(len, numbers)) > self.digits:
            raise ValueError(f"{quoted(question)} given, numbers of at most {self.digits} digits expected")
        return int(numbers[0]), int(numbers[1])


def _digits(numbers: NDArray, width: int) -> NDArray[np.int16]:
    """`[n, width]`: the digits of `numbers` `[n, 1]`, and the word that fills up before them."""
    tens = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    shown = (numbers >= tens) | (tens == 1)
    return np.where(shown, numbers // tens % 10, _NUMBER[PAD]).astype(np.int16)


def _sign(n: int, word: str) -> NDArray[np.int16]:
    return np.full((n, 1), _NUMBER[word], np.int16)

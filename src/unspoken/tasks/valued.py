"""What tasks share whose tokens are values: vectors of reals, or of small integers (codes).

Every token's id is the placeholder; what it is stands in `Examples.value`. Prompts and answers are values too: where a
value is not known it is "not a number", or -1 among codes (`noise.space.unknown`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from unspoken.noise.space import is_unknown
from unspoken.tasks.base import Examples, Values
from unspoken.tasks.sampled import BLANK, Worded

WORDS = ("o",)  # a token that is known, on a board; the mask comes after it


class Valued(Worded):
    """A task of values; a row of it is `[length, width]`. A final one is a frozen dataclass."""

    values: ClassVar[Values]  # which port reads a token, and of what size
    between: ClassVar[str] = " "

    @abstractmethod
    def word(self, value: Tensor) -> str:
        """One known token `[width]` as a person writes it, without white space."""

    @abstractmethod
    def parse(self, word: str) -> Tensor:
        """What `word` wrote. ValueError where it is none."""

    @property
    def vocabulary(self) -> str:
        """What the port reads."""
        return f"values of {self.values.size}, by the port {self.values.port}"

    def examples(self, rows: Tensor) -> Examples:
        """Of values `[n, length, width]`."""
        token = torch.full(rows.shape[:2], self.values.placeholder, dtype=torch.int64)
        return Examples(token, self.given(rows), rows)

    def encode(self, text: str) -> Tensor:
        """`[length, width]` values: words between white space, `.` for one that is not known."""
        words = text.split()
        if len(words) != self.length:
            raise ValueError(f"{len(words)} tokens given, {self.length} expected, `{BLANK}` for one that is not known")
        blank = torch.full(self.values.size[:1], torch.nan if self.values.port == "Vectors" else -1)
        return torch.stack([blank if word == BLANK else self.parse(word) for word in words])

    def show(self, tokens: Tensor) -> str:
        """Values `[length, width]` on one line; `encode` reads it back, but for rounding."""
        if tokens.shape != (expected := (self.length, self.values.size[0])):
            given = f"values of shape {tuple(tokens.shape)} given, one sequence {list(expected)} expected"
            raise ValueError(f"{given}; write values[i]")
        blank = is_unknown(tokens).tolist()
        return " ".join(BLANK if b else self.word(value) for b, value in zip(blank, tokens, strict=True))


def relative_l2(answer: Tensor, truth: Tensor) -> Tensor:
    """`[...]`: the L2 distance of `answer` `[..., d]` to `truth` `[..., d]`, relative to the norm of the truth."""
    return (answer - truth).norm(dim=-1) / truth.norm(dim=-1)

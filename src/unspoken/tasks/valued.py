"""What tasks share whose tokens are values: vectors of reals, or of small integers (codes).

Every token's id is the placeholder; what it is stands in `Examples.value`. Prompts and answers are values too: where a
value is not known it is "not a number", or -1 among codes (`noise.space.unknown`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from unspoken.noise.space import is_unknown
from unspoken.tasks.base import Examples, Split, Values
from unspoken.tasks.splits import SPLITS

BLANK = "."


class Valued(ABC):
    """A task of values. A final one is a frozen dataclass."""

    source: ClassVar[str] = "generated here"
    licence: ClassVar[str] = "no rights reserved"

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, in a few words."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens of a sequence."""

    @property
    def vocab_size(self) -> int:
        """The placeholder and the mask."""
        return 2

    @property
    def mask_id(self) -> int:
        """The id after the placeholder's."""
        return 1

    @property
    def judged(self) -> bool:
        """Whether there are right answers."""
        return True

    @property
    @abstractmethod
    def values(self) -> Values:
        """Which port reads a token, and of what size."""

    @abstractmethod
    def size(self, split: Split) -> int:
        """Examples in a split."""

    @abstractmethod
    def stored(self, split: Split, n: int) -> Tensor:
        """`[n, length, width]`: the first n of a split, always the same."""

    @abstractmethod
    def given(self, value: Tensor) -> Tensor:
        """`[n, length]` bool: which tokens are the prompt."""

    @abstractmethod
    def word(self, value: Tensor) -> str:
        """One known token `[width]` as a person writes it, without white space."""

    @abstractmethod
    def parse(self, word: str) -> Tensor:
        """What `word` wrote. ValueError where it is none."""

    @abstractmethod
    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: does `answer` `[n, length, width]` answer `prompt`, and keep what it gives?"""

    def fresh(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, length, width]`: random examples of train; by default of those stored."""
        size = self.size("train")
        return self.stored("train", size)[torch.randint(size, (n,), generator=generator)]

    def sample(self, split: Split, n: int, generator: torch.Generator | None = None) -> Examples:
        """With a generator: n random examples. Without: the split's first n. ValueError for more than there are."""
        if split not in SPLITS:
            raise ValueError(f"split={split!r} given, one of {', '.join(SPLITS)} expected")
        size = self.size(split)
        if n < 0 or (n > size and (generator is None or split != "train")):
            raise ValueError(f"{n} examples of {split} asked for, which holds {size}; write 0 <= n <= {size}")
        if generator is None:
            return self._examples(self.stored(split, n))
        if split == "train":
            return self._examples(self.fresh(n, generator))
        return self._examples(self.stored(split, size)[torch.randperm(size, generator=generator)[:n]])

    def read(self, path: str | Path) -> Examples:
        """The whole examples of a .txt file, one a line as `show` writes them. ValueError names the line."""
        rows = []
        for number, line in enumerate(Path(path).read_text("utf-8-sig", errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                value = self.encode(line)
                if bool(is_unknown(value).any()):
                    raise ValueError("a whole example expected, and some of it is blank")
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {str(error)[:500]}") from None
            rows.append(value)
        if not rows:
            raise ValueError(f"{path}: no example in it; one a line expected")
        return self._examples(torch.stack(rows))

    def encode(self, text: str) -> Tensor:
        """`[length, width]` values: words between white space, `.` for one that is not known."""
        words = text.split()
        if len(words) != self.length:
            raise ValueError(f"{len(words)} tokens given, {self.length} expected, `{BLANK}` for one that is not known")
        blank = torch.full(self.values.size[:1], torch.nan if self.values.port == "Vectors" else -1)
        return torch.stack([blank if word == BLANK else self.parse(word) for word in words])

    def show(self, tokens: Tensor) -> str:
        """Values `[length, width]` on one line; `encode` reads it back, but for rounding."""
        blank = is_unknown(tokens).tolist()
        return " ".join(BLANK if b else self.word(value) for b, value in zip(blank, tokens, strict=True))

    def symbol(self, token: int) -> str:
        """Whether a token is known, for a board: `.` is one that is not."""
        return BLANK if token == self.mask_id else "o"

    def gap(self, position: int) -> str:
        """A space after each token."""
        return "" if position + 1 == self.length else " "

    def describe(self) -> dict[str, Any]:
        """The card: what the data are."""
        return {
            "task": self.title,
            "length": self.length,
            "vocabulary": f"values of {self.values.size}, by the port {self.values.port}",
            "source": self.source,
            "symmetries": "none",
            "licence": self.licence,
            "splits": {split: {"examples": self.size(split)} for split in SPLITS},
        }

    def _examples(self, value: Tensor) -> Examples:
        token = torch.full(value.shape[:2], self.values.placeholder, dtype=torch.int64)
        return Examples(token, self.given(value), value)

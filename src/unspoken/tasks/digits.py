"""Hand-written digits of scikit-learn as four patches of codes: small images whose tokens are vectors of integers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from unspoken.tasks.base import Split, Values
from unspoken.tasks.valued import Valued

LEVELS = "0123456789abcdefg"  # of ink, 0 to 16
SIZES = {"train": 1_397, "validation": 200, "test": 200}


@dataclass(frozen=True)
class Digits(Valued):
    """The 1,797 8x8 images of scikit-learn's `load_digits`, each four 4x4 patches of 16 dims with 17 levels.

    No image is the only right one: a model of them is measured by its bits a dim, and `score` says only that an answer
    is whole and keeps what is given. The images are dealt to the splits once, at random; no two are equal.

    Attributes:
        known: Patches that are the prompt, from the top left.
    """

    known: int = 0
    source: ClassVar[str] = "scikit-learn's load_digits (UCI, Optical Recognition of Handwritten Digits)"
    licence: ClassVar[str] = "CC BY 4.0"

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        if not 0 <= self.known < self.length:
            raise ValueError(f"known={self.known} given, 0 to {self.length - 1} patches expected")

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return "8x8 digits in four patches"

    @property
    def length(self) -> int:
        """Patches."""
        return 4

    @property
    def judged(self) -> bool:
        """No image is the right one."""
        return False

    @property
    def values(self) -> Values:
        """Sixteen dims of seventeen levels."""
        return Values("Codes", (16, len(LEVELS)))

    def size(self, split: Split) -> int:
        """Images in a split."""
        return SIZES[split]

    def stored(self, split: Split, n: int) -> Tensor:
        """See `Valued.stored`."""
        return _splits()[split][:n]

    def given(self, value: Tensor) -> Tensor:
        """The first `known` patches."""
        return (torch.arange(self.length) < self.known).expand(len(value), -1)

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: every code is a level, and what is given is kept."""
        kept = ((prompt < 0) | (prompt == answer)).flatten(1).all(1)
        return kept & ((answer >= 0) & (answer < len(LEVELS))).flatten(1).all(1)

    def image(self, value: Tensor) -> Tensor:
        """`[n, 8, 8]` levels of ink, of codes `[n, 4, 16]`; -1 where a patch is not known."""
        return value.view(-1, 2, 2, 4, 4).transpose(2, 3).reshape(-1, 8, 8)

    def word(self, value: Tensor) -> str:
        """A character a dim, the patch row by row."""
        return "".join(LEVELS[code] for code in value.tolist())

    def parse(self, word: str) -> Tensor:
        """See `word`. ValueError for another length or character."""
        if len(word) != 16 or not set(word) <= set(LEVELS):
            raise ValueError(f"{word[:50]!r} given, a patch of 16 characters of {LEVELS} expected")
        return torch.tensor([LEVELS.index(c) for c in word])


@lru_cache(maxsize=1)
def _splits() -> dict[str, Tensor]:
    """`[n, 4, 16]` codes of every split."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError('the digits come with scikit-learn; install it: pip install "unspoken[images]"') from error
    images, _ = load_digits(return_X_y=True)
    codes = torch.from_numpy(images).long().view(-1, 2, 4, 2, 4).transpose(2, 3).reshape(-1, 4, 16)
    codes = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))]
    parts = codes.split(list(SIZES.values()))
    return dict(zip(SIZES, parts, strict=True))

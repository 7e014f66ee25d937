"""Hand-written digits of scikit-learn as four patches of codes: small images whose tokens are vectors of integers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from unspoken import checks
from unspoken.messages import quoted
from unspoken.tasks import images
from unspoken.tasks.base import Examples, Split, Values, check_range
from unspoken.tasks.sampled import Form
from unspoken.tasks.valued import WORDS, Valued

PATCHES = 4
LEVELS = "0123456789abcdefg"  # of ink, 0 to 16


@dataclass(frozen=True)
class Digits(Valued):
    """The 1,797 8x8 images of scikit-learn's `load_digits`, each four 4x4 patches of 16 dims with 17 levels.

    No image is the only right one: a model of them is measured by its bits a dim, and `score` says only that an answer
    is whole and keeps what is given. The images are dealt to the splits once, at random; no two are equal.

    Attributes:
        known: Patches that are the prompt, from the top left.
    """

    known: int = 0

    values: ClassVar[Values] = Values("Codes", (16, len(LEVELS)))
    origin: ClassVar[tuple[str, str]] = images.ORIGIN["digits"]

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        checks.plain(self)
        check_range(self, "known", 0, PATCHES - 1, " of the patches")

    @cached_property
    def form(self) -> Form:
        """The patches that are known, and the others."""
        return Form("8x8 digits in four patches", WORDS, asked=self.known, said=PATCHES - self.known)

    @property
    def judged(self) -> bool:
        """No image is the right one."""
        return False

    def holds(self, split: Split) -> int:
        """Images in a split."""
        return images.SIZES["digits"][split]

    def numbered(self, split: Split, index: Tensor) -> Examples:
        return self.examples(_codes(split)[index])

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: every code is a level."""
        return (tokens < len(LEVELS)).flatten(1).all(1)

    def image(self, value: Tensor) -> Tensor:
        """`[n, 8, 8]` levels of ink, of codes `[n, 4, 16]`; -1 where a patch is not known."""
        return value.view(-1, 2, 2, 4, 4).transpose(2, 3).reshape(-1, 8, 8)

    def word(self, value: Tensor) -> str:
        """A character a dim, the patch row by row."""
        return "".join(LEVELS[code] for code in value.tolist())

    def parse(self, word: str) -> Tensor:
        """See `word`. ValueError for another length or character."""
        if len(word) != 16 or not set(word) <= set(LEVELS):
            raise ValueError(f"{quoted(word)} given, a patch of 16 characters of {LEVELS} expected")
        return torch.tensor([LEVELS.index(c) for c in word])


def _codes(split: Split) -> Tensor:
    """`[n, 4, 16]`: the ink of every pixel of every patch."""
    pixels = images.load("digits", split).pixels.long()
    return pixels.view(-1, 2, 4, 2, 4).transpose(2, 3).reshape(-1, PATCHES, 16)

"""Sequences that hold thoughts: a question, thoughts in blocks of as many words each, and an answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken import checks


@dataclass(frozen=True)
class Thoughts:
    """Where question, thoughts and answer stand in a sequence of `question + blocks * words + answer` tokens.

    Attributes:
        question: Tokens of the question.
        blocks: Thoughts, at most.
        words: Tokens of a thought.
        answer: Tokens of the answer.
        pad: The id of the word that fills up what is shorter; a block of it alone is no thought.
        more: The id that says that a thought follows, and stands where a thought is shown as vectors.
        done: The id that says that the answer follows.
    """

    question: int
    blocks: int
    words: int
    answer: int
    pad: int
    more: int
    done: int

    def __post_init__(self) -> None:
        for name in ("question", "blocks", "words", "answer"):
            checks.count(name, getattr(self, name), 1)
        if len({self.pad, self.more, self.done}) < 3 or min(self.pad, self.more, self.done) < 0:
            raise ValueError(f"pad={self.pad}, more={self.more}, done={self.done}: give three different ids, 0 or more")

    @property
    def length(self) -> int:
        """Tokens of a sequence."""
        return self.question + self.blocks * self.words + self.answer

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sequences `[n, length]` to questions `[n, question]`, thoughts `[n, blocks, words]`, answers `[n, answer]`.

        Raises ValueError for another length.
        """
        checks.tensor("tokens", tokens, torch.int64, ("n", self.length))
        question, thoughts, answer = tokens.split([self.question, self.blocks * self.words, self.answer], 1)
        return question, thoughts.unflatten(1, (self.blocks, self.words)), answer

    def there(self, thoughts: Tensor) -> Tensor:
        """`[n, blocks]` bool: which of `thoughts` `[n, blocks, words]` there are; they come before those that are not.

        Raises ValueError where a thought follows on none, and for a row without any.
        """
        there = (thoughts != self.pad).any(-1)
        if bool((there[:, 1:] & ~there[:, :-1]).any()) or not bool(there[:, 0].all()):
            raise ValueError("a row has no first thought, or one after a block of padding: give thoughts from the left")
        return there

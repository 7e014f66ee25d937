"""What tasks share whose sequences hold thoughts: how they are written and read, and which of several answers differ.

As a person writes it: the question, `=`, the thoughts, and the answer, with `;` between.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from unspoken import checks
from unspoken.messages import quoted
from unspoken.tasks.sampled import BLANK, PAD, Worded
from unspoken.tasks.thoughts import DONE, MORE, Thoughts

RESERVED = (MORE, DONE)  # words that no sequence holds; a model's own sequences may
_ENDS = (PAD, *RESERVED)  # the last words of every such task, in this order


def words(*own: str) -> tuple[str, ...]:
    """The words of a task: its own, what fills up, and the two reserved words. The mask comes after them."""
    return (*own, *_ENDS)


class Reasoned(Worded):
    """A question, thoughts of equally many words, and an answer. A final one is a frozen dataclass.

    Its `form` counts the thoughts among what is said, and has the words that `words` makes.
    """

    of_thought: ClassVar[int]  # tokens of a thought
    of_answer: ClassVar[int] = 1  # tokens of the answer
    between: ClassVar[str] = " = "

    @cached_property
    def thoughts(self) -> Thoughts:
        """Where question, thoughts and answer stand, and the ids of the words that have a meaning there."""
        pad, more, done = (self.words.index(word) for word in _ENDS)
        blocks = (self.form.said - self.of_answer) // self.of_thought
        return Thoughts(self.asked, blocks, self.of_thought, self.of_answer, pad, more, done)

    def different(self, prompt: Tensor, answers: Tensor) -> Tensor:
        """`[n]` int64: how many different right answers there are among `answers` `[n, k, length]` to `prompt`.

        prompt: `[n, length]` ids, the mask where nothing is given.
        """
        checks.tensor("prompt", prompt, torch.int64, ("n", self.length))
        checks.tensor("answers", answers, torch.int64, (len(prompt), "k", self.length))
        asked = prompt[:, None].expand_as(answers)
        right = self.score(asked.flatten(0, 1), answers.flatten(0, 1)).view(answers.shape[:2])
        same = (answers[:, :, None] == answers[:, None]).all(-1)
        repeated = (same & right[:, None]).tril(-1).any(-1)  # one before it is the same
        return (right & ~repeated).sum(1)

    def encode(self, text: str) -> Tensor:
        """`[length]` ids of a question, or of `question = thought ; thought ; answer`, `.` for what is not said.

        What is shorter than its field is filled up; fewer thoughts than there may be, too. ValueError for words that
        the task does not have, the reserved ones included, and for more words or thoughts than there is room for.
        """
        question, _, said = text.partition("=")
        where = self.thoughts
        room = where.blocks * where.words + where.answer
        answer = self._said(said) if said.strip() else [self.mask_id] * room
        return torch.tensor(self._field(question, self.asked) + answer)

    def show(self, tokens: Tensor) -> str:
        """`question = thought ; thought ; answer`, without what fills it up; `encode` reads it back."""
        shown, where = self.check_tokens(tokens), self.thoughts
        first, last = self.asked, self.length - where.answer
        thoughts = [_filled(shown[at : at + where.words]) for at in range(first, last, where.words)]
        while thoughts and thoughts[-1] == PAD:
            thoughts.pop()
        return f"{_filled(shown[:first])} = {' ; '.join([*thoughts, _filled(shown[last:])])}"

    def _said(self, text: str) -> list[int]:
        """Ids of thoughts and an answer."""
        where, parts = self.thoughts, text.split(";")
        if len(parts) > where.blocks + 1:
            raise ValueError(f"{len(parts) - 1} thoughts given, at most {where.blocks} expected, and an answer")
        thoughts = [token for part in parts[:-1] for token in self._field(part, where.words)]
        missing = (where.blocks + 1 - len(parts)) * where.words
        return thoughts + [where.pad] * missing + self._field(parts[-1], where.answer)

    def _field(self, text: str, room: int) -> list[int]:
        """Ids of words between white space, filled up to `room`."""
        found, known = text.split(), self.words[: -len(RESERVED)]
        if not 1 <= len(found) <= room:
            raise ValueError(f"{quoted(text.strip())} given, 1 to {room} words expected with white space between")
        for word in found:
            if word != BLANK and word not in known:
                raise ValueError(f"{quoted(word)} given, words of {' '.join(known)} expected, or {BLANK}")
        ids = [self.mask_id if word == BLANK else known.index(word) for word in found]
        return ids + [self.thoughts.pad] * (room - len(ids))


def _filled(field: list[str]) -> str:
    """A field without what fills it up at its end, or one such word where there is nothing else."""
    text = " ".join(field)
    while text.endswith(f" {PAD}"):
        text = text.removesuffix(f" {PAD}")
    return text

"""What a task is: examples to learn from, and a judge."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from unspoken.messages import quoted
from unspoken.noise.space import PADDING, is_unknown, paired, unknown

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


# The types of fields, as they are annotated, and what their values may be of.
@dataclass(frozen=True)
class Examples:
    """Solved sequences, and which of their tokens are the prompt.

    x0: `[n, length]` int64, the clean tokens; where the tokens are values, a placeholder id.
    given: `[n, length]` bool, True where the token is part of the prompt and never masked.
    value: `[n, length, width]` vectors (floats) or codes (int64) of tokens that are values; None where all are ids.
        Where some are ids and others values, it is unknown (`unknown`) at those that are ids.
    document: `[n, length]` int64, to which document of its row each token belongs, `PADDING` (-1) where the row is
        shorter, `given` there; None where every row is one document.
    """

    x0: Tensor
    given: Tensor
    value: Tensor | None = None
    document: Tensor | None = None

    @property
    def answer(self) -> Tensor:
        """The clean sequences as a task shows and judges them: values where what is not given is values, else ids."""
        return self.x0 if self.value is None or self.says_ids else self.value

    @property
    def mixed(self) -> bool:
        """Whether some of the tokens are ids and others values."""
        return self.value is not None and bool(is_unknown(self.value).any())

    @property
    def says_ids(self) -> bool:
        """Whether what is not given is ids."""
        return self.value is None or bool(is_unknown(self.value)[~self.given].any())

    def prompt(self, mask_id: int) -> Tensor:
        """The given tokens, `[n, length]` with the mask everywhere else; or values, unknown (`unknown`) elsewhere.

        Where some tokens are ids and others values, both as one tensor `[n, length, 1 + width]` (`noise.space.paired`).
        """
        given = self.given if self.document is None else self.given & (self.document != PADDING)
        if self.value is None:
            return torch.where(given, self.x0, mask_id)
        value = torch.where(given[..., None], self.value, unknown(self.value))
        return paired(torch.where(given, self.x0, mask_id), value) if self.mixed else value

    def whole(self) -> Examples:
        """These; ValueError where a row is not one document from end to end, for what takes no others."""
        if self.document is not None and bool((self.document != 0).any()):
            raise ValueError("rows that are shorter than their batch, or hold several documents: not measured here")
        return self

    def __len__(self) -> int:
        return self.x0.shape[0]

    def rows(self, index: Tensor | slice) -> Examples:
        """Some of them."""
        value, document = (None if its is None else its[index] for its in (self.value, self.document))
        return Examples(self.x0[index], self.given[index], value, document)

    def by_size(self) -> Examples:
        """In order of how many tokens are not given."""
        return self.rows(self.given.sum(1).argsort(descending=True, stable=True))

    def split(self, n: int) -> list[Examples]:
        """Batches of at most n."""
        return [self.rows(slice(first, first + n)) for first in range(0, len(self), n)]


@dataclass(frozen=True)
class Values:
    """That a task's tokens are values: which port reads them, of what size, and the id that stands in their place.

    port: `Vectors` (size is the width) or `Codes` (size is dims and levels).
    asked: what the answers are. With `ids` the values are in the prompt alone, and the port has no head.
    """

    port: Literal["Vectors", "Codes"]
    size: tuple[int, ...]
    placeholder: int = 0
    asked: Literal["values", "ids"] = "values"


class Task(Protocol):
    """Data and its judge. A task is a frozen dataclass of numbers and strings, hence its own record.

    Those of this package are made of `sampled.Sampled`; any other class with these methods will do.
    """

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens in a sequence."""

    @property
    def vocab_size(self) -> int:
        """Token ids, the mask included, which is the last."""
        return self.mask_id + 1

    @property
    @abstractmethod
    def mask_id(self) -> int:
        """The id that stands for "not said yet"."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, in a few words."""

    @property
    def judged(self) -> bool:
        """Whether there are right answers: of text and of images there are none."""
        return True

    @abstractmethod
    def size(self, split: Split) -> int:
        """Examples in a split."""

    @abstractmethod
    def sample(self, split: Split, n: int, generator: torch.Generator | None = None) -> Examples:
        """With a generator: n random examples (augmented when training). Without: the split's first n, as stored."""

    @abstractmethod
    def read(self, path: str | Path) -> Examples:
        """The examples of a user's file, checked; ValueError names the file and the line of what is wrong."""

    @abstractmethod
    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: is `answer` `[n, length]` a right completion of `prompt` `[n, length]`?"""

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """One prompt as a person writes it, checked: `[length]` token ids, the mask where it is blank."""

    @abstractmethod
    def show(self, tokens: Tensor) -> str:
        """One sequence `[length]` as a person writes it, on one line."""

    @abstractmethod
    def symbol(self, token: int) -> str:
        """One token, for a board."""

    def gap(self, position: int) -> str:
        """What a board puts after the token at `position`: by default a space, and nothing at the end."""
        return "" if position + 1 == self.length else " "


def check_split(split: str) -> None:
    """ValueError for what is no split."""
    if split not in SPLITS:
        raise ValueError(f"split={quoted(split)} given, one of {', '.join(SPLITS)} expected")


def check_range(task: object, name: str, low: float, high: float, also: str = "") -> None:
    """ValueError where the field `name` is not in low..high. also: what more is to be said of it."""
    if not low <= (value := getattr(task, name)) <= high:
        raise ValueError(f"{name}={value} given, {low} to {high} expected{also}")


def check_seed(seed: int) -> None:
    """ValueError for what no generator begins with."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed} given, 0 <= seed < 2**63 expected")


def check_tokens(task: Task, tokens: Tensor) -> list[int]:
    """The ids of one sequence; ValueError where it is none."""
    if tokens.shape != (task.length,) or tokens.min() < 0 or tokens.max() > task.mask_id:
        expected = f"one sequence [{task.length}] of ids 0..{task.mask_id}"
        raise ValueError(f"tokens of shape {tuple(tokens.shape)} given, {expected} expected; write tokens[i]")
    return tokens.tolist()

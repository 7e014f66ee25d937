"""What tasks with generated examples share: a vocabulary of words, splits disjoint up to symmetry, reading, the card.

A task of this kind is a final dataclass that says how examples are drawn, written, judged, and which are the same.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unspoken.tasks.base import Examples, Split
from unspoken.tasks.hashing import Hashes
from unspoken.tasks.splits import SPLITS, bins_of, distribute
from unspoken.tasks.store import Rows, Stored, stored

BLANK = "."  # how a person writes the mask
PAD = "_"  # a word that fills up a question or an answer that is shorter than it might be
_TOLD = 500  # characters of a mistake in a file
_LABELLED = 10_000  # examples of a split whose difficulty the card counts


@dataclass(frozen=True)
class Generated(ABC):
    """A question and its answer in a sequence of words; the mask is the last token.

    The examples are drawn at first use and kept in `$UNSPOKEN_CACHE` (by default `~/.cache/unspoken`). An example's
    split is a function of its question up to symmetry, so no test question, in any disguise, is trained on, whatever
    the seed and the sizes. Duplicates up to symmetry are left out of validation and test, and of all splits of a file;
    in a generated train they are only counted.

    Attributes:
        train: Examples in the split.
        validation: Examples in the split.
        test: Examples in the split.
        seed: Of the generator.
        path: A file of examples (see `read`) to use instead of generated ones. All of it is used, split by the same
            function in proportion to train : validation : test, which then are shares and not counts; seed has no
            effect.
    """

    train: int = 100_000
    validation: int = 1_000
    test: int = 1_000
    seed: int = 0
    path: str = ""

    name: ClassVar[str]
    version: ClassVar[int] = 1  # of what `draw` makes: part of the cache's key
    part: ClassVar[int] = 4_096  # examples drawn at a time
    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".jsonl")  # of the files that `read` reads
    between: ClassVar[str] = "="  # the input and the output of a .jsonl record, to make a text for `encode`
    symmetries: ClassVar[str]
    licence: ClassVar[str] = "generated here: no rights reserved"
    difficulty_is: ClassVar[str] = ""  # what `difficulty` counts, in a few words

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        if min(self.sizes) < 0 or self.train == 0:
            raise ValueError(f"train, validation, test = {self.sizes} given, at least 1, 0 and 0 expected")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed} given, 0 <= seed < 2**63 expected")

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, in a few words."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens in a sequence, question and answer."""

    @property
    @abstractmethod
    def words(self) -> tuple[str, ...]:
        """What each token stands for; the mask is not among them."""

    @abstractmethod
    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, length]` clean sequences of any split."""

    @abstractmethod
    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: equal where the questions are the same up to the task's symmetries. Ignores the answers."""

    @abstractmethod
    def given(self, rows: Tensor) -> Tensor:
        """`[n, length]` bool: which tokens are the question."""

    @abstractmethod
    def judge(self, tokens: list[int]) -> bool:
        """Whether a whole sequence, question and answer and no mask in it, answers its question."""

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """`[length]` token ids of a question, or of question and answer, as `show` writes them; checked."""

    @abstractmethod
    def show(self, tokens: Tensor) -> str:
        """One sequence `[length]` as a person writes it, on one line; `encode` reads it back."""

    def difficulty(self, rows: Tensor) -> Tensor:
        """`[n]` int64: how hard each example is, as `difficulty_is` says."""
        return torch.zeros(len(rows), dtype=torch.int64)

    def augment(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """A random disguise of each training example `[n, length]`; by default itself."""
        return x0

    def line(self, record: dict[str, Any]) -> str:
        """The text of one record of a .jsonl file, for `encode`."""
        if not isinstance(record, dict) or not {"input", "output"} <= record.keys():
            raise ValueError(f'{record!r} given, {{"input": ..., "output": ...}} expected')
        return f"{record['input']}{self.between}{record['output']}"

    def gap(self, position: int) -> str:
        """What a board puts after the token at `position`: by default a space."""
        return "" if position + 1 == self.length else " "

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Train, validation and test."""
        return self.train, self.validation, self.test

    @property
    def vocab_size(self) -> int:
        """The words and the mask."""
        return len(self.words) + 1

    @property
    def mask_id(self) -> int:
        """The token not said yet."""
        return len(self.words)

    def symbol(self, token: int) -> str:
        """A token as a person writes it."""
        return BLANK if token == self.mask_id else self.words[token]

    def size(self, split: Split) -> int:
        """Examples in a split."""
        return len(self._stored(split).rows)

    def sample(self, split: Split, n: int, generator: torch.Generator | None = None) -> Examples:
        """With a generator: n random examples, of train with replacement and augmented. Without: the first n.

        What comes out depends on the generator's state alone. ValueError when validation, test or the stored order
        are asked for more examples than there are.
        """
        rows = self._stored(split).rows
        size = len(rows)
        if n < 0 or (n > size and (generator is None or split != "train" or size == 0)):
            raise ValueError(
                f"{n} examples of {split} asked for, which holds {size}; write n <= {size}, or a larger {split}= in "
                f"{type(self).__name__}(...)" + (" (shares of the file here)" if self.path else "")
            )
        if generator is None:
            return self._examples(torch.from_numpy(rows[:n].astype(np.int64)))
        device = generator.device
        if split != "train":
            index = torch.randperm(size, generator=generator, device=device)[:n].cpu().numpy()
            return self._examples(torch.from_numpy(rows[index].astype(np.int64)))
        index = torch.randint(size, (n,), generator=generator, device=device).cpu().numpy()
        return self._examples(self.augment(torch.from_numpy(rows[index].astype(np.int64)), generator))

    def read(self, path: str | Path) -> Examples:
        """The examples of a file, checked: .txt, a line each as `show` writes them; .jsonl of inputs and outputs.

        ValueError names the file and the line of what is wrong, an answer that is not right included.
        """
        path = Path(path)
        if path.suffix.lower() not in self.suffixes or not path.is_file():
            kinds = " or ".join(self.suffixes)
            raise ValueError(f"{path}: no such {kinds} file; a path to a file with one example a line expected")
        rows = []
        for where, text in self._texts(path):
            try:
                tokens = self.encode(text())
                if (tokens == self.mask_id).any() or not self.judge(tokens.tolist()):
                    raise ValueError("a right answer expected, and this is none")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(f"{path}, {where}: {str(error)[:_TOLD]}") from None
            rows.append(tokens)
        if not rows:
            raise ValueError(f"{path}: no example in it; one a line expected")
        return self._examples(torch.stack(rows))

    def _texts(self, path: Path) -> Iterator[tuple[str, Any]]:
        """Of each example of a file where it is, and what makes its text."""
        for number, line in enumerate(path.read_text("utf-8-sig", errors="replace").split("\n"), start=1):
            if line.strip():
                text = (
                    (lambda s=line: self.line(json.loads(s))) if path.suffix.lower() == ".jsonl" else (lambda s=line: s)
                )
                yield f"line {number}", text

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: does `answer` `[n, length]` keep what `prompt` gives, and answer it? A mask left is wrong.

        Tokens on any device; any right answer counts, not the stored one alone.
        """
        kept = ((prompt == self.mask_id) | (prompt == answer)).all(1)
        whole = ((answer >= 0) & (answer < self.mask_id)).all(1)
        right = [ok and self.judge(tokens) for ok, tokens in zip((kept & whole).tolist(), answer.tolist(), strict=True)]
        return torch.tensor(right, dtype=torch.bool, device=answer.device)

    def describe(self) -> dict[str, Any]:
        """The card: what the data are, sizes, duplicates and difficulty by split, symmetries and licence."""
        return {
            "task": self.title,
            "length": self.length,
            "vocab_size": self.vocab_size,
            "vocabulary": " ".join(self.words),
            "source": self.path or f"generated, seed {self.seed}",
            "symmetries": self.symmetries,
            "licence": "that of the file" if self.path else self.licence,
            "splits": {split: self._describe(split) for split in SPLITS},
        }

    def _describe(self, split: Split) -> dict[str, Any]:
        its = self._stored(split)
        row: dict[str, Any] = {"examples": len(its.rows), "duplicates": its.duplicates}
        if self.difficulty_is and len(its.rows):
            hard = self.difficulty(torch.from_numpy(its.rows[:_LABELLED].astype(np.int64)))
            row[f"{self.difficulty_is} (of the first {_LABELLED:,})"] = {
                int(k): int((hard == k).sum()) for k in hard.unique()
            }
        return row

    def check_tokens(self, tokens: Tensor) -> list[str]:
        """The words of one sequence; ValueError where it is none."""
        if tokens.shape != (self.length,) or tokens.min() < 0 or tokens.max() > self.mask_id:
            expected = f"one sequence [{self.length}] of ids 0..{self.mask_id}"
            raise ValueError(f"tokens of shape {tuple(tokens.shape)} given, {expected} expected; write tokens[i]")
        return [self.symbol(token) for token in tokens.tolist()]

    def _examples(self, x0: Tensor) -> Examples:
        return Examples(x0, self.given(x0))

    def _stored(self, split: Split) -> Stored:
        if split not in SPLITS:
            raise ValueError(f"split={split!r} given, one of {', '.join(SPLITS)} expected")
        if self.path:
            return _of_file(self)[split]
        return stored(self, self.name, repr((self.version, sorted(asdict(self).items()))))[split]


@lru_cache(maxsize=8)
def _of_file(task: Generated) -> dict[Split, Stored]:
    """The examples of the task's file, split in proportion to the sizes; a question and its disguises share a split."""
    rows = task.read(task.path).x0.numpy().astype(np.int16)
    bins = bins_of([len(rows)] * len(SPLITS), published=True)
    distribute(bins, rows, task.canonical(rows), task.sizes)
    return {s: Stored(b.rows, b.duplicates) for s, b in zip(SPLITS, bins, strict=True)}

"""What tasks with generated examples share: a vocabulary of words, splits disjoint up to symmetry, reading, the card.

A task of this kind is a final dataclass that says how examples are drawn, written, judged, and which are the same.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unspoken.tasks.base import SPLITS, Examples, Split, check_asked, check_split, check_tokens, kept_and_whole
from unspoken.tasks.files import Text, checked, texts
from unspoken.tasks.hashing import Hashes
from unspoken.tasks.store import Rows, Stored, stored

BLANK = "."  # how a person writes the mask
PAD = "_"  # a word that fills up a question or an answer that is shorter than it might be
_LABELLED = 10_000  # examples of a split whose difficulty the card counts


@dataclass(frozen=True, kw_only=True)
class Generated(ABC):
    """A question and its answer in a sequence of words; the mask is the last token.

    The examples are drawn at first use and kept in `$UNSPOKEN_CACHE` (by default `~/.cache/unspoken`). An example's
    split is a function of its question up to symmetry, so no test question, in any disguise, is trained on, whatever
    the seed and the sizes. Duplicates up to symmetry are left out of validation and test, and of all splits of a file;
    in a generated train they are only counted.

    What is stored of an example is a row: its sequence, unless the task says otherwise (`examples`).

    Attributes:
        train: Examples in the split. Tasks that are `endless` take 0: new ones for every batch, and none is kept.
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
    patience: ClassVar[tuple[int, str]] = (500_000, "a larger task")
    distinct: ClassVar[bool] = False  # whether a generated train, too, holds no example twice
    unstored: ClassVar[tuple[str, ...]] = ()  # fields that the stored rows do not depend on
    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".jsonl")  # of the files that `read` reads
    between: ClassVar[str] = "="  # the input and the output of a .jsonl record, to make a text for `encode`
    symmetries: ClassVar[str]
    licence: ClassVar[str] = "generated here: no rights reserved"
    difficulty_is: ClassVar[str] = ""  # what `hardness` counts, in a few words

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        least = 0 if self.endless and not self.path else 1
        if min(self.sizes) < 0 or self.train < least:
            raise ValueError(f"train, validation, test = {self.sizes} given, at least {least}, 0 and 0 expected")
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

    @property
    def asked(self) -> int:
        """Tokens of the question, which come first."""
        return 0

    @property
    def endless(self) -> int:
        """Of a task that can draw without end (`fresh`): the examples that train=0 counts as one epoch."""
        return 0

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, width]` rows of any split; a task that overrides `draw_part` needs none."""
        raise NotImplementedError

    def draw_part(self, index: int) -> Rows:
        """`[part, width]`: part `index` of the endless sequence of rows that `seed` begins."""
        return self.draw(self.part, np.random.default_rng((self.seed, index)))

    def fresh(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, width]` new rows of train, of a task that is `endless`."""
        raise NotImplementedError

    @abstractmethod
    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: equal where the questions are the same up to the task's symmetries. Ignores the answers."""

    def judge(self, tokens: list[int]) -> bool:
        """Whether a whole sequence, question and answer and no mask in it, answers its question.

        A task says so here of one, or in `judge_all` of many at once.
        """
        return bool(self.judge_all(torch.tensor([tokens]))[0])

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: `judge` of each of `tokens` `[n, length]`."""
        return torch.tensor([self.judge(row) for row in tokens.tolist()], dtype=torch.bool)

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """`[length]` token ids of a question, or of question and answer, as `show` writes them; checked."""

    @abstractmethod
    def show(self, tokens: Tensor) -> str:
        """One sequence `[length]` as a person writes it, on one line; `encode` reads it back."""

    def solved(self, text: str) -> Tensor:
        """`[width]`: the row of an example with its answer; ValueError for an answer that is not right."""
        tokens = self.encode(text)
        if (tokens == self.mask_id).any() or not self.judge(tokens.tolist()):
            raise ValueError("a right answer expected, and this is none")
        return tokens

    def given(self, x0: Tensor) -> Tensor:
        """`[n, length]` bool: which tokens of `x0` `[n, length]` are the question."""
        return (torch.arange(self.length) < self.asked).repeat(len(x0), 1)

    def examples(self, rows: Tensor) -> Examples:
        """What rows `[n, width]` say; by default a row is a sequence."""
        return Examples(rows, self.given(rows))

    def hardness(self, rows: Tensor) -> Tensor:
        """`[n]` int64: how hard each row is, as `difficulty_is` says."""
        return torch.zeros(len(rows), dtype=torch.int64)

    def disguise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Each row `[n, width]` under a random symmetry of its own, for training; by default itself."""
        return rows

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
    def judged(self) -> bool:
        """There are right answers."""
        return True

    @property
    def vocab_size(self) -> int:
        """The words and the mask."""
        return len(self.words) + 1

    @property
    def mask_id(self) -> int:
        """The token not said yet."""
        return len(self.words)

    @property
    def key(self) -> str:
        """All that the stored rows depend on; a user's file counts by its content, not by its name."""
        fields: dict[str, Any] = {name: value for name, value in asdict(self).items() if name not in self.unstored}
        if self.path:
            path = self._file(self.path)
            fields["path"] = path.suffix.lower(), hashlib.sha256(path.read_bytes()).hexdigest()
        return repr((self.version, sorted(fields.items())))

    def symbol(self, token: int) -> str:
        """A token as a person writes it."""
        return BLANK if token == self.mask_id else self.words[token]

    def size(self, split: Split) -> int:
        """Examples in a split."""
        check_split(split)
        return self.endless if self._is_fresh(split) else len(self._stored(split).rows)

    def sample(self, split: Split, n: int, generator: torch.Generator | None = None) -> Examples:
        """With a generator: n random examples, of train with replacement and disguised. Without: the first n.

        What comes out depends on the generator's state alone. ValueError when validation, test or the stored order
        are asked for more examples than there are. The first n of a train without end are those of train=n.
        """
        more = f"a larger {split}= in {type(self).__name__}(...)" + (" (shares of the file here)" if self.path else "")
        check_asked(self, split, n, generator, more)
        fresh = self._is_fresh(split)
        if fresh and generator is not None:
            return self.examples(self.fresh(n, generator).cpu())
        rows = (replace(self, train=max(n, 1)) if fresh else self)._stored(split).rows
        if generator is None:
            return self.examples(_tensor(rows[:n]))
        size, device = len(rows), generator.device
        if split != "train":
            index = torch.randperm(size, generator=generator, device=device)[:n].cpu()
            return self.examples(_tensor(rows[index.numpy()]))
        index = torch.randint(size, (n,), generator=generator, device=device).cpu()
        return self.examples(self.disguise(_tensor(rows[index.numpy()]), generator))

    def read(self, path: str | Path) -> Examples:
        """The examples of a file, checked: .txt, a line each as `show` writes them; .jsonl of inputs and outputs.

        In a .txt file lines that are empty, and what follows a `#`, are left out. ValueError names the file and the
        line of what is wrong, an answer that is not right included.
        """
        return self.examples(self._rows(path))

    def of_file(self) -> Rows | None:
        """`[n, width]`: the rows of the task's file, where it has one."""
        kind = np.int16 if self.mask_id < 2**15 else np.int32
        return self._rows(self.path).numpy().astype(kind) if self.path else None

    def _rows(self, path: str | Path) -> Tensor:
        path = self._file(path)
        return torch.stack(checked(path, self._texts(path), self.solved))

    def _file(self, path: str | Path) -> Path:
        path = Path(path)
        if path.suffix.lower() not in self.suffixes:
            raise ValueError(f"{path}: suffix {path.suffix!r} given, one of {', '.join(self.suffixes)} expected")
        if not path.is_file():
            raise ValueError(f"{path}: no such file; a path to a file with one example a line expected")
        return path

    def _texts(self, path: Path) -> Iterator[Text]:
        return texts(path, self.line)

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: does `answer` `[n, length]` keep what `prompt` gives, and answer it? A mask left is wrong.

        Tokens on any device; any right answer counts, not the stored one alone.
        """
        right = kept_and_whole(self, prompt, answer)
        right[right.clone()] = self.judge_all(answer[right].cpu()).to(right.device)
        return right

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
        if self._is_fresh(split):
            return {"examples": self.endless, "duplicates": 0}
        its = self._stored(split)
        row: dict[str, Any] = {"examples": len(its.rows), "duplicates": its.duplicates}
        if self.difficulty_is and len(its.rows):
            hard = self.hardness(_tensor(its.rows[:_LABELLED]))
            row[f"{self.difficulty_is} (of the first {_LABELLED:,})"] = {
                int(k): int((hard == k).sum()) for k in hard.unique()
            }
        return row

    def check_tokens(self, tokens: Tensor) -> list[str]:
        """The words of one sequence; ValueError where it is none."""
        return [self.symbol(token) for token in check_tokens(self, tokens)]

    def _is_fresh(self, split: Split) -> bool:
        return split == "train" and self.train == 0

    def _stored(self, split: Split) -> Stored:
        check_split(split)
        return stored(self)[split]


def _tensor(rows: Rows) -> Tensor:
    """A copy of stored rows, as int64."""
    return torch.from_numpy(rows.astype(np.int64))

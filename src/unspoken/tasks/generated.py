"""What tasks with generated examples share: splits disjoint up to symmetry, kept on the disk, and difficulty.

A task of this kind is a final dataclass that says how examples are drawn, written, judged, and which are the same.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unspoken import checks
from unspoken.tasks.base import Examples, Split, check_seed
from unspoken.tasks.hashing import Hashes
from unspoken.tasks.sampled import Worded
from unspoken.tasks.store import Rows, Stored, stored

_READERS = 2  # the version of how files are read: part of the cache's key
_LABELLED = 10_000  # examples of a split whose difficulty the card counts


@dataclass(frozen=True, kw_only=True)
class Generated(Worded):
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
    symmetries: ClassVar[str]
    difficulty_is: ClassVar[str] = ""  # what `hardness` counts, in a few words

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        checks.plain(self)
        least = 0 if self.endless and not self.path else 1
        if min(self.sizes) < 0 or self.train < least:
            raise ValueError(f"train, validation, test = {self.sizes} given, at least {least}, 0 and 0 expected")
        check_seed(self.seed)

    @property
    def endless(self) -> int:
        """Of a task that can draw without end (`fresh`): the examples that train=0 counts as one epoch."""
        return 0

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, width]` rows of any split; a task that overrides `draw_part` needs none."""
        raise NotImplementedError(f"{type(self).__name__} draws nothing; write draw or draw_part")

    def draw_part(self, index: int) -> Rows:
        """`[part, width]`: part `index` of the endless sequence of rows that `seed` begins."""
        return self.draw(self.part, np.random.default_rng((self.seed, index)))

    def fresh(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, width]` new rows of train, of a task that is `endless`."""
        raise NotImplementedError(f"{type(self).__name__} is endless, and draws nothing new; write fresh")

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

    def hardness(self, rows: Tensor) -> Tensor:
        """`[n]` int64: how hard each row is, as `difficulty_is` says."""
        return torch.zeros(len(rows), dtype=torch.int64)

    def disguise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Each row `[n, width]` under a random symmetry of its own, for training; by default itself."""
        return rows

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Train, validation and test."""
        return self.train, self.validation, self.test

    @property
    def key(self) -> str:
        """All that the stored rows depend on; a user's file counts by its content, not by its name."""
        fields: dict[str, Any] = {name: value for name, value in asdict(self).items() if name not in self.unstored}
        if self.path:
            fields["path"] = _READERS, hashlib.sha256(self.file(self.path).read_bytes()).hexdigest()
        return repr((self.version, sorted(fields.items())))

    def of_file(self) -> Rows | None:
        """`[n, width]`: the rows of the task's file, where it has one."""
        kind = np.int16 if self.mask_id < 2**15 else np.int32
        return self.rows(self.path).numpy().astype(kind) if self.path else None

    @property
    def origin(self) -> tuple[str, str]:  # type: ignore[override]
        """The file or the seed, and the licence."""
        generated = f"generated, seed {self.seed}", "generated here: no rights reserved"
        return (self.path, "that of the file") if self.path else generated

    def more(self, split: Split) -> str:
        shares = " (shares of the file here)" if self.path else ""
        return f", or a larger {split}= in {type(self).__name__}(...){shares}"

    def holds(self, split: Split) -> int:
        return self.endless if self._is_fresh(split) else len(self._stored(split).rows)

    def numbered(self, split: Split, index: Tensor) -> Examples:
        """See `Sampled.numbered`; the first n of a train without end are those of train=n."""
        its = replace(self, train=max(len(index), 1)) if self._is_fresh(split) else self
        return self.examples(_picked(its._stored(split).rows, index))

    def drawn(self, n: int, generator: torch.Generator) -> Examples:
        if self._is_fresh("train"):
            return self.examples(self.fresh(n, generator).cpu())
        rows = self._stored("train").rows
        index = torch.randint(len(rows), (n,), generator=generator, device=generator.device).cpu()
        return self.examples(self.disguise(_picked(rows, index), generator))

    def counts(self, split: Split) -> dict[str, Any]:
        """The examples of a split, duplicates up to symmetry, and how many are how difficult."""
        if self._is_fresh(split):
            return {"examples": self.endless, "duplicates": 0}
        its = self._stored(split)
        row: dict[str, Any] = {"examples": len(its.rows), "duplicates": its.duplicates}
        if self.difficulty_is and len(its.rows):
            hard = self.hardness(torch.from_numpy(its.rows[:_LABELLED].astype(np.int64)))
            row[f"{self.difficulty_is} (of the first {_LABELLED:,})"] = {
                int(k): int((hard == k).sum()) for k in hard.unique()
            }
        return row

    def _is_fresh(self, split: Split) -> bool:
        return split == "train" and self.train == 0

    def _stored(self, split: Split) -> Stored:
        return stored(self)[split]


def _picked(rows: Rows, index: Tensor) -> Tensor:
    """`[n, width]` int64: a copy of the stored rows with the numbers `index` `[n]`."""
    return torch.from_numpy(rows[index.numpy()].astype(np.int64))

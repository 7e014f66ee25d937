"""What tasks share that show a picture, and perhaps ask a question in words, and are answered in words.

The picture's patches are vectors and come first; then the question's ids; then the answer's, as many as `queries`,
filled up with `_`. A row holds what the picture is made of (numbers of known images and where they stand), the question
and the answer; the patches are drawn from it. What a picture shows is read back from its patches, exactly, so that an
answer is judged from the prompt alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from unspoken import checks
from unspoken.messages import quoted
from unspoken.noise.space import is_unknown, paired, unpaired
from unspoken.tasks import images
from unspoken.tasks.base import SPLITS, Examples, Split, Values, check_seed
from unspoken.tasks.files import checked
from unspoken.tasks.sampled import BLANK, PAD, Worded

PATCH = "o"  # stands for a patch on a board; it is the first word, and the placeholder of values
EPOCH = 100_000  # examples of a train without end that count as one


@dataclass(frozen=True, kw_only=True)
class Pictured(Worded):
    """A picture, and perhaps a question; then an answer of at most `queries` words. A final one is a frozen dataclass.

    Attributes:
        validation: Examples in the split.
        test: Examples in the split.
        seed: Of all splits; training draws new examples without end.
        path: A file of examples (see `read`) that training draws from instead; their answers are not judged, so that
            they may be those of a model. Validation and test stay as they are, and the file may show none of their
            images.
    """

    validation: int = 500
    test: int = 1_000
    seed: int = 0
    path: str = ""

    source: ClassVar[images.Source]
    values: ClassVar[Values]
    numbers: ClassVar[int]  # uniform numbers that an example is made of
    recipe: ClassVar[int]  # columns of a row before the ids: what the picture is made of
    between: ClassVar[str] = " = "

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        checks.plain(self)
        check_seed(self.seed)
        if min(self.validation, self.test) < 0:
            raise ValueError(f"validation, test = {self.validation}, {self.test}: give 0 or more")

    @property
    @abstractmethod
    def places(self) -> int:
        """Patches of a picture."""

    @abstractmethod
    def made(self, u: Tensor, split: Split) -> Tensor:
        """`[n, recipe + ids]` rows of a split, from `u` `[n, numbers]` in [0, 1)."""

    @abstractmethod
    def patches(self, recipe: Tensor) -> Tensor:
        """`[n, places, width]` float32, of recipes `[n, recipe]`."""

    @abstractmethod
    def seen(self, patches: Tensor) -> Sequence[int] | None:
        """The recipe of the picture of `patches` `[places, width]`; None where it shows anything that is not known."""

    @abstractmethod
    def answers(self, recipe: Sequence[int], asked: Sequence[str], said: Sequence[str]) -> bool:
        """Whether the words `said` answer the question `asked` about a picture."""

    @abstractmethod
    def shown(self, recipe: Sequence[int]) -> Sequence[int]:
        """The numbers of the images in a picture (see `Pool`)."""

    @abstractmethod
    def picture(self, words: Sequence[str]) -> list[int]:
        """The recipe that a person wrote. ValueError where it is none."""

    @abstractmethod
    def written(self, recipe: Sequence[int]) -> str:
        """A recipe as a person writes it, words with white space between."""

    @property
    def end(self) -> int:
        """The id that fills an answer up, and so ends it."""
        return self.words.index(PAD)

    def holds(self, split: Split) -> int:
        """Examples in a split; of train there is no end without a file, and this is what counts as one epoch."""
        if split == "train":
            return len(self._taught) if self.path else EPOCH
        return {"validation": self.validation, "test": self.test}[split]

    def numbered(self, split: Split, index: Tensor) -> Examples:
        """Those of a stream of the split's own, or of the file."""
        if split == "train" and self.path:
            return self.examples(self._taught[index])
        generator = torch.Generator().manual_seed((1_000_003 * self.seed + 1 + SPLITS.index(split)) % 2**63)
        n = int(index.max()) + 1 if len(index) else 0
        return self.examples(self._rows(n, split, generator)[index])

    def drawn(self, n: int, generator: torch.Generator) -> Examples:
        """New ones, or some of the file's."""
        if self.path:
            return super().drawn(n, generator)
        return self.examples(self._rows(n, "train", generator))

    def examples(self, rows: Tensor) -> Examples:
        """Of rows `[n, recipe + ids]`: a placeholder for each patch, then the ids of question and answer."""
        shown = self.patches(rows[:, : self.recipe])
        n, rest = len(rows), self.length - self.places
        token = torch.cat([torch.full((n, self.places), self.values.placeholder), rows[:, self.recipe :]], 1)
        value = torch.cat([shown, torch.full((n, rest, shown.shape[2]), torch.nan)], 1)
        return Examples(token, self.given(rows), value)

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: does `answer` `[n, length]`, ids, keep what `prompt` `[n, length, 1 + width]` gives, and answer
        it? The end is said too, up to the last position.
        """
        token, value = unpaired(prompt)
        kept = (token == self.mask_id) | (token == answer)
        right = (kept & (answer >= 0) & (answer < self.mask_id)).all(1)
        for row in right.nonzero()[:, 0].tolist():
            right[row] = self._judged(value[row, : self.places].cpu(), answer[row, self.places :].tolist())
        return right

    def _judged(self, patches: Tensor, ids: list[int]) -> bool:
        recipe = self.seen(patches)
        words = [self.words[i] for i in ids]
        question, said = words[: self.asked - self.places], stripped(words[self.asked - self.places :])
        return recipe is not None and self.answers(recipe, stripped(question), said)

    def encode(self, text: str) -> Tensor:
        """`[length, 1 + width]` of `picture = answer`, or of `picture | question = answer`; the answer may be missing.

        ValueError for a picture that is none, for words that the task does not have, and for more than there is room
        for.
        """
        its = self.examples(self.row(text)[None])
        assert its.value is not None
        return paired(its.x0, its.value)[0]

    def row(self, text: str) -> Tensor:
        """`[recipe + ids]`: see `encode`."""
        shown, _, answer = text.partition("=")
        shown, _, question = shown.partition("|")
        asked = self.asked - self.places
        ids = self._field(question, asked) if asked else []
        said = self._field(answer, self.length - self.asked) if answer.strip() else self._unsaid
        return torch.tensor([*self.picture(shown.split()), *ids, *said])

    @property
    def _unsaid(self) -> list[int]:
        return [self.mask_id] * (self.length - self.asked)

    def _field(self, text: str, room: int) -> list[int]:
        """Ids of words with white space between, filled up."""
        found, known = text.split(), self.words
        if len(found) > room:
            raise ValueError(f"{quoted(text.strip())} given, at most {room} words expected")
        for word in found:
            if word != BLANK and word not in known:
                raise ValueError(f"{quoted(word)} given, words of {' '.join(known)} expected, or {BLANK}")
        ids = [self.mask_id if word == BLANK else self.words.index(word) for word in found]
        return ids + [self.end] * (room - len(ids))

    def show(self, tokens: Tensor) -> str:
        """A prompt `[length, 1 + width]` as `encode` reads it, or the words of an answer `[length]`, `_` for none."""
        ids, value = (tokens, None) if tokens.dim() == 1 else unpaired(tokens)
        words = self.check_tokens(ids)
        said = words[self.asked :]
        answer = " ".join(stripped(said)) or PAD
        if value is None:
            return answer
        recipe = None if bool(is_unknown(value[: self.places]).any()) else self.seen(value[: self.places])
        shown = "(unknown images)" if recipe is None else self.written(recipe)
        asked = " ".join(stripped(words[self.places : self.asked]))
        question = f"{shown} | {asked}" if asked else shown
        return question if all(word == BLANK for word in said) else f"{question} = {answer}"

    def solved(self, text: str) -> Tensor:
        """`[recipe + ids]`: the row of an example with its answer; ValueError for an answer that is not right."""
        row = self.told(text)
        its = self.examples(row[None])
        if not bool(self.score(its.prompt(self.mask_id), its.x0)[0]):
            raise ValueError("a right answer expected, and this is none")
        return row

    def told(self, text: str) -> Tensor:
        """`[recipe + ids]`: the row of an example, with the answer that the text has, or else with a right one.

        ValueError for an answer that is said in part.
        """
        row = self.row(text)
        said = row[self.recipe + self.asked - self.places :]
        if bool((said == self.mask_id).all()):
            return self.answered(row)
        if bool((said == self.mask_id).any()):
            raise ValueError("a whole answer expected, or none, and this is said in part")
        return row

    def taught(self, path: str | Path) -> Tensor:
        """`[n, recipe + ids]`: the rows of a file to train on, whose answers need not be right.

        ValueError names the file and the line of what is no example, or shows an image that is held out.
        """
        path = self.file(path)
        most = pool(self.source).first["validation"]

        def row(text: str) -> Tensor:
            its = self.told(text)
            if max(self.shown(its[: self.recipe].tolist())) >= most:
                raise ValueError("it shows an image of validation or test, which are held out: leave it out")
            return its

        return torch.stack(checked(path, self.texts(path), row))

    @cached_property
    def _taught(self) -> Tensor:
        return self.taught(self.path)

    def _rows(self, n: int, split: Split, generator: torch.Generator) -> Tensor:
        # A row of numbers each, so that the first examples of a stream do not depend on how many are drawn.
        u = torch.rand(n, self.numbers, generator=generator, dtype=torch.float64, device=generator.device).cpu()
        return self.made(u, split)


@dataclass(frozen=True)
class Pool:
    """All images of a source, numbered: those of train, then of validation, then of test.

    pixels: `[n, height, width]` uint8. label: `[n]` the number of the class. first: the first number of each split.
    """

    pixels: Tensor
    label: Tensor
    first: dict[Split, int]
    sizes: dict[Split, int]

    def pick(self, u: Tensor, split: Split) -> Tensor:
        """Numbers of images of a split, of uniform numbers in [0, 1)."""
        return self.first[split] + pick(u, self.sizes[split])


@lru_cache(maxsize=2)
def pool(source: images.Source) -> Pool:
    """See `Pool`. Raises ValueError where the images are not on this machine (`images.load`)."""
    parts: dict[Split, images.Images] = {split: images.load(source, split) for split in SPLITS}
    sizes: dict[Split, int] = {split: len(its) for split, its in parts.items()}
    first: dict[Split, int] = {split: sum(list(sizes.values())[:n]) for n, split in enumerate(SPLITS)}
    return Pool(
        torch.cat([its.pixels for its in parts.values()]),
        torch.cat([its.label for its in parts.values()]),
        first,
        sizes,
    )


def stripped(words: list[str]) -> list[str]:
    """Words without what fills them up at the end."""
    n = len(words)
    while n and words[n - 1] == PAD:
        n -= 1
    return words[:n]


def pick(u: Tensor, n: int | Tensor) -> Tensor:
    """Whole numbers 0, ..., n - 1 of uniform numbers in [0, 1)."""
    return (u * n).long()

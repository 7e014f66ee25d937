"""Small scenes of clothes and questions about them in words: what is left of the bag, how many shoes there are.

Four items of Fashion-MNIST (arXiv 1708.07747), each shrunk to 14 x 14, stand in two rows of two.

task = Scenes()
batch = task.sample("train", 64, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from unspoken.messages import quoted
from unspoken.tasks.base import Split, Values, check_range
from unspoken.tasks.files import whole_number
from unspoken.tasks.images import CLASSES, INK, ORIGIN, SIZES, Source
from unspoken.tasks.pictured import PATCH, Pictured, pick, pool
from unspoken.tasks.sampled import PAD, Form

ITEMS, SIDE, WIDE = 4, 14, 7  # of a scene; pixels of an item; columns of a patch, which is as high as an item
KINDS = ("t-shirt", "trouser", "pullover", "dress", "sandal", "sneaker", "bag", "boot")  # coats and shirts are left out
COUNTED = {"shoes": ("sandal", "sneaker", "boot"), "tops": ("t-shirt", "pullover")}
NUMBERS = ("none", "one", "two", "three", "four")
_WORDS = ("what", "is", "left", "right", "of", "the", "how", "many", "in", "top", "bottom", "row", "there")
_ASKED, _LONGEST = 6, 2 * ITEMS  # words of a question, of an answer
_SHADES = 4 * INK["fashion"]  # of a pixel, which is the sum of four


@dataclass(frozen=True, kw_only=True)
class Scenes(Pictured):
    """Two rows of two items as eight patches of 14 x 7, a question of at most six words, and its answer.

    The questions and their answers: what is left (right) of the bag: `a boot`, or `nothing`; how many shoes (tops):
    `none` to `four`; what is in the top (bottom) row: `a boot and a dress`, from left to right; what is there:
    `a boot a dress a bag a bag`, row by row. Exactly one answer is right. The bag that is asked about is the only one.

    A person writes a scene as the numbers of its images (`pictured.Pool`), row by row:
    `12 7 2003 41 | how many shoes = two`. Validation and test show images that training never does.

    Attributes:
        queries: Positions of the answer, which is filled up.
    """

    queries: int = 12

    source: ClassVar[Source] = "fashion"
    values: ClassVar[Values] = Values("Vectors", (SIDE * WIDE,), asked="ids")
    numbers: ClassVar[int] = ITEMS + 2
    recipe: ClassVar[int] = ITEMS
    symmetries: ClassVar[str] = "none; the images of a split are in no other"
    origin: ClassVar[tuple[str, str]] = (f"scenes generated here, of {ORIGIN['fashion'][0]}", ORIGIN["fashion"][1])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "queries", _LONGEST, 64, ": the longest answer has eight words")

    @cached_property
    def form(self) -> Form:
        """Eight patches and the question; then the answer."""
        words = (PATCH, *_WORDS, *COUNTED, *NUMBERS, "nothing", "a", "and", *KINDS, PAD)
        return Form("scenes of clothes, with questions", words, asked=self.places + _ASKED, said=self.queries)

    @property
    def places(self) -> int:
        """Patches of a scene."""
        return ITEMS * SIDE // WIDE

    def made(self, u: Tensor, split: Split) -> Tensor:
        """Rows: the numbers of four images, the question, its answer."""
        wanted = _wanted(split)
        image = wanted[pick(u[:, :ITEMS], len(wanted))]
        rows = []
        for items, (kind, which) in zip(image.tolist(), u[:, ITEMS:].tolist(), strict=True):
            question = _question(_kinds(items), kind, which)
            answer = _answer(_kinds(items), question)
            assert answer is not None
            rows.append(self._field(" ".join(question), _ASKED) + self._field(" ".join(answer), self.queries))
        words = torch.tensor(rows, dtype=torch.int64).view(-1, _ASKED + self.queries)
        return torch.cat([image, words], 1)

    def patches(self, recipe: Tensor) -> Tensor:
        """Ink from 0 to 1; the left half of an item, then the right one, each read row by row."""
        items = shrunk(pool("fashion").pixels[recipe]).float() / _SHADES
        return items.unflatten(3, (2, WIDE)).transpose(2, 3).flatten(1, 2).flatten(2)

    def items(self, patches: Tensor) -> Tensor:
        """`[..., 4, 14, 14]` ink, of `patches` `[..., 8, 98]`: images to look at."""
        return patches.unflatten(-2, (ITEMS, 2)).unflatten(-1, (SIDE, WIDE)).transpose(-3, -2).flatten(-2)

    def seen(self, patches: Tensor) -> list[int] | None:
        """The numbers of its images."""
        shades = (self.items(patches.double()) * _SHADES).round().clamp(0, _SHADES).to(torch.int16)
        found = [_known().get(item.numpy().tobytes()) for item in shades]
        return [number for number in found if number is not None] if None not in found else None

    def answers(self, recipe: Sequence[int], asked: Sequence[str], said: Sequence[str]) -> bool:
        """Whether the answer is the one there is."""
        return _answer(_kinds(recipe), asked) == list(said)

    def shown(self, recipe: Sequence[int]) -> Sequence[int]:
        """The numbers of its images."""
        return recipe

    def picture(self, words: Sequence[str]) -> list[int]:
        """Of four numbers."""
        if len(words) != ITEMS:
            raise ValueError(
                f"{len(words)} images given, the numbers of {ITEMS} expected, as in `12 7 2003 41 | how many shoes`"
            )
        numbers = [whole_number(word, 0, sum(SIZES["fashion"].values()) - 1) for word in words]
        for number, kind in zip(numbers, _kinds(numbers), strict=True):
            if kind not in KINDS:
                raise ValueError(f"image {number} is a {kind}, which no scene shows: give others ({', '.join(KINDS)})")
        return numbers

    def written(self, recipe: Sequence[int]) -> str:
        """Four numbers."""
        return " ".join(map(str, recipe))

    def answered(self, row: Tensor) -> Tensor:
        """With its answer. ValueError for what is no question about the scene."""
        items = _kinds(row[:ITEMS].tolist())
        question = [self.symbol(word) for word in row[ITEMS : ITEMS + _ASKED].tolist() if word != self.end]
        answer = _answer(items, question)
        if answer is None:
            raise ValueError(f"{quoted(' '.join(question))} is no question about {', '.join(items)}")
        return torch.cat([row[: ITEMS + _ASKED], torch.tensor(self._field(" ".join(answer), self.queries))])


def shrunk(pixels: Tensor) -> Tensor:
    """`[..., 14, 14]` int16: the sums of two by two pixels of `[..., 28, 28]`."""
    return pixels.to(torch.int16).unflatten(-1, (SIDE, 2)).unflatten(-3, (SIDE, 2)).sum((-3, -1), dtype=torch.int16)


def _question(items: Sequence[str], kind: float, which: float) -> list[str]:
    """A question about a scene, by two numbers in [0, 1): four kinds alike, and what it is about."""
    first = which < 0.5
    single = [item for item in items if items.count(item) == 1]
    if kind < 0.25 and single:
        item = single[int(2 * which % 1 * len(single))]
        return ["what", "is", "left" if first else "right", "of", "the", item]
    if kind < 0.5:
        return ["how", "many", "shoes" if first else "tops"]
    if kind < 0.75:
        return ["what", "is", "in", "the", "top" if first else "bottom", "row"]
    return ["what", "is", "there"]


def _answer(items: Sequence[str], question: Sequence[str]) -> list[str] | None:
    """The answer to a question about a scene; None for what is no question about it."""
    match list(question):
        case ["what", "is", "left" | "right" as side, "of", "the", item] if items.count(item) == 1:
            at = items.index(item)
            other = at - 1 if side == "left" else at + 1
            return ["a", items[other]] if 0 <= other < ITEMS and other // 2 == at // 2 else ["nothing"]
        case ["how", "many", counted] if counted in COUNTED:
            return [NUMBERS[sum(item in COUNTED[counted] for item in items)]]
        case ["what", "is", "in", "the", "top" | "bottom" as row, "row"]:
            left, right = items[:2] if row == "top" else items[2:]
            return ["a", left, "and", "a", right]
        case ["what", "is", "there"]:
            return [word for item in items for word in ("a", item)]
        case _:
            return None


def _kinds(numbers: Sequence[int]) -> list[str]:
    """What the images with these numbers show."""
    label = pool("fashion").label
    return [CLASSES["fashion"][int(label[number])].lower() for number in numbers]


@lru_cache(maxsize=3)
def _wanted(split: Split) -> Tensor:
    """`[n]`: the numbers of the images of a split that show one of `KINDS`."""
    its = pool("fashion")
    kinds = torch.tensor([number for number, name in enumerate(CLASSES["fashion"]) if name.lower() in KINDS])
    mine = torch.arange(its.first[split], its.first[split] + its.sizes[split])
    return mine[torch.isin(its.label[mine], kinds)]


@lru_cache(maxsize=1)
def _known() -> dict[bytes, int]:
    """The number of every image that shows one of `KINDS`, by its shrunk pixels; of two that are alike, the first."""
    numbers = torch.cat([_wanted(split) for split in ("train", "validation", "test")])
    items = shrunk(pool("fashion").pixels[numbers])
    return {item.tobytes(): int(n) for n, item in zip(numbers.flip(0), items.flip(0).numpy(), strict=True)}

"""The language of the clues, as in the files of Shah et al. 2024, and what they mean.

A thing is numbered attribute * houses + value; behind them comes house h itself, as attributes * houses + h. Their
words for a thing are `c attribute value`, and `n 0 h` for a house.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from unspoken.messages import quoted

DIGITS = tuple("012345")
KINDS = ("=", "!=", "left-of", "immediate-left", "nbr", "ends", "inbetween")
WORDS = (*DIGITS, *KINDS, "LHS", "RHS", "c", "n", "CLUE_END", "ANSWER", "EXTRA")
ID = {word: i for i, word in enumerate(WORDS)}
ARITY = (2, 2, 2, 2, 2, 1, 3)  # things in a clue of each kind
SYMMETRIC = (True, True, False, False, True, True, False)  # whether the order of its things means nothing

Relation = Callable[[Any, Any, int], Any]  # of two houses and their number; of ints or arrays of them


def _before(p: Any, q: Any, _: int) -> Any:
    return p < q


# A clue holds where each of its relations does; (i, j, relation) is between its i-th and its j-th thing.
RELATIONS: tuple[tuple[tuple[int, int, Relation], ...], ...] = (
    ((0, 1, lambda p, q, _: p == q),),
    ((0, 1, lambda p, q, _: p != q),),
    ((0, 1, _before),),
    ((0, 1, lambda p, q, _: q - p == 1),),
    ((0, 1, lambda p, q, _: abs(q - p) == 1),),
    ((0, 0, lambda p, _, houses: (p == 0) | (p == houses - 1)),),
    ((0, 1, _before), (1, 2, _before)),  # "somewhere in between, in that order"
)


class Size(NamedTuple):
    """Of a puzzle."""

    houses: int
    attributes: int

    @property
    def cells(self) -> int:
        """Cells of the grid, and things that are no houses."""
        return self.houses * self.attributes

    @property
    def things(self) -> int:
        """The houses included."""
        return self.cells + self.houses


class Clue(NamedTuple):
    """kind: an index into KINDS. things: their numbers, ARITY[kind] of them."""

    kind: int
    things: tuple[int, ...]

    def holds(self, place: Sequence[int], houses: int) -> bool:
        """Whether it is true where thing t is in house place[t]."""
        return all(
            relation(place[self.things[i]], place[self.things[j]], houses) for i, j, relation in RELATIONS[self.kind]
        )

    def words(self, size: Size) -> list[str]:
        """`kind LHS thing RHS thing CLUE_END`, without or with a second `RHS thing` where the kind asks for it."""
        out = [KINDS[self.kind]]
        for side, thing in zip(("LHS", "RHS", "RHS"), self.things, strict=False):
            attribute, value = divmod(thing, size.houses)
            mark = ("n", "0") if attribute == size.attributes else ("c", str(attribute))
            out += [side, *mark, str(value)]
        return [*out, "CLUE_END"]


def places(grid: Sequence[int], size: Size) -> list[int] | None:
    """The house of each thing by a grid, attribute by attribute; None where an attribute is no permutation."""
    place = [-1] * size.cells + list(range(size.houses))
    for cell, value in enumerate(grid):
        attribute, house = divmod(cell, size.houses)
        if not 0 <= value < size.houses:
            return None
        place[attribute * size.houses + value] = house
    return None if -1 in place else place


def parse_clues(words: Iterable[str], size: Size) -> list[Clue]:
    """The clues that words say; ValueError for a clue of another form, or an attribute or value out of range."""
    clues: list[Clue] = []
    clue: list[str] = []
    for word in words:
        clue.append(word)
        if word == "CLUE_END":
            clues.append(_parse_clue(clue, size))
            clue = []
    if clue:
        raise ValueError(f"{quoted(' '.join(clue))} given, a clue with CLUE_END as its last word expected")
    return clues


def _parse_clue(words: list[str], size: Size) -> Clue:
    text = " ".join(words)
    if words[0] not in KINDS:
        raise ValueError(f"clue {quoted(text)} given, one that starts with a kind expected: one of {' '.join(KINDS)}")
    kind = KINDS.index(words[0])
    # Behind LHS and its thing, RHS may be said once or before each thing.
    rest = words[2:5] + [word for word in words[5:-1] if word != "RHS"]
    two = ARITY[kind] > 1
    if words[1] != "LHS" or len(rest) != 3 * ARITY[kind] or (two and words[5] != "RHS"):
        form = " ".join([words[0], "LHS c 0 1", *["RHS c 0 1"] * (ARITY[kind] - 1), "CLUE_END"])
        raise ValueError(f"clue {quoted(text)} given, the form {form!r} expected")
    return Clue(kind, tuple(_thing(rest[i : i + 3], size, text) for i in range(0, len(rest), 3)))


def _thing(words: list[str], size: Size, text: str) -> int:
    mark, *numbers = words
    if mark not in ("c", "n") or not all(word in DIGITS for word in numbers):
        raise ValueError(
            f"{quoted(' '.join(words))} in clue {quoted(text)} given, c attribute value or n 0 house expected"
        )
    attribute, value = map(int, numbers)
    if mark == "n" and attribute == 0:
        attribute = size.attributes
    elif attribute >= size.attributes or mark == "n":
        most = 0 if mark == "n" else size.attributes - 1
        raise ValueError(f"attribute {attribute} in clue {quoted(text)} given, 0..{most} expected behind {mark}")
    if value >= size.houses:
        raise ValueError(f"value {value} in clue {quoted(text)} given, 0..{size.houses - 1} expected")
    return attribute * size.houses + value

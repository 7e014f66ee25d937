"""ZebraLogic's records (Lin et al. 2025, arXiv 2502.01100): puzzles in English, in the words of the Zebra task.

A record holds "size" (houses*attributes), "puzzle" and "solution" (a header and a row a house), as in the data set
WildEval/ZebraLogic, grid_mode. The puzzle names the values of each attribute in a line, and its clues in numbered ones.
A clue is read where it can mean one thing only; the solution, which the task checks, then has to keep all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unspoken.messages import quoted
from unspoken.tasks.zebra.clues import KINDS, Clue, Size

_ATTRIBUTE = re.compile(r"^\s*- (.+?): *(`.+`)", re.MULTILINE)
_CLUE = re.compile(r"^\s*\d+\. +(.+?)\.?\s*$", re.MULTILINE)
_HOUSES = ("first", "second", "third", "fourth", "fifth", "sixth")
_BETWEEN = re.compile(r"there (is|are) \w+ houses? between .*", re.IGNORECASE)
# How clues between two things are said, of which kind each is, and whether the second is named first there.
_TWO: tuple[tuple[str, str, bool], ...] = (
    (" is directly left of ", "immediate-left", False),
    (" is directly right of ", "immediate-left", True),
    (" is somewhere to the left of ", "left-of", False),
    (" is somewhere to the right of ", "left-of", True),
    (" is not ", "!=", False),
    (" is ", "=", False),
)
_NEIGHBOURS = " are next to each other"
_COMMON = {"a", "an", "and", "each", "favorite", "has", "have", "is", "of", "people", "person", "the", "unique"}


def is_zebralogic(record: Any) -> bool:
    """Whether a record of JSON lines is one of theirs."""
    return isinstance(record, dict) and {"puzzle", "solution"} <= record.keys()


def in_words(record: dict[str, Any], size: Size) -> dict[str, str]:
    """The record as {"input": clues and ANSWER, "output": the grid}; ValueError for what cannot be said so."""
    puzzle = record["puzzle"]
    if not isinstance(puzzle, str):
        raise ValueError(f"puzzle {quoted(puzzle)} given, a text expected")
    names = _Names([(about, re.findall("`([^`]+)`", values)) for about, values in _ATTRIBUTE.findall(puzzle)])
    houses, attributes = len(names.lists[0][1]) if names.lists else 0, len(names.lists)
    if (houses, attributes) != size or any(len(values) != houses for _, values in names.lists):
        raise ValueError(
            f"a puzzle of {houses} houses and {attributes} attributes given, {size.houses} and {size.attributes} "
            "expected; a file that mixes sizes has to be parted first"
        )
    clues = [_clue(text, names, size) for text in _CLUE.findall(puzzle.partition("Clues:")[2])]
    words = [word for clue in clues for word in clue.words(size)]
    return {"input": " ".join([*words, "ANSWER"]), "output": " ".join(map(str, _grid(record["solution"], names, size)))}


@dataclass(frozen=True)
class _Names:
    """lists: of each attribute what the puzzle says of it, and its values."""

    lists: list[tuple[str, list[str]]]

    def thing(self, phrase: str) -> int | None:
        """The number of the thing that a phrase names; None where it names none, or several as well.

        A value that is there word by word comes before one that is there by its beginning, and a longer one before a
        shorter. Of values that two attributes have, it is that of the attribute of whose words a larger share is there.
        """
        said = [_words(phrase.replace("-", "")), _words(phrase.replace("-", " "))]
        found: list[tuple[tuple[bool, int, float], int]] = []
        for attribute, (about, values) in enumerate(self.lists):
            told = set(_words(about)) - _COMMON
            hints = sum(any(_alike(a, b) for b in said[1]) for a in told) / max(1, len(told))
            for value, name in enumerate(values):
                for words in said:
                    for exact in (True, False):
                        if _holds(words, _words(name.replace("-", "")), exact):
                            found.append(((exact, len(name), hints), attribute * len(values) + value))
        best = {thing for rank, thing in found if rank == max(found)[0]}
        return best.pop() if len(best) == 1 else None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower().replace("'", "").replace("\u2019", ""))


def _holds(words: list[str], name: list[str], exact: bool) -> bool:
    """Whether the words of a name follow each other in others, each as it is or as one of its forms."""
    starts = range(len(words) - len(name) + 1)
    return any(
        all(a == b or (not exact and _alike(a, b)) for a, b in zip(words[i:], name, strict=False)) for i in starts
    )


def _alike(a: str, b: str) -> bool:
    """Whether two words begin alike, as horse and horses, swede and swedish, sept and september do."""
    short = min(len(a), len(b))
    return a == b or (short >= 3 and a[: max(3, short - 2)] == b[: max(3, short - 2)])


def _clue(text: str, names: _Names, size: Size) -> Clue:
    if _BETWEEN.fullmatch(text):
        raise ValueError(f"clue {quoted(text)} given: that so many houses are between two cannot be said in the task")
    meant = set(_meanings(text, names, size))
    if len(meant) != 1:
        raise ValueError(f"clue {quoted(text, 120)} given, which can mean {len(meant) or 'nothing'} of the known kinds")
    return meant.pop()


def _meanings(text: str, names: _Names, size: Size) -> Iterator[Clue]:
    """What a clue can say. Where its verb comes more than once, wherever both sides name a thing."""
    if text.endswith(_NEIGHBOURS):
        yield from _pairs(text.removesuffix(_NEIGHBOURS), " and ", "nbr", False, names)
        return
    if place := re.fullmatch(r"(.+) is (not )?in the (\w+) house", text):
        thing, house = names.thing(place[1]), place[3].lower()
        if thing is not None and house in _HOUSES[: size.houses]:
            yield Clue(KINDS.index("!=" if place[2] else "="), (thing, size.cells + _HOUSES.index(house)))
        return
    for verb, kind, turned in _TWO:
        if verb in text:
            yield from _pairs(text, verb, kind, turned, names)
            return


def _pairs(text: str, verb: str, kind: str, turned: bool, names: _Names) -> Iterator[Clue]:
    parts = text.split(verb)
    for i in range(1, len(parts)):
        a, b = names.thing(verb.join(parts[:i])), names.thing(verb.join(parts[i:]))
        if a is not None and b is not None and a != b:
            yield Clue(KINDS.index(kind), (b, a) if turned else (a, b))


def _grid(solution: Any, names: _Names, size: Size) -> list[int]:
    """Attribute by attribute the value in each house; ValueError for a solution of another form, or one left out."""
    rows = solution.get("rows") if isinstance(solution, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 1 + size.attributes for row in rows):
        raise ValueError(
            f"solution {quoted(solution)} given, a header and a row of {1 + size.attributes} a house expected"
        )
    grid: list[int] = []
    for attribute, (_, values) in enumerate(names.lists):
        known = {value.lower(): number for number, value in enumerate(values)}
        for row in rows:
            if (name := str(row[1 + attribute]).lower()) not in known:
                hint = "; this copy has no solutions" if set(name) == {"_"} else ""
                raise ValueError(f"{quoted(name)} in the solution given, one of {', '.join(known)} expected{hint}")
            grid.append(known[name])
    return grid

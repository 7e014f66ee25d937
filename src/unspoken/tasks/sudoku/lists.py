"""Puzzles in plain text: one a line, with or without notes, or a line a row with or without frames.

Read are lists (.sdm, the 17-clue lists, HoDoKu's, forum lists with notes behind `:` or `;`), grids of a line a row
(Project Euler 96, with titles), SadMan's .sdk (`#` lines, the section [Puzzle]) and Simple Sudoku's .ss (`|` and lines
of dashes). sudocue.net/fileformats.php describes the last two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from unspoken.messages import quoted
from unspoken.tasks.files import Line
from unspoken.tasks.sudoku.signs import DIGITS, signs_of

_SECTION = re.compile(r"\[\s*(\w[\w ]*)\]")
_TITLE = re.compile(r"(grid|puzzle|sudoku|board|game|problem)\b[^|]*", re.IGNORECASE)
_FRAME = frozenset("-=+|*_ \t")
_BETWEEN = re.compile(r"[\s|!,\"']")


class Found(NamedTuple):
    """A puzzle of a file as it is written there. answer: empty where there is none."""

    line: int
    question: str
    answer: str = ""


@dataclass
class _Grid:
    """A puzzle of a line a row, while it is read."""

    side: int
    first: int = 0
    rows: list[str] = field(default_factory=list)

    def add(self, number: int, row: str) -> Iterator[Found]:
        self.first = self.first if self.rows else number
        self.rows.append(row)
        if len(self.rows) == self.side:
            yield Found(self.first, "".join(self.rows))
            self.rows = []

    def check_done(self, then: str) -> None:
        if self.rows:
            what = f"the grid from line {self.first} on has {len(self.rows)} rows"
            raise ValueError(f"{what}, {self.side} expected before {then}")


def read_list(lines: list[Line], side: int) -> Iterator[Found]:
    """The puzzles of a text, whichever of the forms it has. ValueError names the line of what is wrong."""
    grid, inside = _Grid(side), True
    blanks = _blank_frames(lines, side)
    for number, raw in lines:
        text = raw.partition("#")[0].strip()
        try:
            if section := _SECTION.fullmatch(text):
                grid.check_done(f"the section {quoted(text)}")
                inside = section[1].strip().lower() == "puzzle"
            elif text and inside and not _is_frame(text, side, blanks):
                yield from _line(number, text, grid)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    try:
        grid.check_done("the end")
    except ValueError as error:
        raise ValueError(f"line {lines[-1][0]}: {error}") from None


def holds_board(text: str, side: int) -> bool:
    """Whether a line is a row or holds a board."""
    return bool(_boards(text, side)) or _is_row(_BETWEEN.sub("", text), side)


def _line(number: int, text: str, grid: _Grid) -> Iterator[Found]:
    """What a line holds: a puzzle, with its solution or not, a row of a grid, or a title."""
    side, question, answer = grid.side, *text.partition("=")[::2]
    if answer.strip():
        grid.check_done("a line with `=`")
        yield Found(number, *(next(iter(_boards(part, side)), part) for part in (question, answer)))
        return
    boards = _boards(text, side)
    if 1 <= len(boards) <= 2:
        grid.check_done("a whole board")
        yield Found(number, *boards)
    elif boards:
        raise ValueError(f"{len(boards)} boards given, a puzzle, or it and its solution, expected")
    elif _is_row(cells := _BETWEEN.sub("", text), side):
        yield from grid.add(number, cells)
    elif _TITLE.fullmatch(text):
        grid.check_done(f"the title {quoted(text)}")
    elif grid.rows:
        raise ValueError(f"{quoted(text)} in the grid from line {grid.first} on, a row of {side} cells expected")
    else:
        yield Found(number, re.split(r"[:;,]", text)[0])  # no board: what is wrong with it is told by who parses it


def _boards(text: str, side: int) -> list[str]:
    """The parts of a line that are whole boards: between `:`, `;`, commas or white space."""
    if len(cells := _BETWEEN.sub("", text)) == side * side and _is_legal(cells, side):
        return [cells]
    found: list[str] = []
    for part in re.split(r"[:;,\t]", text):
        joined = _BETWEEN.sub("", part)
        words = [joined] if len(joined) == side * side else part.strip("\"' ").split()
        found += [word for word in words if len(word) == side * side and _is_legal(word, side)]
    return found


def _is_row(cells: str, side: int) -> bool:
    return len(cells) == side and _is_legal(cells, side)


def _is_legal(cells: str, side: int) -> bool:
    return signs_of(side).issuperset(cells.upper())


def _blank_frames(lines: list[Line], side: int) -> frozenset[str]:
    """Which of the signs that frames are drawn with stand for a blank: those in a row beside a digit."""
    seen: set[str] = set()
    for _, raw in lines:
        cells = _BETWEEN.sub("", raw.partition("#")[0])
        if len(cells) in (side, side * side) and _is_legal(cells, side) and not set(DIGITS).isdisjoint(cells.upper()):
            seen |= set(cells)
    return frozenset(seen & _FRAME)


def _is_frame(text: str, side: int, blanks: frozenset[str]) -> bool:
    """Whether a line is drawn and no row: of the signs of frames alone, and not so many blanks as a row has."""
    cells = _BETWEEN.sub("", text)
    is_row = len(cells) in (side, side * side) and len(set(cells)) == 1 and cells[0] in blanks
    return _FRAME.issuperset(text) and not is_row

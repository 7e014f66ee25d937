"""Puzzles as people write them: one with one solution, and files in CSV as in Sudoku-Extreme."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unspoken.tasks.files import Text
from unspoken.tasks.sudoku.rules import Board, Box, cell_name, check_box, clash, is_solution, parse, solve, write

if TYPE_CHECKING:
    from _csv import Reader


def check_puzzle(puzzle: Board, box: Box) -> Board:
    """`[cells]`: the only solution of `puzzle` `[cells]`; ValueError where there is none, or several."""
    counts, _, solution = solve(puzzle[None], box)
    if counts[0] == 1:
        return solution[0]
    if problem := clash(puzzle, box):
        raise ValueError(f"contradictory givens: {problem}; each digit may stand once in a row, column and box")
    if counts[0] == 0:
        raise ValueError(f"no solution: the givens of {write(puzzle)} do not clash, but no full board extends them")
    givens = np.count_nonzero(puzzle)
    raise ValueError(f"several solutions: {write(puzzle)} has {givens} givens, too few; add givens")


def solved_puzzle(question: str, answer: str, box: Box) -> tuple[Board, Board]:
    """A puzzle `[cells]` and its solution `[cells]`; ValueError for a bad puzzle, or another `answer` that is given."""
    puzzle = parse(question, box)
    solution = check_puzzle(puzzle, box)
    if answer.strip():
        try:
            said = parse(answer, box)
        except ValueError as error:
            raise ValueError(f"the answer: {error}") from None
        if not is_solution(puzzle[None], said[None], box)[0]:
            raise ValueError(_why_wrong(puzzle, said, box))
    return puzzle, solution


def _why_wrong(puzzle: Board, answer: Board, box: Box) -> str:
    side = check_box(box)
    for cell in np.flatnonzero((puzzle > 0) & (puzzle != answer))[:1]:
        asked, said = write(puzzle[[cell]]), write(answer[[cell]])
        name = cell_name(cell, side)
        return f"the answer does not extend the question: {name} is {asked} there and {said} in the answer"
    for cell in np.flatnonzero(answer == 0)[:1]:
        return f"the answer breaks the rules: {cell_name(cell, side)} is blank, a full board is expected"
    return f"the answer breaks the rules: {clash(answer, box)}"


def csv_texts(path: Path) -> Iterator[Text]:
    """Of each puzzle of a file with columns question and answer where it is, and what makes `question=answer`."""
    # A byte that is not UTF-8 becomes a character that `parse` reports with file and line.
    reader = csv.reader(path.read_text("utf-8-sig", errors="replace").splitlines())
    try:
        yield from _csv_rows(path, reader)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; is a quote left open?") from error


def _csv_rows(path: Path, reader: Reader) -> Iterator[Text]:
    header = [name.strip().lower() for name in next(reader, [])]
    if not {"question", "answer"} <= set(header):
        raise ValueError(
            f"{path}, line 1: header {','.join(header)!r} given, the columns question and answer expected; "
            "write source,question,answer,rating"
        )

    def text(row: list[str]) -> str:
        if len(row) != len(header):
            raise ValueError(f"{len(row)} fields given, {len(header)} expected ({','.join(header)})")
        return f"{row[header.index('question')]}={row[header.index('answer')]}"

    for row in filter(None, reader):
        yield f"line {reader.line_num}", lambda its=row: text(its)

"""Puzzles as people write them: one with one solution, and files of them, told apart by their content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from unspoken.tasks.arrays import is_npy
from unspoken.tasks.files import Line, Text, is_jsonl, located, read_lines
from unspoken.tasks.sudoku.boards import read_array
from unspoken.tasks.sudoku.lists import Found, holds_board, read_list
from unspoken.tasks.sudoku.rules import Board, Box, cell_name, check_box, clash, is_solution, parse, solve, write
from unspoken.tasks.sudoku.signs import blanks_of, plain
from unspoken.tasks.sudoku.tables import is_table, read_records, read_table

_Reader = Callable[[list[Line], int], Iterator[Found]]

# By what a file of text is known, and who reads it; the first that fits.
READERS: tuple[tuple[Callable[[list[Line]], bool], _Reader], ...] = (
    (is_jsonl, read_records),
    (is_table, read_table),
    (lambda _: True, read_list),
)


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


def file_texts(path: Path, box: Box) -> Iterator[Text]:
    """Of each puzzle of a file where it is, and what makes `question=answer`, the answer empty where there is none.

    ValueError names the file and the line of what is wrong, also where 0 is a blank or a digit, and nobody can say.
    """
    side = check_box(box)
    if is_npy(path):
        for where, question, answer in read_array(path, side):
            yield where, lambda q=question, a=answer: f"{q}={a}"
        return
    lines = read_lines(path)
    reader = next(reader for known_by, reader in READERS if known_by(lines))
    if reader is read_list and path.suffix.lower() in (".csv", ".tsv") and not holds_board(lines[0][1], side):
        reader = read_table  # which says what is wrong with its header
    with located(path):
        found = list(reader(lines, side))
        signs = _plain(found, side)
    for its in found:
        yield f"line {its.line}", lambda q=its.question, a=its.answer: f"{q.translate(signs)}={a.translate(signs)}"


def _plain(found: list[Found], side: int) -> dict[int, str]:
    """`plain` of a whole file; ValueError names the first line by which it is not clear what 0 is."""
    try:
        return plain(side, [text for its in found for text in its[1:]])
    except ValueError as error:
        used: set[str] = set()
        for its in found:
            used |= set((its.question + its.answer).upper()) & set(blanks_of(side))
            if "0" in used and len(used) > 1:
                raise ValueError(f"line {its.line}: {error}") from None
        raise

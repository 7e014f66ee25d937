"""Puzzle files, read and written: text, CSV as in Sudoku-Extreme, and the .npy rows of Shah et al."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unspoken.tasks.progress import progress_bar
from unspoken.tasks.sudoku.puzzles import DIGITS, Puzzles, cell_name, clash, parse, write
from unspoken.tasks.sudoku.rules import Board, Box, check_box, is_solution, solve

if TYPE_CHECKING:
    from _csv import Reader

_COLUMNS = ["source", "question", "answer", "rating"]
_SHAH_WIDTH = 325  # the number of givens, then row, column, value and strategy for each of 81 cells
_CHUNK = 10_000  # puzzles between two steps of the progress bar


def check_puzzles(
    puzzle: Board,
    box: Box,
    where: list[str],
    answer: Board | None = None,
    rating: NDArray[np.float64] | None = None,
) -> Puzzles:
    """Solve `puzzle` `[n, cells]` and compare with the stored `answer`; `where` names each for the error.

    ValueError for contradictory givens, no solution, several solutions, or a wrong answer.
    """
    counts, guesses, solution = _solve_all(puzzle, box)
    for i in np.flatnonzero(counts != 1)[:1]:
        raise ValueError(f"{where[i]}: {_why_unsolved(puzzle[i], box, int(counts[i]))}")
    if answer is not None:
        for i in np.flatnonzero(~is_solution(puzzle, answer, box))[:1]:
            raise ValueError(f"{where[i]}: {_why_wrong(puzzle[i], answer[i], box)}")
    return Puzzles(box, puzzle, solution, guesses, rating)


def _solve_all(puzzle: Board, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64], Board]:
    parts = []
    with progress_bar(len(puzzle) > _CHUNK) as bar:
        job = bar.add_task("checking puzzles", total=len(puzzle))
        for start in range(0, len(puzzle), _CHUNK):
            parts.append(solve(puzzle[start : start + _CHUNK], box))
            bar.advance(job, len(parts[-1][0]))
    counts, guesses, solution = (np.concatenate(column) for column in zip(*parts, strict=True))
    return counts, guesses, solution


def _why_unsolved(puzzle: Board, box: Box, count: int) -> str:
    problem = clash(puzzle, box)
    if problem:
        return f"contradictory givens: {problem}; each digit may stand once in a row, column and box"
    if count == 0:
        return f"no solution: the givens of {write(puzzle)} do not clash, but no full board extends them"
    givens = np.count_nonzero(puzzle)
    return f"several solutions: {write(puzzle)} has {givens} givens, too few; add givens"


def _why_wrong(puzzle: Board, answer: Board, box: Box) -> str:
    side = check_box(box)
    for cell in np.flatnonzero((puzzle > 0) & (puzzle != answer))[:1]:
        asked, said = write(puzzle[[cell]]), write(answer[[cell]])
        name = cell_name(cell, side)
        return f"the answer does not extend the question: {name} is {asked} there and {said} in the answer"
    for cell in np.flatnonzero(answer == 0)[:1]:
        return f"the answer breaks the rules: {cell_name(cell, side)} is blank, a full board is expected"
    return f"the answer breaks the rules: {clash(answer, box)}"


def _read_lines(path: Path) -> list[str]:
    # A byte that is not UTF-8 becomes a character that `parse` reports with file and line.
    return path.read_text("utf-8-sig", errors="replace").splitlines()


def _read_text(path: Path, box: Box) -> Puzzles:
    lines = [(i, line.partition("#")[0].strip()) for i, line in enumerate(_read_lines(path), start=1)]
    lines = [(i, line) for i, line in lines if line]
    _check_any(path, len(lines), "one puzzle a line")
    where = [f"{path}, line {i}" for i, _ in lines]
    return check_puzzles(parse([line for _, line in lines], box, where), box, where)


def _read_csv(path: Path, box: Box) -> Puzzles:
    reader = csv.reader(_read_lines(path))
    try:
        return _read_rows(path, box, reader)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; is a quote left open?") from error


def _read_rows(path: Path, box: Box, reader: Reader) -> Puzzles:
    header = [name.strip().lower() for name in next(reader, [])]
    if not {"question", "answer"} <= set(header):
        raise ValueError(
            f"{path}, line 1: header {','.join(header)!r} given, the columns question and answer expected; "
            f"write {','.join(_COLUMNS)}"
        )
    rows, where = [], []
    for row in reader:
        if not row:
            continue
        where.append(f"{path}, line {reader.line_num}")
        if len(row) != len(header):
            raise ValueError(f"{where[-1]}: {len(row)} fields given, {len(header)} expected ({','.join(header)})")
        rows.append(row)
    _check_any(path, len(rows), "one puzzle a line after the header")
    column = dict(zip(header, zip(*rows, strict=True), strict=True))
    question = parse(list(column["question"]), box, where)
    answer = parse(list(column["answer"]), box, [f"{place}, answer" for place in where])
    rating = _ratings(list(column["rating"]), where) if "rating" in column else None
    return check_puzzles(question, box, where, answer, rating)


def _ratings(texts: list[str], where: list[str]) -> NDArray[np.float64]:
    rating = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        try:
            rating[i] = float(text) if text.strip() else np.nan
        except ValueError:
            raise ValueError(f"{where[i]}: rating {text!r} given, a number or nothing expected") from None
    return rating


def _read_shah(path: Path, box: Box) -> Puzzles:
    if box != (3, 3):
        raise ValueError(f"{path}: .npy files hold 9x9 puzzles, a box of 3 x 3 expected, {box[0]} x {box[1]} given")
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a readable .npy array of integers ({error})") from error
    if rows.ndim != 2 or rows.shape[1] != _SHAH_WIDTH or rows.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: an array {rows.shape} of {rows.dtype} given, integers [n, {_SHAH_WIDTH}] expected: "
            "the number of givens, then (row, column, value, strategy) for each of 81 cells, givens first"
        )
    _check_any(path, len(rows), "one puzzle a row")
    where = [f"{path}, row {i}" for i in range(len(rows))]
    steps = rows[:, 1:].reshape(-1, 81, 4).astype(np.int64)
    cell = _based(steps[..., 0], 0, "rows", where) * 9 + _based(steps[..., 1], 0, "columns", where)
    value = _based(steps[..., 2], 1, "values", where)
    for i in np.flatnonzero((np.sort(cell, axis=1) != np.arange(81)).any(1))[:1]:
        raise ValueError(f"{where[i]}: each of the 81 cells is expected once, {len(set(cell[i].tolist()))} are named")
    for i in np.flatnonzero((rows[:, 0] < 0) | (rows[:, 0] > 81))[:1]:
        raise ValueError(f"{where[i]}: {rows[i, 0]} givens given, 0..81 expected")
    answer, puzzle = np.zeros((len(rows), 81), np.uint8), np.zeros((len(rows), 81), np.uint8)
    np.put_along_axis(answer, cell, value.astype(np.uint8), axis=1)
    said = np.arange(81) < rows[:, :1]
    np.put_along_axis(puzzle, cell, np.where(said, value, 0).astype(np.uint8), axis=1)
    return check_puzzles(puzzle, box, where, answer)


def _based(numbers: NDArray[np.int64], first: int, name: str, where: list[str]) -> NDArray[np.int64]:
    """Numbers counted from `first`; a file that counts them from the other of 0 and 1 is shifted."""
    other = 1 - first
    if numbers.min() >= other and numbers.max() == other + 8:
        numbers = numbers + (first - other)
    for i in np.flatnonzero((numbers < first).any(1) | (numbers > first + 8).any(1))[:1]:
        raise ValueError(
            f"{where[i]}: {name} from {numbers[i].min()} to {numbers[i].max()} given; rows and columns "
            "0..8 and values 1..9 expected (a file that throughout counts rows and columns from 1, or values "
            "from 0, is read too)"
        )
    return numbers


def _check_any(path: Path, count: int, expected: str) -> None:
    if count == 0:
        raise ValueError(f"{path}: the file holds no puzzle; {expected} expected")


def _write_text(path: Path, puzzles: Puzzles) -> None:
    path.write_text("".join(write(board) + "\n" for board in puzzles.puzzle), "utf-8")


def _write_csv(path: Path, puzzles: Puzzles) -> None:
    rating = [""] * len(puzzles)
    if puzzles.rating is not None:
        rating = ["" if np.isnan(value) else f"{value:.17g}" for value in puzzles.rating]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for question, answer, value in zip(puzzles.puzzle, puzzles.solution, rating, strict=True):
            writer.writerow(["unspoken", write(question), write(answer), value])


def _write_shah(path: Path, puzzles: Puzzles) -> None:
    if puzzles.box != (3, 3):
        raise ValueError(f"{path}: .npy files hold 9x9 puzzles, boxes of {puzzles.box} given; write a .csv instead")
    order = np.argsort(puzzles.puzzle == 0, axis=1, kind="stable")
    value = np.take_along_axis(puzzles.solution, order, axis=1).astype(np.int64)
    steps = np.stack([order // 9, order % 9, value, np.zeros_like(value)], axis=2).reshape(-1, _SHAH_WIDTH - 1)
    np.save(path, np.concatenate([np.count_nonzero(puzzles.puzzle, axis=1)[:, None], steps], axis=1))


_READERS: dict[str, Callable[[Path, Box], Puzzles]] = {
    ".txt": _read_text,
    ".csv": _read_csv,
    ".npy": _read_shah,
}
_WRITERS: dict[str, Callable[[Path, Puzzles], None]] = {
    ".txt": _write_text,
    ".csv": _write_csv,
    ".npy": _write_shah,
}


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{path}: suffix {path.suffix!r} given, one of {', '.join(_READERS)} expected")


def read_puzzles(path: str | Path, box: Box, distinct: bool = False) -> Puzzles:
    """The puzzles of a file, each checked to have one solution, in the file's order.

    .txt: one puzzle a line, side * side characters, `.` or `0` for a blank, then digits 1-9 and A-Z; spaces
    and what follows a `#` are ignored. .csv: a header with at least question and answer, optionally rating (a
    number or nothing); other columns are ignored. .npy: integers `[n, 325]` of Shah et al., 9x9 only; the
    solver's order and strategies are not kept. `distinct` leaves out puzzles equal up to symmetry to an
    earlier one, and counts them in `dropped`. ValueError, with file and line, for everything that is not as
    said.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a path to a {', '.join(_READERS)} file of puzzles expected")
    puzzles = _READERS[path.suffix.lower()](path, box)
    return puzzles.distinct() if distinct else puzzles


def write_puzzles(path: str | Path, puzzles: Puzzles) -> None:
    """Write a file that `read_puzzles` reads back; .npy lists the blank cells in reading order."""
    path = Path(path)
    _check_suffix(path)
    _WRITERS[path.suffix.lower()](path, puzzles)


def parse_puzzle(text: str, box: Box) -> Board:
    """`[cells]`: one board from text; whitespace is ignored. ValueError for another length or character."""
    return parse([text], box, ["the puzzle"])[0]


__all__ = ["DIGITS", "Puzzles", "check_puzzles", "parse_puzzle", "read_puzzles", "write_puzzles"]

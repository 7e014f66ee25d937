"""Puzzles in columns or fields with names: CSV with commas, semicolons or tabs, and JSON lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from unspoken.messages import quoted
from unspoken.tasks.files import Line, read_record
from unspoken.tasks.sudoku.lists import Found

QUESTIONS = ("question", "questions", "puzzle", "puzzles", "quiz", "quizzes", "sudoku", "input")
ANSWERS = ("answer", "answers", "solution", "solutions", "output")
_EXPECTED = "one of question, puzzle, quizzes expected, and one of answer, solution(s) or none"


def separator(lines: list[Line]) -> str:
    """What parts the names in the first line that is not empty, where the column of puzzles is among them; else ''."""
    first = next((line for _, line in lines if line.strip()), "")
    return next((sign for sign in ",;\t|" if set(QUESTIONS) & set(_names(first.split(sign)))), "")


def is_table(lines: list[Line]) -> bool:
    """Whether the first line is a header that names a column of puzzles."""
    return separator(lines) != ""


def read_table(lines: list[Line], side: int) -> Iterator[Found]:
    """The puzzles of a CSV file with a header. ValueError names the line of what is wrong."""
    reader = csv.reader((line for _, line in lines), delimiter=separator(lines) or ",", strict=False)
    try:
        header: list[str] | None = None
        for row in reader:
            if not any(row):
                continue
            if header is None:
                header = _names(row)
                _check_header(header)
            elif len(row) != len(header):
                names = quoted(",".join(header))
                raise ValueError(f"line {reader.line_num}: {len(row)} fields given, {len(header)} expected ({names})")
            else:
                yield _found(reader.line_num, dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}; is a quote left open?") from error
    if header is None:
        _check_header([])


def read_records(lines: list[Line], side: int) -> Iterator[Found]:
    """The puzzles of JSON lines. ValueError names the line of what is wrong."""
    for number, line in lines:
        if line.strip():
            try:
                record = read_record(line)
                if not isinstance(record, dict) or not all(isinstance(name, str) for name in record):
                    raise ValueError(f'{quoted(record)} given, {{"input": ..., "output": ...}} expected')
                its = {name.lower(): value for name, value in record.items()}
                _check_columns(list(its))
                yield _found(number, its)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


def _names(fields: list[str]) -> list[str]:
    return [name.strip().strip("\"'").lower() for name in fields]


def _check_header(header: list[str]) -> None:
    try:
        _check_columns(header)
    except ValueError as error:
        raise ValueError(f"line 1: header {quoted(','.join(header))} given, {error}") from None


def _check_columns(names: list[str]) -> None:
    """ValueError unless one names the puzzles, and at most one the solutions."""
    for known, least in ((QUESTIONS, 1), (ANSWERS, 0)):
        found = [name for name in names if name in known]
        if not least <= len(found) <= 1:
            raise ValueError(f"{' and '.join(found) or 'no column of puzzles'} given, {_EXPECTED}")


def _found(line: int, record: dict[str, Any]) -> Found:
    question = next(value for name, value in record.items() if name in QUESTIONS)
    answer = next((value for name, value in record.items() if name in ANSWERS), "")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise ValueError(f"{quoted(question)} and {quoted(answer)} given, boards as text expected")
    return Found(line, question, answer)

"""A user's file of examples: its text, where in it what is wrong, and a bar for work that may take long."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unspoken.messages import quoted

if TYPE_CHECKING:
    from rich.progress import Progress

Text = tuple[str, Callable[[], str]]  # where an example is, and what makes its text
Line = tuple[int, str]  # its number from 1, and what is in it

LONGEST = 200_000  # characters of a line: JSON of so many takes some 30 MB of memory, of 30 million 4 GB
_TOLD = 500  # characters of a mistake in a file
_LONG = 10_000  # examples of a file whose reading shows a bar
_MARKS = (  # of an encoding, UTF-32's first: it begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def progress_bar(show: bool = True) -> Progress:
    """A bar with the count and the time remaining; to a terminal on stderr only, and gone when done."""
    from rich.console import Console  # slow to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True, markup=False)
    return Progress(*columns, console=console, transient=True, disable=not (show and console.is_terminal))


def read_text(path: Path) -> str:
    """A file's text: UTF-8, or UTF-16 or UTF-32 by its byte order mark. ValueError for what is no text.

    A byte that is not UTF-8 becomes the replacement character: a comment may hold one, an example may not.
    """
    data = path.read_bytes()
    coding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(coding, "strict" if coding in ("utf-16", "utf-32") else "replace")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: its mark says {coding.upper()}, and it is not: {error.reason}") from None
    if "\0" in text:
        raise ValueError(f"{path}: it holds zero bytes, and text in UTF-8, or in UTF-16 with its mark, is expected")
    return text


def read_lines(path: Path) -> list[Line]:
    """The lines of a file's text; ValueError for what is no text, or a line that is longer than any example."""
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    lines = list(enumerate(text.split("\n"), start=1))
    for number, line in lines:
        if len(line) > LONGEST:
            found = f"a line of {len(line):,} characters given, at most {LONGEST:,} expected"
            raise ValueError(f"{path}, line {number}: {found}; one example a line")
    return lines


def is_jsonl(lines: list[Line]) -> bool:
    """Whether the first line with anything in it begins as a JSON object does."""
    return next((line.lstrip()[:1] for _, line in lines if line.strip()), "") == "{"


def texts(lines: list[Line], line: Callable[[Any], str]) -> Iterator[Text]:
    """`line` of each record of JSON lines; else the lines but for those that are empty and what follows a `#`."""
    jsonl = is_jsonl(lines)
    for number, text in lines:
        said = text if jsonl else text.partition("#")[0]
        if said.strip():
            yield f"line {number}", (lambda s=said: line(read_record(s))) if jsonl else (lambda s=said: s)


def read_record(text: str) -> Any:
    """The value of a line of JSON; ValueError where it is none."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{quoted(text)} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{quoted(text)} is no JSON: {error}") from None


def whole_number(word: str, low: int, high: int) -> int:
    """The number that a word says; ValueError where it is none of low..high. Of a long word nothing is computed."""
    digits = word.removeprefix("-")
    known = digits.isascii() and digits.isdecimal() and len(digits) <= len(str(max(high, -low)))
    if not known or not low <= int(word) <= high:
        raise ValueError(f"{quoted(word)} given, a whole number {low}..{high} expected")
    return int(word)


@contextmanager
def located(path: Path, where: str = "") -> Iterator[None]:
    """Around work on a file: a ValueError names the file, and where in it what is wrong is unless it does so itself."""
    try:
        yield
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}, {where}{': ' * bool(where)}{str(error)[:_TOLD]}") from None


def checked(path: Path, found: Iterator[Text], solved: Callable[[str], Tensor]) -> list[Tensor]:
    """`solved` of each text; ValueError names the file and the place of what is wrong, or says that there is none."""
    rows, every = [], list(found)
    with progress_bar(len(every) > _LONG) as bar:
        for where, text in bar.track(every, description="checking examples"):
            with located(path, where):
                rows.append(solved(text()))
    if not rows:
        raise ValueError(f"{path}: no example in it; one a line expected")
    return rows

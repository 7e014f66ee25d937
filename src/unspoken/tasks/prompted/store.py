"""Tokenised texts on the disk: written once as they are read, and mapped from then on, however large they are.

Files of a folder in the cache: `tokens.bin` (int32), `given.bin` (bool), one after the other, and `documents.npy`, a
row a document: where its tokens begin, how many there are, which source it is of, and a hash. `card.json` is written
last: who sees it, sees the rest.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from unspoken.tasks.files import progress_bar
from unspoken.tasks.hashing import Hashes, mix
from unspoken.tasks.prompted.coding import Coding
from unspoken.tasks.prompted.sources import Source, sources
from unspoken.tasks.store import alone, cache_dir, whole

_FORM = 1  # of the files
_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError)


@dataclass(frozen=True)
class Wanted:
    """What is tokenised, and how: a document is a record, or a window of a text.

    length: tokens that a document has at most. cut: whether a longer response is cut, or refused. every: whether every
    answer of a conversation is asked, or the last one.
    """

    sources: tuple[Source, ...]
    length: int
    cut: bool
    every: bool


@dataclass(frozen=True, eq=False)
class Stored:
    """tokens, given: `[all]`, mapped. first, size, source: `[documents]`. hashes: `[documents]`, of what each is."""

    tokens: NDArray[np.int32]
    given: NDArray[np.bool_]
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    source: NDArray[np.int64]
    hashes: Hashes


@lru_cache(maxsize=8)
def stored(its: Coding, wanted: Wanted) -> Stored:
    """The documents, from the disk, else tokenised and kept there."""
    key = hashlib.sha256(repr((_FORM, its.fingerprint, its.mask_id, wanted)).encode()).hexdigest()
    folder = cache_dir() / f"prompted-{key[:16]}"
    found = _read(folder)
    if found is None:
        with alone(folder):
            found = _read(folder)  # another process may have built it meanwhile
            if found is None:
                _build(its, wanted, folder)
                found = _read(folder)
    if found is None:
        raise ValueError(f"{folder}: what was written is not what is read; set UNSPOKEN_CACHE to a sound disk")
    return found


def source_list(data: str, held_out: str) -> tuple[Source, ...]:
    """The sources of a task, those held out last; ValueError where there are none, or one is named twice."""
    own, apart = sources(data, "data"), sources(held_out, "held_out")
    kept = [source for source in own if source not in apart]
    if not kept:
        raise ValueError(
            f"data={data!r}, held_out={held_out!r} leaves nothing to train on; write more, or hold out less"
        )
    return (*kept, *apart)


def _read(folder: Path) -> Stored | None:
    """The documents; None where a file is missing or of another size than the card says."""
    try:
        card = json.loads((folder / "card.json").read_text())
        tokens = np.memmap(folder / "tokens.bin", np.int32, "r")
        given = np.memmap(folder / "given.bin", np.bool_, "r")
        table = np.load(folder / "documents.npy", allow_pickle=False)
        if [len(tokens), len(given), len(table)] != [card["tokens"], card["tokens"], card["documents"]]:
            return None
    except _BROKEN:
        return None
    first, size, source = (np.ascontiguousarray(table[:, i]) for i in range(3))
    return Stored(tokens, given, first, size, source, np.ascontiguousarray(table[:, 3]).view(np.uint64))


def _build(its: Coding, wanted: Wanted, folder: Path) -> None:
    if any([source.check() for source in wanted.sources]):  # what is wrong in them is told before any of the work
        its.check_template()
    rows = list[tuple[int, int, int, int]]()
    with whole(folder / "tokens.bin") as tokens, whole(folder / "given.bin") as given, progress_bar() as bar:
        writer = _Writer(tokens, given, wanted.length)
        for number, source in enumerate(wanted.sources):
            found = writer.records(its, source, wanted) if source.records else writer.windows(its, source)
            for first, size, code in bar.track(found, description=f"tokenising {source.name}"):
                rows.append((first, size, number, code))
    if not rows:
        raise ValueError("no text of two tokens or more is there to train on; write more of it")
    with whole(folder / "documents.npy") as file:
        np.save(file, np.array(rows, dtype=np.int64), allow_pickle=False)
    with whole(folder / "card.json") as file:
        file.write(json.dumps({"tokens": writer.written, "documents": len(rows)}).encode())
    for left in folder.glob("*.tmp"):  # by one that was killed: whoever builds, builds alone
        left.unlink(missing_ok=True)


class _Writer:
    """Writes tokens as they come, and tells which documents they are."""

    def __init__(self, tokens: IO[bytes], given: IO[bytes], length: int):
        self.tokens, self.given, self.length, self.written = tokens, given, length, 0

    def _add(self, tokens: list[int], given: Iterable[bool]) -> int:
        """Where what is added begins."""
        self.tokens.write(np.array(tokens, dtype=np.int32).tobytes())
        self.given.write(np.fromiter(given, dtype=np.bool_, count=len(tokens)).tobytes())
        self.written += len(tokens)
        return self.written - len(tokens)

    def records(self, its: Coding, source: Source, wanted: Wanted) -> Iterator[tuple[int, int, int]]:
        """A document a record. ValueError for one that does not fit."""
        for where, parts in source.parts(its, wanted.every):
            tokens = [token for part, _ in parts for token in part]
            given = [known for part, known in parts for _ in part]
            asked = given.index(False)
            if asked == 0:
                raise ValueError(f"{source.path}, {where}: a prompt of no tokens; text expected, not empty")
            if asked >= self.length:
                raise ValueError(
                    f"{source.path}, {where}: a prompt of {asked} tokens and length={self.length}; {_LONGER}"
                )
            if len(tokens) > self.length and not wanted.cut:
                found = f"prompt and response of {len(tokens)} tokens, and length={self.length}"
                raise ValueError(f"{source.path}, {where}: {found}; {_LONGER}, or cut=True to cut the response")
            tokens = tokens[: self.length]
            yield self._add(tokens, given[: self.length]), len(tokens), _code(tokens[:asked])

    def windows(self, its: Coding, source: Source) -> Iterator[tuple[int, int, int]]:
        """Windows of a text; the first token of each is the last of the one before: all but the first are asked."""
        held = list[int](its.front)
        for text in chain(source.texts(), [""]):
            held += its.ids(text) if text else []
            at = 0
            while len(held) - at > self.length or (not text and len(held) - at > 1):
                window = held[at : at + self.length]
                at += len(window) - 1
                yield self._add(window, [True] + [False] * (len(window) - 1)), len(window), _code(window)
            held = held[at:]


_LONGER = "write a larger length, or a shorter text"


def _code(tokens: list[int]) -> int:
    """A hash of tokens, as the 64 bits of a signed number."""
    return struct.unpack("q", hashlib.blake2b(np.array(tokens, dtype=np.int32).tobytes(), digest_size=8).digest())[0]


def scattered(hashes: Hashes, seed: int) -> Hashes:
    """The hashes, mixed with a seed: other seeds, other splits."""
    return mix(hashes ^ mix(np.array([seed], dtype=np.uint64)))

"""Generated examples on the disk: drawn in parts by several processes, gone on with after a stop, mapped when read.

Part i is a function of the recipe and i alone, so neither the number of processes nor a stop changes what is stored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from unspoken.tasks.base import Split
from unspoken.tasks.hashing import Hashes
from unspoken.tasks.progress import progress_bar
from unspoken.tasks.splits import SHARES, SPLITS, bins_of, check_patience, distribute

Rows = NDArray[np.int16]
BROKEN = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)  # a file that is not whole

_PATIENCE = 500_000  # examples drawn without one for a split that is not full, before it is out of reach
_WORTH = 20.0  # seconds of work left, from which other processes are worth their start


class Source(Protocol):
    """What draws the examples: a frozen dataclass, hence the same in every process."""

    @property
    def part(self) -> int:
        """Examples drawn at a time."""
        ...

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Wanted of train, validation and test."""
        ...

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, length]` clean sequences of any split."""
        ...

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: equal where the questions are the same up to the task's symmetries."""
        ...


@dataclass(frozen=True)
class Stored:
    """One split. rows: `[n, length]`, mapped from the disk. duplicates: up to symmetry, of those drawn or read.

    They are left out, but for those of a generated train, which are counted only.
    """

    rows: Rows
    duplicates: int


def cache_dir() -> Path:
    """`$UNSPOKEN_CACHE`, or `unspoken` in the XDG cache directory."""
    own = os.environ.get("UNSPOKEN_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unspoken"


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Around the opening of a file in a folder, which is made: ValueError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ValueError(
            f"{folder}: the examples cannot be kept there ({error}); set UNSPOKEN_CACHE to a writable directory"
        ) from error


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that is written next to `path` and then renamed: a reader sees the whole of it or none."""
    with _writable(path.parent):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@lru_cache(maxsize=16)
def stored(source: Source, name: str, key: str) -> dict[Split, Stored]:
    """The splits of a source, from the disk, else drawn and kept there. key: all that the rows depend on."""
    folder = cache_dir() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not (folder / "card.json").is_file():
        with _alone(folder):
            if not (folder / "card.json").is_file():  # another process may have built it meanwhile
                _build(source, folder)
    card = json.loads((folder / "card.json").read_text())
    return {s: Stored(np.load(folder / f"{s}.npy", mmap_mode="r", allow_pickle=False), card[s]) for s in SPLITS}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time; the lock goes with its holder, even by kill -9."""
    with _writable(folder):
        lock = (folder / "lock").open("ab")  # the one that is there: a lock on a file of its own would keep nobody out
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(source: Source, folder: Path) -> None:
    bins = bins_of(source.sizes)
    with progress_bar() as bar:
        job = bar.add_task("drawing examples", total=sum(source.sizes))
        for rows, hashes in _parts(source, folder / "parts"):
            distribute(bins, rows, hashes)
            bar.update(job, completed=sum(part.have for part in bins))
            if all(part.have == part.wanted for part in bins):
                break
            try:
                check_patience(bins, _PATIENCE, "a larger task")
            except ValueError:
                shutil.rmtree(folder / "parts", ignore_errors=True)
                raise
    for split, part in zip(SPLITS, bins, strict=True):
        with whole(folder / f"{split}.npy") as file:
            np.save(file, part.rows, allow_pickle=False)
    with whole(folder / "card.json") as file:  # the last: who sees it, sees the rest
        file.write(json.dumps({split: part.duplicates for split, part in zip(SPLITS, bins, strict=True)}).encode())
    shutil.rmtree(folder / "parts", ignore_errors=True)


def _parts(source: Source, folder: Path) -> Iterator[tuple[Rows, Hashes]]:
    """Part after part without end; in processes of their own where much is left to do."""
    began = time.perf_counter()
    yield _part(source, folder, 0)
    needed = max(size * sum(SHARES) / share for size, share in zip(source.sizes, SHARES, strict=True)) / source.part
    expected = (time.perf_counter() - began) * needed
    # A class of the user's own script is known by no other process.
    workers = 1 if type(source).__module__ == "__main__" else os.cpu_count() or 1
    if workers == 1 or (expected < _WORTH and not (folder / _file(1)).is_file()):
        for i in count(1):
            yield _part(source, folder, i)
    drawing = [_worker(source, folder, 1 + w, workers) for w in range(workers)]
    try:
        for i in count(1):
            while not (folder / _file(i)).is_file():
                if drawing[(i - 1) % workers].poll() is not None:
                    raise RuntimeError(f"the process that draws {source} ended before it was done; see above")
                time.sleep(0.02)
            yield _part(source, folder, i)
    finally:
        for process in drawing:
            process.kill()
            process.wait()


def _worker(source: Source, folder: Path, first: int, stride: int) -> subprocess.Popen[bytes]:
    """Draws every `stride`-th part until it is killed. No `multiprocessing`: it would run a user's script again."""
    process = subprocess.Popen([sys.executable, "-c", f"from {__name__} import work; work()"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(pickle.dumps((source, folder, first, stride, os.getpid())))
    return process


def work() -> None:
    """What a worker does; it ends when its parent does."""
    source, folder, first, stride, parent = pickle.loads(sys.stdin.buffer.read())  # what `_worker` wrote, no file
    for i in count(first, stride):
        if os.getppid() != parent:
            return
        if not (folder / _file(i)).is_file():
            _part(source, folder, i)


def _file(index: int) -> str:
    return f"{index:06d}.npz"


def _part(source: Source, folder: Path, index: int) -> tuple[Rows, Hashes]:
    """Part `index`, from the disk where it is there."""
    path = folder / _file(index)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return file["rows"], file["hashes"]
    except BROKEN:
        rows = source.draw(source.part, np.random.default_rng((getattr(source, "seed", 0), index)))
        hashes = source.canonical(rows)
        with whole(path) as file:
            np.savez(file, allow_pickle=False, rows=rows, hashes=hashes)
        return rows, hashes

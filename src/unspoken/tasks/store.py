"""Examples on the disk: drawn in parts by several processes, gone on with after a stop, checked and mapped when read.

Part i is a function of the recipe and i alone, so neither the number of processes nor a stop changes what is stored.
The card holds a checksum of every file; what does not match it is built again.
"""

from __future__ import annotations

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from unspoken.messages import quoted
from unspoken.tasks.base import SPLITS, Split
from unspoken.tasks.files import progress_bar
from unspoken.tasks.hashing import Hashes
from unspoken.tasks.splits import SHARES, Bin, bins_of, check_patience, distribute

if TYPE_CHECKING:
    from unspoken.tasks.generated import Generated

Rows = NDArray[np.integer]
# What reading a file that is not whole ends in; zipfile and json raise RuntimeErrors where flags or nesting are wrong.
_WRONG = (ValueError, KeyError, TypeError, RuntimeError, MemoryError)
_BROKEN = (*_WRONG, OSError, EOFError, zipfile.BadZipFile, zlib.error)

_WORTH = 20.0  # seconds of work left, from which other processes are worth their start


@dataclass(frozen=True)
class Stored:
    """One split. rows: `[n, width]`, mapped from the disk. duplicates: up to symmetry, of those drawn or read.

    They are left out, but for those of a generated train that need not be distinct, which are counted only.
    """

    rows: Rows
    duplicates: int


def cache_dir() -> Path:
    """`$UNSPOKEN_CACHE`, or `unspoken` in the XDG cache directory. ValueError where there is no home directory."""
    if own := os.environ.get("UNSPOKEN_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unspoken"
    except RuntimeError as error:
        raise ValueError(f"no place to keep examples ({error}); set UNSPOKEN_CACHE to a writable directory") from error


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Around the writing of a file in a folder, which is made: ValueError where that cannot be."""
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


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """What `make` makes, kept at `path` behind its checksum; what does not match it, is made again."""
    try:
        told, _, content = path.read_bytes().partition(b"\n")
        if told.decode() == hashlib.sha256(content).hexdigest():
            return content
    except _BROKEN:
        pass
    content = make()
    with whole(path) as file:
        file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    return content


@lru_cache(maxsize=16)
def stored(task: Generated) -> dict[Split, Stored]:
    """The splits of a task, from the disk, else drawn or read and kept there."""
    folder = cache_dir() / f"{task.name}-{hashlib.sha256(task.key.encode()).hexdigest()[:16]}"
    splits = _read(folder)
    if splits is None:
        with alone(folder):
            splits = _read(folder)  # another process may have built it meanwhile
            if splits is None:
                _build(task, folder)
                splits = _read(folder)
    if splits is None:
        raise ValueError(f"{folder}: what was written is not what is read; set UNSPOKEN_CACHE to a sound disk")
    return splits


def _read(folder: Path) -> dict[Split, Stored] | None:
    """The splits; None where one is missing, not whole or not what its checksum says."""
    try:
        card = json.loads((folder / "card.json").read_text())
        return {split: _checked(folder / f"{split}.npy", **card[split]) for split in SPLITS}
    except _BROKEN:
        return None


def _checked(path: Path, sha256: str, duplicates: int) -> Stored:
    if type(duplicates) is not int:
        raise ValueError(f"{path}: duplicates {quoted(duplicates)} in its card, a whole number expected")
    if _checksum(path, duplicates) != sha256:
        raise ValueError(f"{path}: another checksum than {sha256}")
    return Stored(np.load(path, mmap_mode="r", allow_pickle=False), duplicates)


def _checksum(path: Path, duplicates: int) -> str:
    """Of all that is kept of a split."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(str(duplicates).encode())
    return digest.hexdigest()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time; the lock goes with its holder, even by kill -9."""
    lock = FileLock(folder / "lock")
    with _writable(folder):
        lock.acquire()
    with lock:
        yield


def _build(task: Generated, folder: Path) -> None:
    rows = task.of_file()
    bins = _drawn(task, folder / "parts") if rows is None else _shared_out(task, rows)
    card = {}
    for split, part in zip(SPLITS, bins, strict=True):
        with whole(folder / f"{split}.npy") as file:
            np.save(file, part.rows, allow_pickle=False)
        checksum = _checksum(folder / f"{split}.npy", part.duplicates)
        card[split] = {"sha256": checksum, "duplicates": part.duplicates}
    with whole(folder / "card.json") as file:  # the last: who sees it, sees the rest
        file.write(json.dumps(card).encode())
    shutil.rmtree(folder / "parts", ignore_errors=True)
    for left in folder.glob("*.tmp"):  # by one that was killed: whoever builds, builds alone
        left.unlink(missing_ok=True)


def _shared_out(task: Generated, rows: Rows) -> list[Bin]:
    """All rows of a file, in proportion to the sizes; a question and its disguises share a split."""
    bins = bins_of([len(rows)] * len(SPLITS), distinct=True)
    distribute(bins, rows, task.canonical(rows), task.sizes)
    return bins


def _drawn(task: Generated, folder: Path) -> list[Bin]:
    """Part after part until every split is full.

    The ranges of the hash are fixed, not in proportion to the sizes, so that what is a test question for one recipe is
    not a training question for another.
    """
    bins = bins_of(task.sizes, task.distinct)
    with progress_bar() as bar:
        job = bar.add_task("drawing examples", total=sum(task.sizes))
        for rows, hashes in _parts(task, folder):
            distribute(bins, rows, hashes)
            bar.update(job, completed=sum(part.have for part in bins))
            if all(part.have == part.wanted for part in bins):
                break
            try:
                check_patience(bins, *task.patience)
            except ValueError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return bins


def _parts(task: Generated, folder: Path) -> Iterator[tuple[Rows, Hashes]]:
    """Part after part without end; in processes of their own where much is left to do."""
    began = time.perf_counter()
    yield _part(task, folder, 0)
    needed = max(size * sum(SHARES) / share for size, share in zip(task.sizes, SHARES, strict=True)) / task.part
    expected = (time.perf_counter() - began) * needed
    # A class of the user's own script is known by no other process.
    workers = 1 if type(task).__module__ == "__main__" else os.cpu_count() or 1
    if workers == 1 or (expected < _WORTH and not (folder / _file(1)).is_file()):
        for i in count(1):
            yield _part(task, folder, i)
    drawing = [_worker(task, folder, 1 + w, workers) for w in range(workers)]
    try:
        for i in count(1):
            while not (folder / _file(i)).is_file():
                if drawing[(i - 1) % workers].poll() is not None:
                    raise RuntimeError(f"the process that draws {task} ended before it was done; see above")
                time.sleep(0.02)
            yield _part(task, folder, i)
    finally:
        for process in drawing:
            process.kill()
            process.wait()


def _worker(task: Generated, folder: Path, first: int, stride: int) -> subprocess.Popen[bytes]:
    """Draws every `stride`-th part until it is killed. No `multiprocessing`: it would run a user's script again."""
    process = subprocess.Popen([sys.executable, "-c", f"from {__name__} import work; work()"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(pickle.dumps((task, folder, first, stride, os.getpid())))
    return process


def work() -> None:
    """What a worker does; it ends when its parent does."""
    task, folder, first, stride, parent = pickle.loads(sys.stdin.buffer.read())  # what `_worker` wrote, no file
    for i in count(first, stride):
        if os.getppid() != parent:
            return
        if not (folder / _file(i)).is_file():
            _part(task, folder, i)


def _file(index: int) -> str:
    return f"{index:06d}.npz"


def _part(task: Generated, folder: Path, index: int) -> tuple[Rows, Hashes]:
    """Part `index`, from the disk where it is there."""
    path = folder / _file(index)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return file["rows"], file["hashes"]
    except _BROKEN:
        rows = task.draw_part(index)
        hashes = task.canonical(rows)
        with whole(path) as file:
            np.savez(file, allow_pickle=False, rows=rows, hashes=hashes)
        return rows, hashes

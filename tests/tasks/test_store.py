"""Generated examples on the disk: the same however they were drawn, whole or not there, and split by the question."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from unspoken.tasks import store
from unspoken.tasks.hashing import Hashes, in_any_order, in_order, mix, scatter
from unspoken.tasks.splits import SPLITS, assign
from unspoken.tasks.store import Rows, stored, whole
from unspoken.tasks.sudoku.search import mix64


@dataclass(frozen=True)
class Numbers:
    """Pairs of numbers, the same in either order."""

    sizes: tuple[int, int, int] = (300, 20, 20)
    below: int = 1000
    part: int = 64
    seed: int = 0
    slow: float = 0.0
    log: str = ""

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        time.sleep(self.slow)
        if self.log:
            with open(self.log, "a") as file:
                file.write("drawn\n")
        return rng.integers(0, self.below, (n, 2)).astype(np.int16)

    def canonical(self, rows: Rows) -> Hashes:
        return in_any_order(scatter(rows))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path))
    stored.cache_clear()
    return tmp_path


def rows_of(source: Numbers, key: str = "key") -> dict[str, list[list[int]]]:
    stored.cache_clear()
    return {split: its.rows.tolist() for split, its in stored(source, "numbers", key).items()}


def test_splits_are_full_disjoint_and_mapped_from_the_disk(cache: Path) -> None:
    splits = stored(Numbers(), "numbers", "key")
    assert [len(splits[s].rows) for s in SPLITS] == [300, 20, 20]
    pairs = [{tuple(sorted(row)) for row in splits[s].rows.tolist()} for s in SPLITS]
    assert not pairs[0] & pairs[1] and not pairs[0] & pairs[2] and not pairs[1] & pairs[2]
    assert len(pairs[1]) == len(pairs[2]) == 20  # distinct up to their order
    assert all(isinstance(its.rows, np.memmap) for its in splits.values())
    assert splits["train"].duplicates == 300 - len(pairs[0])
    (folder,) = cache.iterdir()
    assert sorted(f.name for f in folder.iterdir()) == ["card.json", "lock", "test.npy", "train.npy", "validation.npy"]


def test_what_is_stored_depends_on_no_other_size() -> None:
    few, many = rows_of(Numbers()), rows_of(Numbers(sizes=(900, 40, 20)), "many")
    assert many["train"][:300] == few["train"] and many["test"] == few["test"]


def test_several_processes_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = rows_of(Numbers())
    monkeypatch.setattr(store, "_WORTH", 0.0)
    monkeypatch.setattr(store.os, "cpu_count", lambda: 2)
    # The children import this module to unpickle the source: they are told where it lies.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    assert rows_of(Numbers(), "again") == alone


def test_a_build_that_was_killed_is_gone_on_with(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle, by -9: nothing half-done is taken, and what was drawn is not drawn again."""
    script = (
        "from test_store import Numbers\nfrom unspoken.tasks.store import stored\n"
        "stored(Numbers(slow=.05), 'numbers', 'killed')"
    )
    where = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": where})
    while len(list(cache.rglob("*.npz"))) < 3:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = sorted(cache.rglob("*.npz"))
    assert not list(cache.rglob("card.json"))
    left[1].write_bytes(left[1].read_bytes()[:40])  # as a full disk might leave it
    drawn = []
    draw = Numbers.draw
    monkeypatch.setattr(Numbers, "draw", lambda self, n, rng: drawn.append(1) or draw(self, n, rng))
    monkeypatch.setattr(store.os, "cpu_count", lambda: 1)
    again = rows_of(Numbers(slow=0.05), "killed")
    there = len(drawn)
    assert again == rows_of(Numbers(slow=0.05), "fresh")
    assert len(drawn) - there == there + len(left) - 1


def test_too_few_examples_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PATIENCE", 640)
    with pytest.raises(ValueError, match="train=300, validation=20, test=20 given, but only train=300"):
        stored(Numbers(below=4), "numbers", "few")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="set UNSPOKEN_CACHE"), whole(tmp_path / "file" / "a.npy"):
        pass


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "a.npy") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_shares() -> None:
    hashes = mix(np.arange(160_000, dtype=np.uint64))
    counts = np.bincount(assign(hashes))
    assert abs(counts / 10_000 - [14, 1, 1]).max() < 0.05  # five standard deviations: false alarm below 1 in 100,000


def test_hashes_go_by_what_they_say() -> None:
    rows = np.random.default_rng(0).integers(0, 5, (500, 6))
    turned = rows[:, ::-1]
    assert (in_any_order(scatter(rows)) == in_any_order(scatter(turned))).all()
    assert len(set(in_order(rows).tolist())) == len({tuple(r) for r in rows.tolist()})
    sets = {tuple(sorted(r)) for r in rows.tolist()}
    assert len(set(in_any_order(scatter(rows)).tolist())) == len(sets)
    numbers = np.arange(9, dtype=np.uint64)
    assert [mix64(i) for i in numbers] == mix(numbers).tolist()  # type: ignore[arg-type]


def test_two_processes_that_build_the_same_do_it_once(cache: Path, tmp_path_factory) -> None:
    """The second waits for the first, and finds what it made: no part is drawn twice."""
    logs = [tmp_path_factory.mktemp("logs") / name for name in ("both", "alone")]
    recipe = {"slow": 0.05, "sizes": (900, 20, 20)}
    script = (
        "from test_store import Numbers\nfrom unspoken.tasks.store import stored\n"
        f"stored(Numbers(**{recipe}, log={str(logs[0])!r}), 'numbers', 'both')"
    )
    where = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    both = [subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": where}) for _ in range(2)]
    assert [child.wait(timeout=60) for child in both] == [0, 0]
    (folder,) = cache.iterdir()
    assert sorted(f.name for f in folder.iterdir()) == ["card.json", "lock", "test.npy", "train.npy", "validation.npy"]
    stored(Numbers(**recipe, log=str(logs[1])), "numbers", "alone")
    assert logs[0].read_text() == logs[1].read_text() != ""

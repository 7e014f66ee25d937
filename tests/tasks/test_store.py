"""Generated examples on the disk: the same however they were drawn, whole or not there, and split by the question."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unspoken.tasks import store
from unspoken.tasks.generated import Generated
from unspoken.tasks.hashing import Hashes, in_any_order, in_order, mix, scatter
from unspoken.tasks.splits import SPLITS, assign
from unspoken.tasks.store import Rows, kept, stored, whole
from unspoken.tasks.sudoku.search import mix64


@dataclass(frozen=True)
class Numbers(Generated):
    """Pairs of numbers, the same in either order."""

    train: int = field(default=300, kw_only=True)
    validation: int = field(default=20, kw_only=True)
    test: int = field(default=20, kw_only=True)
    label: str = ""  # of the folder alone
    below: int = 1000
    slow: float = 0.0
    log: str = ""

    name = "numbers"
    part = 64
    symmetries = "order"
    title = "pairs of numbers"  # type: ignore[override]
    length = 2  # type: ignore[override]

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.below)))

    def draw_part(self, index: int) -> Rows:
        time.sleep(self.slow)
        if self.log:
            with open(self.log, "a") as file:
                file.write("drawn\n")
        return np.random.default_rng(index).integers(0, self.below, (self.part, 2)).astype(np.int16)

    def canonical(self, rows: Rows) -> Hashes:
        return in_any_order(scatter(rows))

    def encode(self, text: str) -> Tensor:
        return torch.tensor([int(word) for word in text.split(",")])

    def show(self, tokens: Tensor) -> str:
        return ",".join(self.check_tokens(tokens))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path))
    stored.cache_clear()
    return tmp_path


def rows_of(task: Numbers, label: str = "") -> dict[str, list[list[int]]]:
    stored.cache_clear()
    return {split: its.rows.tolist() for split, its in stored(replace(task, label=label)).items()}


def test_splits_are_full_disjoint_and_mapped_from_the_disk(cache: Path) -> None:
    splits = stored(Numbers())
    assert [len(splits[s].rows) for s in SPLITS] == [300, 20, 20]
    pairs = [{tuple(sorted(row)) for row in splits[s].rows.tolist()} for s in SPLITS]
    assert not pairs[0] & pairs[1] and not pairs[0] & pairs[2] and not pairs[1] & pairs[2]
    assert len(pairs[1]) == len(pairs[2]) == 20  # distinct up to their order
    assert all(isinstance(its.rows, np.memmap) for its in splits.values())
    assert splits["train"].duplicates == 300 - len(pairs[0])
    (folder,) = cache.iterdir()
    assert sorted(f.name for f in folder.iterdir()) == ["card.json", "lock", "test.npy", "train.npy", "validation.npy"]


def test_what_is_stored_depends_on_no_other_size() -> None:
    few, many = rows_of(Numbers()), rows_of(Numbers(train=900, validation=40), "many")
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
        "stored(Numbers(slow=.05, label='killed'))"
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
    draw = Numbers.draw_part
    monkeypatch.setattr(Numbers, "draw_part", lambda self, index: drawn.append(1) or draw(self, index))
    monkeypatch.setattr(store.os, "cpu_count", lambda: 1)
    again = rows_of(Numbers(slow=0.05), "killed")
    there = len(drawn)
    assert again == rows_of(Numbers(slow=0.05), "fresh")
    assert len(drawn) - there == there + len(left) - 1


def test_too_few_examples_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Numbers, "patience", (640, "more of them"))
    with pytest.raises(
        ValueError, match=r"train=300, validation=20, test=20 given, but only train=300.*or more of them"
    ):
        stored(Numbers(below=4))


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
    recipe = {"slow": 0.05, "train": 900}
    script = (
        "from test_store import Numbers\nfrom unspoken.tasks.store import stored\n"
        f"stored(Numbers(**{recipe}, label='both', log={str(logs[0])!r}))"
    )
    where = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    both = [subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": where}) for _ in range(2)]
    assert [child.wait(timeout=60) for child in both] == [0, 0]
    (folder,) = cache.iterdir()
    assert sorted(f.name for f in folder.iterdir()) == ["card.json", "lock", "test.npy", "train.npy", "validation.npy"]
    stored(Numbers(**recipe, label="alone", log=str(logs[1])))
    assert logs[0].read_text() == logs[1].read_text() != ""


@pytest.mark.parametrize("name", ["train.npy", "test.npy", "card.json"])
def test_what_does_not_match_its_checksum_is_built_again(cache: Path, name: str) -> None:
    """A flipped byte at any place, half a file, an empty one, none at all: what comes back is what was drawn."""
    first = rows_of(Numbers())
    file = next(cache.iterdir()) / name
    whole = file.read_bytes()
    flipped = []
    counts = [match.end() - 1 for match in re.finditer(rb'"duplicates": \d+', whole)]
    for at in [*np.linspace(0, len(whole) - 1, 20).astype(int), *counts]:
        flipped.append(bytearray(whole))
        flipped[-1][at] ^= 4
    for hurt in (*flipped, whole[: len(whole) // 2], b"", b"{}", None):
        file.unlink() if hurt is None else file.write_bytes(bytes(hurt))
        assert rows_of(Numbers()) == first
        assert file.read_bytes() == whole


CARDS = {
    "nothing in it": b"",
    "null": b"null",
    "a list": b"[]",
    "a number a split": b'{"train": 5, "validation": 5, "test": 5}',
    "brackets": b"[" * 100_000,
    "no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_of_another_shape_is_written_again(cache: Path, name: str) -> None:
    first = rows_of(Numbers())
    card = next(cache.iterdir()) / "card.json"
    whole = card.read_bytes()
    card.write_bytes(CARDS[name])
    assert rows_of(Numbers()) == first and card.read_bytes() == whole


@pytest.mark.parametrize("value", ['"{}"', "{}.0"])
def test_a_count_in_the_card_is_a_whole_number(cache: Path, value: str) -> None:
    """Text has the checksum of the number that it spells."""
    duplicates = stored(Numbers())["train"].duplicates
    card = next(cache.iterdir()) / "card.json"
    whole = card.read_text()
    card.write_text(whole.replace(f'"duplicates": {duplicates}', f'"duplicates": {value.format(duplicates)}', 1))
    assert card.read_text() != whole
    stored.cache_clear()
    assert type(stored(Numbers())["train"].duplicates) is int and card.read_text() == whole


def test_a_part_with_any_byte_flipped_is_drawn_again_or_the_same(cache: Path) -> None:
    rows, hashes = store._part(Numbers(), cache, 0)
    (path,) = cache.glob("*.npz")
    whole = path.read_bytes()
    for at in [*range(0, len(whole), 25), *range(len(whole) - 250, len(whole))]:  # the table of a zip is at its end
        for flip in (1, 255):
            hurt = bytearray(whole)
            hurt[at] ^= flip
            path.write_bytes(bytes(hurt))
            again = store._part(Numbers(), cache, 0)
            assert np.array_equal(again[0], rows) and np.array_equal(again[1], hashes)


def test_halves_of_one_that_was_killed_do_not_stay(cache: Path) -> None:
    stored(Numbers())
    (folder,) = cache.iterdir()
    (folder / "train1234.tmp").write_bytes(b"half")
    (folder / "train.npy").unlink()
    stored.cache_clear()
    stored(Numbers())
    assert not list(folder.glob("*.tmp"))


def test_what_is_in_the_way_is_said(cache: Path) -> None:
    stored(Numbers())
    (folder,) = cache.iterdir()
    (folder / "train.npy").unlink()
    (folder / "train.npy").mkdir()
    stored.cache_clear()
    with pytest.raises(ValueError, match=rf"{folder}: the examples cannot be kept there .*set UNSPOKEN_CACHE"):
        stored(Numbers())


def test_what_is_kept_is_made_again_where_it_is_not_whole(tmp_path: Path) -> None:
    path, made = tmp_path / "deep" / "it", []

    def make() -> bytes:
        made.append(1)
        return b"first\nsecond\n"

    assert kept(path, make) == kept(path, make) == b"first\nsecond\n" and len(made) == 1
    whole = path.read_bytes()
    for at in range(len(whole)):
        hurt = bytearray(whole)
        hurt[at] ^= 4
        for broken in (bytes(hurt), whole[:at]):
            path.write_bytes(broken)
            assert kept(path, make) == b"first\nsecond\n" and path.read_bytes() == whole


def test_rows_of_a_file_are_shared_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers(0, 20, (400, 2)).astype(np.int16)
    reads = []
    monkeypatch.setattr(Numbers, "of_file", lambda self: reads.append(1) or rows)
    found = rows_of(Numbers(train=2, validation=1, test=1))
    pairs = [{tuple(sorted(row)) for row in found[split]} for split in SPLITS]
    assert set.union(*pairs) == {tuple(sorted(row)) for row in rows.tolist()}
    assert [len(found[split]) for split in SPLITS] == [len(part) for part in pairs]  # none twice, train included
    assert sum(its.duplicates for its in stored(Numbers(train=2, validation=1, test=1)).values()) == 400 - sum(
        map(len, pairs)
    )
    assert rows_of(Numbers(train=2, validation=1, test=1)) == found and reads == [1]

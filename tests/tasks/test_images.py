"""The readers of small images: splits, and what is said of files that are missing, cut short or another thing."""

import gzip
import struct
from pathlib import Path

import pytest
import torch

from unspoken.tasks import images
from unspoken.tasks.base import SPLITS

SMALL = {"train": 30, "validation": 10, "test": 20}


def idx(*shape: int, magic: int, seed: int = 0) -> bytes:
    data = torch.randint(256 if len(shape) > 1 else 10, shape, generator=torch.Generator().manual_seed(seed))
    return gzip.compress(struct.pack(f">{1 + len(shape)}I", magic, *shape) + bytes(data.flatten().tolist()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files in the form of Fashion-MNIST's with a few images of noise, where the reader looks."""
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path))
    monkeypatch.setattr(images, "FOLDER", tmp_path / "nowhere")
    monkeypatch.setitem(images.SIZES, "fashion", SMALL)
    images.load.cache_clear()
    here = tmp_path / "fashion-mnist"
    here.mkdir()
    for seed, (part, n) in enumerate([("train", 40), ("t10k", 20)]):
        (here / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(n, 28, 28, magic=0x803, seed=seed))
        (here / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(n, magic=0x801, seed=seed))
    return here


def test_splits_of_digits_are_fixed_and_disjoint() -> None:
    parts = {split: images.load("digits", split) for split in SPLITS}
    rows = {split: {p.numpy().tobytes() for p in its.pixels} for split, its in parts.items()}
    assert {split: len(its) for split, its in rows.items()} == images.SIZES["digits"]
    assert sum(map(len, rows.values())) == len(set().union(*rows.values())) == 1_797
    for its in parts.values():
        assert its.pixels.dtype == torch.uint8 and its.pixels.shape[1:] == (8, 8)
        assert its.grey.min() == 0 and its.grey.max() == 1 and its.label.unique().tolist() == list(range(10))


def test_splits_of_fashion_are_the_files_in_their_order(folder: Path) -> None:
    train, test = (images.read_idx(folder / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k"))
    label = images.read_idx(folder / "train-labels-idx1-ubyte.gz").long()
    parts = {split: images.load("fashion", split) for split in SPLITS}
    assert {split: len(its) for split, its in parts.items()} == SMALL
    assert torch.equal(torch.cat([parts["train"].pixels, parts["validation"].pixels]), train)
    assert torch.equal(torch.cat([parts["train"].label, parts["validation"].label]), label)
    assert torch.equal(parts["test"].pixels, test) and parts["test"].ink == 255


def test_an_idx_file_is_big_endian_bytes_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255])))
    assert images.read_idx(path).tolist() == [[[1, 2, 3], [4, 5, 255]]]


def test_a_missing_package_is_named_with_its_command(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match=r"t10k-labels.*tools/fashion_mnist.py.*apt install dataset-fashion-mnist"):
        images.load("fashion", "test")
    assert len(images.load("fashion", "train")) == 30  # what is there is read


def test_debians_own_folder_is_read_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSPOKEN_CACHE", str(folder / "empty"))
    monkeypatch.setattr(images, "FOLDER", folder)
    assert len(images.load("fashion", "validation")) == 10


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: raw[: len(raw) // 2], "not a whole gzip file.*fetch it again"),
        (lambda raw: raw[:20] + bytes([raw[20] ^ 0xFF]) + raw[21:], "not a whole gzip file"),
        (lambda raw: b"<html>", "not a whole gzip file"),
        (lambda raw: b"", "magic number 0x0, 0x803 expected"),
        (lambda raw: idx(20, 28, 28, magic=0x801), "magic number 0x801, 0x803 expected for images-idx3"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-1]), r"\[20, 28, 28\] bytes said, 15,679 found"),
        (lambda raw: gzip.compress(gzip.decompress(raw) + b"0"), r"\[20, 28, 28\] bytes said, 15,681 found"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:10]), "bytes said"),
        (lambda raw: idx(19, 28, 28, magic=0x803), "19 images and 20 labels"),
        (lambda raw: idx(20, 28, 28, magic=0x803)[:-4], "not a whole gzip file"),
    ],
)
def test_a_damaged_file_is_a_value_error(folder: Path, damage, says: str) -> None:
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=says):
        images.load("fashion", "test")


def test_too_few_images_are_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(images.SIZES, "fashion", SMALL | {"validation": 11})
    with pytest.raises(ValueError, match="40 images in train, 41 are needed"):
        images.load("fashion", "validation")


@pytest.mark.parametrize(("source", "split"), [("mnist", "test"), ("digits", "dev")])
def test_another_source_or_split_is_refused(source, split) -> None:
    with pytest.raises(ValueError, match="expected"):
        images.load(source, split)

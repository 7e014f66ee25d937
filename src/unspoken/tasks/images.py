"""Small grey images with the number of their class: scikit-learn's digits, and Fashion-MNIST (arXiv 1708.07747)."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from unspoken.extras import need
from unspoken.messages import quoted
from unspoken.tasks.base import Split, check_split
from unspoken.tasks.store import cache_dir

Source = Literal["digits", "fashion"]

CLASSES: dict[Source, tuple[str, ...]] = {
    "digits": tuple("0123456789"),
    "fashion": (
        *("T-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "boot"),
    ),
}
SIDE: dict[Source, int] = {"digits": 8, "fashion": 28}  # pixels
INK: dict[Source, int] = {"digits": 16, "fashion": 255}  # the largest value of a pixel
SIZES: dict[Source, dict[Split, int]] = {
    "digits": {"train": 1_397, "validation": 200, "test": 200},
    "fashion": {"train": 55_000, "validation": 5_000, "test": 10_000},
}
ORIGIN: dict[Source, tuple[str, str]] = {  # whence, and by which licence
    "digits": ("scikit-learn's load_digits (UCI, Optical Recognition of Handwritten Digits)", "CC BY 4.0"),
    "fashion": ("Fashion-MNIST (Zalando), Debian's package dataset-fashion-mnist", "MIT"),
}

FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package where it is installed
MAGIC = {"images-idx3": 0x803, "labels-idx1": 0x801}
_LONGEST = 10**9  # bytes that a file may unpack to


@dataclass(frozen=True)
class Images:
    """Images of one split.

    pixels: `[n, height, width]` uint8, from 0 (no ink) to `ink`. label: `[n]` int64, the number of the class.
    """

    pixels: Tensor
    label: Tensor
    ink: int

    @property
    def grey(self) -> Tensor:
        """`[n, height, width]` float32 in [0, 1]."""
        return self.pixels.float() / self.ink

    def __len__(self) -> int:
        return len(self.pixels)


@lru_cache(maxsize=6)
def load(source: Source, split: Split) -> Images:
    """The images of one split, in a fixed order; no image is in two splits.

    Fashion-MNIST's validation is the last 5,000 of its train file. Digits are dealt to the splits once, at random.
    Raises ValueError for another source or split, and where the images are not on this machine.
    """
    if source not in get_args(Source):
        raise ValueError(f"source={quoted(source)} given, one of {', '.join(get_args(Source))} expected")
    check_split(split)
    return _digits(split) if source == "digits" else _fashion(split)


def _digits(split: Split) -> Images:
    need("sklearn", "images")
    from sklearn.datasets import load_digits

    pixels, label = load_digits(return_X_y=True)
    sizes = SIZES["digits"]
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    mine = dict(zip(sizes, order.split(list(sizes.values())), strict=True))[split]
    grey = torch.from_numpy(pixels).to(torch.uint8).view(-1, 8, 8)
    return Images(grey[mine], torch.from_numpy(label).long()[mine], INK["digits"])


def _fashion(split: Split) -> Images:
    part = "t10k" if split == "test" else "train"
    pixels, label = (read_idx(fashion_file(f"{part}-{kind}-ubyte.gz")) for kind in MAGIC)
    if len(pixels) != len(label):
        raise ValueError(f"Fashion-MNIST: {len(pixels)} images and {len(label)} labels in {part}; {_how('fetch both')}")
    sizes = SIZES["fashion"]
    first = sizes["train"] if split == "validation" else 0
    mine = slice(first, first + sizes[split])
    if len(pixels) < first + sizes[split]:
        raise ValueError(f"Fashion-MNIST: {len(pixels):,} images in {part}, {first + sizes[split]:,} are needed")
    return Images(pixels[mine], label[mine].long(), INK["fashion"])


def fashion_file(name: str) -> Path:
    """Where a file of Fashion-MNIST is: in `$UNSPOKEN_CACHE`, else in Debian's own folder. ValueError for neither."""
    for path in (cache_dir() / "fashion-mnist" / name, FOLDER / name):
        if path.is_file():
            return path
    raise ValueError(f"Fashion-MNIST is not on this machine ({name}): {_how('fetch it')}")


def _how(what: str) -> str:
    return f"{what} with `python tools/fashion_mnist.py`, or `apt install dataset-fashion-mnist`"


def read_idx(path: Path) -> Tensor:
    """The array of bytes of a gzipped IDX file, uint8: images `[n, height, width]` or labels `[n]`, by its name.

    Raises ValueError for a file that is no gzip, is cut short, has another magic number, or another length than it
    says.
    """
    kind = next((kind for kind in MAGIC if kind in path.name), None)
    if kind is None:
        raise ValueError(f"{path}: a name with {' or '.join(MAGIC)} in it expected")
    try:
        with gzip.open(path) as file:
            data = file.read(_LONGEST)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error}); {_how('fetch it again')}") from None
    dims = MAGIC[kind] & 0xFF
    head = 4 * (1 + dims)
    magic, *shape = struct.unpack(f">{1 + dims}I", data[:head].ljust(head, b"\0"))
    if magic != MAGIC[kind]:
        raise ValueError(f"{path}: magic number {magic:#x}, {MAGIC[kind]:#x} expected for {kind}")
    count = 1
    for size in shape:
        count *= size
    if count != len(data) - head:
        raise ValueError(f"{path}: {shape} bytes said, {len(data) - head:,} found; {_how('fetch it again')}")
    return torch.frombuffer(bytearray(data[head:]), dtype=torch.uint8).view(shape)

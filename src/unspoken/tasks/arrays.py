"""Arrays of whole numbers in a user's .npy file, read without trusting what its header says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def is_npy(path: Path) -> bool:
    """Whether a file begins as a .npy file does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def load_integers(path: Path) -> NDArray[np.integer]:
    """The array of a .npy file; ValueError for another file, or one whose header is not of what follows it."""
    wrong = f"{path}: not a readable .npy array of integers"
    try:
        with path.open("rb") as file:
            version = npy.read_magic(file)
            if version not in _READERS:
                raise ValueError(f"version {version} of the format, 1.0 or 2.0 expected")
            shape, _, dtype = _READERS[version](file)
            rest = path.stat().st_size - file.tell()
    except Exception as error:  # numpy parses the header as Python: a file that is made to do harm can raise any
        raise ValueError(f"{wrong} ({str(error)[:200] or type(error).__name__})") from None
    if dtype.kind not in "iu":
        raise ValueError(f"{wrong}: of {dtype} given")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != rest:
        told = f"an array {shape} of {dtype} is {math.prod(shape) * dtype.itemsize:,} bytes"
        raise ValueError(f"{wrong}: {told} and the file holds {rest:,}; is it whole?")
    return np.load(path, allow_pickle=False)

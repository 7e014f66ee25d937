"""Hashes: which split an example is in, and which examples are the same but for a symmetry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def mix(z: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014) of each entry: a bijection that scatters its input."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def scatter(values: NDArray, salt: int = 0) -> Hashes:
    """Each integer of an array as a hash of its own; sums of them are hashes of multisets."""
    start = np.uint64((salt + 1) * 0x9E3779B97F4A7C15 % 2**64)
    return mix(np.asarray(values).astype(np.int64).astype(np.uint64) + start)


def in_order(rows: NDArray, salt: int = 0) -> Hashes:
    """`[...]`: a hash of `rows` `[..., m]` that goes by the values and their places."""
    rows = np.asarray(rows)
    places = scatter(np.arange(rows.shape[-1]), 2 * salt + 1)  # salted, or value 3 at place 2 would be 2 at place 3
    return mix(mix(scatter(rows) ^ places).sum(-1, dtype=np.uint64) + np.uint64(rows.shape[-1]))


def in_any_order(hashes: Hashes) -> Hashes:
    """`[...]`: a hash of the multiset of `hashes` `[..., m]`."""
    return mix(mix(hashes).sum(-1, dtype=np.uint64))

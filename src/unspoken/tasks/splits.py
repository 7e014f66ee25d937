"""Train, validation and test: which example is in which, up to symmetry, and how each fills up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unspoken.tasks.base import SPLITS
from unspoken.tasks.hashing import Hashes

SHARES = (14, 1, 1)  # of all there is; fixed, so that no recipe trains on what another tests on


def assign(hashes: Hashes, shares: tuple[float, float, float] = SHARES) -> NDArray[np.int64]:
    """`[n]`: 0 (train), 1 (validation) or 2 (test): three ranges of the hash, in proportion to `shares`."""
    edges = np.cumsum(shares[::-1])[:2] / sum(shares)
    return 2 - np.searchsorted(edges, hashes.astype(np.float64) / 2.0**64, side="right")


@dataclass
class Bin:
    """A split while it fills up.

    wanted: rows. distinct: leave duplicates up to symmetry out; they are counted in any case. idle: rows drawn, of
    any split, since the last one that was new here.
    """

    wanted: int
    distinct: bool
    seen: set[int] = field(default_factory=set)
    parts: list[NDArray] = field(default_factory=list)
    have: int = 0
    duplicates: int = 0
    idle: int = 0

    def add(self, rows: NDArray, hashes: Hashes, drawn: int) -> None:
        """As many of the rows as there is room for."""
        keep: list[int] = []
        for i, code in enumerate(hashes.tolist()):
            if self.have + len(keep) == self.wanted:
                break
            repeated = code in self.seen
            self.seen.add(code)
            self.duplicates += repeated
            if not (repeated and self.distinct):
                keep.append(i)
        self.parts.append(rows[keep])
        self.have += len(keep)
        self.idle = 0 if keep or self.have == self.wanted else self.idle + drawn

    @property
    def rows(self) -> NDArray:
        """All of them."""
        return np.concatenate(self.parts)


def bins_of(sizes: Sequence[int], distinct: bool) -> list[Bin]:
    """Empty ones for train, validation and test. The last two hold no example twice; where `distinct`, none does."""
    return [Bin(size, distinct or split != "train") for split, size in zip(SPLITS, sizes, strict=True)]


def distribute(bins: list[Bin], rows: NDArray, hashes: Hashes, shares: tuple[float, float, float] = SHARES) -> None:
    """Each row to the bin of its split."""
    split_of = assign(hashes, shares)
    for split, part in enumerate(bins):
        mine = split_of == split
        part.add(rows[mine], hashes[mine], len(rows))


def check_patience(bins: list[Bin], patience: int, instead: str) -> None:
    """ValueError where `patience` rows were drawn without one for a bin that is not full. instead: what to write."""
    if max(part.idle for part in bins) <= patience:
        return
    asked = ", ".join(f"{name}={part.wanted}" for name, part in zip(SPLITS, bins, strict=True))
    found = ", ".join(f"{name}={part.have}" for name, part in zip(SPLITS, bins, strict=True))
    raise ValueError(
        f"{asked} given, but only {found} were found: validation and test hold examples that differ by more than a "
        f"symmetry, and there are few of them; write at most these sizes, or {instead}"
    )

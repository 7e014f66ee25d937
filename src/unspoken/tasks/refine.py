"""For tasks that are drawn at random and the same up to names and order: hashes blind to both, and random draws.

A node's colour is a hash; a round of colour refinement joins to it the multiset of its neighbours' colours
(Weisfeiler & Leman 1968). What is the same up to names always gets the same hash; what is not, nearly always another.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.tasks.hashing import Hashes, in_any_order, in_order, mix
from unspoken.tasks.store import Rows

_TRIES = 2_048  # candidates at a time, which bounds the memory
_ENOUGH = 100_000  # candidates, after which there should be one that is kept in 10,000


def collected(values: Hashes, places: NDArray[np.int64], size: int) -> Hashes:
    """`[n, size]`: at each place of a row the sum of `values` `[n, m]` whose `places` `[n, m]` it is."""
    sums = np.zeros((len(values), size), np.uint64)
    np.add.at(sums.reshape(-1), (places + size * np.arange(len(values))[:, None]).reshape(-1), values.reshape(-1))
    return sums


def refine(colours: Hashes, sources: NDArray[np.int64], targets: NDArray[np.int64], rounds: int = 6) -> Hashes:
    """`[n]`: a hash of directed graphs with coloured nodes, the same whatever the nodes' names and the edges' order.

    colours: `[n, nodes]`. sources, targets: `[n, edges]` nodes; an undirected edge is written both ways.
    """
    size = colours.shape[1]
    for _ in range(rounds):
        sent = mix(colours)
        into = collected(np.take_along_axis(sent, sources, 1), targets, size)
        out = collected(np.take_along_axis(sent, targets, 1), sources, size)
        colours = in_order(np.stack([colours, into, out], axis=-1))
    return in_any_order(colours)


def subsets(n: int, size: int, chosen: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`[n, chosen]`: distinct numbers of 0..size-1 in random order, every choice as likely as any other."""
    keys = rng.random((n, size))
    first = keys.argpartition(chosen - 1, axis=1)[:, :chosen]  # in an order that differs from processor to processor
    order = np.take_along_axis(keys, first, 1).argsort(1)
    return np.take_along_axis(first, order, 1)


def permutations(n: int, size: int, generator: torch.Generator) -> Tensor:
    """`[n, size]` int64 on the CPU, as stored examples are: a random order of 0..size-1 in each row."""
    keys = torch.rand(n, size, generator=generator, device=generator.device, dtype=torch.float64)
    return keys.argsort(1).cpu()


def rejection(n: int, attempt: Callable[[int], Rows], advice: str) -> Rows:
    """`[n, length]`: the first n rows that attempts of so many candidates keep; ValueError where it is hopeless."""
    kept: list[Rows] = []
    have = tried = 0
    while have < n:
        size = min(_TRIES, 2 * (n - have) + 64)
        kept.append(attempt(size))
        have, tried = have + len(kept[-1]), tried + size
        if tried > _ENOUGH and have < tried / 10_000:
            raise ValueError(
                f"{have} of {tried} random questions can be answered, 1 in 10,000 expected; write {advice}"
            )
    return np.concatenate(kept)[:n] if kept else attempt(0)

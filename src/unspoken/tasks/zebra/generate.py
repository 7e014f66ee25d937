"""Random puzzles with one solution, none of whose clues can be dropped.

Of the true clues of a random grid some of each kind are drawn. That they leave no other grid is asked of a SAT solver:
a clue is switched on by an assumption, the grid itself is forbidden, and there is one solution where there is none
left. What the proof did not use is dropped, then each clue that can be missed, one after the other in random order.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from unspoken.extras import need
from unspoken.tasks.zebra.clues import ARITY, RELATIONS, SYMMETRIC, Clue, Size


def draw_puzzle(size: Size, rng: np.random.Generator) -> tuple[list[Clue], list[int]]:
    """The clues in random order, and the grid: the value of each house, attribute by attribute."""
    grid = rng.permuted(np.tile(np.arange(size.houses), (size.attributes, 1)), axis=1)
    place = grid.argsort(1).ravel()
    each = size.houses + size.attributes
    while True:
        clues = _true_clues(place, size, each, rng)
        if kept := _minimal(clues, place, size, rng):
            return kept, grid.ravel().tolist()
        each *= 2


def _true_clues(place: NDArray[np.int64], size: Size, each: int, rng: np.random.Generator) -> list[Clue]:
    """Up to `each` distinct clues of each kind that hold, none that always does, in random order."""
    clues: list[Clue] = []
    for kind, holds in enumerate(_informative(size)):
        true = holds.copy()
        axes = np.ix_(*[place] * ARITY[kind])
        for i, j, relation in RELATIONS[kind]:
            true &= relation(axes[i], axes[j], size.houses)
        found = np.argwhere(true)
        found = rng.choice(found, min(each, len(found)), replace=False)
        if SYMMETRIC[kind]:
            found = rng.permuted(found, axis=1)
        clues += [Clue(kind, tuple(things)) for things in found.tolist()]
    return [clues[i] for i in rng.permutation(len(clues))]


@lru_cache(maxsize=32)
def _informative(size: Size) -> list[NDArray[np.bool_]]:
    """For each kind which things `[cells, ...]` make a clue that is neither always true nor another one's double."""
    thing = np.arange(size.cells)
    attribute = thing // size.houses
    less, other = thing[:, None] < thing, thing[:, None] != thing
    across = attribute[:, None] != attribute
    return [
        less & across,
        less & across,
        other,
        other,
        less,
        np.ones(size.cells, bool),
        other[:, :, None] & other[None] & other[:, None],
    ]


def _minimal(clues: list[Clue], place: NDArray[np.int64], size: Size, rng: np.random.Generator) -> list[Clue]:
    """Of the clues as many as leave no grid but `place`, and would with none less; none where all are too few."""
    need("pysat", "puzzles")
    from pysat.solvers import Minisat22

    first = size.cells * size.houses + 1  # the switch of the first clue
    with Minisat22(bootstrap_with=_permutations(size)) as solver:
        solver.add_clause([-(t * size.houses + p + 1) for t, p in enumerate(place.tolist())])
        for i, clue in enumerate(clues):
            things = [t * size.houses + 1 for t in clue.things]
            for a, p, b, q in _forbidden(size.houses)[clue.kind]:
                solver.add_clause([-(first + i), -(things[a] + p), -(things[b] + q)])
        if solver.solve(assumptions=list(range(first, first + len(clues)))):
            return []
        core = rng.permutation(sorted(solver.get_core() or [])).tolist()
        needed: list[int] = []
        while core:
            tried = core.pop()
            if solver.solve(assumptions=needed + core):
                needed.append(tried)
            else:
                used = set(solver.get_core() or [])
                core = [switch for switch in core if switch in used]
    return [clues[switch - first] for switch in rng.permutation(needed)]


@lru_cache(maxsize=32)
def _permutations(size: Size) -> list[list[int]]:
    """Clauses: each thing is in one house, and each house has one of each attribute.

    The variable t * houses + p + 1 says that thing t is in house p.
    """
    clauses = []
    for attribute in range(size.attributes):
        cells = np.arange(size.houses**2).reshape(size.houses, size.houses) + attribute * size.houses**2 + 1
        for line in [*cells.tolist(), *cells.T.tolist()]:
            clauses += [line, *([-a, -b] for a, b in combinations(line, 2))]
    return clauses


@lru_cache(maxsize=8)
def _forbidden(houses: int) -> list[list[tuple[int, int, int, int]]]:
    """For each kind the (i, p, j, q) such that its i-th thing is not in p while its j-th is in q."""
    return [
        [
            (i, p, j, q)
            for i, j, relation in relations
            for p in range(houses)
            for q in range(houses)
            if (i != j or p == q) and not relation(p, q, houses)
        ]
        for relations in RELATIONS
    ]

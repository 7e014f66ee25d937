"""How far a puzzle comes without a guess."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from unspoken.tasks.zebra.clues import RELATIONS, Size


def open_cells(kind: Tensor, things: Tensor, size: Size) -> Tensor:
    """`[n]` int64: cells of the grid that propagation leaves open; 0 where it solves the puzzle.

    It rules out a house for a thing when one clue alone leaves the other thing nowhere to go, when another value of
    the attribute is already there, and when the thing is the only one of its attribute left for another house.
    """
    ends = torch.stack([things[..., :2], things[..., 1:]], dim=2)  # [n, clues, 2, 2]: the things of two relations
    allowed = _tables(size.houses)[kind]
    # `ends` is a relation of a thing to itself, and what is not a thing is related to anything.
    ends = torch.where(_same(kind)[..., None], ends[..., :1], ends).flatten(1, 2)
    allowed = allowed.flatten(1, 2)
    left, right = ends.unbind(-1)
    may = torch.ones(len(kind), size.things, size.houses, dtype=torch.bool)  # thing t may be in house p
    may[:, size.cells :] = torch.eye(size.houses, dtype=torch.bool)
    while True:
        before = may
        may = _narrow(may, left, allowed & _of(may, right)[:, :, None])
        may = _narrow(may, right, (allowed & _of(may, left)[..., None]).transpose(2, 3))
        may = _alone(_alone(may.unflatten(1, (-1, size.houses))).transpose(2, 3)).transpose(2, 3).flatten(1, 2)
        if torch.equal(may, before):
            return (may[:, : size.cells].sum(2) > 1).sum(1)


def _of(may: Tensor, things: Tensor) -> Tensor:
    return may.gather(1, things[..., None].expand(-1, -1, may.shape[2]))


def _narrow(may: Tensor, things: Tensor, pairs: Tensor) -> Tensor:
    """`may` without the houses of things `[n, m]` that are in no pair of `[n, m, houses, houses]`."""
    index = things[..., None].expand(-1, -1, may.shape[2])
    return may.byte().scatter_reduce(1, index, pairs.any(3).byte(), "amin").bool()


def _alone(may: Tensor) -> Tensor:
    """`[..., m, m]`: where a row has one entry left, no other row of the square has it."""
    only = may & (may.sum(-1, keepdim=True) == 1)
    return may & (only | ~only.any(-2, keepdim=True))


def _same(kind: Tensor) -> Tensor:
    """`[n, clues, 2]`: which of the two relations are between a thing and itself."""
    same = [[relations[0][0] == relations[0][1], False] for relations in (*RELATIONS, ((0, 1, None),))]
    return torch.tensor(same)[kind]


@lru_cache(maxsize=8)
def _tables(houses: int) -> Tensor:
    """`[kinds + 1, 2, houses, houses]`: which two houses each relation of a kind allows; any where there is none."""
    tables = torch.ones(len(RELATIONS) + 1, 2, houses, houses, dtype=torch.bool)
    p, q = torch.arange(houses)[:, None], torch.arange(houses)
    for kind, relations in enumerate(RELATIONS):
        for nth, (_, _, relation) in enumerate(relations):
            tables[kind, nth] = relation(p, q, houses)
    return tables

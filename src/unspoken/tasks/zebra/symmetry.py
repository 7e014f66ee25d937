"""Batches of puzzles as arrays, and what leaves a puzzle the same.

The names of the attributes and of the values of each; the order of the clues, and of the things in a clue where it
means nothing; and left and right.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.tasks.hashing import Hashes, in_any_order, mix, scatter
from unspoken.tasks.refine import collected
from unspoken.tasks.zebra.clues import ARITY, ID, KINDS, SYMMETRIC, Size

NONE = len(KINDS)  # the kind of a clue that is not there
_WIDTH = 14  # words of the longest clue
_THINGS = torch.tensor([*ARITY, 0])
_FREE = torch.tensor([*SYMMETRIC, True])
_ROUNDS = 5  # of colour refinement; puzzles of up to 6x6 stop gaining before


def unpack(words: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Kinds `[n, clues]` and things `[n, clues, 3]` of words `[n, room]` that are clues, and then EXTRA.

    Behind the last clue the kind is NONE; where a clue has no further thing, it is 0.
    """
    starts = (words >= ID["="]) & (words < ID["="] + NONE)
    clue = starts.cumsum(1) - 1
    n, most = len(words), int(starts.sum(1).amax()) if len(words) else 0
    kind = torch.full((n, most), NONE, device=words.device)
    row, at = starts.nonzero(as_tuple=True)
    kind[row, clue[row, at]] = words[row, at] - ID["="]
    marks = (words == ID["c"]) | (words == ID["n"])
    row, at = marks.nonzero(as_tuple=True)
    attribute = torch.where(words[row, at] == ID["n"], size.attributes, words[row, at + 1])
    arity = _THINGS.to(words.device)[kind]
    before = arity.cumsum(1) - arity  # things in the clues before each one
    mine = clue[row, at]
    things = torch.zeros(n, most, 3, dtype=torch.int64, device=words.device)
    things[row, mine, marks.cumsum(1)[row, at] - 1 - before[row, mine]] = attribute * size.houses + words[row, at + 2]
    return kind, things


def pack(kind: Tensor, things: Tensor, size: Size, room: int) -> Tensor:
    """`[n, room]` words, EXTRA behind the last clue: the inverse of `unpack`."""
    attribute, value = things // size.houses, things % size.houses
    house = attribute == size.attributes
    words = torch.full((*kind.shape, _WIDTH), ID["CLUE_END"], device=kind.device)
    words[..., 0] = kind + ID["="]
    words[..., 1:13:4] = torch.tensor([ID["LHS"], ID["RHS"], ID["RHS"]], device=kind.device)
    words[..., 2:13:4] = torch.where(house, ID["n"], ID["c"])
    words[..., 3:13:4] = torch.where(house, 0, attribute)
    words[..., 4:13:4] = value
    ends = 4 * _THINGS.to(kind.device)[kind][..., None] + 1
    column = torch.arange(_WIDTH, device=kind.device)
    words = torch.where(column == ends, ID["CLUE_END"], words).flatten(1)
    said = ((column <= ends) & (kind != NONE)[..., None]).flatten(1)
    out = torch.full((len(kind), room), ID["EXTRA"], device=kind.device)
    row, at = said.nonzero(as_tuple=True)
    out[row, said.cumsum(1)[row, at] - 1] = words[row, at]
    return out


def disguise(
    kind: Tensor, things: Tensor, grid: Tensor, size: Size, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Kinds, things and grid `[n, cells]` of each puzzle under a random symmetry of its own."""
    (n, clues), device = kind.shape, kind.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator, device=generator.device).to(device)

    turned = uniform(1) < 0.5
    rows = uniform(size.attributes).argsort(1)  # the new name of each attribute
    names = uniform(size.attributes, size.houses).argsort(2)  # and of each value
    house = torch.arange(size.houses, device=device)
    houses = torch.where(turned, house.flip(0), house)
    renamed = torch.cat([(rows[..., None] * size.houses + names).flatten(1), size.cells + houses], dim=1)
    things = renamed.gather(1, things.flatten(1)).unflatten(1, (clues, 3))

    ordered = ~_FREE.to(device)[kind]
    swapped = torch.where(ordered, turned, uniform(clues) < 0.5) & (kind != KINDS.index("ends"))
    reverse = torch.where((kind == KINDS.index("inbetween"))[..., None], things[..., [2, 1, 0]], things[..., [1, 0, 2]])
    things = torch.where(swapped[..., None], reverse, things)

    order = (uniform(clues) + 2 * (kind == NONE)).argsort(1)
    kind, things = kind.gather(1, order), things.gather(1, order[..., None].expand(-1, -1, 3))
    grid = names.gather(2, grid.unflatten(1, (size.attributes, size.houses)))
    grid = grid.gather(1, rows.argsort(1)[..., None].expand_as(grid)).gather(2, houses[:, None].expand_as(grid))
    return kind, things, grid.flatten(1)


def canonical(kind: NDArray[np.int64], things: NDArray[np.int64], size: Size) -> Hashes:
    """`[n]`: a 64-bit hash of each question that no symmetry changes.

    Colour refinement: things and clues exchange hashes of what they belong to, always as sums, so that no name and no
    order gets in; of left to right and right to left the smaller hash counts. Puzzles that are equal up to symmetry
    have equal hashes. The converse does not hold: puzzles that refinement cannot tell apart are taken for equal, which
    costs a puzzle and leaks none.
    """
    return np.minimum(_one_way(kind, things, size, turned=False), _one_way(kind, things, size, turned=True))


def _one_way(kind: NDArray[np.int64], things: NDArray[np.int64], size: Size, turned: bool) -> Hashes:
    arity = _THINGS.numpy()[kind][..., None]
    slot = np.arange(3)
    there = slot < arity
    part = np.where(_FREE.numpy()[kind][..., None], 0, arity - 1 - slot if turned else slot)
    role = scatter(4 * kind[..., None] + part, salt=1)  # [n, clues, 3]: what a thing is in a clue
    house = np.arange(size.houses)
    start = np.concatenate([np.full(size.cells, size.houses), house[::-1] if turned else house])
    colour = np.tile(scatter(start, salt=2), (len(kind), 1))
    row = np.arange(len(kind))
    clue, places = np.zeros(kind.shape, np.uint64), things.reshape(len(things), -1)
    for _ in range(_ROUNDS):
        seen = mix(colour[row[:, None, None], things] ^ role)
        clue = mix(np.where(there, seen, 0).sum(-1, dtype=np.uint64)) * there[..., 0]
        told = np.where(there, mix(clue[..., None] ^ role), 0)
        news = collected(told.reshape(len(told), -1), places, colour.shape[1])
        families = in_any_order(colour[:, : size.cells].reshape(-1, size.attributes, size.houses))
        news[:, : size.cells] += np.repeat(families, size.houses, axis=1)
        colour = mix(mix(colour) + news)
    return mix(clue.sum(-1, dtype=np.uint64)) + in_any_order(colour)

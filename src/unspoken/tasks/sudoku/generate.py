"""New puzzles: a random full grid, then cells removed for as long as the solution stays the only one."""

from __future__ import annotations

import numpy as np

from unspoken.tasks.sudoku.rules import Board, Box, check_box, geometry
from unspoken.tasks.sudoku.search import candidates, clear, draw, jit, load, mix64, place, search, workspace

VERSION = 1  # part of every cache key: raise it when the same seed would give other puzzles

_ATTEMPTS = 1000  # grids dug before `givens` is declared out of reach


@jit
def _fill(stack, branch, units, unit_of, rng, solution):
    """A random full grid by backtracking over random candidates, started afresh whenever it gets stuck."""
    found = 0
    while found == 0:
        clear(stack[0], units)
        found, _ = search(stack, branch, units, unit_of, 1, 20 * unit_of.shape[0], rng, solution)


@jit
def _needed(stack, branch, units, unit_of, cell, bit, none, scratch):
    """Is there a solution of `stack[0]`, its `cell` now blank, with another digit than `bit` in the cell?"""
    before = stack[0].copy()
    others = candidates(before, unit_of, cell) ^ bit
    found = 0
    while others and found == 0:
        other = others & -others
        others ^= other
        stack[0] = before
        place(stack[0], unit_of, cell, other)
        found, _ = search(stack, branch, units, unit_of, 1, 0, none, scratch)
    stack[0] = before
    return found > 0


@jit
def _dig(stack, branch, units, unit_of, givens, rng, solution, puzzle):
    """Remove cells in random order, down to `givens`, while the solution stays unique; returns the givens left."""
    cells = unit_of.shape[0]
    order, none, scratch = np.arange(cells), np.zeros(0, np.uint64), np.zeros(cells, np.uint8)
    load(stack[0], units, unit_of, solution)
    puzzle[:] = solution
    left = cells
    for i in range(cells):
        if left == givens:
            break
        j = i + draw(rng, cells - i)
        order[i], order[j] = order[j], order[i]
        cell = order[i]
        bit = stack[0][cell]
        place(stack[0], unit_of, cell, bit)
        if _needed(stack, branch, units, unit_of, cell, bit, none, scratch):
            place(stack[0], unit_of, cell, bit)
        else:
            puzzle[cell] = 0
            left -= 1
    return left


@jit
def _generate(seeds, units, unit_of, givens, puzzles, solutions):
    """Fill `puzzles` and `solutions`; returns the index of a puzzle that missed `givens`, or -1."""
    stack, branch = workspace(units, unit_of)
    rng = np.zeros(1, np.uint64)
    for i in range(seeds.shape[0]):
        rng[0] = seeds[i]
        for attempt in range(_ATTEMPTS):
            _fill(stack, branch, units, unit_of, rng, solutions[i])
            left = _dig(stack, branch, units, unit_of, givens, rng, solutions[i], puzzles[i])
            if givens == 0 or left == givens:
                break
            if attempt == _ATTEMPTS - 1:
                return i
    return -1


@jit
def _seeds(seed, start, out):
    for i in range(out.shape[0]):
        out[i] = mix64(mix64(seed) ^ (start + np.uint64(i)))


def generate(box: Box, count: int, seed: int = 0, givens: int = 0, start: int = 0) -> tuple[Board, Board]:
    """Puzzles `start` to `start + count - 1` of the endless sequence of `seed`, each with its only solution.

    Returns puzzles and solutions, `[count, cells]` each, 0 = blank. A puzzle has exactly `givens` givens, or,
    for `givens=0`, is minimal: without any one of its givens it has several solutions. Puzzle i depends on
    (box, seed, givens, i) alone, however the sequence is cut into calls. Proving uniqueness is exponential at
    worst: minimal boards wider than 9 can take very long, so set `givens` (about half of the cells) there.
    """
    cells = check_box(box) ** 2
    if not 0 <= givens <= cells:
        raise ValueError(f"givens={givens} given, 0 (minimal) to {cells} expected for a board of {cells} cells")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed} given, 0 <= seed < 2**63 expected")
    seeds = np.zeros(count, np.uint64)
    _seeds(np.uint64(seed), np.uint64(start), seeds)
    puzzles, solutions = np.zeros((count, cells), np.uint8), np.zeros((count, cells), np.uint8)
    if _generate(seeds, *geometry(box), givens, puzzles, solutions) >= 0:
        raise ValueError(
            f"givens={givens} given, but {_ATTEMPTS} grids in a row could not be dug that far with boxes of "
            f"{box[0]} x {box[1]}; write a larger givens, or givens=0 for puzzles that are minimal"
        )
    return puzzles, solutions

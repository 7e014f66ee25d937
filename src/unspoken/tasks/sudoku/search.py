"""The inner loops of the solver and the generator, compiled by numba at first call.

They share one file because numba's cache on disk notices a change of the file of a function, not of what it calls.

A digit d is the bit `1 << (d - 1)`, so the candidates of a cell are one AND of three masks. `units` `[3n, n]`
are the cells of each row, column and box, `unit_of` `[cells, 3]` the units of each cell (see
`rules.geometry`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from unspoken.tasks.hashing import mix

DEAD, SOLVED = -2, -1


def jit(function):
    """Compiled, and kept on the disk where there is a place for it: not every user of a container has one."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


mix64 = jit(mix)  # of one number: the randomness of the generator and the hash of the invariant


@jit
def draw(rng, below):
    """A number in 0..below-1; `rng` is a splitmix64 state, an array of one uint64."""
    rng[0] += np.uint64(0x9E3779B97F4A7C15)
    return np.int64(mix64(rng[0]) % np.uint64(below))


@jit
def workspace(units, unit_of):
    """A stack of search states and of open branches.

    A state is `[cells + 3n]`: the bit placed in each cell (0 = blank), then the bits still free in each unit.
    """
    cells = unit_of.shape[0]
    stack = np.zeros((cells + 1, cells + units.shape[0]), np.int64)
    return stack, np.zeros((cells + 1, 2), np.int64)


@jit
def clear(state, units):
    """Make `state` the empty board."""
    cells = state.shape[0] - units.shape[0]
    state[:cells] = 0
    state[cells:] = (1 << units.shape[1]) - 1


@jit
def candidates(state, unit_of, cell):
    """The bits that the units of `cell` still leave free."""
    cells = unit_of.shape[0]
    return state[cells + unit_of[cell, 0]] & state[cells + unit_of[cell, 1]] & state[cells + unit_of[cell, 2]]


@jit
def place(state, unit_of, cell, bit):
    """Write a bit into a blank cell; calling it again on the same cell takes it back (it is an XOR)."""
    cells = unit_of.shape[0]
    state[cell] ^= bit
    for k in range(3):
        state[cells + unit_of[cell, k]] ^= bit


@jit
def load(state, units, unit_of, board):
    """Make `state` the given board; False when a digit is out of range or stands twice in a unit."""
    clear(state, units)
    for cell in range(unit_of.shape[0]):
        if board[cell] == 0:
            continue
        if board[cell] > units.shape[1]:
            return False
        bit = 1 << (np.int64(board[cell]) - 1)
        if candidates(state, unit_of, cell) & bit == 0:
            return False
        place(state, unit_of, cell, bit)
    return True


@jit
def store(state, board):
    """Write the digits of a full `state` into `board`."""
    for cell in range(board.shape[0]):
        digit, bit = 0, state[cell]
        while bit:
            digit, bit = digit + 1, bit >> 1
        board[cell] = digit


@jit
def _naked_singles(state, unit_of):
    """Fill cells with one candidate; return how many, or DEAD when a cell has none."""
    placed = 0
    for cell in range(unit_of.shape[0]):
        if state[cell]:
            continue
        bits = candidates(state, unit_of, cell)
        if bits == 0:
            return DEAD
        if bits & (bits - 1) == 0:
            place(state, unit_of, cell, bits)
            placed += 1
    return placed


@jit
def _hidden_singles(state, units, unit_of):
    """Fill digits with one place in a unit; return how many, or DEAD when a digit has no place."""
    cells, placed = unit_of.shape[0], 0
    for unit in range(units.shape[0]):
        if state[cells + unit] == 0:
            continue
        once, twice = 0, 0
        for cell in units[unit]:
            if state[cell] == 0:
                bits = candidates(state, unit_of, cell)
                twice |= once & bits
                once |= bits
        if once != state[cells + unit]:
            return DEAD
        hidden = once & ~twice
        if hidden == 0:
            continue
        for cell in units[unit]:
            bits = 0 if state[cell] else candidates(state, unit_of, cell) & hidden
            if bits & (bits - 1):
                return DEAD  # two digits that both need this one cell
            if bits:
                place(state, unit_of, cell, bits)
                placed += 1
    return placed


@jit
def _fewest(state, unit_of):
    """The blank cell with the fewest candidates (the first of them), or SOLVED when none is blank."""
    best, best_count = SOLVED, 1 << 30
    for cell in range(unit_of.shape[0]):
        if state[cell]:
            continue
        bits, count = candidates(state, unit_of, cell), 0
        while bits:
            bits, count = bits & (bits - 1), count + 1
        if count < best_count:
            best, best_count = cell, count
            if count == 2:
                break
    return best


@jit
def propagate(state, units, unit_of):
    """Fill naked, then hidden singles until none is left; return DEAD, SOLVED or the cell to branch on."""
    while True:
        placed = _naked_singles(state, unit_of)
        if placed == 0:
            placed = _hidden_singles(state, units, unit_of)
        if placed == DEAD:
            return DEAD
        if placed == 0:
            return _fewest(state, unit_of)


@jit
def _pick(bits, rng):
    """The lowest of `bits`, or a random one when `rng` is a state rather than an empty array."""
    if rng.shape[0]:
        count, rest = 0, bits
        while rest:
            rest, count = rest & (rest - 1), count + 1
        for _ in range(draw(rng, count)):
            bits &= bits - 1
    return bits & -bits


@jit
def search(stack, branch, units, unit_of, limit, budget, rng, board):
    """Depth-first search from `stack[0]`; the first solution goes into `board`.

    Stops after `limit` solutions or `budget` guesses (0 = no budget). Returns (solutions, guesses): a guess
    is one candidate tried where propagation had run out.
    """
    found, guesses, depth = 0, 0, 0
    cell = propagate(stack[0], units, unit_of)
    while True:
        branch[depth, 1] = 0
        if cell == SOLVED:
            found += 1
            if found == 1:
                store(stack[depth], board)
            if found >= limit:
                return found, guesses
        elif cell != DEAD:
            branch[depth, 0] = cell
            branch[depth, 1] = candidates(stack[depth], unit_of, cell)
        while depth >= 0 and branch[depth, 1] == 0:
            depth -= 1
        if depth < 0 or (budget and guesses >= budget):
            return found, guesses
        bit = _pick(branch[depth, 1], rng)
        branch[depth, 1] ^= bit
        stack[depth + 1] = stack[depth]
        place(stack[depth + 1], unit_of, branch[depth, 0], bit)
        guesses += 1
        depth += 1
        cell = propagate(stack[depth], units, unit_of)


@jit
def solve_batch(boards, units, unit_of, limit, rng, counts, guesses, solutions):
    """Search each board; one whose givens clash keeps the count it came with."""
    stack, branch = workspace(units, unit_of)
    for i in range(boards.shape[0]):
        if load(stack[0], units, unit_of, boards[i]):
            counts[i], guesses[i] = search(stack, branch, units, unit_of, limit, 0, rng, solutions[i])


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
    """Blank cells in random order, down to `givens`, while the solution stays unique; return the givens left."""
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
def generate_batch(seeds, units, unit_of, givens, attempts, puzzles, solutions):
    """Fill `puzzles` and `solutions`; returns the index of a puzzle that missed `givens`, or -1."""
    stack, branch = workspace(units, unit_of)
    rng = np.zeros(1, np.uint64)
    for i in range(seeds.shape[0]):
        rng[0] = seeds[i]
        for attempt in range(attempts):
            _fill(stack, branch, units, unit_of, rng, solutions[i])
            left = _dig(stack, branch, units, unit_of, givens, rng, solutions[i], puzzles[i])
            if givens == 0 or left == givens:
                break
            if attempt == attempts - 1:
                return i
    return -1

"""Laws of the solver, the judge and the generator, each against a judge of another make."""

import itertools

import numpy as np
import pytest
from pysat.card import CardEnc
from pysat.solvers import Cadical153
from symmetric import canonical

from unspoken.tasks.sudoku.rules import generate, is_solution, solve

BOXES = [(2, 2), (2, 3), (3, 2), (2, 4), (3, 3)]


def sat_solutions(puzzle, box, limit=2):
    """Solutions by a SAT solver that knows the rules from here only."""
    side = box[0] * box[1]
    lit = np.arange(1, side**3 + 1).reshape(side, side, side)
    groups = [lit.reshape(-1, side)]
    groups += [lit[:, :, d] for d in range(side)] + [lit[:, :, d].T for d in range(side)]
    for r, c in itertools.product(range(0, side, box[0]), range(0, side, box[1])):
        groups.append(lit[r : r + box[0], c : c + box[1]].reshape(-1, side).T)
    found = []
    with Cadical153() as solver:
        for group in np.concatenate(groups).tolist():
            for clause in CardEnc.equals(group, encoding=0).clauses:
                solver.add_clause(clause)
        for cell in np.flatnonzero(puzzle):
            solver.add_clause([int(lit.reshape(-1, side)[cell, puzzle[cell] - 1])])
        while len(found) < limit and solver.solve():
            model = [x for x in solver.get_model() or [] if x > 0]
            found.append((np.array(model) - 1) % side + 1)
            solver.add_clause([-x for x in model])
    return found


@pytest.fixture(scope="module")
def grids():
    """All full 4x4 boards by trying rows that are permutations."""
    rows = list(itertools.permutations(range(1, 5)))
    fits = {(a, b) for a in rows for b in rows if all(x != y for x, y in zip(a, b, strict=True))}
    boards = []
    for a, b in fits:
        if len({*a[:2], *b[:2]}) < 4:
            continue
        for c, d in fits:
            if len({*c[:2], *d[:2]}) == 4 and {(a, c), (a, d), (b, c), (b, d)} <= fits:
                boards.append(a + b + c + d)
    return np.array(boards, np.uint8)


def test_there_are_288_grids_of_4x4(grids):
    assert len({tuple(grid) for grid in grids.tolist()}) == 288
    assert solve(np.zeros((1, 16), np.uint8), (2, 2), limit=1000)[0] == 288


def test_count_equals_brute_force_on_4x4(grids):
    rng = np.random.default_rng(0)
    for trial in range(400):
        puzzle = grids[rng.integers(288)] * (rng.random(16) < rng.random())
        if trial % 3 == 0:
            puzzle[rng.integers(16)] = rng.integers(1, 5)
        brute = ((puzzle == 0) | (grids == puzzle)).all(1)
        assert solve(puzzle[None], (2, 2), limit=1000)[0][0] == brute.sum()
        assert solve(puzzle[None], (2, 2))[0][0] == min(2, brute.sum())
        if brute.any():
            assert solve(puzzle[None], (2, 2))[2].tolist()[0] in grids[brute].tolist()


def test_the_judge_equals_brute_force_on_4x4(grids):
    rng = np.random.default_rng(1)
    answers = grids[rng.integers(288, size=600)].astype(np.int64)
    prompts = answers * (rng.random((600, 16)) < 0.3)
    rows = np.arange(600)
    wrong = rng.random(600) < 0.5
    answers[rows[wrong], rng.integers(16, size=600)[wrong]] = rng.integers(-1, 7, size=600)[wrong]
    prompts[::5] = grids[rng.integers(288)] * (rng.random(16) < 0.15)  # given that another grid may break
    legal = {tuple(grid) for grid in grids.tolist()}
    expected = [
        tuple(a) in legal and all(p in (0, x) for p, x in zip(q, a, strict=True))
        for q, a in zip(prompts.tolist(), answers.tolist(), strict=True)
    ]
    assert 0 < sum(expected) < 600
    assert is_solution(prompts, answers, (2, 2)).tolist() == expected


def test_the_judge_accepts_every_solution_not_one(grids):
    assert is_solution(np.zeros_like(grids), grids, (2, 2)).all()


@pytest.mark.parametrize("box", BOXES)
def test_minimal_puzzles_have_one_solution_and_no_spare_given(box):
    puzzles, solutions = generate(box, 8, seed=3)
    for puzzle, solution in zip(puzzles, solutions, strict=True):
        found = sat_solutions(puzzle, box)
        assert len(found) == 1 and (found[0] == solution).all()
        for cell in np.flatnonzero(puzzle):
            fewer = puzzle.copy()
            fewer[cell] = 0
            assert len(sat_solutions(fewer, box)) == 2


@pytest.mark.parametrize(("box", "givens"), [((2, 2), 8), ((2, 3), 14), ((3, 3), 32), ((4, 4), 130)])
def test_puzzles_have_the_givens_asked_for_and_one_solution(box, givens):
    puzzles, solutions = generate(box, 5, seed=4, givens=givens)
    assert (np.count_nonzero(puzzles, axis=1) == givens).all()
    assert is_solution(puzzles, solutions, box).all()
    assert all(len(sat_solutions(puzzle, box)) == 1 for puzzle in puzzles)


def test_puzzle_i_does_not_depend_on_how_the_sequence_is_cut():
    whole = generate((2, 3), 20, seed=7)
    for part, start in ((generate((2, 3), 12, seed=7), 0), (generate((2, 3), 8, seed=7, start=12), 12)):
        for a, b in zip(whole, part, strict=True):
            assert (a[start : start + len(b)] == b).all()
    assert (generate((2, 3), 20, seed=8)[0] != whole[0]).any()


def test_grids_are_not_one_grid_in_disguise():
    solutions = generate((2, 3), 3000, seed=0)[1]
    assert len(np.unique(canonical(solutions, (2, 3)), axis=0)) == 49  # all that exist


def singles_solve(puzzle, box):
    """Naked and hidden singles by sets, nothing shared with the solver."""
    side = box[0] * box[1]
    cells = list(itertools.product(range(side), repeat=2))
    groups = [[(i, j) for j in range(side)] for i in range(side)]
    groups += [[(j, i) for j in range(side)] for i in range(side)]
    for r, c in itertools.product(range(0, side, box[0]), range(0, side, box[1])):
        groups.append([(r + i, c + j) for i in range(box[0]) for j in range(box[1])])
    options = {cell: set(range(1, side + 1)) for cell in cells}
    todo = {cell: int(d) for cell, d in zip(cells, puzzle, strict=True) if d}
    done = set()
    while todo:
        cell, digit = todo.popitem()
        done.add(cell)
        options[cell] = {digit}
        for group in groups:
            if cell in group:
                for other in set(group) - {cell}:
                    options[other] = options[other] - {digit}
        todo |= {c: min(o) for c, o in options.items() if len(o) == 1 and c not in done}
        for group, d in itertools.product(groups, range(1, side + 1)):
            places = [c for c in group if d in options[c]]
            if len(places) == 1 and places[0] not in done:
                todo[places[0]] = d
    return len(done) == side * side


@pytest.mark.parametrize(("box", "count"), [((2, 3), 100), ((3, 3), 20)])
def test_zero_guesses_means_that_singles_suffice(box, count):
    puzzles, _ = generate(box, count, seed=5)
    guesses = solve(puzzles, box)[1]
    assert 0 < (guesses > 0).sum() < count
    assert [singles_solve(p, box) for p in puzzles] == (guesses == 0).tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generate((1, 4), 1), "box of 1 x 4 cells is not supported"),
        (lambda: generate((6, 6), 1), "at most 35 wide"),
        (lambda: generate((2, 3), 1, givens=37), "givens=37 given, 0"),
        (lambda: generate((2, 3), 1, seed=-1), "seed=-1 given"),
        (lambda: generate((3, 3), 1, givens=17), "could not be dug that far"),
        (lambda: solve(np.zeros((2, 35), np.uint8), (2, 3)), r"shape \(2, 35\) given, \[n, 36\] expected"),
        (lambda: solve(np.full((1, 36), 7), (2, 3)), "digits 0 to 7 given, 0 .blank. to 6"),
        (lambda: is_solution(np.zeros((2, 16), int), np.zeros((1, 16), int), (2, 2)), "2 prompts and 1 answers"),
    ],
)
def test_bad_calls_say_what_to_write(call, message):
    with pytest.raises(ValueError, match=message):
        call()

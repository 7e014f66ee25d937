"""Laws of the symmetries: they keep the rules, and the invariant keeps still under them."""

import numpy as np
import pytest
import torch
from symmetric import canonical

from unspoken.tasks.sudoku.rules import generate, is_solution, solve
from unspoken.tasks.sudoku.symmetry import Augment, invariant, random_cells, transform

BOXES = [(2, 2), (2, 3), (3, 2), (2, 4), (3, 3)]
SMALL = [(2, 2), (2, 3), (3, 2)]


def moved(puzzles, solutions, box, seed, augment: Augment = "all"):
    tokens, given = transform(
        torch.from_numpy(solutions.astype(np.int64) - 1),
        torch.from_numpy(puzzles > 0),
        box,
        torch.Generator().manual_seed(seed),
        augment,
    )
    solutions = tokens.numpy() + 1
    return solutions * given.numpy(), solutions


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("augment", ["digits", "all"])
def test_transforms_keep_the_rules_and_uniqueness(box, augment):
    puzzles, solutions = generate(box, 200, seed=1)
    new_puzzles, new_solutions = moved(puzzles, solutions, box, 0, augment)
    assert is_solution(new_puzzles, new_solutions, box).all()
    assert (solve(new_puzzles, box)[0] == 1).all()
    assert (np.count_nonzero(new_puzzles, axis=1) == np.count_nonzero(puzzles, axis=1)).all()
    assert (new_solutions != solutions).any(1).mean() > 0.9
    if augment == "digits":
        assert ((new_puzzles > 0) == (puzzles > 0)).all()
    else:
        assert ((new_puzzles > 0) != (puzzles > 0)).any()


@pytest.mark.parametrize("box", BOXES)
def test_moves_are_symmetries_of_the_units(box):
    side = box[0] * box[1]
    cells = random_cells(300, box, torch.Generator().manual_seed(0)).numpy()
    assert (np.sort(cells, 1) == np.arange(side * side)).all()
    row, col = np.divmod(cells.reshape(-1, side, side), side)
    turned = (row[:, 0] != row[:, 0, :1]).any(1)
    assert turned.any() == (box[0] == box[1])
    lines = np.where(turned[:, None], col[:, :, 0], row[:, :, 0])
    bands = lines.reshape(-1, box[1], box[0]) // box[0]
    assert (bands == bands[:, :, :1]).all()
    assert len({tuple(line) for line in lines}) > 1


def test_transform_none_returns_what_came_in_and_leaves_the_generator_alone():
    puzzles, solutions = generate((2, 3), 5)
    new_puzzles, new_solutions = moved(puzzles, solutions, (2, 3), 0, "none")
    assert (new_puzzles == puzzles).all() and (new_solutions == solutions).all()


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("share", [0, 0.7])
def test_invariant_is_equal_under_200_transforms(box, share):
    cells = (box[0] * box[1]) ** 2
    for seed in range(3):
        puzzle, solution = generate(box, 1, seed, givens=int(cells * share))
        many = puzzle.repeat(200, 0), solution.repeat(200, 0)
        images = moved(*many, box, seed)
        assert len(np.unique(images[0], axis=0)) > 50
        assert set(invariant(*images, box)) == set(invariant(puzzle, solution, box))


@pytest.mark.parametrize("box", SMALL)
def test_canonical_is_equal_under_200_transforms(box):
    for seed in range(3):
        puzzle, solution = generate(box, 1, seed)
        images, _ = moved(puzzle.repeat(200, 0), solution.repeat(200, 0), box, seed)
        assert (canonical(images, box) == canonical(puzzle, box)).all()


@pytest.mark.parametrize(("box", "givens"), [((2, 2), 0), ((2, 2), 7), ((2, 3), 0), ((3, 2), 14)])
def test_equal_canonical_forms_have_equal_invariants(box, givens, record_property):
    puzzles, solutions = generate(box, 3000, seed=2, givens=givens)
    _, name = np.unique(canonical(puzzles, box), axis=0, return_inverse=True)
    codes = invariant(puzzles, solutions, box)
    classes, pairs = len(np.unique(name)), len(set(zip(name.tolist(), codes.tolist(), strict=True)))
    assert pairs == classes
    # The converse is no law, but a weak invariant would waste puzzles.
    record_property("separated", f"{len(np.unique(codes))} of {classes}")
    assert len(np.unique(codes)) >= 0.99 * classes


def test_minimal_4x4_puzzles_are_36_up_to_symmetry():
    puzzles, _ = generate((2, 2), 10_000)
    forms = np.unique(canonical(puzzles, (2, 2)), axis=0)
    assert np.bincount(np.count_nonzero(forms, axis=1)).tolist() == [0, 0, 0, 0, 13, 22, 1]


@pytest.mark.parametrize("box", SMALL)
def test_a_canonical_form_is_a_puzzle_of_the_same_class(box):
    puzzles, _ = generate(box, 50)
    forms = canonical(puzzles, box)
    assert (canonical(forms, box) == forms).all()
    assert (solve(forms, box)[0] == 1).all()


def test_canonical_refuses_large_boards():
    with pytest.raises(ValueError, match="3,359,232 symmetries, too many"):
        canonical(np.zeros((1, 81), np.uint8), (3, 3))

"""Sudoku generation: grids that are valid, none of a split in another under the symmetries, and their diversity."""

from typing import Any

import numpy as np
import pytest
import torch

from unspoken.tasks import Sudoku, SudokuGrids
from unspoken.tasks.splits import SPLITS
from unspoken.tasks.sudoku.grids import diversity
from unspoken.tasks.sudoku.symmetry import transform

SMALL: dict[str, Any] = {"train": 2_000, "validation": 50, "test": 50}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path_factory.getbasetemp() / "grids"))


@pytest.mark.parametrize("box", [(2, 2), (2, 3), (3, 3)])
def test_the_judge_agrees_with_sets_on_right_and_corrupted_grids(box: tuple[int, int]) -> None:
    sizes: dict[str, Any] = {"train": 500, "validation": 0, "test": 0} if box == (2, 2) else SMALL
    task = SudokuGrids(box_rows=box[0], box_cols=box[1], **sizes)
    generator = torch.Generator().manual_seed(0)
    x = task.sample("train", 1000, generator)
    assert not x.given.any() and task.score(x.prompt(task.mask_id), x.x0).all()
    cell = torch.randint(task.length, (1000, 1), generator=generator)
    wrong = x.x0.scatter(1, cell, torch.randint(task.side, (1000, 1), generator=generator))
    found = task.score(x.prompt(task.mask_id), wrong)
    assert found.tolist() == [valid(row.view(task.side, -1).numpy(), box) for row in wrong]
    assert 0 < found.double().mean() < 0.5  # the same digit again leaves a grid right
    swapped = x.x0.clone()
    swapped[:, [0, 1]] = swapped[:, [1, 0]]  # two cells of a row: its columns break
    assert not task.score(x.prompt(task.mask_id), swapped).any()


@pytest.mark.parametrize("box", [(2, 3), (3, 3)])
def test_the_judge_of_puzzles_agrees_with_sets_on_right_and_corrupted_answers(box: tuple[int, int]) -> None:
    """A thousand of each; a corrupted one is a given or a blank cell said otherwise, now and then as it was."""
    task = Sudoku(
        box_rows=box[0], box_cols=box[1], givens=0 if box == (2, 3) else 40, train=1000, validation=10, test=10
    )
    x, generator = task.sample("train", 1000), torch.Generator().manual_seed(0)
    cell = torch.randint(task.length, (1000, 1), generator=generator)
    wrong = x.x0.scatter(1, cell, torch.randint(task.side, (1000, 1), generator=generator))
    for rows in (x.x0, wrong):
        kept = ((rows == x.x0) | ~x.given).all(1).tolist()
        theirs = [k and valid(row.view(task.side, -1).numpy(), box) for k, row in zip(kept, rows, strict=True)]
        assert task.score(x.prompt(task.mask_id), rows).tolist() == theirs


def valid(grid: np.ndarray, box: tuple[int, int]) -> bool:
    side, every = len(grid), set(range(len(grid)))
    boxes = [
        grid[r : r + box[0], c : c + box[1]].ravel() for r in range(0, side, box[0]) for c in range(0, side, box[1])
    ]
    return all(set(unit) == every for unit in [*grid, *grid.T, *boxes])


@pytest.mark.parametrize(("box", "kind"), [((2, 3), "digits"), ((3, 3), "all")])
def test_a_disguise_is_the_same_grid_and_another_grid_is_not(box: tuple[int, int], kind) -> None:
    task = SudokuGrids(box_rows=box[0], box_cols=box[1], **SMALL)
    x0 = task.sample("train", 300).x0
    moved, _ = transform(x0, torch.zeros_like(x0, dtype=torch.bool), box, torch.Generator().manual_seed(1), kind)
    assert not torch.equal(moved, x0)
    before, after = (task.canonical(rows.numpy().astype(np.int16)) for rows in (x0, moved))
    assert (before == after).all()
    assert len(set(before.tolist())) > 290


def test_no_split_holds_another_s_grid_and_text_is_read_back() -> None:
    task = SudokuGrids(**SMALL)
    splits = [task.sample(s, n).x0 for s, n in zip(SPLITS, (2000, 50, 50), strict=True)]
    codes = [set(task.canonical(rows.numpy().astype(np.int16)).tolist()) for rows in splits]
    assert not codes[0] & codes[1] and not codes[0] & codes[2] and not codes[1] & codes[2]
    assert all(torch.equal(task.encode(task.show(row)), row) for row in splits[2])
    assert task.describe()["symmetries"] == "digits"
    assert diversity(splits[2]) == 1.0 and diversity(splits[2][:1].expand(50, -1)) == pytest.approx(1 / 50)
    with pytest.raises(ValueError, match="36"):
        task.encode("123")

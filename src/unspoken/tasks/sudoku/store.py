"""The three splits of a task: built once, kept on disk and in memory."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.tasks.base import Split
from unspoken.tasks.progress import progress_bar
from unspoken.tasks.splits import SPLITS, Bin, bins_of, check_patience, distribute
from unspoken.tasks.store import BROKEN, cache_dir, whole
from unspoken.tasks.sudoku.formats import read_puzzles
from unspoken.tasks.sudoku.generate import VERSION, generate
from unspoken.tasks.sudoku.rules import Board, Box, check_box, solve
from unspoken.tasks.sudoku.symmetry import invariant

Arrays = dict[str, NDArray]

_FIELDS = ("puzzle", "solution", "guesses", "duplicates")
_CHUNK, _WIDE_CHUNK = 512, 8  # puzzles drawn between two steps of the bar, up to 9x9 and beyond
_PATIENCE = 100_000  # puzzles drawn without one for a split that is not full, before it is out of reach


@dataclass(frozen=True)
class Recipe:
    """What the stored puzzles depend on; sizes in the order train, validation, test."""

    box: Box
    givens: int
    sizes: tuple[int, int, int]
    seed: int
    path: str


@dataclass(frozen=True)
class Table:
    """One split, ready to sample from.

    tokens: `[n, cells]` int64, the solution's digits less one. given: `[n, cells]` bool. guesses: `[n]`
    int64, the difficulty. duplicates: puzzles equal up to symmetry to an earlier one, kept in train and left
    out elsewhere.
    """

    tokens: Tensor
    given: Tensor
    guesses: Tensor
    duplicates: int


def _generated(recipe: Recipe) -> list[Arrays]:
    """Draw puzzles until every split is full.

    The ranges are fixed, not in proportion to the sizes, so that what is a test puzzle for one
    recipe is not a training puzzle for another.
    """
    bins = bins_of(recipe.sizes)
    start, total = 0, sum(recipe.sizes)
    chunk = _CHUNK if check_box(recipe.box) <= 9 else _WIDE_CHUNK
    with progress_bar() as bar:
        job = bar.add_task("drawing puzzles", total=total)
        while start == 0 or sum(part.have for part in bins) < total:
            puzzle, solution = generate(recipe.box, chunk, recipe.seed, recipe.givens, start)
            distribute(bins, _rows(puzzle, solution), invariant(puzzle, solution, recipe.box))
            check_patience(bins, _PATIENCE, "set more givens: small boards have few puzzles")
            start += chunk
            bar.update(job, completed=sum(part.have for part in bins))
    return [_arrays(part, recipe.box) for part in bins]


def _rows(puzzle: Board, solution: Board) -> Board:
    return np.concatenate([puzzle, solution], axis=1)


def _arrays(part: Bin, box: Box) -> Arrays:
    puzzle, solution = np.split(part.rows, 2, axis=1)
    guesses, duplicates = solve(puzzle, box)[1], np.array(part.duplicates)
    return dict(zip(_FIELDS, (puzzle, solution, guesses, duplicates), strict=True))


def _from_file(recipe: Recipe) -> list[Arrays]:
    """The puzzles of the file, split in proportion to the sizes; a puzzle and its disguises share a split."""
    puzzles = read_puzzles(recipe.path, recipe.box)
    bins = bins_of([len(puzzles)] * len(SPLITS), published=True)
    hashes = invariant(puzzles.puzzle, puzzles.solution, recipe.box)
    distribute(bins, _rows(puzzles.puzzle, puzzles.solution), hashes, recipe.sizes)
    return [_arrays(part, recipe.box) for part in bins]


def cache_file(recipe: Recipe) -> Path:
    """Where the splits of a recipe are kept; a user's file counts by its content, not by its name."""
    key = repr((VERSION, sorted(asdict(recipe).items())))
    if recipe.path:
        content = hashlib.sha256(Path(recipe.path).read_bytes()).hexdigest()
        key = repr((VERSION, recipe.box, recipe.sizes, Path(recipe.path).suffix.lower(), content))
    rows, cols = recipe.box
    return cache_dir() / f"sudoku-{rows}x{cols}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def _save(path: Path, splits: list[Arrays]) -> None:
    flat = {f"{split}_{key}": value for split, part in zip(SPLITS, splits, strict=True) for key, value in part.items()}
    with whole(path) as file:
        np.savez_compressed(file, allow_pickle=False, **flat)


def _read(path: Path, box: Box) -> list[Arrays] | None:
    """The splits of a cache file, or None when there is none or its checksums or shapes are not right."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            splits = [{key: file[f"{split}_{key}"] for key in _FIELDS} for split in SPLITS]
    except BROKEN:
        return None
    cells = check_box(box) ** 2
    shapes = [(part["puzzle"].shape, part["solution"].shape, (len(part["guesses"]), cells)) for part in splits]
    return splits if all(puzzle == solution == right for puzzle, solution, right in shapes) else None


@lru_cache(maxsize=8)
def tables(recipe: Recipe) -> dict[Split, Table]:
    """The splits of a recipe, from memory, else from the cache file, else built and saved."""
    if recipe.path and not Path(recipe.path).is_file():
        raise ValueError(f"{recipe.path}: no such file; a path to a .txt, .csv or .npy file of puzzles expected")
    path = cache_file(recipe)
    splits = _read(path, recipe.box)
    if splits is None:
        splits = _from_file(recipe) if recipe.path else _generated(recipe)
        _save(path, splits)
    return {name: _table(part) for name, part in zip(SPLITS, splits, strict=True)}


def _table(part: Arrays) -> Table:
    tokens = torch.from_numpy(part["solution"].astype(np.int64) - 1)
    given, guesses = torch.from_numpy(part["puzzle"] > 0), torch.from_numpy(part["guesses"])
    return Table(tokens, given, guesses, int(part["duplicates"]))

"""The .npy files of Shah et al. become text that the Sudoku task reads, and every bad row is named."""

import re

import numpy as np
import pytest
from sudoku_npy import convert

from unspoken.tasks import Sudoku
from unspoken.tasks.sudoku.rules import generate

NINE = Sudoku(3, 3)


def some(path, count=6):
    """A file as theirs, blank cells in reading order; its puzzles and solutions."""
    puzzle, solution = generate((3, 3), count, seed=1)
    order = np.argsort(puzzle == 0, axis=1, kind="stable")
    value = np.take_along_axis(solution, order, axis=1).astype(np.int64)
    steps = np.stack([order // 9, order % 9, value, np.zeros_like(value)], axis=2).reshape(-1, 324)
    np.save(path, np.concatenate([np.count_nonzero(puzzle, axis=1)[:, None], steps], axis=1))
    return puzzle, solution


def equal(path, puzzle, solution):
    convert(path, path.with_suffix(".csv"))
    examples = NINE.read(path.with_suffix(".csv"))
    assert ((examples.x0.numpy() + 1) == solution).all() and (examples.given.numpy() == (puzzle > 0)).all()


def test_files_round_trip(tmp_path, capsys):
    equal(tmp_path / "p.npy", *some(tmp_path / "p.npy"))
    assert "6 puzzles" in capsys.readouterr().out


@pytest.mark.parametrize(("line", "value"), [(0, 0), (1, 0), (0, -1), (1, -1)])
def test_npy_may_count_from_0_or_1(tmp_path, line, value):
    path = tmp_path / "p.npy"
    puzzles = some(path)
    rows = np.load(path)
    assert rows.shape == (6, 325)
    steps = rows[:, 1:].reshape(-1, 81, 4)
    steps += np.array([line, line, value, 0])
    np.save(path, rows.astype(np.int16))
    equal(path, *puzzles)


def test_npy_may_list_the_rest_in_any_order(tmp_path):
    path = tmp_path / "p.npy"
    puzzles = some(path, 1)
    rows = np.load(path)
    steps, first = rows[0, 1:].reshape(81, 4), rows[0, 0]
    steps[first:] = steps[first:][::-1].copy()
    np.save(path, rows)
    equal(path, *puzzles)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:, :-1], r"an array \(6, 324\) of int64 given, integers \[n, 325\] expected"),
        (lambda rows: rows.astype(float), "of float64 given"),
        (lambda rows: rows[:0], "holds no puzzle"),
        (lambda rows: set_at(rows, (2, 1), 11), "row 2: rows from 0 to 11 given; rows and columns 0..8 and values"),
        (lambda rows: set_at(rows, (1, 3), 0), "row 1: values from 0 to 9 given"),
        (lambda rows: set_at(rows, (3, slice(1, 5)), rows[3, 5:9]), "row 3: each of the 81 cells is expected once, 80"),
        (lambda rows: set_at(rows, (4, 0), 82), "row 4: 82 givens given, 0..81 expected"),
        (lambda rows: set_at(rows, (5, 0), 1), "line 7: several solutions"),
        (lambda rows: np.array([[{}]]), "not a readable .npy array of integers"),
    ],
)
def test_bad_npy_rows_are_named(tmp_path, change, message):
    path = tmp_path / "p.npy"
    some(path)
    np.save(path, change(np.load(path)))
    with pytest.raises(ValueError, match=message):
        equal(path, *generate((3, 3), 6, seed=1))


def set_at(rows, index, value):
    rows[index] = value
    return rows


def test_truncated_and_missing_files(tmp_path):
    path = tmp_path / "p.npy"
    some(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=re.escape(f"{path}: not a readable .npy array")):
        equal(path, *generate((3, 3), 6, seed=1))
    with pytest.raises(ValueError, match=r"none\.npy: not a readable"):
        convert(tmp_path / "none.npy", tmp_path / "p.csv")


def lying(shape, data=b""):
    """A .npy file whose header says another shape than there is data of."""
    head = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


HOSTILE = {
    "a shape of terabytes": lying((10**12, 325), bytes(8 * 325)),
    "a shape of too little": lying((1, 325), bytes(8 * 650)),
    "sides below 0": lying((-1, -325), bytes(8 * 325)),
    "a header that is no Python": b"\x93NUMPY\x01\x00\x01\x00{",
    "a header that is none": b"\x93NUMPY\x01\x00\x01\x00\n",
    "a header of other things": lying("'many'"),
    "a header of nested brackets": b"\x93NUMPY\x01\x00\x00\x20" + b"[" * 8192,
    "another version": b"\x93NUMPY\x09\x00" + bytes(20),
    "no more than its mark": b"\x93NUMPY",
    "a zip": b"PK\x03\x04" + bytes(100),
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_are_not_trusted(tmp_path, name):
    path = tmp_path / "p.npy"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match=re.escape(f"{path}: not a readable .npy array of integers")) as caught:
        convert(path, tmp_path / "p.csv")
    assert len(str(caught.value)) < 600
    with pytest.raises(ValueError, match=re.escape(str(path))):
        NINE.read(path)

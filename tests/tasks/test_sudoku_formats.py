"""Every format is read back as written, and every bad file is named by file, line and reason."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unspoken.tasks.sudoku.puzzles import write

from unspoken.tasks.sudoku import Puzzles, read_puzzles, write_puzzles
from unspoken.tasks.sudoku.formats import parse_puzzle
from unspoken.tasks.sudoku.generate import generate
from unspoken.tasks.sudoku.rules import solve

Q = "62...5....3.......5.6.........1546.."
A = write(solve(parse_puzzle(Q, (2, 3))[None], (2, 3))[2][0])
HEADER = "source,question,answer,rating\n"


def some(box, count=6, rating=None, givens=0):
    puzzle, solution = generate(box, count, seed=1, givens=givens)
    return Puzzles(box, puzzle, solution, solve(puzzle, box)[1], rating)


def equal(a, b):
    assert a.box == b.box
    for name in ("puzzle", "solution", "guesses", "rating"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".npy", ".TXT"])
@pytest.mark.parametrize(("box", "givens"), [((2, 2), 0), ((2, 3), 0), ((3, 3), 0), ((4, 4), 140)])
def test_files_round_trip(tmp_path, box, givens, suffix):
    if suffix == ".npy" and box != (3, 3):
        with pytest.raises(ValueError, match=r"\.npy files hold 9x9 puzzles"):
            write_puzzles(tmp_path / f"p{suffix}", some(box, givens=givens))
        return
    rating = np.array([0.0, 1.5, np.nan, 1e-3, 12345.0, 1 / 3]) if suffix == ".csv" else None
    puzzles = some(box, rating=rating, givens=givens)
    write_puzzles(tmp_path / f"p{suffix}", puzzles)
    equal(read_puzzles(tmp_path / f"p{suffix}", box), puzzles)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 16), min_size=256, max_size=256))
def test_text_round_trips(digits):
    assert parse_puzzle(write(np.array(digits)), (4, 4)).tolist() == digits


def test_text_may_have_spaces_comments_zeros_and_lower_case(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text(f"# by hand\n\n{Q.replace('.', '0')}  # the same\r\n {Q[:6]} {Q[6:]}\n")
    assert read_puzzles(path, (2, 3)).puzzle.tolist() == [parse_puzzle(Q, (2, 3)).tolist()] * 2
    assert parse_puzzle("\n".join(Q[i : i + 6] for i in range(0, 36, 6)), (2, 3)).tolist() == [
        0 if c == "." else int(c) for c in Q
    ]
    assert parse_puzzle("aG" + "." * 254, (4, 4))[:2].tolist() == [10, 16]


def test_csv_needs_question_and_answer_only_in_any_order(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(f"answer,note,question\n{A},x,{Q}\n")
    puzzles = read_puzzles(path, (2, 3))
    assert puzzles.rating is None and write(puzzles.solution[0]) == A


def test_csv_of_sudoku_extreme(tmp_path):
    path = tmp_path / "p.csv"
    puzzles = some((3, 3), 1)
    path.write_text(f"{HEADER}puzzles0_kaggle,{write(puzzles.puzzle[0])},{write(puzzles.solution[0])},17\n")
    equal(read_puzzles(path, (3, 3)), replace(puzzles, rating=np.array([17.0])))


@pytest.mark.parametrize(("line", "value"), [(0, 0), (1, 0), (0, -1), (1, -1)])
def test_npy_may_count_from_0_or_1(tmp_path, line, value):
    path, puzzles = tmp_path / "p.npy", some((3, 3))
    write_puzzles(path, puzzles)
    rows = np.load(path)
    assert rows.shape == (6, 325)
    steps = rows[:, 1:].reshape(-1, 81, 4)
    steps += np.array([line, line, value, 0])
    np.save(path, rows.astype(np.int16))
    equal(read_puzzles(path, (3, 3)), puzzles)


def test_npy_may_list_the_rest_in_any_order(tmp_path):
    path, puzzles = tmp_path / "p.npy", some((3, 3), 1)
    write_puzzles(path, puzzles)
    rows = np.load(path)
    steps, first = rows[0, 1:].reshape(81, 4), rows[0, 0]
    steps[first:] = steps[first:][::-1].copy()
    np.save(path, rows)
    equal(read_puzzles(path, (3, 3)), puzzles)


def test_duplicates_up_to_symmetry_are_left_out_on_request(tmp_path):
    path = tmp_path / "p.txt"
    disguise = Q.translate(str.maketrans("123456", "234561"))
    path.write_text(f"{disguise}\n{Q}\n{Q}\n")
    assert (len(read_puzzles(path, (2, 3))), read_puzzles(path, (2, 3)).dropped) == (3, 0)
    kept = read_puzzles(path, (2, 3), distinct=True)
    assert [write(p) for p in kept.puzzle] == [disguise] and kept.dropped == 2


CLASH = "66" + "." * 34
STUCK = "12345." + "." * 5 + "6" + "." * 24
BAD = [
    ("p.txt", "", "holds no puzzle; one puzzle a line expected"),
    ("p.txt", "# nothing\n\n", "holds no puzzle"),
    ("p.txt", f"{Q}\n{Q[:-1]}\n", "p.txt, line 2: 35 characters given, 36 expected for a 6x6 board"),
    ("p.txt", f"\n{Q[:3]}7{Q[4:]}\n", "p.txt, line 2: illegal character '7' at r1c4; the digits of a 6x6"),
    ("p.txt", f"{Q[:3]}é{Q[4:]}\n", "illegal character 'é' at r1c4"),
    ("p.txt", f"{Q[:3]}数{Q[4:]}\n", "illegal character '数' at r1c4"),
    ("p.txt", f"{Q}\n#\n{CLASH}\n", "p.txt, line 3: contradictory givens: row 1 holds 6 at r1c1 and r1c2"),
    ("p.txt", "1" + "." * 11 + "1" + "." * 23, "contradictory givens: column 1 holds 1 at r1c1 and r3c1"),
    ("p.txt", "1" + "." * 6 + "1" + "." * 28, "contradictory givens: box 1 holds 1 at r1c1 and r2c2"),
    ("p.txt", STUCK, "p.txt, line 1: no solution"),
    ("p.txt", "." * 36, "p.txt, line 1: several solutions: .* has 0 givens, too few"),
    ("p.csv", "", "p.csv, line 1: header '' given, the columns question and answer expected"),
    ("p.csv", f"question,rating\n{Q},1\n", "line 1: header 'question,rating' given"),
    ("p.csv", HEADER, "holds no puzzle"),
    ("p.csv", f"{HEADER}x,{Q},{A},1\nx,{Q},{A}\n", "p.csv, line 3: 3 fields given, 4 expected"),
    ("p.csv", f"{HEADER}x,{Q},{A[:9]},1\n", "line 2, answer: 9 characters given"),
    ("p.csv", f"{HEADER}x,{Q},{A},hard\n", "line 2: rating 'hard' given, a number or nothing expected"),
    ("p.csv", f"{HEADER}x,{Q},{A[:2]}.{A[3:]},\n", "line 2: the answer breaks the rules: r1c3 is blank"),
    ("p.csv", f"{HEADER}x,{Q},{A[:2]}6{A[3:]},\n", "the answer breaks the rules: row 1 holds 6 at r1c1 and r1c3"),
    ("p.csv", f"{HEADER}x,{Q},5{A[1:]},\n", "does not extend the question: r1c1 is 6 there and 5 in the answer"),
    ("p.json", "", r"suffix '.json' given, one of .txt, .csv, .npy expected"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_bad_files_are_named_by_line_and_reason(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_puzzles(tmp_path / name, (2, 3))
    assert str(tmp_path / name) in str(caught.value)


def test_bytes_that_are_no_text_are_illegal_characters(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe" + Q[2:].encode())
    with pytest.raises(ValueError, match=r"illegal character .* at r1c1"):
        read_puzzles(tmp_path / "p.txt", (2, 3))


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
        (lambda rows: set_at(rows, (5, 0), 1), "row 5: several solutions"),
        (lambda rows: np.array([[{}]]), "not a readable .npy array of integers"),
    ],
)
def test_bad_npy_rows_are_named(tmp_path, change, message):
    path = tmp_path / "p.npy"
    write_puzzles(path, some((3, 3)))
    np.save(path, change(np.load(path)))
    with pytest.raises(ValueError, match=message):
        read_puzzles(path, (3, 3))


def set_at(rows, index, value):
    rows[index] = value
    return rows


def test_truncated_npy_missing_file_and_wrong_board(tmp_path):
    path = tmp_path / "p.npy"
    write_puzzles(path, some((3, 3)))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=re.escape(f"{path}: not a readable .npy array")):
        read_puzzles(path, (3, 3))
    with pytest.raises(ValueError, match="a box of 3 x 3 expected, 2 x 3 given"):
        read_puzzles(path, (2, 3))
    with pytest.raises(ValueError, match=r"none\.csv: no such file"):
        read_puzzles(tmp_path / "none.csv", (2, 3))

"""Every format is read, and every bad file is named by file, line and reason."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unspoken.tasks.sudoku import Sudoku
from unspoken.tasks.sudoku.rules import generate, parse, solve, write

Q = "62...5....3.......5.6.........1546.."
A = write(solve(parse(Q, (2, 3))[None], (2, 3))[2][0])
HEADER = "source,question,answer,rating\n"
SIX = Sudoku()


def written(path, puzzle, solution):
    """A file of puzzles in the form of its suffix."""
    pairs = [(write(p), write(s)) for p, s in zip(puzzle, solution, strict=True)]
    lines = {
        ".txt": [p for p, _ in pairs],
        ".csv": [HEADER.strip(), *(f"unspoken,{p},{s},1.5" for p, s in pairs)],
        ".jsonl": [json.dumps({"input": p, "output": s}) for p, s in pairs],
    }[path.suffix.lower()]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".TXT"])
@pytest.mark.parametrize(("box", "givens"), [((2, 2), 0), ((2, 3), 0), ((3, 3), 0), ((4, 4), 140)])
def test_files_are_read_as_written(tmp_path, box, givens, suffix):
    puzzle, solution = generate(box, 6, seed=1, givens=givens)
    written(tmp_path / f"p{suffix}", puzzle, solution)
    task = Sudoku(*box, path=str(tmp_path / f"p{suffix}"))
    examples = task.read(task.path)
    assert ((examples.x0.numpy() + 1) == solution).all() and (examples.given.numpy() == (puzzle > 0)).all()
    assert examples.x0.dtype == torch.int64 and examples.given.dtype == torch.bool
    stored = task.sample("train", task.size("train")).x0
    assert {tuple(row) for row in stored.tolist()} <= {tuple(row) for row in examples.x0.tolist()}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 16), min_size=256, max_size=256))
def test_text_round_trips(digits):
    assert parse(write(np.array(digits)), (4, 4)).tolist() == digits


def test_text_may_have_spaces_comments_zeros_and_lower_case(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text(f"# by hand\n\n{Q.replace('.', '0')}  # the same\r\n {Q[:6]} {Q[6:]}\n{Q}={A}\n")
    examples = SIX.read(path)
    assert [SIX.show(row) for row in examples.prompt(SIX.mask_id)] == [Q] * 3
    assert [SIX.show(row) for row in examples.x0] == [A] * 3
    assert parse("\n".join(Q[i : i + 6] for i in range(0, 36, 6)), (2, 3)).tolist() == [
        0 if c == "." else int(c) for c in Q
    ]
    assert parse("aG" + "." * 254, (4, 4))[:2].tolist() == [10, 16]


def test_csv_needs_question_and_answer_only_in_any_order(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(f"answer,note,question\n{A},x,{Q}\n")
    assert SIX.show(SIX.read(path).x0[0]) == A


def test_csv_of_sudoku_extreme(tmp_path):
    path = tmp_path / "p.csv"
    puzzle, solution = generate((3, 3), 1, seed=1)
    path.write_text(f"{HEADER}puzzles0_kaggle,{write(puzzle[0])},{write(solution[0])},17\n")
    examples = Sudoku(3, 3).read(path)
    assert torch.equal(examples.x0 + 1, torch.from_numpy(solution.astype(np.int64)))


def test_duplicates_up_to_symmetry_are_left_out_of_a_task_and_not_of_a_reading(tmp_path):
    path = tmp_path / "p.txt"
    disguise = Q.translate(str.maketrans("123456", "234561"))
    path.write_text(f"{disguise}\n{Q}\n{Q}\n")
    assert len(SIX.read(path)) == 3
    task = Sudoku(path=str(path), validation=0, test=0)
    assert [task.show(row) for row in task.sample("train", 1).prompt(task.mask_id)] == [disguise]
    assert task.size("train") == 1 and task.describe()["splits"]["train"]["duplicates"] == 2


CLASH = "66" + "." * 34
STUCK = "12345." + "." * 5 + "6" + "." * 24
BAD = [
    ("p.txt", "", "no example in it; one a line expected"),
    ("p.txt", "# nothing\n\n", "no example in it"),
    ("p.txt", f"{Q}\n{Q[:-1]}\n", "p.txt, line 2: 35 characters given, 36 expected for a 6x6 board"),
    ("p.txt", f"\n{Q[:3]}7{Q[4:]}\n", "p.txt, line 2: illegal character '7' at r1c4; the digits of a 6x6"),
    ("p.txt", f"{Q[:3]}é{Q[4:]}\n", "illegal character 'é' at r1c4"),
    ("p.txt", f"{Q[:3]}数{Q[4:]}\n", "illegal character '数' at r1c4"),
    ("p.txt", f"{Q}\n#\n{CLASH}\n", "p.txt, line 3: contradictory givens: row 1 holds 6 at r1c1 and r1c2"),
    ("p.txt", "1" + "." * 11 + "1" + "." * 23, "contradictory givens: column 1 holds 1 at r1c1 and r3c1"),
    ("p.txt", "1" + "." * 6 + "1" + "." * 28, "contradictory givens: box 1 holds 1 at r1c1 and r2c2"),
    ("p.txt", STUCK, "p.txt, line 1: no solution"),
    ("p.txt", "." * 36, "p.txt, line 1: several solutions: .* has 0 givens, too few"),
    ("p.csv", "", "p.csv, line 1: header '' given, no column of puzzles given, one of question, puzzle"),
    ("p.csv", f"grid,rating\n{Q},1\n", "line 1: header 'grid,rating' given"),
    ("p.csv", f"puzzle,quizzes\n{Q},{Q}\n", "line 1: header 'puzzle,quizzes' given, puzzle and quizzes given"),
    ("p.csv", HEADER, "no example in it"),
    ("p.csv", f"{HEADER}x,{Q},{A},1\nx,{Q},{A}\n", "p.csv, line 3: 3 fields given, 4 expected"),
    ("p.csv", f"{HEADER}x,{Q},{A[:9]},1\n", "line 2: the answer: 9 characters given"),
    ("p.csv", f'{HEADER}x,"{Q}\n', "p.csv, line 2: .*2 fields given, 4 expected"),
    ("p.csv", f"{HEADER}x,{Q},{A[:2]}.{A[3:]},\n", "line 2: the answer breaks the rules: r1c3 is blank"),
    ("p.csv", f"{HEADER}x,{Q},{A[:2]}6{A[3:]},\n", "the answer breaks the rules: row 1 holds 6 at r1c1 and r1c3"),
    ("p.csv", f"{HEADER}x,{Q},5{A[1:]},\n", "does not extend the question: r1c1 is 6 there and 5 in the answer"),
    ("p.jsonl", '{"input": 5, "output": ""}', "line 1: 5 and '' given, boards as text expected"),
    ("p.jsonl", '{"rating": 5}', "line 1: no column of puzzles given, one of question, puzzle, quizzes expected"),
    ("p.jsonl", '{"input": "' + Q + '"}\n[' + "\n", "line 2: '\\[' is no JSON"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_bad_files_are_named_by_line_and_reason(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        SIX.read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_bytes_that_are_no_text_are_illegal_characters(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xff\xfd" + Q[2:].encode())
    with pytest.raises(ValueError, match=r"illegal character .* at r1c1"):
        SIX.read(tmp_path / "p.txt")

"""Sudoku files as people have them: each form by a sample written by hand, and the boards that are in it."""

import numpy as np
import pytest

from unspoken.tasks import Sudoku
from unspoken.tasks.sudoku.rules import generate, write

NINE, FOUR, SIXTEEN = Sudoku(3, 3), Sudoku(2, 2), Sudoku(4, 4)

Q = "003020600900305001001806400008102900700000008006708200002609500800203009005010300"  # the first of Project Euler 96
A = "483921657967345821251876493548132976729564138136798245372689514814253769695417382"
Q2 = "200080300060070084030500209000105408000000000402706000301007040720040060004010003"  # and its second
A2 = "245981376169273584837564219976125438513498627482736951391657842728349165654812793"
TINY, FULL = "1..4..1..4..3.4.", "1324421324313142"


def rows(board, blank=".", columns=9):
    board = board.replace("0", blank)
    return [board[i : i + columns] for i in range(0, len(board), columns)]


def framed(board, side, line, blank="."):
    """With `|` between stacks and `line` between bands."""
    lines = [f"{side}{row[:3]}|{row[3:6]}|{row[6:]}{side}" for row in rows(board, blank)]
    return "\n".join([*lines[:3], line, *lines[3:6], line, *lines[6:]]) + "\n"


def blank(sign):
    return Q.replace("0", sign)


HODOKU = f":0000:x:{blank('.')}:: :\n:0000:x:{Q2}:::\n"
SADMAN = "#ARuud\n#DA puzzle by hand 12\n#B03-08-2006\n#Uhttp://example.org/\n"
SECTIONS = "[Puzzle]\n{}\n[State]\n{}\n[Marks]\n1,2,3\n"
EULER = "Grid 01\n" + "\n".join(rows(Q, "0")) + "\nGrid 02\n" + "\n".join(rows(Q2, "0")) + "\n"
SPACED = "\n".join(" ".join(row[:3]) + " | " + " ".join(row[3:6]) + " | " + " ".join(row[6:]) for row in rows(Q, "-"))

ONE, BOTH = [(Q, A)], [(Q, A), (Q2, A2)]
SAMPLES = {
    "Kaggle's million": ("sudoku.csv", f"quizzes,solutions\n{Q},{A}\n{Q2},{A2}\n", BOTH),
    "Kaggle's nine million": ("sudoku.csv", f"puzzle,solution\n{Q},{A}\n", ONE),
    "Kaggle's three million": (
        "sudoku-3m.csv",
        f"id,puzzle,solution,clues,difficulty\n1,{blank('.')},{A},32,0.0\n2,{Q2.replace('0', '.')},{A2},30,1.2\n",
        BOTH,
    ),
    "a header, no solutions": ("p.csv", f"puzzle,rating\n{Q},1.5\n", ONE),
    "solutions that are empty": ("p.csv", f"puzzle,solution\n{Q},\n", ONE),
    "semicolons": ("p.csv", f"Puzzle;Solution\n{Q};{A}\n", ONE),
    "tabs": ("p.tsv", f"id\tpuzzle\tsolution\n7\t{Q}\t{A}\n", ONE),
    "quotes": ("p.csv", f'"quizzes","solutions"\n"{Q}","{A}"\n', ONE),
    "CSV without a header": ("p.csv", f"{Q},{A}\n{Q2},{A2}\n", BOTH),
    "JSON lines of puzzle and solution": ("p.jsonl", f'{{"puzzle": "{Q}", "solution": "{A}", "id": 3}}\n', ONE),
    "a sdm": ("p.sdm", f"{Q}\n{Q2}\n", BOTH),
    "a list without a suffix": ("sudoku17", f"{Q}\n{blank('0')}\n", [*ONE, *ONE]),
    "CR LF": ("p.sdm", f"{Q}\r\n{Q2}\r\n", BOTH),
    "a comment": ("top", f"# the best\n\n{Q}   # 17 clues?\n", ONE),
    "notes behind a colon": ("top", f"{Q}:1:hard 17\n{Q2} : easy\n", BOTH),
    "notes behind a semicolon": ("top", f"{blank('.')} ; 11.90/1.20 ; by hand\n", ONE),
    "HoDoKu's": ("library", HODOKU, BOTH),
    "an id before and a rating behind": ("bank.txt", f"0000183b305c {Q} 1.2\n0000183b305d {Q2} 7.1\n", BOTH),
    "rows with titles": ("p096_sudoku.txt", EULER, BOTH),
    "rows, empty lines between": ("p", "\n".join(rows(Q)) + "\n\n" + "\n".join(rows(Q2)), BOTH),
    "SadMan's": ("p.sdk", SADMAN + "\n".join(rows(Q)) + "\n", ONE),
    "SadMan's sections": ("p.sdk", SECTIONS.format("\n".join(rows(Q)), "\n".join(rows(A))), ONE),
    "Simple Sudoku's": ("p.ss", framed(Q, "", "-----------"), ONE),
    "Simple Sudoku's, X": ("p.ss", framed(Q, "", "---|---|---", "X"), ONE),
    "Simple Sudoku's print": ("p.ss", "*-----------*\n" + framed(Q, "|", "|---+---+---|") + "*-----------*\n", ONE),
    "dashes as blanks in a frame": ("p.txt", framed(Q2, "", "---+---+---", "-"), [(Q2, A2)]),
    "spaces between": ("p.txt", SPACED, ONE),
    "commas between": ("p.csv", "\n".join(",".join(row) for row in rows(Q, "0")), ONE),
    **{f"blanks as {sign}": ("p.txt", blank(sign), ONE) for sign in ".0-*_xX"},
    **{f"rows, blanks as {sign}": ("p.txt", "\n".join(rows(Q2, sign)), [(Q2, A2)]) for sign in ".0-*_x"},
}


def boards(task, path):
    """The puzzles of a file, 0 for a blank, and their solutions."""
    examples = task.read(path)
    shown = zip(examples.prompt(task.mask_id), examples.x0, strict=True)
    return [(task.show(puzzle).replace(".", "0"), task.show(answer)) for puzzle, answer in shown]


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_form_is_read(tmp_path, sample, coding):
    name, content, expected = SAMPLES[sample]
    (tmp_path / name).write_bytes(content.encode(coding))
    assert boards(NINE, tmp_path / name) == expected


@pytest.mark.parametrize("sample", ["a list without a suffix", "rows with titles", "semicolons"])
def test_a_task_is_made_of_such_a_file(tmp_path, sample):
    name, content, expected = SAMPLES[sample]
    (tmp_path / name).write_text(content)
    task = Sudoku(3, 3, path=str(tmp_path / name), validation=0, test=0)
    found = task.sample("train", task.size("train"))
    assert sorted(task.show(x0) for x0 in found.x0) == sorted({answer for _, answer in expected})


def digits(text):
    return np.array([int(sign) for sign in text])


ARRAYS = {
    "puzzles in rows": digits(Q + Q2).reshape(2, 9, 9),
    "puzzles": digits(Q + Q2).reshape(2, 81).astype(np.uint8),
    "puzzles and solutions": digits(Q + A + Q2 + A2).reshape(2, 2, 81),
    "puzzles and solutions in rows, by column": np.asfortranarray(digits(Q + A + Q2 + A2).reshape(2, 2, 9, 9)),
    "another order of bytes": digits(Q + Q2).reshape(2, 81).astype(">i4"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_read(tmp_path, name):
    np.save(tmp_path / "p.npy", ARRAYS[name])
    assert boards(NINE, tmp_path / "p.npy") == BOTH
    (tmp_path / "p.npy").rename(tmp_path / "p")
    assert boards(NINE, tmp_path / "p") == BOTH


def test_one_board_is_an_array_too(tmp_path):
    np.save(tmp_path / "p.npy", digits(Q).reshape(9, 9))
    assert boards(NINE, tmp_path / "p.npy") == ONE


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 8, 8), int), r"an array \(2, 8, 8\) given, \[n, 9, 9\], or with solutions \[n, 2, 9, 9\]"),
        (np.zeros((2, 3, 81), int), r"an array \(2, 3, 81\) given"),
        (np.zeros((2, 325), int), r"for files of Shah et al., python tools/sudoku_npy.py"),
        (np.zeros((2, 81)), "of float64 given"),
        (np.stack([digits(Q), digits(Q) + 8]), "board 1: numbers from 8 to 17 given, 0"),
        (digits(Q + A2).reshape(1, 2, 81), "board 0: the answer does not extend the question"),
        (np.zeros((0, 81), int), "no example in it"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, says):
    np.save(tmp_path / "p.npy", array)
    with pytest.raises(ValueError, match=says):
        NINE.read(tmp_path / "p.npy")


def hexadecimal(text):
    """As people write who count from 0."""
    return text.translate(str.maketrans("123456789ABCDEFG", "0123456789ABCDEF"))


def letters(text):
    return text.translate(str.maketrans("123456789ABCDEFG", "ABCDEFGHIJKLMNOP"))


@pytest.fixture(scope="module")
def sixteen():
    puzzle, solution = generate((4, 4), 2, seed=1, givens=150)
    return [(write(p), write(s)) for p, s in zip(puzzle, solution, strict=True)]


@pytest.mark.parametrize("sign", ".0-_")
@pytest.mark.parametrize("written", [str, str.lower, letters])
def test_16x16_in_digits_and_letters(tmp_path, sixteen, sign, written):
    (tmp_path / "p").write_text("".join(written(q).replace(".", sign) + "\n" for q, _ in sixteen))
    assert boards(SIXTEEN, tmp_path / "p") == [(q.replace(".", "0"), a) for q, a in sixteen]


def test_16x16_of_a_line_a_row(tmp_path, sixteen):
    (tmp_path / "p").write_text("\n".join(row for q, _ in sixteen for row in rows(q, columns=16)))
    assert boards(SIXTEEN, tmp_path / "p") == [(q.replace(".", "0"), a) for q, a in sixteen]


@pytest.mark.parametrize("solutions", [True, False])
@pytest.mark.parametrize("sign", ".-_*")
def test_0_is_never_both_a_digit_and_a_blank(tmp_path, sixteen, sign, solutions):
    """A file in hexadecimal, with and without solutions, also where no puzzle of it holds both signs."""
    lines = [hexadecimal(q).replace(".", sign) + ("=" + hexadecimal(a)) * solutions for q, a in sixteen]
    for content in (
        "\n".join(lines),
        "\n".join([letters(sixteen[0][0]).replace(".", sign), lines[1].replace(sign, "0")]),
    ):
        (tmp_path / "p").write_text(content)
        with pytest.raises(ValueError, match=rf"p, line [12]: 0 and {'[.]' if sign == '.' else '[*-_]'} are both used"):
            SIXTEEN.read(tmp_path / "p")
    with pytest.raises(ValueError, match="are both used: 0 may be a blank or"):
        SIXTEEN.encode(hexadecimal(sixteen[0][0]))


@pytest.mark.parametrize(("task", "text"), [(FOUR, "0..3..0..3..2.1."), (NINE, blank(".").replace("9", "0"))])
def test_on_small_boards_too_where_the_last_digit_is_not_used(tmp_path, task, text):
    (tmp_path / "p").write_text(text)
    with pytest.raises(ValueError, match=r"line 1: 0 and \. are both used"):
        task.read(tmp_path / "p")


def test_small_boards(tmp_path):
    (tmp_path / "p").write_text(TINY + "\n" + TINY.replace(".", "0") + "\n" + "\n".join(rows(TINY, columns=4)))
    assert boards(FOUR, tmp_path / "p") == [(TINY.replace(".", "0"), FULL)] * 3
    (tmp_path / "p").write_text(TINY.translate(str.maketrans("1234", "ABCD")))
    assert boards(FOUR, tmp_path / "p") == [(TINY.replace(".", "0"), FULL)]


BAD = {
    "a row that is short": ("\n".join([*rows(Q)[:4], "12345678", *rows(Q)[5:]]), "line 5: '12345678' in the grid from"),
    "a grid that ends": (
        "\n".join(rows(Q)[:5]),
        "line 5: the grid from line 1 on has 5 rows, 9 expected before the end",
    ),
    "a title in a grid": (
        "\n".join([*rows(Q)[:5], "Grid 02"]),
        "line 6: the grid from line 1 on has 5 rows, 9 expected",
    ),
    "a board in a grid": ("\n".join([*rows(Q)[:5], Q]), "line 6: the grid from line 1 on has 5 rows"),
    "a section in a grid": ("[Puzzle]\n53.......\n[State]\n", "line 3: the grid from line 2 on has 1 rows"),
    "three boards": (f"{Q},{Q2},{A}", "line 1: 3 boards given, a puzzle, or it and its solution"),
    "words": (f"{Q}\nhello\n", "line 2: 5 characters given, 81 expected for a 9x9 board"),
    "two puzzles": (f"{Q} {Q2}", "line 1: the answer does not extend the question"),
    "several solutions": ("." * 80 + "1", "line 1: several solutions"),
    "an answer of another": (f"quizzes,solutions\n{Q},{A}\n{Q2},{A}\n", "line 3: the answer does not extend"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(tmp_path, name):
    content, says = BAD[name]
    (tmp_path / "p").write_text(content)
    with pytest.raises(ValueError, match=f"p, {says}"):
        NINE.read(tmp_path / "p")


def test_bytes_without_a_mark_are_said(tmp_path):
    (tmp_path / "p").write_bytes(Q.encode("utf-16-le"))
    with pytest.raises(ValueError, match="p: it holds zero bytes, and text in UTF-8, or in UTF-16 with its mark"):
        NINE.read(tmp_path / "p")
    (tmp_path / "p").write_bytes(b"\xff\xfe" + b"1")
    with pytest.raises(ValueError, match="p: its mark says UTF-16, and it is not"):
        NINE.read(tmp_path / "p")

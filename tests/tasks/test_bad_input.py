"""What no task takes: fields of another type, lines without end; and messages that would fill the screen."""

import json

import pytest

from unspoken.messages import quoted
from unspoken.presets.tasks import TASKS
from unspoken.tasks import (
    Arithmetic,
    Bouncing,
    Burgers,
    Chain,
    Colouring,
    Countdown,
    Digits,
    Paths,
    PathStar,
    Permutations,
    Sat,
    Scenes,
    Strips,
    Sudoku,
    Text,
    Zebra,
)
from unspoken.tasks.files import LONGEST

FIELDS = [
    (Sudoku, "givens", 1.5, "a whole number"),  # it would be dug for, for ever
    (Sudoku, "givens", True, "a whole number"),
    (Sudoku, "train", 10.0, "a whole number"),
    (Sudoku, "seed", "0", "a whole number"),
    (Sudoku, "path", 7, "text"),
    (Sudoku, "box_rows", 2.0, "a whole number"),
    (PathStar, "degree", 2.5, "a whole number"),
    (Paths, "nodes", None, "a whole number"),
    (Countdown, "numbers", 3.0, "a whole number"),
    (Sat, "clauses", 2.5, "a whole number"),
    (Colouring, "edges", [20], "a whole number"),
    (Zebra, "clues", 1.5, "a whole number"),
    (Chain, "length", 3.5, "a whole number"),
    (Bouncing, "positions", 4.5, "a whole number"),
    (Bouncing, "speed", "fast", "a number"),
    (Digits, "known", 1.5, "a whole number"),
    (Burgers, "forcing", "much", "a number"),
    (Strips, "spellings", 1.5, "a whole number"),
    (Scenes, "path", 7, "text"),
    (Arithmetic, "terms", 3.5, "a whole number"),
    (Permutations, "test", 3.5, "a whole number"),
    (Text, "length", 12.5, "a whole number"),
    (Text, "books", None, "text"),
]


@pytest.mark.parametrize(("task", "name", "value", "says"), FIELDS)
def test_a_field_of_another_type_is_refused(task, name, value, says):
    with pytest.raises(ValueError, match=f"{name}=.*; give {says}"):
        task(**{name: value})


def test_a_number_where_a_fraction_may_be_is_fine():
    assert Bouncing(tolerance=1).tolerance == 1


ENCODED = [name for name in TASKS if name not in ("text", "digits")]


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("unit", ["1", "1,", "="])
def test_no_message_repeats_what_it_was_given(tmp_path, name, unit):
    """Of text as long as a line may be, typed or in a file, as a line and as a record."""
    task, long = TASKS[name](), unit * (LONGEST // len(unit) - 50)
    with pytest.raises(ValueError, match=r"\S") as caught:
        task.encode(long)
    assert len(str(caught.value)) < 500
    for content in (long, json.dumps({"input": long, "output": long[:10]}), json.dumps({long: 1})):
        (tmp_path / "file").write_text(content)
        with pytest.raises(ValueError, match=r"line 1: |no example in it") as caught:
            task.read(tmp_path / "file")
        assert len(str(caught.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("start", ["1", '{"a": ['])
def test_lines_are_bounded(tmp_path, name, start):
    """A line of JSON of 30 MB would take 4 GB."""
    (tmp_path / "file").write_text("\n" + start + "[" * LONGEST)
    with pytest.raises(ValueError, match=r"line 2: a line of 200,00\d characters given, at most 200,000"):
        TASKS[name]().read(tmp_path / "file")


@pytest.mark.parametrize("content", ['{"input": ' + "[" * 50_000, '{"input": ' + "9" * 50_000 + "}"])
def test_nesting_and_numbers_are_bounded(tmp_path, content):
    (tmp_path / "file").write_text(content)
    with pytest.raises(ValueError, match=r"file, line 1: .*characters.* is (nested too deeply|no JSON)"):
        Countdown().read(tmp_path / "file")


def test_a_header_without_end_is_cut(tmp_path):
    (tmp_path / "p.csv").write_text("a," * 50_000 + "\n")
    with pytest.raises(ValueError, match=r"line 1: header '[a,]+'\.\.\. .100,000 characters. given") as caught:
        Sudoku().read(tmp_path / "p.csv")
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_quoted():
    assert quoted("short") == "'short'" and quoted(7) == "7"
    assert quoted("a" * 61) == f"'{'a' * 60}'... (61 characters)"
    assert quoted([1] * 60) == "[" + "1, " * 19 + "1,..."

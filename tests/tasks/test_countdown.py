"""Countdown: the judge against exact arithmetic in fractions, splits, text, and files that are not right."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unspoken.tasks.countdown import Countdown
from unspoken.tasks.splits import SPLITS

SMALL: dict[str, Any] = {"train": 3_000, "validation": 100, "test": 100}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path_factory.getbasetemp() / "countdown"))


def by_fractions(text: str) -> bool:
    """An independent judge: the steps as one expression over the numbers, in fractions; every number used once."""
    question, _, answer = text.partition("=")
    *numbers, target = question.split(",")
    terms = [(Fraction(n), str(n)) for n in numbers]
    for step in answer.split(","):
        match = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step)
        if match is None or any(len(n) > 1 and n[0] == "0" for n in match.group(1, 3, 4)):
            return False
        a, sign, b, result = match.groups()
        for operand in (a, b):
            found = next((t for t in terms if t[1] == operand), None)
            if found is None:
                return False
            terms.remove(found)
        if sign == "/" and int(b) == 0:
            return False
        value = {"+": Fraction.__add__, "-": Fraction.__sub__, "*": Fraction.__mul__, "/": Fraction.__truediv__}[sign](
            Fraction(a), Fraction(b)
        )
        if value != int(result):
            return False
        terms.append((value, result))
    return [t[0] for t in terms] == [int(target)]


def corrupted(task: Countdown, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One word of each answer replaced by another: nearly always wrong, now and then not."""
    at = torch.randint(task.asked, task.length - 5, (len(rows), 1), generator=generator)
    word = (rows.gather(1, at) + torch.randint(1, task.mask_id, at.shape, generator=generator)) % task.mask_id
    return rows.scatter(1, at, word)


@pytest.mark.parametrize("numbers", [3, 4, 5])
def test_the_judge_agrees_with_fractions_on_a_thousand_right_and_a_thousand_corrupted(numbers: int) -> None:
    task = Countdown(numbers=numbers, **SMALL)
    generator = torch.Generator().manual_seed(numbers)
    x = task.sample("train", 1000, generator)
    wrong = corrupted(task, x.x0, generator)
    for rows in (x.x0, wrong):
        mine = task.score(torch.where(x.given, rows, task.mask_id), rows)
        theirs = [by_fractions(task.show(row)) for row in rows]
        assert mine.tolist() == theirs
    assert task.score(x.prompt(task.mask_id), x.x0).all()
    assert task.score(x.prompt(task.mask_id), wrong).double().mean() < 0.02  # a sum's operands may change places


@pytest.mark.slow
def test_the_judge_agrees_with_reasoning_gym() -> None:
    """Their scorer takes one expression; ours are steps."""
    gym = pytest.importorskip("reasoning_gym")
    task, generator = Countdown(numbers=4, **SMALL), torch.Generator().manual_seed(1)
    x = task.sample("train", 1000, generator)
    data = gym.create_dataset("countdown", size=1, seed=0)
    for rows in (x.x0, corrupted(task, x.x0, generator)):
        mine = task.score(torch.where(x.given, rows, task.mask_id), rows).tolist()
        for row, right in zip(rows, mine, strict=True):
            question, _, answer = task.show(row).partition("=")
            *numbers, target = map(int, question.split(","))
            entry = {"answer": None, "metadata": {"numbers": numbers, "target": target}}
            expression = as_expression(numbers, answer)
            theirs = expression is not None and data.score_answer(expression, entry) == 1.0
            assert theirs == right, task.show(row)


def as_expression(numbers: list[int], answer: str) -> str | None:
    """The steps put into one another; None where a step is none, or says what it does not come to."""
    pool = [(str(n), str(n)) for n in numbers]
    for step in answer.split(","):
        match = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step)
        if match is None or any(len(n) > 1 and n[0] == "0" for n in match.group(1, 3, 4)):
            return None
        terms = []
        for operand in match.group(1, 3):
            found = next((t for t in pool if t[0] == operand), None)
            if found is None:
                return None
            pool.remove(found)
            terms.append(found[1])
        a, sign, b, result = match.groups()
        if (sign == "/" and int(b) == 0) or eval(f"{a}{sign}{b}") != int(result):
            return None
        pool.append((result, f"({terms[0]}{sign}{terms[1]})"))
    return pool[0][1] if len(pool) == 1 else None


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("2,3,4,24=2*3=6,6*4=24", True),
        ("2,3,4,24=4*3=12,2*12=24", True),  # another one
        ("2,3,4,24=4*6=24", False),  # 6 is not there
        ("2,3,8,24=3*8=24", False),  # 2 is not used
        ("2,3,4,24=2*3=6,6*4=24,24*1=24", False),
        ("2,3,4,24=2*3=6,3*4=12", False),  # 3 twice
        ("2,3,4,24=2*3=5,5*4=20", False),
        ("2,3,4,24=2*3=06,06*4=24", False),
        ("5,5,7,7=5-5=0,7/0=7", False),  # by zero
        ("5,5,7,0=5-5=0,0/7=0", True),
        ("3,2,4,6=3/2=1,1*4=4", False),
        ("3,5,4,6=3-5=2,2+4=6", False),  # below zero
        ("2,3,4,24=", False),
        ("2,3,4,24=2*3=6_,6*4=24", False),
    ],
)
def test_traps(text: str, right: bool) -> None:
    task = Countdown(numbers=3, **SMALL)
    tokens = task.encode(text)
    assert task.judge(tokens.tolist()) == right if (tokens != task.mask_id).all() else not right
    assert bool(task.score(tokens[None], tokens[None])[0]) == right


def test_a_stored_answer_uses_small_whole_numbers_and_text_is_read_back() -> None:
    task = Countdown(**SMALL)
    x = task.sample("test", 100)
    for row in x.x0:
        assert torch.equal(task.encode(task.show(row)), row)
        assert max(map(int, re.findall(r"\d+", task.show(row)))) <= task.most
    blank = task.encode("2,3,4,5,24")
    assert (blank == task.mask_id).sum() == task.length - task.asked
    assert torch.equal(task.encode(task.show(blank)), blank)
    assert (task.hardness(x.x0) <= 3).all()


def test_splits_share_no_question_in_any_order_of_its_numbers() -> None:
    task = Countdown(numbers=3, **SMALL)
    splits = [
        {(*sorted(n[:-1]), n[-1]) for n in map(numbers_of, task.sample(s, n).x0, [task] * n)}
        for s, n in zip(SPLITS, (3000, 100, 100), strict=True)
    ]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]
    assert len(splits[1]) == len(splits[2]) == 100
    rows = task.sample("test", 100).x0.numpy().astype(np.int16)
    turned = [
        ",".join([*reversed(q.split(",")[:-1]), q.split(",")[-1]])
        for q in (task.show(torch.tensor(r)).split("=")[0] for r in rows)
    ]
    again = np.stack([task.encode(q).numpy() for q in turned]).astype(np.int16)
    assert (task.canonical(rows) == task.canonical(again)).all()


def numbers_of(row: torch.Tensor, task: Countdown) -> list[int]:
    return list(map(int, task.show(row).partition("=")[0].split(",")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "numbers and target expected"),
        ("1,2,3", "2 numbers and a target given, 3 and one"),
        ("1,2,x,4", "numbers and target expected"),
        ("1,2,100,4", "numbers 1..99"),
        ("1,2,03,4", "numbers and target expected"),
        ("1\u0662,2,3,6", "numbers and target expected"),  # a digit, and no word
        ("1,2,3,5=1+2=3;3+3=6", "answer"),
        ("1,2,3,5=" + "1+2=3," * 9, "at most"),
    ],
)
def test_a_question_that_is_none_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Countdown(numbers=3, **SMALL).encode(text)


def test_files(tmp_path: Path) -> None:
    task = Countdown(numbers=3, **SMALL)
    lines = [task.show(row) for row in task.sample("test", 100).x0]
    text = tmp_path / "them.txt"
    text.write_text("\n".join([*lines, lines[0]]) + "\n")
    assert len(task.read(text)) == 101
    records = tmp_path / "them.jsonl"
    parts = (line.partition("=") for line in lines)
    records.write_text("\n".join(f'{{"input": "{q}", "output": "{a}"}}' for q, _, a in parts))
    assert torch.equal(task.read(records).x0, task.sample("test", 100).x0)
    mine = Countdown(numbers=3, train=8, validation=1, test=1, path=str(text))
    assert sum(mine.size(s) for s in ("train", "validation", "test")) == 100
    assert sum(its["duplicates"] for its in mine.describe()["splits"].values()) == 1
    for bad, message in (
        ("{", "line 1"),
        ('{"input": "1,2,3,5"}', "line 1"),
        ('{"input": "1,2,3,5", "output": "1+2=3,3+3=6"}', "a right answer"),
    ):
        records.write_text(bad)
        with pytest.raises(ValueError, match=message):
            task.read(records)
    with pytest.raises(ValueError, match="no such file; a path to a file"):
        task.read(tmp_path / "none.txt")


@pytest.mark.parametrize("fields", [{"numbers": 1}, {"largest": 5}, {"most": 50}, {"train": 0}, {"seed": -1}])
def test_fields_out_of_range_are_said(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="given"):
        Countdown(**fields)

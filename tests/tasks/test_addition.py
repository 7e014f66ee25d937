"""Carry addition: the judge against Python's integers, runs of carries by hand, splits, text."""

from typing import Any

import pytest
import torch

from unspoken.tasks import Addition

SMALL: dict[str, Any] = {"train": 3_000, "validation": 100, "test": 100}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path_factory.getbasetemp() / "addition"))


def by_integers(text: str) -> bool:
    """An independent judge of what `show` writes."""
    question, _, answer = text.partition("=")
    a, _, b = question.partition("+")
    return answer.isdecimal() and str(int(a) + int(b)) == answer


@pytest.mark.parametrize(("least", "digits"), [(1, 1), (4, 10), (17, 17)])
def test_the_judge_agrees_with_integers_on_right_and_corrupted_sums(least: int, digits: int) -> None:
    sizes: dict[str, Any] = {"train": 30, "validation": 5, "test": 5} if digits == 1 else SMALL
    task = Addition(least=least, digits=digits, **sizes)
    generator = torch.Generator().manual_seed(digits)
    x = task.sample("train", 500, generator)
    assert task.score(x.prompt(task.mask_id), x.x0).all()
    assert all(by_integers(task.show(row)) for row in x.x0)
    at = torch.randint(task.asked, task.length, (500, 1), generator=generator)
    word = torch.randint(13, (500, 1), generator=generator)
    wrong = x.x0.scatter(1, at, word)
    same = (wrong == x.x0).all(1)
    assert torch.equal(task.score(x.prompt(task.mask_id), wrong), same)  # a sum is written in one way
    shown = [by_integers(task.show(row)) for row in wrong]
    assert all(s or not right for s, right in zip(shown, same.tolist(), strict=True))


def test_numbers_have_the_digits_that_are_asked_for_and_all_lengths_come() -> None:
    task = Addition(least=2, digits=5, **SMALL)
    found = set()
    for row in task.sample("train", 2_000, torch.Generator().manual_seed(0)).x0:
        a, b = task.show(row).partition("=")[0].split("+")
        assert len(a) == len(b) and a[0] != "0" != b[0]
        found.add(len(a))
    assert found == {2, 3, 4, 5}


@pytest.mark.parametrize(
    ("text", "run"), [("1111+2222=", 0), ("1119+2221=", 1), ("1999+2001=", 3), ("5050+5050=", 1), ("9999+0001=", None)]
)
def test_the_longest_run_of_carries(text: str, run: int | None) -> None:
    task = Addition(least=4, digits=6, **SMALL)
    if run is None:
        with pytest.raises(ValueError, match="two numbers"):
            task.encode(text)  # a number begins with no 0
    else:
        assert task.hardness(task.answered(task.encode(text))[None]).tolist() == [run]


def test_splits_are_disjoint_under_the_order_of_the_numbers() -> None:
    task = Addition(least=1, digits=2, train=2_000, validation=100, test=100)
    asked = {}
    for split in ("train", "validation", "test"):
        x = task.sample(split, task.size(split)).x0
        asked[split] = {frozenset(task.show(row).partition("=")[0].split("+")) for row in x}
        assert (task.canonical(x.numpy()) == task.canonical(swapped(task, x).numpy())).all()
    assert not asked["train"] & (asked["validation"] | asked["test"]) and not asked["validation"] & asked["test"]


def swapped(task: Addition, rows: torch.Tensor) -> torch.Tensor:
    n = task.digits
    return torch.cat([rows[:, n + 1 : 2 * n + 1], rows[:, n : n + 1], rows[:, :n], rows[:, 2 * n + 1 :]], dim=1)


def test_text_is_read_as_it_is_shown() -> None:
    task = Addition(**SMALL)
    x = task.sample("test", 50)
    for row in x.x0:
        assert torch.equal(task.encode(task.show(row)), row)
    row = task.encode("1234 + 9876=")
    assert (row[task.asked :] == task.mask_id).all()
    assert task.show(task.answered(row)) == "1234+9876=11110"
    assert task.show(row) == "1234+9876=" + "." * 11


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1234", "two numbers"),
        ("1+2+3=", "two numbers"),
        ("12 34+5678=", "two numbers"),
        ("0012+5678=", "without leading zeros"),
        ("12345678901+1=", "at most 10 digits"),
        ("1234+5678=x", "0-9"),
        ("1234+5678=123456789012", "at most 11"),
    ],
)
def test_text_that_is_no_sum_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Addition(**SMALL).encode(text)


@pytest.mark.parametrize("fields", [{"least": 0}, {"least": 5, "digits": 4}, {"digits": 18}])
def test_sizes_that_can_not_be_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="least"):
        Addition(**fields)

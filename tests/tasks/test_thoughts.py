"""Laws of the tasks with thoughts: judges by brute force, all right answers, splits, and where thoughts stand."""

import operator
from typing import Any

import pytest
import torch
from toy import all_sequences, chi_square_p, seeded

from unspoken.presets.tasks import TASKS
from unspoken.tasks import Arithmetic, Permutations
from unspoken.tasks.base import SPLITS
from unspoken.tasks.reasoned import RESERVED, Reasoned
from unspoken.tasks.thoughts import Thoughts

SMALL: dict[str, Any] = {"train": 3_000, "validation": 50, "test": 60}
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIGNS = {"plus": operator.add, "minus": operator.sub}
BOTH = pytest.mark.parametrize(
    "task", [Arithmetic(**SMALL), Permutations(50, 60)], ids=lambda task: type(task).__name__
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path_factory.getbasetemp() / "thoughts"))


def said_of(question: str) -> str | None:
    """What `Arithmetic.show` writes after a question, by Python's integers; None where it is no question."""
    words = question.split()
    if len(words) < 3 or len(words) % 2 == 0 or not set(words[::2]) <= set(NAMES) or not set(words[1::2]) <= set(SIGNS):
        return None
    thoughts, left = [], words[0]
    for sign, number in zip(words[1::2], words[2::2], strict=True):
        result = SIGNS[sign](NAMES.index(left), NAMES.index(number))
        if not 0 <= result <= 9:
            return None
        thoughts.append(f"{left} {sign} {number} is {NAMES[result]}")
        left = NAMES[result]
    return " ; ".join([*thoughts, left])


def is_right(text: str) -> bool:
    question, _, said = text.partition(" = ")
    return said_of(question) == said


@BOTH
def test_a_task_has_thoughts_and_reserved_words_in_none_of_them(task: Reasoned) -> None:
    where = task.thoughts
    assert where.length == task.length == task.asked + where.blocks * where.words + where.answer
    assert [task.words[i] for i in (where.pad, where.more, where.done)] == ["_", "<thought>", "<answer>"]
    assert (where.pad, where.more, where.done) == tuple(range(task.mask_id - 3, task.mask_id))
    for split in SPLITS:
        x = task.sample(split, 50)
        question, thoughts, answer = where.split(x.x0)
        assert torch.equal(torch.cat([question, thoughts.flatten(1), answer], 1), x.x0)
        assert not ((x.x0 == where.more) | (x.x0 == where.done) | (x.x0 == task.mask_id)).any()
        last = thoughts[torch.arange(50), where.there(thoughts).sum(1) - 1]
        assert torch.equal(answer[:, 0], last[:, -1])
        assert torch.equal(x.given, (torch.arange(task.length) < where.question).expand(50, -1))
        assert task.score(x.prompt(task.mask_id), x.x0).all()


@BOTH
def test_text_is_read_as_it_is_shown(task: Reasoned, tmp_path) -> None:
    x = task.sample("test", 50)
    generator = seeded()
    half = torch.where(x.given | (torch.rand(x.x0.shape, generator=generator) < 0.5), x.x0, task.mask_id)
    own = torch.randint(task.mask_id - len(RESERVED), x.x0.shape, generator=generator)
    wrong = torch.where(x.given, x.x0, own)  # fillers anywhere
    for row in (*x.x0, *x.prompt(task.mask_id), *half, *wrong):
        assert torch.equal(task.encode(task.show(row)), row)
    for row in x.x0[:10]:
        question = task.show(row).partition("=")[0]
        asked = task.encode(question)
        assert torch.equal(asked, task.encode(question + " = ")) and (asked[task.asked :] == task.mask_id).all()
        assert task.score(asked[None], task.answered(asked)[None]).all()
    file = tmp_path / "mine.txt"
    file.write_text("".join(task.show(row) + "\n" for row in x.x0))
    assert torch.equal(task.read(file).x0, x.x0)
    question, _, said = task.show(x.x0[0]).partition(" = ")
    file.write_text(f'{{"input": "{question}", "output": "{said}"}}\n{{"input": "{question}", "output": ""}}')
    assert torch.equal(task.read(file).x0[0], x.x0[0])
    file.write_text(f"{task.show(x.x0[0])}\n{question} = 3" if task.asked == 1 else f"{question} = {said}\nnine = nine")
    with pytest.raises(ValueError, match="line 2"):
        task.read(file)


@BOTH
def test_different_right_answers_are_counted_once(task: Reasoned) -> None:
    """Against sets of the sequences that are right."""
    x = task.sample("test", 20)
    prompt, generator = x.prompt(task.mask_id), seeded(3)
    others = task.sample("train", 20 * 15, generator).x0.unflatten(0, (20, 15))
    others[:, :, : task.asked] = x.x0[:, None, : task.asked]
    k = torch.cat([x.x0[:, None], others, x.x0[:, None]], 1)
    right = [rows[task.score(asked.expand_as(rows), rows)] for asked, rows in zip(prompt, k, strict=True)]
    assert task.different(prompt, k).tolist() == [len({tuple(row) for row in rows.tolist()}) for rows in right]
    assert task.different(prompt[:0], k[:0]).tolist() == []
    with pytest.raises(ValueError, match="answers is"):
        task.different(prompt, x.x0)


@pytest.mark.parametrize("seed", [0, 7])
def test_64_of_all_4096_pairs_of_thoughts_are_right(seed: int) -> None:
    """By brute force, with the answer that belongs to them; any other answer is wrong."""
    task = Permutations(seed=seed)
    pi = task.table
    assert torch.equal(pi.sort(1).values, torch.arange(8).expand(4, -1))
    pairs = all_sequences(8, 4)
    for question in range(4):
        rows = torch.cat([torch.full((4096, 1), question), pairs, pairs[:, 3:]], 1)
        prompt = torch.where(torch.arange(6) < 1, rows, task.mask_id)
        right = task.score(prompt, rows)
        by_hand = [pi[question, x] == y and pi[x % 4, u] == v for x, y, u, v in pairs.tolist()]
        assert right.tolist() == by_hand and right.sum() == 64
        assert torch.equal(rows[right], task.right(question))
        for shift in range(1, task.mask_id):
            other = rows[right].clone()
            other[:, -1] = (other[:, -1] + shift) % task.mask_id
            assert not task.score(prompt[right], other).any()
    strange = torch.tensor([[4, 0, 0, 0, 0, 0]])
    assert not task.score(torch.full((1, 6), task.mask_id), strange).any()  # no question


def test_right_answers_are_drawn_alike() -> None:
    """9,000 examples of the 256 right sequences, chi-square p above 1e-5; a seed makes other permutations."""
    task = Permutations()
    rows = task.sample("train", 9_000, seeded()).x0
    every = torch.cat([task.right(t) for t in range(4)])
    counts = (rows[:, None] == every).all(-1).sum(0)
    assert counts.sum() == 9_000
    assert chi_square_p(counts.double(), torch.full((256,), 1 / 256, dtype=torch.float64)) > 1e-5
    assert not torch.equal(task.table, Permutations(seed=1).table)
    assert {int(row[0]) for row in task.sample("test", 60).x0} == {0, 1, 2, 3}


def test_splits_of_permutations_are_fixed_and_training_is_without_end() -> None:
    task = Permutations(validation=5, test=7)
    assert torch.equal(task.sample("test", 7).x0[:3], task.sample("test", 3).x0)
    assert torch.equal(task.sample("test", 7).x0, Permutations(9, 8).sample("test", 7).x0)
    assert not torch.equal(task.sample("test", 5).x0, task.sample("validation", 5).x0)
    assert not torch.equal(task.sample("train", 5, seeded(1)).x0, task.sample("train", 5, seeded(2)).x0)
    assert (task.describe()["held out"], task.describe()["chance"]) == (
        "nothing: all 4 questions are in every split",
        64 / 4096,
    )
    with pytest.raises(ValueError, match="which holds 7"):
        task.sample("test", 8)


@pytest.mark.parametrize("terms", [2, 4, 6])
def test_the_judge_agrees_with_python_on_right_and_corrupted_rows(terms: int) -> None:
    sizes: dict[str, Any] = {"train": 90, "validation": 2, "test": 2} if terms == 2 else SMALL
    task = Arithmetic(terms, **sizes)
    x, generator = task.sample("train", 500, seeded(terms)), seeded(terms + 1)
    assert all(is_right(task.show(row)) for row in x.x0)
    assert set(task.hardness(x.x0).tolist()) == set(range(1, terms))
    for first in (0, task.asked):  # the question is changed too, or what is said alone
        at = torch.randint(first, task.length, (500, 1), generator=generator)
        wrong = x.x0.scatter(1, at, torch.randint(task.mask_id, (500, 1), generator=generator))
        same = (wrong == x.x0).all(1)
        told = task.judge_all(wrong)
        shown = torch.tensor([is_right(task.show(row)) for row in wrong])
        assert torch.equal(told, shown) and told[same].all() and (first == 0 or torch.equal(told, same))


def test_every_question_is_drawn_and_no_other_is_right() -> None:
    """Of all rows of three words the 110 that Python calls questions. Odds of a missing one: 110 (109/110)^4096."""
    task = Arithmetic(2, train=90, validation=2, test=2)
    every = all_sequences(task.mask_id, 3)
    rows, fine = task._solved(every)
    texts = [" ".join(task.words[token] for token in row) for row in every.tolist()]
    assert fine.tolist() == [said_of(text) is not None for text in texts] and fine.sum() == 110
    assert all(is_right(task.show(row)) for row in rows[fine])
    assert {tuple(row) for row in task.draw_part(0)[:, :3].tolist()} == {tuple(row) for row in every[fine].tolist()}


def test_the_next_operation_is_each_of_eleven_alike() -> None:
    """Questions of two operations have 1,210 forms, of the same probability: chi-square p above 1e-5."""
    task = Arithmetic(3, **SMALL)
    rows = torch.from_numpy(task.draw_part(0)).long()
    rows = rows[task.hardness(rows) == 2][:, :5]
    found, counts = rows.unique(dim=0, return_counts=True)
    padded = torch.zeros(1210, dtype=torch.float64)
    padded[: len(found)] = counts
    assert len(found) <= 1210 and chi_square_p(padded, torch.full((1210,), 1 / 1210, dtype=torch.float64)) > 1e-5


def test_splits_of_arithmetic_are_disjoint_by_question() -> None:
    task = Arithmetic(**SMALL)
    asked = {}
    for split in SPLITS:
        x = task.sample(split, task.size(split)).x0
        asked[split] = {task.show(row).partition(" = ")[0] for row in x}
        assert split == "train" or len(asked[split]) == len(x)
    assert not asked["train"] & (asked["validation"] | asked["test"]) and not asked["validation"] & asked["test"]


def test_thoughts_as_a_person_reads_them() -> None:
    task = Arithmetic(**SMALL)
    row = task.answered(task.encode("seven plus two minus four"))
    assert task.show(row) == "seven plus two minus four = seven plus two is nine ; nine minus four is five ; five"
    where = task.thoughts
    assert where == Thoughts(7, 3, 5, 1, 13, 14, 15)
    assert where.there(where.split(row[None])[1]).tolist() == [[True, True, False]]
    assert Permutations().thoughts == Thoughts(1, 2, 2, 1, 8, 9, 10)
    assert TASKS["arithmetic"]() == Arithmetic() and TASKS["permutations"]() == Permutations()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Arithmetic(1), "terms=1 given, 2 to 8"),
        (lambda: Arithmetic(terms=9), "terms=9 given, 2 to 8"),
        (lambda: Permutations(test=-1), "validation, test = 200, -1: give 0 or more"),
        (lambda: Permutations(seed=-1), "seed=-1 given"),
        (lambda: Permutations().right(4), "question=4; give whole numbers from 0 to 3"),
        (lambda: Permutations().encode("4"), "a question of 0..3"),
        (lambda: Permutations().encode("_"), "a question of 0..3"),
        (lambda: Permutations().encode("1 = 0 0 ; 0 0 ; 0 0 ; 0"), "3 thoughts given, at most 2"),
        (lambda: Permutations().encode("1 = 0 0 0 ; 0"), "'0 0 0' given, 1 to 2 words"),
        (lambda: Permutations().encode("1 = 0 0 ; "), "'' given, 1 to 1 words"),
        (
            lambda: Permutations().encode("1 = <thought> 0 ; 0"),
            "'<thought>' given, words of 0 1 2 3 4 5 6 7 _ expected",
        ),
        (lambda: Arithmetic().encode("ten plus one"), "'ten' given, words of zero one"),
        (lambda: Arithmetic().encode("nine plus one"), "every result from the left is zero to nine"),
        (lambda: Arithmetic().encode("nine"), "'nine' given, numbers with plus or minus between"),
        (lambda: Arithmetic().encode("one plus _ minus one"), "numbers with plus or minus between"),
        (lambda: Arithmetic().encode("one plus ."), "numbers with plus or minus between"),
        (lambda: Arithmetic().encode(""), "1 to 7 words"),
        (lambda: Arithmetic().encode("one plus " * 4 + "one"), "1 to 7 words"),
    ],
)
def test_bad_input_says_what_to_write(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()

"""Laws of 3-SAT: a SAT solver agrees with the judge, symmetries keep hash and answer, formulas are equally likely."""

import json
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from pysat.solvers import Solver
from questions import check_files, check_judge, check_splits, drawn

from unspoken.tasks.base import Task
from unspoken.tasks.sat import Sat

FIVE = Sat(variables=5, train=300, validation=30, test=30)
NINE = Sat(variables=9, train=60, validation=6, test=6)
LINE = "1,-2,3/-1,2,4/-3,-4,1"
TINY = Sat(variables=4, clauses=3, train=8, validation=0, test=0)


def parsed(task, tokens):
    """The clauses and the values of a sequence, from its text."""
    question, answer = task.show(tokens).split("=")
    return [[int(x) for x in clause.split(",")] for clause in question.split("/")], [int(x) for x in answer.split(",")]


def solver_says(task, tokens):
    clauses, values = parsed(task, tokens)
    with Solver("cadical153", bootstrap_with=clauses) as solver:
        return [abs(x) for x in values] == list(range(1, task.variables + 1)) and bool(solver.solve(values))


def agree(task, n):
    """The judge and the solver on n right answers, and on n with one to three values replaced by any literal."""
    x0, rng = drawn(task, n), np.random.default_rng(1)
    spoilt = x0.clone()
    for row in spoilt:
        for x in rng.integers(task.variables, size=rng.integers(1, 4)):
            turned = (row[-task.variables + x] + task.variables) % (2 * task.variables)
            row[-task.variables + x] = turned if rng.random() < 0.8 else int(rng.integers(task.mask_id))
    check_judge(task, x0, spoilt, lambda row: solver_says(task, row))


@pytest.mark.parametrize("task", [FIVE, NINE, Sat(variables=7)])
def test_the_judge_agrees_with_a_solver(task):
    agree(task, 150)


@pytest.mark.slow
@pytest.mark.parametrize("task", [FIVE, NINE, Sat(variables=5, clauses=41)])
def test_the_judge_agrees_with_a_solver_at_length(task):
    agree(task, 1_000)


@pytest.mark.parametrize("task", [FIVE, NINE])
def test_it_is_a_task_whose_splits_are_disjoint_up_to_symmetry(task):
    contract: Task = task
    assert contract.length == 3 * task.count + task.variables and contract.vocab_size == 2 * task.variables + 1
    check_splits(task)
    assert "satisfy, rounded down" in str(task.describe())


@pytest.mark.parametrize("task", [TINY, FIVE, NINE])
def test_a_disguise_has_the_same_hash_and_a_right_answer(task):
    x0, generator = drawn(task, 200), torch.Generator().manual_seed(2)
    other = task.disguise(x0, generator)
    hashes = task.canonical(x0.numpy().astype(np.int16))
    assert (task.canonical(other.numpy().astype(np.int16)) == hashes).all()
    assert all(solver_says(task, row) for row in other)
    assert torch.equal(task.hardness(other), task.hardness(x0))
    changed = (other != x0).float().mean(0)
    assert (changed > 0.3).all()
    assert task is TINY or len(set(hashes.tolist())) == 200


def test_the_hash_knows_which_literals_are_each_others_negation():
    lines = ("1,3,4/1,2,3/-1,3,4", "1,3,4/1,2,3/-2,3,4", "2,1,-4/-3,1,-4/1,-2,-3")  # the last is the second, disguised
    first, second, third = TINY.canonical(np.stack([TINY.encode(line).numpy() for line in lines]).astype(np.int16))
    assert first != second == third


def test_every_question_is_of_distinct_clauses_of_distinct_variables():
    for task in (FIVE, NINE, Sat(variables=4, clauses=28)):
        for row in drawn(task, 60):
            clauses, _ = parsed(task, row)
            assert len({frozenset(clause) for clause in clauses}) == len(clauses) == task.count
            assert all(len({abs(x) for x in clause}) == 3 for clause in clauses)
            assert torch.equal(task.encode(task.show(row)), row)


def test_difficulty_is_the_number_of_answers_by_enumeration():
    x0 = drawn(FIVE, 40)
    for row, log in zip(x0, FIVE.hardness(x0).tolist(), strict=True):
        clauses, _ = parsed(FIVE, row)
        choices = product(*((x, -x) for x in range(1, 6)))
        count = sum(all(set(clause) & set(choice) for clause in clauses) for choice in choices)
        assert 2**log <= count < 2 ** (log + 1)


def test_all_formulas_and_all_their_answers_are_equally_likely():
    task = Sat(variables=3, clauses=2)  # any two of eight clauses, each pair satisfied by six of eight assignments
    n, seen = 20_000, Counter[tuple[object, object]]()
    for row in drawn(task, n):
        clauses, values = parsed(task, row)
        seen[frozenset(map(frozenset, clauses)), tuple(values)] += 1
    assert len(seen) == 28 * 6
    mean = n / len(seen)
    assert max(abs(count - mean) for count in seen.values()) < 5 * mean**0.5


@pytest.mark.parametrize("n", [0, 1, 3])
def test_as_many_are_drawn_as_asked_for(n):
    assert drawn(FIVE, n).shape == (FIVE.disguise(drawn(FIVE, n), torch.Generator())).shape == (n, FIVE.length)


def test_hopeless_formulas_are_reported():
    assert len(drawn(Sat(variables=5, clauses=41), 20)) == 20
    with pytest.raises(ValueError, match=r"0 of \d+ random questions can be answered.*write fewer clauses"):
        drawn(Sat(variables=6, clauses=140), 1)


def test_traps():
    x0 = drawn(FIVE, 1)
    prompt = FIVE.examples(x0).prompt(FIVE.mask_id)
    assert FIVE.score(prompt, x0).all() and not FIVE.score(prompt, prompt).any()
    blank, swapped, given = x0.clone(), x0.clone(), x0.clone()
    blank[0, -1] = FIVE.mask_id
    swapped[0, -2:] = x0[0, [-1, -2]]
    given[0, 0] = x0[0, -5]  # satisfies even more
    assert not FIVE.score(prompt.repeat(3, 1), torch.cat([blank, swapped, given])).any()


def test_forms_of_text():
    tokens = TINY.encode(LINE + "=1,2,-3,.")
    assert TINY.show(tokens) == LINE + "=1,2,-3,."
    assert tokens.tolist()[:4] == [0, 5, 2, 4] and tokens[-1] == TINY.mask_id
    for text in (LINE, LINE + "=", LINE.replace("/", " "), " 1, -2,3 / -1,2,4  -3,-4,1 = ., .,.,.", LINE + "=. . . ."):
        assert TINY.show(TINY.encode(text)) == LINE + "=.,.,.,."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "clause '' given, three literals of distinct variables 1 to 4"),
        (LINE + "/", "clause '' given"),
        (LINE.replace("1,-2", "1,-1", 1), "clause '1,-1,3' given"),
        (LINE.replace("4", "5"), "clause '-1,2,5' given"),
        (LINE.replace("4", "--4"), "clause '-1,2,--4' given"),
        (LINE.replace(",4", ""), "clause '-1,2' given"),
        (LINE + "/1,2,3", "4 clauses given, 3 expected.*write clauses=4 in Sat"),
        ("1,-2,3/-1,2,4/3,1,-2", "distinct clauses expected, and one comes twice"),
        (LINE + "=1,2", "2 values '1,2' given, 4 expected"),
        (LINE + "=1,2,3,3", "value '3' given, 4, -4 or . expected for 4"),
        (LINE + "=1,2,3,x", "value 'x' given"),
    ],
)
def test_a_wrong_text_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        TINY.encode(text)


def test_files(tmp_path):
    wrong = [
        ("a.txt", LINE + "=-1,2,-3,4"),
        ("a.jsonl", json.dumps({"input": LINE, "output": "1,2,-3"})),
        ("b.jsonl", '{"input": '),
        ("c.jsonl", '{"input": "1,2,3"}'),
    ]
    check_files(tmp_path, TINY, LINE, "1,2,-3,4", LINE + "=1,2,-3,4", wrong)


@pytest.mark.parametrize("fields", [{"variables": 2}, {"variables": 10}, {"clauses": -1}, {"clauses": 7 * 35 + 1}])
def test_fields_out_of_range(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))}=.* expected"):
        Sat(**fields)

"""Laws of graph colouring: a SAT solver agrees with the judge, symmetries keep the hash, all graphs are as likely."""

import json
from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
import torch
from pysat.solvers import Solver
from questions import check_files, check_judge, check_splits, drawn

from unspoken.tasks.base import Task
from unspoken.tasks.colouring import Colouring

TEN = Colouring(train=300, validation=30, test=30)
FOUR = Colouring(nodes=9, colours=4, edges=24, train=60, validation=6, test=6)
TINY = Colouring(nodes=4, edges=4, train=8, validation=0, test=0)
LINE = "0-1 1-2 2-3 0-3"


def parsed(task, tokens):
    """Edges as pairs of nodes, and the words of the answer."""
    question, _ = task.show(tokens).split("=")
    edges = [tuple(int(a) for a in edge.split("-")) for edge in question.split(" ")]
    return edges, [task.symbol(token) for token in tokens[task.edges :].tolist()]


def solver_says(task, tokens):
    edges, words = parsed(task, tokens)
    if not set(words) <= set("ABCD"[: task.colours]):
        return False
    is_ = [[1 + node * task.colours + c for c in range(task.colours)] for node in range(task.nodes)]
    clauses = [*is_, *([-x, -y] for row in is_ for x, y in combinations(row, 2))]
    clauses += [[-x, -y] for a, b in edges for x, y in zip(is_[a], is_[b], strict=True)]
    with Solver("cadical153", bootstrap_with=clauses) as solver:
        return bool(solver.solve([is_[node]["ABCD".index(word)] for node, word in enumerate(words)]))


def agree(task, n):
    """The judge and the solver on n right answers, and on n with one or two colours replaced by anything."""
    x0, rng = drawn(task, n), np.random.default_rng(1)
    spoilt = x0.clone()
    for row in spoilt:
        for node in rng.integers(task.nodes, size=rng.integers(1, 3)):
            colour = rng.integers(task.mask_id - task.colours, task.mask_id)
            row[task.edges + node] = int(colour if rng.random() < 0.9 else rng.integers(task.mask_id))
    check_judge(task, x0, spoilt, lambda row: solver_says(task, row))


@pytest.mark.parametrize("task", [TEN, FOUR])
def test_the_judge_agrees_with_a_solver(task):
    agree(task, 200)


@pytest.mark.slow
@pytest.mark.parametrize("task", [TEN, FOUR, Colouring(nodes=12, edges=25)])
def test_the_judge_agrees_with_a_solver_at_length(task):
    agree(task, 1_000)


@pytest.mark.parametrize("task", [TEN, FOUR])
def test_it_is_a_task_whose_splits_are_disjoint_up_to_symmetry(task):
    contract: Task = task
    assert contract.length == task.edges + task.nodes
    check_splits(task)
    assert "colourings up to" in str(task.describe())


@pytest.mark.parametrize("task", [TEN, FOUR, Colouring(nodes=6, colours=2, edges=6)])
def test_a_disguise_has_the_same_hash_and_a_right_answer(task):
    x0 = drawn(task, 200)
    other = task.disguise(x0, torch.Generator().manual_seed(2))
    hashes = task.canonical(x0.numpy().astype(np.int16))
    assert (task.canonical(other.numpy().astype(np.int16)) == hashes).all()
    assert all(solver_says(task, row) for row in other)
    assert torch.equal(task.hardness(other), task.hardness(x0))
    assert ((other != x0).float().mean(0) > 0.3).all()
    assert task is not TEN or len(set(hashes.tolist())) > 195


def test_the_hash_tells_nearly_all_small_graphs_apart():
    task = Colouring(nodes=6, edges=7)  # 24 graphs up to names; two have four nodes all joined, two look alike
    assert len(set(task.canonical(task.draw(5_000, np.random.default_rng(0))).tolist())) == 21


def test_difficulty_is_the_number_of_colourings_by_enumeration():
    for task in (Colouring(nodes=6, edges=7), Colouring(nodes=5, colours=4, edges=6)):
        x0 = drawn(task, 40)
        for row, log in zip(x0, task.hardness(x0).tolist(), strict=True):
            edges, _ = parsed(task, row)
            forms = set()
            for colours in product(range(task.colours), repeat=task.nodes):
                if all(colours[a] != colours[b] for a, b in edges):
                    forms.add(tuple(colours.index(c) for c in colours))
            assert 2**log <= len(forms) < 2 ** (log + 1)


def test_all_graphs_and_all_their_colourings_are_equally_likely():
    n, seen = 12_000, Counter[tuple[object, object]]()
    for row in drawn(Colouring(nodes=4, colours=2, edges=3), n):
        edges, colours = parsed(Colouring(nodes=4, colours=2, edges=3), row)
        seen[frozenset(edges), tuple(colours)] += 1
    assert len(seen) == 16 * 2  # the sixteen trees have two colourings each; the four triangles have none
    mean = n / len(seen)
    assert max(abs(count - mean) for count in seen.values()) < 5 * mean**0.5


def test_every_question_has_distinct_edges_and_comes_back_from_its_text():
    for task in (TEN, FOUR):
        for row in drawn(task, 60):
            assert len(set(parsed(task, row)[0])) == task.edges
            assert torch.equal(task.encode(task.show(row)), row)


def test_edges_are_in_random_order():
    first = drawn(TEN, 4_000)[:, : TEN.edges].argmin(1).bincount(minlength=TEN.edges)
    assert (first - 4_000 / TEN.edges).abs().max() < 5 * (4_000 / TEN.edges) ** 0.5


@pytest.mark.parametrize("n", [0, 1, 3])
def test_as_many_are_drawn_as_asked_for(n):
    assert drawn(TEN, n).shape == (TEN.disguise(drawn(TEN, n), torch.Generator())).shape == (n, TEN.length)


def test_hopeless_graphs_are_reported():
    with pytest.raises(ValueError, match=r"0 of \d+ random questions can be answered.*write fewer edges"):
        drawn(Colouring(nodes=8, edges=28), 1)


def test_traps():
    x0 = drawn(TEN, 1)
    prompt = TEN.examples(x0).prompt(TEN.mask_id)
    assert TEN.score(prompt, x0).all() and not TEN.score(prompt, prompt).any()
    blank, edge, given = x0.clone(), x0.clone(), x0.clone()
    blank[0, -1] = TEN.mask_id
    edge[0, -1] = 0  # no colour at all
    given[0, 0] = x0[0, 1]  # one edge less
    assert not TEN.score(prompt.repeat(3, 1), torch.cat([blank, edge, given])).any()
    assert not TEN.judge([*x0[0, :-10].tolist(), *[TEN.mask_id - 1] * 10])
    assert not TEN.judge([TEN.mask_id - 1, *x0[0, 1:].tolist()])  # a colour among the edges


def test_forms_of_text():
    tokens = TINY.encode(LINE + "=ABA.")
    assert TINY.show(tokens) == LINE + "=ABA." and tokens[-1] == TINY.mask_id
    for text in (LINE, f" {LINE} = ", "1-0,1-2, 3-2  3-0=....", LINE + "=. . , . ."):
        assert TINY.show(TINY.encode(text)) == LINE + "=...."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "edge '' given, two distinct nodes of 0 to 3"),
        (LINE.replace("0-1", "1-1"), "edge '1-1' given"),
        (LINE.replace("0-1", "0-4"), "edge '0-4' given"),
        (LINE.replace("0-1", "0-x"), "edge '0-x' given"),
        (LINE.replace("0-1", "0--1"), "edge '0--1' given"),
        (LINE + " 0-2", r"5 edges given, 4 expected.*write edges=5 in Colouring"),
        (LINE.replace("0-1", "3-0"), "distinct edges expected, and one comes twice"),
        (LINE + "=ABA", "colours 'ABA' given, 4 letters of ABC"),
        (LINE + "=ABABA", "colours 'ABABA' given"),
        (LINE + "=ABAD", "colours 'ABAD' given"),
        (LINE + "=abab", "colours 'abab' given"),
    ],
)
def test_a_wrong_text_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        TINY.encode(text)


def test_files(tmp_path):
    wrong = [
        ("a.txt", LINE + "=AACB"),
        ("a.jsonl", json.dumps({"input": LINE, "output": "ABA."})),
        ("b.jsonl", '{"input": '),
        ("c.jsonl", "[1, 2]"),
    ]
    check_files(tmp_path, TINY, LINE, "ABAC", LINE + "=ABAC", wrong)


@pytest.mark.parametrize(
    "fields", [{"nodes": 2}, {"nodes": 15}, {"colours": 1}, {"colours": 5}, {"edges": 5}, {"edges": 46}]
)
def test_fields_out_of_range(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))}=.* expected"):
        Colouring(**fields)

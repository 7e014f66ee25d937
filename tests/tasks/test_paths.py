"""Laws of path planning: a search of the test's own agrees with the judge, and counts one shortest path."""

import json
from collections import deque

import numpy as np
import pytest
import torch
from questions import check_files, check_judge, check_splits, drawn

from unspoken.tasks.base import Task
from unspoken.tasks.paths import Paths

TWELVE = Paths(train=300, validation=30, test=30)
DENSE = Paths(nodes=7, edges=20, longest=3, train=60, validation=6, test=6)
TINY = Paths(nodes=5, edges=5, longest=3, train=8, validation=0, test=0)
GRAPH = "0,1|1,2|0,3|3,2|2,4"


def parsed(task, tokens):
    """Edges as pairs, start, goal, and the words of the path from the start on."""
    graph, rest = task.show(tokens).split("/")
    question, path = rest.split("=")
    edges = {tuple(int(a) for a in edge.split(",")) for edge in graph.split("|")}
    return edges, *(int(a) for a in question.split(",")), path.split(",")


def distances(edges, start):
    steps, queue = {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        for a, b in edges:
            if a == here and b not in steps:
                steps[b] = steps[here] + 1
                queue.append(b)
    return steps


def walks(edges, here, goal, steps):
    """How many walks of so many steps there are, by taking each of them."""
    if steps == 0:
        return int(here == goal)
    return sum(walks(edges, b, goal, steps - 1) for a, b in edges if a == here)


def search_says(task, tokens):
    edges, start, goal, words = parsed(task, tokens)
    path = [word for word in words if word != "_"]
    if words != path + ["_"] * (len(words) - len(path)) or any(">" in word for word in path):
        return False
    nodes = [int(word) for word in path]
    along = all((nodes[i], nodes[i + 1]) in edges for i in range(len(nodes) - 1))
    return along and nodes[-1] == goal and len(nodes) - 1 == distances(edges, start)[goal]


def agree(task, n):
    """The judge and the search on n right answers, on n with a token or two of the answer replaced by anything."""
    x0, rng = drawn(task, n), np.random.default_rng(1)
    spoilt = x0.clone()
    for row in spoilt:
        for i in rng.integers(task.longest, size=rng.integers(1, 3)):
            row[task.edges + 2 + i] = int(rng.integers(task.nodes + 1 if rng.random() < 0.9 else task.mask_id))
    check_judge(task, x0, spoilt, lambda row: search_says(task, row))


@pytest.mark.parametrize("task", [TWELVE, DENSE])
def test_the_judge_agrees_with_a_search(task):
    agree(task, 300)


@pytest.mark.slow
@pytest.mark.parametrize("task", [TWELVE, DENSE, Paths(nodes=16, edges=32, longest=8)])
def test_the_judge_agrees_with_a_search_at_length(task):
    agree(task, 1_000)


@pytest.mark.parametrize("task", [TWELVE, DENSE, Paths(nodes=10, edges=20, longest=5)])
def test_the_shortest_path_is_the_only_one_and_all_lengths_are_as_frequent(task):
    x0 = drawn(task, 200)
    for row, steps in zip(x0, task.hardness(x0).tolist(), strict=True):
        edges, start, goal, words = parsed(task, row)
        assert len(edges) == task.edges and all(a != b for a, b in edges)
        assert distances(edges, start)[goal] == steps == task.longest - words.count("_")
        assert walks(edges, start, goal, steps) == 1
        assert torch.equal(task.encode(task.show(row)), row)
    counts = task.hardness(drawn(task, 3_000)).bincount()
    mean = 3_000 / (task.longest - 1)
    assert counts[:2].sum() == 0 and (counts[2:] - mean).abs().max() < 5 * mean**0.5


@pytest.mark.parametrize("task", [TWELVE, DENSE])
def test_it_is_a_task_whose_splits_are_disjoint_up_to_symmetry(task):
    contract: Task = task
    assert contract.length == task.edges + 2 + task.longest and contract.vocab_size == task.nodes**2 + 2
    check_splits(task)
    assert "steps of the path" in str(task.describe())


@pytest.mark.parametrize("task", [TWELVE, DENSE])
def test_a_disguise_has_the_same_hash_and_a_right_answer(task):
    x0 = drawn(task, 200)
    other = task.disguise(x0, torch.Generator().manual_seed(2))
    hashes = task.canonical(x0.numpy().astype(np.int16))
    assert (task.canonical(other.numpy().astype(np.int16)) == hashes).all()
    assert all(search_says(task, row) for row in other)
    assert torch.equal(task.hardness(other), task.hardness(x0))
    assert ((other != x0).float().mean(0)[: task.edges + 4] > 0.7).all()
    assert len(set(hashes.tolist())) > 195


def test_the_hash_hears_of_start_and_goal_and_directions():
    lines = [f"{GRAPH}/0,4=", f"{GRAPH}/1,4=", f"{GRAPH}/0,2=", "1,0|1,2|0,3|3,2|2,4/1,4="]
    rows = np.stack([TINY.encode(line).numpy() for line in lines]).astype(np.int16)
    assert len(set(TINY.canonical(rows).tolist())) == 4


@pytest.mark.parametrize("n", [0, 1, 3])
def test_as_many_are_drawn_as_asked_for(n):
    assert drawn(TWELVE, n).shape == (TWELVE.disguise(drawn(TWELVE, n), torch.Generator())).shape == (n, TWELVE.length)


def test_hopeless_graphs_are_reported():
    with pytest.raises(ValueError, match=r"0 of \d+ random questions can be answered.*or a longest below 5"):
        drawn(Paths(nodes=6, edges=29, longest=5), 10)


def test_traps():
    task, text = TINY, f"{GRAPH}/0,4="
    prompt = task.encode(text)[None]
    for path in ("0,1,2,4", "0,3,2,4"):  # both are as short as can be
        assert task.score(prompt, task.encode(text + path)[None]).all()
    for path in ("0,1,2,.", "0,1,3,4", "0,1,2,_", "0,2,4,_", "0,4,_,_", "0,_,2,4"):
        assert not task.score(prompt, task.encode(text + path)[None]).any(), path
    short = task.encode(f"{GRAPH}/1,4=1,2,4")
    prompt = task.examples(short[None]).prompt(task.mask_id)
    assert short[-1] == task.nodes and task.score(prompt, short[None]).all()
    after, edge, given = short.clone(), short.clone(), short.clone()
    after[-1] = 4  # the goal once more
    edge[-1] = short[0]
    given[0] = short[1]
    assert not task.score(prompt.repeat(3, 1), torch.stack([after, edge, given])).any()
    longer = task.encode("0,1|1,2|0,3|3,4|2,4/0,4=0,3,4")
    assert task.judge(longer.tolist())
    longer[-3:] = torch.tensor([1, 2, 4])  # along edges to the goal, but there is a shorter way
    assert not task.judge(longer.tolist())


def test_forms_of_text():
    assert TINY.show(TINY.encode(f"{GRAPH}/1,4=1,2,4")) == f"{GRAPH}/1,4=1,2,4,_"
    assert TINY.show(TINY.encode(f"{GRAPH}/1,4=1,.,4,_")) == f"{GRAPH}/1,4=1,.,4,_"
    for text in (f"{GRAPH}/0,4", f" {GRAPH} / 0, 4 = ", f"{GRAPH}/0,4=0,.,.,."):
        assert TINY.show(TINY.encode(text)) == f"{GRAPH}/0,4=0,.,.,."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a graph as a,b|c,d"),
        (GRAPH, "a graph as a,b|c,d"),
        (f"{GRAPH}/0", "a graph as a,b|c,d"),
        (f"{GRAPH}|0/0,4=", "a graph as a,b|c,d"),
        (f"{GRAPH}|0,4/0,4=", r"6 edges given, 5 expected; write edges=6 in Paths"),
        (GRAPH.replace("0,1", "1,1") + "/0,4=", "edge 1,1 given"),
        (GRAPH.replace("0,1", "1,2") + "/0,4=", "edge 1,2 given"),
        (GRAPH.replace("0,1", "0,5") + "/0,4=", "node '5' given, a whole number 0..4"),
        (f"{GRAPH}/0,x=", "node 'x' given"),
        (f"{GRAPH}/4,0=", "goal 0 given, out of reach from 4; 1 to 3 steps expected"),
        (f"{GRAPH}/0,0=", "goal 0 given, 0 steps away from 0"),
        ("0,1|1,2|2,3|3,4|1,0/0,4=", "goal 4 given, 4 steps away from 0"),
        (f"{GRAPH}/0,4=1,2,4", "path '1,2,4' given, 2 to 4 nodes \\(. for a blank\\) from 0 on"),
        (f"{GRAPH}/0,4=0,1,2,4,_", "path '0,1,2,4,_' given"),
        (f"{GRAPH}/0,4=0,1,2,9", "node '9' given"),
    ],
)
def test_a_wrong_text_is_explained(text, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        TINY.encode(text)


def test_files(tmp_path):
    wrong = [
        ("a.txt", f"{GRAPH}/1,4=1,3,4"),
        ("a.jsonl", json.dumps({"input": f"{GRAPH}/1,4", "output": "1,.,4"})),
        ("b.jsonl", '{"input": '),
        ("c.jsonl", json.dumps({"input": GRAPH})),
    ]
    check_files(tmp_path, TINY, f"{GRAPH}/1,4", "1,2,4", f"{GRAPH}/1,4=1,2,4,_", wrong)


@pytest.mark.parametrize(
    "fields", [{"nodes": 2}, {"nodes": 65}, {"longest": 1}, {"longest": 12}, {"edges": 5}, {"edges": 133}]
)
def test_fields_out_of_range(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))}=.* expected"):
        Paths(**fields)

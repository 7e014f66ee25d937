"""Laws of path-star: graphs of the right shape, evenly drawn, disjoint splits, a judge, text that comes back."""

from dataclasses import replace
from itertools import pairwise, permutations
from math import prod

import pytest
import torch
from scipy.stats import chi2

from unspoken.record import from_record, to_record
from unspoken.tasks.base import SPLITS, Split, Task
from unspoken.tasks.pathstar import PathStar

TWO = PathStar()
THREE = PathStar(degree=3, nodes=4, names=15, validation=300, test=200, seed=7)
PLAIN = PathStar(degree=2, nodes=3, names=10, validation=9, test=9)
LINE = "3,4|0,1|0,3|1,2/0,4=0,3,4"  # a right line of PLAIN
SHAPES = [(2, 2, 3), (2, 2, 5), (2, 3, 5), (2, 3, 7), (3, 2, 5), (3, 3, 7), (4, 2, 6)]
WORD = 2**64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(task, row):
    """Edges, start, goal and answer of one row, decoded without the task's help."""
    edges = [divmod(token - task.names, task.names) for token in row[: task.degree * (task.nodes - 1)]]
    start, goal, *answer = row[len(edges) :]
    return edges, start, goal, answer


def keys(task, x0):
    """Of each row: its graph with start and goal, whatever the order of its edges."""
    return [(frozenset(edges), start, goal) for edges, start, goal, _ in (plain(task, row) for row in x0.tolist())]


def walks(edges, start, steps):
    """All walks of so many steps along the edges."""
    if steps == 0:
        return [[start]]
    return [[start, *walk] for a, b in edges if a == start for walk in walks(edges, b, steps - 1)]


def judge(task, prompt, answer):
    """The rules by brute force."""
    edges, start, goal, _ = plain(task, prompt)
    right = [walk[1:] for walk in walks(edges, start, task.nodes - 1) if walk[-1] == goal]
    kept = all(p in (a, task.mask_id) for p, a in zip(prompt, answer, strict=True))
    return kept and answer[-(task.nodes - 1) :] in right


def every_graph(task):
    """`[graphs, length]`: one sequence of each graph there is, found by giving all names to all nodes."""
    lines = {}
    for name in permutations(range(task.names), 1 + task.degree * (task.nodes - 1)):
        arms = [[name[0], *name[i : i + task.nodes - 1]] for i in range(1, len(name), task.nodes - 1)]
        edges = [edge for arm in arms for edge in pairwise(arm)]
        text = "|".join(f"{a},{b}" for a, b in edges) + f"/{name[0]},{arms[0][-1]}=" + ",".join(map(str, arms[0]))
        lines[frozenset(edges), name[0], arms[0][-1]] = text
    return torch.stack([task.encode(text) for text in lines.values()])


def python_mix(x):
    """Splitmix64 as published, in Python's unbounded integers."""
    x = (x + 0x9E3779B97F4A7C15) % WORD
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def is_even(counts):
    """Chi-square against equal shares; says no to one even draw in 10**6."""
    counts = counts.double()
    statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum().item()
    return statistic < chi2.isf(1e-6, len(counts) - 1)


@pytest.mark.parametrize("task", [TWO, THREE, PLAIN, PathStar(5, 5, 50), PathStar(2, 2, 8, validation=9, test=9)])
@pytest.mark.parametrize("split", SPLITS)
def test_every_graph_is_a_star_with_its_path(task: PathStar, split: Split):
    contract: Task = task
    examples = contract.sample(split, min(200, task.size(split)), seeded())
    assert examples.x0.shape == examples.given.shape == (len(examples), contract.length)
    assert examples.x0.dtype == torch.int64 and examples.given.dtype == torch.bool and len(examples) > 5
    for row, given in zip(examples.x0.tolist(), examples.given.tolist(), strict=True):
        edges, start, goal, answer = plain(task, row)
        nodes = {name for edge in edges for name in edge}
        assert len(edges) == len(set(edges)) == task.degree * (task.nodes - 1) and len(nodes) == 1 + len(edges)
        assert nodes <= set(range(task.names)) and given == [True] * (len(edges) + 2) + [False] * (task.nodes - 1)
        assert all(len([a for a, _ in edges if a == node]) <= 1 for node in nodes - {start})
        arms = walks(edges, start, task.nodes - 1)
        assert len(arms) == task.degree and len({node for arm in arms for node in arm}) == len(nodes)
        assert [start, *answer] in arms and answer[-1] == goal


@pytest.mark.parametrize("shape", SHAPES)
def test_the_number_of_graphs_is_that_of_all_namings(shape):
    task = PathStar(*shape, validation=0, test=0)
    x0 = every_graph(task)
    assert task.graphs == len(x0) == len(set(keys(task, x0)))
    assert task.size("train") == len(x0) * 14 // 16


def test_the_hash_is_even_and_the_published_one():
    assert python_mix(0) == 0xE220A8397B1DCDAF  # the first number of splitmix64 with seed 0
    task = PathStar(2, 3, 7, validation=0, test=0)
    x0 = every_graph(task)  # 2,520
    index, edges = task.split_index(x0), task.degree * (task.nodes - 1)
    for row, split in zip(x0[:500].tolist(), index.tolist(), strict=False):
        code = python_mix((sum(python_mix(token) for token in row[:edges]) + row[edges + 1]) % WORD)
        assert split == {1: 1, 2: 2}.get(code >> 60, 0)
    counts, wanted = index.bincount(minlength=3).double(), torch.tensor([14, 1, 1]) / 16 * len(x0)
    assert ((counts - wanted) ** 2 / wanted).sum().item() < chi2.isf(1e-6, 2)  # 1 in 10**6 even hashes fails


def test_the_order_of_the_edges_has_no_effect_on_the_split_and_the_goal_has():
    x0 = torch.cat([THREE.sample(split, 150).x0 for split in SPLITS])
    for seed in range(3):
        order = torch.randperm(THREE.edges, generator=seeded(seed))
        moved = torch.cat([x0[:, order], x0[:, THREE.edges :]], dim=1)
        assert not torch.equal(moved, x0) and THREE.split_index(moved).tolist() == [0] * 150 + [1] * 150 + [2] * 150
    other = x0.clone()
    other[:, THREE.edges + 1] = torch.tensor(
        [next(w[-1] for w in walks(e, s, 3) if w[-1] != g) for e, s, g, _ in (plain(THREE, r) for r in x0.tolist())]
    )
    assert not torch.equal(THREE.split_index(other), THREE.split_index(x0))


@pytest.mark.parametrize("task", [TWO, THREE, PathStar(2, 3, 6, validation=36, test=36)])
def test_splits_are_disjoint_and_held_out_graphs_distinct(task):
    train = set(keys(task, task.sample("train", 5_000, seeded()).x0)) | set(keys(task, task.sample("train", 500).x0))
    validation, test = (keys(task, task.sample(split, task.size(split)).x0) for split in ("validation", "test"))
    assert len(set(validation)) == task.validation and len(set(test)) == task.test
    assert not train & set(validation) and not train & set(test) and not set(validation) & set(test)
    other = replace(task, seed=task.seed + 1, validation=0)
    assert not set(keys(task, other.sample("test", other.test).x0)) & (train | set(validation))
    assert not torch.equal(other.sample("test", 9).x0, task.sample("test", 9).x0)


def test_train_reaches_every_graph_of_its_own_and_no_other():
    task = PathStar(2, 3, 5, validation=0, test=0)
    x0 = every_graph(task)
    own = set(keys(task, x0[task.split_index(x0) == 0]))
    # 5,000 draws miss one of about 110 graphs once in 10**17 tries.
    assert set(keys(task, task.sample("train", 5_000, seeded()).x0)) == own and len(own) < len(x0)
    assert len(set(keys(task, task.sample("train", 100).x0))) == 100  # the stored ones are distinct


@pytest.mark.parametrize("split", SPLITS)
def test_samples_depend_on_the_generators_state_alone(split):
    generator = seeded(5)
    TWO.sample(split, 7, generator)
    state = generator.get_state()
    first = TWO.sample(split, 20, generator)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    second = TWO.sample(split, 20, torch.Generator().set_state(state))
    assert torch.equal(first.x0, second.x0) and torch.equal(first.given, second.given)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first.x0, TWO.sample(split, 20, generator).x0)


@pytest.mark.parametrize("split", SPLITS)
def test_stored_examples_are_copies_in_a_fixed_order(split):
    first = TWO.sample(split, 50).x0
    TWO.sample(split, 50).x0.zero_()
    assert torch.equal(TWO.sample(split, 50).x0, first) and torch.equal(TWO.sample(split, 3).x0, first[:3])
    assert torch.equal(replace(TWO, validation=60, test=60).sample(split, 50).x0, first)  # sizes cut, and don't mix
    assert TWO.sample(split, 0).x0.shape == TWO.sample(split, 0, seeded()).x0.shape == (0, TWO.length)


def test_held_out_samples_are_without_replacement():
    drawn, stored = THREE.sample("test", 200, seeded()).x0.tolist(), THREE.sample("test", 200).x0.tolist()
    assert drawn != stored and sorted(drawn) == sorted(stored)
    some = THREE.sample("test", 50, seeded()).x0.tolist()
    assert len({tuple(row) for row in some}) == 50 and all(row in stored for row in some)


@pytest.mark.parametrize("task", [TWO, THREE])
def test_names_places_and_arms_are_even(task):
    """14 chi-square tests in all, each a false alarm once in 10**6: the seed is fixed."""
    x0 = task.sample("train", 20_000, seeded(1)).x0
    edges, (start, goal, first) = x0[:, : task.edges], x0[:, task.edges : task.edges + 3].T
    for name in (start, goal, first):
        assert is_even(name.bincount(minlength=task.names))
    pairs = (start * task.names + goal).bincount(minlength=task.names**2).view(task.names, -1)
    assert is_even(pairs[~torch.eye(task.names, dtype=torch.bool)]) and not pairs.diagonal().any()
    place = (edges == (task.names + start * task.names + first)[:, None]).int().argmax(1)
    assert is_even(place.bincount(minlength=task.edges))
    leaves = (edges - task.names) // task.names == start[:, None]  # the edges that lead away from the start
    rank = leaves.cumsum(1).gather(1, place[:, None]).flatten() - 1
    assert is_even(rank.bincount(minlength=task.degree))
    assert is_even((first > goal).long().bincount(minlength=2))


@pytest.mark.parametrize("task", [TWO, THREE])
def test_the_judge_is_brute_force(task):
    examples, generator = task.sample("train", 1_000, seeded(2)), seeded(3)
    prompt = examples.prompt(task.mask_id)
    assert task.score(prompt, examples.x0).dtype == torch.bool and task.score(prompt, examples.x0).all()
    assert all(judge(task, p, a) for p, a in zip(prompt.tolist(), examples.x0.tolist(), strict=True))
    wrong = examples.x0.clone()
    for i, row in enumerate(wrong.tolist()):  # by turns another token anywhere, another node, another arm, a swap
        edges, start, goal, _ = plain(task, row)
        last = task.length - 1
        at = int(torch.randint(task.edges + 2, task.length, (), generator=generator))
        if i % 4 == 0:
            at = int(torch.randint(task.length, (), generator=generator))
            wrong[i, at] = (row[at] + int(torch.randint(1, task.vocab_size, (), generator=generator))) % task.vocab_size
        if i % 4 == 1:
            wrong[i, at] = (row[at] + int(torch.randint(1, task.names, (), generator=generator))) % task.names
        if i % 4 == 2:
            arm = next(walk for walk in walks(edges, start, task.nodes - 1) if walk[-1] != goal)
            wrong[i, task.edges + 2 :] = torch.tensor(arm[1:] if i % 8 == 2 else [*arm[1:-1], goal])
        if i % 4 == 3:
            wrong[i, [last - 1, last]] = wrong[i, [last, last - 1]]
    assert (wrong != examples.x0).any(1).all() and not task.score(prompt, wrong).any()
    assert not any(judge(task, p, a) for p, a in zip(prompt.tolist(), wrong.tolist(), strict=True))
    assert not task.score(prompt, prompt).any() and not task.score(prompt, examples.x0.roll(1, 0)).any()


def test_the_judge_keeps_what_is_given_of_the_answer():
    x0 = TWO.sample("test", 100).x0
    prompt = x0.clone()
    prompt[:, -3] = TWO.mask_id
    assert TWO.score(prompt, x0).all()
    prompt[:, -4] = (prompt[:, -4] + 1) % TWO.names
    assert not TWO.score(prompt, x0).any()


def test_the_judge_needs_the_edges_of_the_prompt():
    task = PathStar(2, 2, 5, validation=0, test=0)
    # start 0; both edges lead to 1 or 2, the goal 3 is at no end: no answer is right, though it keeps start and goal
    prompt = torch.tensor([[task.names + 1, task.names + 2, 0, 3, task.mask_id]])
    for token in range(task.vocab_size):
        answer = prompt.clone()
        answer[0, -1] = token
        assert not task.score(prompt, answer)
    # The edge token 0>0 as a node of PLAIN: from 2 to it counts like 3>0, and from it to 0 like a blank.
    blank = PLAIN.mask_id
    prompt = torch.tensor([[40, blank, blank, blank, 2, 0, blank, blank]])
    assert not PLAIN.score(prompt, torch.tensor([[40, 11, 11, 11, 2, 0, 10, 0]]))


@pytest.mark.parametrize("task", [TWO, THREE, PathStar(5, 5, 50)])
def test_text_comes_back(task):
    x0 = task.sample("test", 50).x0
    hidden = torch.rand(x0.shape, generator=seeded()) < torch.linspace(0, 1, 50)[:, None]
    hidden[:, : task.edges + 2] = False
    for row in torch.where(hidden, task.mask_id, x0):
        assert torch.equal(task.encode(task.show(row)), row)
    for row, prompt in zip(x0, task.sample("test", 50).prompt(task.mask_id), strict=True):
        question = task.show(row).partition("=")[0]
        assert torch.equal(task.encode(question), prompt) and torch.equal(task.encode(f" {question}=\n"), prompt)
    assert len({task.symbol(token) for token in range(task.vocab_size)}) == task.vocab_size


def test_the_form_is_the_authors():
    tokens = PLAIN.encode(LINE)
    assert tokens.tolist() == [10 + 34, 10 + 1, 10 + 3, 10 + 12, 0, 4, 3, 4] and PLAIN.show(tokens) == LINE
    tokens[-2:] = PLAIN.mask_id
    assert PLAIN.show(tokens) == "3,4|0,1|0,3|1,2/0,4=0,.,."
    board = "".join(PLAIN.symbol(token) + PLAIN.gap(i) for i, token in enumerate(tokens.tolist()))
    assert board == "3>4 0>1 0>3 1>2\n0 4\n. ."
    tokens[:] = PLAIN.mask_id
    assert PLAIN.show(tokens) == ".|.|.|./.,.=.,.,."
    tokens[0], tokens[-1] = 7, 10 + 99  # what an untrained model may say
    assert PLAIN.show(tokens) == "7|.|.|./.,.=.,.,9>9"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3,4|0,1", "'3,4|0,1' given, a graph as a,b|c,d|.../start,goal= expected"),
        ("3,4|0,1|0|1,2/0,4=", "a graph as a,b|c,d|.../start,goal= expected"),
        ("3,4|0,1|0,3|1,2/0=", "a graph as a,b|c,d|.../start,goal= expected"),
        ("3,4|0,1|0,3/0,4=", "3 edges given, 4 expected for path-star, degree 2, 3 nodes, 10 names"),
        ("3,4|0,1|0,3|1,10/0,4=", "node '10' given, a whole number 0..9 expected"),
        ("3,4|0,1|0,x|1,2/0,4=", "node 'x' given"),
        ("3,4|0,1|0,3|1,-2/0,4=", "node '-2' given"),
        ("3,4|0,1|0,3|1,2/1,4=", "arms [[2]] from start 1 given, 2 of 2 nodes each without a common node expected"),
        ("3,4|0,1|0,3|1,4/0,4=", "arms [[1, 4], [3, 4]] from start 0"),
        ("3,4|0,1|0,3|0,2/0,4=", "arms [[1], [3, 4], [2]] from start 0"),
        ("3,4|0,1|0,3|4,2/0,4=", "arms [[1], [3, 4, 2]] from start 0"),
        ("3,1|0,1|0,3|1,3/0,3=", "arms [[1, 3, 1], [3, 1, 3]] from start 0"),
        ("3,0|0,1|0,3|1,2/0,2=", "arms [[1, 2], [3, 0, 3]] from start 0"),
        ("3,4|0,3|0,3|3,4/0,4=", "arms [[3, 4], [3, 4]] from start 0"),
        ("3,4|0,1|0,3|5,6/0,4=", "arms [[1], [3, 4]] from start 0"),
        ("3,4|0,1|0,3|1,2/0,3=", "goal 3 given, the end of an arm expected, one of [2, 4]"),
        ("3,4|0,1|0,3|1,2/0,7=", "goal 7 given"),
        ("3,4|0,1|0,3|1,2/0,4=0,3", "path '0,3' given, 3 nodes (. for a blank) from 0 on expected"),
        ("3,4|0,1|0,3|1,2/0,4=3,4,.", "path '3,4,.' given, 3 nodes (. for a blank) from 0 on expected"),
        ("3,4|0,1|0,3|1,2/0,4=.,3,4", "node '.' given"),
        ("3,4|0,1|0,3|1,2/0,4=0,3,44", "node '44' given"),
    ],
)
def test_encode_checks(text, message):
    with pytest.raises(ValueError) as error:
        PLAIN.encode(text)
    assert message in str(error.value)


def test_read_gives_the_lines_in_order(tmp_path):
    path = tmp_path / "graphs.txt"
    x0 = TWO.sample("train", 30).x0
    path.write_bytes("\r\n\r\n".join(TWO.show(row) for row in x0).encode())
    examples = TWO.read(str(path))
    assert torch.equal(examples.x0, x0) and torch.equal(examples.given, TWO.sample("test", 30).given)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("graphs.txt", "\n \n", "graphs.txt: no example in it"),
        ("graphs.txt", f"{LINE}\n\n3,4|0,1|0,3/0,4=0,3,4", "graphs.txt, line 3: 3 edges given, 4 expected"),
        (
            "graphs.txt",
            f"{LINE}\n{LINE[:-5]}0,1,4",
            "graphs.txt, line 2: a right answer expected, and this is none",
        ),
        (
            "graphs.txt",
            f"{LINE}\n{LINE[:-5]}0,.,4",
            "graphs.txt, line 2: a right answer expected, and this is none",
        ),
        (
            "graphs.txt",
            f"{LINE[:-5]}",
            "graphs.txt, line 1: a right answer expected, and this is none",
        ),
    ],
)
def test_read_names_the_file_and_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as error:
        PLAIN.read(tmp_path / name)
    assert message in str(error.value)


def test_describe_counts_and_the_record_comes_back():
    about = THREE.describe()
    assert about["length"] == 9 + 2 + 3 and about["vocab_size"] == 15 + 15**2 + 1 and about["chance"] == 1 / 3
    assert about["splits"]["train"]["examples"] == prod(range(6, 16)) // 2 * 14 // 16
    assert about["splits"]["test"]["examples"] == THREE.size("test") == 200
    assert THREE.title == "path-star, degree 3, 4 nodes, 15 names"
    assert from_record(PathStar, to_record(THREE)) == THREE


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PathStar(degree=1), "degree=1, nodes=5 given, at least 2 of each expected"),
        (lambda: PathStar(nodes=1), "degree=2, nodes=1 given, at least 2 of each expected"),
        (lambda: PathStar(names=8), "names=8 given, at least 9 expected"),
        (lambda: PathStar(validation=-1), "validation, test = -1, 1000 given, 0 to 3991680 each expected"),
        (lambda: PathStar(2, 2, 5), "validation, test = 1000, 1000 given, 0 to 3 each expected, as 1/16 of all 60"),
        (lambda: PathStar(seed=-1), "seed=-1 given, 0 <= seed < 2**63 expected"),
        (lambda: PathStar(seed=2**63), "seed=9223372036854775808; give"),
        # Of 120 graphs the hash sends 4 to test, and of 720 graphs 626 to train.
        (
            lambda: PathStar(2, 3, 5, validation=6, test=6).sample("test", 1),
            "but only train=0, validation=6, test=4 were",
        ),
        (lambda: PathStar(2, 3, 6, validation=0, test=0).sample("train", 627), "train=626, validation=0, test=0 were"),
        (lambda: TWO.sample("test", 1001), "1001 examples of test asked for, which holds 1000; write 0 <= n <= 1000"),
        (lambda: TWO.sample("test", 1001, seeded()), "1001 examples of test asked for, which holds 1000"),
        (lambda: PLAIN.sample("train", -1, seeded()), "-1 examples of train asked for"),
        (lambda: PLAIN.sample("train", 26_461), "26461 examples of train asked for, which holds 26460"),
        (lambda: TWO.sample("dev", 1), "split='dev' given, one of train, validation, test expected"),  # type: ignore
        (lambda: TWO.show(torch.zeros(2, 14).long()), "tokens of shape (2, 14) given, one sequence [14] of ids 0..156"),
        (lambda: TWO.show(torch.full((14,), 157)), "tokens of shape (14,) given, one sequence [14] of ids 0..156"),
        (lambda: TWO.read("none.txt"), "none.txt: no such file"),
    ],
)
def test_errors_say_what_to_write(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_a_file_or_a_fixed_train_can_be_trained_on(tmp_path):
    """No graph of one split of a file is in another; of a fixed train there are as many as are asked for."""
    rows = torch.from_numpy(TWO.draw_part(0)[:300]).long()
    path = tmp_path / "graphs.txt"
    path.write_text("".join(TWO.show(row) + "\n" for row in rows))
    mine = PathStar(train=8, validation=1, test=1, path=str(path))
    parts = [mine.sample(split, mine.size(split)).x0.tolist() for split in SPLITS]
    assert sorted(row for part in parts for row in part) == sorted(rows.tolist()) and all(parts)
    fixed = replace(TWO, train=50)
    drawn = fixed.sample("train", 2_000, seeded()).x0
    assert {tuple(row) for row in drawn.tolist()} == {tuple(row) for row in TWO.sample("train", 50).x0.tolist()}
    with pytest.raises(ValueError, match="at least 1, 0 and 0 expected"):
        PathStar(train=0, path=str(path))

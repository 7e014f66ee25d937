"""Laws of the Zebra task; an oracle that reads the words itself and tries all grids says what is right."""

import itertools
import json
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from unspoken.tasks.base import Task
from unspoken.tasks.splits import SPLITS
from unspoken.tasks.zebra import Zebra

FOUR = Zebra(train=100, validation=8, test=8)
THREE = Zebra(houses=3, attributes=3, train=100, validation=8, test=8)
MIXED = Zebra(houses=3, attributes=4)
MEANS = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "left-of": lambda a, b: a < b,
    "immediate-left": lambda a, b: a + 1 == b,
    "nbr": lambda a, b: (a + 1 == b) | (b + 1 == a),
    "inbetween": lambda a, b, c: (a < b) & (b < c),
}
EVERY_KIND = (
    "= LHS c 0 0 RHS n 0 0 CLUE_END != LHS c 1 0 RHS c 0 0 CLUE_END left-of LHS c 0 0 RHS c 0 1 CLUE_END "
    "immediate-left LHS c 0 1 RHS c 0 2 CLUE_END nbr LHS c 1 0 RHS c 1 1 CLUE_END ends LHS c 1 1 CLUE_END "
    "inbetween LHS c 2 0 RHS c 2 1 RHS c 2 2 CLUE_END"
)
SOLVED = f"{EVERY_KIND} ANSWER 0 1 2 1 0 2 0 1 2"  # also with 2 0 1 in the middle


def drawn(task, n, seed=0):
    return torch.from_numpy(task.draw(n, np.random.default_rng(seed)).astype(np.int64))


def clues_of(text):
    """`(kind, [(c or n, attribute, value), ...])` of each clue."""
    clues = text.partition("ANSWER")[0].split("CLUE_END")[:-1]
    split = [clue.replace("LHS", "|").replace("RHS", "|").split("|") for clue in clues]
    return [(kind.strip(), [(m, int(a), int(v)) for m, a, v in map(str.split, things)]) for kind, *things in split]


@cache
def grids(houses, attributes):
    """`[all, attributes, values]`: the house of each value, in every grid there is."""
    orders = np.array(list(itertools.permutations(range(houses))), np.int8)
    index = np.indices([len(orders)] * attributes).reshape(attributes, -1).T
    return orders[index]


def fits(clue, house_of):
    """`[n]` bool: in which grids a clue holds."""
    kind, things = clue
    at = [np.full(len(house_of), v) if m == "n" else house_of[:, a, v] for m, a, v in things]
    return np.isin(at[0], [0, house_of.shape[2] - 1]) if kind == "ends" else MEANS[kind](*at)


def solutions(task, clues):
    """Every grid, as the values in each house, in which all clues hold."""
    house_of = grids(task.houses, task.attributes)
    for clue in clues:
        house_of = house_of[fits(clue, house_of)]
    return house_of.argsort(2)


def oracle(text, task):
    """Whether a text with its answer is right; by the words alone."""
    grid = np.array(text.split()[-task.houses * task.attributes :], int).reshape(task.attributes, task.houses)
    permuted = (np.sort(grid, 1) == np.arange(task.houses)).all()
    return bool(permuted and all(fits(clue, grid.argsort(1)[None])[0] for clue in clues_of(text)))


def corrupted(row, task, rng):
    """Another answer: a cell changed, or two cells of an attribute swapped."""
    row, a, (p, q) = row.clone(), rng.randrange(task.attributes), rng.sample(range(task.houses), 2)
    p, q = (task.room + 1 + a * task.houses + house for house in (p, q))
    row[p], row[q] = row[q].item(), (row[p] if rng.random() < 0.7 else row[q]).item()
    return row


def test_it_is_a_task():
    contract: Task = FOUR
    assert (contract.length, contract.mask_id, contract.vocab_size) == (120 + 1 + 16, 20, 21)
    assert FOUR.words[:6] == ("0", "1", "2", "3", "4", "5") and len(set(FOUR.words)) == 20
    assert "4 houses" in contract.title and FOUR.symbol(20) == "." and FOUR.symbol(6) == "="
    examples = contract.sample("validation", 8, torch.Generator().manual_seed(0))
    assert examples.given.sum(1).tolist() == [121] * 8
    assert contract.score(examples.prompt(20), examples.x0).all()
    assert not contract.score(examples.prompt(20), examples.prompt(20)).any()  # blanks left
    card = FOUR.describe()["splits"]["test"]
    assert [sum(card[key].values()) for key in card if key.startswith(FOUR.difficulty_is)] == [8]
    board = "".join(FOUR.symbol(int(token)) + FOUR.gap(i) for i, token in enumerate(examples.x0[0]))
    assert [len(line.split()) for line in board.split("\n")] == [120, 1, 4, 4, 4, 4]


@pytest.mark.parametrize(("task", "n"), [(THREE, 40), (MIXED, 20), (FOUR, 5)])
def test_drawn_puzzles_have_one_solution_and_need_every_clue(task, n):
    for row in drawn(task, n):
        clues = clues_of(task.show(row))
        (only,) = solutions(task, clues)
        assert only.ravel().tolist() == row[task.room + 1 :].tolist()
        assert all(len(solutions(task, clues[:i] + clues[i + 1 :])) > 1 for i in range(len(clues)))


@pytest.mark.parametrize("houses", range(3, 7))
@pytest.mark.parametrize("attributes", [3, 6])
def test_puzzles_of_any_size(houses, attributes):
    task = Zebra(houses=houses, attributes=attributes)
    rows = drawn(task, 3)
    assert rows.shape == (3, task.length) and all(task.judge(row) for row in rows.tolist())
    again = task.disguise(rows, torch.Generator().manual_seed(1))
    assert all(task.judge(row) for row in again.tolist())
    assert (task.canonical(again.numpy().astype(np.int16)) == task.canonical(rows.numpy())).all()


def test_what_is_drawn_depends_on_the_generator_alone():
    assert torch.equal(drawn(FOUR, 5, seed=3), drawn(FOUR, 5, seed=3))
    assert not torch.equal(drawn(FOUR, 5, seed=3), drawn(FOUR, 5, seed=4))
    one, two = (FOUR.sample("train", 20, torch.Generator().manual_seed(2)).x0 for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize(("task", "n"), [(THREE, 60), (FOUR, 40), pytest.param(FOUR, 1_000, marks=pytest.mark.slow)])
def test_the_judge_agrees_with_the_oracle(task, n):
    rng, rows = random.Random(n), drawn(task, n, seed=n)
    for row in rows:
        wrong = corrupted(row, task, rng)
        assert oracle(task.show(row), task) and task.judge(row.tolist())
        assert not oracle(task.show(wrong), task) and not task.judge(wrong.tolist())  # as there is one solution
    wrong = torch.stack([corrupted(row, task, rng) for row in rows])
    prompt = torch.where(task.given(rows), rows, task.mask_id)
    assert task.score(prompt, rows).all() and not task.score(prompt, wrong).any()


def test_the_judge_by_hand():
    task = replace(THREE, clues=8)
    assert task.judge(task.encode(SOLVED).tolist()) and oracle(SOLVED, task)
    assert len(solutions(task, clues_of(SOLVED))) == 2  # either is right
    for answer in itertools.permutations("012"):
        text = f"{EVERY_KIND} ANSWER 0 1 2 {' '.join(answer)} 0 1 2"
        assert task.judge(task.encode(text).tolist()) == oracle(text, task) == (answer in [tuple("102"), tuple("201")])
    assert not task.judge(task.encode(f"{EVERY_KIND} ANSWER 0 1 2 1 0 2 2 1 0").tolist())  # a clue is violated
    assert not task.judge(task.encode(f"{EVERY_KIND} ANSWER 0 1 1 1 0 2 0 1 2").tolist())  # a value twice
    assert not task.judge(task.encode(f"{EVERY_KIND} ANSWER 0 1 0 1 0 1 2 2 2").tolist())  # houses by attributes
    broken = task.encode(SOLVED)
    broken[3] = 5  # an attribute there is not
    assert not task.judge(broken.tolist())


def test_score_wants_the_question_kept_and_no_word_in_the_grid():
    rows = drawn(FOUR, 2)
    prompt = torch.where(FOUR.given(rows), rows, FOUR.mask_id)
    assert FOUR.score(prompt, rows).tolist() == [True, True]
    assert not FOUR.score(prompt, rows.flip(0)).any()
    rows[0, -1] = FOUR.words.index("ANSWER")
    rows[1, -1] = FOUR.mask_id
    assert not FOUR.score(prompt, rows).any()


@pytest.mark.parametrize("task", [THREE, MIXED, FOUR, replace(THREE, clues=8)])
def test_disguises_keep_the_answer_and_the_hash_and_change_the_rest(task):
    base = task.encode(SOLVED)[None] if task.clues else drawn(task, 12)
    rows = base.repeat(20, 1)
    again = task.disguise(rows, torch.Generator().manual_seed(0))
    assert all(oracle(task.show(row), task) for row in again)
    assert (task.canonical(again.numpy()) == task.canonical(rows.numpy())).all()
    assert (task.hardness(again) == task.hardness(rows)).all()
    assert len({tuple(row) for row in again.tolist()}) > 0.95 * len(rows)
    assert len(set(task.canonical(base.numpy()).tolist())) == len(base)
    assert (again != rows)[:, task.room + 1 :].any(1).float().mean() > 0.9


def images(clues, houses, attributes):
    """Each image of a question under the symmetries: clues in no order, things in order where it counts."""
    orders = list(itertools.permutations(range(houses)))
    for turned, rows in itertools.product([False, True], itertools.permutations(range(attributes))):
        for names in itertools.product(orders, repeat=attributes):
            image = []
            for kind, things in clues:
                new = [(rows[a], names[a][v]) for _, a, v in things]
                if turned and kind in ("left-of", "immediate-left", "inbetween"):
                    new.reverse()
                image.append((kind, tuple(sorted(new) if kind in ("=", "!=", "nbr") else new)))
            yield tuple(sorted(image))


def test_the_hash_tells_apart_what_brute_force_tells_apart():
    rows = drawn(THREE, 120)
    few = sorted((clues for row in rows if len(clues := clues_of(THREE.show(row))) < 4), key=len)[:30]
    texts = [next(THREE.show(row) for row in rows if clues_of(THREE.show(row)) == clues) for clues in few]
    exact = [min(images(clues, 3, 3)) for clues in few]
    hashes = THREE.canonical(torch.stack([THREE.encode(text) for text in texts]).numpy()).tolist()
    assert [exact.index(form) for form in exact] == [hashes.index(code) for code in hashes]
    assert 1 < len(set(exact)) < len(exact)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ends LHS c 0 0 CLUE_END", "ends LHS c 2 1 CLUE_END", True),
        ("= LHS c 0 0 RHS n 0 0 CLUE_END", "= LHS n 0 2 RHS c 1 2 CLUE_END", True),  # left and right
        ("= LHS c 0 0 RHS n 0 0 CLUE_END", "= LHS c 0 0 RHS n 0 1 CLUE_END", False),
        ("= LHS c 0 0 RHS c 1 0 CLUE_END", "!= LHS c 0 0 RHS c 1 0 CLUE_END", False),
        ("left-of LHS c 0 0 RHS c 0 1 CLUE_END", "left-of LHS c 0 0 RHS c 1 1 CLUE_END", False),
        (
            "left-of LHS c 0 0 RHS c 1 0 CLUE_END left-of LHS c 0 0 RHS c 2 0 CLUE_END",
            "left-of LHS c 1 0 RHS c 0 0 CLUE_END left-of LHS c 2 0 RHS c 0 0 CLUE_END",
            True,  # left and right
        ),
        (
            "left-of LHS c 0 0 RHS c 1 0 CLUE_END left-of LHS c 0 0 RHS c 2 0 CLUE_END",
            "left-of LHS c 0 0 RHS c 1 0 CLUE_END left-of LHS c 1 0 RHS c 2 0 CLUE_END",
            False,
        ),
    ],
)
def test_which_questions_are_the_same(one, other, same):
    codes = [THREE.canonical(THREE.encode(f"{text} ANSWER")[None].numpy()) for text in (one, other)]
    assert (codes[0] == codes[1]).all() == same


def test_splits_share_no_question_in_any_disguise():
    codes = {split: THREE.canonical(THREE.sample(split, THREE.size(split)).x0.numpy()).tolist() for split in SPLITS}
    train, validation, test = (set(codes[split]) for split in SPLITS)
    assert not train & validation and not train & test and not validation & test
    assert (len(validation), len(test)) == (8, 8)
    assert THREE.describe()["splits"]["train"]["duplicates"] == 100 - len(train)


def test_propagation_leaves_open_what_takes_a_guess():
    rows = drawn(THREE, 60)
    empty = THREE.encode("ANSWER 0 1 2 0 1 2 0 1 2")[None]
    assert THREE.hardness(empty).tolist() == [9]
    known = " ".join(f"= LHS c {a} {v} RHS n 0 {v} CLUE_END" for a in range(3) for v in range(2))
    assert THREE.hardness(THREE.encode(f"{known} ANSWER")[None]).tolist() == [0]
    hard = THREE.hardness(rows)
    assert (hard == 0).any() and (hard > 0).any()
    # What it solves has one solution: it never closes a cell on a wrong value, nor all cells with two solutions.
    two = THREE.encode("ends LHS c 0 0 CLUE_END ends LHS c 1 0 CLUE_END ANSWER")[None]
    assert THREE.hardness(two).tolist() == [9]


def test_text_and_back():
    task = replace(THREE, clues=8)
    for row in [*drawn(task, 5), task.encode(SOLVED)]:
        assert torch.equal(task.encode(task.show(row)), row)
        assert task.show(row).count("EXTRA") == 0
    question = task.encode(EVERY_KIND + " ANSWER")
    assert question[-9:].tolist() == [task.mask_id] * 9
    assert task.show(question) == EVERY_KIND + " ANSWER" + " ." * 9
    partly = task.encode(EVERY_KIND + " ANSWER 0 1 2 . . . 0 . .")
    assert torch.equal(task.encode(task.show(partly)), partly)
    once = task.encode(SOLVED.replace("RHS c 2 1 RHS", "RHS c 2 1"))  # one RHS for two things is read too
    assert torch.equal(once, task.encode(SOLVED))


BAD = [
    ("= LHS c 0 0 RHS d 0 1 CLUE_END ANSWER", "word 'd' given"),
    ("ends LHS c 0 0 CLUE_END", "0 ANSWER given"),
    ("ANSWER ANSWER", "2 ANSWER given"),
    ("ANSWER 0 1 2", "3 cells behind ANSWER given, 3 x 3 = 9"),
    ("ANSWER 0 1 2 0 1 2 0 1 3", "'3' behind ANSWER given, 0..2"),
    ("ANSWER 0 1 2 0 1 2 0 1 EXTRA", "'EXTRA' behind ANSWER given"),
    ("LHS c 0 0 CLUE_END ANSWER", "that starts with a kind"),
    ("CLUE_END ANSWER", "that starts with a kind"),
    ("ends CLUE_END ANSWER", "the form 'ends LHS c 0 1 CLUE_END' expected"),
    ("ends LHS c 0 0 RHS c 0 1 CLUE_END ANSWER", "the form 'ends"),
    ("= LHS c 0 0 CLUE_END ANSWER", "the form '= LHS c 0 1 RHS c 0 1 CLUE_END'"),
    ("= LHS c 0 0 c 0 1 CLUE_END ANSWER", "the form '="),
    ("inbetween LHS c 0 0 RHS c 0 1 CLUE_END ANSWER", "the form 'inbetween"),
    ("ends RHS c 0 0 CLUE_END ANSWER", "the form 'ends"),
    ("ends LHS c 0 . CLUE_END ANSWER", "c attribute value or n 0 house expected"),
    ("ends LHS 0 0 0 CLUE_END ANSWER", "c attribute value or n 0 house expected"),
    ("ends LHS c 3 0 CLUE_END ANSWER", "attribute 3 .* 0..2 expected behind c"),
    ("ends LHS n 1 0 CLUE_END ANSWER", "attribute 1 .* 0..0 expected behind n"),
    ("ends LHS c 0 3 CLUE_END ANSWER", "value 3 .* 0..2"),
    ("ends LHS c 0 0 ANSWER", "CLUE_END as its last word"),
    ("ends LHS c 0 0 CLUE_END " * 12 + "ANSWER", r"at most 70 expected; write Zebra\(clues=8\)"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_bad_text_says_what_is_wrong(text, says):
    with pytest.raises(ValueError, match=says):
        THREE.encode(text)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"houses": 2}, "houses=2"),
        ({"attributes": 7}, "attributes=7"),
        ({"clues": -1}, "clues=-1"),
        ({"train": 0}, "0"),
    ],
)
def test_bad_fields(fields, says):
    with pytest.raises(ValueError, match=says):
        Zebra(**fields)


def test_too_little_room_is_an_error_and_not_forever():
    with pytest.raises(ValueError, match="write at least clues="):
        Zebra(houses=3, attributes=3, clues=1).draw(1, np.random.default_rng(0))


def test_text_files(tmp_path):
    rows = drawn(THREE, 3)
    texts = [THREE.show(row) for row in rows]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    pairs = [text.replace("ANSWER ", "ANSWER|").split("|") for text in texts]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"input": a, "output": b}) for a, b in pairs))
    for name in ("a.txt", "a.jsonl"):
        assert torch.equal(THREE.read(tmp_path / name).x0, rows)
    (tmp_path / "wrong.txt").write_text(texts[0] + "\n" + THREE.show(corrupted(rows[1], THREE, random.Random(0))))
    with pytest.raises(ValueError, match="line 2: a right answer expected"):
        THREE.read(tmp_path / "wrong.txt")


def test_their_pickles_are_not_read_here(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"")
    for call in (THREE.read, lambda path: replace(THREE, path=str(path)).size("train")):
        with pytest.raises(ValueError, match=r"zebra_pickles.py .*a.pkl PUZZLES.jsonl --houses 3 --attributes 3"):
            call(tmp_path / "a.pkl")

"""Laws of the task: disjoint splits, sampling from the generator alone, a judge, and a cache that heals."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from symmetric import canonical

from unspoken.tasks.base import SPLITS, Task
from unspoken.tasks.store import cache_dir, stored
from unspoken.tasks.sudoku import Sudoku
from unspoken.tasks.sudoku.rules import generate, is_solution, solve, write

SIX = Sudoku(train=600, validation=60, test=50)
FOUR = Sudoku(2, 2, givens=7, train=300, validation=25, test=20)
NINE = Sudoku(3, 3, train=60, validation=5, test=5)


def boards(task, split, n=None):
    examples = task.sample(split, n or task.size(split))
    return (examples.x0 + 1).numpy() * examples.given.numpy(), (examples.x0 + 1).numpy()


@pytest.mark.parametrize("task", [SIX, FOUR, NINE])
def test_it_is_a_task_of_solved_unique_puzzles(task):
    contract: Task = task
    assert (contract.length, contract.mask_id, contract.vocab_size) == (task.side**2, task.side, task.side + 1)
    for split, size in zip(SPLITS, (task.train, task.validation, task.test), strict=True):
        puzzles, solutions = boards(task, split)
        assert len(puzzles) == size and puzzles.shape[1] == task.length
        assert is_solution(puzzles, solutions, task.box).all() and (solve(puzzles, task.box)[0] == 1).all()
        rows = torch.from_numpy(np.concatenate([puzzles, solutions], axis=1))
        guesses = solve(puzzles, task.box)[1].tolist()
        assert task.hardness(rows).tolist() == guesses
        card = task.describe()["splits"][split]
        assert card["guesses (of the first 10,000)"] == {k: guesses.count(k) for k in sorted(set(guesses))}
        givens = np.count_nonzero(puzzles, axis=1)
        assert (card["givens_min"], card["givens_max"]) == (givens.min(), givens.max())
        assert abs(card["givens_mean"] - givens.mean()) < 1e-9


@pytest.mark.parametrize("task", [SIX, FOUR, Sudoku(2, 2, train=200, validation=2, test=2)])
def test_splits_are_disjoint_up_to_symmetry(task):
    forms = {s: [f.tobytes() for f in canonical(boards(task, s)[0], task.box)] for s in SPLITS}
    train, validation, test = (set(forms[split]) for split in SPLITS)
    assert not train & validation and not train & test and not validation & test
    assert len(validation) == task.validation and len(test) == task.test  # and no duplicates
    assert task.describe()["splits"]["train"]["duplicates"] == task.train - len(train)


def test_a_test_puzzle_is_in_no_other_recipes_train_split():
    other = replace(SIX, seed=1, train=500, validation=0, test=90)
    tests = {f.tobytes() for f in canonical(boards(SIX, "test")[0], SIX.box)}
    trains = {f.tobytes() for f in canonical(boards(other, "train")[0], SIX.box)}
    assert not tests & trains


@pytest.mark.parametrize("augment", ["none", "digits", "all"])
@pytest.mark.parametrize("split", SPLITS)
def test_samples_depend_on_the_generators_state_alone(split, augment):
    task = replace(SIX, augment=augment)
    generator = torch.Generator().manual_seed(5)
    task.sample(split, 7, generator)
    state = generator.get_state()
    first = task.sample(split, 20, generator)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    second = task.sample(split, 20, torch.Generator().set_state(state))
    assert torch.equal(first.x0, second.x0) and torch.equal(first.given, second.given)
    assert torch.equal(before, torch.get_rng_state())
    third = task.sample(split, 20, generator)
    assert not torch.equal(first.x0, third.x0)


@pytest.mark.parametrize(("augment", "seen"), [("none", True), ("digits", False), ("all", False)])
def test_only_train_is_augmented_and_stays_right(augment, seen):
    task = replace(NINE, augment=augment)
    examples = task.sample("train", 200, torch.Generator().manual_seed(0))
    stored = {tuple(x) for x in task.sample("train", 60).x0.tolist()}
    assert ({tuple(x) for x in examples.x0.tolist()} <= stored) == seen
    assert task.score(examples.prompt(task.mask_id), examples.x0).all()
    drawn = task.sample("test", 5, torch.Generator().manual_seed(0))
    assert sorted(drawn.x0.tolist()) == sorted(task.sample("test", 5).x0.tolist())


def test_stored_examples_are_copies_in_a_fixed_order():
    SIX.sample("test", 3).x0.zero_()
    assert SIX.score(SIX.sample("test", 3).x0, SIX.sample("test", 3).x0).all()
    assert torch.equal(SIX.sample("test", 3).x0, SIX.sample("test", 50).x0[:3])


def test_score_judges_by_the_rules():
    examples = SIX.sample("validation", 60)
    prompt, answer = examples.prompt(SIX.mask_id), examples.x0.clone()
    blank = torch.full_like(prompt, SIX.mask_id)
    assert SIX.score(prompt, answer).dtype == torch.bool
    assert SIX.score(prompt, answer).all() and SIX.score(blank, answer.roll(1, 0)).all()
    assert not SIX.score(prompt, answer.roll(1, 0)).any()
    assert not SIX.score(prompt, prompt).any()
    answer[:, 4] = (answer[:, 4] + 1) % SIX.side
    assert not SIX.score(blank, answer).any()


@pytest.mark.parametrize("task", [SIX, NINE, Sudoku(4, 4)])
def test_text_round_trips(task):
    tokens = torch.randint(task.vocab_size, (task.length,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(task.encode(task.show(tokens), unique=False), tokens)
    assert torch.equal(task.encode(task.grid(tokens), unique=False), tokens)
    assert len(task.grid(tokens).splitlines()) == task.side + task.side // task.box_rows - 1


def test_encode_checks():
    prompt = SIX.sample("test", 1).prompt(SIX.mask_id)[0]
    assert torch.equal(SIX.encode(SIX.show(prompt)), prompt)
    for text, message in [
        ("123", "3 characters given, 36 expected"),
        ("?" + "." * 35, "illegal character '[?]'"),
        ("." * 36, "several solutions"),
        ("11" + "." * 34, "row 1 holds 1 at r1c1 and r1c2"),
    ]:
        with pytest.raises(ValueError, match=message):
            SIX.encode(text)


def test_describe_counts():
    about = SIX.describe()
    assert about["length"] == 36 and about["vocab_size"] == 7 and "bands" in about["symmetries"]
    assert about["splits"]["train"]["examples"] == 600
    assert about["splits"]["test"]["givens_min"] <= about["splits"]["test"]["givens_mean"]
    assert about["vocabulary"] == "1 2 3 4 5 6" and about["task"] == SIX.title
    counts = about["splits"]["test"]["guesses (of the first 10,000)"]
    assert sum(counts.values()) == 50 and counts[0] == int((solve(boards(SIX, "test")[0], SIX.box)[1] == 0).sum())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sudoku(1, 6), "box of 1 x 6 cells is not supported"),
        (lambda: Sudoku(givens=37), "givens=37 given, 0"),
        (lambda: Sudoku(train=0), "at least 1, 0 and 0 expected"),
        (lambda: Sudoku(test=-1), "at least 1, 0 and 0 expected"),
        (lambda: Sudoku(seed=-1), "seed=-1 given"),
        (lambda: Sudoku(augment="some"), "augment='some' given, one of none, digits, all"),  # type: ignore
        (lambda: Sudoku(path="none.csv").sample("test", 1), "none.csv: no such file"),
        (lambda: Sudoku(2, 2, train=9).sample("test", 1), "only train=9, validation=2, test=2 were found"),
        (lambda: SIX.sample("test", 51), "51 examples of test asked for, which holds 50"),
        (lambda: SIX.sample("test", 51, torch.Generator()), "51 examples of test asked for, which holds 50"),
        (lambda: SIX.sample("train", 601), "601 examples of train asked for"),
        (lambda: SIX.sample("dev", 1), "split='dev' given, one of train, validation, test"),  # type: ignore
        (lambda: SIX.show(torch.zeros(2, 36)), r"tokens of shape \(2, 36\) given, one sequence \[36\]"),
    ],
)
def test_errors_say_what_to_write(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def forbid(*_):
    raise AssertionError("built again")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, with nothing in it."""
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path / "deep" / "er"))
    stored.cache_clear()
    yield tmp_path / "deep" / "er"
    stored.cache_clear()


def test_the_cache_is_read_and_a_broken_file_is_rebuilt(cache, monkeypatch):
    first = SIX.sample("train", 600)
    (folder,) = cache.iterdir()
    assert sorted(f.name for f in folder.iterdir()) == ["card.json", "lock", "test.npy", "train.npy", "validation.npy"]
    with monkeypatch.context() as patch:
        patch.setattr("unspoken.tasks.sudoku.generate", forbid)
        stored.cache_clear()
        assert torch.equal(SIX.sample("train", 600).x0, first.x0)
    for name in ("train.npy", "card.json"):
        whole = (folder / name).read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 3] ^= 255
        for broken in (whole[:-100], whole[: len(whole) // 2], b"", b"nonsense", bytes(damaged)):
            (folder / name).write_bytes(broken)
            stored.cache_clear()
            again = SIX.sample("train", 600)
            assert torch.equal(again.x0, first.x0) and torch.equal(again.given, first.given)
            assert (folder / name).read_bytes() == whole


def test_every_field_that_matters_has_its_own_folder(monkeypatch):
    keys = [SIX.key, *(replace(SIX, **{k: 12}).key for k in ("givens", "train", "validation", "test", "seed"))]
    assert len(set(keys)) == 6
    assert replace(SIX, augment="none").key == SIX.key
    monkeypatch.delenv("UNSPOKEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(cache_dir()) == "/somewhere/unspoken" and SIX.name == "sudoku"


def test_a_cache_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path / "file" / "below"))
    stored.cache_clear()
    with pytest.raises(ValueError, match="set UNSPOKEN_CACHE to a writable directory"):
        SIX.sample("test", 1)


def test_a_users_file_is_split_in_proportion_by_the_puzzle(tmp_path, cache, monkeypatch):
    path = tmp_path / "mine.txt"
    puzzles, _ = generate(SIX.box, 600)
    path.write_text("".join(write(p) + "\n" for p in puzzles))
    task = Sudoku(train=8, validation=1, test=1, path=str(path))
    sizes = [task.size(split) for split in SPLITS]
    dropped = sum(task.describe()["splits"][split]["duplicates"] for split in SPLITS[1:])
    assert sum(sizes) + dropped == 600
    assert abs(sizes[0] - 480) < 50 and abs(sizes[1] - 60) < 30
    forms = [{f.tobytes() for f in canonical(boards(task, s)[0], task.box)} for s in SPLITS]
    assert not forms[0] & forms[1] and not forms[0] & forms[2] and not forms[1] & forms[2]
    stored.cache_clear()
    monkeypatch.setattr("unspoken.tasks.sudoku.solved_puzzle", forbid)
    assert task.size("test") == sizes[2]  # from the cache
    with pytest.raises(AssertionError, match="built again"):
        path.write_text(path.read_text() + write(puzzles[0]))
        stored.cache_clear()
        task.sample("test", 1)


def test_import_compiles_nothing_and_draws_nothing():
    code = (
        "import sys, unspoken.tasks.sudoku as s; s.Sudoku(); assert 'numba' not in sys.modules;"
        "import unspoken.tasks.sudoku.search as k; assert not k.search.signatures and not k.mix64.signatures"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

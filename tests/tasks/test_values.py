"""Laws of the tasks whose tokens are values: particles and Burgers' fluid (vectors), digits (codes)."""

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.datasets import load_digits

from unspoken.cli.tasks import ShowTask
from unspoken.tasks import Bouncing, Burgers, Digits
from unspoken.tasks.base import SPLITS, Task
from unspoken.tasks.digits import LEVELS
from unspoken.tasks.images import load

BALL = Bouncing(validation=30, test=40)
INK = Digits(known=1)
FLOWS = [Burgers(train=60, validation=30, test=40), Burgers(forcing=1.0, train=60, validation=30, test=40)]
TASKS = [BALL, Bouncing(positions=5, speed=0.9, validation=30, test=40, seed=3), INK, Digits(), *FLOWS]


def whole(task, split):
    return task.sample(split, min(task.size(split), 300))


def equal(a, b):
    return torch.equal(a.x0, b.x0) and torch.equal(a.given, b.given) and torch.equal(a.value, b.value)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_examples_are_values_with_a_placeholder_for_each(task):
    contract: Task = task
    width = task.values.size[0]
    assert (contract.mask_id, contract.vocab_size) == (task.values.placeholder + 1, 2)
    for split in SPLITS:
        its = whole(contract, split)
        assert its.value is not None and its.value.shape == (len(its), contract.length, width)
        assert its.value.dtype == (torch.float32 if task.values.port == "Vectors" else torch.int64)
        assert its.x0.dtype == torch.int64 and (its.x0 == task.values.placeholder).all()
        assert torch.equal(its.given, (torch.arange(task.length) < task.asked).expand(len(its), -1))
        assert task.score(its.prompt(task.mask_id), its.answer).all()


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_splits_are_fixed_and_disjoint(task):
    rows = {split: {row.numpy().tobytes() for row in whole(task, split).answer} for split in SPLITS}
    for split in SPLITS:
        its = whole(task, split)
        assert equal(its, whole(replace(task), split)) and len(rows[split]) == len(its)
        assert equal(task.sample(split, 7), its.rows(slice(7))) and len(task.sample(split, 0)) == 0
        task.sample(split, 7).answer.zero_()
        assert equal(task.sample(split, 7), its.rows(slice(7)))
    assert not rows["train"] & rows["validation"] and not rows["train"] & rows["test"]
    assert not rows["validation"] & rows["test"]


def test_a_seed_makes_other_trajectories():
    for split in SPLITS:
        assert not torch.equal(BALL.sample(split, 5).answer, replace(BALL, seed=1).sample(split, 5).answer)


@pytest.mark.parametrize("task", TASKS, ids=str)
@pytest.mark.parametrize("split", SPLITS)
def test_samples_depend_on_the_generators_state_alone(task, split):
    generator = torch.Generator().manual_seed(5)
    state, before = generator.get_state(), torch.get_rng_state()
    first = task.sample(split, 10, generator)
    assert equal(first, task.sample(split, 10, torch.Generator().set_state(state)))
    assert not torch.equal(first.answer, task.sample(split, 10, generator).answer)
    assert torch.equal(before, torch.get_rng_state())
    if split != "train":
        rows = [row.tolist() for row in whole(task, split).answer]
        drawn = [row.tolist() for row in task.sample(split, task.size(split), generator).answer]
        assert all(row in rows for row in first.answer.tolist()) and sorted(drawn) == sorted(rows)


def test_training_draws_trajectories_without_end_and_images_of_train():
    fresh = BALL.sample("train", 200_000, torch.Generator().manual_seed(0))
    assert len(fresh) > BALL.size("train") and BALL.score(fresh.prompt(1), fresh.answer).all()
    images = {tuple(row) for row in Digits().sample("train", 1_397).answer.flatten(1).tolist()}
    drawn = Digits().sample("train", 3_000, torch.Generator().manual_seed(0)).answer
    assert {tuple(row) for row in drawn.flatten(1).tolist()} <= images


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_what_is_shown_is_read_back(task):
    its = whole(task, "test")
    for row in (*its.answer[:20], *its.prompt(task.mask_id)[:20]):
        line = task.show(row)
        again = task.encode(line)
        assert again.dtype == row.dtype and "\n" not in line and task.show(again) == line
        assert torch.allclose(again, row, rtol=0, atol=0.0005, equal_nan=True)
        if task.values.port == "Codes":
            assert torch.equal(again, row)
    assert (task.symbol(0), task.symbol(1), task.gap(0), task.gap(task.length - 1)) == ("o", ".", " ", "")


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_prompt_that_is_not_kept_and_an_answer_that_is_not_whole_are_wrong(task):
    its = whole(task, "test")
    prompt = its.prompt(task.mask_id)
    for token in range(task.length):
        blank, other = its.answer.clone(), its.answer.clone()
        blank[:, token] = torch.nan if blank.is_floating_point() else -1
        assert not task.score(prompt, blank).any()
        other[:, token, 0] = (other[:, token, 0] + 1e-4) if blank.is_floating_point() else 16 - other[:, token, 0]
        changed = (other != its.answer).flatten(1).any(1)
        assert changed.any() and torch.equal(task.score(prompt, other), ~changed | (token >= task.asked))
    assert task.score(prompt[:0], its.answer[:0]).shape == (0,)


@pytest.mark.parametrize("task", [t for t in TASKS if isinstance(t, Bouncing)], ids=str)
def test_a_trajectory_is_right_within_the_tolerance(task):
    its = whole(task, "test")
    prompt, generator = its.prompt(task.mask_id), torch.Generator().manual_seed(0)
    angle = 2 * torch.pi * torch.rand(len(its), generator=generator)
    away = torch.stack([angle.cos(), angle.sin()], 1)
    for share, right in ((0.99, True), (1.01, False)):
        answer = its.answer.clone()
        at = torch.randint(2, task.length, (len(its),), generator=generator)
        answer[torch.arange(len(its)), at] += share * task.tolerance * away
        assert (task.score(prompt, answer) == right).all()
        assert ((task.error(prompt, answer) > 0.9 * task.tolerance).sum(1) == 1).all()


def test_speed_and_energy_stay_and_the_walls_hold():
    """Between two positions the particle goes as far as ever, but where it meets a wall; there it turns back."""
    for task in TASKS[:2]:
        path = whole(task, "train").answer.double()
        steps = path.diff(dim=1)
        assert (path.abs() <= 1).all()
        assert (steps[:, 0].norm(dim=1) >= task.speed / 2 - 1e-6).all()
        assert (steps[:, 0].norm(dim=1) <= task.speed + 1e-6).all()
        reach = steps[:, :1].abs() + 1e-6  # of each axis; a step that folds at a wall is shorter
        assert (steps.abs() <= reach).all()
        free = (path[:, :-1].abs() <= 1 - reach) & (steps.abs() > 0)  # too far from the walls to meet one
        assert free.any() and torch.allclose(steps.abs()[free], reach.expand_as(steps)[free], rtol=0, atol=1e-5)
        energy, unhit = steps.pow(2).sum(2), free.all(2)
        assert torch.allclose(energy[unhit], energy[:, :1].expand_as(energy)[unhit], rtol=0, atol=1e-5)
        folded = (steps.abs() < reach - 1e-4).any(2).any(1)
        assert folded.any()  # walls are met


def test_the_truth_is_a_walk_in_small_steps():
    """The same trajectory by a simulation that reflects the velocity at a wall."""
    its = whole(BALL, "test")
    truth = BALL.truth(its.prompt(BALL.mask_id))
    assert torch.allclose(truth, its.answer.double(), rtol=0, atol=1e-5)
    assert torch.equal(truth, BALL.truth(its.answer))  # by the first two positions alone
    fine = 1_000
    at, velocity = truth[:, 0].clone(), (truth[:, 1] - truth[:, 0]) / fine
    for step in range(1, BALL.length):
        for _ in range(fine):
            at = at + velocity
            outside = at.abs() > 1
            at = torch.where(outside, 2 * at.sign() - at, at)
            velocity = torch.where(outside, -velocity, velocity)
        assert torch.allclose(at, truth[:, step], rtol=0, atol=1e-9)


def test_every_image_is_used_once_and_put_back_together():
    images = load_digits(return_X_y=True)[0].astype(int)
    ours = torch.cat([Digits().image(Digits().sample(s, Digits().size(s)).answer) for s in SPLITS])
    assert len(ours) == len(images) == 1_797
    assert sorted(ours.flatten(1).tolist()) == sorted(images.tolist())
    prompt = INK.sample("test", 5).prompt(INK.mask_id)
    board = INK.image(prompt)
    assert (board[:, :4, :4] == INK.sample("test", 5).answer[:, 0].view(-1, 4, 4)).all()
    assert (board[:, 4:] == -1).all() and (board[:, :, 4:] == -1).all()


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_files_are_read_and_the_line_of_what_is_wrong_is_named(task, tmp_path):
    its = whole(task, "test").rows(slice(3))
    lines = [task.show(row) for row in its.answer]
    path = tmp_path / "mine.txt"
    path.write_text(f"# three\n{lines[0]}\n\n{lines[1]}  # the second\n{lines[2]}\n")
    read = task.read(path)
    assert torch.equal(read.given, its.given) and torch.allclose(read.answer, its.answer, rtol=0, atol=0.0005)
    words = lines[0].split()
    records = [json.dumps({"input": " ".join(words[:2]), "output": " ".join(words[2:])})]
    (tmp_path / "mine.jsonl").write_text("\n".join(records))
    assert torch.equal(task.read(tmp_path / "mine.jsonl").answer, read.answer[:1])
    blank = " ".join([*words[:-1], "."])
    for bad, says in ((blank, "a right answer expected"), ("0", f"1 tokens given, {task.length} expected")):
        path.write_text(f"{lines[0]}\n{bad}\n")
        with pytest.raises(ValueError, match=f"mine.txt, line 2: {says}"):
            task.read(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="no example in it"):
        task.read(path)
    with pytest.raises(ValueError, match="no such file"):
        task.read(tmp_path / "none.txt")
    with pytest.raises(ValueError, match=r"mine\.csv: no such file"):
        task.read(tmp_path / "mine.csv")


def test_a_file_of_a_wrong_trajectory_is_refused(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("0,0 0.1,0 " + "-0.9,-0.9 " * 14)
    with pytest.raises(ValueError, match="line 1: a right answer expected"):
        BALL.read(path)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_card_counts(task):
    card = task.describe()
    assert card["task"] == task.title and card["length"] == task.length and card["vocab_size"] == 2
    assert card["vocabulary"] == f"values of {task.values.size}, by the port {task.values.port}"
    assert {split: its["examples"] for split, its in card["splits"].items()} == {s: task.size(s) for s in SPLITS}
    origin = (
        ("generated here", "no rights reserved") if task.values.port == "Vectors" else ("scikit-learn", "CC BY 4.0")
    )
    assert card["source"].startswith(origin[0]) and card["licence"] == origin[1]


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    load.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r'sklearn is not installed.*pip install "unspoken\[images\]"'):
        Digits().sample("test", 1)
    assert Digits().size("test") == 200  # what needs no image needs no extra


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Bouncing(positions=2), "positions=2.*give 3 or more"),
        (lambda: Bouncing(speed=1.0), r"speed=1.0.*a speed in \(0, 1\)"),
        (lambda: Bouncing(speed=0.0), "speed=0.0"),
        (lambda: Bouncing(tolerance=0.0), "tolerance=0.0.*a tolerance above 0"),
        (lambda: Bouncing(tolerance=float("nan")), "tolerance=nan"),
        (lambda: Bouncing(test=-1), "validation, test, seed = 500, -1, 0: give 0 or more"),
        (lambda: Bouncing(seed=-1), "validation, test, seed = 500, 1000, -1"),
        (lambda: Digits(known=4), "known=4 given, 0 to 3 expected"),
        (lambda: Digits(known=-1), "known=-1 given"),
        (lambda: BALL.size("dev"), "split='dev' given, one of train, validation, test"),  # type: ignore
        (lambda: INK.sample("dev", 1), "split='dev' given"),  # type: ignore
        (lambda: BALL.sample("test", 41), "41 examples of test asked for, which holds 40; write 0 <= n <= 40"),
        (lambda: BALL.sample("test", 41, torch.Generator()), "which holds 40"),
        (lambda: BALL.sample("train", -1, torch.Generator()), "-1 examples of train"),
        (lambda: INK.sample("validation", 201), "which holds 200"),
        (lambda: BALL.encode("0,0 0,0"), "2 tokens given, 16 expected, `.` for one that is not known"),
        (lambda: Bouncing(3).encode("0,0 0,1.5 ."), "'0,1.5' given, a position x,y with numbers from -1 to 1"),
        (lambda: Bouncing(3).encode("0,0 nan,0 ."), "'nan,0' given"),
        (lambda: Bouncing(3).encode("0,0 0,0,0 ."), "'0,0,0' given"),
        (lambda: Bouncing(3).encode("0,0 x,0 ."), "'x,0' given"),
        (lambda: INK.encode(f"{'0' * 16} {'0' * 15} . ."), "'0{15}' given, a patch of 16 characters of 0123456789abc"),
        (lambda: INK.encode(f"{'0' * 16} {'h' * 16} . ."), "'h{16}' given"),
        (lambda: BALL.show(torch.zeros(2, 16, 2)), r"values of shape \(2, 16, 2\) given.*\[16, 2\].*write values\[i\]"),
    ],
)
def test_bad_input_says_what_to_write(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_every_level_is_written():
    codes = torch.from_numpy(np.arange(64).reshape(4, 16) % 17)
    assert set("".join(Digits().show(codes).split())) == set(LEVELS)
    assert torch.equal(Digits().encode(Digits().show(codes)), codes)


@pytest.mark.parametrize("task", [BALL, INK], ids=str)
def test_the_command_line_shows_examples(task):
    console = Console(file=io.StringIO(), width=500)
    ShowTask(task, examples=2)(console)
    assert isinstance(console.file, io.StringIO)
    written = console.file.getvalue()
    its = task.sample("test", 2)
    for prompt, answer in zip(its.prompt(task.mask_id), its.answer, strict=True):
        assert f"asked     {task.show(prompt)}\n" in written and f"answered  {task.show(answer)}\n" in written

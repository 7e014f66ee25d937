"""Strips and scenes: what is drawn is judged right, a picture is read back from its patches, splits share nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unspoken.noise.space import paired
from unspoken.tasks import Scenes, Strips, images, pictured, scenes, strips
from unspoken.tasks.base import SPLITS, Examples, Split
from unspoken.tasks.pictured import PAD, Pictured

STRIPS = [Strips(), Strips(spellings=2, queries=10)]


@pytest.fixture(scope="module", autouse=True)
def fashion() -> Any:
    """A few random images in place of Fashion-MNIST, of all classes in every split."""
    real, sizes = images.load, {"train": 40, "validation": 20, "test": 20}

    def load(source: images.Source, split: Split) -> images.Images:
        if source == "digits":
            return real(source, split)
        generator = torch.Generator().manual_seed(SPLITS.index(split))
        n = sizes[split]
        pixels = torch.randint(0, 256, (n, 28, 28), generator=generator).to(torch.uint8)
        return images.Images(pixels, torch.arange(n) % 10, 255)

    caches = pictured.pool, scenes._wanted, scenes._known
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "load", load)
        for cache in caches:
            cache.cache_clear()
        yield
    for cache in caches:
        cache.cache_clear()


def whole(its: Examples) -> Tensor:
    """Ids and values side by side, the answer's too."""
    assert its.value is not None
    return paired(its.x0, its.value)


TASKS: list[Pictured] = [*STRIPS, Scenes()]
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.title)


@each_task
def test_what_is_drawn_is_right_and_a_line_gives_it_back(task: Pictured) -> None:
    for split in SPLITS:
        its = task.sample(split, 60, torch.Generator().manual_seed(1) if split == "train" else None)
        prompt = its.prompt(task.mask_id)
        assert prompt.shape == (60, task.length, 1 + task.values.size[0]) and its.says_ids
        assert bool(task.score(prompt, its.x0).all())
        for row in (0, 1):
            text = task.show(whole(its)[row])
            assert torch.equal(task.encode(text).nan_to_num(-1), whole(its)[row].nan_to_num(-1))
            asked = task.encode(task.show(prompt[row]))
            assert torch.equal(asked.nan_to_num(-1), prompt[row].nan_to_num(-1))
            assert text.endswith(f" = {task.show(its.x0[row])}")


@each_task
def test_another_answer_is_wrong(task: Pictured) -> None:
    """One word changed, one left out, a mask, an end too early, an answer about another picture."""
    its = task.sample("validation", 60)
    prompt = its.prompt(task.mask_id)
    first = task.asked
    for change in (task.mask_id, task.end, 0):
        other = its.x0.clone()
        other[:, first] = change
        assert not bool(task.score(prompt, other).any())
    # Every other word in the first place: strips with two spellings have none that is right but another spelling.
    for word in range(task.mask_id):
        other = its.x0.clone()
        other[:, first] = word
        assert torch.equal(task.score(prompt, other), other[:, first] == its.x0[:, first])
    shorter = torch.cat([its.x0[:, :first], its.x0[:, first + 1 :], torch.full((60, 1), task.end)], 1)
    assert not bool(task.score(prompt, shorter).any())
    moved = prompt.roll(1, 0)
    same = (its.x0.roll(1, 0) == its.x0).all(1)
    assert not bool((task.score(moved, its.x0) & ~same).all())
    changed = prompt.clone()
    changed[:, 0, 1] += 0.01  # a picture of nothing that is known
    assert not bool(task.score(changed, its.x0).any()) and "unknown images" in task.show(changed[0])


@each_task
def test_splits_share_no_image(task: Pictured) -> None:
    used = []
    for split in SPLITS:
        u = torch.rand(200, task.numbers, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        recipes = task.made(u, split)[:, : task.recipe].tolist()
        used.append({number for recipe in recipes for number in task.shown(recipe)})
    assert all(not a & b for a, b in itertools.combinations(used, 2))


@each_task
def test_examples_of_a_split_do_not_depend_on_how_many_are_asked(task: Pictured) -> None:
    many, few = task.sample("test", 20), task.sample("test", 5)
    assert torch.equal(whole(many)[:5].nan_to_num(-1), whole(few).nan_to_num(-1))
    other = replace(task, seed=1).sample("test", 5)
    assert not torch.equal(other.x0, few.x0)


def test_every_strip_that_there_may_be_fits_and_is_told_apart() -> None:
    words = [word for spellings in strips.SPELLINGS for word in spellings]
    assert len(set(words)) == 20 and all(len(a.split()) != len(b.split()) for a, b in strips.SPELLINGS)
    assert all(word[0] == "b" and "b" not in word[1:] for word in words)  # so words are told apart
    its = Strips(spellings=2, queries=9).sample("train", 2_000, torch.Generator().manual_seed(0))
    length = (its.x0[:, 10:] != Strips().end).sum(1)
    assert set(length.tolist()) == set(range(2, 10))


def test_any_mixture_of_spellings_is_right_and_a_mixed_word_is_not() -> None:
    task = Strips(spellings=2)
    row = task.row("3@0 900@10 47@20")
    numbers = row[:3].tolist()
    spelled = [strips.SPELLINGS[int(pictured.pool("digits").label[number])] for number in numbers]
    prompt = task.encode("3@0 900@10 47@20")

    def right(words: list[str], judge: Strips = task) -> bool:
        answer = task.encode(f"3@0 900@10 47@20 = {' '.join(words)}")[:, 0].long()
        return bool(judge.score(prompt[None], answer[None])[0])

    for choice in itertools.product((0, 1), repeat=3):
        words = [spelled[digit][its] for digit, its in enumerate(choice)]
        assert right(words) and right(words, Strips()) == (choice == (0, 0, 0))
        assert not right(words[:2]) and not right([*words[:2], words[2].split()[0]])
        assert not right([words[1], words[0], words[2]]) or words[0] == words[1]
    short, long = sorted((word.split() for word in spelled[0]), key=len)
    assert short[0] == long[0]
    for mixed in (long[:2], [*short, long[2]]):
        assert not right([*mixed, spelled[1][0], spelled[2][0]])


def test_a_strip_is_what_its_line_says() -> None:
    task = Strips()
    strip = task.strip(task.encode("3@1 900@32")[:10, 1:])
    assert torch.equal(strip[:, 1:9], pictured.pool("digits").pixels[3] / 16)
    assert torch.equal(strip[:, 32:], pictured.pool("digits").pixels[900] / 16)
    assert not strip[:, 9:32].any() and not strip[:, 0].any()


SCENE = "0 6 8 0"  # t-shirt, shirt, bag, t-shirt


@pytest.mark.parametrize(
    ("scene", "question", "answer"),
    [
        ("0 1 8 9", "what is left of the boot", "a bag"),
        ("0 1 8 9", "what is left of the bag", "nothing"),
        ("0 1 8 9", "what is right of the bag", "a boot"),
        ("0 1 8 9", "what is right of the trouser", "nothing"),
        ("9 7 5 15", "how many shoes", "four"),
        ("0 2 8 1", "how many tops", "two"),
        ("0 2 8 1", "how many shoes", "none"),
        ("0 1 8 9", "what is in the top row", "a t-shirt and a trouser"),
        ("0 1 8 9", "what is in the bottom row", "a bag and a boot"),
        ("0 1 8 8", "what is there", "a t-shirt a trouser a bag a bag"),
    ],
)
def test_a_question_about_a_scene_has_one_answer(scene: str, question: str, answer: str, tmp_path: Path) -> None:
    task = Scenes()
    file = tmp_path / "scenes.txt"
    file.write_text(f"{scene} | {question}\n{scene} | {question} = {answer}  # as it is\n")
    its = task.read(file)
    assert torch.equal(its.x0[0], its.x0[1]) and task.show(its.x0[0]) == answer
    wrong = "nothing" if answer != "nothing" else "a bag"
    file.write_text(f"{scene} | {question} = {wrong}\n")
    with pytest.raises(ValueError, match="line 1: a right answer expected"):
        task.read(file)


def test_training_may_draw_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "strips.txt"
    file.write_text("3@0 900@10\n# a comment\n47@20 = " + strips.SPELLINGS[_label(47)][1] + "\n")
    task = Strips(spellings=2, path=str(file))
    assert task.size("train") == 2 and task.size("test") == 1_000
    drawn = task.sample("train", 50, torch.Generator().manual_seed(0))
    stored = task.sample("train", 2)
    assert {tuple(row) for row in drawn.x0.tolist()} == {tuple(row) for row in stored.x0.tolist()}
    assert task.show(stored.x0[1]) == strips.SPELLINGS[_label(47)][1]
    assert torch.equal(task.sample("test", 3).x0, Strips(spellings=2).sample("test", 3).x0)
    file.write_text("3@0 = ga\n")  # a teacher's answer may be wrong; of a file that is judged it may not
    assert task.show(replace(task, seed=1).sample("train", 1).x0[0]) == "ga"
    with pytest.raises(ValueError, match="line 1: a right answer expected"):
        task.read(file)
    for line, said in (("1500@0", "an image of validation or test"), ("3@0 = ba .", "said in part"), ("x", "IMAGE")):
        file.write_text(f"3@0\n{line}\n")
        with pytest.raises(ValueError, match=f"line 2: .*{said}"):
            task.taught(file)


def _label(number: int) -> int:
    return int(pictured.pool("digits").label[number])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Strips(spellings=3), "spellings=3"),
        (lambda: Strips(queries=8), "queries=8"),
        (lambda: Scenes(queries=7), "queries=7"),
        (lambda: Strips(validation=-1), "0 or more"),
        (lambda: Strips(seed=-1), "seed=-1"),
        (lambda: Strips().encode("3"), "IMAGE@COLUMN expected"),
        (lambda: Strips().encode("1797@0"), "an image of 0 to 1796"),
        (lambda: Strips().encode("3@33"), "of 0 to 32"),
        (lambda: Strips().encode("3@8 4@15"), "from left to right"),
        (lambda: Strips().encode("1@0 2@8 3@16 4@24"), "1 to 3 expected"),
        (lambda: Strips().encode("3@0 = zo"), "'zo' given"),
        (lambda: Strips().encode("3@0 = " + "ba " * 17), "at most 16 words"),
        (lambda: Scenes().encode("1 2 3 | what is there"), "the numbers of 4 expected"),
        (lambda: Scenes().encode("1 2 3 80000 | what is there"), "a whole number 0..69999 expected"),
        (lambda: Scenes().encode("0 1 8 4 | what is there"), "image 4 is a coat"),
        (lambda: Scenes().solved("0 1 8 9 | how many bags"), "'bags' given"),
        (lambda: Scenes().solved("0 1 8 8 | what is left of the bag"), "no question about"),
        (lambda: Scenes().encode("0 1 8 9 | what is left of the bag there"), "at most 6 words"),
    ],
)
def test_what_can_not_be_is_said(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_an_answer_may_be_partly_said() -> None:
    task = Strips()
    prompt = task.encode("3@0 = ba .")
    assert prompt[10:12, 0].tolist() == [1, task.mask_id] and bool((prompt[12:, 0] == task.end).all())
    assert task.show(prompt) == "3@0 = ba ." and PAD not in task.show(prompt)

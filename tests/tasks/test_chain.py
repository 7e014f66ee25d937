"""The Markov chain: drawn sequences follow it, its entropy is that of all sequences, and its judge sees every step."""

from typing import Any

import pytest
import torch
from toy import all_sequences, chi_square_p, seeded

from unspoken.tasks import Chain

SMALL = Chain(states=3, shares=(0.7, 0.3), length=4)


def test_the_entropy_is_that_of_all_sequences() -> None:
    nll = SMALL.nll(all_sequences(3, 4))
    p = (-nll).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    assert SMALL.entropy == pytest.approx(float(torch.special.entr(p).sum()), abs=1e-12)
    assert Chain().entropy / 24 == pytest.approx(0.963, abs=0.01)


def test_it_is_stationary_and_every_state_has_its_successors() -> None:
    task = Chain()
    table = task.transition
    assert table.sort(1, descending=True).values[:, :4].tolist() == [[0.6, 0.3, 0.1, 0.0]] * 16
    p = (-SMALL.nll(all_sequences(3, 4))).exp()
    first, last = (torch.bincount(all_sequences(3, 4)[:, i], p, minlength=3) for i in (0, 3))
    assert torch.allclose(first, last, atol=1e-12)


def test_sequences_are_drawn_from_it() -> None:
    """9,000 sequences of the legal ones, chi-square p above 1e-5."""
    x0 = SMALL.sample("train", 9_000, seeded()).x0
    states, p = all_sequences(3, 4), (-SMALL.nll(all_sequences(3, 4))).exp()
    index = (x0 * 3 ** torch.arange(3, -1, -1)).sum(1)
    assert torch.equal(states[index], x0)
    counts = torch.bincount(index, minlength=81).double()
    assert (counts[p == 0] == 0).all()
    assert chi_square_p(counts[p > 0], p[p > 0]) > 1e-5


def test_splits_are_fixed_and_training_is_without_end() -> None:
    task = Chain(validation=5, test=7)
    assert torch.equal(task.sample("test", 7).x0, task.sample("test", 7).x0)
    assert torch.equal(task.sample("test", 7).x0[:3], task.sample("test", 3).x0)
    assert not torch.equal(task.sample("test", 5).x0, task.sample("validation", 5).x0)
    assert not torch.equal(task.sample("train", 5, seeded(1)).x0, task.sample("train", 5, seeded(2)).x0)
    some = task.sample("test", 4, seeded()).x0
    assert all(any(torch.equal(row, own) for own in task.sample("test", 7).x0) for row in some)
    with pytest.raises(ValueError, match="which holds 7"):
        task.sample("test", 8)


def test_the_judge_sees_every_step_and_keeps_the_prompt() -> None:
    task = Chain()
    x = task.sample("test", 200)
    prompt = x.prompt(task.mask_id)
    assert task.score(prompt, x.x0).all()
    for i in range(task.length):
        wrong = x.x0.clone()
        wrong[:, i] = (wrong[:, i] + torch.randint(1, 16, (200,), generator=seeded(i))) % 16
        legal = (task.transition[wrong[:, :-1], wrong[:, 1:]] > 0).all(1)
        assert torch.equal(task.score(prompt, wrong), legal)
        assert not task.score(x.x0, wrong).any()
    assert not task.score(prompt, prompt).any()


def test_text_comes_back(tmp_path) -> None:
    task = Chain()
    x0 = task.sample("test", 3).x0
    file = tmp_path / "chains.txt"
    file.write_text("".join(task.show(row) + "\n" for row in x0))
    assert torch.equal(task.read(file).x0, x0)
    half = task.encode("a" + "." * 23)
    assert half.tolist() == [0] + [16] * 23
    assert task.show(half) == "a" + "." * 23


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("abc", "3 characters"),
        ("z" * 24, "'z'"),
        ("." * 24, "a right answer"),
        ("a" * 24, "a right answer"),
    ],
)
def test_bad_files_are_refused_by_line(text: str, says: str, tmp_path) -> None:
    file = tmp_path / "chains.txt"
    file.write_text(text + "\n")
    with pytest.raises(ValueError, match="line 1") as error:
        Chain().read(file)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"states": 1}, "2 to 26"),
        ({"shares": (0.5, 0.4)}, "sum to 1"),
        ({"shares": (0.25,) * 4, "states": 3}, "as many"),
        ({"length": 1}, "two tokens"),
        ({"test": -1}, "at least 0, 0 and 0"),
    ],
)
def test_bad_chains_are_refused(bad: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Chain(**bad)

"""Decoding values: codes from mask slots, vectors by a walk; and both tasks through train, solve and the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import EXACT, seeded, tiny

import unspoken as us
from unspoken import cli
from unspoken.decoders.decode import decoder_of
from unspoken.layout.entries import one_block
from unspoken.measure.accuracy import Solved, solve
from unspoken.model.codes import Codes
from unspoken.model.ports import Vectors
from unspoken.noise.gaussian import Seen
from unspoken.noise.space import is_unknown
from unspoken.training.run import Run

CODES, VECTORS = Codes(2, 4, width=8, placeholder=0), Vectors(2, placeholder=0)


def codes_prompt() -> Tensor:
    """Three rows of five code vectors; 3, 4 and 0 of them are not known."""
    prompt = torch.randint(4, (3, 5, 2), generator=seeded())
    prompt[0, 1:4] = -1
    prompt[1, :4] = -1
    return prompt


@pytest.mark.parametrize("options", [{}, {"latents": 1, "candidates": 2}, {"commit": 2}, {"order": "uniform"}], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_codes_are_decoded_alike_cached_and_recomputed(options: dict[str, Any], temperature: float) -> None:
    model = tiny(us.CACHED_JOINT, positions=5, port=CODES)
    prompt, found = codes_prompt(), []
    for cache in (True, False):
        steps = us.decode(model, prompt, cache=cache, temperature=temperature, generator=seeded(1), **options)
        found.append(list(steps))
    for step, other in zip(*found, strict=True):
        assert step.value is not None and other.value is not None
        assert torch.equal(step.value, other.value) and torch.equal(step.tokens, other.tokens)
        assert torch.allclose(step.confidence, other.confidence, **EXACT)
    answer = found[0][-1].answer
    known = ~is_unknown(prompt)
    assert not is_unknown(answer).any() and torch.equal(answer[known], prompt[known])
    assert (found[0][-1].tokens == 0).all() and (answer < 4).all()


@torch.no_grad()
def test_a_code_vector_is_held_as_probable_as_its_loss_says() -> None:
    """Each pass beside all latents: the confidence of what is committed is exp(-loss) in a pass made by hand."""
    model = tiny(us.MDM, positions=5, port=CODES)
    value = codes_prompt()[:2]
    when = torch.zeros(2, 5, dtype=torch.int64)
    for index, step in enumerate(us.decode(model, value, temperature=1.0, generator=seeded(2))):
        unknown = is_unknown(value)
        layout = one_block(torch.where(unknown, 6, 0), unknown, torch.where(unknown, 5, when))
        assert step.value is not None
        for row in step.rows.tolist():
            (at,) = step.committed[row].nonzero()[:, 0].tolist()
            target, weight = step.value[[row], at][:, None], torch.ones(1, 1)
            asked = us.Question(torch.tensor([[at]]), target, weight, when[:1, :1], "values")
            alone = replace(layout.rows(torch.tensor([row])), value=value[[row]])
            (loss,) = model(alone, questions=[asked])
            assert torch.allclose(step.confidence[row, at], (-loss[0, 0]).exp(), **EXACT)
            when[row, at] = index + 1
        value = step.value


class Knowing(us.Denoiser):
    """The exact mean of clean vectors that are normal, each dim on its own: mean 2, standard deviation .5."""

    noise = us.Gaussian()

    def predict_values(self, layout: us.Layout, at: Tensor, cache: Any = None) -> Seen:
        assert layout.value is not None and layout.time is not None
        alpha, sigma = (part[..., None] for part in (self.noise.alpha(layout.time), self.noise.sigma(layout.time)))
        gain = 0.25 * alpha / (0.25 * alpha**2 + sigma**2)
        return Seen(2 + gain * (layout.value - 2 * alpha), "x0")


@pytest.mark.parametrize("path", [us.Diagonal(), us.Pyramid(0.3)], ids=str)
def test_a_walk_with_the_exact_mean_draws_the_normal(path: us.Diagonal | us.Pyramid) -> None:
    """4,000 rows of 3 vectors: mean and deviation within 5 standard errors and 1% for 128 steps (1 in 100,000)."""
    model = tiny(us.MDM, positions=3, port=VECTORS)
    model.__class__ = Knowing
    prompt = torch.full((4_000, 3, 2), torch.nan, dtype=torch.float64)
    prompt[:, 0] = 7.0
    *_, last = us.Walk(us.Gaussian(), passes=128, path=path).steps(model, prompt, generator=seeded(3))
    assert last.value is not None and (last.value[:, 0] == 7).all() and not last.value.isnan().any()
    drawn = last.value[:, 1:].flatten()
    assert float(drawn.mean()) == pytest.approx(2, abs=5 * 0.5 / len(drawn) ** 0.5 + 0.005)
    assert float(drawn.std()) == pytest.approx(0.5, abs=5 * 0.5 / (2 * len(drawn)) ** 0.5 + 0.005)
    assert (last.tokens == 0).all()


def test_a_walk_tells_which_vectors_are_clean() -> None:
    """From the left in as many passes as there are vectors: one is committed in each."""
    model = tiny(us.MDM, positions=4, port=VECTORS)
    prompt = torch.full((2, 4, 2), torch.nan, dtype=torch.float64)
    prompt[1, 0] = 0.5
    steps = list(us.Walk(us.Gaussian(), passes=3, path=us.Autoregressive()).steps(model, prompt[1:]))
    assert [step.committed.nonzero()[:, 1].tolist() for step in steps] == [[1], [2], [3]]
    assert [(step.tokens == 6).sum().item() for step in steps] == [2, 1, 0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: us.NextToken().steps(tiny(us.CACHED_JOINT, port=CODES), codes_prompt()), r"take us\.Slots"),
        (lambda: us.Slots().steps(tiny(us.MDM, port=VECTORS), torch.zeros(1, 2, 2)), r"us.Walk\(process=us.Gaussian"),
        (lambda: us.Walk().steps(tiny(us.MDM, port=VECTORS), torch.zeros(1, 2, 2)), "walked through Gaussian"),
        (lambda: us.Walk(us.Gaussian()).steps(tiny(us.MDM, port=CODES), codes_prompt()), "under the port Codes"),
        (lambda: us.Walk(us.Gaussian(), rounds=1).steps(tiny(us.MDM, port=VECTORS), torch.zeros(1, 2, 2)), "rounds=1"),
        (lambda: us.decode(tiny(us.MDM, port=CODES), torch.zeros(1, 5).long()), r"\[batch, seq, 2\] int64 codes"),
        (lambda: us.decode(tiny(us.MDM, port=CODES), torch.zeros(1, 5, 4).long()), r"\[batch, seq, 2\] int64 codes"),
        (lambda: us.decode(tiny(us.MDM, port=CODES), codes_prompt() + 4), "the model knows 0 to 3"),
        (lambda: us.decode(tiny(us.MDM), codes_prompt()), "need a model with a port"),
        (lambda: us.decode(tiny(us.MDM, port=CODES), codes_prompt(), order="margin"), "confidence, uniform or left"),
        (lambda: us.decode(tiny(us.MDM, port=CODES), codes_prompt(), entropy_bound=1.0), "no entropy_bound"),
        (lambda: us.decode(tiny(us.MDM, port=CODES), codes_prompt(), latent_policy="certain"), "needs no entropies"),
        (lambda: us.decode(tiny(us.MDM, port=VECTORS), torch.full((1, 2, 2), torch.inf)), "give finite ones"),
        (lambda: us.decode(tiny(us.MDM, port=VECTORS), torch.zeros(1, 2, 4)), r"\[batch, seq, 2\] floats, nan"),
        (lambda: _eps_walk(), "let the network predict x0, v or u"),
    ],
)
def test_bad_input(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def _eps_walk() -> None:
    model = tiny(us.MDM, port=Vectors(2, "eps", placeholder=0))
    us.Walk(us.Gaussian()).steps(model, torch.full((1, 2, 2), torch.nan, dtype=torch.float64))


# The two tasks, from end to end


SHORT = ["--steps", "4", "--save", "2", "--validate", "4", "--batch", "4", "--trunk.layers", "1", "--trunk.width", "16"]


@pytest.mark.parametrize("name", ["bouncing", "digits"])
def test_a_task_of_values_is_trained_solved_and_recorded(name: str, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    command = ["train", name, *SHORT, "--folder", str(folder)]
    assert cli.main(command) == 0 and cli.main(command) == 0  # the second goes on with a finished run
    config = Run(folder).config(us.Train)
    assert config.task == us.presets.PRESETS[name]().task and config.port == us.presets.PRESETS[name]().port
    model = us.load(folder, device="cpu")
    assert model.port == config.port and type(decoder_of(model)) is (us.Walk if name == "bouncing" else us.Slots)
    capsys.readouterr()
    assert cli.main(["solve", str(folder)]) == 0
    said = capsys.readouterr().out
    prompt = config.task.sample("test", 1).prompt(config.task.mask_id)[0]
    assert f"puzzle  {config.task.show(prompt)}" in said and "passes" in said
    puzzle = tmp_path / "puzzles.txt"
    examples = config.task.sample("test", 3)
    puzzle.write_text("\n".join(config.task.show(value) for value in examples.answer))
    code = cli.main(["solve", str(folder), "--file", str(puzzle)])
    out = capsys.readouterr()
    assert (code, "of 3 solved" in out.out) == (0, True) if name == "bouncing" else "no right answers" in out.err
    page = ["--html", str(tmp_path / "p.html")]
    assert cli.main(["solve", str(folder), "--puzzle", config.task.show(prompt), *page]) == 0
    assert (tmp_path / "p.html").exists()


@pytest.mark.parametrize("path", ["diagonal", "pyramid"])
def test_trajectories_are_drawn_along_paths(path: str, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    us.train(replace(us.presets.bouncing(), steps=1, batch=4, save=1, trunk=us.Trunk(1, 16, 2, times=True)), folder)
    assert cli.main(["solve", str(folder), "--path", path, "--passes", "5"]) == 0
    assert "5 passes, 80 entries in all" in capsys.readouterr().out


def test_solving_measures_values() -> None:
    """The exact answers are right; `Solved.tokens` are the values."""
    task = us.tasks.Bouncing()
    examples = task.sample("test", 4)
    model = tiny(us.MDM, positions=16, port=VECTORS).float()
    (solved,) = [s for s in solve(model, task, examples, us.Walk(us.Gaussian(), passes=2)) if isinstance(s, Solved)]
    assert solved.tokens.shape == (4, 16, 2) and solved.passes == 2
    assert torch.equal(solved.tokens[:, :2], examples.answer[:, :2])
    assert task.score(examples.prompt(1), examples.answer).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"port": None}, r"give port=us.Vectors\(2, placeholder=0\)"),
        ({"port": us.Vectors(3, placeholder=0)}, r"give port=us.Vectors\(2"),
        ({"port": us.Codes(2, 3, placeholder=0)}, r"give port=us.Vectors\(2"),
        ({"process": us.Absorbing(), "objective": us.MaskedDiffusion()}, r"vectors take Gaussian\(\)"),
        ({"objective": us.MaskedDiffusion()}, "take Denoising"),
        ({"task": us.presets.sudoku_4x4().task}, "is made of ids"),
        ({"port": us.Vectors(2, placeholder=1)}, "give placeholder=0"),
        ({"port": us.Vectors(2, "eps", placeholder=0)}, "give the view x0, v or u"),
        ({"trunk": us.Trunk()}, "Trunk.times=True"),
    ],
)
def test_configs_that_do_not_go_together_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(us.presets.bouncing(), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": us.BlockDiffusion(), "attention": us.CACHED_JOINT},
        {"objective": us.NextTokenPrediction(), "attention": us.CACHED_JOINT},
        {"objective": us.MultiToken(next_token=0.5), "attention": us.CACHED_JOINT},
        {"objective": us.Denoising(), "attention": us.MDM},
    ],
    ids=lambda changes: type(changes["objective"]).__name__,
)
def test_objectives_that_codes_have_no_decoder_for_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="with codes: these are asked at their own masks"):
        replace(us.presets.digits(), **changes)


def test_a_run_of_values_starts_from_a_checkpoint(tmp_path: Path) -> None:
    """The port is the config's, and a folder of ours that has another is refused."""
    short = replace(us.presets.digits(), steps=1, batch=4, save=1, trunk=us.Trunk(1, 16, 2))
    us.train(short, tmp_path / "first")
    again = replace(short, trunk=replace(short.trunk, checkpoint=str(tmp_path / "first")))
    assert us.train(again, tmp_path / "second").port == short.port

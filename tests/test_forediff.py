"""Foresight Diffusion as a composition: its runs fit together, and its probe is the first guess of a walk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import seeded

import unspoken as us
from unspoken import cli
from unspoken.layout.entries import one_block
from unspoken.systems import forediff
from unspoken.tasks import Bouncing, Chain
from unspoken.training.models import new_denoiser

TASK = Bouncing(positions=6, validation=4, test=4)
SHORT = {"steps": 2, "batch": 4, "warmup": 1, "save": 2, "validate": 2, "validation_examples": 4}
FLAGS = ["--steps", "2", "--batch", "4", "--save", "2", "--validate", "2", "--trunk.layers", "1"]


def test_an_untrained_flow_stands_still() -> None:
    """Its velocity is 0, so a walk ends in the noise that it began with, and its first guess is the mean of noise."""
    model = new_denoiser(forediff.vanilla(TASK, layers=1))
    prompt = TASK.sample("test", 3).prompt(TASK.mask_id)
    guess = forediff.first_guess(model, prompt, draws=400, generator=seeded())
    known = ~prompt.isnan()
    assert torch.equal(guess[known], prompt[known])
    assert float(guess[~known].abs().max()) < 6 / 400**0.5  # 24 normal means: 1 in 10 million


@torch.no_grad()
def test_the_first_guess_is_noise_less_velocity() -> None:
    model = new_denoiser(forediff.vanilla(TASK, layers=1, port=us.Vectors(2, "u", placeholder=0)))
    prompt = TASK.sample("test", 3).prompt(TASK.mask_id)
    given = ~prompt.isnan().any(-1)
    guess = forediff.first_guess(model, prompt, draws=1, generator=seeded(1))
    eps = forediff.FLOW.prior(prompt.nan_to_num(), given, us.Reals(2), seeded(1))
    token = torch.zeros(given.shape, dtype=torch.int64)
    layout = one_block(token, ~given, token, time=(~given).float())
    velocity = model.predict_values(replace(layout, value=eps), torch.arange(6).expand(3, 6)).value
    assert torch.allclose(guess[~given], (eps - velocity)[~given], atol=1e-6)


def test_both_streams_have_the_vanilla_models_weights_but_the_predictors_and_the_fusion() -> None:
    plain, both = new_denoiser(forediff.vanilla(TASK, layers=2)), new_denoiser(forediff.joint(TASK))
    own = dict(plain.named_parameters())
    more = [name for name, _ in both.named_parameters() if name not in own]
    assert {name.split(".")[0] for name in more} == {"foresight", "fusion"}
    assert all(torch.equal(weight, dict(both.named_parameters())[name]) for name, weight in own.items())
    zero = new_denoiser(forediff.joint(TASK, weight=0.0)).foresight
    assert zero is not None and isinstance(zero.port, us.Vectors) and zero.port.head == "none"


def test_the_stages_fit_together(tmp_path: Path, monkeypatch, capsys) -> None:
    """By their presets' own folders: the second stage is refused before the first, with its command, and then runs."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "forediff", *FLAGS]) == 2 and not Path("runs").exists()
    assert "`unspoken train forediff-predictor`" in " ".join(capsys.readouterr().err.split())
    for command in ("forediff-predictor", "forediff"):
        assert cli.main(["train", command, *FLAGS]) == 0
    assert cli.main(["solve", "runs/forediff-predictor/mdm-teacherless-seed0"]) == 0
    assert cli.main(["solve", "runs/forediff/mdm-denoising-seed0", "--passes", "3"]) == 0


def test_a_task_of_ids_is_refused() -> None:
    for make in (forediff.predictor, forediff.vanilla, forediff.joint):
        with pytest.raises(ValueError, match="not made of vectors"):
            make(Chain())

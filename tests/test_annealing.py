"""Attention annealed from causal: nothing later at first, the rule itself at the end, and never less than before."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from small import made

import unspoken as us
from unspoken.layout.annealing import annealed
from unspoken.layout.attention import ATTENTIONS
from unspoken.layout.entries import Layout, draw_ranks, random_order
from unspoken.tasks import Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.models import new_denoiser

LENGTH = 64


def layout() -> Layout:
    """A row in the order of its positions, half of it unsaid."""
    given = torch.arange(LENGTH)[None] < 8
    unsaid = (draw_ranks(~given, torch.Generator().manual_seed(0)) < 28) & ~given
    return random_order(torch.zeros(1, LENGTH, dtype=torch.int64), unsaid, given, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_from_causal_to_the_rule(name: str) -> None:
    rule, row = ATTENTIONS[name], layout()
    masks = [row.mask(annealed(rule, ahead))[0, 0] for ahead in (0.0, 0.3, 0.7, 1.0)]
    later = row.position[0][None, :] > row.position[0][:, None]
    assert not (masks[0] & later).any() and torch.equal(masks[0] & ~later, masks[-1] & ~later)
    assert torch.equal(masks[-1], row.mask(rule)[0, 0])
    assert all(bool((few <= more).all()) for few, more in pairwise(masks))


def test_the_share_is_as_asked() -> None:
    """Of 2,016 pairs that look ahead; 6 standard deviations of a binomial, 1 false alarm in 10^8."""
    row = layout()
    ahead = int((row.mask(us.MDM)[0, 0] & (row.position[0][None, :] > row.position[0][:, None])).sum())
    for share in (0.25, 0.5, 0.9):
        opened = int(row.mask(annealed(us.MDM, share))[0, 0].sum()) - int(row.mask(annealed(us.MDM, 0))[0, 0].sum())
        assert abs(opened - share * ahead) < 6 * (share * (1 - share) * ahead) ** 0.5


def test_an_annealed_model_is_causal_at_first_and_its_own_at_the_end(tmp_path: Path) -> None:
    """The rule changes while it is trained; what is averaged and saved has its own throughout."""
    made("llama", vocab_size=8, max_position_embeddings=16).save_pretrained(tmp_path / "base")
    task = Sudoku(2, 2, givens=8, train=20, validation=4, test=4)
    trunk = Trunk(checkpoint=str(tmp_path / "base"))
    config = Train(task, attention=us.MDM, trunk=trunk, steps=4, batch=2, warmup=1, anneal=2, log=1, save=2)
    assert [config.ahead(step) for step in range(4)] == [0.0, 0.5, 1.0, 1.0]
    rules: list[us.Attention] = []
    with pytest.MonkeyPatch.context() as patch:
        loop = import_module("unspoken.training.loop")
        real = loop._backward
        patch.setattr(
            loop, "_backward", lambda c, model, *rest: (rules.append(model.attention), real(c, model, *rest))[1]
        )
        list(loop.training(config, tmp_path / "run"))
    assert rules == [annealed(us.MDM, share) for share in (0.0, 0.5, 1.0, 1.0)]
    assert us.load(tmp_path / "run").attention == us.MDM
    with pytest.raises(ValueError, match="anneal"):
        replace(config, anneal=-1)


def test_a_shift_is_a_checkpoints(tmp_path: Path) -> None:
    made("llama", vocab_size=8, max_position_embeddings=16).save_pretrained(tmp_path / "base")
    task = Sudoku(2, 2, givens=8, train=20, validation=4, test=4)
    config = Train(task, attention=us.CACHED_JOINT, trunk=Trunk(checkpoint=str(tmp_path / "base"), shift=True))
    assert new_denoiser(config).shift
    with pytest.raises(ValueError, match="without a checkpoint"):
        Trunk(shift=True)

"""Tokens of which some are ids and others values: prompts that show vectors to a model of ids; codes after an id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import unspoken as us
from unspoken.noise.space import paired, unpaired
from unspoken.tasks.base import Examples, Values
from unspoken.tasks.sampled import Form
from unspoken.tasks.valued import WORDS, Valued

EXACT: dict[str, Any] = {"rtol": 0, "atol": 1e-9}
SHOWN, IDS, SAID, WIDTH = 3, 2, 4, 2  # tokens: three vectors, two ids, four ids that are said
VOCAB, MASK = 9, 8
PORT = us.Vectors(WIDTH, placeholder=0, head="none")


def examples(n: int, seed: int = 0) -> Examples:
    """Three vectors and two ids, then ids that are said: which of the vectors is the largest, and so on."""
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.randint(1, MASK, (n, SHOWN + IDS + SAID), generator=generator)
    x0[:, :SHOWN] = 0
    value = torch.full((n, x0.shape[1], WIDTH), torch.nan, dtype=torch.float64)
    value[:, :SHOWN] = torch.randn(n, SHOWN, WIDTH, generator=generator, dtype=torch.float64)
    given = (torch.arange(x0.shape[1]) < SHOWN + IDS).expand_as(x0)
    return Examples(x0, given, value)


def shown_by(its: Examples) -> Tensor:
    """The values of examples that have some."""
    assert its.value is not None
    return its.value


def tiny(attention: us.Attention, port: Any = PORT, vocab: int = VOCAB) -> us.Denoiser:
    """In double precision, its weights drawn by a fixed seed."""
    torch.manual_seed(0)
    config = us.Trunk(layers=2, width=16, heads=2, init=0.3).config(vocab, 32)
    return us.Denoiser.from_config(config, attention=attention, mask_id=vocab - 1, positions=16, port=port).double()


def test_a_prompt_is_ids_and_values_side_by_side() -> None:
    its = examples(3)
    prompt = its.prompt(MASK)
    token, value = unpaired(prompt)
    assert prompt.shape == (3, 9, 1 + WIDTH) and its.mixed and its.says_ids
    assert torch.equal(token[:, :5], its.x0[:, :5]) and bool((token[:, 5:] == MASK).all())
    assert torch.equal(value[:, :SHOWN], shown_by(its)[:, :SHOWN])
    assert torch.equal(its.answer, its.x0)
    assert torch.equal(paired(token, value).nan_to_num(7), prompt.nan_to_num(7))


OBJECTIVES = [
    (us.MDM, us.MaskedDiffusion()),
    (us.SCDM, us.MaskedDiffusion()),
    (us.CACHED_JOINT, us.MaskedDiffusion(groups=us.Groups(0.5))),
    (us.CACHED_JOINT, us.NextTokenPrediction()),
    (us.CACHED_JOINT, us.MultiToken(window=3, next_token=0.5)),
    (us.CACHED_JOINT, us.Teacherless()),
    (us.CACHED_JOINT, us.BlockDiffusion(2)),
]


@pytest.mark.parametrize(("attention", "objective"), OBJECTIVES)
def test_a_training_pass_shows_the_values_and_asks_for_ids(attention: us.Attention, objective: Any) -> None:
    """With a head that predicts nothing else: the questions are those of ids alone, and losses depend on the values."""
    its, model = examples(4), tiny(attention)
    plain = objective.pack(us.Absorbing(), its.x0, its.given, MASK, torch.Generator().manual_seed(1))
    packed = objective.pack(us.Absorbing(), its.x0, its.given, MASK, torch.Generator().manual_seed(1), its.value)
    assert packed.layout.value is not None
    for mine, other in zip(packed.questions, plain.questions, strict=True):
        assert mine.port == "ids" and torch.equal(mine.target, other.target) and torch.equal(mine.at, other.at)
    shows = packed.layout.token == 0
    position = packed.layout.position[..., None].expand(-1, -1, WIDTH)
    true = shown_by(its).nan_to_num(0).gather(1, position)
    assert torch.equal(packed.layout.value[shows], true[shows])
    other = objective.pack(
        us.Absorbing(), its.x0, its.given, MASK, torch.Generator().manual_seed(1), shown_by(its).flip(0)
    )
    mine, theirs = (packed.reduce(us.packed_losses(model, its)).item() for its in (packed, other))
    assert mine != theirs


DECODERS = [
    (us.MDM, us.Slots()),
    (us.SCDM, us.Slots(latents=1)),
    (us.CACHED_JOINT, us.Slots(latents=1, order="left_to_right", latent_policy="next")),
    (us.CACHED_JOINT, us.NextToken()),
    (us.CACHED_JOINT, us.Speculation()),
    (us.CACHED_JOINT, us.Blocks(2)),
]


@pytest.mark.parametrize(("attention", "decoder"), DECODERS)
def test_ids_are_said_beside_values_that_are_shown(attention: us.Attention, decoder: Any) -> None:
    """A batch says what its rows say alone, and what a cache says is what recomputing says; values matter."""
    its, model = examples(6), tiny(attention)
    prompt = its.prompt(MASK)
    said = us.last(us.decode(model, prompt, decoder=decoder), prompt)
    assert said.shape == its.x0.shape and not bool((said == MASK).any())
    assert torch.equal(said[:, : SHOWN + IDS], its.x0[:, : SHOWN + IDS])
    alone = [us.last(us.decode(model, row[None], decoder=decoder), row[None]) for row in prompt]
    assert torch.equal(said, torch.cat(alone))
    again = us.last(us.decode(model, prompt, decoder=decoder, cache=False), prompt)
    assert torch.equal(said, again)
    other = prompt.clone()
    other[:, :SHOWN, 1:] = -prompt[:, :SHOWN, 1:]
    assert not torch.equal(said, us.last(us.decode(model, other, decoder=decoder), other))


def test_rows_of_different_lengths_keep_their_own_values() -> None:
    """Rows leave the batch as they end: those that go on see their own vectors."""
    its, model = examples(5), tiny(us.CACHED_JOINT)
    prompt = its.prompt(MASK)
    for row in range(5):  # so many of the ids are given
        known = slice(SHOWN + IDS, SHOWN + IDS + row)
        prompt[row, known, 0] = its.x0[row, known].double()
    for decoder in (us.Slots(), us.NextToken()):
        said = us.last(us.decode(model, prompt, decoder=decoder), prompt)
        alone = [unpaired(row[None])[0] for row in prompt]
        alone = [us.last(us.decode(model, row[None], decoder=decoder), a) for row, a in zip(prompt, alone, strict=True)]
        assert torch.equal(said, torch.cat(alone))


def test_codes_are_said_after_an_id() -> None:
    """A class, then codes: the id is read by the embedding, stays, and matters."""
    model = tiny(us.MDM, us.Codes(2, 5, placeholder=0), vocab=5)
    x0 = torch.tensor([[cls, 0, 0] for cls in (1, 2, 3)])
    value = torch.randint(5, (3, 3, 2), generator=torch.Generator().manual_seed(0))
    value[:, 0] = -1
    its = Examples(x0, torch.tensor([[True, False, False]] * 3), value)
    prompt = its.prompt(4)
    assert its.mixed and not its.says_ids and prompt.dtype == torch.int64 and torch.equal(its.answer, value)
    packed = us.MaskedDiffusion().pack(us.Absorbing(), x0, its.given, 4, torch.Generator().manual_seed(1), value)
    assert all(q.port == "values" and bool((q.target[q.real] >= 0).all()) for q in packed.questions)
    assert bool((packed.layout.token[:, 0] == x0[:, 0]).all())
    said = us.last(us.decode(model, prompt), prompt)
    assert said.shape == value.shape and bool((said[:, 0] == -1).all()) and bool((said[:, 1:] >= 0).all())
    first = model.predict_values(packed.layout, torch.ones(3, 1, dtype=torch.int64)).first
    assert not torch.allclose(first[0], first[1], **EXACT)


@dataclass(frozen=True)
class Parity(Valued):
    """Three numbers of either sign; are they positive?"""

    values = Values("Vectors", (1,), asked="ids")
    form = Form("signs", (*WORDS, "no", "yes"), asked=3, said=3)

    def holds(self, split: str) -> int:
        return 64

    def numbered(self, split: str, index: Tensor) -> Examples:
        return self.drawn(64, torch.Generator().manual_seed(len(split))).rows(index)

    def drawn(self, n: int, generator: torch.Generator) -> Examples:
        value = torch.full((n, 6, 1), torch.nan)
        value[:, :3] = torch.randn(n, 3, 1, generator=generator)
        x0 = torch.cat([torch.zeros(n, 3, dtype=torch.int64), 1 + (value[:, :3, 0] > 0).long()], 1)
        return Examples(x0, self.given(x0), value)

    def word(self, value: Tensor) -> str:
        return f"{value.item():.3f}"

    def parse(self, word: str) -> Tensor:
        return torch.tensor([float(word)])


@pytest.mark.parametrize(
    ("attention", "objective"),
    [(us.MDM, us.MaskedDiffusion()), (us.CACHED_JOINT, us.NextTokenPrediction())],
)
def test_what_a_prompt_shows_is_learned(attention: us.Attention, objective: Any, tmp_path: Path) -> None:
    """Answers that depend on the values alone: right by training, and a saved model says the same."""
    trunk = us.Trunk(layers=2, width=32, heads=2, init=0.1)
    port = us.Vectors(1, placeholder=0, head="none")
    kinds: dict[str, Any] = {"attention": attention, "objective": objective, "port": port, "trunk": trunk}
    task: Any = Parity()
    config = us.Train(task, **kinds, steps=150, batch=64, warmup=10)
    model = us.train(config, tmp_path / "run")
    its = config.task.sample("test", 64)
    prompt = its.prompt(config.task.mask_id)
    said = us.last(us.decode(model, prompt), prompt)
    assert (said == its.x0)[:, 3:].float().mean() > 0.9
    loaded = us.load(tmp_path / "run", "cpu")
    assert torch.equal(us.last(us.decode(loaded, prompt), prompt), said)


def test_what_does_not_go_together() -> None:
    its, model = examples(2), tiny(us.CACHED_JOINT)
    prompt = its.prompt(MASK)
    with pytest.raises(ValueError, match="the ids first"):
        us.decode(model, shown_by(its))
    with pytest.raises(ValueError, match="its value is not known"):
        us.decode(model, paired(its.x0, shown_by(its) * torch.nan))
    with pytest.raises(ValueError, match="give whole ones"):
        us.decode(model, prompt + 0.5)
    with pytest.raises(ValueError, match=r"us\.Slots"):
        us.decode(tiny(us.MDM), prompt, decoder=us.Walk(us.Gaussian()))
    half = shown_by(its).clone()
    half[:, -1] = 0.0
    with pytest.raises(ValueError, match="not both"):
        us.MaskedDiffusion().pack(us.Absorbing(), its.x0, its.given, MASK, None, half)
    task: Any = Parity()
    with pytest.raises(ValueError, match="head='none'"):
        us.Train(task, attention=us.MDM, port=us.Vectors(1, placeholder=0))

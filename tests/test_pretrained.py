"""A pretrained causal model keeps its ability: its prompt is read from left to right, in training and in decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import float64, made
from transformers import PreTrainedModel
from words import SIZE, tokenizer

import unspoken as us

CAUSAL = [replace(rule, prompt="causal") for rule in (us.CACHED_JOINT, us.CACHED_ALONE, us.ANY_ORDER)]


@pytest.fixture
def trunk() -> Iterator[PreTrainedModel]:
    with float64():
        yield made("llama").double()


@pytest.fixture
def folder(trunk: PreTrainedModel, tmp_path: Path) -> Path:
    """As transformers saves it."""
    trunk.save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def some_text(trunk: PreTrainedModel, rows: int = 3, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, and which of them are the prompt: 1, 2, ... of a row."""
    x0 = torch.randint(trunk.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))
    return x0, torch.arange(length) <= torch.arange(rows)[:, None]


def rows_after(x0: torch.Tensor, given: torch.Tensor, mask_id: int) -> torch.Tensor:
    return torch.where(given, x0, mask_id)


@pytest.mark.parametrize("rule", [us.CACHED_JOINT, us.CACHED_ALONE, us.ANY_ORDER], ids=lambda rule: rule.name)
def test_a_foreign_prompt_is_read_from_left_to_right_and_that_is_saved(
    folder: Path, rule: us.Attention, tmp_path: Path
) -> None:
    model = us.Denoiser.from_pretrained(folder, attention=rule, dtype=torch.float64)
    assert model.attention == replace(rule, prompt="causal")
    model.save_pretrained(tmp_path / "ours")
    assert us.Denoiser.from_pretrained(tmp_path / "ours").attention == model.attention
    again = us.Denoiser.from_pretrained(tmp_path / "ours", attention=us.CACHED_JOINT)
    assert again.attention.prompt == "causal", "another rule, the same way to read a prompt"
    assert us.Denoiser.from_pretrained(tmp_path / "ours", attention=us.MDM).attention == us.MDM
    joint = us.Denoiser.from_pretrained(folder, attention=rule, prompt="joint")
    assert joint.attention == rule
    joint.save_pretrained(tmp_path / "joint")
    assert us.Denoiser.from_pretrained(tmp_path / "joint", attention=us.CACHED_JOINT).attention == us.CACHED_JOINT


def test_next_token_losses_are_those_of_the_trunk(trunk: PreTrainedModel) -> None:
    x0, given = some_text(trunk)
    logits = trunk(x0).logits[:, :-1]
    expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), x0[:, 1:], reduction="none")
    mask_id = int(trunk.config.vocab_size)
    trunk.resize_token_embeddings(mask_id + 1)
    model = us.Denoiser(trunk, CAUSAL[0], mask_id)
    packed = us.NextTokenPrediction().pack(us.Absorbing(), x0, given, mask_id, torch.Generator())
    question = packed.one
    losses = us.packed_losses(model, packed)
    position = packed.layout.position.gather(1, question.at)
    assert torch.allclose(losses[question.real], expected.gather(1, position)[question.real], atol=1e-9)
    assert int(question.real.sum()) == int((~given).sum())


@pytest.mark.parametrize("cache", [True, False])
def test_greedy_decoding_is_that_of_transformers(folder: Path, trunk: PreTrainedModel, cache: bool) -> None:
    x0, _ = some_text(trunk, rows=1)
    model = us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT, dtype=torch.float64)
    rows = torch.cat([x0, torch.full((1, 6), model.mask_id)], 1)
    *_, step = us.decode(model, rows, decoder=us.NextToken(cache=cache))
    theirs: Any = trunk
    expected = theirs.generate(x0, max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(step.tokens, expected)


def test_slots_with_a_cache_are_those_without(folder: Path, trunk: PreTrainedModel) -> None:
    x0, given = some_text(trunk)
    model = us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT, dtype=torch.float64)
    rows = rows_after(x0, given.flip(1), model.mask_id)  # the prompt lies at the end: a gap is filled before it
    with_cache, without = (
        list(us.decode(model, rows, decoder=us.Slots(latents=2, cache=cache))) for cache in (True, False)
    )
    for a, b in zip(with_cache, without, strict=True):
        assert torch.equal(a.tokens, b.tokens)
        real = a.real[:, : a.probability.shape[1]]
        assert torch.allclose(a.probability[real], b.probability[real], atol=1e-9)


@pytest.mark.parametrize("rule", CAUSAL, ids=lambda rule: rule.name)
def test_a_prompt_token_sees_none_after_it_and_all_else_is_as_before(rule: us.Attention) -> None:
    tokens = torch.tensor([[5, 6, 9, 9, 7, 8]])
    unsaid, order = tokens == 9, torch.tensor([[0, 0, 0, 1, 0, 1]])
    unsaid[0, 3], tokens[0, 3] = False, 4  # one token was said, between latent and prompt
    layout = us.one_block(tokens, unsaid, order)
    mine, joint = (layout.mask(its)[0, 0] for its in (rule, replace(rule, prompt="joint")))
    prompt = ~unsaid[0] & (order[0] == 0)
    within = prompt[:, None] & prompt[None, :]
    assert torch.equal(mine & ~within, joint & ~within)
    assert torch.equal(mine & within, within & torch.ones(6, 6, dtype=torch.bool).tril())
    assert bool((joint & within).equal(within))


@pytest.mark.parametrize("rule", [us.MDM, us.SCDM, us.SIDM, us.JOINT], ids=lambda rule: rule.name)
def test_a_bidirectional_context_has_no_causal_prompt(rule: us.Attention, folder: Path) -> None:
    with pytest.raises(ValueError, match="prompt='causal' with context='bidirectional'"):
        replace(rule, prompt="causal")
    with pytest.raises(ValueError, match="prompt='causal'"):
        us.Denoiser.from_pretrained(folder, attention=rule, prompt="causal")


def test_the_tokenizer_is_saved_beside_the_weights(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    made("llama", vocab_size=SIZE).save_pretrained(folder)
    assert us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT).tokenizer is None
    tokenizer().save_pretrained(folder)
    model = us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT)
    model.save_pretrained(tmp_path / "ours")
    again = us.Denoiser.from_pretrained(tmp_path / "ours")
    assert model.tokenizer is not None and again.tokenizer is not None
    assert again.tokenizer("the cat")["input_ids"] == model.tokenizer("the cat")["input_ids"]


def test_a_broken_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"the tokenizer in .* can not be read"):
        us.Denoiser.from_pretrained(folder, attention=us.CACHED_JOINT)

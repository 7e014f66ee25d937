"""Reading slots: rows are the model's own logits, a batch is its rows, the steps are the decoder's, nothing is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small import made
from test_generate import tokenizer
from torch import Tensor

import unspoken as us
from unspoken.decoders import slot_logits
from unspoken.layout.entries import Layout

MASK = 12
RULES = {rule.name: rule for rule in (us.MDM, us.SCDM, us.SIDM, us.JOINT, us.ANY_ORDER, us.CACHED_JOINT)}
TOKENS = torch.tensor([[3, MASK, MASK, 5, MASK, 7], [MASK, 2, MASK, 8, 1, 4], [6, MASK, 1, MASK, 0, 0]])
PRESENT = torch.tensor([[True] * 6, [True] * 6, [True] * 4 + [False] * 2])


def model_of(rule: us.Attention, **options: Any) -> us.Denoiser:
    torch.manual_seed(2)
    trunk = made("llama").double()
    for weight in trunk.parameters():
        weight.data *= 2
    return us.Denoiser(trunk, rule, MASK, **options)


MODELS = {name: model_of(rule) for name, rule in RULES.items()}


@pytest.fixture(scope="module")
def texts_model() -> us.Denoiser:
    torch.manual_seed(3)
    words: Any = tokenizer()
    trunk = made("llama", vocab_size=len(words) + 4).double()  # the mask, and three ids that are no text
    model = us.Denoiser(trunk, us.MDM, len(words))
    model.tokenizer = words
    return model


def by_hand(model: us.Denoiser, tokens: Tensor, slot: int, latents: list[int]) -> Tensor:
    """`[vocab]` log-probabilities of one slot of `[seq]` tokens, in a pass that holds these latents beside it."""
    given = [i for i in range(len(tokens)) if tokens[i] != MASK]
    position = torch.tensor([*given, *latents, slot])[None]
    unsaid = torch.arange(position.shape[1])[None] >= len(given)
    order = torch.where(unsaid, position, 0)
    order[0, -1] = 99
    layout = Layout(
        tokens[position[0]][None],
        position,
        order,
        torch.where(unsaid, 2**30, 1),
        torch.where(unsaid, 0, -1),
        torch.zeros_like(position),
    )
    with torch.no_grad():
        return model(layout, torch.tensor([[position.shape[1] - 1]]))[0, 0].log_softmax(-1)


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found.exp(), expected.exp(), atol=1e-9) and torch.allclose(
        found[..., :MASK], expected[..., :MASK], atol=1e-9
    )


def test_one_pass_with_all_latents_is_the_models_own_logits() -> None:
    model, tokens = MODELS["mdm"], TOKENS[:1]
    unsaid = tokens == MASK
    with torch.no_grad():
        own = model(us.one_block(tokens, unsaid, torch.zeros_like(tokens)))[unsaid].log_softmax(-1)
    found = us.read_ids(model, tokens, whole=True)
    assert found.rows is not None and close(found.rows[0], own)
    assert found.position.tolist() == [[1, 2, 4]]
    assert found.gap.tolist() == [[0, 0, 1]] and found.index.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("latents", [None, 0, 1])
def test_every_row_is_a_pass_of_one_slot_and_its_latents(name: str, latents: int | None) -> None:
    """The nearest other slots; for None all. Under joint attention one pass reads all of them at once."""
    model, found = MODELS[name], us.read_ids(MODELS[name], TOKENS[:1], latents=latents, whole=True)
    assert found.rows is not None
    nearest = {1: [2, 4], 2: [1, 4], 4: [2, 1]}
    for at, slot in enumerate((1, 2, 4)):
        beside = nearest[slot] if latents is None else nearest[slot][:latents]
        assert close(found.rows[0, at], by_hand(model, TOKENS[0], slot, sorted(beside)))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("latents", [None, 0, 1])
def test_a_batch_is_its_rows(name: str, latents: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_logits, "ROWS", 3)
    options: dict[str, Any] = {"latents": latents, "whole": True, "decoder": us.Slots(latents=None)}
    whole = list(us.readings_ids(MODELS[name], TOKENS, present=PRESENT, **options))
    assert len(whole) == 3
    for row in range(3):
        alone = TOKENS[row : row + 1, PRESENT[row]]
        for found, mine in zip(whole, us.readings_ids(MODELS[name], alone, **options), strict=False):
            there = found.open[row]
            assert found.rows is not None and mine.rows is not None
            assert torch.equal(found.position[row][there], mine.position[0])
            assert close(found.rows[row][there], mine.rows[0])
            assert found.slots(row) == [
                replace(slot, logp=found.slots(row)[i].logp) for i, slot in enumerate(mine.slots())
            ]


def test_rows_sum_to_one_and_never_hold_the_mask() -> None:
    for temperature in (0.5, 1.0, 3.0):
        options: dict[str, Any] = {"present": PRESENT, "top_k": 11, "never": (4,), "temperature": temperature}
        found = us.read_ids(MODELS["mdm"], TOKENS, whole=True, **options)
        assert found.rows is not None
        torch.testing.assert_close(found.rows.logsumexp(-1), torch.zeros(3, 3, dtype=torch.float64))
        assert not torch.isin(found.ids, torch.tensor([4, MASK])).any() and bool(found.logp.isfinite().all())
        assert found.open.sum(1).tolist() == [3, 2, 2] and bool((found.logp.diff(dim=-1) <= 0).all())


def test_temperature_divides_logits() -> None:
    one, two = (us.read_ids(MODELS["scdm"], TOKENS[:1], temperature=t, whole=True).rows for t in (1.0, 2.0))
    assert one is not None and two is not None
    torch.testing.assert_close(two[..., :MASK], (one[..., :MASK] / 2).log_softmax(-1))


@pytest.mark.parametrize("name", ["mdm", "scdm", "cached-joint"])
def test_steps_are_the_decoders_and_nothing_is_written(name: str) -> None:
    """What is read before a step is what the step says: the likeliest token at its place, in the same context."""
    model, decoder, kept = MODELS[name], us.Slots(latents=None, candidates=1, order="left_to_right"), TOKENS[:2].clone()
    steps = list(us.decode(model, TOKENS[:2], decoder=decoder))
    found = list(us.readings_ids(model, TOKENS[:2], decoder=decoder))
    assert torch.equal(TOKENS[:2], kept) and len(found) == len(steps) == 3
    assert [each.steps for each in found] == [0, 1, 2]
    for before, step in zip(found, steps, strict=True):
        for row, position, said in zip(step.rows, step.said[:, 0], step.likeliest[:, 0], strict=True):
            at = int((before.position[row] == position).nonzero()[0])
            assert before.ids[row, at, 0] == said
            assert before.logp[row, at, 0].exp() == pytest.approx(float(step.probability[row == step.rows, 0]))
    for after, step in zip(found[1:], steps, strict=False):
        assert torch.equal(after.tokens, step.tokens)
    assert us.read_ids(model, TOKENS[:2], passes=2, decoder=decoder).slots() == found[1].slots()
    assert us.read_ids(model, TOKENS[:2], passes=9, decoder=decoder).slots() == found[-1].slots()


def test_texts(texts_model: us.Denoiser) -> None:
    texts = ["the cat <fill 2> on<fill 1>", "once <fill 1>"]
    both = us.read(texts_model, texts, top_k=3)
    words = texts_model.tokenizer
    assert words is not None
    for row, text in enumerate(texts):
        alone = us.read(texts_model, text, top_k=3).slots()
        assert [(s.gap, s.index) for s in alone] == ([(0, 0), (0, 1), (1, 0)] if row == 0 else [(0, 0)])
        for slot, mine in zip(both.slots(row), alone, strict=True):
            assert (slot.ids, slot.position, slot.texts) == (mine.ids, mine.position, mine.texts)
            assert slot.texts == tuple(words.decode([token]) for token in slot.ids)
            assert slot.logp == pytest.approx(mine.logp, abs=1e-9)
    first = us.read(texts_model, texts[0], top_k=len(words))
    assert int(first.ids.max()) < len(words), "the mask and ids of no text are never told"
    assert len(list(us.readings(texts_model, texts, decoder=us.Slots()))) == 3


def test_a_shifted_model_reads_to_the_left() -> None:
    model = model_of(us.CACHED_JOINT, shift=True)
    found = us.read_ids(model, TOKENS[:1], latents=1)
    assert found.position.tolist() == [[1, 2, 4]]
    with pytest.raises(ValueError, match="shift=True"):
        us.read_ids(model, TOKENS[:1], latents=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 13}, "top_k"),
        ({"temperature": 0.0}, "temperature"),
        ({"latents": -1}, "latents"),
        ({"passes": 0}, "passes"),
        ({"present": torch.ones(1, 2)}, "present"),
    ],
)
def test_bad_calls_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        us.read_ids(MODELS["mdm"], TOKENS, **options)


def test_bad_texts_are_refused(texts_model: us.Denoiser) -> None:
    for text, message in (("a", "nothing to read"), ([], "nothing to read"), ("<fill 0>", "no gap"), ([3], "is int")):
        asked: Any = text
        with pytest.raises(ValueError, match=message):
            us.read(texts_model, asked)
    with pytest.raises(ValueError, match="nothing is open"):
        us.read_ids(MODELS["mdm"], torch.tensor([[1, 2]]))
    with pytest.raises(ValueError, match="needs the model's tokenizer"):
        us.read(MODELS["mdm"], "<fill 1>")

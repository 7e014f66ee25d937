"""The head and the losses run on what is really asked, in chunks, and say what they say of whole logits (float64)."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from golden.make import TRAININGS
from test_denoiser import SMALL
from torch import Tensor, nn
from toy import ragged_clean, seeded, tiny
from transformers import LlamaConfig

import unspoken as us
from unspoken.layout import pricing
from unspoken.layout.packing import Packed
from unspoken.layout.questions import CTC, CrossEntropy, Distilled, Divergence, Question
from unspoken.model.denoiser import Denoiser
from unspoken.model.trunks import body, output_head
from unspoken.training.losses import losses_in_parts, packed_losses

EXACT: dict[str, Any] = {"rtol": 0.0, "atol": 1e-12}
VOCAB = 7
GROUPS = us.MaskedDiffusion(groups=us.Groups(both=True, distil=0.5))
PASSES: dict[str, tuple[Any, us.Attention, Any]] = TRAININGS | {
    "distilled groups": (GROUPS, us.JOINT, us.Absorbing()),
    "two passes": (us.MaskedDiffusion(carry=2), us.SCDM, us.Absorbing()),
}


def packed_of(name: str) -> tuple[Denoiser, Packed]:
    """A model, and a pass over ragged rows, by the name of an objective."""
    objective, attention, process = PASSES[name]
    model = tiny(attention, positions=7, carry=objective.carries)
    x0, given = (rows.repeat(3, 1) for rows in ragged_clean())
    return model, objective.pack(process, x0, given, 6, seeded(2))


def dense(model: Denoiser, packed: Packed) -> Tensor:
    """The losses of whole logits at all entries, filling too: what a pass of one question each costs."""
    hidden, losses = None, []
    for each in packed.passes:
        layout = each.layout if hidden is None else replace(each.layout, carried=hidden)
        hidden = model.states(layout)
        logits = [model(layout, q.at) for q in each.questions]
        for q, its in zip(each.questions, logits, strict=True):
            more = (logits[q.loss.question].detach(),) if isinstance(q.loss, Distilled) else ()
            losses.append(torch.where(q.real, q.loss(its, q.target, *more), 0.0))
    return torch.cat(losses, 1)


def gradients(model: Denoiser, packed: Packed, losses: Tensor) -> Tensor:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found = torch.autograd.grad(packed.reduce(losses), weights, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


@pytest.mark.parametrize("chunk", [pricing.LOGITS, 5 * VOCAB, 1], ids=["whole", "five entries", "one entry"])
@pytest.mark.parametrize("name", PASSES)
def test_chunks_are_the_whole(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and the gradient of every weight, whatever the chunk, are those of whole logits."""
    model, packed = packed_of(name)
    monkeypatch.setattr(pricing.costs, "__defaults__", (chunk,))
    ours, theirs = packed_losses(model, packed), dense(model, packed)
    assert ours.abs().max() > 0 and torch.allclose(ours, theirs, **EXACT)
    a, b = gradients(model, packed, ours), gradients(model, packed, theirs)
    assert torch.allclose(a, b, rtol=0, atol=1e-6)  # the trunk's norms are in float32


@pytest.mark.parametrize("name", ["masked scdm", "latents cached-joint", "diffused mdm", "two passes"])
@pytest.mark.parametrize("entries", [3, 1000])
def test_the_head_runs_where_it_is_asked_and_in_chunks(
    name: str, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each entry that is really asked; in the backward pass once more where there are several chunks."""
    model, packed = packed_of(name)
    sizes: list[int] = []
    output_head(model.trunk).register_forward_hook(lambda *args: sizes.append(args[2].shape[:-1].numel()))
    monkeypatch.setattr(pricing.costs, "__defaults__", (entries * VOCAB,))
    loss = packed.reduce(packed_losses(model, packed))
    asked = sum(int(q.real.sum()) for q in packed.asked)
    assert sum(sizes) == asked and max(sizes) <= entries
    if name != "diffused mdm":  # of which each row asks all
        assert asked < sum(q.at.numel() for q in packed.asked)
    loss.backward()
    assert sum(sizes) == (2 * asked if entries == 3 else asked)


def test_a_loss_that_looks_at_a_row_is_handed_rows() -> None:
    """CTC, and any function: their answers are `[batch, m, vocab]`."""
    model, packed = packed_of("masked mdm")
    q = packed.one
    shapes = []

    def mine(logits: Tensor, target: Tensor) -> Tensor:
        shapes.append((logits.shape, target.shape))
        return logits.logsumexp(-1)

    mixed = Packed(packed.layout, (replace(q, loss=mine), q))
    losses = packed_losses(model, mixed)
    assert shapes == [((*q.at.shape, VOCAB), q.at.shape)]
    assert torch.allclose(losses[:, q.at.shape[1] :], packed_losses(model, packed), **EXACT)
    assert not pricing.by_entry(mine) and not pricing.by_entry(CTC(0, q.real.sum(1)))


class Bare(nn.Module):
    """A model that answers with logits alone, though it is a module."""

    def __init__(self, model: Denoiser):
        super().__init__()
        self.model, self.attention, self.mask_id, self.vocab_size = model, model.attention, 6, VOCAB

    def forward(self, layout: us.Layout, at: Tensor | None = None, cache: Any = None) -> Tensor:
        return self.model(layout, at)


class Wrapped(nn.Module):
    """As launchers wrap a model."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.module = model

    def forward(self, *args: Any, **given: Any) -> Any:
        return self.module(*args, **given)


@pytest.mark.parametrize("wrap", [Bare, Wrapped])
def test_a_wrapped_model_has_the_same_losses(wrap: Any) -> None:
    model, packed = packed_of("masked scdm")
    assert torch.allclose(packed_losses(wrap(model), packed), packed_losses(model, packed), **EXACT)


def test_where_nothing_is_asked_the_loss_is_0_and_so_is_the_gradient() -> None:
    model, packed = packed_of("masked mdm")
    nothing = Packed(packed.layout, tuple(q.scaled(0.0) for q in packed.questions))
    losses = packed_losses(model, nothing)
    assert losses.shape == packed.one.at.shape and not losses.any()
    assert not gradients(model, nothing, losses).any()


def test_a_question_is_flat_and_in_parts() -> None:
    """The tensors of its loss go with it."""
    q = packed_of("diffused elbo mdm")[1].one
    q = replace(q, weight=q.weight * (torch.arange(q.at.shape[1]) % 2))
    flat = q.flat(10)
    rows = torch.arange(len(q.at))[:, None].expand_as(q.at)[q.real]
    assert torch.equal(flat.at[0], rows * 10 + q.at[q.real]) and bool(flat.real.all())
    part = flat.part(2, 5)
    assert isinstance(q.loss, Divergence) and isinstance(part.loss, Divergence)
    assert torch.equal(part.loss.z[0], q.loss.z[q.real][2:5])
    assert torch.equal(part.loss.marginal.alpha[0], q.loss.marginal.alpha[q.real][2:5])
    assert torch.equal(part.target[0], q.target[q.real][2:5])


@pytest.mark.parametrize("name", ["masked scdm", "latents cached-joint", "distilled groups", "two passes"])
def test_losses_in_parts_are_those_of_one_pass(name: str) -> None:
    model, packed = packed_of(name)
    passes = []
    body(model.trunk).register_forward_hook(lambda *args: passes.append(len(args[2].last_hidden_state)))
    whole = losses_in_parts(model, packed)
    assert passes == [len(packed.layout.token)] * len(packed.passes)
    two = 2 * 4 * model.trunk.config.hidden_size * packed.layout.shape[1]
    # The logits of distilled groups are held whole, and count.
    for numbers, rows in ((1, 1), (two, 1 if name == "distilled groups" else 2)):
        passes.clear()
        parts = losses_in_parts(model, packed, numbers)
        assert torch.allclose(parts, whole, rtol=0, atol=1e-6)  # the trunk's norms are in float32
        assert set(passes) == {rows} and sum(passes) == len(whole) * len(packed.passes)
    assert not whole.requires_grad


def test_bfloat16_weights_have_float32_losses() -> None:
    torch.manual_seed(0)
    model = Denoiser.from_config(LlamaConfig(**SMALL), attention=us.MDM, mask_id=6).to(torch.bfloat16)
    layout = packed_of("masked mdm")[1].layout
    at = torch.zeros(len(layout.token), 1, dtype=torch.int64)
    asked = Question(at, at, torch.ones(at.shape), at, loss=CrossEntropy())
    assert packed_losses(model, Packed(layout, (asked,))).dtype == torch.float32

"""Training over two passes, the second of which reads states of the first; folders, costs and refusals (float64).

Laws: the second pass is what decoding computes in its second pass, to 1e-9; some tokens are revealed, at random, dated
as a decoder dates them, and one stays at least; the gradient goes through both passes; a run that is gone on with is
the whole run; what a model carries is saved and read back.
"""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from small import MASK as LAST
from small import float64, made
from test_carrying import watched
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from toy import EXACT, TRUNK, chi_square_p, ragged_clean, seeded, tiny

from unspoken.decoders.decode import decode
from unspoken.decoders.policies import Order
from unspoken.decoders.step import last
from unspoken.layout.attention import ATTENTIONS, CACHED_JOINT, JOINT, MDM, SCDM
from unspoken.layout.carrying import revealed, two_passes
from unspoken.layout.entries import Layout, random_order
from unspoken.layout.groups import Groups
from unspoken.layout.packing import Packed, ask_masks
from unspoken.measure.costs import pass_flops, training_flops
from unspoken.model.denoiser import Denoiser
from unspoken.model.ports import Codes
from unspoken.noise import Absorbing
from unspoken.tasks import Digits, Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.loading import load
from unspoken.training.loop import train, training
from unspoken.training.losses import packed_losses
from unspoken.training.models import new_denoiser
from unspoken.training.objective import MaskedDiffusion
from unspoken.training.run import Run

MASK = 6
TASK = Sudoku(2, 2, givens=6, train=200, validation=10, test=10)
CONFIG = Train(
    TASK, CACHED_JOINT, TRUNK, objective=MaskedDiffusion(carry=2), steps=6, batch=8, accumulate=2, lr=1e-2, save=3,
    log=1, validate=3,
)  # fmt: skip


def masked(free: tuple[int, ...] = (6, 4, 1, 0), share: float = 1.0) -> tuple[Layout, Tensor, Tensor]:
    """A training layout in which that share of what is not given is masked; clean tokens, and which are given."""
    x0, given = ragged_clean(free)
    unsaid = ~given & (torch.rand(x0.shape, generator=seeded(2)) < share)
    return random_order(torch.where(unsaid, MASK, x0), unsaid, given, seeded(3)), x0, given


# --- what is revealed


@pytest.mark.parametrize("reveal", [1, 2, 5, 100, "uniform"])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_some_are_revealed_and_one_stays(reveal: Any, share: float) -> None:
    """Each said token has a date of its own, after those said before; the rest of the layout is as it was."""
    layout, x0, given = masked((7, 6, 5, 4, 3, 2, 1, 0), share)
    after = revealed(layout, x0, reveal, seeded())
    left, now = layout.unsaid.sum(1), after.said & layout.unsaid
    if reveal == "uniform":
        assert bool((now.sum(1) >= (left > 1).long()).all()) and bool((now.sum(1) < left.clamp_min(1)).all())
    else:
        assert torch.equal(now.sum(1), torch.minimum((left - 1).clamp_min(0), torch.tensor(reveal)))
    for row in range(8):
        dates = after.order[row, after.said[row] & ~given[row]].sort().values
        assert torch.equal(dates, torch.arange(1, len(dates) + 1))
        assert set(after.order[row, now[row]].tolist()) == set(dates[len(dates) - int(now[row].sum()) :].tolist())
        assert torch.equal(
            after.order[row, after.unsaid[row]].sort().values, torch.arange(int(after.unsaid[row].sum()))
        )
    assert torch.equal(after.token, torch.where(after.unsaid, MASK, x0))
    assert torch.equal(after.horizon[now], after.order[now] + 1)
    for name in ("token", "position", "order", "horizon", "block", "document"):
        assert torch.equal(getattr(after, name)[~now], getattr(layout, name)[~now])


def test_the_revealed_are_random_and_so_is_their_number() -> None:
    """Of 4 masks, 1, 2 or 3, each a third of the time, and each set of one number alike (false alarm at 1e-6)."""
    rows = 6000
    x0, given = torch.zeros(rows, 5, dtype=torch.int64), torch.zeros(rows, 5, dtype=torch.bool)
    given[:, 2] = True
    layout = random_order(torch.where(given, x0, MASK), ~given, given, seeded(1))
    now = revealed(layout, x0, "uniform", seeded(2)).said & ~given
    sets = (now * torch.tensor([1, 2, 0, 4, 8])).sum(1).bincount(minlength=16)
    of = torch.tensor([bin(s).count("1") for s in range(16)])
    p = torch.tensor([{1: 4, 2: 6, 3: 4}.get(n, 0) for n in of.tolist()], dtype=torch.float64)
    p = torch.where(p > 0, 1 / (3 * p.clamp_min(1)), 0.0)
    assert int(sets[p == 0].sum()) == 0
    assert chi_square_p(sets[p > 0].double(), p[p > 0]) > 1e-6


# --- training is decoding


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("reveal", [1, 3])
@pytest.mark.parametrize("rule", ["mdm", "sidm", "joint", "cached-joint", "cached-alone"])
@torch.no_grad()
def test_the_second_pass_is_what_decoding_computes_in_its_second(rule: str, reveal: int, cache: bool) -> None:
    """A decoder that commits what is revealed, in the order of its dates; the clean tokens are those that it says."""
    model = tiny(ATTENTIONS[rule], positions=7, carry=True)
    layout, x0, given = masked((6, 5, 4, 4))
    rank = torch.zeros(4, 7).scatter(1, layout.position, layout.order.float())
    order = Order("by falling rank", lambda ahead: -rank[: len(ahead.unsaid)])
    tokens = torch.where(given, x0, MASK)
    with watched(model) as decoded:
        steps = list(islice(decode(model, tokens, order=order, commit=reveal, cache=cache), 2))
    x0 = torch.where(steps[0].committed, steps[0].tokens, x0)
    packed = two_passes(ask_masks(layout, x0), x0, reveal)
    assert packed.then is not None
    with watched(model) as trained:
        packed_losses(model, packed)
    assert len(decoded) == len(trained) == 2
    for number, ((at, states), (its, theirs)) in enumerate(zip(trained, decoded, strict=True)):
        asked = 0
        for row, entry in at.unsaid.nonzero().tolist():
            there = its.unsaid[row] & (its.position[row] == at.position[row, entry])
            (where,) = there.nonzero()[:, 0].tolist()
            assert torch.allclose(states[row, entry], theirs[row, where], **EXACT)
            asked += 1
        assert asked == (19 if number == 0 else 19 - 4 * reveal)
    blind = tiny(ATTENTIONS[rule], positions=7).states(packed.then.layout)  # without what is carried: another state
    assert not torch.allclose(blind[packed.then.layout.unsaid], trained[1][1][packed.then.layout.unsaid], atol=1e-3)


def test_both_passes_count_alike() -> None:
    """Half of each pass's mean loss over what it asks; the first is the plain objective's."""
    model, (x0, given) = tiny(SCDM, positions=7, carry=True), ragged_clean()
    packed = MaskedDiffusion(carry=2).pack(Absorbing(), x0, given, MASK, seeded(3))
    plain = MaskedDiffusion().pack(Absorbing(), x0, given, MASK, seeded(3))
    assert packed.then is not None and len(packed.passes) == 2
    losses = packed_losses(model, packed)
    first, second = losses.split([q.at.shape[1] for q in packed.asked], 1)
    alone = packed_losses(model, plain)
    assert torch.allclose(first, alone, **EXACT)
    real = packed.then.one.real
    mean = (first[plain.one.real].mean() + second[real].mean()) / 2
    assert torch.allclose(packed.reduce(losses), mean, rtol=0, atol=1e-6)
    assert packed.by_slot(losses.detach()) == plain.by_slot(alone.detach())
    moved = packed.to(torch.device("cpu")).rows(0, 4)
    assert torch.equal(packed_losses(model, moved), losses)


WEIGHTS = ("trunk.transformer.wte.weight", "trunk.transformer.h.0.mlp.c_fc.weight", "carried.weight")


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_gradient_goes_through_both_passes(name: str) -> None:
    """Of the second pass's loss alone: the difference quotient, and not the gradient with the states held fixed."""
    with float64():
        model = Denoiser(made("gpt2"), JOINT, LAST, carry=True)
        torch.nn.init.normal_(model.get_parameter("carried.weight"), std=0.3, generator=seeded(4))
    unsaid = torch.tensor([[True, True, False, True, True], [True, False, True, True, False]])
    x0 = torch.randint(LAST, (2, 5), generator=seeded(5))
    layout = random_order(torch.where(unsaid, LAST, x0), unsaid, torch.zeros_like(unsaid), seeded())
    both = two_passes(ask_masks(layout, x0), x0, 1)
    assert both.then is not None
    packed = Packed(layout, tuple(q.scaled(0.0) for q in both.questions), both.then)
    weight, step = model.get_parameter(name), 1e-5

    def loss() -> Tensor:
        return packed.reduce(packed_losses(model, packed))

    (gradient,) = torch.autograd.grad(loss(), [weight])
    fixed = replace(both.then.layout, carried=model.states(layout).detach())
    held = Packed(fixed, both.then.questions)
    (less,) = torch.autograd.grad(held.reduce(packed_losses(model, held)), [weight])
    assert torch.equal(loss(), held.reduce(packed_losses(model, held)))
    same = torch.allclose(gradient, less, rtol=0, atol=1e-6)
    assert same == (name == "carried.weight")  # which the first pass does not use
    at = int((gradient - less).abs().argmax()) if not same else int(gradient.abs().argmax())
    with torch.no_grad():
        flat = weight.view(-1)
        flat[at] += step
        above = loss()
        flat[at] -= 2 * step
        below = loss()
    assert float(gradient.view(-1)[at]) == pytest.approx(float(above - below) / (2 * step), rel=1e-5)


# --- runs and folders


def test_a_run_that_is_gone_on_with_is_the_whole_run(tmp_path: Path) -> None:
    """And the model that is loaded carries, by a map that was trained."""
    model = train(CONFIG, tmp_path / "whole")
    list(islice(training(CONFIG, tmp_path / "parts"), 4))  # past the checkpoint of step 3
    again = train(CONFIG, tmp_path / "parts")
    a, b = model.state_dict(), again.state_dict()
    assert "carried.weight" in a and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert a["carried.weight"].abs().max() > 1e-4
    curves = [[m["loss"] for m in Run(tmp_path / name).metrics()] for name in ("whole", "parts")]
    assert curves[0] == curves[1] and len(curves[0]) == 6
    loaded, puzzle = load(tmp_path / "parts"), TASK.sample("test", 4).prompt(TASK.mask_id)
    said = [last(decode(m, puzzle, latents=4, commit=2), puzzle) for m in (model, loaded)]
    assert torch.equal(*said) and bool((said[0] != TASK.mask_id).all())


def test_a_carrying_run_begins_as_the_plain_one() -> None:
    """The same weights from the same seed; the map alone is more, and is zero."""
    plain, carrying = new_denoiser(replace(CONFIG, objective=MaskedDiffusion())), new_denoiser(CONFIG)
    a, b = plain.state_dict(), carrying.state_dict()
    assert b.keys() - a.keys() == {"carried.weight"} and not b["carried.weight"].any()
    assert all(torch.equal(a[name], b[name]) for name in a)


@torch.no_grad()
def test_a_saved_model_carries_again(tmp_path: Path) -> None:
    model, (layout, *_) = tiny(SCDM, positions=7, carry=True), masked(share=0.6)
    layout = replace(layout, carried=torch.randn(*layout.shape, 16, generator=seeded(), dtype=torch.float64))
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "unspoken.json").read_text())["carry"] is True
    again = Denoiser.from_pretrained(tmp_path)
    assert torch.equal(again(layout), model(layout))
    bare = replace(layout, carried=None)
    without = Denoiser.from_pretrained(tmp_path, carry=False)
    assert without.carried is None and torch.equal(without(layout), model(bare))


@torch.no_grad()
def test_a_folder_of_before_there_were_carried_states_has_none_and_may_get_them(tmp_path: Path) -> None:
    model = tiny(SCDM, positions=7)
    model.save_pretrained(tmp_path)
    record = json.loads((tmp_path / "unspoken.json").read_text())
    assert record.pop("carry") is False
    (tmp_path / "unspoken.json").write_text(json.dumps(record))
    assert Denoiser.from_pretrained(tmp_path).carried is None
    new = Denoiser.from_pretrained(tmp_path, carry=True)
    assert new.carried is not None and not new.carried.weight.any() and new.carried.weight.dtype == torch.float64


def test_a_checkpoint_carries_where_the_objective_trains_it(tmp_path: Path) -> None:
    """From any start: one that carries keeps its map, one that does not gets a map of zeros."""
    for name, objective in (("plain", MaskedDiffusion()), ("carrying", MaskedDiffusion(carry=1))):
        model = new_denoiser(replace(CONFIG, objective=objective))
        if model.carried is not None:
            torch.nn.init.ones_(model.carried.weight)
        model.save_pretrained(tmp_path / name)
    for name, carry, expected in (("plain", 0, None), ("plain", 1, 0.0), ("carrying", 0, None), ("carrying", 1, 1.0)):
        trunk = Trunk(checkpoint=str(tmp_path / name))
        carried = new_denoiser(replace(CONFIG, trunk=trunk, objective=MaskedDiffusion(carry=carry))).carried
        assert (carried is None) == (expected is None)
        assert carried is None or bool((carried.weight == expected).all())


# --- costs


@pytest.mark.parametrize("loops", [1, 2])
@torch.no_grad()
def test_flops_are_those_that_torch_counts(loops: int) -> None:
    carrying = new_denoiser(replace(CONFIG, trunk=replace(TRUNK, loops=loops))).eval()
    layout, *_ = masked(share=0.6)
    at = torch.tensor([[0, 2]] * 4)
    token = torch.where(layout.unsaid, TASK.mask_id, 0)
    seen = replace(layout, token=token, carried=torch.zeros(4, 7, 16))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        carrying(seen, at)
    assert counter.get_total_flops() == 4 * pass_flops(carrying, 7, 2)
    plain = new_denoiser(replace(CONFIG, trunk=replace(TRUNK, loops=loops), objective=MaskedDiffusion()))
    assert pass_flops(carrying, 7, 2) - pass_flops(plain, 7, 2) == 2 * 16 * 16 * 7


def test_training_costs_both_passes() -> None:
    """The entries of two passes; the heads of those that the second asks are fewer."""
    plain, carrying = (replace(CONFIG, objective=MaskedDiffusion(carry=carry)) for carry in (0, 1))
    model = new_denoiser(carrying)
    body = 2 * 3.0 * CONFIG.steps * CONFIG.batch * pass_flops(model, TASK.length, 0)
    heads = training_flops(carrying) - body
    once = training_flops(plain) - 3.0 * CONFIG.steps * CONFIG.batch * pass_flops(new_denoiser(plain), TASK.length, 0)
    assert once < heads < 2 * once


# --- what is refused


@pytest.mark.parametrize("carry", [-1, 1.5, True, None, "all", "2", (1,)])
def test_what_is_no_number_of_tokens_is_refused(carry: Any) -> None:
    with pytest.raises(ValueError, match=r"carry=.*whole number of tokens, 0 for one pass, or 'uniform'"):
        MaskedDiffusion(carry=carry)


@pytest.mark.parametrize("options", [{"bound": True}, {"groups": Groups()}], ids=str)
@pytest.mark.parametrize("carry", [1, "uniform"])
def test_a_bound_and_groups_are_refused(options: dict[str, Any], carry: Any) -> None:
    with pytest.raises(ValueError, match=r"carry=.*give bound=False and groups=None, or carry=0"):
        MaskedDiffusion(carry=carry, **options)


def test_values_are_refused() -> None:
    port = Codes(3, 5, placeholder=6)
    with pytest.raises(ValueError, match="the states of values are not carried"):
        tiny(MDM, vocab=7, port=port, carry=True)
    with pytest.raises(ValueError, match="the states of values are not carried; give carry=0"):
        MaskedDiffusion(carry=1).pack(Absorbing(), *ragged_clean(), 7, seeded(), torch.zeros(4, 7, 3))
    task = Digits()
    plain = Train(task, MDM, port=Codes(*task.values.size, placeholder=task.values.placeholder))
    with pytest.raises(ValueError, match="the states of values are not carried; give carry=0"):
        replace(plain, objective=MaskedDiffusion(carry=1))


def test_a_trunk_that_reads_another_width_than_it_gives_is_refused() -> None:
    trunk = tiny(SCDM).trunk
    trunk.set_input_embeddings(nn.Embedding(7, 8))
    with pytest.raises(
        ValueError, match=r"carry=True: the last states of .* has 8, so they can not be added; take carry="
    ):
        Denoiser(trunk, SCDM, MASK, carry=True)


def test_a_model_that_carries_nothing_is_not_trained_over_two_passes() -> None:
    packed = MaskedDiffusion(carry=1).pack(Absorbing(), *ragged_clean(), MASK, seeded())
    with pytest.raises(ValueError, match="this model carries none: give carry=True"):
        packed_losses(tiny(SCDM), packed)

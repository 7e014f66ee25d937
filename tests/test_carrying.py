"""States that are carried from a pass into the next: what is computed, and how it is decoded (float64).

Laws: a carry of zero is the plain pass to the last bit; said tokens read nothing, so a cache stays exact; each slot
reads the state that its position had in the row's pass before, and no other; a batch decodes as its rows alone do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import EXACT, ragged_clean, seeded, tiny

from unspoken.decoders.decode import decode
from unspoken.decoders.policies import LATENT_POLICIES, ORDERS
from unspoken.decoders.step import Step
from unspoken.layout.attention import ATTENTIONS, CACHED_JOINT
from unspoken.layout.entries import Layout, random_order
from unspoken.measure.likelihood import nelbo, nll_by_latents
from unspoken.model.denoiser import Denoiser
from unspoken.noise import Absorbing

MASK, SEQ = 6, 9
CACHEABLE = [name for name, rule in ATTENTIONS.items() if rule.cacheable]


def model(rule: str) -> Denoiser:
    return tiny(ATTENTIONS[rule], seed=1, positions=SEQ, carry=True)


def prompts(free: tuple[int, ...] = (9, 5, 7, 1, 0)) -> Tensor:
    x0, given = ragged_clean(free, SEQ)
    return torch.where(given, x0, MASK)


def a_layout(carried: bool = True) -> Layout:
    """Of ragged prompts, in random order, some masked; every entry has a state, the said ones too."""
    x0, given = ragged_clean()
    unsaid = ~given & (torch.rand(x0.shape, generator=seeded(2)) < 0.6)
    layout = random_order(torch.where(unsaid, MASK, x0), unsaid, given, seeded())
    states = torch.randn(*layout.shape, 16, generator=seeded(3), dtype=torch.float64)
    return replace(layout, carried=states) if carried else layout


@contextmanager
def watched(model: Denoiser) -> Iterator[list[tuple[Layout, Tensor]]]:
    """Every pass: what it held, and its last states."""
    seen, states = list[tuple[Layout, Tensor]](), model.states

    def watching(layout: Layout, *args: Any, **options: Any) -> Tensor:
        seen.append((layout, states(layout, *args, **options)))
        return seen[-1][1]

    model.states = watching  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield seen
    finally:
        del model.states


def story(steps: list[Step], row: int) -> list[tuple[Tensor, ...]]:
    """What became of a row, pass by pass."""
    names = ("tokens", "committed", "candidates", "latents", "guess", "confidence")
    return [tuple(getattr(step, name)[row] for name in names) for step in steps if row in step.rows]


def assert_same(a: list[Step], b: list[Step], rows: list[tuple[int, int]]) -> None:
    for row, other in rows:
        ours, theirs = story(a, row), story(b, other)
        assert len(ours) == len(theirs)
        for x, y in zip(ours, theirs, strict=True):
            assert all(map(torch.equal, x[:-1], y[:-1])) and torch.allclose(x[-1], y[-1], **EXACT)


# --- a pass


def gradients(model: Denoiser, states: Tensor) -> dict[str, Tensor]:
    """Of the trunk's and the places' weights."""
    named = {name: weight for name, weight in model.named_parameters() if not name.startswith("carried")}
    found = torch.autograd.grad(states.square().sum(), list(named.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(named, found, strict=True) if gradient is not None}


@pytest.mark.parametrize("rule", ATTENTIONS)
def test_a_carry_of_zero_is_the_plain_pass_to_the_last_bit(rule: str) -> None:
    """By a map of zeros, by no states, and by states of zero; a model without a map reads none; gradients too."""
    plain, carrying, new = tiny(ATTENTIONS[rule], seed=1, positions=SEQ), model(rule), model(rule)
    assert new.carried is not None
    torch.nn.init.zeros_(new.carried.weight)
    layout, bare = a_layout(), a_layout(carried=False)
    zeros = replace(layout, carried=torch.zeros(*layout.shape, 16, dtype=torch.float64))
    states = plain.states(bare)
    expected = gradients(plain, states)
    for one, its in ((new, layout), (carrying, bare), (carrying, zeros), (plain, layout)):
        again = one.states(its)
        assert torch.equal(again, states)
        mine = gradients(one, again)
        assert mine.keys() == expected.keys() and all(torch.equal(mine[name], expected[name]) for name in mine)
    assert not torch.allclose(carrying.states(layout), states, rtol=0, atol=1e-3)


@torch.no_grad()
def test_what_is_said_reads_no_state() -> None:
    """Nor does an unsaid entry that shows a token, as block diffusion has; each slot reads its own."""
    carrying, layout = model("sidm"), a_layout()
    assert layout.carried is not None
    token, carried = torch.where(layout.unsaid & (layout.position % 2 == 0), 0, layout.token), layout.carried
    layout = replace(layout, token=token)
    slots = layout.unsaid & (token == MASK)
    embedded = carrying.embed(layout)
    for entry in range(layout.shape[1]):
        moved = carried.clone()
        moved[:, entry] += torch.randn(16, generator=seeded(entry), dtype=torch.float64)
        changed = (carrying.embed(replace(layout, carried=moved)) != embedded).any(2)
        assert torch.equal(changed, slots & (torch.arange(layout.shape[1]) == entry))
    assert 2 < int(slots.sum()) < int(layout.unsaid.sum())


@torch.no_grad()
def test_a_state_is_read_whatever_its_size() -> None:
    """It is normalised: the state times any number is the same, and less than nothing is its opposite."""
    carrying, layout = model("mdm"), a_layout()
    assert layout.carried is not None
    bare = carrying.embed(replace(layout, carried=None))
    read, large, less = (carrying.embed(replace(layout, carried=by * layout.carried)) - bare for by in (1, 1e3, -1))
    assert torch.allclose(read, large, rtol=0, atol=1e-5) and torch.allclose(read, -less, **EXACT)
    assert read.abs().max() > 0.1


@torch.no_grad()
def test_fields_of_a_layout_keep_together() -> None:
    layout = a_layout()
    assert layout.carried is not None
    index = torch.randperm(7, generator=seeded()).expand(4, -1)
    mixed, both = layout.select(index), layout.join(replace(layout, carried=None))
    assert mixed.carried is not None and torch.equal(mixed.carried, layout.carried[:, index[0]])
    assert both.carried is not None and torch.equal(both.carried[:, :7], layout.carried)
    assert not both.carried[:, 7:].any()
    carrying = model("scdm")
    assert torch.allclose(carrying.states(mixed), carrying.states(layout)[:, index[0]], **EXACT)
    with pytest.raises(ValueError, match="carried states of width 16 and 2 do not join"):
        layout.join(replace(layout, carried=torch.zeros(4, 7, 2)))
    with pytest.raises(ValueError, match=r"carried states of shape \(4, 7\) for entries \(4, 7\); give"):
        replace(layout, carried=torch.zeros(4, 7))


@torch.no_grad()
def test_measures_of_one_pass_read_nothing() -> None:
    """A likelihood is that of the model without its map."""
    carrying, without = model("scdm"), model("scdm")
    without.carry(False)
    x0, given = ragged_clean()
    for measured in (
        lambda m: nelbo(m, Absorbing(), x0, given, seeded(), 2),
        lambda m: nll_by_latents(m, x0, given, [0, 2], seeded()),
    ):
        assert torch.equal(measured(carrying), measured(without))


# --- decoding


SURE: list[dict[str, Any]] = [{}, {"commit": 3}, {"commit": 3, "threshold": 0.5}, {"commit": 3, "entropy_bound": 0.8}]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rule", CACHEABLE)
def test_cached_is_recomputed(rule: str, order: str) -> None:
    """Beside every latent policy; ways to say several at once, and widening, go round over orders and rules."""
    tokens, turn, moved = prompts(), list(ORDERS).index(order), False
    for number, beside in enumerate(LATENT_POLICIES):
        options: dict[str, Any] = {"order": order, "latent_policy": beside, "latents": 1, "candidates": 3}
        options |= SURE[(number + turn) % 4]
        options["min_confidence"] = 0.8 * ((number + CACHEABLE.index(rule)) % 2)
        cached, anew = (
            list(decode(model(rule), tokens, **options, cache=c, generator=seeded(2))) for c in (True, False)
        )
        assert cached[-1].cached > 0 and anew[-1].cached == 0
        assert_same(cached, anew, [(row, row) for row in range(5)])
        without = model(rule)
        without.carry(False)
        plain = list(decode(without, tokens, **options, generator=seeded(2)))
        assert torch.equal(plain[0].confidence, cached[0].confidence)
        moved |= len(plain) != len(cached) or not torch.allclose(plain[1].confidence, cached[1].confidence, atol=1e-3)
    assert moved


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("rule", ["mdm", "scdm", "cached-joint"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"latents": 2, "candidates": 2},
        {"latents": 1, "candidates": 2, "min_confidence": 0.8, "commit": 2},
        {"latents": 2, "commit": 3, "candidates": 4, "rebatch": 0.1},
        {"keep_finished": True},
    ],
    ids=str,
)
def test_a_slot_reads_the_state_of_its_position_in_the_pass_before(
    rule: str, options: dict[str, Any], cache: bool
) -> None:
    """Row by row, against what every pass computed; none in a row's first pass, and none of one that was not there."""
    carrying, tokens, before = model(rule), prompts(), dict[int, dict[int, Tensor]]()
    short = torch.arange(SEQ) < torch.tensor([[9], [7], [9], [9], [5]])
    read = missed = 0
    with watched(carrying) as seen:
        steps = list(decode(carrying, tokens, present=short, cache=cache, **options))
    assert len(steps) == len(seen) > 3
    for step, (layout, states) in zip(steps, seen, strict=True):
        assert (layout.carried is None) == (not before.keys() & set(step.rows.tolist()))
        for turn, row in enumerate(step.rows.tolist()):
            slots = layout.unsaid[turn].nonzero()[:, 0].tolist()
            last = before.get(row, {})
            before[row] = {int(layout.position[turn, entry]): states[turn, entry] for entry in slots}
            if layout.carried is None:
                continue
            for entry in slots:
                position, nothing = int(layout.position[turn, entry]), torch.zeros(16, dtype=torch.float64)
                assert torch.equal(layout.carried[turn, entry], last.get(position, nothing))
                read, missed = read + (position in last), missed + (position not in last)
    assert read >= 10 and (missed > 0) == (options.get("latents") is not None)


DETERMINED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "a bound": (["scdm", "cached-joint"], {"latent_policy": "next", "latents": 2, "commit": 3, "entropy_bound": 1.0}),
    "widening": (["mdm", "cached-joint"], {"latent_policy": "next", "latents": 1, "min_confidence": 0.6}),
    "stale": (["any-order"], {"latent_policy": "next", "latents": 2, "stale": True}),
    "all": (["mdm", "cached-alone"], {}),
}


@pytest.mark.parametrize("name", DETERMINED)
def test_a_ragged_batch_is_its_rows_alone(name: str) -> None:
    rules, options = DETERMINED[name]
    tokens, options = prompts(), {"order": "left_to_right", **options}
    present = torch.arange(SEQ) < torch.tensor([[9], [7], [9], [9], [5]])
    for rule in rules:
        together = list(decode(model(rule), tokens, present=present, **options))
        for row in range(len(tokens)):
            one = list(decode(model(rule), tokens[row : row + 1], present=present[row : row + 1], **options))
            assert_same(one, together, [(0, row)])
        apart = list(decode(model(rule), tokens, present=present, **options, rebatch=0.1))
        assert_same(apart, together, [(row, row) for row in range(5)])
        waiting = list(decode(model(rule), tokens, present=present, **options, keep_finished=True))
        assert len(waiting) == len(together)
        for a, b in zip(together, waiting, strict=True):
            assert torch.equal(a.tokens, b.tokens) and torch.allclose(a.confidence, b.confidence, **EXACT)


@pytest.mark.parametrize("rule", ["joint", "cached-joint"])
def test_a_model_with_a_new_map_decodes_as_before(rule: str) -> None:
    """To the last bit: a carrying model begins as the model that it is made of."""
    plain = tiny(ATTENTIONS[rule], seed=1, positions=SEQ)
    options: dict[str, Any] = {"latents": 2, "candidates": 3, "commit": 2}
    expected = list(decode(plain, prompts(), **options))
    plain.carry()
    for a, b in zip(expected, decode(plain, prompts(), **options), strict=True):
        assert torch.equal(a.tokens, b.tokens) and torch.equal(a.confidence, b.confidence)


def test_loops_read_the_carried_state_in_every_loop() -> None:
    """It is a part of the input, which every loop reads."""
    looped = tiny(CACHED_JOINT, seed=1, positions=SEQ, loops=2, carry=True)
    cached, anew = (list(decode(looped, prompts(), latents=2, commit=2, cache=c)) for c in (True, False))
    assert_same(cached, anew, [(row, row) for row in range(5)])

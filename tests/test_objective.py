"""Every objective trains what decoding computes, one prefix at a time, and is weighed as it says (float64, 1e-9).

Laws: packed = one prefix at a time, for every objective under every attention that it allows; no entry sees the token
that it is asked for, and the attentions that are refused would show it; clean tokens never notice masks; a window past
the end, and latents that nobody sees or asks, change neither losses nor gradients; weights are the formula's and sum
to 1. That bounds are bounds stands in `test_bound.py`, that training is decoding in `test_natural.py`.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toy import EXACT, alone, chi_square_p, ragged_clean, seeded, tiny

from unspoken.layout.attention import ANY_ORDER, ATTENTIONS, CACHED_ALONE, CACHED_JOINT, Attention
from unspoken.layout.packing import SUCCESSOR, Packed, any_order, left_to_right
from unspoken.noise import Absorbing
from unspoken.training.losses import packed_losses
from unspoken.training.objective import (
    BlockDiffusion,
    MaskedDiffusion,
    MultiToken,
    MuToR,
    NextTokenPrediction,
    Objective,
    Teacherless,
)

MASK, SEQ = 6, 7
OBJECTIVES: dict[str, Objective] = {
    "masked": MaskedDiffusion(),
    "masked bound": MaskedDiffusion(bound=True),
    "next token": NextTokenPrediction(),
    "window 1": MultiToken(window=1),
    "window 2": MultiToken(window=2, decay=0.5),
    "all latents": MultiToken(weight=0.3),
    "pause": MultiToken(weight=0.0),
    "two prefixes": MultiToken(prefixes=2),
    "one prefix": MultiToken(prefixes=1, window=3),
    "one prefix, random": MultiToken(prefixes=1, order="random"),
    "any order": MultiToken(window=3, order="random"),
    "with next": MultiToken(window=3, next_token=0.4),
    "any order, some prefixes": MultiToken(window=2, order="random", prefixes=3),
    "teacherless": Teacherless(),
    "registers": MuToR(reach=3),
    "block diffusion": BlockDiffusion(size=3),
    "block diffusion bound": BlockDiffusion(size=2, bound=True),
}
UNREFUSED = {"masked", "masked bound", "teacherless", "one prefix", "one prefix, random"}
# Teacherless refuses ordered latents for another reason, in `test_natural.py`.
PAIRS = [(n, r) for n in OBJECTIVES for r in ATTENTIONS if n != "teacherless" or ATTENTIONS[r].latents != "ordered"]
ALLOWED = [(n, r) for n, r in PAIRS if n in UNREFUSED or ATTENTIONS[r].cacheable]
REFUSED = [pair for pair in PAIRS if pair not in ALLOWED]


def pack(objective: Objective, x0: Tensor, given: Tensor, mask_id: int = MASK, seed: int = 5) -> Packed:
    return objective.pack(Absorbing(), x0, given, mask_id, seeded(seed))


def order_of(objective: Objective, x0: Tensor, given: Tensor, row: int, seed: int = 5) -> list[int]:
    """The positions of a row's free tokens in the order they are said: a random order is the first draw."""
    random = isinstance(objective, MultiToken) and objective.order == "random"
    clean = any_order(x0, given, seeded(seed)) if random else left_to_right(x0, given)
    return [int(p) for p in clean.place[row] if not given[row, p]]


def block_of(objective: Objective, start: int, slot: int, free: int) -> list[int]:
    """The slots of the block at a threshold, of which `slot` is one."""
    if isinstance(objective, MuToR):
        return [slot]
    window = objective.window if isinstance(objective, MultiToken) else 0
    return list(range(min(window or free, free - start)))


def questions(objective: Objective, found: set[tuple[int, int]], free: int) -> set[tuple[int, int]]:
    """All (threshold, slot) that a row must be asked; random thresholds and distances are those `found`."""
    starts, drawn = set(range(free)), {start for start, slot in found if slot != SUCCESSOR}
    successors = {(start, SUCCESSOR) for start in starts}
    if isinstance(objective, MuToR):
        (distance,) = {slot for _, slot in found if slot != SUCCESSOR} or {free}
        return successors | {(start, distance) for start in starts if start + distance < free}
    if isinstance(objective, Teacherless):
        return {(0, slot) for slot in range(free)}
    if not isinstance(objective, MultiToken):
        return successors
    if objective.prefixes:
        assert len(drawn) == min(objective.prefixes, free)
        starts = drawn
    asked = {(s, j) for s in starts for j in block_of(objective, s, 0, free) if j == 0 or objective.weight}
    return asked | (successors if objective.next_token else set())


BY_PREFIX = (NextTokenPrediction, MultiToken, Teacherless, MuToR)


@pytest.mark.parametrize(("name", "rule"), [(n, r) for n, r in ALLOWED if isinstance(OBJECTIVES[n], BY_PREFIX)])
@torch.no_grad()
def test_packed_is_one_prefix_at_a_time(name: str, rule: str) -> None:
    """All that must be asked is asked, and answered as in a pass of its own: no fewer, no more, no other entries."""
    objective, model = OBJECTIVES[name], tiny(ATTENTIONS[rule])
    x0, given = ragged_clean()
    p = pack(objective, x0, given)
    logits = model(p.layout, p.one.at)
    for row in range(len(x0)):
        turns = order_of(objective, x0, given, row)
        before = [int(given[row].nonzero().max()), *turns]  # where each turn's token is asked of a clean entry
        found: dict[tuple[int, int], Tensor] = {}
        for column in p.one.real[row].nonzero()[:, 0].tolist():
            slot, position = int(p.one.slot[row, column]), int(p.layout.position[row, p.one.at[row, column]])
            start = before.index(position) if slot == SUCCESSOR else turns.index(position) - slot
            assert (start, slot) not in found
            assert p.one.target[row, column] == x0[row, turns[start + max(slot, 0)]]
            found[start, slot] = logits[row, column]
        assert found.keys() == questions(objective, set(found), len(turns))
        for (start, slot), mine in found.items():
            said = {position: date for date, position in enumerate(turns[:start], 1)}
            slots = [] if slot == SUCCESSOR else block_of(objective, start, slot, len(turns))
            other = alone(model, x0[row], given[row], said, [(turns[start + j], MASK) for j in slots])
            assert torch.allclose(mine, other[before[start] if slot == SUCCESSOR else turns[start + slot]], **EXACT)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("rule", [r for n, r in ALLOWED if n == "block diffusion"])
@torch.no_grad()
def test_packed_is_one_diffused_block_at_a_time(rule: str, size: int) -> None:
    """A block answers as beside the clean blocks before it alone; within a block, clean tokens see each other."""
    x0, given = ragged_clean()
    model, p = tiny(ATTENTIONS[rule]), pack(BlockDiffusion(size), x0, given)
    logits = model(p.layout, p.one.at)
    for row in range(len(x0)):
        turns = order_of(NextTokenPrediction(), x0, given, row)
        entries = p.layout.unsaid[row].nonzero()[:, 0]
        held = {int(p.layout.position[row, e]): int(p.layout.token[row, e]) for e in entries}
        assert len(entries) == len(held) and sorted(held) == turns
        assert all(held[q] in (MASK, int(x0[row, q])) for q in turns)
        columns = p.one.real[row].nonzero()[:, 0]
        asked = p.layout.position[row, p.one.at[row, columns]].tolist()
        assert sorted(asked) == [q for q in turns if held[q] == MASK]
        assert torch.equal(p.one.target[row, columns], x0[row, asked])
        for column, position in zip(columns.tolist(), asked, strict=True):
            start = turns.index(position) // size * size
            said = {q: turn // size + 1 for turn, q in enumerate(turns[:start])}
            other = alone(model, x0[row], given[row], said, [(q, held[q]) for q in turns[start : start + size]])
            assert torch.allclose(logits[row, column], other[position], **EXACT)


def leaks(name: str, rule: Attention) -> tuple[float, float]:
    """By how much answers move when the token that they are asked for changes; and when another does.

    Three layers: a later token may come by another block's mask, and a clean token that sees that.
    """
    objective, model = OBJECTIVES[name], tiny(rule, layers=3)
    x0, given = ragged_clean()
    p = pack(objective, x0, given)
    target = pack(objective, torch.arange(SEQ).expand_as(x0), given, mask_id=99).one.target  # as positions
    logits, own, others = model(p.layout, p.one.at), [0.0], [0.0]
    for position in range(SEQ):
        other = x0.clone()
        other[:, position] = torch.where(given[:, position], x0[:, position], (x0[:, position] + 1) % MASK)
        q = pack(objective, other, given)
        moved = (model(q.layout, q.one.at) - logits)[..., :MASK].abs().amax(-1)
        own += moved[p.one.real & (target == position)].tolist()
        others += moved[p.one.real & (target != position)].tolist()
    return max(own), max(others)


@pytest.mark.parametrize(("name", "rule"), ALLOWED)
@torch.no_grad()
def test_no_entry_sees_what_it_is_asked_for(name: str, rule: str) -> None:
    OBJECTIVES[name].check(ATTENTIONS[rule])
    own, others = leaks(name, ATTENTIONS[rule])
    assert own < 1e-9
    assert (others < 1e-9) if name == "teacherless" else (others > 1e-3)


@pytest.mark.parametrize(("name", "rule"), REFUSED)
@torch.no_grad()
def test_what_is_refused_would_leak(name: str, rule: str) -> None:
    with pytest.raises(ValueError, match="would see what they are asked for; take a causal context"):
        OBJECTIVES[name].check(ATTENTIONS[rule])
    assert leaks(name, ATTENTIONS[rule])[0] > 1e-3


@torch.no_grad()
def test_a_causal_context_that_sees_latents_would_leak() -> None:
    rule = Attention("causal", "joint", context_sees_latents=True)
    with pytest.raises(ValueError, match="sees no latents"):
        OBJECTIVES["window 2"].check(rule)
    assert leaks("window 2", rule)[0] > 1e-3


@pytest.mark.parametrize(("name", "rule"), [(n, r) for n, r in ALLOWED if ATTENTIONS[r].cacheable])
@torch.no_grad()
def test_clean_tokens_never_notice_masks(name: str, rule: str) -> None:
    """Whatever a latent holds, and whatever the mask's embedding is."""
    model, p = tiny(ATTENTIONS[rule]), pack(OBJECTIVES[name], *ragged_clean())
    layout, logits = p.layout, model(p.layout)
    token = torch.where(layout.unsaid, (layout.token + 1) % SEQ, layout.token)
    changed = [model(replace(layout, token=token))]
    model.trunk.get_input_embeddings().get_parameter("weight")[MASK] += 1
    changed.append(model(layout))
    for moved in ((c - logits)[..., :MASK].abs().amax(-1) for c in changed):
        assert moved[layout.said].max() < 1e-9
        assert name == "next token" or moved[layout.unsaid].max() > 1e-3


def gradients(objective: Objective, rule: Attention) -> Tensor:
    """The loss of a batch and its gradient by every weight, in one vector."""
    model, p = tiny(rule), pack(objective, *ragged_clean())
    loss = p.reduce(packed_losses(model, p))
    parts = torch.autograd.grad(loss, [*model.parameters()])
    return torch.cat([loss.detach()[None], *(g.flatten() for g in parts)])


def test_a_window_past_the_end_is_a_no_op() -> None:
    found = [gradients(MultiToken(window=w, decay=0.7), CACHED_JOINT) for w in (0, 6, 50, 5)]
    assert torch.allclose(found[0], found[1], **EXACT) and torch.allclose(found[0], found[2], **EXACT)
    assert not torch.allclose(found[0], found[3], rtol=0, atol=1e-4)


def test_pause_tokens_that_nobody_sees_are_a_no_op() -> None:
    """Weight 0: the latents are there, not asked. Lone slots do not see them, and train as if they were not there."""
    one, pause = MultiToken(window=1), MultiToken(window=3, weight=0.0)
    assert torch.allclose(gradients(one, CACHED_ALONE), gradients(pause, CACHED_ALONE), **EXACT)
    for rule in (CACHED_JOINT, ANY_ORDER):
        assert not torch.allclose(gradients(one, rule), gradients(pause, rule), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weights_sum_to_one_but_a_bounds(name: str) -> None:
    p = pack(OBJECTIVES[name], *ragged_clean())
    assert (p.weight >= 0).all()
    assert (abs(float(p.weight.sum()) - 1) < 1e-5) == ("bound" not in name)


@pytest.mark.parametrize(("weight", "decay"), [(1.0, 1.0), (0.3, 1.0), (2.0, 0.5)])
def test_what_slots_and_next_tokens_weigh(weight: float, decay: float) -> None:
    """A latent: `weight` times `decay` to its distance less one. Blocks weigh alike, and so do next tokens."""
    p = pack(MultiToken(weight=weight, decay=decay, next_token=0.2), *ragged_clean())
    for row, column in p.one.real.nonzero().tolist():
        slot, position = int(p.one.slot[row, column]), p.one.at[row, column]
        block = p.layout.unsaid[row] & (p.layout.block[row] == p.layout.block[row, position])
        raw = [1.0] + [weight * decay ** (j - 1) for j in range(1, int(block.sum()))]
        expected = 0.2 / 11 if slot == SUCCESSOR else 0.8 / 11 * raw[slot] / sum(raw)
        assert float(p.weight[row, column]) == pytest.approx(expected, rel=1e-5)


def test_registers_look_ahead_by_a_distance_for_each_row() -> None:
    """Each of 3 distances over 6,000 rows: chi-square, false alarm 1 in 100,000. The next tokens weigh the rest."""
    x0 = torch.zeros(6000, 5, dtype=torch.int64)
    p = pack(MuToR(reach=3, weight=0.3), x0, (torch.arange(5) < 1).expand(x0.shape))
    distance = torch.where(p.one.real & (p.one.slot != SUCCESSOR), p.one.slot, -1)
    assert torch.equal(distance.amax(1), torch.where(distance < 0, 9, distance).amin(1))
    assert chi_square_p(distance.amax(1).bincount().double(), torch.full((3,), 1 / 3).double()) > 1e-5
    assert float(p.weight[p.one.slot == SUCCESSOR].sum()) == pytest.approx(0.7, abs=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_that_is_all_prompt_is_asked_nothing(name: str) -> None:
    p = pack(OBJECTIVES[name], *ragged_clean((0, 0)))
    assert p.one.at.shape == (2, 0) and float(p.weight.sum()) == float(p.reduce(torch.zeros(2, 0))) == 0
    assert p.by_slot(torch.zeros(2, 0)) == []


@pytest.mark.parametrize(
    ("kind", "fields", "remedy"),
    [
        (MultiToken, {"window": -1}, "0 for all"),
        (MultiToken, {"prefixes": -1}, "0 for all"),
        (MultiToken, {"weight": -0.1}, "weight 0 or more"),
        (MultiToken, {"decay": 0.0}, "decay in"),
        (MultiToken, {"decay": 1.1}, "decay in"),
        (MultiToken, {"next_token": 1.0}, "next_token in"),
        (MultiToken, {"order": "sideways"}, "left_to_right"),
        (MultiToken, {"order": "random", "next_token": 0.1}, "give next_token=0"),
        (MuToR, {"reach": 0}, "reach 1 or more"),
        (MuToR, {"weight": 0.0}, "weight in"),
        (BlockDiffusion, {"size": 0}, "1 token or more"),
    ],
)
def test_bad_objectives(kind, fields: dict, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        kind(**fields)

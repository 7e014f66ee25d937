"""Every objective trains what decoding computes, one prefix at a time, and is weighed as it says (float64, 1e-9).

Laws: packed = one prefix at a time, for every objective under every attention that it allows; no entry sees the token
that it is asked for, and the attentions that are refused would show it; clean tokens never notice masks; a window past
the end, and latents that nobody sees or asks, change neither losses nor gradients; weights sum to 1, and a bound's on
average; with an exact network autoregression in any order is the likelihood, and the bound of block diffusion the
entropy, whatever the block.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toy import Exact, all_sequences, alone, ragged_clean, random_distribution, seeded, tiny

from unspoken.attention import ANY_ORDER, ATTENTIONS, CACHED_ALONE, CACHED_JOINT, Attention
from unspoken.likelihood import nelbo, packed_losses
from unspoken.objective import BlockDiffusion, LatentBlocks, Masked, NextToken, Objective, Registers, Teacherless
from unspoken.packing import NEXT, Packed, any_order, left_to_right
from unspoken.process import Absorbing
from unspoken.schedule import Cosine, Linear, Schedule

EXACT = {"rtol": 0.0, "atol": 1e-9}
MASK, SEQ = 6, 7
OBJECTIVES: dict[str, Objective] = {
    "masked": Masked(),
    "masked bound": Masked(bound=True),
    "next token": NextToken(),
    "window 1": LatentBlocks(window=1),
    "window 2": LatentBlocks(window=2, decay=0.5),
    "all latents": LatentBlocks(weight=0.3),
    "pause": LatentBlocks(weight=0.0),
    "two prefixes": LatentBlocks(prefixes=2),
    "one prefix": LatentBlocks(prefixes=1, window=3),
    "one prefix, random": LatentBlocks(prefixes=1, order="random"),
    "any order": LatentBlocks(window=3, order="random"),
    "with next": LatentBlocks(window=3, next_token=0.4),
    "any order with next": LatentBlocks(window=2, next_token=0.5, order="random", prefixes=3),
    "teacherless": Teacherless(),
    "registers": Registers(reach=3),
    "block diffusion": BlockDiffusion(size=3),
    "block diffusion bound": BlockDiffusion(size=2, bound=True),
}
UNREFUSED = {"masked", "masked bound", "teacherless", "one prefix", "one prefix, random"}
PAIRS = [(name, rule) for name in OBJECTIVES for rule in ATTENTIONS]
ALLOWED = [(n, r) for n, r in PAIRS if n in UNREFUSED or ATTENTIONS[r].cacheable]
REFUSED = [pair for pair in PAIRS if pair not in ALLOWED]


def pack(objective: Objective, x0: Tensor, given: Tensor, mask_id: int = MASK, seed: int = 5) -> Packed:
    return objective.pack(Absorbing(), x0, given, mask_id, seeded(seed))


def order_of(objective: Objective, x0: Tensor, given: Tensor, row: int, seed: int = 5) -> list[int]:
    """The positions of a row's free tokens in the order they are said: a random order is the first draw."""
    random = isinstance(objective, LatentBlocks) and objective.order == "random"
    clean = any_order(x0, given, seeded(seed)) if random else left_to_right(x0, given)
    return [int(p) for p in clean.place[row] if not given[row, p]]


def block_of(objective: Objective, start: int, slot: int, free: int) -> list[int]:
    """The slots of the block at a threshold, of which `slot` is one."""
    if isinstance(objective, Registers):
        return [slot]
    window = objective.window if isinstance(objective, LatentBlocks) else 0
    return list(range(min(window or free, free - start)))


def questions(objective: Objective, found: set[tuple[int, int]], free: int) -> set[tuple[int, int]]:
    """All (threshold, slot) that a row must be asked; random thresholds and distances are those `found`."""
    starts, drawn = set(range(free)), {start for start, slot in found if slot != NEXT}
    successors = {(start, NEXT) for start in starts}
    if isinstance(objective, Registers):
        (distance,) = {slot for _, slot in found if slot != NEXT} or {free}
        return successors | {(start, distance) for start in starts if start + distance < free}
    if isinstance(objective, Teacherless):
        return {(0, slot) for slot in range(free)}
    if not isinstance(objective, LatentBlocks):
        return successors
    if objective.prefixes:
        assert len(drawn) == min(objective.prefixes, free)
        starts = drawn
    asked = {(s, j) for s in starts for j in block_of(objective, s, 0, free) if j == 0 or objective.weight}
    return asked | (successors if objective.next_token else set())


BY_PREFIX = (NextToken, LatentBlocks, Teacherless, Registers)


@pytest.mark.parametrize(("name", "rule"), [(n, r) for n, r in ALLOWED if isinstance(OBJECTIVES[n], BY_PREFIX)])
@torch.no_grad()
def test_packed_is_one_prefix_at_a_time(name: str, rule: str) -> None:
    """All that must be asked is asked, and answered as in a pass of its own: no fewer, no more, no other entries."""
    objective, model = OBJECTIVES[name], tiny(ATTENTIONS[rule])
    x0, given = ragged_clean()
    p = pack(objective, x0, given)
    logits = model(p.layout, p.at)
    for row in range(len(x0)):
        turns = order_of(objective, x0, given, row)
        before = [int(given[row].nonzero().max()), *turns]  # where each turn's token is asked of a clean entry
        found: dict[tuple[int, int], Tensor] = {}
        for column in p.real[row].nonzero()[:, 0].tolist():
            slot, position = int(p.slot[row, column]), int(p.layout.position[row, p.at[row, column]])
            start = before.index(position) if slot == NEXT else turns.index(position) - slot
            assert (start, slot) not in found
            assert p.target[row, column] == x0[row, turns[start + max(slot, 0)]]
            found[start, slot] = logits[row, column]
        assert found.keys() == questions(objective, set(found), len(turns))
        for (start, slot), mine in found.items():
            said = {position: date for date, position in enumerate(turns[:start], 1)}
            slots = [] if slot == NEXT else block_of(objective, start, slot, len(turns))
            other = alone(model, x0[row], given[row], said, [(turns[start + j], MASK) for j in slots])
            assert torch.allclose(mine, other[before[start] if slot == NEXT else turns[start + slot]], **EXACT)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("rule", [r for n, r in ALLOWED if n == "block diffusion"])
@torch.no_grad()
def test_packed_is_one_diffused_block_at_a_time(rule: str, size: int) -> None:
    """A block answers as beside the clean blocks before it alone; within a block, clean tokens see each other."""
    x0, given = ragged_clean()
    model, p = tiny(ATTENTIONS[rule]), pack(BlockDiffusion(size), x0, given)
    logits = model(p.layout, p.at)
    for row in range(len(x0)):
        turns = order_of(NextToken(), x0, given, row)
        entries = p.layout.unsaid[row].nonzero()[:, 0]
        held = {int(p.layout.position[row, e]): int(p.layout.token[row, e]) for e in entries}
        assert len(entries) == len(held) and sorted(held) == turns
        assert all(held[q] in (MASK, int(x0[row, q])) for q in turns)
        columns = p.real[row].nonzero()[:, 0]
        asked = p.layout.position[row, p.at[row, columns]].tolist()
        assert sorted(asked) == [q for q in turns if held[q] == MASK]
        assert torch.equal(p.target[row, columns], x0[row, asked])
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
    target = pack(objective, torch.arange(SEQ).expand_as(x0), given, mask_id=99).target  # as positions
    logits, own, others = model(p.layout, p.at), [0.0], [0.0]
    for position in range(SEQ):
        other = x0.clone()
        other[:, position] = torch.where(given[:, position], x0[:, position], (x0[:, position] + 1) % MASK)
        q = pack(objective, other, given)
        moved = (model(q.layout, q.at) - logits)[..., :MASK].abs().amax(-1)
        own += moved[p.real & (target == position)].tolist()
        others += moved[p.real & (target != position)].tolist()
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


@pytest.mark.parametrize(("name", "rule"), [(n, r) for n, r in ALLOWED if n not in UNREFUSED])
@torch.no_grad()
def test_clean_tokens_never_notice_masks(name: str, rule: str) -> None:
    """Whatever a latent holds, and whatever the mask's embedding is."""
    model, p = tiny(ATTENTIONS[rule]), pack(OBJECTIVES[name], *ragged_clean())
    layout, logits = p.layout, model(p.layout)
    token = torch.where(layout.unsaid, (layout.token + 1) % SEQ, layout.token)
    changed = [model(replace(layout, token=token))]
    model.trunk.get_input_embeddings().weight[MASK] += 1
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
    found = [gradients(LatentBlocks(window=w, decay=0.7), CACHED_JOINT) for w in (0, 6, 50, 5)]
    assert torch.allclose(found[0], found[1], **EXACT) and torch.allclose(found[0], found[2], **EXACT)
    assert not torch.allclose(found[0], found[3], rtol=0, atol=1e-4)


def test_pause_tokens_that_nobody_sees_are_a_no_op() -> None:
    """Weight 0: the latents are there, not asked. Lone slots do not see them, and train as if they were not there."""
    one, pause = LatentBlocks(window=1), LatentBlocks(window=3, weight=0.0)
    assert torch.allclose(gradients(one, CACHED_ALONE), gradients(pause, CACHED_ALONE), **EXACT)
    for rule in (CACHED_JOINT, ANY_ORDER):
        assert not torch.allclose(gradients(one, rule), gradients(pause, rule), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weights_sum_to_one_but_a_bounds(name: str) -> None:
    p = pack(OBJECTIVES[name], *ragged_clean())
    assert (p.weight >= 0).all()
    assert (abs(float(p.weight.sum()) - 1) < 1e-5) == ("bound" not in name)


@pytest.mark.parametrize("objective", [LatentBlocks(window=2, weight=0.3), Registers(reach=2, weight=0.3)], ids=str)
def test_shares_of_a_loss(objective: Objective) -> None:
    """Of `next_token` and of registers; a latent's weight is by the block, of a register's by the pass."""
    if isinstance(objective, LatentBlocks):
        objective = replace(objective, next_token=0.2)
    p = pack(objective, *ragged_clean())
    share = float(p.weight[p.slot == NEXT].sum())
    assert share == pytest.approx(0.2 if isinstance(objective, LatentBlocks) else 0.7, abs=1e-6)


@torch.no_grad()
def test_the_bound_of_masked_is_the_nelbo() -> None:
    x0, given = ragged_clean()
    model, p = tiny(ATTENTIONS["scdm"]), pack(Masked(bound=True), x0, given)
    expected = float(nelbo(model, Absorbing(), x0, given, seeded(5), draws=1).sum()) / int((~given).sum())
    assert float(p.reduce(packed_losses(model, p))) == pytest.approx(expected, rel=1e-6)
    assert expected > 0


@pytest.mark.parametrize("order", ["left_to_right", "random"])
def test_one_slot_at_a_time_is_the_likelihood(order) -> None:
    """With an exact network, the chain rule: -log p(x0) a row, in whatever order it is said (1e-9)."""
    p, x0 = random_distribution(3, 4), all_sequences(3, 4)
    for window in (1, 3):
        objective = LatentBlocks(window=window, weight=0.0, order=order)
        packed = pack(objective, x0, torch.zeros_like(x0, dtype=torch.bool), mask_id=3)
        losses = packed_losses(Exact(p, 3, 4, CACHED_JOINT), packed)
        assert torch.allclose(losses.sum(1), -p.log(), **EXACT)


def draw_bound(rule: Attention, schedule: Schedule, size: int, rows: int = 3000) -> tuple[Tensor, Tensor]:
    """Block diffusion's bound of `rows` sequences in nats, one estimate each; and the entropy."""
    p = random_distribution(3, 4)
    x0 = all_sequences(3, 4)[torch.multinomial(p, rows, replacement=True, generator=seeded())]
    objective = BlockDiffusion(size, bound=True)
    packed = objective.pack(Absorbing(schedule), x0, torch.zeros_like(x0, dtype=torch.bool), 3, seeded(1))
    losses = packed_losses(Exact(p, 3, 4, rule), packed)
    return (losses * packed.weight).sum(1) * x0.numel(), torch.special.entr(p).sum()


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_the_bound_of_block_diffusion_is_the_entropy(size: int, schedule: Schedule) -> None:
    """For any block, an exact network's: within 4.5 standard errors, false alarm 1 in 100,000."""
    estimates, entropy = draw_bound(CACHED_JOINT, schedule, size)
    assert abs(float(estimates.mean() - entropy)) < 4.5 * float(estimates.std()) / len(estimates) ** 0.5


def test_the_bound_is_loose_where_a_block_does_not_see_itself() -> None:
    """The same test can fail: lone slots know nothing of their block's other tokens."""
    estimates, entropy = draw_bound(CACHED_ALONE, Linear(), 4)
    assert float(estimates.mean() - entropy) > 4.5 * float(estimates.std()) / len(estimates) ** 0.5


@torch.no_grad()
def test_blocks_of_one_token_are_autoregression_at_any_time() -> None:
    """Each answer is the mask slot's, whatever its block's time (1e-9); the weights sum to 1 on average.

    4,000 rows, within 4.5 standard errors: false alarm 1 in 100,000.
    """
    x0, given = ragged_clean()
    model, p, slots = tiny(ANY_ORDER), pack(BlockDiffusion(1), x0, given), pack(LatentBlocks(window=1), x0, given)
    losses = [packed_losses(model, q) for q in (p, slots)]
    places = [q.layout.position.gather(1, q.at) for q in (p, slots)]
    dense = [torch.zeros(4, SEQ).double().scatter_add(1, a, b) for a, b in zip(places, losses, strict=True)]
    masked = torch.zeros(4, SEQ).scatter_add(1, places[0], p.real.float()) > 0
    assert 0 < int(masked.sum()) < 11
    assert torch.allclose(dense[0][masked], dense[1][masked], **EXACT)
    x0 = torch.zeros(4000, 5, dtype=torch.int64)
    of_row = pack(BlockDiffusion(1, bound=True), x0, x0 > 0).weight.sum(1) * 4000
    assert abs(float(of_row.mean()) - 1) < 4.5 * float(of_row.std()) / 4000**0.5


@pytest.mark.parametrize(
    ("kind", "fields", "remedy"),
    [
        (LatentBlocks, {"window": -1}, "0 for all"),
        (LatentBlocks, {"prefixes": -1}, "0 for all"),
        (LatentBlocks, {"weight": -0.1}, "weight 0 or more"),
        (LatentBlocks, {"decay": 0.0}, "decay in"),
        (LatentBlocks, {"decay": 1.1}, "decay in"),
        (LatentBlocks, {"next_token": 1.0}, "next_token in"),
        (LatentBlocks, {"order": "sideways"}, "left_to_right"),
        (Registers, {"reach": 0}, "reach 1 or more"),
        (Registers, {"weight": 0.0}, "weight in"),
        (BlockDiffusion, {"size": 0}, "1 token or more"),
    ],
)
def test_bad_objectives(kind, fields: dict, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        kind(**fields)

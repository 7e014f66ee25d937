"""The builders of packed passes, against plain Python and their own marginals.

Laws: an order and its inverse; the order of `any_order` and the thresholds of `some_starts` are uniform, distinct and
rising; a block holds exactly what is left of its window, and the context exactly what some block sees; a clean entry is
asked for the token said after it; the weights of blocks and slots are the formula's; `mix` and `side_by_side` are means
of what they join, and documents never see each other; one predicate is behind SDPA's and FlexAttention's masks, for
packed layouts and beside a cache too. That packed = one prefix at a time stands in `test_objective.py`.
"""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask
from toy import EXACT, chi_square_p, ragged_clean, seeded, side_by_side, tiny

from unspoken.layout.attention import ATTENTIONS, CACHED_JOINT
from unspoken.layout.entries import PADDING, Layout, random_order
from unspoken.layout.packing import (
    SUCCESSOR,
    Clean,
    Packed,
    any_order,
    ask_masks,
    ask_next,
    blocks,
    every_start,
    left_to_right,
    mix,
    slot_of,
    some_starts,
    weigh_slots,
)
from unspoken.training.losses import packed_losses

MASK = 6
ORDERS = {"left to right": left_to_right, "any order": lambda x0, given: any_order(x0, given, seeded(3))}


def turns(clean: Clean, row: int) -> list[int]:
    """The positions of a row's free tokens in the order they are said."""
    return [int(p) for p in clean.place[row] if not clean.given[row, p]]


def some_blocks(clean: Clean, window: int = 3, whole: bool = False) -> Layout:
    return blocks(clean, every_start(clean), torch.arange(window)[None], MASK, whole=whole)


def windowed(x0: Tensor, given: Tensor, window: int = 3) -> Packed:
    return ask_masks(some_blocks(left_to_right(x0, given), window), x0)


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_and_its_inverse(name: str) -> None:
    x0, given = ragged_clean()
    clean = ORDERS[name](x0, given)
    for row in range(len(x0)):
        free = [i for i in range(7) if not given[row, i]]
        said = turns(clean, row)
        assert sorted(clean.place[row].tolist()) == list(range(7))
        assert clean.place[row].tolist()[: len(free)] == said  # the prompt comes last
        assert sorted(said) == free and (name != "left to right" or said == free)
        assert [int(clean.rank[row, p]) for p in said] == list(range(len(said)))
        for stride in (1, 2):
            dates = {p: turn // stride + 1 for turn, p in enumerate(said)}
            assert clean.context(stride).order[row].tolist() == [dates.get(i, 0) for i in range(7)]
    assert clean.free[:, 0].tolist() == [6, 4, 1, 0]
    assert torch.equal(clean.context().token, x0)


def test_any_order_is_uniform() -> None:
    """Each of the 24 orders of 4 free tokens, 12,000 rows: chi-square, false alarm 1 in 100,000."""
    given = torch.tensor([False, True, False, False, False]).expand(12_000, 5)
    place = any_order(torch.zeros_like(given).long(), given, seeded()).place
    assert (place[:, 4] == 1).all()
    counts = Counter(map(tuple, place[:, :4].tolist()))
    assert len(counts) == 24
    assert chi_square_p(torch.tensor([*counts.values()]).double(), torch.full((24,), 1 / 24).double()) > 1e-5


def test_some_starts_are_a_uniform_choice() -> None:
    """Each of the 10 pairs of 5 thresholds, 10,000 rows: chi-square, false alarm 1 in 100,000."""
    x0 = torch.zeros(10_000, 7, dtype=torch.int64)
    clean = left_to_right(x0, (torch.arange(7) < 2).expand(x0.shape))
    start = some_starts(clean, 2, seeded())
    counts = Counter(map(tuple, start.tolist()))
    assert sorted(counts) == list(itertools.combinations(range(5), 2))  # distinct and rising
    assert chi_square_p(torch.tensor([*counts.values()]).double(), torch.full((10,), 0.1).double()) > 1e-5


@pytest.mark.parametrize("n", [1, 3, 6, 9])
def test_some_starts_are_all_where_there_are_no_more(n: int) -> None:
    clean = left_to_right(*ragged_clean())
    for seed in range(5):
        start = some_starts(clean, n, seeded(seed))
        assert start.shape[1] == min(n, 6)
        for row, free in enumerate([6, 4, 1, 0]):
            assert start[row].tolist() == sorted(set(start[row].tolist()))
            assert int((start[row] < free).sum()) == min(n, free)
    assert torch.equal(every_start(clean), torch.arange(6).expand(4, 6))


@pytest.mark.parametrize("whole", [False, True], ids=["seen", "whole"])
@pytest.mark.parametrize("window", [1, 3, 6, 50])
@pytest.mark.parametrize("name", ORDERS)
def test_a_block_holds_what_is_left_of_its_window(name: str, window: int, whole: bool) -> None:
    x0, given = ragged_clean()
    clean = ORDERS[name](x0, given)
    layout = some_blocks(clean, window, whole)
    slots = slot_of(layout, 7)
    for row in range(len(x0)):
        said, free = turns(clean, row), len(turns(clean, row))
        unsaid = layout.unsaid[row].nonzero()[:, 0].tolist()
        expected = [(s, s + 1, j, said[s + j], MASK) for s in range(free) for j in range(min(window, free - s))]
        fields = (layout.block, layout.horizon, slots, layout.position, layout.token)
        assert sorted(tuple(int(f[row, e]) for f in fields) for e in unsaid) == expected
        # The number of supervised slots, in closed form: the window is k + 1.
        assert len(unsaid) == sum(min(window, free - s) for s in range(free))
        context = layout.said[row].nonzero()[:, 0].tolist()
        kept = said if whole else said[: max(free - 1, 0)]  # the last token is seen by no block
        there = [i for i in range(7) if given[row, i]] * bool(whole or free) + kept
        assert sorted(int(layout.position[row, e]) for e in context) == sorted(there)
        assert all(layout.token[row, e] == x0[row, layout.position[row, e]] for e in context)


def test_a_block_ranks_the_nearest_latent_first_and_what_is_said_next_last() -> None:
    """As `decode` does beside the next ones: under `ordered`, the slot that is said sees all latents."""
    layout = some_blocks(left_to_right(*ragged_clean(free=(5,))), 4)
    first = layout.unsaid & (layout.block == 0)
    ranks = {int(s): int(o) for s, o in zip(slot_of(layout, 7)[first], layout.order[first], strict=True)}
    assert sorted(ranks, key=lambda slot: ranks[slot]) == [1, 2, 3, 0]


@pytest.mark.parametrize("name", ORDERS)
def test_a_clean_entry_is_asked_for_the_token_said_after_it(name: str) -> None:
    x0, given = ragged_clean()
    clean = ORDERS[name](x0, given)
    packed = ask_next(clean.context(), clean)
    for row in range(len(x0)):
        said = turns(clean, row)
        before = [max(i for i in range(7) if given[row, i]), *said][: len(said)]
        asked = [
            (int(a), int(t))
            for a, t, r in zip(packed.one.at[row], packed.one.target[row], packed.one.real[row], strict=True)
            if r
        ]
        assert sorted(asked) == sorted((b, int(x0[row, p])) for b, p in zip(before, said, strict=True))
    assert (packed.one.slot[packed.one.real] == SUCCESSOR).all()


def test_next_tokens_need_a_prompt() -> None:
    x0 = torch.zeros(2, 3, dtype=torch.int64)
    clean = left_to_right(x0, torch.tensor([[True, False, False], [False, False, False]]))
    with pytest.raises(ValueError, match="give every row a prompt"):
        ask_next(clean.context(), clean)


@pytest.mark.parametrize(("weight", "decay"), [(1.0, 1.0), (0.3, 1.0), (2.0, 0.5)])
def test_weights_of_slots_are_the_formula(weight: float, decay: float) -> None:
    """The mean over blocks of [l_0 + weight sum_j decay^(j-1) l_j] / [1 + weight sum_j decay^(j-1)]."""
    x0, given = ragged_clean()
    packed = windowed(x0, given, window=4)
    by_slot = torch.tensor([1.0] + [weight * decay ** (j - 1) for j in range(1, 4)], dtype=torch.float64)
    weighed = weigh_slots(packed, by_slot)
    losses = torch.rand(packed.one.at.shape, generator=seeded(), dtype=torch.float64)
    found: dict[tuple[int, int], dict[int, float]] = {}
    for row, column in packed.one.real.nonzero().tolist():
        block = int(packed.layout.block[row, packed.one.at[row, column]])
        found.setdefault((row, block), {})[int(packed.one.slot[row, column])] = float(losses[row, column])
    means = []
    for of_slot in found.values():
        raw = {j: 1.0 if j == 0 else weight * decay ** (j - 1) for j in of_slot}
        means.append(sum(raw[j] * loss for j, loss in of_slot.items()) / sum(raw.values()))
    assert len(means) == 6 + 4 + 1
    assert float(weighed.reduce(losses)) == pytest.approx(sum(means) / len(means), abs=1e-9)
    assert float(weighed.weight.sum()) == pytest.approx(1, abs=1e-9)
    assert torch.equal(weighed.one.real, packed.one.real)


def test_by_slot_is_the_mean_at_the_first_threshold() -> None:
    x0, given = ragged_clean()
    packed = windowed(x0, given, window=5)
    losses = torch.rand(packed.one.at.shape, generator=seeded(), dtype=torch.float64)
    first: dict[int, list[float]] = {}
    for row, column in packed.one.real.nonzero().tolist():
        if packed.layout.block[row, packed.one.at[row, column]] == 0:
            first.setdefault(int(packed.one.slot[row, column]), []).append(float(losses[row, column]))
    expected = [sum(first[j]) / len(first[j]) for j in range(5)]
    assert packed.by_slot(losses) == pytest.approx(expected, abs=1e-12)
    assert packed.by_slot(losses, most=2) == pytest.approx(expected[:2], abs=1e-12)


def test_by_slot_ends_at_the_first_slot_that_nobody_was_asked_for() -> None:
    """So that what is at j is of slot j. Next tokens count where there is nothing else."""
    x0, given = ragged_clean()
    clean = left_to_right(x0, given)
    layout = blocks(clean, every_start(clean), torch.tensor([[0, 1, 3]]), MASK, whole=True)
    masks, after = ask_masks(layout, x0), ask_next(layout, clean)
    both = mix(after, masks, 0.5)
    assert masks.by_slot(masks.one.slot.double()) == [0, 1]
    assert both.by_slot(torch.where(both.one.slot == SUCCESSOR, 9, both.one.slot).double()) == [0, 1]
    assert after.by_slot(after.one.slot.double()) == [SUCCESSOR]


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_mixture_is_the_mean_of_its_parts(share: float) -> None:
    x0, given = ragged_clean()
    clean = left_to_right(x0, given)
    layout = some_blocks(clean, whole=True)
    a, b = ask_masks(layout, x0), ask_next(layout, clean)
    both = mix(a, b, share)
    losses = [torch.rand(p.one.at.shape, generator=seeded(), dtype=torch.float64) for p in (a, b)]
    expected = (1 - share) * float(a.reduce(losses[0])) + share * float(b.reduce(losses[1]))
    assert float(both.reduce(torch.cat(losses, 1))) == pytest.approx(expected, abs=1e-6)
    assert torch.equal(both.one.target, torch.cat([a.one.target, b.one.target], 1))
    assert int(both.one.real.sum()) == int(a.one.real.sum()) + (int(b.one.real.sum()) if share else 0)


@pytest.mark.parametrize("name", [n for n, rule in ATTENTIONS.items() if rule.cacheable])
@torch.no_grad()
def test_documents_side_by_side_never_see_each_other(name: str) -> None:
    """Each answers as it does alone (1e-9), in whatever company, and a document's tokens move its own answers."""
    one, other = ragged_clean(), ragged_clean(free=(0, 5, 3, 2), length=9)
    next_token = left_to_right(*other)
    packs = [windowed(*one), ask_next(next_token.context(), next_token), windowed(*one, window=1)]
    model, both = tiny(ATTENTIONS[name]), side_by_side(packs)
    logits = model(both.layout, both.one.at)
    alone = torch.cat([model(p.layout, p.one.at) for p in packs], 1)
    assert torch.allclose(logits[both.one.real], alone[both.one.real], **EXACT)
    assert float(both.weight.sum()) == pytest.approx(1, abs=1e-6)
    losses = packed_losses(model, both)
    parts = [float(p.reduce(packed_losses(model, p))) for p in packs]
    assert float(both.reduce(losses)) == pytest.approx(sum(parts) / 3, abs=1e-6)
    for number in range(3):
        where = both.layout.document == number
        changed = replace(both.layout, token=torch.where(where, (both.layout.token + 1) % 7, both.layout.token))
        moved = (model(changed, both.one.at) - logits)[..., :MASK].abs().amax(-1)
        mine = where.gather(1, both.one.at)
        assert moved[both.one.real & ~mine].max() < 1e-9
        assert moved[both.one.real & mine].min() > 1e-6


def test_no_documents() -> None:
    with pytest.raises(ValueError, match="at least one"):
        side_by_side([])


@torch.no_grad()
def test_a_ragged_batch_is_its_rows_alone() -> None:
    """What is left of a window differs from row to row: padding is asked nothing and moves nothing (1e-9)."""
    x0, given = ragged_clean()
    model = tiny(CACHED_JOINT)
    together = windowed(x0, given, window=4)
    logits = model(together.layout, together.one.at)
    # A window of 50 where no more than 4 tokens remain is a no-op.
    for row, (window, asked) in enumerate([(4, 18), (50, 10), (50, 1)]):
        alone = windowed(x0[row : row + 1], given[row : row + 1], window)
        real = together.one.real[row]
        assert int(real.sum()) == asked
        assert torch.allclose(logits[row, real], model(alone.layout, alone.one.at)[0], **EXACT)
        assert torch.equal(together.one.target[row, real], alone.one.target[0])


def packed_layouts() -> dict[str, Layout]:
    x0, given = ragged_clean()
    clean, shuffled = left_to_right(x0, given), any_order(x0, given, seeded(3))
    strided = blocks(clean, torch.arange(3).expand(4, 3), torch.arange(2)[None], MASK, stride=2)
    pair = side_by_side([ask_masks(strided, x0), windowed(x0, given, 2)])
    return {"windows": some_blocks(clean), "any order": some_blocks(shuffled, 9), "two documents": pair.layout}


@pytest.mark.parametrize("shape", ["windows", "any order", "two documents"])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_flex_mask_is_the_dense_mask(name: str, shape: str) -> None:
    """Of whole passes, and of queries beside a cache: those from `first` on see all entries before them too."""
    rule, layout = ATTENTIONS[name], packed_layouts()[shape]
    batch, entries = layout.shape
    whole = layout.mask(rule)
    for first in (0, 5):
        block_mask = layout.block_mask(rule, first)
        flex = create_mask(block_mask.mask_mod, batch, 1, entries - first, entries, device="cpu")
        assert torch.equal(flex, layout.mask(rule, first))
        assert torch.equal(flex, whole[:, :, first:])
        assert block_mask.seq_lengths == (entries - first, entries)
    assert 0.05 < float(whole.double().mean()) < 0.95


def test_every_entry_of_a_packed_pass_sees_itself_and_padding_no_one() -> None:
    padding = 0
    for layout in packed_layouts().values():
        there = layout.document != PADDING
        padding += int((~there).sum())
        for rule in ATTENTIONS.values():
            mask = layout.mask(rule)[:, 0]
            assert mask.diagonal(dim1=1, dim2=2).all()  # else a softmax would be NaN
            assert not (mask & there[:, :, None] & ~there[:, None]).any()
            assert not (mask & ~there[:, :, None] & there[:, None]).any()
    assert padding > 50


def test_a_random_order_dates_the_prompt_before_all_and_ranks_the_latents_from_none() -> None:
    """As decoding dates them: the prompt 0, what was said 1, 2, ...; latents 0, 1, ... in some order."""
    x0, given = ragged_clean((6, 4, 1, 0))
    unsaid = ~given & (torch.rand(given.shape, generator=seeded(4)) < 0.5)
    layout = random_order(torch.where(unsaid, MASK, x0), unsaid, given, seeded(5))
    for row in range(4):
        order, said = layout.order[row], ~unsaid[row] & ~given[row]
        assert order[given[row]].tolist() == [0] * int(given[row].sum())
        assert sorted(order[said].tolist()) == list(range(1, 1 + int(said.sum())))
        assert sorted(order[unsaid[row]].tolist()) == list(range(int(unsaid[row].sum())))

"""Groups: one pass trains every number of latents, and none of its groups knows of another (float64, 1e-9).

Laws: a group of one is SIDM to the last bit, one group of all is the joint model's pass; a group answers as in a pass
of its own, which is a decoding pass with so many latents and candidates; other groups do not move it; every unsaid
token is asked, and weighs as in the plain pass; sizes are drawn from the law they name; members are the closest ones.
"""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import EXACT, Spy, chi_square_p, ragged_clean, seeded, tiny

from unspoken.decoders.slots import Slots
from unspoken.layout.attention import ATTENTIONS, CACHED_JOINT, JOINT, MDM, SIDM, Attention
from unspoken.layout.entries import random_order
from unspoken.layout.groups import Groups, Related, sizes_of
from unspoken.layout.packing import Packed
from unspoken.noise import Absorbing
from unspoken.record import as_json, from_record, to_record
from unspoken.tasks import PathStar, Sudoku
from unspoken.training.config import Train
from unspoken.training.losses import packed_losses
from unspoken.training.objective import MaskedDiffusion

MASK = 6
RULES = {"joint": JOINT, "cached-joint": CACHED_JOINT}
RELATED_14 = Related(((0.25,) * 14,) * 14)
RING = Related(tuple(tuple(1.0 if (j - i) % 7 in (1, 6) else 0.0 for j in range(7)) for i in range(7)))
SPLITS = {
    "log-uniform": Groups(),
    "uniform": Groups(0.5, "uniform"),
    "of 2": Groups(0, (2,)),
    "1 or 3": Groups(0.2, (1, 3)),
    "neighbours": Groups(0, (2, 3), members="near"),
    "related": Groups(0, (3,), members=RING),
    "growing": Groups(over_training="growing", whole_at_end=0.0),
    "weighed": Groups(weight=-0.5),
    "both": Groups(both=True),
    "taught": Groups(both=True, distil=0.5),
}


def pack(groups: Groups | None, seed: int = 5, **options: Any) -> tuple[Packed, Tensor, Tensor]:
    x0, given = ragged_clean((7, 6, 4, 1, 0))
    progress = options.pop("progress", 1.0)
    objective = MaskedDiffusion(groups=groups, **options)
    return objective.pack(Absorbing(), x0, given, MASK, seeded(seed), progress=progress), x0, given


def loss_and_gradient(rule: Attention, groups: Groups | None, dtype: torch.dtype = torch.float32) -> Tensor:
    model = tiny(rule, positions=7).to(dtype)
    packed, _, _ = pack(groups)
    loss = packed.reduce(packed_losses(model, packed))
    parts = torch.autograd.grad(loss, [*model.parameters()])
    return torch.cat([loss.detach()[None], *(g.flatten() for g in parts)])


def test_a_group_of_one_is_sidm_to_the_last_bit() -> None:
    mine, plain = (loss_and_gradient(r, g) for r, g in ((JOINT, Groups(0, (1,))), (SIDM, None)))
    assert torch.equal(mine, plain)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("groups", [Groups(1.0), Groups(0, (99,)), Groups(1.0, members="near")], ids=str)
def test_one_group_of_all_is_the_joint_pass(rule: str, groups: Groups) -> None:
    assert torch.equal(loss_and_gradient(RULES[rule], groups), loss_and_gradient(RULES[rule], None))


@pytest.mark.parametrize("rule", RULES)
def test_both_is_the_mean_of_the_two_passes(rule: str) -> None:
    its = [
        loss_and_gradient(RULES[rule], g, torch.float64) for g in (Groups(0, (2,), both=True), Groups(0, (2,)), None)
    ]
    assert torch.allclose(its[0], (its[1] + its[2]) / 2, rtol=0, atol=1e-6)  # weights are float32


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_a_group_answers_as_in_a_pass_of_its_own(rule: str, name: str) -> None:
    model = tiny(RULES[rule], positions=7)
    layout = pack(SPLITS[name])[0].layout
    logits, several = model(layout), 0
    for row in range(layout.shape[0]):
        blocks = layout.block[row][layout.unsaid[row]].unique().tolist()
        several += len(blocks) > 1
        for block in blocks:
            kept = layout.said[row] | (layout.unsaid[row] & (layout.block[row] == block))
            alone = layout.rows(torch.tensor([row])).select(kept.nonzero().T)
            assert torch.allclose(model(alone)[0], logits[row][kept], **EXACT)
    assert several > 1


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_groups_do_not_move_each_other(rule: str, name: str) -> None:
    """An unsaid entry is shown another token: its own group notices, and nobody else."""
    model = tiny(RULES[rule], positions=7)
    layout = pack(SPLITS[name])[0].layout
    logits, noticed = model(layout), 0
    for entry in range(layout.shape[1]):
        token = layout.token.clone()
        token[:, entry] = torch.where(layout.unsaid[:, entry], 0, token[:, entry])
        moved = (model(replace(layout, token=token)) - logits)[..., :MASK].abs().amax(-1)
        peers = layout.unsaid & layout.unsaid[:, [entry]] & (layout.block == layout.block[:, [entry]])
        assert float(moved[~peers & (layout.document == 0)].max()) < 1e-9
        noticed += int((moved[peers] > 1e-6).sum())
    assert noticed == int((sizes_of(layout, torch.arange(layout.shape[1]).expand(layout.shape)) * layout.unsaid).sum())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("latents", "candidates"), [(0, 1), (0, 3), (1, 1), (2, 2)])
@torch.no_grad()
def test_a_decoding_pass_is_the_training_pass_of_its_group(rule: str, latents: int, candidates: int) -> None:
    """Every pass of a decoder with n latents and c candidates, beside a training pass that holds them as a group."""
    model = Spy(tiny(RULES[rule], positions=7))
    x0, given = ragged_clean((7, 6, 4))
    tokens = torch.where(given, x0, MASK)
    groups = Groups(0, (latents + candidates,))
    committed = torch.where(given, 0, 99)
    for number, step in enumerate(Slots(latents, candidates, cache=False).steps(model, tokens, generator=seeded(1))):
        shown = model.passes[number]
        assert shown.layout.unsaid.sum(1).max() <= latents + candidates
        for row, index in enumerate(step.rows.tolist()):
            entry = shown.layout.unsaid[row]
            position = shown.layout.position[row][entry]
            unsaid = committed[index] == 99
            order = torch.where(unsaid, 99, committed[index])
            rank = torch.arange(7) + 7
            rank[position] = torch.arange(len(position))  # the pass's entries are the first group
            layout = random_order(tokens[[index]], unsaid[None], given[[index]])
            layout = replace(layout, order=torch.where(unsaid, rank.argsort().argsort(), order)[None])
            layout = replace(layout, horizon=torch.where(unsaid, 2**30, layout.order + 1))
            trained = groups.split(layout, seeded())
            group = trained.unsaid[0] & (trained.block[0] == 0)
            assert set(group.nonzero()[:, 0].tolist()) == set(position.tolist())
            real = shown.layout.unsaid[row][shown.at[row]]
            asked = shown.layout.position[row][shown.at[row]][real]
            assert torch.allclose(model.inner(trained)[0, asked], shown.logits[row][real], **EXACT)
            now = (step.answer[index] != MASK) & unsaid
            committed[index][now] = number + 1
            tokens[index] = step.answer[index]


def asked(packed: Packed) -> list[Counter[int]]:
    """How often each position of a row is asked."""
    found = [Counter[int]() for _ in range(packed.layout.shape[0])]
    for question in packed.questions:
        position = packed.layout.position.gather(1, question.at)
        for row, its in enumerate(found):
            its.update(position[row][question.real[row]].tolist())
    return found


@pytest.mark.parametrize("name", SPLITS)
def test_every_unsaid_token_is_asked_as_in_the_plain_pass(name: str) -> None:
    """Whatever the split: the number of supervised tokens is the plain pass's (in `both` twice, at half the weight)."""
    plain, (packed, x0, _) = pack(None)[0], pack(SPLITS[name])
    times = 2 if SPLITS[name].both else 1
    assert asked(packed) == [Counter({p: times * n for p, n in its.items()}) for its in asked(plain)]
    assert float(packed.weight.sum()) == pytest.approx(float(plain.weight.sum()))
    for question in packed.questions:
        right = x0.gather(1, packed.layout.position.gather(1, question.at))
        assert torch.equal(question.target[question.real], right[question.real])


@pytest.mark.parametrize("groups", [Groups(), Groups(both=True)], ids=["once", "both"])
def test_a_grouped_bound_weighs_as_the_plain_one(groups: Groups) -> None:
    """The sum of the weights that a token has in all its groups is its weight in the plain bound."""
    plain, grouped = pack(None, bound=True)[0], pack(groups, bound=True)[0]
    totals = []
    for packed in (plain, grouped):
        position = packed.layout.position.gather(1, packed.one.at)
        totals.append(torch.zeros(5, 7).scatter_add(1, position, packed.weight * packed.one.real))
    assert torch.allclose(*totals)


def test_weights_go_by_a_power_of_the_size() -> None:
    packed = pack(Groups(0, (1, 3), weight=2.0))[0]
    sizes = sizes_of(packed.layout, packed.one.at)[packed.one.real].double()
    assert len(sizes.unique()) > 1
    assert torch.allclose(packed.one.weight[packed.one.real].double(), sizes**2 / (sizes**2).sum())


def law(groups: Groups, every: int) -> Tensor:
    """The probability of sizes 1, ..., every."""
    n = torch.arange(1, every + 1, dtype=torch.float64)
    if groups.sizes == "log_uniform":
        p = ((n + 1) / n).log() / torch.tensor(every + 1.0).log()
    elif groups.sizes == "uniform":
        p = torch.full_like(n, 1 / every)
    else:
        p = torch.tensor([groups.sizes.count(int(k)) / len(groups.sizes) for k in n], dtype=torch.float64)
    p = (1 - groups.whole) * p
    p[-1] += groups.whole
    return p


@pytest.mark.parametrize("groups", [Groups(), Groups(0.6, "uniform"), Groups(0, (1, 4, 4)), Groups(0)], ids=str)
def test_sizes_have_the_law_they_name(groups: Groups) -> None:
    """50,000 sizes, chi-square at p > 1e-5: a false alarm once in 100,000 for each of the four laws."""
    unsaid = torch.ones(50_000, 12, dtype=torch.bool)
    drawn = torch.bincount(groups.draw_sizes(unsaid, seeded())[:, 0], minlength=13)[1:].double()
    p = law(groups, 12)
    assert (drawn[p == 0] == 0).all()
    assert chi_square_p(drawn[p > 0], p[p > 0]) > 1e-5
    wrong = p[p > 0] ** 0.5
    assert chi_square_p(drawn[p > 0], wrong / wrong.sum()) < 1e-5


def test_members_are_drawn_at_random() -> None:
    """Two of four tokens are in one group: every pair alike, of 6,000; a false alarm once in 100,000."""
    x0 = torch.zeros(6_000, 4, dtype=torch.long)
    unsaid, given = torch.ones_like(x0, dtype=torch.bool), torch.zeros_like(x0, dtype=torch.bool)
    layout = random_order(torch.full_like(x0, MASK), unsaid, given, seeded())
    block = Groups(0, (2,)).split(layout, seeded(1)).block
    partner = torch.stack([(block[:, [0]] == block[:, 1:]).long()[:, k].sum() for k in range(3)]).double()
    assert chi_square_p(partner, torch.full((3,), 1 / 3, dtype=torch.float64)) > 1e-5


@pytest.mark.parametrize("members", ["near", RING], ids=["near", "related"])
def test_members_are_the_closest_of_those_left(members: Any) -> None:
    """In order of the draw, each group is one token and those closest to it; here all seven are unsaid."""
    x0 = torch.zeros(200, 7, dtype=torch.long)
    unsaid, given = torch.ones_like(x0, dtype=torch.bool), torch.zeros_like(x0, dtype=torch.bool)
    layout = random_order(torch.full_like(x0, MASK), unsaid, given, seeded())
    block = Groups(0, (3,), members).split(layout, seeded(1)).block
    assert all(sorted(Counter(row.tolist()).values()) == [1, 3, 3] for row in block)
    centres = set()
    for row in block.tolist():
        first = [p for p in range(7) if row[p] == 0]
        if members == "near":
            assert first == list(range(first[0], first[0] + 3)) or first[0] == 0 or first[-1] == 6
            assert first[-1] - first[0] == 2
        else:
            middle = [p for p in first if {(p + 1) % 7, (p - 1) % 7} == set(first) - {p}]
            assert len(middle) == 1
        centres.add(tuple(first))
    assert len(centres) == (5 if members == "near" else 7)


def test_neighbours_alike_are_chosen_by_chance_and_of_those_left() -> None:
    """Unsaid at 0, 9, 18 and 19: 9 goes with 0 or 18 alike; with 0 for certain where 18 and 19 went together first.

    2,000 rows in which 9 is drawn first: a false alarm once in 100,000.
    """
    unsaid = torch.zeros(12_000, 24, dtype=torch.bool)
    unsaid[:, [0, 9, 18, 19]] = True
    x0 = torch.zeros(unsaid.shape, dtype=torch.long)
    layout = random_order(torch.full_like(x0, MASK), unsaid, ~unsaid, seeded())
    block = Groups(0, (2,), "near").split(layout, seeded(1)).block
    first = (block[:, 9] == 0) & (block[:, 19] != 0)  # 9 was drawn first, or chosen by 0 or 18
    partner = torch.stack([(block[first, p] == 0).sum() for p in (0, 18)]).double()
    assert int(partner.sum()) == int(first.sum()) > 2_000
    assert all(int((row >= 0).sum()) == 4 and len(set(row[row >= 0].tolist())) == 2 for row in block[:200])
    together = block[:, 18] == block[:, 19]
    assert bool((block[together, 9] == block[together, 0]).all()) and 0 < int(together.sum()) < len(block)
    by_nine = first & (block[:, 0] != 0) | first & (block[:, 18] != 0)
    assert int(by_nine.sum()) == int(first.sum())


def test_what_changes_over_training() -> None:
    unsaid = torch.ones(4_000, 30, dtype=torch.bool)

    def mean(groups: Groups, progress: float) -> float:
        return float(groups.draw_sizes(unsaid, seeded(), progress).double().mean())

    growing, shrinking = Groups(0, over_training="growing"), Groups(0, over_training="shrinking")
    assert mean(growing, 0) < mean(growing, 0.5) < mean(growing, 1)
    assert mean(shrinking, 0) == mean(growing, 1) and mean(shrinking, 1) == mean(growing, 0)
    fewer = Groups(1.0, (1,), whole_at_end=0.0)
    assert mean(fewer, 0) == 30 and mean(fewer, 1) == 1 and 14 < mean(fewer, 0.5) < 17
    assert mean(Groups(), 0) == mean(Groups(), 1)
    listed = Groups(0, (16, 1), over_training="growing")  # by size, however they are listed
    assert mean(listed, 0) < mean(listed, 0.5) < mean(listed, 1)


@pytest.mark.parametrize("groups", [Groups(), Groups(0, "uniform"), Groups(0, (3, 1))], ids=str)
def test_the_largest_draw_is_the_largest_size(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers below 1 may round to 1 where they are added and halved."""
    monkeypatch.setattr("unspoken.layout.groups.uniform", lambda like, *_: torch.ones(like.shape))
    unsaid = torch.ones(2, 5, dtype=torch.bool)
    assert groups.draw_sizes(unsaid).tolist() == [[3 if isinstance(groups.sizes, tuple) else 5]] * 2


def test_a_taught_token_learns_what_the_whole_row_says() -> None:
    """Share 1: its loss is the cross-entropy to the whole row's prediction, through which no gradient flows."""
    model = tiny(JOINT, positions=7)
    packed, _, _ = pack(Groups(0, (1,), both=True, distil=1.0))
    whole, split = packed.questions
    columns = whole.at.shape[1]
    losses = packed_losses(model, packed)[:, columns:]
    answers, position = model(packed.layout).log_softmax(-1), packed.layout.position
    expected = torch.zeros_like(losses)
    for row in range(len(position)):
        for column in split.real[row].nonzero()[:, 0].tolist():
            entry = int(split.at[row, column])
            (teacher,) = [int(e) for e in whole.at[row][whole.real[row]] if position[row, e] == position[row, entry]]
            says = answers[row, entry].clamp_min(-1e4)
            expected[row, column] = -(answers[row, teacher].detach().exp() * says).sum()
    assert torch.allclose(losses, expected, **EXACT)
    table = model.trunk.get_input_embeddings().get_parameter("weight")
    mine, theirs = (torch.autograd.grad(its.sum(), [table], retain_graph=True)[0] for its in (losses, expected))
    assert torch.allclose(mine, theirs, **EXACT) and float(mine.abs().sum()) > 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"whole": 1.5}, "whole=1.5"),
        ({"whole": float("nan")}, "whole=nan"),
        ({"sizes": "many"}, "sizes='many': give one of log_uniform, uniform, or a tuple"),
        ({"sizes": ()}, r"sizes=\(\): give one of"),
        ({"sizes": [1, 8]}, r"sizes=\[1, 8\]: give one of"),
        ({"sizes": 3}, "sizes=3: give one of"),
        ({"sizes": (0, 2)}, "sizes=0; give whole numbers of 1 or more"),
        ({"sizes": (1.5,)}, "sizes=1.5; give whole numbers"),
        ({"sizes": (True,)}, "sizes=True; give whole numbers"),
        ({"members": "all"}, "members='all'"),
        ({"over_training": "up"}, "over_training='up'"),
        ({"whole_at_end": -1.0}, "whole_at_end=-1.0"),
        ({"weight": float("inf")}, "weight=inf"),
        ({"weight": 80.0}, "weight=80.0"),
        ({"distil": 0.5}, "give both=True"),
        ({"distil": 2.0, "both": True}, "distil=2.0"),
    ],
    ids=str,
)
def test_what_makes_no_groups_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Groups(**wrong)


@pytest.mark.parametrize("name", [n for n in ATTENTIONS if n not in RULES])
def test_rules_under_which_groups_would_meet_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"groups with attention {name}"):
        MaskedDiffusion(groups=Groups()).check(ATTENTIONS[name])


def test_groups_meet_through_a_context_that_sees_them() -> None:
    """Why MDM is refused: an unsaid token of another group is noticed through the said ones."""
    layout = pack(Groups(0, (1,)))[0].layout
    model = tiny(MDM, positions=7)
    token = torch.where(layout.unsaid & (layout.order == 0), 0, layout.token)
    with torch.no_grad():
        moved = (model(replace(layout, token=token)) - model(layout))[..., :MASK].abs().amax(-1)
    assert float(moved[layout.unsaid & (layout.order > 0)].max()) > 1e-6


@pytest.mark.parametrize("wrong", [Groups(weight=1.0), Groups(both=True, distil=0.5)], ids=["weight", "distil"])
def test_a_bound_is_weighed_by_nothing_else(wrong: Groups) -> None:
    with pytest.raises(ValueError, match="no likelihood bound"):
        MaskedDiffusion(bound=True, groups=wrong)


def test_a_table_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="table of 2 positions, and rows have 7"):
        pack(Groups(0, (2,), members=Related(((0.0, 1.0), (1.0, 0.0)))))
    with pytest.raises(ValueError, match=r"table of 2 positions, and 4x4 Sudoku.* has 16"):
        Train(
            Sudoku(2, 2, givens=8), JOINT, objective=MaskedDiffusion(groups=Groups(members=Related(((0.0,) * 2,) * 2)))
        )
    wrong: list[Any] = [((0.0, 1.0),), ((0.0, float("nan")), (1.0, 0.0)), (("a",),), (), [[0.0]], 3]
    for table in wrong:
        with pytest.raises(ValueError, match="finite numbers"):
            Related(table)
    with pytest.raises(ValueError, match=r"relation of shape \(3,\)"):
        Related.of(torch.ones(3))


@pytest.mark.parametrize("name", SPLITS)
@torch.no_grad()
def test_a_batch_in_which_nothing_is_unsaid_asks_nothing(name: str) -> None:
    for rows in (0, 3):
        x0, given = torch.zeros(rows, 7, dtype=torch.long), torch.ones(rows, 7, dtype=torch.bool)
        packed = MaskedDiffusion(groups=SPLITS[name]).pack(Absorbing(), x0, given, MASK, seeded())
        assert not any(bool(q.real.any()) for q in packed.questions)
        assert float(packed.reduce(packed_losses(tiny(JOINT), packed)) if rows else 0) == 0


@pytest.mark.parametrize("name", SPLITS)
@torch.no_grad()
def test_parts_of_a_batch_are_the_whole(name: str) -> None:
    """What `accumulate` and several processes do: the losses of its rows sum to the batch's."""
    model, packed = tiny(CACHED_JOINT, positions=7), pack(SPLITS[name])[0]
    whole = packed.reduce(packed_losses(model, packed))
    parts = [packed.rows(0, 2), packed.rows(2, 3), packed.rows(3, 5)]
    assert torch.allclose(sum((p.reduce(packed_losses(model, p)) for p in parts), torch.zeros(())), whole, **EXACT)


def test_a_table_is_a_part_of_the_record() -> None:
    train = Train(PathStar(), CACHED_JOINT, objective=MaskedDiffusion(groups=Groups(members=RELATED_14)))
    assert from_record(Train, json.loads(as_json(to_record(train)))) == train

"""Losses and likelihoods against enumeration: an exact network's bound is the entropy, for every schedule."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import EXACT, Exact, Ignorant, Spy, all_sequences, alone, ragged_clean, random_distribution, seeded, tiny

from unspoken.decoders.policies import UNIFORM_LATENTS, attended
from unspoken.layout.attention import ATTENTIONS, MDM, SCDM, SIDM
from unspoken.layout.entries import Layout, one_block, random_order
from unspoken.layout.packing import ask_masks
from unspoken.measure.likelihood import nelbo, nll_by_latents, nll_by_policy
from unspoken.model.cache import Cache
from unspoken.noise import Absorbing, Ids
from unspoken.noise.schedule import Cosine, Linear, Polynomial, Schedule
from unspoken.noise.times import stratified_times
from unspoken.training.losses import noised, packed_losses, token_losses

SCHEDULES = [Linear(), Polynomial(3.0), Polynomial(0.5), Cosine()]


def exact_nelbo(model, process: Absorbing, p: Tensor, vocab: int, length: int, given: Tensor) -> float:
    """E_x0 of the NELBO by brute force: all sequences, all mask patterns, Gauss-Legendre over t in [0, 1]."""
    states = all_sequences(vocab, length)
    x, w = np.polynomial.legendre.leggauss(64)
    u = torch.tensor((x + 1) / 2)
    t, weight = u**2, torch.tensor(w / 2) * 2 * u  # t = u^2 smooths the root that t ** 0.5 has at 0
    total = torch.zeros(len(states), dtype=torch.float64)
    for pattern in all_sequences(2, length).bool():
        unsaid = pattern & ~given
        if not unsaid.any() or not torch.equal(unsaid, pattern):
            continue
        masked, kept = int(unsaid.sum()), int((~unsaid & ~given).sum())
        alpha = process.schedule.alpha(t)
        density = (process.nelbo_weight(t) * (1 - alpha) ** masked * alpha**kept * weight).sum()
        rows = unsaid.expand(len(states), -1)
        layout = one_block(torch.where(rows, vocab, states), rows, torch.zeros_like(states))
        total += density * token_losses(model, layout, states).sum(1)
    return float((p * total).sum())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_nelbo_of_an_exact_network_is_the_entropy(schedule: Schedule) -> None:
    p = random_distribution(3, 4)
    bound = exact_nelbo(Exact(p, 3, 4), Absorbing(schedule), p, 3, 4, torch.zeros(4, dtype=torch.bool))
    assert bound == pytest.approx(float(torch.special.entr(p).sum()), abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_nelbo_given_a_prompt_is_the_conditional_entropy(schedule: Schedule) -> None:
    p = random_distribution(3, 4, seed=2)
    given = torch.tensor([False, True, False, True])
    bound = exact_nelbo(Exact(p, 3, 4), Absorbing(schedule), p, 3, 4, given)
    joint = p.view(3, 3, 3, 3)
    prompt = joint.sum((0, 2)).flatten()
    assert bound == pytest.approx(float(torch.special.entr(p).sum() - torch.special.entr(prompt).sum()), abs=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_estimated_nelbo_is_unbiased(schedule: Schedule) -> None:
    """4,000 sequences drawn from p: within 4.5 standard errors of the entropy; false alarm 1 in 100,000."""
    p = random_distribution(3, 4)
    rows = torch.multinomial(p, 4000, replacement=True, generator=seeded())
    x0 = all_sequences(3, 4)[rows]
    estimates = nelbo(Exact(p, 3, 4), Absorbing(schedule), x0, torch.zeros_like(x0, dtype=torch.bool), seeded(1), 2)
    flat = estimates.flatten()
    error = float(flat.mean() - torch.special.entr(p).sum())
    assert abs(error) < 4.5 * float(flat.std()) / len(flat) ** 0.5


def test_an_ignorant_network_costs_log_v() -> None:
    """ln V a token and not ln (V + 1) or twice that: the mask is no answer, and the weight is the bound's."""
    x0 = torch.randint(5, (4000, 6), generator=seeded())
    estimates = nelbo(Ignorant(5), Absorbing(), x0, torch.zeros_like(x0, dtype=torch.bool), seeded(1), 4)
    flat = estimates.flatten()
    # within 4.5 standard errors: false alarm 1 in 100,000
    assert abs(float(flat.mean()) - 6 * np.log(5)) < 4.5 * float(flat.std()) / len(flat) ** 0.5


def brute_nll(model, x0: Tensor, n: int) -> float:
    """NLL of one sequence beside n latents: every order of saying it, every choice of latents, one at a time."""
    length, total, orders = len(x0), 0.0, list(permutations(range(len(x0))))
    for order in orders:
        for k in range(length):
            target, rest = order[k], order[k + 1 :]
            seen = min(n, len(rest))
            choices = [c for s in combinations(rest, seen) for c in permutations(s)]
            for chosen in choices:
                keep = [*order[:k], *chosen, target]
                unsaid = torch.tensor([[i not in order[:k] for i in range(length)]])
                dates = {i: 1 + j for j, i in enumerate(order[:k])} | {i: j for j, i in enumerate((*chosen, target))}
                ranks = torch.tensor([[dates.get(i, 0) for i in range(length)]])
                layout = one_block(torch.where(unsaid, model.mask_id, x0[None]), unsaid, ranks)
                small = layout.select(torch.tensor([keep]))
                losses = token_losses(model, small, x0[None])
                total += float(losses[0, target]) / len(choices) / len(orders)
    return total


@pytest.mark.parametrize("name", ["mdm", "scdm", "sidm", "joint", "any-order"])
@torch.no_grad()
def test_nll_by_latents_is_the_brute_force_one(name: str) -> None:
    """Within 4.5 standard errors for each of 4 counts: false alarm 1 in 36,000 a model."""
    model = tiny(ATTENTIONS[name], vocab=4)
    x0 = torch.tensor([2, 0, 3])
    counts = (0, 1, 2, 9)
    rows = x0.expand(600, 3)
    found = nll_by_latents(model, rows, torch.zeros_like(rows, dtype=torch.bool), counts, seeded(), draws=2)
    for n, column in zip(counts, found.unbind(1), strict=True):
        error = float(column.mean()) - brute_nll(model, x0, n)
        assert abs(error) < 4.5 * float(column.std()) / len(column) ** 0.5


@pytest.mark.parametrize("name", ["mdm", "scdm", "sidm", "joint", "any-order", "cached-joint"])
@torch.no_grad()
def test_nll_by_policy_latents_drawn_at_random_is_the_brute_force_one(name: str) -> None:
    """As above; under a causal context the tokens that are said have dates, as when they were decoded."""
    model = tiny(ATTENTIONS[name], vocab=4)
    x0 = torch.tensor([2, 0, 3])
    counts = (0, 1, 2, 9)
    rows = x0.expand(600, 3)
    given = torch.zeros_like(rows, dtype=torch.bool)
    found = nll_by_policy(model, rows, given, UNIFORM_LATENTS, counts, seeded(), draws=2)
    for n, column in zip(counts, found.unbind(1), strict=True):
        error = float(column.mean()) - brute_nll(model, x0, n)
        assert abs(error) < 4.5 * float(column.std()) / len(column) ** 0.5


@pytest.mark.parametrize("name", ATTENTIONS)
@torch.no_grad()
def test_nll_by_policy_chosen_latents_is_a_loop_over_the_passes(name: str) -> None:
    """What is unsaid, dated and to be predicted is read from the passes; the latents and the losses are a loop's."""
    x0, given = ragged_clean((6, 4, 1, 0))
    relation, counts = torch.rand(7, 7, generator=seeded(4)), (0, 2, 9)
    model, passes = tiny(ATTENTIONS[name], positions=7), []

    class Kept(Exact):
        def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
            passes.append((layout, at))
            return model(layout, at)

    spy = Kept(torch.ones(1), 6, 7, ATTENTIONS[name])
    found = nll_by_policy(spy, x0, given, attended(relation), counts, seeded(), draws=3)
    assert len(passes) == 3 * len(counts)
    total, unsaid_counts = torch.zeros_like(found), set()
    for number, (layout, at) in enumerate(passes):
        column, n = number % 3, counts[number % 3]
        for row in range(3):  # the last has nothing to predict
            free = [i for i in range(7) if not given[row, i]]
            dates = dict(zip(layout.position[row].tolist(), layout.order[row].tolist(), strict=True))
            said = {i: dates[i] for i in layout.position[row, layout.said[row]].tolist() if i in free}
            assert sorted(said.values()) == list(range(1, len(said) + 1))
            assert all(dates[i] == 0 for i in range(7) if given[row, i])
            target = int(layout.position[row, at[row, 0]])
            rest = [i for i in free if i not in said and i != target]
            chosen = sorted(rest, key=lambda i, looks=relation[target]: -float(looks[i]))[:n]
            assert sorted([*chosen, target]) == sorted(layout.position[row, layout.unsaid[row]].tolist())
            logits = alone(model, x0[row], given[row], said, [(i, 6) for i in (target, *reversed(chosen))])[target]
            total[row, column] -= logits.log_softmax(-1)[x0[row, target]] * len(free) / 3
            unsaid_counts.add((row, len(rest) + 1))
    assert torch.allclose(found, total, **EXACT)
    assert len(unsaid_counts) > 5  # of many lengths


def test_nll_of_an_exact_network_is_the_entropy_at_every_count() -> None:
    """4,000 draws, within 4.5 standard errors for each of 3 counts: false alarm 1 in 49,000."""
    p = random_distribution(3, 4)
    x0 = all_sequences(3, 4)[torch.multinomial(p, 4000, replacement=True, generator=seeded())]
    found = nll_by_latents(Exact(p, 3, 4), x0, torch.zeros_like(x0, dtype=torch.bool), (0, 1, 4), seeded(1), 1)
    for column in found.unbind(1):
        error = float(column.mean() - torch.special.entr(p).sum())
        assert abs(error) < 4.5 * float(column.std()) / len(column) ** 0.5


def test_prompts_are_not_paid_for() -> None:
    x0 = torch.randint(5, (50, 6), generator=seeded())
    given = torch.arange(6).expand(50, 6) < torch.arange(50)[:, None] % 7
    free = (~given).sum(1)
    found = nll_by_latents(Ignorant(5), x0, given, (0, 3), seeded(1), 2)
    assert torch.allclose(found, (free * np.log(5.0))[:, None].expand(-1, 2).double(), atol=1e-4)


def test_negative_latents_are_refused() -> None:
    x0 = torch.zeros(1, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="0 or more"):
        nll_by_latents(Ignorant(5), x0, torch.zeros_like(x0, dtype=torch.bool), (-1,))


@pytest.mark.parametrize("rule", [MDM, SCDM, SIDM], ids=lambda r: r.name)
@torch.no_grad()
def test_token_losses_are_the_cross_entropy_in_place(rule) -> None:
    x0 = torch.randint(6, (5, 9), generator=seeded())
    unsaid = torch.rand(5, 9, generator=seeded(1)) < torch.linspace(0, 1, 5)[:, None]
    layout = random_order(torch.where(unsaid, 6, x0), unsaid, torch.zeros_like(unsaid), seeded(2))
    model = tiny(rule)
    logp = model(layout).log_softmax(-1)
    naive = -logp.gather(-1, x0[..., None])[..., 0] * unsaid
    assert torch.allclose(token_losses(model, layout, x0), naive, rtol=0, atol=1e-9)
    order = torch.rand(5, 9, generator=seeded(3)).argsort(1)
    assert torch.allclose(token_losses(model, layout.select(order), x0), naive, rtol=0, atol=1e-9)


@torch.no_grad()
def test_packed_losses_are_of_what_is_asked_and_filling_costs_nothing() -> None:
    """Rows with 0 to 9 unsaid tokens, every other one asked: each loss is its own token's, the rest is 0."""
    x0 = torch.randint(6, (5, 9), generator=seeded())
    unsaid = torch.rand(5, 9, generator=seeded(1)) < torch.linspace(0, 1, 5)[:, None]
    layout = random_order(torch.where(unsaid, 6, x0), unsaid, torch.zeros_like(unsaid), seeded(2))
    asked = unsaid & (torch.arange(9) % 2 == 0)
    model, packed = tiny(SCDM), ask_masks(layout, x0, asked)
    losses = packed_losses(model, packed)
    naive = -model(layout).log_softmax(-1).gather(-1, x0[..., None])[..., 0]
    for row in range(5):
        real, mine = packed.one.real[row], asked[row]
        assert packed.one.at[row, real].tolist() == mine.nonzero()[:, 0].tolist()
        assert torch.allclose(losses[row, real], naive[row, mine], rtol=0, atol=1e-9)
        assert (losses[row, ~real] == 0).all()
    assert not packed.one.real[0].any() and packed.one.real.sum() == asked.sum()
    assert float(packed.reduce(losses)) == pytest.approx(float(naive[asked].mean()), abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_schedules(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 1, 100, dtype=torch.float64, requires_grad=True)
    alpha = schedule.alpha(t)
    (slope,) = torch.autograd.grad(alpha.sum(), t)
    assert torch.allclose(schedule.rate(t), -slope, atol=1e-12)
    ends = schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.allclose(schedule.beta(t), 1 - alpha, atol=1e-12)
    assert torch.allclose(ends, torch.tensor([1.0, 0.0], dtype=torch.float64), atol=1e-12)


def test_noise_has_its_own_time_for_every_token() -> None:
    """t = 0 keeps, t = 1 masks, and t = 0.3 masks 30%: 200,000 tokens, 4.5 standard errors (1 in 100,000)."""
    x0 = torch.randint(5, (100_000, 4), generator=seeded())
    xt = Absorbing().sample(x0, torch.tensor([[0.0, 0.3, 0.3, 1.0]]), Ids(5), seeded(1))
    assert torch.equal(xt[:, 0], x0[:, 0])
    assert (xt[:, 3] == 5).all()
    middle = xt[:, 1:3]
    assert abs(float((middle == 5).double().mean()) - 0.3) < 4.5 * (0.3 * 0.7 / 200_000) ** 0.5
    assert torch.equal(middle[middle != 5], x0[:, 1:3][middle != 5])


def test_stratified_times_fill_every_stratum() -> None:
    t = stratified_times(1000, seeded())
    assert torch.equal((t * 1000).ceil().sort().values, torch.arange(1, 1001).float())
    assert not torch.equal(t, t.sort().values)


def test_training_noise_leaves_the_prompt_alone() -> None:
    x0 = torch.randint(5, (400, 6), generator=seeded())
    given = torch.rand(400, 6, generator=seeded(1)) < 0.5
    z = noised(Absorbing(), x0, given, 5, seeded(2))
    assert torch.equal(z.xt[given], x0[given])
    assert torch.equal(z.unsaid, (z.xt == 5))
    assert not (z.unsaid & given).any()
    assert torch.equal(z.layout.unsaid, z.unsaid)


def test_bad_power() -> None:
    with pytest.raises(ValueError, match="power above 0"):
        Polynomial(0.0)


@pytest.mark.parametrize(("rule", "passes"), [("joint", 2), ("cached-joint", 2), ("mdm", 5), ("scdm", 1), ("sidm", 1)])
@torch.no_grad()
def test_counts_share_a_pass_where_the_context_sees_no_latents(rule: str, passes: int) -> None:
    """Groups of 1, 2, 3 and 5 beside one context, then one of all: what each tells in a pass of its own."""
    model, counts = Spy(tiny(ATTENTIONS[rule], positions=7)), [0, 1, 2, 4, 99]
    x0, given = ragged_clean()
    together = nll_by_latents(model, x0, given, counts, seeded(), 3)
    assert len(model.passes) == 3 * passes
    alone_ = torch.cat([nll_by_latents(model, x0, given, [n], seeded(), 3) for n in counts], 1)
    assert torch.allclose(together, alone_, **EXACT)
    assert len({round(float(x), 6) for x in together[0]}) == (1 if rule == "sidm" else 5)


def test_estimates_keep_no_graph() -> None:
    """Else a loop over draws holds every pass of them in memory."""
    model, (x0, given) = tiny(SCDM), ragged_clean()
    for found in (
        nelbo(model, Absorbing(), x0, given, seeded(), 1),
        nll_by_latents(model, x0, given, [0, 1], seeded(), 1),
        nll_by_policy(model, x0, given, UNIFORM_LATENTS, [0, 1], seeded(), 1),
    ):
        assert not found.requires_grad

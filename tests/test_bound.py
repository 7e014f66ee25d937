"""Bounds are bounds, and autoregression is the likelihood, of an exact network (float64, 1e-9).

Laws: the bound of masked diffusion is the NELBO; slot after slot, in whatever order, is the likelihood; the bound of
block diffusion is the entropy for every block and schedule, and loose where a block does not see itself; blocks of one
token are autoregression, whatever their times; a block has a time of its own; a bound weighs what its schedule says.
"""

import pytest
import torch
from torch import Tensor
from toy import EXACT, Exact, all_sequences, chi_square_p, ragged_clean, random_distribution, seeded, tiny

from unspoken.layout.attention import ANY_ORDER, ATTENTIONS, CACHED_ALONE, CACHED_JOINT, Attention
from unspoken.layout.packing import Packed
from unspoken.measure.likelihood import nelbo
from unspoken.noise import Absorbing
from unspoken.noise.schedule import Cosine, Linear, Schedule
from unspoken.training.losses import packed_losses
from unspoken.training.objective import BlockDiffusion, MaskedDiffusion, MultiToken, Objective

MASK, SEQ = 6, 7


def pack(objective: Objective, x0: Tensor, given: Tensor, mask_id: int = MASK) -> Packed:
    return objective.pack(Absorbing(), x0, given, mask_id, seeded(5))


@torch.no_grad()
def test_the_bound_of_masked_is_the_nelbo() -> None:
    x0, given = ragged_clean()
    model, p = tiny(ATTENTIONS["scdm"]), pack(MaskedDiffusion(bound=True), x0, given)
    expected = float(nelbo(model, Absorbing(), x0, given, seeded(5), draws=1).sum()) / int((~given).sum())
    assert float(p.reduce(packed_losses(model, p))) == pytest.approx(expected, rel=1e-6)
    assert expected > 0


@pytest.mark.parametrize("order", ["left_to_right", "random"])
def test_one_slot_at_a_time_is_the_likelihood(order) -> None:
    """With an exact network, the chain rule: -log p(x0) a row, in whatever order it is said (1e-9)."""
    p, x0 = random_distribution(3, 4), all_sequences(3, 4)
    for window in (1, 3):
        objective = MultiToken(window=window, weight=0.0, order=order)
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
    model, p, slots = tiny(ANY_ORDER), pack(BlockDiffusion(1), x0, given), pack(MultiToken(window=1), x0, given)
    losses = [packed_losses(model, q) for q in (p, slots)]
    places = [q.layout.position.gather(1, q.one.at) for q in (p, slots)]
    dense = [torch.zeros(4, SEQ).double().scatter_add(1, a, b) for a, b in zip(places, losses, strict=True)]
    masked = torch.zeros(4, SEQ).scatter_add(1, places[0], p.one.real.float()) > 0
    assert 0 < int(masked.sum()) < 11
    assert torch.allclose(dense[0][masked], dense[1][masked], **EXACT)
    x0 = torch.zeros(4000, 5, dtype=torch.int64)
    of_row = pack(BlockDiffusion(1, bound=True), x0, x0 > 0).weight.sum(1) * 4000
    assert abs(float(of_row.mean()) - 1) < 4.5 * float(of_row.std()) / 4000**0.5


@pytest.mark.parametrize("objective", [MaskedDiffusion(bound=True), BlockDiffusion(2, bound=True)], ids=str)
def test_what_a_bound_weighs(objective: Objective) -> None:
    """With a schedule of the same weight, 2, at all times: 2 a masked token, over the number of free ones."""

    class Steady(Linear):
        def beta(self, t: Tensor) -> Tensor:
            return torch.exp(2 * (t - 1))

        def alpha(self, t: Tensor) -> Tensor:
            return 1 - self.beta(t)

        def rate(self, t: Tensor) -> Tensor:
            return 2 * self.beta(t)

    p = objective.pack(Absorbing(Steady()), *ragged_clean(), MASK, seeded())
    assert torch.allclose(p.weight[p.one.real], torch.tensor(2 / 11), rtol=1e-5) and 0 < int(p.one.real.sum()) < 11
    assert int(p.one.real.sum()) == int((p.layout.unsaid & (p.layout.token == MASK)).sum())


def test_each_block_draws_a_time_of_its_own() -> None:
    """At a uniform time a block of 3 has 0 to 3 masks equally often, whatever another has: 16 pairs over 8,000 rows.

    Chi-square, false alarm 1 in 100,000.
    """
    x0 = torch.zeros(8000, 6, dtype=torch.int64)
    layout = pack(BlockDiffusion(3), x0, x0 > 0).layout
    masks = [(layout.token == MASK).int().mul(layout.unsaid & (layout.block == b)).sum(1) for b in (0, 1)]
    counts = (4 * masks[0] + masks[1]).bincount(minlength=16).double()
    assert chi_square_p(counts, torch.full((16,), 1 / 16).double()) > 1e-5

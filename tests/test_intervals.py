"""Intervals cover as often as they say, and many looks raise no more false alarms than one. Seeds are fixed."""

import math

import pytest
import torch
from torch import Tensor

from unspoken.measure.intervals import Estimate, holm, interval, p_value, seeds_share_interval, share_interval, wilson

CELLS = [(sd, p, n) for sd in (0.0, 0.3, 1.0) for p in (0.02, 0.5, 0.98) for n in (100, 1000)]


def shares(sd: float, p: float, n: int, seeds: int, studies: int) -> tuple[Tensor, float]:
    """`[studies, seeds]` shares of n examples whose log-odds differ by seed, and the mean over all seeds."""
    generator = torch.Generator().manual_seed(0)
    centre = math.log(p / (1 - p))
    normal = torch.randn(studies, seeds, generator=generator, dtype=torch.float64)
    each = torch.sigmoid(centre + sd * normal)
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weights = torch.exp(-(z**2) / 2)
    truth = float((torch.sigmoid(centre + sd * z) * weights).sum() / weights.sum())
    return torch.binomial(torch.full_like(each, n), each, generator=generator) / n, truth


def covered(sd: float, p: float, n: int, seeds: int, studies: int) -> float:
    found, truth = shares(sd, p, n, seeds, studies)
    inside = 0
    for its in found.tolist():
        low, high = seeds_share_interval(its, n)
        assert 0 <= low <= sum(its) / seeds + 1e-12 and sum(its) / seeds - 1e-12 <= high <= 1
        inside += low <= truth <= high
    return inside / studies


@pytest.mark.parametrize(("sd", "p", "n"), [(1.0, 0.02, 1000), (0.3, 0.5, 1000)])
def test_a_share_of_three_seeds_is_covered(sd: float, p: float, n: int) -> None:
    """Right: .946 and .965. At a true .94 one in 4,000 runs of 2,000 studies would be below .92."""
    assert covered(sd, p, n, 3, 2_000) >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("sd", "p", "n"), CELLS)
def test_a_share_is_covered_in_every_cell(sd: float, p: float, n: int, seeds: int) -> None:
    """At least .94, of 20,000 studies: 3.5 standard errors of the simulation are .006, one false alarm in 4,000."""
    assert covered(sd, p, n, seeds, 20_000) >= 0.94 - 0.006


@pytest.mark.parametrize(("seed_sd", "example_sd"), [(0.0, 1.0), (0.3, 1.0), (1.0, 0.1)])
def test_a_paired_difference_is_covered_and_raises_few_alarms(seed_sd: float, example_sd: float) -> None:
    """No difference but the seeds' and the examples': at most .05 alarms; above .08 of 1,000 once in 10^5 runs."""
    generator = torch.Generator().manual_seed(1)
    alarms = 0
    for _ in range(1_000):
        seeds = seed_sd * torch.randn(3, 1, generator=generator, dtype=torch.float64)
        low, high = interval(seeds + example_sd * torch.randn(3, 50, generator=generator, dtype=torch.float64))
        alarms += not low <= 0 <= high
    assert alarms <= 80


def test_seeds_that_agree_by_chance_do_not_raise_the_degrees_of_freedom() -> None:
    """The seeds' part is t of two degrees of freedom, 4.303, whatever the examples say."""
    values = torch.tensor([[0.0, 2.0] * 50, [0.1, 2.1] * 50, [0.2, 2.2] * 50], dtype=torch.float64)
    low, high = interval(values)
    examples = 1.984217**2 * (100 / 99) / 100
    assert (high - low) / 2 == pytest.approx(math.sqrt(4.302653**2 * 0.01 / 3 + examples), rel=1e-5)


def test_a_share_of_seeds_that_agree_has_wilsons_interval() -> None:
    right = torch.zeros(3, 40)
    right[:, :7] = 1
    assert share_interval(right) == pytest.approx(wilson(7, 40), abs=1e-12)


def test_a_p_value_is_where_the_interval_touches_nothing() -> None:
    values = torch.randn(3, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.3
    low, high = interval(values, 1 - p_value(values))
    assert min(abs(low), abs(high)) < 1e-6
    assert p_value(torch.zeros(2, 9)) == 1 and p_value(torch.ones(2, 9)) < 1e-9


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]  # .05 / 4, / 3, / 2: .03 fails there
    assert holm([0.04]) == [True] and holm([]) == []


def test_ratios_of_pairs_are_the_same_both_ways() -> None:
    """The geometric mean: turned round it is one over itself, ends and all; pairs of one ratio leave no doubt."""
    over, under = torch.tensor([[60.0, 180.0, 70.0]]), torch.tensor([[9.0, 27.0, 11.0]])
    ours, theirs = Estimate.of_ratios(over, under), Estimate.of_ratios(under, over)
    assert ours.mean == pytest.approx((60 * 180 * 70 / (9 * 27 * 11)) ** (1 / 3))
    assert (ours.mean, ours.low, ours.high) == pytest.approx((1 / theirs.mean, 1 / theirs.high, 1 / theirs.low))
    same = Estimate.of_ratios(torch.tensor([[2.0, 6.0]]), torch.tensor([[1.0, 3.0]]))
    assert (same.low, same.mean, same.high) == pytest.approx((2.0, 2.0, 2.0))


def test_ratios_that_differ_by_seed_leave_the_doubt_of_the_seeds() -> None:
    """Many turns of three seeds that differ are three measurements, and not as many as there are turns."""
    ratios = torch.tensor([[2.0], [3.0], [4.0]]).expand(3, 100)
    its = Estimate.of_ratios(ratios, torch.ones(3, 100))
    assert its.low < 2 and its.high > 4

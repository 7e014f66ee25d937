"""Laws of the area under a curve: areas worked out by hand, a curve that is nowhere worse has no smaller one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unspoken.measure.accuracy import Outcome
from unspoken.measure.area import area, areas, frontier, shares

COSTS = st.floats(0.01, 100)
POINTS = st.lists(st.tuples(COSTS, st.floats(0, 1)), min_size=1, max_size=8)
RANGES = st.tuples(st.floats(0.01, 1), st.floats(1.01, 100))


def of(points: list[tuple[float, float]], low: float, high: float) -> float:
    """The area of points (cost, value) of one seed and one example."""
    costs, values = zip(*points, strict=True)
    return float(area(costs, [torch.tensor([[v]], dtype=torch.float64) for v in values], low, high))


@pytest.mark.parametrize(
    ("points", "low", "high", "expected"),
    [
        # All budgets from 1 to 16 buy one half, and those from 4 buy all: two octaves of each.
        ([(1, 0.5), (4, 1.0)], 1, 16, 0.75),
        # The lower half of the budgets buys nothing.
        ([(4, 0.8)], 1, 16, 0.4),
        # A dear point that is worse adds nothing, nor one beyond the range; a cheap one counts from the low end.
        ([(0.1, 0.6), (2, 0.5), (32, 1.0)], 1, 16, 0.6),
        # 1, 2 and 8 of four octaves: .2, .4, .9.
        ([(1, 0.2), (2, 0.4), (8, 0.9)], 1, 16, (0.2 + 2 * 0.4 + 0.9) / 4),
        # One budget: the best that it buys.
        ([(1, 0.2), (2, 0.4), (8, 0.9)], 2, 2, 0.4),
        ([(4, 0.4)], 2, 2, 0.0),
        # Of equal costs the better one.
        ([(1, 0.2), (1, 0.7)], 1, 16, 0.7),
    ],
)
def test_areas_by_hand(points: list[tuple[float, float]], low: float, high: float, expected: float) -> None:
    assert of(points, low, high) == pytest.approx(expected, abs=1e-12)


@given(POINTS, RANGES)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_area_is_the_mean_over_a_fine_grid_of_budgets(points, ends) -> None:
    low, high = ends
    n = 500
    budgets = [low * (high / low) ** ((i + 0.5) / n) for i in range(n)]
    mean = sum(max((v for c, v in points if c <= b), default=0.0) for b in budgets) / n
    assert of(points, low, high) == pytest.approx(mean, abs=len(points) / n)


@given(POINTS, RANGES, st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_curve_that_is_nowhere_worse_has_no_smaller_area(points, ends, data) -> None:
    """Every point made cheaper, or better, and others added."""
    less = data.draw(st.lists(st.floats(0.1, 1), min_size=len(points), max_size=len(points)))
    gain = data.draw(st.lists(st.floats(0, 1), min_size=len(points), max_size=len(points)))
    better = [(c * k, v + (1 - v) * g) for (c, v), k, g in zip(points, less, gain, strict=True)]
    more = better + data.draw(POINTS)
    assert 0 <= of(points, *ends) <= of(better, *ends) + 1e-9
    assert of(better, *ends) <= of(more, *ends) + 1e-9 <= 1 + 2e-9


@given(POINTS, RANGES)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_shares_are_of_the_frontier_alone_and_at_most_all(points, ends) -> None:
    costs, values = zip(*points, strict=True)
    found = shares(costs, values, *ends)
    assert (found >= 0).all() and float(found.sum()) <= 1 + 1e-9
    best = frontier(costs, values)
    assert set(found.nonzero()[:, 0].tolist()) <= set(best)
    assert [costs[i] for i in best] == sorted(costs[i] for i in best)
    assert [values[i] for i in best] == sorted({values[i] for i in best})
    if min(costs) <= ends[0]:
        assert float(found.sum()) == pytest.approx(1)


def test_the_area_is_a_mean_over_seeds_and_examples() -> None:
    """The better point is chosen by its mean, though another seed would choose the other."""
    cheap, dear = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    found = area([1, 2], [cheap, dear], 1, 4)
    assert torch.equal(found, ((cheap + dear) / 2).double())


@pytest.mark.parametrize(("low", "high"), [(0, 1), (2, 1), (-1, 1), (1, math.inf), (math.nan, 1)])
def test_a_range_that_is_none_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="finite budgets above 0"):
        shares([1], [1], low, high)


def outcome(right: float, passes: float, flops: float, seconds: float) -> Outcome:
    return Outcome(torch.full((1, 1), right, dtype=torch.float64), passes, 1.0, 1.0, flops, seconds)


def test_models_share_their_ranges() -> None:
    """Eight tokens to say. One says them one by one, the other two, or all, in a pass."""
    one = [outcome(0.9, 8, 64, 1)]
    many = [outcome(0.8, 8, 16, 4), outcome(0.6, 4, 8, 2), outcome(0.3, 1, 4, 1)]
    found = {name: {key: float(v) for key, v in its.items()} for name, its in areas({"a": one, "b": many}, 8).items()}
    assert found["a"] == pytest.approx({"area_by_tokens": 0.0, "area_by_flops": 0.0, "area_by_seconds": 0.9})
    by_tokens = (0.6 + 0.3 + 0.3) / 3  # up to 2 a pass, up to 4, up to 8
    by_flops = (0.3 + 0.6 + 0.8 + 0.8) / 4  # 4 to 8, 8 to 16, 16 to 64
    by_seconds = (0.3 + 0.6) / 2  # 1 to 2, 2 to 4
    expected = {"area_by_tokens": by_tokens, "area_by_flops": by_flops, "area_by_seconds": by_seconds}
    assert found["b"] == pytest.approx(expected)
    # What is reached by others does not change an area against tokens a pass.
    assert float(areas({"b": many}, 8)["b"]["area_by_tokens"]) == pytest.approx(by_tokens)


def test_one_token_to_say_is_one_budget() -> None:
    """Passes a token that were averaged may be above 1 by a rounding."""
    found = areas({"a": [outcome(0.9, 1 + 1e-15, 4, 1)]}, 1)["a"]
    assert {key: float(v) for key, v in found.items()} == pytest.approx(dict.fromkeys(found, 0.9))

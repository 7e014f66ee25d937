"""Judging from stored rows: what is rebuilt has the means and the interval that were stored."""

import math

import pytest
import torch
from rejudge import rebuilt, spread
from scipy.special import stdtrit

from unspoken.measure.intervals import interval


def test_what_is_rebuilt_has_the_stored_means_and_the_examples_variance():
    """The interval of the older rule, of known variances, gives them back; today's is of the same two."""
    means, of_examples, n = torch.tensor([0.24, 0.241, 0.243], dtype=torch.float64), 2e-5, 500
    of_seeds = float(means.var()) / 3
    freedom = (of_seeds + of_examples) ** 2 / (of_seeds**2 / 2 + of_examples**2 / (n - 1))
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(of_seeds + of_examples)
    found = rebuilt(means.tolist(), [0.24 - half, 0.24 + half], n)
    assert torch.allclose(found.mean(1), means)
    assert float(found.mean(0).var()) / n == pytest.approx(of_examples, rel=1e-3)
    low, high = interval(found)
    today = math.sqrt(4.302653**2 * of_seeds + float(stdtrit(n - 1, 0.975)) ** 2 * of_examples)
    assert (high - low) / 2 == pytest.approx(today, rel=1e-3)


def test_answers_are_spread_by_each_seeds_share():
    assert spread([0.25, 1.0, 0.0], 8).sum(1).tolist() == [2, 8, 0]

"""Laws of measures of samples: by hand, by all pairs, of equal samples, and of draws of the true distribution."""

import math

import pytest
import torch
from toy import EXACT, seeded

from unspoken.measure.ensemble import Ensemble, crps, ensemble
from unspoken.tasks import Burgers

FIELDS = ("relative_l2", "worst", "consistency", "crps", "std", "variance", "mean_error")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def every(told: Ensemble) -> torch.Tensor:
    return torch.stack([getattr(told, name) for name in FIELDS])


def test_two_samples_of_two_questions_by_hand() -> None:
    """Truths (3, 4) and (0, 2), norms 5 and 2."""
    samples = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[0.0, 4.0], [0.0, 3.0]]])
    told = ensemble(samples, torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    expected = {
        "relative_l2": [0.5, 0.75],  # distances 0, 1 and 1, 1/2
        "worst": [1.0, 1.0],
        "consistency": [math.sqrt(0.5), math.sqrt(0.125)],
        # Numbers: (0 + 3) / 2 - 3 / 2 = 0, (0 + 4) / 2 - 4 / 2 = 0; then 0, and (2 + 1) / 2 - 1 / 2 = 1.
        "crps": [0.0, 0.5],
        "std": [(3 + 4) / math.sqrt(2) / 2, 1 / math.sqrt(2) / 2],
        "variance": [(4.5 + 8) / 2, 0.25],
        "mean_error": [(1.5**2 + 4) / 2, 1.5**2 / 2],
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(told, name), torch.tensor(value, dtype=torch.float64), **EXACT)
    assert told.spread_skill == pytest.approx(math.sqrt(1.5 * (6.25 + 0.25) / (3.125 + 1.125)), abs=1e-12)
    assert told.means() == pytest.approx(
        {name: sum(expected[name]) / 2 for name in FIELDS[:5]} | {"spread_skill": told.spread_skill}
    )


def test_equal_samples_have_no_spread_and_cost_their_error() -> None:
    one, truth = normal(6, 4), normal(6, 4, seed=1)
    told = ensemble(one[:, None].expand(-1, 5, -1), truth)
    for name in ("consistency", "std", "variance"):
        torch.testing.assert_close(getattr(told, name), torch.zeros(6, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(told.relative_l2, (one - truth).norm(dim=1) / truth.norm(dim=1), **EXACT)
    torch.testing.assert_close(told.worst, told.relative_l2, **EXACT)
    torch.testing.assert_close(told.crps, (one - truth).abs().mean(1), **EXACT)
    assert told.spread_skill < 1e-7
    assert math.isnan(ensemble(truth[:, None].expand(-1, 2, -1), truth).spread_skill)


def test_the_order_of_samples_does_not_matter_and_shapes_do_not() -> None:
    samples, truth = normal(7, 6, 8), normal(7, 8, seed=1)
    told = ensemble(samples, truth)
    torch.testing.assert_close(
        every(told), every(ensemble(samples[:, torch.randperm(6, generator=seeded())], truth)), **EXACT
    )
    square = ensemble(samples.view(7, 6, 2, 2, 2), truth.view(7, 2, 2, 2))
    torch.testing.assert_close(every(told), every(square), **EXACT)
    assert crps(samples.view(7, 6, 4, 2), truth.view(7, 4, 2)).shape == (7, 4, 2)
    torch.testing.assert_close(crps(samples, truth).mean(1), told.crps, **EXACT)


@pytest.mark.parametrize("k", [2, 3, 7])
def test_the_crps_is_that_of_all_pairs(k: int) -> None:
    samples, truth = normal(4, k, 3), normal(4, 3, seed=1)
    pairs = [(i, j) for i in range(k) for j in range(k) if i != j]
    apart = torch.stack([(samples[:, i] - samples[:, j]).abs() for i, j in pairs]).mean(0)
    expected = (samples - truth[:, None]).abs().mean(1) - apart / 2
    torch.testing.assert_close(crps(samples, truth), expected, **EXACT)


def test_the_crps_is_without_bias_and_lowest_for_the_true_distribution() -> None:
    """Truth normal; 40,000 questions of 3 samples. A normal's own CRPS is 1 / sqrt(pi) in expectation, however few.

    Within 5 standard errors: false alarms below 1e-6. Of others the paired difference is above 5 standard errors: it is
    25 or more of them in expectation.
    """
    samples, truth = normal(40_000, 3, 1), normal(40_000, 1, seed=1)
    own = crps(samples, truth)[:, 0]
    error = own.std() / 200
    assert abs(own.mean() - 1 / math.sqrt(math.pi)) < 5 * error
    for other in (samples + 0.5, samples - 0.5, 0.5 * samples, 0 * samples, 2 * samples):
        worse = crps(other, truth)[:, 0] - own
        assert worse.mean() > 5 * worse.std() / 200


@pytest.mark.parametrize("k", [2, 5, 50])
def test_spread_over_skill_is_1_for_exchangeable_draws_and_tells_narrow_ones(k: int) -> None:
    """Each question has a mean and a scale of its own. 20,000 questions: relative error of the ratio below .02.

    The mean error is a mean of 20,000 squares of normals (times squared scales of .5 to 2): a relative standard error
    of at most .017, half of it for the root; the variance's is less. So .05 is more than 4 of them: odds below 1e-4.
    """
    mean, scale = 3 * normal(20_000, 1, seed=2), 0.5 + 1.5 * torch.rand(20_000, 1, generator=seeded(3)).double()
    truth, noise = mean + scale * normal(20_000, 1, seed=4), normal(20_000, k, 1, seed=5)
    for width in (1.0, 0.5):
        told = ensemble(mean[:, None] + width * scale[:, None] * noise, truth).spread_skill
        expected = width * math.sqrt((k + 1) / (k * (1 + width**2 / k)))
        assert told == pytest.approx(expected, rel=0.05) and (width == 0.5 or expected == 1)


def test_true_futures_of_a_forced_flow_are_calibrated() -> None:
    """300 prompts, 8 draws; their spread over skill was 1 up to a few hundredths. Without a force all is exact."""
    task = Burgers(forcing=2.0, train=1, validation=0, test=300)
    its = task.sample("test", 300)
    draws = task.futures(its.prompt(task.mask_id), 8, seeded(1))[:, :, task.asked :]
    truth = its.answer[:, task.asked :]
    told = ensemble(draws, truth)
    assert 0.85 < told.spread_skill < 1.15 and told.consistency.min() > 0
    alike = ensemble(draws.mean(1, keepdim=True).expand_as(draws), truth)
    paired = alike.crps - told.crps
    assert paired.mean() > 5 * paired.std() / math.sqrt(300)
    calm = Burgers(train=1, validation=0, test=20)
    its = calm.sample("test", 20)
    exact = ensemble(calm.futures(its.prompt(1), 3)[:, :, 8:], its.answer[:, 8:])
    assert exact.worst.max() < 1e-5 and exact.consistency.max() == 0


@pytest.mark.parametrize(
    ("samples", "truth", "says"),
    [
        ((3, 4, 2), (3, 3), "give .n, k, ...."),
        ((3, 4), (3,), "give .n, k, ...."),
        ((3, 1, 2), (3, 2), "two samples or more"),
        ((0, 4, 2), (0, 2), "one question or more"),
    ],
)
def test_other_shapes_are_refused(samples: tuple[int, ...], truth: tuple[int, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ensemble(torch.ones(samples), torch.ones(truth))


def test_what_is_no_number_and_a_truth_of_0_are_refused() -> None:
    samples, truth = torch.ones(2, 3, 2), torch.ones(2, 2)
    with pytest.raises(ValueError, match="not finite"):
        ensemble(samples * torch.nan, truth)
    with pytest.raises(ValueError, match="not finite"):
        crps(samples, truth / 0)
    assert torch.equal(crps(samples, 0 * truth), torch.ones(2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="0 everywhere"):
        ensemble(samples, truth * torch.tensor([[1.0], [0.0]]))
    with pytest.raises(TypeError, match="samples"):
        ensemble([[1.0]], truth)  # type: ignore

"""The profile of a model's own sampler, h(k, s), by enumeration (float64, 1e-9).

Laws: of every rule and number of latents, of any network, it foretells what whole decodings cost by every schedule; its
plan is the best of all schedules; where the size makes no difference it is the information profile.
"""

from itertools import permutations

import numpy as np
import pytest
import torch
from test_profile import compositions, each_table, exact_profile
from toy import seeded, tiny

import unspoken.layout.entries as entries_room
import unspoken.measure.profile as profile_room
from unspoken.layout.attention import ATTENTIONS
from unspoken.layout.entries import rank_of
from unspoken.measure.profile import InformationProfile, SamplerProfile, parallel_nll, profile_losses, sampler_losses


@pytest.mark.parametrize("latents", [None, 0, 1, 2])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_samplers_profile_foretells_every_schedule_of_any_network(
    name: str, latents: int | None, monkeypatch
) -> None:
    """A random network, two sequences, in all orders: the mean of whole decodings is the sum of s h(k, s)."""
    orders, model = torch.tensor(list(permutations(range(4)))), tiny(ATTENTIONS[name], vocab=5, positions=5)
    x0 = torch.tensor([[3, 0, 4, 2, 1], [1, 1, 0, 4, 3]]).repeat_interleave(len(orders), 0)
    given = (torch.arange(5) == 1).expand(x0.shape)
    turn = torch.cat([orders[:, :1], torch.zeros_like(orders[:, :1]), orders[:, 1:]], 1).repeat(2, 1)
    for room in (profile_room, entries_room):  # every row in its own order, whoever asks
        monkeypatch.setattr(room, "draw_ranks", lambda among, _=None: rank_of(turn, among))
    losses = sampler_losses(model, x0, given, latents)
    mean = losses.mean(0)
    assert torch.equal(losses[..., 0], profile_losses(model, x0, given, latents))
    curves = tuple(tuple(mean[: 4 - n, n].tolist()) for n in range(mean.shape[1]))
    profile = SamplerProfile(curves)
    for sizes in compositions(4):
        nll = parallel_nll(model, x0, given, sizes, latents)
        assert profile.predicted_nll(sizes) == pytest.approx(float(nll.mean()), abs=1e-9)
    matters = {"joint": latents in (0, 1, 2), "ordered": latents != 0, "alone": False}
    assert (len(curves) == 4) == matters[ATTENTIONS[name].latents]


def test_size_matters_to_a_sampler_whose_tokens_see_others(monkeypatch) -> None:
    """The old profile, of one size, is wrong of SCDM by far more than rounding."""
    x0, given = torch.randint(5, (50, 4), generator=seeded()), torch.zeros(50, 4, dtype=torch.bool)
    losses = sampler_losses(tiny(ATTENTIONS["scdm"], vocab=5, positions=8), x0, given, None, seeded(1), 3)
    assert bool(losses[:, 2, 2:].isnan().all()) and bool(losses[:, 2, :2].isfinite().all())
    assert abs(float(losses[:, 0, 3].mean() - losses[:, 0, 0].mean())) > 0.01


def random_sampler(length: int, seed: int) -> SamplerProfile:
    rng = np.random.default_rng(seed)
    return SamplerProfile(tuple(tuple(np.sort(rng.random(length - n))[::-1].tolist()) for n in range(length)))


@pytest.mark.parametrize("seed", range(5))
def test_a_samplers_plan_is_the_best_of_all_schedules(seed: int) -> None:
    """More steps may lose more here, and a schedule may cost less than one at a time."""
    profile, every = random_sampler(7, seed), compositions(7)
    least = profile.least_overhead()
    for sizes in every:
        starts = np.cumsum([0, *sizes])
        nats = sum(size * profile.h[size - 1][n] for size, n in zip(sizes, starts[:-1], strict=True))
        assert profile.predicted_nll(sizes) == pytest.approx(nats, abs=1e-12)
    for steps in range(1, 8):
        best = min(profile.overhead(sizes) for sizes in every if len(sizes) == steps)
        assert profile.overhead(profile.schedule(steps)) == pytest.approx(best, abs=1e-12)
        assert least[steps - 1] == pytest.approx(best, abs=1e-12)
        fewest = profile.fewest(best)
        assert profile.overhead(fewest) <= best + 1e-9
        assert not [s for s in every if len(s) < len(fewest) and profile.overhead(s) <= best - 1e-9]
    assert least[-1] == pytest.approx(0, abs=1e-12)


@each_table
def test_a_sampler_of_one_curve_is_the_information_profile(p: np.ndarray) -> None:
    plain = exact_profile(p)
    alike = SamplerProfile((plain.h,))
    assert alike.nll == plain.nll
    for sizes in compositions(p.ndim):
        assert alike.overhead(sizes) == pytest.approx(plain.overhead(sizes), abs=1e-12)
    assert [alike.schedule(n) for n in range(1, p.ndim + 1)] == [plain.schedule(n) for n in range(1, p.ndim + 1)]
    losses = torch.rand(6, 5, generator=seeded(), dtype=torch.float64)
    assert SamplerProfile.fitted(losses[..., None]).h == (InformationProfile.fitted(losses).h,)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: random_sampler(3, 0).fewest(-5.0), "no schedule loses less"),
        (lambda: SamplerProfile(((1.0, 0.5), (0.5, 0.5))), "of L - s"),
        (lambda: SamplerProfile(((1.0, 0.5, 0.4), (0.5, 0.5))), "of L - s"),
        (lambda: SamplerProfile(()), "give curves"),
        (lambda: SamplerProfile.fitted(torch.ones(3, 2)), "sampler_losses"),
        (lambda: SamplerProfile.fitted(torch.full((3, 2, 1), torch.nan)), "finite"),
    ],
)
def test_bad_input_is_told(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()

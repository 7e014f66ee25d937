"""The bound along paths, of an exact network: the entropy for every process on every path, by enumeration.

Laws: path independence; re-timing; a posterior prediction is worse and its conversion is not; bounds with ends inside
stay bounds; the Monte-Carlo estimate is the enumerated one; what a path and a draw of times must be.
"""

from itertools import pairwise
from math import comb

import numpy as np
import pytest
import torch
from noise import PROCESSES, exact
from torch import Tensor
from toy import all_sequences, chi_square_p, random_distribution, seeded

from unspoken.measure.bound import bound_density, curved, nelbo_along
from unspoken.model.prediction import Prediction, guided
from unspoken.noise import Absorbing, Discrete, Hybrid, Ids, SNRMix, Uniform
from unspoken.noise.times import (
    AlongPath,
    Autoregressive,
    BlockConstant,
    Blockwise,
    Diagonal,
    Independent,
    Mixture,
    Path,
    PrefixClean,
    Pyramid,
    Shared,
    Sizes,
    Trapezoid,
    stratified_times,
    turns,
)

V, L = 3, 3
P = random_distribution(V, L)
ENTROPY = float(torch.special.entr(P).sum())
PATHS: dict[str, Path] = {
    "diagonal": Diagonal(),
    "autoregressive": Autoregressive(),
    "pyramid": Pyramid(0.4),
    "blocks": Blockwise(2),
    "trapezoid": Trapezoid(0.3),
    "sizes": Sizes((1, 2)),
}
NONE = torch.zeros(1, L, dtype=torch.bool)


def nodes(path: Path, n: int) -> list[tuple[float, float]]:
    """Gauss-Legendre nodes and weights over u, between all the kinks of a path."""
    late = path.delay(turns(NONE), torch.tensor([[L]]))[0].double()
    longest = 1 + float(late.max())
    kinks = sorted({0.0, 1.0, *(1 - late / longest).tolist(), *(1 - (late + 1) / longest).tolist()})
    x, w = np.polynomial.legendre.leggauss(n)
    return [
        (a + (b - a) * (xi + 1) / 2, (b - a) * wi / 2)
        for a, b in pairwise(kinks)
        if b - a > 1e-9
        for xi, wi in zip(x.tolist(), w.tolist(), strict=True)
    ]


def enumerated(process: Discrete, path: Path, posterior: bool = False, as_it_is: bool = False) -> float:
    """E_x of the bound: every x, every z, quadrature over u. as_it_is: what is predicted is taken for leave-one-out."""
    predict = exact(P, V, L, process, posterior)
    states, noisy = all_sequences(V, L), all_sequences(V + 1, L)
    x0, z = states.repeat_interleave(len(noisy), 0), noisy.repeat(len(states), 1)
    given, total = NONE.expand(len(x0), -1), 0.0

    def taken(z: Tensor, t: Tensor) -> Prediction:
        return Prediction(predict(z, t).logits) if as_it_is else predict(z, t)

    # A hybrid's integrand has a root at t = 0 (gamma / 2 of it), which the curve of the ramps only half smooths.
    for u, weight in nodes(path, 80 if process == Hybrid(0.2) else 24):
        ramp, speed = path.at(torch.full((len(x0),), u, dtype=torch.float64), given)
        t, slope = curved(ramp)
        q = process.marginal(t, Ids(V)).probability(z, x0).prod(1) * P.repeat_interleave(len(noisy))
        here = q > 0
        density = bound_density(taken, process, x0[here], z[here], t[here], (speed * slope)[here], V)
        total += weight * float((q[here] * density).sum())
    return total


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_bound_is_the_entropy_on_every_path_of_every_process(process: Discrete, path: Path) -> None:
    """Nothing is cut off at the ends, so what is left is quadrature: 1e-4 nats."""
    assert enumerated(process, path) == pytest.approx(ENTROPY, abs=1e-4)


@pytest.mark.parametrize("process", [Uniform(), Hybrid(0.2), SNRMix()], ids=["uniform", "hybrid", "snr mix"])
def test_a_posterior_prediction_is_worse_unless_it_is_converted(process: Discrete) -> None:
    assert enumerated(process, Diagonal(), posterior=True, as_it_is=True) > ENTROPY + 0.3
    assert enumerated(process, Diagonal(), posterior=True) == pytest.approx(ENTROPY, abs=1e-4)


def test_for_masks_posterior_and_leave_one_out_are_one() -> None:
    assert enumerated(Absorbing(), Diagonal(), posterior=True, as_it_is=True) == pytest.approx(ENTROPY, abs=1e-4)


@pytest.mark.parametrize("name", ["absorbing", "uniform", "hybrid", "snr mix"])
@pytest.mark.parametrize("path", [Diagonal(), Autoregressive()], ids=["diagonal", "autoregressive"])
def test_the_estimate_is_the_bound(name: str, path: Path) -> None:
    """40,000 sequences, one draw each, within 4.5 standard errors of the entropy: 1 in 100,000."""
    process = PROCESSES[name]
    x0 = all_sequences(V, L)[torch.multinomial(P, 40_000, replacement=True, generator=seeded(3))]
    predict = exact(P, V, L, process)
    found = nelbo_along(predict, process, x0, torch.zeros_like(x0).bool(), V, path=path, draws=1, generator=seeded(4))
    assert found.shape == (40_000, 1)
    error = float(found.std()) / 200
    assert abs(float(found.mean()) - ENTROPY) < 4.5 * error
    assert error < 0.06


@pytest.mark.parametrize("name", ["absorbing", "uniform", "hybrid", "snr mix"])
def test_with_ends_inside_the_number_is_still_a_bound(name: str) -> None:
    """Later begun and sooner ended loses a little, and is no less than the entropy: 20,000 sequences, 4.5 errors.

    Without the terms of the ends it would be far below.
    """
    process = PROCESSES[name]
    x0 = all_sequences(V, L)[torch.multinomial(P, 20_000, replacement=True, generator=seeded(5))]
    given, predict = torch.zeros_like(x0).bool(), exact(P, V, L, process)

    def mean(ends: tuple[float, float]) -> tuple[float, float]:
        values = nelbo_along(predict, process, x0, given, V, draws=4, ends=ends, generator=seeded(6)).mean(1)
        return float(values.mean()), float(values.std()) / len(values) ** 0.5

    for ends in ((0.05, 0.95), (0.01, 1.0), (0.0, 0.9)):
        value, error = mean(ends)
        assert ENTROPY - 4.5 * error < value < ENTROPY + 0.25


def test_given_tokens_are_conditioned_on() -> None:
    """The bound given the middle token is the conditional entropy: 20,000 sequences, 4.5 errors."""
    x0 = all_sequences(V, L)[torch.multinomial(P, 20_000, replacement=True, generator=seeded(7))]
    given = torch.tensor([False, True, False]).expand(len(x0), -1)
    conditional = ENTROPY - float(torch.special.entr(P.view(V, V, V).sum((0, 2))).sum())
    for process in (Absorbing(), Hybrid(0.2)):
        found = nelbo_along(exact(P, V, L, process), process, x0, given, V, draws=2, generator=seeded(8)).mean(1)
        assert abs(float(found.mean()) - conditional) < 4.5 * float(found.std()) / len(found) ** 0.5


def test_a_path_of_masks_visits_as_many_masks_as_shared_times() -> None:
    """`AlongPath(Diagonal())` and `Shared` are one; `Independent` times make the count binomial.

    20,000 rows; chi-square p above 1e-5 each.
    """
    given = torch.zeros(20_000, 4, dtype=torch.bool)

    def counts(times, seed: int) -> Tensor:
        z = Absorbing().sample(
            torch.zeros(20_000, 4, dtype=torch.int64), times.draw(given, seeded(seed)), Ids(1), seeded(seed)
        )
        return torch.bincount((z == 1).sum(1), minlength=5).double()

    level = torch.full((5,), 0.2, dtype=torch.float64)
    assert chi_square_p(counts(Shared(), 1), level) > 1e-5
    assert chi_square_p(counts(AlongPath(Diagonal()), 2), level) > 1e-5
    binomial = torch.tensor([comb(4, k) / 16 for k in range(5)], dtype=torch.float64)
    assert chi_square_p(counts(Independent(), 3), binomial) > 1e-5
    assert chi_square_p(counts(Independent(), 3), level) < 1e-5


@pytest.mark.parametrize("path", [*PATHS.values(), Pyramid(0.0), Pyramid(2.5)], ids=str)
def test_paths_run_from_the_prior_to_clean_and_never_back(path: Path) -> None:
    given = torch.tensor([[False] * 3, [False] * 3])
    times = path.grid(7, given)
    assert (times[0] == 1).all()
    assert (times[-1] == 0).all()
    assert (times.diff(dim=0) <= 0).all()
    u = torch.tensor([0.43, 0.43], dtype=torch.float64)
    t, speed = path.at(u, given)
    assert torch.allclose((path.at(u + 1e-7, given)[0] - t) / 1e-7, speed.double(), atol=1e-4)


def test_paths_that_are_others() -> None:
    given = torch.zeros(1, 6, dtype=torch.bool)
    assert torch.equal(Pyramid(0.0).grid(5, given), Diagonal().grid(5, given))
    assert torch.equal(Pyramid(1.0).grid(12, given), Autoregressive().grid(12, given))
    assert torch.equal(Blockwise(1).grid(12, given), Autoregressive().grid(12, given))
    assert torch.equal(Blockwise(6).grid(5, given), Diagonal().grid(5, given))
    assert torch.equal(Sizes((1,) * 6).grid(6, given), Autoregressive().grid(6, given))
    both = Trapezoid(0.4).grid(9, given)
    assert torch.equal(both, both.flip(2))
    one_by_one = Autoregressive().grid(6, given)
    assert torch.equal(one_by_one[2, 0], torch.tensor([0, 0, 1, 1, 1, 1], dtype=torch.float64))


def test_sizes_say_so_many_a_step() -> None:
    given = torch.tensor([[True, False, False, False, False, False, True]])
    times = Sizes((1, 3, 1)).grid(3, given)
    assert (times == 1).sum(-1)[:, 0].tolist() == [5, 4, 1, 0]
    with pytest.raises(ValueError, match="sum to that"):
        Sizes((1, 3)).grid(2, given)


def test_prompts_are_clean_and_order_is_by_rank() -> None:
    given = torch.tensor([[True, False, False, False], [False, False, True, False]])
    for path in (Diagonal(), Autoregressive(), Pyramid(0.3), Blockwise(2), Trapezoid(), Sizes((2, 1))):
        assert (path.grid(3, given)[:, given] == 0).all()
    backwards = Autoregressive().grid(3, given, rank=2 - turns(given))
    assert backwards[1, 0].tolist() == [0, 1, 1, 0]


DRAWS = [Shared(), Independent(), BlockConstant(2), PrefixClean(), AlongPath(), AlongPath(Pyramid(0.2)), Mixture()]


@pytest.mark.parametrize("times", DRAWS, ids=str)
def test_drawn_times_are_in_range_and_the_prompt_is_clean(times) -> None:
    given = torch.rand(50, 9, generator=seeded()) < 0.3
    t = times.draw(given, seeded(1))
    assert t.shape == given.shape
    assert (t[given] == 0).all()
    assert ((t >= 0) & (t <= 1)).all()
    assert torch.equal(t, times.draw(given, seeded(1)))


def test_what_each_draw_shares() -> None:
    given = torch.zeros(64, 6, dtype=torch.bool)
    shared, block, cut = Shared().draw(given, seeded()), BlockConstant(2).draw(given, seeded()), PrefixClean()
    assert (shared == shared[:, :1]).all()
    assert torch.equal((shared[:, 0] * 64).ceil().sort().values, torch.arange(1, 65).float())
    assert torch.equal(block[:, ::2], block[:, 1::2])
    assert (block[:, 0] != block[:, 2]).all()
    assert len(Independent().draw(given, seeded()).unique()) == given.numel()
    prefix = cut.draw(given, seeded())
    clean = prefix == 0
    assert not clean.all(1).any()
    assert torch.equal(clean, clean.cummin(1).values)
    assert (
        torch.bincount(clean.sum(1), minlength=6).tolist() == [11, 11, 10, 11, 11, 10]
        or (torch.bincount(clean.sum(1), minlength=6) >= 10).all()
    )
    mixed = Mixture(Shared(), Independent(), 0.25).draw(given, seeded())
    assert int((mixed == mixed[:, :1]).all(1).sum()) == 48


def test_guidance_goes_from_what_is_blind_to_what_knows_the_prompt() -> None:
    given = torch.tensor([[True, False, False]])
    z = torch.tensor([[2, 1, V]])
    t = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
    predict = exact(P, V, L, Hybrid(0.2))
    known = predict(z, t).logits.softmax(-1)
    blind = predict(torch.tensor([[V, 1, V]]), torch.tensor([[1.0, 0.5, 1.0]]).double()).logits.softmax(-1)

    def at(scale: float) -> Tensor:
        return guided(predict, given, scale, torch.full_like(z, V))(z, t).logits.softmax(-1)

    assert guided(predict, given, 1.0, z) is predict
    with pytest.raises(ValueError, match="give a number"):
        guided(predict, given, float("nan"), z)
    assert torch.allclose(at(0.0), blind, atol=1e-9)
    assert torch.allclose(at(1.0 + 1e-12), known, atol=1e-9)
    sharper = known**2 / blind.clamp_min(1e-300)
    assert torch.allclose(at(2.0), sharper / sharper.sum(-1, keepdim=True), atol=1e-9)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Pyramid(-0.1), "delay"),
        (lambda: Trapezoid(float("nan")), "delay"),
        (lambda: Blockwise(0), "size=0"),
        (lambda: BlockConstant(0), "size=0"),
        (lambda: Sizes(()), "every step"),
        (lambda: Sizes((2, 0)), "sizes=0"),
        (lambda: Mixture(share=1.2), "share"),
    ],
)
def test_what_is_no_path_is_refused(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_ends_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="early"):
        nelbo_along(exact(P, V, L, Uniform()), Uniform(), torch.zeros(1, L).long(), NONE, V, ends=(0.5, 0.5))


def test_stratified_times_serve_any_number() -> None:
    assert stratified_times(1, seeded()).shape == (1,)

"""Laws of viscous Burgers: the exact solution, energy, the mean, a finer grid; and futures with a hidden force."""

import math
from dataclasses import replace

import pytest
import torch
from toy import seeded

from unspoken.tasks import Burgers
from unspoken.tasks.base import SPLITS
from unspoken.tasks.burgers import FUTURE, GAP, PAST, POINTS, VISCOSITY, _drawn, field, solve
from unspoken.tasks.valued import relative_l2

CALM = Burgers(train=60, validation=20, test=30)
FORCED = replace(CALM, forcing=1.0)


def fields(n: int, seed: int = 0) -> torch.Tensor:
    return field(torch.rand(n, 6, generator=seeded(seed), dtype=torch.float64))


def finer(start: torch.Tensor, points: int = 256) -> torch.Tensor:
    """`[n, points]`: the same waves on a finer grid."""
    return torch.fft.irfft(torch.fft.rfft(start), n=points) * points / start.shape[1]


def cole_hopf(start: torch.Tensor, time: float, points: int = 1024) -> torch.Tensor:
    """`[n, 64]`: u = -2 nu phi_x / phi, where phi solves the heat equation (Hopf 1950, Cole 1951); start of mean 0."""
    k = 2j * math.pi * torch.arange(points // 2 + 1, dtype=torch.float64)
    u = torch.fft.rfft(finer(start, points))
    potential = torch.fft.irfft(torch.where(k == 0, 0, u / torch.where(k == 0, 1, k)), n=points)
    phi = torch.fft.rfft((-potential / (2 * VISCOSITY)).exp()) * (VISCOSITY * k**2 * time).exp()
    ratio = torch.fft.irfft(k * phi, n=points) / torch.fft.irfft(phi, n=points)
    return (-2 * VISCOSITY * ratio)[:, :: points // POINTS]


def test_a_field_is_smooth_has_mean_0_and_unit_size() -> None:
    u = fields(50)
    assert torch.allclose(u.mean(1), torch.zeros(50).double(), atol=1e-12)
    assert torch.allclose(u.square().mean(1), torch.ones(50).double(), atol=1e-12)
    assert torch.fft.rfft(u)[:, 4:].abs().max() < 1e-12 * POINTS


def test_the_solver_is_near_the_exact_solution_and_nearer_on_a_finer_grid() -> None:
    start = fields(40)
    coarse = solve(start, 5)
    fine = solve(finer(start), 5, steps=200)[:, :, ::4]
    for frame in range(5):
        exact = cole_hopf(start, GAP * (frame + 1))
        assert relative_l2(coarse[:, frame], exact).max() < 0.01
        assert relative_l2(coarse[:, frame], exact).mean() < 0.001
        assert relative_l2(fine[:, frame], exact).max() < 1e-6
    assert relative_l2(coarse.flatten(1), solve(start, 5, steps=80).flatten(1)).max() < 1e-4  # steps are short enough


def test_a_force_is_resolved_too() -> None:
    start, force = fields(20), 4 * fields(20, 1)
    coarse, fine = solve(start, 4, force), solve(finer(start), 4, finer(force), steps=200)[:, :, ::4]
    assert relative_l2(coarse.flatten(1), fine.flatten(1)).max() < 0.02


def test_without_a_force_energy_decays_by_what_viscosity_takes_and_the_mean_stays() -> None:
    """d/dt of half the mean square is -nu times the mean square of u_x."""
    start = fields(20) + torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    path = torch.cat([start[:, None], solve(finer(start), 4, steps=200)[:, :, ::4]], 1)
    assert torch.allclose(path.mean(2), start.mean(1, keepdim=True).expand(-1, 5), atol=1e-9)
    energy = path.square().mean(2) / 2
    assert (energy.diff(dim=1) < 0).all()
    path = torch.cat([finer(start)[:, None], solve(finer(start), 50, gap=GAP / 50, steps=4)], 1)
    slope = torch.fft.irfft(2j * math.pi * torch.arange(129) * torch.fft.rfft(path), n=256)
    lost = -VISCOSITY * torch.trapezoid(slope.square().mean(2), dx=GAP / 50, dim=1)
    told = (path[:, -1].square().mean(1) - path[:, 0].square().mean(1)) / 2
    assert torch.allclose(told, lost, rtol=1e-3)


@pytest.mark.parametrize("task", [CALM, FORCED], ids=["calm", "forced"])
def test_frames_and_tokens_are_one_another(task: Burgers) -> None:
    value = task.sample("test", 5).answer
    frames = task.frames(value)
    assert frames.shape == (5, PAST + FUTURE, POINTS) and torch.equal(task.tokens(frames), value)
    assert torch.equal(frames[:, 1, 16:32], value[:, 5]) and value.dtype == torch.float32


def test_the_force_acts_in_the_future_alone() -> None:
    """And there it does: at once, and more with each frame."""
    for split in SPLITS:
        calm, forced = (task.frames(task.sample(split, 20).answer) for task in (CALM, FORCED))
        assert torch.equal(calm[:, :PAST], forced[:, :PAST])
        apart = (calm - forced)[:, PAST:].square().mean(2).sqrt()
        assert (apart[:, 0] > 0.01).all() and (apart.mean(0).diff() > 0).all()


@pytest.mark.parametrize("task", [CALM, FORCED], ids=["calm", "forced"])
def test_a_split_is_fixed_by_its_seed_and_its_first_rows_do_not_depend_on_its_size(task: Burgers) -> None:
    for split in SPLITS:
        rows = task.sample(split, 15).answer
        assert torch.equal(rows, _drawn(task.forcing, 0, split, 15))
        assert torch.equal(rows, replace(task, **{split: 16}, tolerance=0.5).sample(split, 15).answer)
        assert not torch.equal(rows, replace(task, seed=1).sample(split, 15).answer)
    assert not torch.equal(task.sample("test", 15).answer, task.sample("validation", 15).answer)


def test_without_a_force_all_futures_are_the_stored_one() -> None:
    its = CALM.sample("test", 10)
    draws = CALM.futures(its.prompt(CALM.mask_id), 3, seeded(4))
    assert draws.shape == (10, 3, 24, 16) and draws.dtype == torch.float32
    assert torch.equal(draws, draws[:, :1].expand(-1, 3, -1, -1))
    assert torch.allclose(draws[:, 0], its.answer, rtol=0, atol=1e-5)
    assert torch.allclose(CALM.truth(its.answer).float(), its.answer, rtol=0, atol=1e-5)
    assert CALM.error(its.prompt(CALM.mask_id), its.answer).max() < 1e-5


def test_with_a_force_stored_futures_are_draws_of_the_law() -> None:
    """The rank of the stored future among 9 draws is uniform at each point, 0 to 9; 200 examples.

    Points of one example depend on each other, so an example counts by its mean, and both means are within 5 standard
    errors of what a uniform rank has: false alarms below 1e-5.
    """
    task = replace(FORCED, test=200)
    its = task.sample("test", 200)
    prompt = its.prompt(task.mask_id)
    draws = task.futures(prompt, 9, seeded(7))
    assert torch.equal(draws[:, :, : task.asked], its.answer[:, None, : task.asked].expand(-1, 9, -1, -1))
    assert torch.equal(draws, task.futures(prompt, 9, seeded(7)))
    assert torch.equal(task.futures(prompt, 2), task.futures(prompt, 2)) and not torch.equal(draws[:, 0], draws[:, 1])
    rank = (draws < its.answer[:, None])[:, :, task.asked :].flatten(2).sum(1).double()  # 0 to 9
    outside = (rank == 0) | (rank == 9)
    for mean, expected in ((rank.mean(1), 4.5), (outside.double().mean(1), 0.2)):
        assert abs(mean.mean() - expected) < 5 * mean.std() / math.sqrt(200)
    half = task.futures(prompt, 9, seeded(7)).lerp(task.truth(prompt).float()[:, None], 0.5)  # this would be noticed
    rank = (half < its.answer[:, None])[:, :, task.asked :].flatten(2).sum(1)
    mean = ((rank == 0) | (rank == 9)).double().mean(1)
    assert mean.mean() - 0.2 > 5 * mean.std() / math.sqrt(200)


def test_an_answer_is_right_within_the_tolerance_of_the_whole_future() -> None:
    its = CALM.sample("test", 30)
    prompt = its.prompt(CALM.mask_id)
    true = its.answer[:, CALM.asked :]
    away = torch.randn(true.shape, generator=seeded(2))
    away = away / away.flatten(1).norm(dim=1)[:, None, None] * true.flatten(1).norm(dim=1)[:, None, None]
    for share, right in ((0.99, True), (1.01, False)):
        answer = its.answer.clone()
        answer[:, CALM.asked :] += share * CALM.tolerance * away
        assert (CALM.score(prompt, answer) == right).all()
    assert CALM.judged and not FORCED.judged
    forced = FORCED.sample("test", 30)
    assert FORCED.score(forced.prompt(1), forced.answer).all()
    assert FORCED.describe()["equation"] == "u_t + u u_x = 0.02 u_xx + f, a frame each 0.05 of time"


def test_none_of_anything_is_none() -> None:
    none = CALM.sample("test", 0)
    assert FORCED.futures(none.answer, 3).shape == (0, 3, 24, 16) and CALM.truth(none.answer).shape == (0, 24, 16)
    assert CALM.error(none.answer, none.answer).shape == (0,)


def test_values_are_of_unit_scale_and_the_solver_holds_what_may_be_written() -> None:
    for task in (CALM, replace(CALM, forcing=4.0)):
        value = task.sample("train", 60).answer
        assert 0.3 < float(value.square().mean().sqrt()) < 2 and value.abs().max() < 4
    rough = torch.rand(50, POINTS, generator=seeded(3), dtype=torch.float64) * 8 - 4
    assert solve(rough, FUTURE).isfinite().all() and solve(4 * rough.sign(), FUTURE, 4 * fields(50)).isfinite().all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Burgers(forcing=-0.1), "forcing=-0.1 given, 0 to 4"),
        (lambda: Burgers(forcing=float("nan")), "forcing=nan given"),
        (lambda: Burgers(tolerance=0.0), "tolerance=0.0; give a number above 0"),
        (lambda: Burgers(train=0), r"train, validation, test = \(0, 200, 500\) given, at least 1, 0 and 0"),
        (lambda: Burgers(seed=-1), "seed=-1 given"),
        (lambda: CALM.futures(torch.zeros(2, 24, 16), 0), "k=0; give whole numbers of 1 or more"),
        (lambda: CALM.futures(torch.zeros(24, 16), 2), r"prompt is of shape \(24, 16\); give \[n, 24, 16\]"),
        (lambda: FORCED.futures(torch.full((1, 24, 16), torch.nan), 2), "lacks values of its first 2 frames"),
        (lambda: CALM.encode("0,0 " + ". " * 23), "'0,0' given, 16 numbers from -4 to 4 expected"),
        (lambda: CALM.encode("5" + ",0" * 15 + " ." * 23), "given, 16 numbers from -4 to 4"),
        (lambda: CALM.encode("x" + ",0" * 15 + " ." * 23), "given, 16 numbers"),
        (
            lambda: CALM.sample("test", 31),
            r"31 examples of test asked for, which holds 30; .*or a larger test= in Burg",
        ),
    ],
)
def test_bad_input_says_what_to_write(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()

"""Gaussian tokens: one prediction in four views, steps that land on the path, and walks of an exact network.

Laws: views are each other's inverses; an exact clean token puts every step on the forward trajectory; ancestral steps
and DDIM draw the data's law along every path; what does not move is not touched; the fused SNR is its recurrence.
"""

import math

import pytest
import torch
from torch import Tensor
from toy import EXACT, seeded

from unspoken.decoders.walk import gaussian, walk
from unspoken.noise import Gaussian, Reals, Views, fused_snr
from unspoken.noise.gaussian import View
from unspoken.noise.times import Autoregressive, Diagonal, Independent, Path, Pyramid

GAUSSIANS = [Gaussian("vp"), Gaussian("linear"), Gaussian("vp", 1.0), Gaussian("linear", 1.0), Gaussian("vp", 0.5)]
VIEWS: list[View] = ["eps", "x0", "v", "u"]
INNER = torch.linspace(0.01, 0.99, 33, dtype=torch.float64)


def pair(seq: int = 33, seed: int = 0) -> Views:
    return Views(*(torch.randn(2, seq, 5, generator=seeded(seed + i), dtype=torch.float64) for i in (0, 1)))


@pytest.mark.parametrize("process", GAUSSIANS[:2], ids=["vp", "linear"])
@pytest.mark.parametrize("view", VIEWS)
def test_views_are_one_prediction(process: Gaussian, view: View) -> None:
    """D6, at every t in (0, 1)."""
    views, t = pair(), INNER.expand(2, -1)
    z = process.mix(views, t)
    back = process.views(process.seen(views, t, view), z, t, view)
    assert torch.allclose(back.x0, views.x0, rtol=0, atol=1e-8)
    assert torch.allclose(back.eps, views.eps, rtol=0, atol=1e-8)


@pytest.mark.parametrize("view", ["x0", "v", "u"])
@pytest.mark.parametrize("process", GAUSSIANS[:2], ids=["vp", "linear"])
def test_the_clean_token_is_told_at_the_prior_too(process: Gaussian, view: View) -> None:
    """Where a walk begins, t = 1: not by eps, which is all that z is."""
    views, t = pair(), torch.ones(2, 33, dtype=torch.float64)
    back = process.views(process.seen(views, t, view), process.mix(views, t), t, view)
    if view != "x0":
        assert torch.allclose(back.eps, views.eps, **EXACT)
    assert torch.allclose(back.x0, views.x0, **EXACT)


def test_the_velocity_is_the_slope_of_the_path() -> None:
    for process in GAUSSIANS[:2]:
        views, t, h = pair(), INNER.expand(2, -1), 1e-6
        slope = (process.mix(views, t + h) - process.mix(views, t - h)) / (2 * h)
        assert torch.allclose(process.seen(views, t, "u"), slope, rtol=0, atol=1e-7)


def test_both_paths_run_from_clean_to_noise_and_vp_keeps_the_variance() -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for process in GAUSSIANS[:2]:
        assert torch.allclose(process.alpha(ends), 1 - ends, **EXACT)
        assert torch.allclose(process.sigma(ends), ends, **EXACT)
    vp = Gaussian("vp")
    assert torch.allclose(vp.alpha(INNER) ** 2 + vp.sigma(INNER) ** 2, torch.ones_like(INNER), **EXACT)


@pytest.mark.parametrize("process", GAUSSIANS[:2], ids=["vp", "linear"])
def test_a_step_of_an_exact_token_lands_on_the_path(process: Gaussian) -> None:
    """One step or many come to the same, and the last to the clean token; what does not move is left, bit by bit."""
    views = pair(4)
    t, s, end = (torch.full((2, 4), u, dtype=torch.float64) for u in (0.9, 0.4, 0.0))
    z = process.mix(views, t)
    half = process.step(views, z, t, s)
    assert torch.allclose(half, process.mix(views, s), **EXACT)
    assert torch.allclose(process.step(views, half, s, end), views.x0, **EXACT)
    assert torch.equal(process.step(pair(4, 7), z, t, t), z)


# Data of three tokens, normal with a covariance: the exact clean token given all noisy ones is a linear map.
COVARIANCE = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.0, 0.6], [0.3, 0.6, 1.0]], dtype=torch.float64) * 0.5


def exact(process: Gaussian):
    """The posterior mean of x0, as an x0 view: `z [batch, 3, 1]`, `t [batch, 3]`."""

    def predict(z: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = process.alpha(t), process.sigma(t)
        noisy = alpha[:, :, None] * COVARIANCE * alpha[:, None, :] + torch.diag_embed(sigma**2 + 1e-12)
        gain = COVARIANCE * alpha[:, None, :] @ torch.linalg.inv(noisy)
        return gain @ z

    return predict


@pytest.mark.parametrize("path", [Diagonal(), Autoregressive(), Pyramid(0.3)], ids=str)
@pytest.mark.parametrize("process", GAUSSIANS[:4], ids=str)
def test_walks_draw_the_datas_law(process: Gaussian, path: Path) -> None:
    """2,000 rows, 150 steps: every covariance within .09 (standard errors are at most .016, the rest is step size)."""
    given = torch.zeros(2_000, 3, dtype=torch.bool)
    z = torch.randn(2_000, 3, 1, generator=seeded(1), dtype=torch.float64)
    view: View = "v" if process.eta else "u"

    def predict(z: Tensor, t: Tensor) -> Tensor:
        clean = exact(process)(z, t)
        return process.seen(process.views(clean, z, t.clamp_min(1e-6), "x0"), t, view)

    moves = walk(predict, gaussian(process, view), z, given, steps=150, path=path, generator=seeded(2))
    for move in moves:
        z = move.z
    found = z[..., 0].T @ z[..., 0] / len(z)
    assert (found - COVARIANCE).abs().max() < 0.09


def test_a_prompt_is_kept_and_conditioned_on() -> None:
    """The first token given as 1: the others' means are the conditional ones, within 5 standard errors and .02."""
    process, given = Gaussian("vp", 1.0), torch.tensor([[True, False, False]]).expand(4_000, -1)
    noise = torch.randn(4_000, 3, 1, generator=seeded(3), dtype=torch.float64)
    z = last = torch.where(given[..., None], torch.ones((), dtype=torch.float64), noise)
    for move in walk(exact(process), gaussian(process, "x0"), z, given, steps=120, generator=seeded(4)):
        assert torch.equal(move.z[:, 0], z[:, 0])
        assert not move.changed[:, 0].any()
        last = move.z
    assert torch.allclose(last.mean(0)[1:, 0], torch.tensor([0.8, 0.3], dtype=torch.float64), atol=0.02 + 5 * 0.011)


def test_a_token_at_the_prior_tells_nothing_of_itself() -> None:
    """D3: at t = 1 the state holds no x0, so no prediction can depend on it."""
    for process in GAUSSIANS[:2]:
        x0 = torch.randn(1, 3, 1, generator=seeded(), dtype=torch.float64, requires_grad=True)
        t = torch.tensor([[0.3, 1.0, 0.3]], dtype=torch.float64)
        z = process.mix(Views(x0, torch.ones_like(x0)), t)
        exact(process)(z, t).sum().backward()
        assert x0.grad is not None
        assert x0.grad[0, 1].abs() < 1e-15
        assert (x0.grad[0, [0, 2]].abs() > 1e-3).all()


def test_samples_have_their_moments() -> None:
    """60,000 tokens at t = .3 and .8: mean alpha x0 and standard deviation sigma, 5 standard errors (1 in 100,000)."""
    for process in GAUSSIANS[:2]:
        t = torch.tensor([[0.3, 0.8]], dtype=torch.float64).expand(60_000, -1)
        z = process.sample(torch.full((60_000, 2, 1), 2.0, dtype=torch.float64), t, Reals(1), seeded(5))[..., 0]
        sigma = process.sigma(t[0])
        assert ((z.mean(0) - 2 * process.alpha(t[0])).abs() < 5 * sigma / 60_000**0.5).all()
        assert ((z.std(0) / sigma - 1).abs() < 5 / (2 * 60_000) ** 0.5).all()


def loop(s: Tensor, decay: float) -> list[float]:
    """The recurrence of Diffusion Forcing, token by token."""
    mean, found = float(s[0]), [float(s[0])]
    for value in s[1:].tolist():
        found.append(1 - (1 - decay * mean) * (1 - value))
        mean = decay * mean + (1 - decay) * value
    return found


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.8, 0.98])
def test_the_fused_snr_is_its_recurrence(decay: float) -> None:
    """D5: as token by token; the first is unaffected; decay 0 changes nothing; a clean past counts as it should."""
    t = Independent().draw(torch.zeros(3, 9, dtype=torch.bool), seeded()).double()
    snr, clip = Gaussian("vp").snr(t), 5.0
    fused = fused_snr(snr, decay, clip)
    for row in range(3):
        assert (fused[row] / clip).tolist() == pytest.approx(loop(snr[row].clamp_max(clip) / clip, decay), abs=1e-12)
    assert torch.allclose(fused[:, 0], snr[:, 0].clamp_max(clip))
    if decay == 0:
        assert torch.allclose(fused, snr.clamp_max(clip))
    clean = torch.tensor([[math.inf, math.inf, 1.0]], dtype=torch.float64)
    assert float(fused_snr(clean, decay, clip)[0, 2]) == pytest.approx(clip * (1 - (1 - decay) * 0.8))


def test_weights_of_the_views_are_one_loss() -> None:
    """Min-SNR weights make the squared errors of eps, x0 and v the same number (vp: v's error is x0's (snr + 1))."""
    process, t = Gaussian("vp"), INNER.expand(2, -1)
    truth, guess = pair(), pair(seed=3)
    z = process.mix(truth, t)
    guess = process.views(guess.x0, z, t, "x0")  # a wrong clean token, and the noise that goes with it
    snr = process.snr(t)
    losses = []
    for view in ("eps", "x0", "v"):
        error = (process.seen(guess, t, view) - process.seen(truth, t, view)).square().sum(-1)
        losses.append(process.loss_weight(snr, view) * error)
    assert torch.allclose(losses[0], losses[1], rtol=1e-8)
    assert torch.allclose(losses[1], losses[2], rtol=1e-8)
    assert float(process.loss_weight(torch.zeros(()), "eps")) == 1  # at the prior


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Gaussian("cosine"), "'vp' or 'linear'"),  # type: ignore[arg-type]
        (lambda: Gaussian(eta=2.0), "DDIM"),
        (lambda: fused_snr(torch.ones(1, 2), 1.0), "how much of the past"),
        (lambda: Gaussian().loss_weight(torch.ones(1), "u"), "weight 1"),
        (lambda: gaussian(Gaussian(), "eps"), "does not tell x0"),
    ],
)
def test_bad_input_is_told(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()

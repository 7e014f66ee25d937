"""Every process on tokens obeys the laws of its chain, and its loss is the general one (float64, against matrices).

Laws: transitions are stochastic, carry marginals on and compose; the rate is the slope of the noise; mixes and hybrids
have their known limits; the bridge is Bayes' rule; samples have the marginals; the divergence is KL + IS of vectors.
"""

import pytest
import torch
from noise import PROCESSES
from torch import Tensor
from toy import EXACT, ragged_clean, seeded, side_by_side, tiny

from unspoken.layout.attention import MDM
from unspoken.noise import Absorbing, Discrete, Hybrid, Ids, SNRMix, Uniform
from unspoken.noise.schedule import Cosine, Linear, Polynomial
from unspoken.noise.times import BlockConstant, Independent, PrefixClean, Shared
from unspoken.training.losses import packed_losses
from unspoken.training.objective import Denoising, MaskedDiffusion

V = 4  # tokens of the data; the mask is the fifth state
TIMES = torch.linspace(0, 1, 41, dtype=torch.float64)
INNER = TIMES[1:-1]
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def vector(process: Discrete, t: float) -> Tensor:
    """`[state]`: the noise's mass."""
    noise = process.noise(torch.tensor(t, dtype=torch.float64), Ids(V))
    return torch.cat([noise.each.expand(V), noise.mask[None]])


def transition(process: Discrete, s: float, t: float) -> Tensor:
    """`[to, from]`: Q_{t|s} of the definition."""
    alpha = [float(process.alpha(torch.tensor(u, dtype=torch.float64))) for u in (s, t)]
    stay = alpha[1] / alpha[0]
    return stay * torch.eye(V + 1, dtype=torch.float64) + (vector(process, t) - stay * vector(process, s))[:, None]


@each_process
def test_transitions_are_stochastic_carry_marginals_on_and_compose(process: Discrete) -> None:
    grid = [0.0, 0.05, 0.3, 0.5, 0.8, 0.97, 1.0]
    for s, t in [(s, t) for s in grid[:-1] for t in grid if t >= s]:
        q = transition(process, s, t)
        assert q.min() > -1e-12
        assert torch.allclose(q.sum(0), torch.ones(V + 1, dtype=torch.float64), atol=1e-12)
        for x in range(V):
            start = vector(process, s)
            start[x] += process.alpha(torch.tensor(s, dtype=torch.float64))
            end = vector(process, t)
            end[x] += process.alpha(torch.tensor(t, dtype=torch.float64))
            assert torch.allclose(q @ start, end, atol=1e-12)
        middle = (s + t) / 2
        assert torch.allclose(q, transition(process, middle, t) @ transition(process, s, middle), atol=1e-12)


@each_process
def test_the_rate_is_the_slope_of_the_noise_and_never_negative(process: Discrete) -> None:
    """In (0.02, 0.98): central differences, step 1e-6."""
    t, h = INNER, 1e-6
    for part in ("mask", "each"):
        noise, late, early = (getattr(process.noise(u, Ids(V)), part) for u in (t, t + h, t - h))
        slope = (process.alpha(t + h).log() - process.alpha(t - h).log()) / (2 * h)
        rate = getattr(process.rate(t, Ids(V)), part)
        assert torch.allclose(rate, (late - early) / (2 * h) - slope * noise, rtol=1e-5, atol=1e-7)
        assert (getattr(process.rate(TIMES, Ids(V)), part) >= 0).all()


@each_process
def test_masses_sum_to_one_and_run_from_clean_to_the_prior(process: Discrete) -> None:
    noise = process.noise(TIMES, Ids(V))
    assert torch.allclose(process.alpha(TIMES) + noise.mask + V * noise.each, torch.ones_like(TIMES), atol=1e-12)
    alpha = process.alpha(TIMES)
    assert alpha[0] == pytest.approx(1, abs=1e-9)
    assert alpha[-1] == pytest.approx(0, abs=1e-9)
    assert (alpha.diff() <= 0).all()


def test_a_hybrid_has_its_uniform_mass_in_the_middle_and_masks_at_the_end() -> None:
    for p_u in (0.1, 0.2, 0.5):
        for gamma in (0.5, 1.0, 2.0):
            noise = Hybrid(p_u, gamma).noise(torch.tensor([0.5, 1.0], dtype=torch.float64), Ids(V))
            assert float(V * noise.each[0]) == pytest.approx(p_u, abs=1e-12)
            assert noise.mask[1] == 1
            assert noise.each[1] == 0


def test_weights_are_the_closed_forms_of_gidd() -> None:
    """gamma = 1: 1 / (t (1 - t)) for the mask, half of that for a wrong token, its share of noise for a right one."""
    process, t = Hybrid(0.2), INNER[:, None]
    c = 0.5 * (t * (1 - t)) ** 0.5
    right, wrong, mask = (torch.full_like(t, z, dtype=torch.int64) for z in (1, 2, V))
    expected = {mask: 1 / (t * (1 - t)), wrong: 1 / (2 * t * (1 - t)), right: None}
    share = (c / V) / (1 - t + c / V)
    for z, closed in expected.items():
        weight = process.weight(z, right, t, Ids(V))
        closed = share / (2 * t * (1 - t)) if closed is None else closed
        assert torch.allclose(weight, closed, rtol=1e-10)
    dynamic = [2 * process.weight(z, right, t, Ids(V)) / process.log_snr_speed(t) for z in (mask, wrong, right)]
    assert torch.allclose(torch.cat(dynamic, 1), torch.cat([2 + 0 * t, 1 + 0 * t, share], 1), rtol=1e-10)
    assert torch.allclose(process.marginal(t, Ids(V)).redrawn(right, right), share, rtol=1e-10)
    assert float(
        process.marginal(torch.tensor([[0.5]]).double(), Ids(16)).redrawn(right[:1], right[:1])
    ) == pytest.approx(0.0303, abs=5e-5)


@pytest.mark.parametrize("logit_scale", [0.0, 1.0, 6.0])
@each_process
def test_the_divergence_is_that_of_whole_vectors(process: Discrete, logit_scale: float) -> None:
    """Gathered = written out; at least 0; 0 where the guess is right."""
    t = torch.rand(6, 5, generator=seeded(), dtype=torch.float64) * 0.98 + 0.01
    x = torch.randint(V, (6, 5), generator=seeded(1))
    z = process.sample(x, t, Ids(V), seeded(2))
    logits = logit_scale * torch.randn(6, 5, V + 1, generator=seeded(3), dtype=torch.float64)
    logits[..., V] = -torch.inf
    marginal = process.marginal(t, Ids(V))
    truth = marginal.probabilities(torch.nn.functional.one_hot(x, V + 1).double())
    guess = marginal.probabilities(logits.softmax(-1))
    kl = torch.where(truth > 0, truth * (truth.log() - guess.log()), 0.0).sum(-1)
    ratio = truth.gather(2, z[..., None])[..., 0] / guess.gather(2, z[..., None])[..., 0]
    expected = kl + ratio - ratio.log() - 1
    found = marginal.divergence(z, x, logits)
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-12)
    assert (found > -1e-12).all()
    right = torch.full_like(logits, -torch.inf).scatter(2, x[..., None], 0.0)
    assert torch.allclose(marginal.divergence(z, x, right), torch.zeros(6, 5, dtype=torch.float64), atol=1e-12)


@each_process
def test_the_bridge_is_bayes_rule(process: Discrete) -> None:
    guess = torch.nn.functional.one_hot(torch.arange(V), V + 1).double()[None]
    for s, t in [(0.0, 0.4), (0.2, 0.6), (0.5, 0.99), (0.0, 1.0)]:
        q = transition(process, s, t)
        for z in range(V + 1):
            start = vector(process, s)[:, None] + process.alpha(torch.tensor(s).double()) * torch.eye(
                V + 1, V, dtype=torch.float64
            )
            joint = q[z][:, None] * start  # [z_s, x]
            if (joint.sum(0) == 0).any():
                continue  # no x leads there
            late, early = (torch.full((1, V), u, dtype=torch.float64) for u in (t, s))
            found = process.bridge(guess, torch.full((1, V), z), late, early, Ids(V))[0]
            assert torch.allclose(found, (joint / joint.sum(0)).T, atol=1e-10)


@each_process
def test_a_bridge_over_nothing_stays_and_one_to_the_start_is_clean(process: Discrete) -> None:
    guess = torch.rand(3, 5, V + 1, generator=seeded(), dtype=torch.float64)
    guess[..., V] = 0
    guess /= guess.sum(-1, keepdim=True)
    z = torch.randint(V + 1, (3, 5), generator=seeded(1)) if not isinstance(process, Uniform) else guess.argmax(-1)
    for t in (0.0, 0.3, 1.0):
        at = torch.full((3, 5), t, dtype=torch.float64)
        stays = process.bridge(guess, z, at, at, Ids(V))
        assert torch.equal(stays, torch.nn.functional.one_hot(z, V + 1).double())
    whole = process.bridge(guess, z, torch.full((3, 5), 0.7).double(), torch.zeros(3, 5).double(), Ids(V))
    assert torch.allclose(whole.sum(-1), torch.ones(3, 5, dtype=torch.float64))
    assert (whole[..., V] == 0).all()
    masked = z == V
    assert torch.allclose(whole[masked], guess[masked], atol=1e-12)


@each_process
def test_samples_have_the_marginals(process: Discrete) -> None:
    """60,000 draws at three times, each share within 5 standard errors: 1 in 100,000 for all."""
    x = torch.ones(60_000, 3, dtype=torch.int64)
    t = torch.tensor([[0.1, 0.5, 0.9]], dtype=torch.float64)
    z = process.sample(x, t, Ids(V), seeded(7))
    p = process.marginal(t, Ids(V)).probabilities(torch.nn.functional.one_hot(x[:1], V + 1).double())[0]
    share = torch.nn.functional.one_hot(z, V + 1).double().mean(0)
    assert ((share - p).abs() <= 5 * (p * (1 - p) / 60_000).sqrt() + 1e-9).all()


def test_known_limits() -> None:
    """Far mixes are masks and uniform noise, a hybrid of none is masks: in masses, rates and losses."""
    t = INNER
    pairs = [(SNRMix(b=-1000.0), Absorbing()), (SNRMix(b=1000.0), Uniform()), (Hybrid(0.0), Absorbing())]
    for mine, theirs in pairs:
        for name in ("noise", "rate"):
            for part in ("mask", "each"):
                a, b = (getattr(getattr(process, name)(t, Ids(V)), part) for process in (mine, theirs))
                assert torch.allclose(a, b, **EXACT)
        assert torch.allclose(mine.alpha(t), theirs.alpha(t), **EXACT)
    near = Hybrid(1e-9).noise(t, Ids(V))
    assert torch.allclose(near.mask, Absorbing().noise(t, Ids(V)).mask, atol=1e-8)
    ones = torch.ones((), dtype=torch.float64)
    assert SNRMix(b=1000.0).noise(ones, Ids(V)).each == pytest.approx(1 / V)
    assert SNRMix(b=2.0).noise(ones, Ids(V)).mask == pytest.approx(1)


def test_without_uniform_noise_the_loss_is_that_of_masked_diffusion() -> None:
    """The same draws: `Denoising` of a hybrid of none = `MaskedDiffusion`'s bound; weight 0 where nothing changed."""
    x0 = torch.randint(V, (8, 6), generator=seeded())
    given = torch.zeros_like(x0, dtype=torch.bool)
    given[:, 0] = True
    logits = torch.randn(8, 6, V + 1, generator=seeded(1))
    logits[..., V] = -torch.inf

    masked = MaskedDiffusion(bound=True).pack(Absorbing(), x0, given, V, seeded(2))
    for process in (Absorbing(), Hybrid(0.0)):
        packed = Denoising(weight="elbo").pack(process, x0, given, V, seeded(2))
        z = packed.layout.token.gather(1, packed.one.at)
        assert (packed.weight[z != V] == 0).all()
        loss = packed.reduce(packed_losses(Table(logits), packed))
        assert float(loss) == pytest.approx(float(masked.reduce(packed_losses(Table(logits), masked))), rel=1e-5)


def test_a_re_timing_is_the_same_process_at_other_times() -> None:
    """At equal tau: equal masses, and a rate a unit of tau that is equal too."""
    for make in (Absorbing, Uniform, lambda schedule: Hybrid(0.2, schedule=schedule), lambda s: SNRMix(schedule=s)):
        plain, curved = make(Linear()), make(Cosine())
        t = INNER
        tau = Cosine().beta(t)
        assert torch.allclose(curved.noise(t, Ids(V)).mask, plain.noise(tau, Ids(V)).mask, atol=1e-12)
        rate = curved.rate(t, Ids(V)).mask / Cosine().rate(t)
        assert torch.allclose(rate, plain.rate(tau, Ids(V)).mask, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Hybrid(0.2, gamma=2.5), "negative"),
        (lambda: Hybrid(1.0), "p_u"),
        (lambda: Hybrid(-0.1), "p_u"),
        (lambda: SNRMix(a=1.5), "slope"),
        (lambda: SNRMix(a=float("nan")), "slope"),
        (lambda: SNRMix(b=float("nan")), "a number"),
    ],
)
def test_what_is_no_process_is_refused(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


class Table:
    """A network of given logits `[batch, seq, vocab]`, read by position."""

    def __init__(self, logits: Tensor):
        self.logits = logits

    def __call__(self, layout, at):
        return self.logits.gather(1, layout.position.gather(1, at)[..., None].expand(-1, -1, V + 1))


RAGGED = torch.tensor([[True] * 3 + [False] * 3, [False] * 6, [False, True] * 3])


@pytest.mark.parametrize("gap", [20.0, 45.0, 60.0, 87.0, 95.0, 200.0])
@pytest.mark.parametrize("process", [*PROCESSES.values(), Absorbing(Polynomial(0.5)), Hybrid(schedule=Polynomial(0.5))])
def test_losses_and_gradients_are_finite_however_sure_a_network_is(process: Discrete, gap: float) -> None:
    """In float32, ragged prompts, every token sure of a wrong one: also where a probability rounds to nothing."""
    x0 = torch.randint(V, RAGGED.shape, generator=seeded())
    logits = torch.zeros(*RAGGED.shape, V + 1).scatter(2, ((x0 + 1) % V)[..., None], gap)
    logits[..., V] = -torch.inf
    logits.requires_grad_()
    for weight in ("snr", "elbo", "clamp"):
        for times in (Shared(), Independent(), PrefixClean()) if weight != "elbo" else (Shared(),):
            packed = Denoising(times, weight).pack(process, x0, RAGGED, V, seeded(3))
            loss = packed.reduce(packed_losses(Table(logits), packed))
            assert loss.isfinite()
            (gradient,) = torch.autograd.grad(loss, logits)
            assert gradient[..., :V].isfinite().all()
            assert (gradient[RAGGED] == 0).all()


@each_process
def test_a_token_stays_where_rounding_has_left_nothing_for_it(process: Discrete) -> None:
    guess = torch.zeros(1, 1, V + 1)
    guess[..., 1] = 1.0
    z, t, s = torch.tensor([[0]]), torch.tensor([[0.5]]), torch.tensor([[0.2]])
    p = process.bridge(guess, z, t, s, Ids(V))
    assert float(p.sum()) == pytest.approx(1, abs=1e-6)
    if process.absorbs:
        assert p[0, 0, 0] == 1


@each_process
def test_a_pass_weighs_each_token_at_its_own_time(process: Discrete) -> None:
    """Independent times, ragged rows: the loss is the sum over tokens, one at a time, of weight and divergence.

    Padding adds nothing: a row's share is what it is alone, over the number of tokens asked.
    """
    x0 = torch.randint(V, RAGGED.shape, generator=seeded())
    logits = torch.randn(*RAGGED.shape, V + 1, generator=seeded(1))
    logits[..., V] = -torch.inf
    for weight in ("snr", "clamp"):
        packed = Denoising(Independent(), weight, most=2.0).pack(process, x0, RAGGED, V, seeded(4))
        loss, total = packed.reduce(packed_losses(Table(logits), packed)), 0.0
        assert packed.layout.time is not None
        for row, column in (~RAGGED).nonzero().tolist():
            one = (slice(row, row + 1), slice(column, column + 1))
            t, z, x = packed.layout.time[one], packed.layout.token[one], x0[one]
            w = process.weight(z, x, t, Ids(V))
            tau, rest = process.schedule.beta(t), process.schedule.alpha(t)
            w = w * tau * rest / process.schedule.rate(t) if weight == "snr" else w.clamp_max(2.0)
            total += float(w * process.marginal(t, Ids(V)).divergence(z, x, logits[one])) / int((~RAGGED).sum())
        assert float(loss) == pytest.approx(total, rel=1e-4)


def test_equal_times_are_shared_ones_bit_by_bit() -> None:
    """D1: one block as long as the row is one time a row, in noising and loss."""
    x0, given = torch.randint(V, (5, 6), generator=seeded()), torch.zeros(5, 6, dtype=torch.bool)
    packs = [Denoising(times).pack(Hybrid(), x0, given, V, seeded(2)) for times in (Shared(), BlockConstant(6))]
    assert torch.equal(packs[0].layout.token, packs[1].layout.token)
    assert torch.equal(packs[0].weight, packs[1].weight)


def test_the_elbo_needs_times_that_make_it_one() -> None:
    with pytest.raises(ValueError, match="no bound"):
        Denoising(Independent(), "elbo")


def test_divergences_and_cross_entropies_mix_in_one_pass() -> None:
    """Documents side by side, each asked by its own objective: the loss is the mean of the two losses alone."""
    x0, given = ragged_clean()
    model = tiny(MDM)
    packs = [
        Denoising().pack(Hybrid(), x0, given, 6, seeded(1)),
        MaskedDiffusion().pack(Absorbing(), x0, given, 6, seeded(2)),
    ]
    both = side_by_side(packs)
    assert [type(q.loss).__name__ for q in both.questions] == ["Divergence", "CrossEntropy"]
    alone = [p.reduce(packed_losses(model, p)) for p in packs]
    assert torch.allclose(both.reduce(packed_losses(model, both)), (alone[0] + alone[1]) / 2, **EXACT)

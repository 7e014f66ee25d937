"""The theory of parallel decoding, against enumeration (float64).

Laws: h falls and sums to the entropy; the predicted loss is the brute force over ordered partitions; bounds are never
violated; the plan is the best of all compositions; a network's profile and its decoding agree.
"""

from itertools import combinations, pairwise, permutations
from math import factorial, log

import numpy as np
import pytest
import torch
from toy import Exact, all_sequences, random_distribution, seeded, tiny

import unspoken.measure.profile as profile_room
from unspoken.decoders.decode import decode
from unspoken.decoders.policies import Order
from unspoken.layout.attention import ATTENTIONS, MDM
from unspoken.layout.entries import rank_of
from unspoken.measure.profile import (
    InformationProfile,
    parallel_nll,
    profile_losses,
)
from unspoken.measure.schedules import even


def markov(length: int, vocab: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    start, table = rng.dirichlet(np.ones(vocab)), rng.dirichlet(np.full(vocab, 0.3), vocab)
    states = all_sequences(vocab, length).numpy()
    p = start[states[:, 0]]
    for a, b in pairwise(states.T):
        p = p * table[a, b]
    return p.reshape((vocab,) * length)


def ising(length: int, beta: float = 0.3) -> np.ndarray:
    spins = 2 * all_sequences(2, length).numpy() - 1
    p = np.exp(beta * (spins * np.roll(spins, 1, 1)).sum(1))
    return (p / p.sum()).reshape((2,) * length)


def sparse(length: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    p = np.zeros(2**length)
    p[rng.choice(len(p), len(p) // 8, replace=False)] = rng.dirichlet(np.ones(len(p) // 8))
    return p.reshape((2,) * length)


def parity(length: int) -> np.ndarray:
    even_ones = all_sequences(2, length).sum(1).numpy() % 2 == 0
    return (even_ones / even_ones.sum()).reshape((2,) * length)


def repetition(length: int, vocab: int = 3) -> np.ndarray:
    p = np.zeros((vocab,) * length)
    for v in range(vocab):
        p[(v,) * length] = 1 / vocab
    return p


TABLES = {
    "markov": markov(6),
    "ising": ising(8),
    "sparse": sparse(8),
    "parity": parity(7),
    "repetition": repetition(6),
    "random": random_distribution(2, 7).numpy().reshape((2,) * 7),
}
each_table = pytest.mark.parametrize("p", TABLES.values(), ids=TABLES)


def entropy(p: np.ndarray, keep: tuple[int, ...]) -> float:
    q = p.sum(tuple(i for i in range(p.ndim) if i not in keep)).ravel()
    return float(-(q[q > 0] * np.log(q[q > 0])).sum())


def exact_profile(p: np.ndarray) -> InformationProfile:
    n = p.ndim
    mean = [np.mean([entropy(p, s) for s in combinations(range(n), k)]) for k in range(n + 1)]
    return InformationProfile(tuple(np.diff(mean).tolist()))


def compositions(n: int) -> list[tuple[int, ...]]:
    return [()] if n == 0 else [(first, *rest) for first in range(1, n + 1) for rest in compositions(n - first)]


def brute_force(p: np.ndarray, sizes: tuple[int, ...]) -> float:
    """E over all orders of KL(p | the product of conditional marginals of each step), by conditional entropies."""
    n, total = p.ndim, 0.0
    for order in permutations(range(n)):
        said = 0
        for size in sizes:
            known, now = tuple(order[:said]), order[said : said + size]
            together = entropy(p, known + now) - entropy(p, known)
            total += sum(entropy(p, (*known, i)) - entropy(p, known) for i in now) - together
            said += size
    return total / factorial(n)


@each_table
def test_the_profile_falls_sums_to_the_entropy_and_holds_both_correlations(p: np.ndarray) -> None:
    profile, n = exact_profile(p), p.ndim
    whole = tuple(range(n))
    singles = sum(entropy(p, (i,)) for i in range(n))
    last = sum(entropy(p, whole) - entropy(p, whole[:i] + whole[i + 1 :]) for i in range(n))
    assert profile.nll == pytest.approx(entropy(p, whole), abs=1e-12)
    assert profile.total_correlation == pytest.approx(singles - profile.nll, abs=1e-12)
    assert profile.dual_total_correlation == pytest.approx(profile.nll - last, abs=1e-12)
    assert profile.total_information == pytest.approx(
        profile.total_correlation + profile.dual_total_correlation, abs=1e-12
    )


@pytest.mark.parametrize("make", [markov, ising, sparse, parity, repetition])
def test_the_predicted_loss_is_that_of_all_orders(make) -> None:
    p = make(5)
    profile = exact_profile(p)
    for sizes in compositions(5):
        assert profile.overhead(sizes) == pytest.approx(brute_force(p, sizes), abs=1e-12)


@each_table
def test_no_schedule_breaks_a_bound(p: np.ndarray) -> None:
    profile = exact_profile(p)
    for sizes in compositions(p.ndim):
        assert 0 <= profile.overhead(sizes) <= profile.bound(sizes) + 1e-12


def test_parity_and_repetition_attain_the_bound() -> None:
    """All information at the last token, or at the first."""
    parities, repeats = exact_profile(TABLES["parity"]), exact_profile(TABLES["repetition"])
    for sizes in compositions(7):
        assert parities.overhead(sizes) == pytest.approx((sizes[-1] > 1) * log(2), abs=1e-12)
    assert parities.overhead((6, 1)) == pytest.approx(0, abs=1e-12)
    assert (
        parities.overhead((5, 2)) == pytest.approx(parities.bound((1,) * 5 + (2,)), abs=1e-12) == pytest.approx(log(2))
    )
    assert repeats.overhead((1, 5)) == pytest.approx(0, abs=1e-12)
    assert repeats.overhead((6,)) == pytest.approx(repeats.bound((6,)), abs=1e-12)
    assert repeats.dual_total_correlation == pytest.approx(log(3), abs=1e-12)
    assert parities.total_correlation == pytest.approx(log(2), abs=1e-12)


@each_table
def test_the_plan_is_the_best_of_all_schedules(p: np.ndarray) -> None:
    profile, n = exact_profile(p), p.ndim
    every = compositions(n)
    least = profile.least_overhead()
    assert len(least) == n
    assert least[-1] == pytest.approx(0, abs=1e-12)
    assert all(a >= b - 1e-12 for a, b in pairwise(least))
    for steps in range(1, n + 1):
        best = min(profile.overhead(sizes) for sizes in every if len(sizes) == steps)
        plan = profile.schedule(steps)
        assert len(plan) == steps
        assert profile.overhead(plan) == pytest.approx(best, abs=1e-12) == pytest.approx(least[steps - 1], abs=1e-12)
        assert best <= profile.overhead(even(n, steps)) + 1e-12
        fewest = profile.fewest(best)
        assert profile.overhead(fewest) <= best + 1e-9
        assert not [s for s in every if len(s) < len(fewest) and profile.overhead(s) <= best - 1e-9]


def test_golden_numbers() -> None:
    """Ising ring of 12, beta .3, even steps (the specification's table)."""
    profile = exact_profile(ising(12))
    for steps, lost, bound in [
        (1, 0.5166, 0.908),
        (2, 0.2291, 0.413),
        (3, 0.1363, 0.248),
        (4, 0.0905, 0.165),
        (6, 0.0450, 0.083),
        (12, 0.0, 0.0),
    ]:
        sizes = even(12, steps)
        assert profile.overhead(sizes) == pytest.approx(lost, abs=5e-5)
        assert profile.bound(sizes) == pytest.approx(bound, abs=6e-4)


def test_a_plan_may_save_much() -> None:
    """A chain of 8 in 4 steps: the plan loses at least a quarter less than even steps."""
    profile = exact_profile(markov(8))
    assert profile.overhead(profile.schedule(4)) < 0.75 * profile.overhead(even(8, 4))


def test_independent_tokens_lose_nothing_and_finer_steps_never_lose_more() -> None:
    flat = InformationProfile((0.7,) * 6)
    assert all(flat.overhead(sizes) == pytest.approx(0, abs=1e-12) for sizes in compositions(6))
    profile = exact_profile(markov(6))
    for sizes in compositions(6):
        for at, size in enumerate(sizes):
            for first in range(1, size):
                finer = (*sizes[:at], first, size - first, *sizes[at + 1 :])
                assert profile.overhead(finer) <= profile.overhead(sizes) + 1e-12


def test_each_token_masked_on_its_own_is_an_integral_of_the_same_curve() -> None:
    """MDLM's ancestral steps keep a random number of tokens: the integral over time is the entropy, and at finitely
    many steps they lose more than fixed sizes (Ising ring of 8, beta .6, the specification's .279 against .159).
    """
    profile = exact_profile(ising(8, 0.6))
    n, h = 8, np.array(profile.h)
    ways = np.array([factorial(n - 1) / factorial(k) / factorial(n - 1 - k) for k in range(n)])

    def rate(kept: float) -> float:
        return float(n * (ways * kept ** np.arange(n) * (1 - kept) ** (n - 1 - np.arange(n)) * h).sum())

    x, w = np.polynomial.legendre.leggauss(32)
    assert sum(w / 2 * [rate((xi + 1) / 2) for xi in x]) == pytest.approx(profile.nll, abs=1e-10)
    lost = sum(rate(j / 4) / 4 for j in range(4)) - profile.nll
    assert lost <= profile.total_information / 4
    assert lost == pytest.approx(0.279, abs=5e-4)
    assert profile.overhead(even(8, 4)) == pytest.approx(0.159, abs=5e-4)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_networks_profile_and_its_decoding_agree_on_an_exact_network(name: str) -> None:
    """Predicted from the exact network's losses = the mean of whole decodings: 6,000 rows, 4.5 standard errors."""
    p = random_distribution(2, 4, seed=3)
    model = Exact(p, 2, 4, ATTENTIONS[name])
    truth = exact_profile(p.numpy().reshape((2,) * 4))
    x0 = all_sequences(2, 4)[torch.multinomial(p, 6_000, replacement=True, generator=seeded(1))]
    given = torch.zeros_like(x0).bool()
    losses = profile_losses(model, x0, given, generator=seeded(2))
    spread = losses.std(0) / len(x0) ** 0.5
    assert ((losses.mean(0) - torch.tensor(truth.h)).abs() <= 4.5 * spread + 1e-9).all()
    for sizes in ((4,), (1, 3), (2, 1, 1), (1, 1, 1, 1)):
        nll = parallel_nll(model, x0, given, sizes, generator=seeded(3))
        assert abs(float(nll.mean()) - truth.predicted_nll(sizes)) < 4.5 * float(nll.std()) / len(x0) ** 0.5


@each_table
def test_the_worst_schedule_loses_at_least_the_lower_bound(p: np.ndarray) -> None:
    """Of steps of at most s, and (what was not proved) of those that hold a step of s."""
    profile, every = exact_profile(p), compositions(p.ndim)
    for most in range(2, p.ndim + 1):
        worst = max(profile.overhead(sizes) for sizes in every if max(sizes) == most)
        bound = profile.lower_bound(most)
        assert 0 < bound <= worst <= max(profile.bound(s) for s in every if max(s) == most) + 1e-12


def test_even_steps_begun_one_later_lose_twice_the_lower_bound_on_average() -> None:
    """On all curves that fall once: every falling curve is a mixture of these, and both sides are linear. The factor of
    2 is the best there is.
    """
    ratios = []
    for length in (2, 3, 5, 8, 13, 24):
        for drop, most in ((k, s) for k in range(1, length) for s in range(2, length + 1)):
            profile = InformationProfile((1.0,) * drop + (0.0,) * (length - drop))
            shifted = [[first, *[most] * ((length - first) // most)] for first in range(1, most + 1)]
            lost = [profile.overhead([*s, *[length - sum(s)] * (sum(s) < length)]) for s in shifted]
            ratios.append(sum(lost) / most / profile.lower_bound(most))
            halved = [(length - max(-(-most // 2**j), 1), 2.0**-j) for j in range(60)]  # the sum as it is written
            direct = most / 16 * sum(weight for at, weight in halved if at >= drop)
            assert profile.lower_bound(most) == pytest.approx(direct, abs=1e-12)
    assert min(ratios) == pytest.approx(2, abs=1e-9)


class Thinking:
    """Keeps the log-probabilities of each pass."""

    def __init__(self, model):
        self.model, self.passes = model, []
        self.attention, self.mask_id, self.vocab_size = model.attention, model.mask_id, model.vocab_size

    def __call__(self, layout, at=None, cache=None):
        logits = self.model(layout, at, cache)
        index = torch.arange(layout.shape[1]).expand(layout.shape) if at is None else at
        self.passes.append((layout.position.gather(1, index), logits.log_softmax(-1)))
        return logits

    def new_cache(self):
        return self.model.new_cache()


@pytest.mark.parametrize("sizes", [(5,), (1, 3, 1), (2, 3), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("latents", [None, 0, 1, 2])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_saying_in_steps_is_what_decode_does(name: str, latents: int | None, sizes: tuple, monkeypatch) -> None:
    """What `decode` draws has the likelihood that its passes gave it, when both say the tokens in one order."""
    spy, seq = Thinking(tiny(ATTENTIONS[name], vocab=5, positions=8)), 6
    prompt = torch.full((3, seq), 5)
    prompt[:, 2] = 1
    # Latents by place, and not at random, so that both take the same ones in the same order.
    order = Order("in turn", before=lambda ahead: ahead.unsaid * TURN[ahead.unsaid.shape[1]], after=None)
    steps = list(
        decode(
            spy,
            prompt,
            order=order,
            commit=sizes,
            latents=latents,
            latent_policy="next",
            temperature=1.0,
            generator=seeded(),
        )
    )
    total = torch.zeros(3, dtype=torch.float64)
    for step, (position, logp) in zip(steps, spy.passes, strict=True):
        said = step.committed
        at = said.gather(1, position)
        total -= torch.where(at, logp.gather(2, step.tokens.gather(1, position)[..., None])[..., 0], 0.0).sum(1)
    x0, given = steps[-1].tokens, prompt != 5
    monkeypatch.setattr(
        profile_room, "draw_ranks", lambda among, generator: rank_of(TURN[seq][None].expand(3, -1), among)
    )
    found = parallel_nll(spy.model, x0, given, sizes, latents)
    assert torch.allclose(found, total, rtol=0, atol=1e-9)


TURN = {6: torch.tensor([3.0, 0.0, 9.0, 5.0, 1.0, 2.0])}


def test_latents_count_in_a_profile() -> None:
    """Beside none, some and all an ordered or joint model says otherwise; one whose latents are alone does not."""
    x0, given = torch.randint(5, (4, 5), generator=seeded()), torch.zeros(4, 5, dtype=torch.bool)
    for name, matters in (("scdm", True), ("mdm", True), ("sidm", False)):
        model = tiny(ATTENTIONS[name], vocab=5, positions=8)
        none, all_, every = (profile_losses(model, x0, given, n, seeded(1), 3) for n in (0, None, 5))
        assert torch.equal(all_, every)
        assert torch.allclose(none[:, -1], all_[:, -1])  # nobody is left beside the last
        assert torch.allclose(none[:, 0], all_[:, 0]) != matters


def test_averaging_over_orders_only_helps() -> None:
    """T7: KL from the mixture over orders is at most the mean KL, and here less (chain of 4 tokens, steps 2 and 2)."""
    p = markov(4, 2, seed=3)
    mixture, mean = np.zeros_like(p), 0.0
    for order in permutations(range(4)):
        now = order[:2]
        pair = p.sum(tuple(i for i in range(4) if i not in now), keepdims=True)
        first = pair.sum(now[0], keepdims=True) * pair.sum(now[1], keepdims=True)
        rest = [p.sum(order[3 - k], keepdims=True) / np.maximum(pair, 1e-300) for k in (0, 1)]
        q = first * rest[0] * rest[1]
        assert q.sum() == pytest.approx(1)
        mixture += q / 24
        mean += float((p * np.log(p / q))[p > 0].sum()) / 24
    assert mean == pytest.approx(exact_profile(p).overhead((2, 2)), abs=1e-12)
    assert float((p * np.log(p / mixture))[p > 0].sum()) < mean - 1e-3


def test_sizes_go_on_with_the_last_and_replace_confidences() -> None:
    model, tokens = tiny(MDM, vocab=5, positions=8), torch.full((2, 6), 5)
    for order in ("uniform", "confidence", "left_to_right"):
        assert [int(s.chosen.sum(1)[0]) for s in decode(model, tokens, order=order, commit=(1, 2))] == [1, 2, 2, 1]
    with pytest.raises(ValueError, match="one or the other"):
        decode(model, tokens, commit=(1, 2), threshold=0.5)
    with pytest.raises(ValueError, match="commit=0; give whole numbers of 1 or more"):
        decode(model, tokens, commit=(1, 0))


def test_noise_is_smoothed_by_the_nearest_curve_that_falls() -> None:
    losses = torch.tensor([[3.0, 2.0, 2.4, 1.0]])
    assert InformationProfile.fitted(losses).h == pytest.approx((3.0, 2.2, 2.2, 1.0))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: InformationProfile((1.0, 2.0)), "never rises"),
        (lambda: InformationProfile(()), "give the cross-entropy"),
        (lambda: InformationProfile((1.0, 0.5)).overhead((1, 2)), "sum to 2"),
        (lambda: InformationProfile((1.0, 0.5)).schedule(3), "from 1 to"),
        (lambda: InformationProfile((1.0, 0.5)).fewest(-0.1), "0 or more"),
        (lambda: InformationProfile((1.0, 0.5)).lower_bound(1), "from 2 to 2"),
        (lambda: even(4, 5), "from 1 to 4"),
        (
            lambda: profile_losses(
                tiny(MDM, 5),
                torch.zeros(2, 3).long(),
                torch.eye(3).bool()[:2] & False | torch.tensor([[True, False, False], [False] * 3]),
            ),
            "one number",
        ),
        (lambda: parallel_nll(tiny(MDM, 5), torch.zeros(1, 3).long(), torch.zeros(1, 3).bool(), (1, 1)), "sum to 3"),
    ],
)
def test_bad_input_is_told(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()

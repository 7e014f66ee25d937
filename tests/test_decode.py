"""The decoder keeps its promises: what is in a pass, how much is said, and from which distribution."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from toy import Exact, Ignorant, all_sequences, chi_square_p, random_distribution, seeded, tiny

from unspoken.decoders.decode import decode
from unspoken.decoders.policies import ORDERS
from unspoken.decoders.step import Step, last
from unspoken.layout.attention import ANY_ORDER, ATTENTIONS, MDM, SCDM, SIDM
from unspoken.layout.entries import Layout, one_block
from unspoken.model.cache import Cache

BLIND = ("uniform", "left_to_right")


def ragged(rows: int = 5, length: int = 12, vocab: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens with different numbers of masks a row (one row has none), and which of them are given."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocab, (rows, length), generator=generator)
    share = torch.linspace(0, 1, rows)[:, None]
    given = torch.rand(rows, length, generator=generator) >= share
    return torch.where(given, tokens, vocab), given


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("commit", [1, 3])
@pytest.mark.parametrize("latents", [0, 2, None])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_counting_laws(order: str, commit: int, latents: int | None, temperature: float) -> None:
    """With a network that knows nothing: the promised number is said each step, and nothing else changes."""
    tokens, given = ragged()
    model = Ignorant(6)
    candidates = commit if order in BLIND else max(4, commit)
    left = (tokens == 6).sum(1)
    now = tokens
    steps = list(
        decode(
            model,
            tokens,
            latents=latents,
            candidates=max(4, commit),
            commit=commit,
            order=order,
            temperature=temperature,
            generator=seeded(),
        )
    )
    assert len(steps) == math.ceil(int(left.max()) / commit)
    for step, layout in zip(steps, model.seen, strict=True):
        going = left > 0  # rows that are done are in no pass
        assert step.rows.tolist() == going.nonzero()[:, 0].tolist()
        held = left.clamp_max(candidates)
        beside = (left - held).clamp_max(12 if latents is None else latents)
        assert torch.equal(step.committed.sum(1), left.clamp_max(commit))
        assert torch.equal(step.candidates.sum(1), held)
        assert torch.equal(step.latents.sum(1), beside)
        unsaid = now == 6
        assert not (step.candidates & step.latents).any()
        assert not ((step.candidates | step.latents) & ~unsaid).any()
        assert not (step.committed & ~step.candidates).any()
        assert torch.equal(step.tokens != now, step.committed)
        # The pass holds context, latents and candidates and nothing else; the head runs on the candidates alone, unless
        # the order goes by what it saw of the latents.
        asked = held + beside if ORDERS[order].needs_entropy else held
        assert (step.cached, step.asked) == (0, int(asked.max()))
        assert layout.shape[1] == step.entries == int((12 - left + held + beside)[going].max())
        assert torch.equal(layout.said.sum(1), (12 - left)[going])
        assert torch.equal(layout.unsaid.sum(1), (held + beside)[going])
        now, left = step.tokens, (left - commit).clamp_min(0)
    assert (now != 6).all()
    assert torch.equal(now[given], tokens[given])


@pytest.mark.parametrize("order", ORDERS)
def test_absent_positions_are_in_no_pass(order: str) -> None:
    """Rows of different lengths: past their end nothing is said, predicted or looked at."""
    tokens, _ = ragged()
    present = torch.arange(12) < torch.tensor([[12], [10], [8], [6], [3]])
    model = Ignorant(6)
    end = tokens
    for step in decode(model, tokens, latents=2, candidates=3, order=order, present=present, generator=seeded()):
        assert not ((step.candidates | step.latents | step.committed) & ~present).any()
        real = model.seen[-1].said | model.seen[-1].unsaid
        assert (present[step.rows].gather(1, model.seen[-1].position) | ~real).all()
        end = step.tokens
    assert torch.equal(end[~present], tokens[~present])
    assert (end[present] != 6).all()


class Recorder:
    """A model that keeps the layouts and logits of its passes."""

    def __init__(self, model) -> None:
        self.model, self.passes = model, []
        self.attention, self.mask_id, self.vocab_size = model.attention, model.mask_id, model.vocab_size

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        logits = self.model(layout, at, cache)
        self.passes.append((layout, at, logits))
        return logits

    def new_cache(self) -> Cache | None:
        return self.model.new_cache()


@pytest.mark.parametrize("j", [0, 1, 3])
@torch.no_grad()
def test_trained_rank_is_a_decoding_pass_with_as_many_latents(j: int) -> None:
    """SCDM, rank j of a full training pass = a decoding pass with exactly those j latents (1e-9)."""
    tokens, _ = ragged(rows=4)
    tokens = tokens[1:]  # every row has something to say
    model = tiny(SCDM)
    recorder = Recorder(model)
    plan = next(decode(recorder, tokens, latents=j, order="uniform", generator=seeded()))
    layout, _, logits = recorder.passes[0]
    for row in range(len(tokens)):
        if int(plan.latents[row].sum()) < j:
            continue  # fewer unsaid tokens than asked for
        # The training layout: the pass's latents keep ranks 0 ... j-1, the candidate is rank j, then all others.
        position = layout.position[row]
        ranks = {int(p): int(o) for p, o, u in zip(position, layout.order[row], layout.unsaid[row], strict=True) if u}
        candidate = int(plan.candidates[row].nonzero()[0, 0])
        ranks[candidate] = j
        rest = [i for i in range(12) if tokens[row, i] == 6 and i not in ranks]
        ranks |= {i: j + 1 + k for k, i in enumerate(rest)}
        order = torch.tensor([[ranks.get(i, 0) for i in range(12)]])
        training = one_block(tokens[row : row + 1], tokens[row : row + 1] == 6, order)
        assert torch.allclose(model(training)[0, candidate], logits[row, 0], rtol=0, atol=1e-9)


@torch.no_grad()
def test_confident_candidates_are_each_predicted_beside_the_latents_alone() -> None:
    """Under `ordered`, eight candidates get what each would get as the only one."""
    tokens = torch.full((1, 12), 6)
    tokens[0, ::3] = torch.tensor([0, 1, 2, 3])
    model = tiny(SCDM)
    recorder = Recorder(model)
    next(decode(recorder, tokens, latents=2, candidates=4, generator=seeded()))
    layout, at, logits = recorder.passes[0]
    for slot in range(4):
        others = layout.unsaid & (layout.order == 12)
        others[0, at[0, slot]] = False
        alone = layout.select_where(~others)
        where = (alone.position[0] == layout.position[0, at[0, slot]]).nonzero()
        assert torch.allclose(model(alone, where)[0, 0], logits[0, slot], rtol=0, atol=1e-9)


@pytest.mark.parametrize("rule", [MDM, SCDM, SIDM, ANY_ORDER], ids=lambda r: r.name)
@torch.no_grad()
def test_a_ragged_batch_is_its_rows_alone(rule) -> None:
    tokens, _ = ragged()
    model = tiny(rule)
    together = last(decode(model, tokens, order="left_to_right"), tokens)
    for row in range(len(tokens)):
        alone = tokens[row : row + 1]
        assert torch.equal(last(decode(model, alone, order="left_to_right"), alone)[0], together[row])


@pytest.mark.parametrize("commit", [1, 3])
@pytest.mark.parametrize("cache", [True, False])
@torch.no_grad()
def test_a_causal_context_remembers_when_each_token_was_said(commit: int, cache: bool) -> None:
    """ANY_ORDER: every pass equals a layout made by hand from the order in which the tokens were committed (1e-9).

    Those of one pass are dated one after the other, the surest first, as training dates them.
    """
    tokens = torch.full((1, 8), 6)
    tokens[0, [2, 5]] = torch.tensor([1, 4])
    recorder = Recorder(tiny(ANY_ORDER))
    now, dates, date = tokens, torch.zeros(1, 8, dtype=torch.int64), 0
    for step in decode(recorder, tokens, latents=0, commit=commit, candidates=4, cache=cache, generator=seeded(3)):
        layout, at, logits = recorder.passes[-1]
        said, asked = (now[0] != 6).nonzero()[:, 0].tolist(), step.candidates[0].nonzero()[:, 0].tolist()
        alone = one_block(now, now == 6, torch.where(now == 6, 8, dates)).select(torch.tensor([said + asked]))
        by_hand = recorder.model(alone)[0, len(said) :, :6]
        position = layout.position[0, at[0]].tolist()
        assert sorted(position) == asked
        assert torch.allclose(by_hand[[asked.index(p) for p in position]], logits[0, :, :6], rtol=0, atol=1e-9)
        committed = step.committed[0].nonzero()[:, 0].tolist()
        for position in sorted(committed, key=lambda i: -float(step.confidence[0, i])):
            date += 1
            dates[0, position] = date
        now = step.tokens
    assert sorted(dates[0].tolist()) == [0, 0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("commit", [1, 2])
@pytest.mark.parametrize("latents", [0, 3, None])
def test_the_next_latents_are_those_said_next(commit: int, latents: int | None) -> None:
    """Left to right beside the next: candidates, then latents, without a gap; the nearest latent has rank 0."""
    tokens, _ = ragged()
    model, now = Ignorant(6), tokens
    steps = list(
        decode(
            model,
            tokens,
            latents=latents,
            commit=commit,
            order="left_to_right",
            latent_policy="next",
            generator=seeded(),
        )
    )
    for step, layout in zip(steps, model.seen, strict=True):
        assert step.rows.tolist() == (now == 6).any(1).nonzero()[:, 0].tolist()
        for turn, row in enumerate(step.rows.tolist()):
            unsaid = (now[row] == 6).nonzero()[:, 0].tolist()
            beside = unsaid[commit:][: 12 if latents is None else latents]
            assert step.candidates[row].nonzero()[:, 0].tolist() == unsaid[:commit]
            assert step.latents[row].nonzero()[:, 0].tolist() == beside
            there = layout.unsaid[turn]
            ranks = dict(zip(layout.position[turn, there].tolist(), layout.order[turn, there].tolist(), strict=True))
            assert ranks == {p: 12 for p in unsaid[:commit]} | {p: j for j, p in enumerate(beside)}
        now = step.tokens


@pytest.mark.parametrize("order", ["uniform", "confidence"])
def test_candidates_and_latents_are_drawn_evenly(order: str) -> None:
    """Which of 6 positions are candidates, and which latents, over 6,000 rows: each equally often.

    Draws without replacement spread less than independent ones, so chi-square is conservative: false alarm below 1 in
    100,000 for each.
    """
    tokens = torch.full((6000, 6), 6)
    step = next(decode(Ignorant(6), tokens, latents=2, candidates=2, order=order, generator=seeded(5)))
    even = torch.full((6,), 1 / 6, dtype=torch.float64)
    for drawn in (step.candidates, step.latents):
        assert chi_square_p(drawn.sum(0).double(), even) > 1e-5


def test_a_tiny_temperature_is_the_likeliest_token() -> None:
    tokens, _ = ragged()
    model = tiny(SCDM)
    greedy, cold = (last(decode(model, tokens, order="left_to_right", temperature=t), tokens) for t in (0.0, 1e-300))
    assert torch.equal(greedy, cold)


def sample_counts(p: Tensor, commit: int, order: str, n: int = 20_000) -> Tensor:
    tokens = torch.full((n, 4), 3)
    end = last(decode(Exact(p, 3, 4), tokens, order=order, commit=commit, temperature=1.0, generator=seeded(7)), tokens)
    return (end * torch.tensor([27, 9, 3, 1])).sum(1).bincount(minlength=81).double()


@pytest.mark.parametrize("order", ["uniform", "left_to_right"])
def test_ancestral_decoding_reproduces_the_distribution(order: str) -> None:
    """81 sequences, 20,000 samples, an exact network: chi-square; a right decoder fails 1 seed in 10,000."""
    p = random_distribution(3, 4)
    assert chi_square_p(sample_counts(p, 1, order), p) > 1e-4


def test_saying_two_at_once_is_another_distribution() -> None:
    """The same test sees it when tokens are said independently of each other: it can fail."""
    p = random_distribution(3, 4)
    assert chi_square_p(sample_counts(p, 2, "uniform"), p) < 1e-12


def test_a_prompt_conditions() -> None:
    """Infilling around given tokens draws from the conditional: 9 outcomes, false alarm 1 in 10,000."""
    p = random_distribution(3, 4, seed=1)
    tokens = torch.tensor([[3, 2, 3, 0]]).expand(10_000, 4)
    end = last(decode(Exact(p, 3, 4), tokens, order="uniform", temperature=1.0, generator=seeded(8)), tokens)
    states = all_sequences(3, 4)
    fits = (states[:, 1] == 2) & (states[:, 3] == 0)
    conditional = p[fits] / p[fits].sum()
    counts = (end[:, 0] * 3 + end[:, 2]).bincount(minlength=9).double()
    assert chi_square_p(counts, conditional) > 1e-4


class Fixed:
    """The same probabilities whatever the context: `table` `[positions, vocab]`, the mask last."""

    def __init__(self, table: list[list[float]]) -> None:
        self.table = torch.tensor(table, dtype=torch.float64)
        self.attention, self.vocab_size = SCDM, len(table[0]) + 1
        self.mask_id = self.vocab_size - 1

    def new_cache(self) -> None:
        return None

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        position = layout.position if at is None else layout.position.gather(1, at)
        logits = self.table.log()[position]
        return torch.cat([logits, torch.full_like(logits[..., :1], -torch.inf)], dim=-1)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        # top probabilities .60 .55 .50 .34; margins .21 .20 .00 .01; entropies in nats .72 .93 .69 1.10
        ("confidence", [0, 1, 2, 3]),
        ("margin", [0, 1, 3, 2]),
        ("entropy", [2, 0, 1, 3]),
        ("promising", [0, 1, 2, 3]),
        ("left_to_right", [0, 1, 2, 3]),
    ],
)
def test_orders_by_hand(order: str, expected: list[int]) -> None:
    model = Fixed([[0.60, 0.39, 0.01], [0.55, 0.10, 0.35], [0.50, 0.50, 0.00], [0.34, 0.33, 0.33]])
    tokens = torch.full((1, 4), 3)
    said = [int(s.committed[0].nonzero()) for s in decode(model, tokens, order=order, candidates=4)]
    assert said == expected


@pytest.mark.parametrize(
    ("order", "threshold", "expected"),
    [
        # the likeliest tokens have .80 .90 .60 .95
        ("left_to_right", 0.0, [[0, 1, 2], [3]]),
        ("left_to_right", 0.89, [[0, 1], [2, 3]]),
        ("left_to_right", 0.7, [[0, 1], [2, 3]]),
        ("left_to_right", 0.93, [[0], [1], [2, 3]]),
        ("left_to_right", 1.0, [[0], [1], [2], [3]]),
        ("confidence", 0.0, [[0, 1, 3], [2]]),
        ("confidence", 0.79, [[0, 1, 3], [2]]),
        ("confidence", 0.89, [[1, 3], [0], [2]]),
        ("confidence", 0.99, [[3], [1], [0], [2]]),
    ],
)
def test_the_threshold_says_the_best_and_then_while_it_is_sure(order: str, threshold: float, expected: list) -> None:
    model = Fixed([[0.80, 0.20], [0.10, 0.90], [0.60, 0.40], [0.05, 0.95]])
    tokens = torch.full((1, 4), 2)
    steps = list(decode(model, tokens, order=order, commit=3, candidates=4, threshold=threshold))
    assert [s.committed[0].nonzero()[:, 0].tolist() for s in steps] == expected
    assert steps[-1].tokens.tolist() == [[0, 1, 0, 1]]


def test_peeking_shows_what_the_latents_hold() -> None:
    model = Fixed([[0.7, 0.3], [0.2, 0.8], [0.9, 0.1]])
    tokens = torch.full((1, 3), 2)
    step = next(decode(model, tokens, order="left_to_right", predict_latents=True))
    assert step.guess.tolist() == [[0, 1, 0]]
    assert torch.allclose(step.confidence, torch.tensor([[0.7, 0.8, 0.9]], dtype=torch.float64))
    blind = next(decode(model, tokens, order="left_to_right"))
    assert blind.guess.tolist() == [[0, 2, 2]]
    assert torch.equal(blind.tokens, step.tokens)


@pytest.mark.parametrize("rule", ATTENTIONS.values(), ids=ATTENTIONS)
def test_same_seed_same_answer_and_no_global_randomness(rule) -> None:
    tokens, _ = ragged()
    model = tiny(rule)
    before = torch.get_rng_state()
    runs = [last(decode(model, tokens, latents=2, temperature=1.0, generator=seeded(s)), tokens) for s in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_an_empty_batch() -> None:
    assert list(decode(Ignorant(6), torch.empty(0, 4, dtype=torch.int64))) == []


def test_nothing_to_say() -> None:
    tokens = torch.zeros(2, 4, dtype=torch.int64)
    assert list(decode(Ignorant(6), tokens)) == []
    assert torch.equal(last(decode(Ignorant(6), tokens), tokens), tokens)


def test_more_latents_than_positions_are_clamped_and_said() -> None:
    tokens = torch.full((1, 5), 6)
    with pytest.warns(UserWarning, match="99 latents asked of 5 positions"):
        steps: list[Step] = list(decode(Ignorant(6), tokens, latents=99, candidates=1))
    assert [int(s.latents.sum()) for s in steps] == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"tokens": torch.zeros(4, dtype=torch.int64)}, "int64 \\[batch, seq\\]"),
        ({"tokens": torch.zeros(1, 4)}, "int64"),
        ({"tokens": torch.full((1, 4), 7)}, "from 7 to 7"),
        ({"tokens": torch.full((1, 4), -1)}, "another task"),
        ({"latents": -1}, "0 or more"),
        ({"commit": 0}, "commit=0"),
        ({"commit": 3, "candidates": 2}, "commit <= candidates"),
        ({"latents": 2.5}, "whole number"),
        ({"latents": True}, "whole number"),
        ({"candidates": 2.5}, "whole numbers"),
        ({"commit": 2.0}, "whole numbers"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"order": "sideways"}, "left_to_right"),
        ({"latent_policy": "sideways"}, "uniform, next, nearest"),
        ({"threshold": -0.1}, "give a probability"),
        ({"threshold": 1.1}, "give a probability"),
        ({"threshold": float("nan")}, "give a probability"),
        ({"entropy_bound": -0.1}, "nats of 0 or more"),
        ({"entropy_bound": float("nan")}, "nats of 0 or more"),
        ({"min_confidence": -0.1}, "min_confidence=-0.1; give a probability"),
        ({"min_confidence": 1.1}, "min_confidence=1.1; give a probability"),
        ({"min_confidence": float("nan")}, "min_confidence=nan; give a probability"),
        ({"rebatch": -0.1}, "give a share in"),
        ({"rebatch": 1.0}, "give a share in"),
        ({"rebatch": 0.1, "keep_finished": True}, "and not both"),
        ({"stale": True}, "their keys are kept in the cache"),  # SCDM has none
        ({"present": torch.ones(2, 4, dtype=torch.bool)}, "make their shapes equal"),
    ],
    ids=itertools.count(),
)
def test_bad_input(change: dict, remedy: str) -> None:
    options = {"tokens": torch.full((1, 4), 6), **change}
    with pytest.raises(ValueError, match=remedy):
        decode(Ignorant(6), **options)  # at once, not at the first step

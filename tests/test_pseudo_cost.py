"""What committing tokens together costs, by enumeration (float64, 1e-9).

Laws: both scores are the log-probabilities of distributions over sequences; the mean pseudo-cost over the sampler's own
draws is KL(sampler | one by one), for every commit rule; over the table's draws its negative is the reverse KL, which a
profile foretells for random orders; what was drawn together costs what the decoder's passes said; one by one is what
`parallel_nll` says one by one; one token a pass costs nothing.
"""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch
from test_profile import exact_profile
from torch import Tensor
from toy import EXACT, Exact, Spy, all_sequences, ragged_clean, random_distribution, seeded, tiny

import unspoken.measure.profile as profile_room
from unspoken.decoders import passes
from unspoken.decoders.commit import Commit
from unspoken.decoders.policies import Order
from unspoken.decoders.slots import Slots
from unspoken.decoders.state import DecodingState
from unspoken.decoders.step import Step
from unspoken.layout.attention import ATTENTIONS, CACHED_JOINT, JOINT, MDM, SCDM
from unspoken.layout.entries import rank_of
from unspoken.measure.profile import parallel_nll
from unspoken.measure.pseudo_cost import PseudoCost, pseudo_cost
from unspoken.model.network import Model

LENGTH, VOCAB = 4, 2
STATES = all_sequences(VOCAB, LENGTH)
TABLE = random_distribution(VOCAB, LENGTH, seed=3)
# Every one of the tokens is a candidate: nothing but the tokens drawn decides what is committed.
RULES: dict[str, dict[str, Any]] = {
    "two": {"commit": 2},
    "planned": {"commit": (1, 3)},
    "all": {"commit": 4},
    "threshold": {"commit": 4, "threshold": 0.7},
    "entropy bound": {"commit": 4, "entropy_bound": 0.6},
    "least entropy": {"commit": 3, "order": "entropy"},
    "a rule": {"commit": Commit(4, rule=lambda logp, real: real & (logp[..., 0] > logp[..., 1]))},
}


def in_turn(turn: Tensor) -> Order:
    return Order("in turn", before=lambda ahead: torch.where(ahead.unsaid, turn.to(torch.float64), torch.inf))


def of_every_sequence(model: Model, decoder: Slots) -> PseudoCost:
    """The decoding of each sequence, in the order of `STATES`: as if the decoder had drawn its tokens."""
    look = passes._look

    def drawn(model: Model, state: DecodingState, *rest: Any) -> passes.Seen:
        seen = look(model, state, *rest)
        return replace(seen, word=STATES[state.index].gather(1, seen.said))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "_look", drawn)
        steps = list(decoder.steps(model, torch.full_like(STATES, VOCAB), generator=seeded()))
    assert torch.equal(steps[-1].tokens, STATES)
    return pseudo_cost(model, decoder, steps)


@pytest.mark.parametrize("rule", RULES)
def test_the_mean_is_the_divergence_between_the_sampler_and_one_by_one(rule: str) -> None:
    """Both ways: over its own draws, and reversed over those of the table."""
    options = {"candidates": LENGTH, "temperature": 1.0} | RULES[rule]
    found = of_every_sequence(Exact(TABLE, VOCAB, LENGTH, MDM), Slots(**options))
    q = (-found.together.sum(1)).exp()
    assert float(q.sum()) == pytest.approx(1, abs=1e-9)
    assert torch.allclose(-found.alone.sum(1), TABLE.log(), **EXACT)  # an exact table: one by one draws from it
    divergence = float((q * (q / TABLE).log()).sum())
    assert float((q * found.nats).sum()) == pytest.approx(divergence, abs=1e-9)
    assert divergence > 1e-3
    assert float((TABLE * -found.nats).sum()) == pytest.approx(float((TABLE * (TABLE / q).log()).sum()), abs=1e-9)


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (1, 3), (2, 1, 1)], ids=str)
def test_a_profile_foretells_it_for_random_orders(sizes: tuple[int, ...]) -> None:
    """The mean over all orders and over the table is the overhead of the schedule."""
    model, lost = Exact(TABLE, VOCAB, LENGTH, SCDM), []
    for turn in permutations(range(LENGTH)):
        way = Slots(commit=sizes, order=in_turn(torch.tensor(turn)), temperature=1.0)
        lost.append(float((TABLE * -of_every_sequence(model, way).nats).sum()))
    foretold = exact_profile(TABLE.numpy().reshape((2,) * LENGTH)).overhead(sizes)
    assert sum(lost) / len(lost) == pytest.approx(foretold, abs=1e-9)


@pytest.mark.parametrize("rule", ["two", "threshold", "entropy bound"])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_of_any_network_both_scores_are_of_distributions(name: str, rule: str) -> None:
    """So the mean pseudo-cost of a network that is not exact is a divergence too, between what it says."""
    options = {"candidates": LENGTH, "temperature": 1.0} | RULES[rule]
    found = of_every_sequence(tiny(ATTENTIONS[name], VOCAB, positions=LENGTH), Slots(**options))
    q, p = ((-nats.sum(1)).exp() for nats in (found.together, found.alone))
    assert float(q.sum()) == pytest.approx(1, abs=1e-9) == float(p.sum())
    assert float((q * found.nats).sum()) >= 0


WAYS = {
    "uniform": Slots(commit=3, order="uniform"),
    "confident": Slots(commit=2, latents=2),
    "threshold": Slots(commit=4, threshold=0.3, latents=0),
    "nearest": Slots(commit=(2, 3, 1), latents=3, latent_policy="nearest"),
    "least certain": Slots(commit=3, latents=2, latent_policy="uncertain", candidates=4),
    "doubt": Slots(commit=2, latents=1, candidates=2, min_confidence=0.6),
    "parted": Slots(commit=2, rebatch=0.1, entropy_bound=2.0),
    "kept": Slots(commit=2, keep_finished=True),
    "recomputed": Slots(commit=3, latents=1, cache=False),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mdm", "scdm", "joint", "any-order", "cached-joint"])
def test_what_was_drawn_together_costs_what_the_passes_said(name: str, way: str) -> None:
    """Rows of different lengths, orders and latents of every kind, with a cache or without."""
    x0, given = ragged_clean((6, 4, 1, 0))
    spy, decoder = Spy(tiny(ATTENTIONS[name], positions=7)), replace(WAYS[way], temperature=1.0)
    present = torch.arange(7) < torch.tensor([7, 7, 6, 7])[:, None]
    steps = list(decoder.steps(spy, torch.where(given, x0, 6), present=present, generator=seeded(4)))
    found = pseudo_cost(spy.inner, decoder, steps, present)
    assert len(steps) == len(spy.passes) == found.together.shape[1]
    for number, (step, its) in enumerate(zip(steps, spy.passes, strict=True)):
        logp, position = its.logits.log_softmax(-1), its.layout.position.gather(1, its.at)
        asked = step.committed[step.rows].gather(1, position) & step.real[:, : position.shape[1]]
        token = torch.where(asked, step.tokens[step.rows].gather(1, position), 0)
        nats = torch.where(asked, -logp.gather(2, token[..., None])[..., 0], 0.0).sum(1)
        assert torch.allclose(found.together[step.rows, number], nats, **EXACT)
    assert bool((found.together[3] == 0).all())  # nothing to say


@pytest.mark.parametrize("sizes", [(5,), (2, 3), (1, 3, 1)], ids=str)
@pytest.mark.parametrize("latents", [None, 0])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_one_by_one_is_what_a_decoding_one_at_a_time_costs(name: str, latents: int | None, sizes, monkeypatch) -> None:
    turn, prompt = torch.tensor([3, 0, 5, 4, 1, 2]), torch.full((3, 6), 5)
    prompt[:, 2] = 1
    model, order = tiny(ATTENTIONS[name], vocab=5, positions=8), in_turn(turn)
    way = Slots(commit=sizes, order=order, latents=latents, latent_policy="next", temperature=1.0)
    steps = list(way.steps(model, prompt, generator=seeded()))
    found, x0, given = pseudo_cost(model, way, steps), steps[-1].tokens, prompt != 5
    monkeypatch.setattr(profile_room, "draw_ranks", lambda among, _: rank_of(turn.expand(3, -1), among))
    assert torch.allclose(found.together.sum(1), parallel_nll(model, x0, given, sizes, latents), **EXACT)
    assert torch.allclose(found.alone.sum(1), parallel_nll(model, x0, given, (1,) * 5, latents), **EXACT)


def decoded(model: Model, decoder: Slots, rows: int = 3) -> list[Step]:
    return list(decoder.steps(model, torch.full((rows, 5), 6), generator=seeded()))


@pytest.mark.parametrize("latents", [None, 1])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_one_token_a_pass_costs_nothing(name: str, latents: int | None) -> None:
    model, way = tiny(ATTENTIONS[name], positions=7), Slots(commit=1, latents=latents, temperature=1.0)
    found = pseudo_cost(model, way, decoded(model, way))
    assert torch.equal(found.together, found.alone) and bool((found.nats == 0).all())
    assert bool((found.together > 0).all())


@pytest.mark.parametrize("rule", [JOINT, CACHED_JOINT, SCDM])
def test_a_token_alone_is_beside_as_many_latents_as_the_decoder_allows(rule) -> None:
    """Five are drawn in one pass without a latent: alone, the first has two of the others beside it, or all four."""
    model, entries = tiny(rule, positions=7), {}
    for latents in (0, 2, None):
        way, spy = Slots(commit=5, order="uniform", latents=latents, temperature=1.0), Spy(model)
        pseudo_cost(spy, way, decoded(model, way))
        entries[latents] = [int(its.layout.unsaid.sum(1).max()) for its in spy.passes]
    assert entries == {0: [5, 1, 1, 1, 1, 1], 2: [5, 3, 3, 3, 2, 1], None: [5, 5, 4, 3, 2, 1]}


def test_orders_inside_a_pass_are_drawn_by_a_generator() -> None:
    model, way = tiny(SCDM, positions=7), Slots(commit=5, order="uniform", temperature=1.0)
    steps = decoded(model, way, 40)
    own, drawn = pseudo_cost(model, way, steps), [pseudo_cost(model, way, steps, None, seeded(n)) for n in (1, 1, 2)]
    assert torch.equal(drawn[0].alone, drawn[1].alone)
    assert not torch.allclose(drawn[0].alone, drawn[2].alone) and not torch.allclose(drawn[0].alone, own.alone)
    assert all(torch.equal(its.together, own.together) for its in drawn)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda model, way, steps: pseudo_cost(model, replace(way, temperature=0.5), steps), "temperature=1"),
        (lambda model, way, steps: pseudo_cost(model, replace(way, stale=True), steps), "stale=False"),
        (lambda model, way, steps: pseudo_cost(model, way, steps[1:]), "from pass 0"),
        (lambda model, way, steps: pseudo_cost(model, way, []), "one or more"),
        (lambda model, way, steps: pseudo_cost(model, way, iter(steps)), "as a list"),
        (lambda model, way, steps: pseudo_cost(model, way, steps, torch.ones(2, 5)), "bool or 0 and 1"),
        (lambda model, way, steps: pseudo_cost(tiny(MDM, 2), way, steps), "another task"),
    ],
)
def test_bad_input_is_told(call, says: str) -> None:
    model, way = tiny(CACHED_JOINT, positions=7), Slots(commit=2, latents=1, temperature=1.0)
    with pytest.raises(ValueError, match=says):
        call(model, way, decoded(model, way))

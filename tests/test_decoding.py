"""A way to decode is data, and the way that is natural to a model is the one that it was trained for (float64, 1e-9).

Laws: what a model is trained on is what its natural decoding computes, pass by pass, to the last digit; each field of
`Decoding` reaches its decoder and matters; several tokens of a pass are dated one after the other; a threshold says the
longest sure prefix of the order and at least one; every way ends within the passes that it promises.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import Ignorant, ragged_clean, seeded, tiny

from unspoken.attention import ATTENTIONS, CACHED_JOINT, SCDM
from unspoken.autoregressive import block_by_block, next_tokens, speculate
from unspoken.cache import Cache
from unspoken.decode import Step, decode, last
from unspoken.decoding import Decoding, natural
from unspoken.denoiser import Model
from unspoken.layout import Layout
from unspoken.objective import BlockDiffusion, LatentBlocks, Masked, NextToken, Objective, Registers, Teacherless
from unspoken.packing import NEXT
from unspoken.policies import ORDERS
from unspoken.process import Absorbing

EXACT = {"rtol": 0.0, "atol": 1e-9}
MASK = 6


class Forced:
    """A model whose decoder says the clean tokens whatever it thinks; keeps what it thought, and of which entries.

    target: from the entries asked and their layout to the tokens that are to be said, `[batch, m]`.
    """

    def __init__(self, model: Model, target: Callable[[Layout, Tensor, int], Tensor]) -> None:
        self.model, self.target, self.thought = model, target, []
        self.attention, self.mask_id, self.vocab_size = model.attention, model.mask_id, model.vocab_size

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        assert at is not None
        logits = self.model(layout, at, cache)
        said = self.target(layout, at, len(self.thought))
        self.thought.append((layout, at, logits))
        return torch.nn.functional.one_hot(said, self.vocab_size).double()

    def new_cache(self) -> Cache | None:
        return self.model.new_cache()


def forced(model: Model, x0: Tensor, given: Tensor, decoding: Decoding) -> Forced:
    """Has decoded `x0`; `thought` holds a pass for each threshold."""
    place = given.to(torch.uint8).argsort(1, stable=True)

    def target(layout: Layout, at: Tensor, number: int) -> Tensor:
        position = layout.position.gather(1, at)
        return x0.gather(1, place[:, number : number + 1] if decoding.by == "next_token" else position)

    spy = Forced(model, target)
    steps = list(decoding.steps(spy, torch.where(given, x0, MASK), peek=decoding.by == "slots"))
    assert torch.equal(steps[-1].tokens, x0)
    return spy


TRAINED: dict[str, tuple[Objective, list[str]]] = {
    "next token": (NextToken(), ["any-order", "cached-joint", "cached-alone"]),
    "registers": (Registers(reach=3), ["any-order", "cached-joint", "cached-alone"]),
    "one slot": (LatentBlocks(window=1), ["any-order", "cached-joint", "cached-alone"]),
    "three slots": (LatentBlocks(window=3), ["any-order", "cached-joint", "cached-alone"]),
    "all slots": (LatentBlocks(next_token=0.3), ["any-order", "cached-joint", "cached-alone"]),
    "teacherless": (Teacherless(), ["cached-joint", "cached-alone", "mdm", "sidm"]),
    "one prefix": (LatentBlocks(prefixes=1), list(ATTENTIONS)),
}


@pytest.mark.parametrize(("name", "rule"), [(name, rule) for name, (_, rules) in TRAINED.items() for rule in rules])
@torch.no_grad()
def test_training_is_natural_decoding(name: str, rule: str) -> None:
    """What training asks at each threshold and slot, `natural` decoding computes at that pass: the same logits.

    `steps` is the real decoder, with its cache where there is one, made to say the clean tokens.
    """
    objective, model = TRAINED[name][0], tiny(ATTENTIONS[rule])
    x0, given = ragged_clean()
    objective.check(ATTENTIONS[rule])
    packed = objective.pack(Absorbing(), x0, given, MASK, seeded())
    answers, spy = model(packed.layout, packed.at), forced(model, x0, given, natural(objective))
    asked = 0
    for row in range(len(x0)):
        turns = [i for i in range(7) if not given[row, i]]
        before = [int(given[row].nonzero().max()), *turns]
        for column in packed.real[row].nonzero()[:, 0].tolist():
            slot, position = int(packed.slot[row, column]), int(packed.layout.position[row, packed.at[row, column]])
            if (slot == NEXT) != (natural(objective).by == "next_token"):
                continue  # asked beside, and not decoded by: registers, and the share of next tokens
            start = before.index(position) if slot == NEXT else turns.index(position) - slot
            layout, at, logits = spy.thought[start]
            there = layout.position[row, at[row]] == position
            there &= layout.said[row, at[row]] if slot == NEXT else layout.unsaid[row, at[row]]
            (where,) = there.nonzero()[:, 0].tolist()
            assert torch.allclose(answers[row, column], logits[row, where], **EXACT)
            asked += 1
    assert asked == {"one prefix": asked, "three slots": 15 + 9 + 1, "all slots": 21 + 10 + 1}.get(name, 6 + 4 + 1)
    assert asked >= 3


NATURAL: list[tuple[Objective, Decoding]] = [
    (Masked(), Decoding()),
    (Masked(bound=True), Decoding()),
    (NextToken(), Decoding(by="next_token")),
    (Registers(), Decoding(by="next_token")),
    (LatentBlocks(), Decoding(order="left_to_right", beside="next")),
    (LatentBlocks(window=1), Decoding(order="left_to_right", beside="next", latents=0)),
    (LatentBlocks(window=4, weight=0.0), Decoding(order="left_to_right", beside="next", latents=3)),
    (LatentBlocks(order="random"), Decoding()),
    (Teacherless(), Decoding(order="left_to_right", beside="next", commit=2**20)),
    (BlockDiffusion(size=3), Decoding(by="blocks", block=3)),
]


@pytest.mark.parametrize(("objective", "decoding"), NATURAL, ids=lambda x: str(x))
def test_natural(objective: Objective, decoding: Decoding) -> None:
    assert natural(objective) == decoding
    tokens = prompts()
    assert (last(decoding.steps(tiny(CACHED_JOINT), tokens), tokens) != MASK).all()


def prompts(free: tuple[int, ...] = (6, 5, 3, 1, 0)) -> Tensor:
    x0, given = ragged_clean(free)
    return torch.where(given, x0, MASK)


def same(found: list[Step], expected: list[Step]) -> bool:
    """All of what steps say, but for the time that they took."""
    return len(found) == len(expected) and all(
        torch.equal(getattr(a, name), getattr(b, name))
        if isinstance(getattr(a, name), Tensor)
        else getattr(a, name) == getattr(b, name)
        for a, b in zip(found, expected, strict=True)
        for name in vars(a)
    )


def direct(model: Model, tokens: Tensor, way: dict[str, Any]) -> list[Step]:
    """The decoder itself, called with the fields that it knows."""
    options = {name: value for name, value in way.items() if name != "by"}
    if way.get("by") == "blocks":
        return list(block_by_block(model, tokens, size=options.pop("block", 4), **options))
    if way.get("by", "slots") == "slots":
        return list(decode(model, tokens, generator=seeded(3), **options))
    return list((next_tokens if way["by"] == "next_token" else speculate)(model, tokens, **options))


@pytest.mark.parametrize(
    ("way", "field"),
    [
        ({"latents": 1}, "latents"),
        ({"candidates": 2, "latents": 1}, "candidates"),
        ({"commit": 2}, "commit"),
        ({"commit": 3, "threshold": 0.9}, "threshold"),
        *[({"order": order}, "order") for order in ORDERS if order != "confidence"],
        ({"order": "left_to_right", "latents": 2, "beside": "next"}, "beside"),
        ({"temperature": 2.0}, "temperature"),
        ({"cache": False}, "cache"),
        ({"by": "next_token"}, "by"),
        ({"by": "next_token", "cache": False}, "cache"),
        ({"by": "speculation"}, "by"),
        ({"by": "speculation", "latents": 2}, "latents"),
        ({"by": "speculation", "drafts": 1}, "drafts"),
        ({"by": "speculation", "cache": False}, "cache"),
        ({"by": "blocks"}, "by"),
        ({"by": "blocks", "block": 3}, "block"),
        ({"by": "blocks", "commit": 2}, "commit"),
        ({"by": "blocks", "cache": False}, "cache"),
    ],
    ids=str,
)
def test_each_field_reaches_its_decoder(way: dict[str, Any], field: str) -> None:
    """The steps are those of the decoder called with it, and are not those without it."""
    model, tokens = tiny(CACHED_JOINT, seed=1), prompts((6, 5, 3, 1))
    steps = list(Decoding(**way).steps(model, tokens, generator=seeded(3)))
    assert same(steps, direct(model, tokens, way))
    without = {name: value for name, value in way.items() if name != field}
    assert not same(steps, list(Decoding(**without).steps(model, tokens, generator=seeded(3))))


def test_peeking_and_randomness_are_handed_on() -> None:
    tokens = prompts()
    one, two, other = (next(Decoding().steps(tiny(SCDM), tokens, peek=p, generator=seeded(g))) for p, g in PEEKS)
    assert torch.equal(one.tokens, two.tokens) and two.asked > one.asked or one.candidates.sum(1).max() == 6
    assert not torch.equal(one.tokens, other.tokens) or not torch.equal(one.latents, other.latents)


PEEKS = [(False, 0), (True, 0), (False, 1)]


def test_speculation_says_what_slots_say() -> None:
    model, tokens = tiny(CACHED_JOINT, seed=1), prompts()
    for latents in (None, 0, 2):
        slots = Decoding(order="left_to_right", beside="next", latents=latents)
        ends = [last(d.steps(model, tokens), tokens) for d in (slots, Decoding(by="speculation", latents=latents))]
        assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"by": "guessing"}, "slots, next_token, speculation, blocks"),
        ({"beside": "sideways"}, "uniform, next"),
        ({"order": "sideways"}, "write one of uniform"),
        ({"by": "next_token", "temperature": 1.0}, "says the likeliest token"),
        ({"by": "speculation", "temperature": 0.5}, "says the likeliest token"),
    ],
)
def test_bad_ways(fields: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        Decoding(**fields)


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("order", [order for order in ORDERS if order != "uniform"])
def test_a_threshold_says_the_longest_sure_prefix_and_at_least_one(order: str, threshold: float) -> None:
    """Against the pass's own logits: the candidates by the order's rule, cut before the first that is not sure."""
    spy = Thinker(tiny(CACHED_JOINT, seed=1))
    tokens = torch.cat([prompts(), prompts((7, 6, 5))])
    now, sizes = tokens, set()
    steps = decode(spy, tokens, order=order, commit=3, candidates=5, threshold=threshold, generator=seeded())
    for step in steps:
        layout, at, logits = spy.thought[-1]
        for row in range(len(tokens)):
            scores = []
            for column, e in enumerate(at[row].tolist()):
                position = int(layout.position[row, e])
                if layout.unsaid[row, e] and step.candidates[row, position]:
                    p = sorted(logits[row, column].softmax(-1).tolist(), reverse=True)
                    rule = {
                        "left_to_right": -position,
                        "confidence": p[0],
                        "margin": p[0] - p[1],
                        "entropy": sum(q * math.log(q) for q in p if q > 0),
                    }[order]
                    scores.append((rule, position, p[0]))
            ranked = sorted(scores, reverse=True)[:3]
            sure = [n for n, (_, _, p) in enumerate(ranked) if n and p < threshold]
            expected = {position for _, position, _ in ranked[: min(sure, default=3)]}
            assert set(step.committed[row].nonzero()[:, 0].tolist()) == expected
            sizes.add(len(expected))
            assert bool(expected) == bool((now[row] == MASK).any())
        now = step.tokens
    assert (now != MASK).all()
    assert sizes == ({0, 1} if threshold == 1 else {0, 1, 2, 3})


class Thinker(Forced):
    """Keeps what the model thought, and lets it say so."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, lambda layout, at, number: at)

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        logits = self.model(layout, at, cache)
        self.thought.append((layout, at, logits))
        return logits


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("order", ["left_to_right", "confidence", "uniform"])
def test_tokens_of_a_pass_are_dated_one_after_the_other(order: str, cached: bool) -> None:
    """Each row's dates are 1, 2, ...: in the order of the passes; in a pass from the left, or the surest first."""
    tokens = prompts((7, 6, 4, 1))
    spy = Thinker(tiny(CACHED_JOINT, seed=1))
    steps = list(decode(spy, tokens, order=order, commit=3, latents=1, cache=cached, generator=seeded()))
    dates: dict[tuple[int, int], int] = {}
    for layout, _, _ in spy.thought:
        for row, e in layout.said.nonzero().tolist():
            place, date = (row, int(layout.position[row, e])), int(layout.order[row, e])
            assert dates.setdefault(place, date) == date  # a date never changes
            assert layout.horizon[row, e] == date + 1
    for row in range(4):
        done = 0
        for step in steps[:-1]:
            said = step.committed[row].nonzero()[:, 0].tolist()
            if order == "confidence":
                said = sorted(said, key=lambda p: -float(step.confidence[row, p]))
            found = [dates.get((row, p)) for p in said]
            if (step.tokens[row] == MASK).any():  # else the row is not looked at again
                expected = list(range(done + 1, done + 1 + len(said)))
                assert (sorted(d for d in found if d) if order == "uniform" else found) == expected
            done += len(said)
    assert all(dates[row, p] == 0 for row, p in (tokens != MASK).nonzero().tolist() if (row, p) in dates)
    assert max(dates.values()) == 6


@pytest.mark.parametrize(
    ("decoding", "passes"),
    [
        (Decoding(), 6),
        (Decoding(commit=2, order="uniform"), 3),
        (Decoding(commit=4, latents=0), 2),
        (Decoding(commit=4, threshold=0.5), None),
        (Decoding(commit=4, threshold=1.0), 6),
        (Decoding(by="next_token"), 6),
        (Decoding(by="speculation", latents=2), None),
        (Decoding(by="blocks", block=4), 6),
        (Decoding(by="blocks", block=4, commit=3), 3),
        (natural(Teacherless()), 1),
    ],
    ids=str,
)
def test_every_way_ends_within_its_passes(decoding: Decoding, passes: int | None) -> None:
    tokens = prompts((6, 4, 1, 0))
    steps = list(decoding.steps(tiny(CACHED_JOINT, seed=1), tokens, generator=seeded()))
    assert len(steps) <= 6 if passes is None else len(steps) == passes
    assert [step.index for step in steps] == list(range(len(steps)))
    assert (steps[-1].tokens != MASK).all()
    assert torch.equal(steps[-1].tokens[tokens != MASK], tokens[tokens != MASK])
    assert torch.equal(sum(step.committed.long() for step in steps), (tokens == MASK).long())
    ignorant = Ignorant(MASK, CACHED_JOINT)
    list(decoding.steps(ignorant, tokens))
    assert all((layout.unsaid | layout.said).any() for layout in ignorant.seen)

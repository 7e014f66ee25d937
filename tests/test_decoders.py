"""A way to decode is data (float64, 1e-9).

Laws: each field of `Decoding` reaches its decoder and matters, and one that would not is refused; speculation says
what slots say; a threshold says the longest sure prefix of the order and at least one; several tokens of a pass are
dated one after the other; every way ends within the passes that it promises. Which way is natural to a model stands in
`test_natural.py`.
"""

import math
from dataclasses import fields, replace
from itertools import islice
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from toy import Ignorant, ragged_clean, seeded, tiny
from unspoken.decoders.decoding import USED, By, Decoding, natural

from unspoken.decoders.autoregressive import next_tokens, speculate
from unspoken.decoders.blocks import block_by_block
from unspoken.decoders.decode import decode
from unspoken.decoders.denoise import denoise
from unspoken.decoders.policies import ORDERS
from unspoken.decoders.step import Step, last
from unspoken.layout.attention import CACHED_JOINT, MDM, SCDM
from unspoken.layout.entries import Layout
from unspoken.model.cache import Cache
from unspoken.model.denoiser import Model
from unspoken.noise import Absorbing, Hybrid
from unspoken.training.objective import Diffused, Masked, Teacherless

MASK = 6


def prompts(free: tuple[int, ...] = (6, 5, 3, 1, 0)) -> Tensor:
    x0, given = ragged_clean(free)
    return torch.where(given, x0, MASK)


class Thinker:
    """Keeps what a model thought, and of which entries."""

    def __init__(self, model: Model) -> None:
        self.model, self.thought = model, []
        self.attention, self.mask_id, self.vocab_size = model.attention, model.mask_id, model.vocab_size

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        logits = self.model(layout, at, cache)
        self.thought.append((layout, at, logits))
        return logits

    def new_cache(self) -> Cache | None:
        return self.model.new_cache()


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
        ({"latents": 1, "candidates": 2}, "latents"),
        ({"candidates": 2, "latents": 1}, "candidates"),
        ({"commit": 2}, "commit"),
        ({"commit": 3, "threshold": 0.9}, "threshold"),
        *[({"order": order}, "order") for order in ORDERS if order != "confidence"],
        ({"order": "left_to_right", "latents": 2, "latent_policy": "next"}, "beside"),
        ({"latents": 1, "candidates": 2, "latent_policy": "oldest"}, "beside"),
        ({"commit": 3, "entropy_bound": 0.5}, "entropy"),
        ({"latents": 1, "candidates": 2, "min_confidence": 1.0}, "widen"),
        ({"latents": 1, "candidates": 2, "stale": True}, "stale"),
        ({"keep_finished": True}, "wait"),
        ({"rebatch": 0.1}, "split"),
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
    way, model, tokens = Decoding(candidates=2, latents=3), tiny(SCDM), prompts((6, 6))
    blind, peeked, other = (next(way.steps(model, tokens, predict_latents=p, generator=seeded(g))) for p, g in PEEKS)
    assert torch.equal(blind.tokens, peeked.tokens) and (blind.asked, peeked.asked) == (2, 5)
    assert not torch.equal(blind.candidates, other.candidates) and other.asked == 2


PEEKS = [(False, 0), (True, 0), (False, 1)]


def test_speculation_says_what_slots_say() -> None:
    model, tokens = tiny(CACHED_JOINT, seed=1), prompts()
    for latents in (None, 0, 2):
        slots = Decoding(order="left_to_right", latent_policy="next", latents=latents)
        ends = [last(d.steps(model, tokens), tokens) for d in (slots, Decoding(by="speculation", latents=latents))]
        assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"by": "guessing"}, "slots, next_token, speculation, blocks"),
        ({"latent_policy": "sideways"}, "uniform, next, nearest"),
        ({"order": "sideways"}, "write one of uniform"),
        ({"by": "next_token", "temperature": 1.0}, "has no use for temperature"),  # it says the likeliest token
        ({"by": "speculation", "temperature": 0.5}, "has no use for temperature"),
    ],
)
def test_bad_ways(fields: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        Decoding(**fields)


OTHER: dict[str, Any] = {  # than the default, each a value that some way of decoding takes
    **{"latents": 1, "candidates": 9, "commit": 2, "threshold": 0.5, "entropy": 1.0, "order": "uniform"},
    **{"latent_policy": "next", "min_confidence": 0.5, "rebatch": 0.1, "block": 3, "drafts": 1, "temperature": 1.0},
    **{f.name: not f.default for f in fields(Decoding) if isinstance(f.default, bool)},
    **{"passes": 3, "rounds": 2, "process": Hybrid(0.2)},
}


@pytest.mark.parametrize("by", get_args(By))
@pytest.mark.parametrize("name", [f.name for f in fields(Decoding) if f.name != "by"])
def test_an_option_that_does_not_apply_is_refused(by: By, name: str) -> None:
    """One that does is taken, and so is the default of one that does not."""
    default: Any = getattr(Decoding(), name)
    assert Decoding(by=by, **{name: default}) == Decoding(by=by)
    if name in USED[by]:
        assert getattr(Decoding(by=by, **{name: OTHER[name]}), name) == OTHER[name] != default
    else:
        with pytest.raises(ValueError, match=f"by='{by}' has no use for {name}; it takes by, "):
            Decoding(by=by, **{name: OTHER[name]})


def test_every_option_that_does_not_apply_is_named() -> None:
    with pytest.raises(ValueError, match="by='blocks' has no use for latents, order, temperature; it takes by, block"):
        Decoding(by="blocks", latents=2, order="uniform", temperature=1.0, commit=2)


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 0.45, 0.55, 1.0])
@pytest.mark.parametrize("order", [order for order in ORDERS if order != "uniform"])
def test_a_threshold_says_the_longest_sure_prefix_and_at_least_one(order: str, threshold: float) -> None:
    """Against the pass's own logits: the candidates by the order's rule, cut before the first that is not sure."""
    spy = Thinker(tiny(CACHED_JOINT, seed=1, positions=7))
    tokens = torch.cat([prompts(), prompts((7, 6, 5))])
    now, sizes = tokens, set()
    steps = decode(spy, tokens, order=order, commit=3, candidates=5, threshold=threshold, generator=seeded())
    for step in islice(steps, 8):  # and not forever
        layout, at, logits = spy.thought[-1]
        going = (now == MASK).any(1).nonzero()[:, 0].tolist()
        assert step.rows.tolist() == going and not step.committed.any(1)[[r for r in range(8) if r not in going]].any()
        for turn, row in enumerate(going):
            scores = []
            for column, e in enumerate(at[turn].tolist()):
                position = int(layout.position[turn, e])
                if step.real[turn, column] and step.candidates[row, position]:
                    p = sorted(logits[turn, column].softmax(-1).tolist(), reverse=True)
                    rule = {
                        "left_to_right": -position,
                        "confidence": p[0],
                        "margin": p[0] - p[1],
                        "entropy": sum(q * math.log(q) for q in p if q > 0),
                        "promising": p[0],
                    }[order]
                    scores.append((rule, position, p[0]))
            ranked = sorted(scores, reverse=True)[:3]
            sure = [n for n, (_, _, p) in enumerate(ranked) if n and p < threshold]
            expected = {position for _, position, _ in ranked[: min(sure, default=3)]}
            assert set(step.committed[row].nonzero()[:, 0].tolist()) == expected
            sizes.add(len(expected))
            assert expected
        now = step.tokens
    assert (now != MASK).all()
    assert sizes == ({1} if threshold == 1 else {1, 2, 3})


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("order", ["left_to_right", "confidence", "uniform"])
def test_tokens_of_a_pass_are_dated_one_after_the_other(order: str, cached: bool) -> None:
    """Each row's dates are 1, 2, ...: in the order of the passes; in a pass from the left, or the surest first."""
    tokens = prompts((7, 6, 4, 1))
    spy = Thinker(tiny(CACHED_JOINT, seed=1, positions=7))
    steps = list(decode(spy, tokens, order=order, commit=3, latents=1, cache=cached, generator=seeded()))
    dates: dict[tuple[int, int], int] = {}
    for step, (layout, _, _) in zip(steps, spy.thought, strict=True):
        for turn, e in layout.said.nonzero().tolist():
            place, date = (int(step.rows[turn]), int(layout.position[turn, e])), int(layout.order[turn, e])
            assert dates.setdefault(place, date) == date  # a date never changes
            assert layout.horizon[turn, e] == date + 1
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
    assert torch.equal(torch.stack([step.committed for step in steps]).sum(0), (tokens == MASK).long())
    ignorant = Ignorant(MASK, CACHED_JOINT)
    list(decoding.steps(ignorant, tokens))
    assert all((layout.unsaid | layout.said).any() for layout in ignorant.seen)


def test_noise_other_than_masks_is_walked() -> None:
    """By the process of the run, in as many passes as positions or as asked, and second thoughts after them."""
    model, prompt = tiny(MDM, vocab=5, positions=8), torch.tensor([[1, 5, 5, 5], [5, 5, 5, 5]])
    way = natural(Diffused(), Hybrid(0.2))
    assert way == Decoding(by="walk", process=Hybrid(0.2))
    assert natural(Diffused(), Absorbing()) == Decoding(by="walk")  # at the times it was trained on
    assert natural(Masked()) == Decoding()
    steps = list(way.steps(model, prompt, generator=seeded()))
    assert [s.index for s in steps] == [0, 1, 2, 3]
    walked = list(denoise(model, Hybrid(0.2), prompt, steps=4, generator=seeded()))
    for step, move in zip(steps, walked, strict=True):
        assert torch.equal(step.tokens, move.z)
        assert torch.equal(step.committed, move.changed & (move.z != 5))
        assert torch.equal(step.candidates, prompt == 5)
        assert torch.equal(step.guess, torch.where(prompt == 5, move.prediction.logits.argmax(-1), 5))
    twice = list(replace(way, passes=2, rounds=3).steps(model, prompt, generator=seeded()))
    assert 2 <= len(twice) <= 5
    assert [s.index for s in twice] == list(range(len(twice)))
    assert all(torch.equal(s.tokens[0, :1], prompt[0, :1]) for s in twice)
    assert list(way.steps(model, torch.tensor([[1, 2, 3, 4]]))) == []
    with pytest.raises(ValueError, match="no use for latents"):
        replace(way, latents=3)
    with pytest.raises(ValueError, match="0 or more"):
        replace(way, passes=-1)
    with pytest.raises(ValueError, match="no use for process"):
        Decoding(process=Hybrid(0.2))

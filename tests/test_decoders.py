"""A decoder is data (float64, 1e-9).

Laws: each option of each decoder reaches it and matters, and one of another decoder is refused; a decoder that was
saved with the weights says the same tokens; what a model can not serve is refused before any pass; speculation says
what slots say; a threshold says the longest sure prefix of the order and at least one; several tokens of a pass are
dated one after the other; every decoder ends within the passes that it promises. Which decoder a model is trained for
stands in `test_own_decoder.py`, decoders and policies of a stranger in `test_extensions.py`.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from toy import EXACT, Ignorant, Spy, ragged_clean, seeded, tiny

from unspoken.decoders.autoregressive import NextToken, Speculation, next_tokens, speculate
from unspoken.decoders.blocks import Blocks, block_by_block
from unspoken.decoders.commit import Commit
from unspoken.decoders.decode import Decoder, Decoders, decode, decoder_of, options_of, read_decoder
from unspoken.decoders.denoise import Walk, denoise
from unspoken.decoders.onepass import OnePass
from unspoken.decoders.policies import MARGIN, NEAREST, ORDERS, LatentPolicy, Order
from unspoken.decoders.slots import Slots
from unspoken.decoders.step import Step, last
from unspoken.decoders.thoughts import ThoughtWalk
from unspoken.layout.attention import CACHED_JOINT, MDM, SCDM, SIDM, Attention
from unspoken.model.denoiser import Denoiser
from unspoken.noise import Absorbing, Hybrid
from unspoken.noise.thoughts import Thoughts
from unspoken.noise.times import Autoregressive, Blockwise, Paths, Pyramid
from unspoken.record import RENAMED, from_record, to_record
from unspoken.training.objective import NextTokenPrediction, Objectives, Teacherless

MASK = 6


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


FUNCTIONS: dict[type, Callable[..., Iterator[Step]]] = {
    NextToken: next_tokens,
    Speculation: speculate,
    Blocks: block_by_block,
}
EVERY = list(get_args(Decoders))
NAMES = sorted({name for kind in EVERY for name in options_of(kind)})
# Of each decoder an option and another value than its default, under which a pass is another.
OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    (Slots(candidates=2), {"latents": 1}),
    (Slots(latents=1), {"candidates": 2}),
    (Slots(), {"commit": 2}),
    (Slots(), {"commit": (1, 2)}),
    (Slots(), {"commit": Commit(2)}),
    (Slots(commit=3), {"threshold": 0.9}),
    (Slots(commit=3), {"entropy_bound": 0.5}),
    *[(Slots(), {"order": order}) for order in ORDERS if order != "confidence"],
    (Slots(latents=2, order="left_to_right"), {"latent_policy": "next"}),
    (Slots(latents=1, candidates=2), {"latent_policy": "oldest"}),
    (Slots(latents=1, candidates=2), {"min_confidence": 1.0}),
    (Slots(latents=1, candidates=2), {"stale": True}),
    (Slots(), {"keep_finished": True}),
    (Slots(), {"rebatch": 0.1}),
    (Slots(), {"temperature": 2.0}),
    (Slots(temperature=2.0), {"top_k": 1}),
    (Slots(temperature=2.0), {"top_p": 0.01}),
    (Slots(), {"cache": False}),
    (NextToken(), {"cache": False}),
    (NextToken(), {"temperature": 2.0}),
    (NextToken(temperature=2.0), {"top_k": 1}),
    (NextToken(temperature=2.0), {"top_p": 0.01}),
    (Speculation(), {"latents": 2}),
    (Speculation(), {"drafts": 1}),
    (Speculation(), {"cache": False}),
    (Blocks(), {"size": 3}),
    (Blocks(), {"commit": 2}),
    (Blocks(), {"cache": False}),
    (Walk(), {"process": Hybrid(0.2)}),
    (Walk(), {"passes": 3}),
    (Walk(Hybrid(0.2)), {"rounds": 2}),
    (Walk(), {"path": Autoregressive()}),
    (OnePass(5), {"blank": 4}),
    (OnePass(5), {"together": 1}),
    (OnePass(5), {"temperature": 2.0}),
]


def served(decoder: Decoder) -> Denoiser:
    """A network that it can decode."""
    return tiny(MDM if isinstance(decoder, Walk) else CACHED_JOINT, seed=1)


@pytest.mark.parametrize(("decoder", "option"), OPTIONS, ids=str)
def test_each_option_reaches_its_decoder(decoder: Any, option: dict[str, Any]) -> None:
    """The steps are those of the function called with it, not those without; `decode` with a change says the same."""
    model, tokens, other = served(decoder), prompts((6, 5, 3, 1)), replace(decoder, **option)
    steps = list(other.steps(model, tokens, generator=seeded(3)))
    assert not same(steps, list(decoder.steps(model, tokens, generator=seeded(3))))
    if type(decoder) in FUNCTIONS and not option.keys() & {"temperature", "top_k", "top_p"}:
        defaults = {"size": 4} if isinstance(decoder, Blocks) else {}
        assert same(steps, list(FUNCTIONS[type(decoder)](model, tokens, **defaults | option)))
    assert same(steps, list(decode(model, tokens, decoder=decoder, generator=seeded(3), **option)))
    model.decoder = to_record(decoder)
    assert same(steps, list(decode(model, tokens, generator=seeded(3), **option)))


def test_every_option_of_every_decoder_is_here() -> None:
    assert {(type(d), name) for d, option in OPTIONS for name in option} == {
        (kind, name) for kind in EVERY if kind is not ThoughtWalk for name in options_of(kind)
    }  # those of a walk through thoughts: tests/test_ladir.py


SAVED: list[Decoders] = [
    Slots(latents=2, candidates=3, order="margin", latent_policy="nearest", commit=Commit(2, threshold=0.3)),
    Slots(commit=(1, 2), order="uniform", cache=False),
    NextToken(cache=False),
    Speculation(latents=3, drafts=2),
    Blocks(size=3, commit=2),
    Walk(Hybrid(0.2), passes=3, rounds=1, path=Pyramid(0.3)),
    OnePass(blank=5, together=2),
]


@pytest.mark.parametrize("decoder", SAVED, ids=str)
def test_a_saved_decoder_says_the_same_tokens(decoder: Decoders, tmp_path: Path) -> None:
    """Read back from unspoken.json, with the same probabilities."""
    model, tokens = served(decoder), prompts((6, 5, 3, 1))
    model.decoder = to_record(decoder)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "unspoken.json").read_text())["decoder"]["type"] == type(decoder).__name__
    again = Denoiser.from_pretrained(tmp_path, dtype=torch.float64)
    assert decoder_of(again) == decoder
    steps, before = (list(decode(m, tokens, generator=seeded(3))) for m in (again, model))
    for step, was in zip(steps, before, strict=True):
        assert torch.equal(step.tokens, was.tokens) and (step.entries, step.cached) == (was.entries, was.cached)
        assert torch.allclose(step.confidence, was.confidence, **EXACT)


def test_without_a_record_a_model_is_decoded_from_slots() -> None:
    model, tokens = tiny(SCDM), prompts()
    assert model.decoder is None and decoder_of(model) == Slots() == decoder_of(Ignorant(MASK))
    assert same(list(decode(model, tokens)), list(Slots().steps(model, tokens)))


THOUGHTS = Thoughts(1, 2, 2, 1, pad=0, more=1, done=2)
ALIEN = [(kind, name) for kind in EVERY for name in NAMES if name not in options_of(kind)]


@pytest.mark.parametrize(("kind", "name"), ALIEN)
def test_an_option_of_another_decoder_is_refused(kind: Any, name: str) -> None:
    """And the refusal names the option, the decoder at hand and every decoder that has it."""
    having = " and ".join(k.__name__ for k in EVERY if name in options_of(k))
    made = {ThoughtWalk: lambda: ThoughtWalk(THOUGHTS), OnePass: lambda: OnePass(5)}
    decoder = made.get(kind, kind)()
    model = served(decoder)
    model.decoder = to_record(decoder)
    options: dict[str, Any] = {name: 1}
    here = f"^{name} is an option of {having}; this model decodes by {kind.__name__}: pass decoder=us."
    with pytest.raises(ValueError, match=here) as e:
        decode(model, prompts(), **options)
    assert all(f"decoder=us.{k.__name__}(...)" in str(e.value) for k in EVERY if name in options_of(k))


def test_an_option_of_no_decoder_is_refused() -> None:
    with pytest.raises(ValueError, match="beside is no option of a decoder; NextToken takes cache"):
        decode(served(NextToken()), prompts(), decoder=NextToken(), beside="next")


@pytest.mark.parametrize(
    ("decoder", "rule", "reason"),
    [
        (NextToken(), MDM, "NextToken with attention mdm: its context sees what comes after it"),
        (Speculation(), SCDM, "speculation with attention scdm: its context sees what comes after it"),
        (Blocks(), SIDM, "Blocks with attention sidm: its context sees what comes after it"),
        (Walk(), SCDM, "attention scdm: a walk through noise shows every token to every other; take mdm"),
        (Walk(), CACHED_JOINT, "attention cached-joint: a walk through noise"),
        (Slots(stale=True), MDM, "stale latents of attention mdm"),
        (Slots(stale=True, cache=False), CACHED_JOINT, "cache=False: their keys are kept"),
    ],
)
def test_what_a_model_can_not_serve_is_refused_before_any_pass(decoder: Decoder, rule: Attention, reason: str) -> None:
    spy = Spy(tiny(rule))
    with pytest.raises(ValueError, match=reason):
        decode(spy, prompts(), decoder=decoder)
    assert spy.passes == []


@pytest.mark.parametrize("decoder", [Blocks(), Walk()], ids=str)
def test_rows_that_end_early_are_refused_by_others(decoder: Decoder) -> None:
    model, tokens, present = served(decoder), prompts(), torch.ones(5, 7, dtype=torch.bool)
    whole = list(decode(model, tokens, decoder=decoder, present=present, generator=seeded()))
    assert same(whole, list(decode(model, tokens, decoder=decoder, generator=seeded())))
    present[0, 6] = False
    with pytest.raises(ValueError, match=f"{type(decoder).__name__} takes rows of one length"):
        decode(model, tokens, decoder=decoder, present=present)


def test_predicted_latents_and_randomness_are_handed_on() -> None:
    way, model, tokens = Slots(candidates=2, latents=3), tiny(SCDM), prompts((6, 6))
    blind, told, other = (
        next(decode(model, tokens, decoder=way, predict_latents=p, generator=seeded(g))) for p, g in TOLD
    )
    assert torch.equal(blind.tokens, told.tokens) and (blind.asked, told.asked) == (2, 5)
    assert not torch.equal(blind.candidates, other.candidates) and other.asked == 2


TOLD = [(False, 0), (True, 0), (False, 1)]


def test_speculation_says_what_slots_say() -> None:
    model, tokens = tiny(CACHED_JOINT, seed=1), prompts()
    for latents in (None, 0, 2):
        slots = Slots(order="left_to_right", latent_policy="next", latents=latents)
        ends = [last(d.steps(model, tokens), tokens) for d in (slots, Speculation(latents=latents))]
        assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (
            lambda: Slots(latent_policy="sideways"),
            "no latent_policy is called 'sideways'; write one of uniform, next",
        ),
        (lambda: Slots(order="sideways"), "no order is called 'sideways'; write one of uniform"),
        (lambda: Slots(commit=()), "commit=.. says nothing"),
        (lambda: Slots(commit=Commit(4), threshold=0.5), "write them into the Commit"),
        (lambda: Slots(commit=Commit(4), entropy_bound=1.0), "write them into the Commit"),
        (lambda: Slots(commit=Commit(4), candidates=3), "commit=4 of candidates=3"),
        (lambda: Slots(commit=(1, 2), threshold=0.5), "take one or the other"),
        (lambda: Commit(0), "commit=0; give whole numbers of 1 or more"),
        (lambda: Commit(threshold=2.0), "give a probability"),
        (lambda: Speculation(latents=1, drafts=2), "need 0 <= drafts <= latents"),
        (lambda: Blocks(size=2, commit=3), "need 1 <= commit <= size"),
        (lambda: Walk(passes=-1), "passes=-1; give whole numbers of 0 or more"),
        (lambda: Walk(rounds=-1), "rounds=-1; give whole numbers of 0 or more"),
    ],
)
def test_bad_options(make: Callable[[], object], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        make()


def test_bounds_of_slots_are_short_for_those_of_their_commit() -> None:
    model, tokens = tiny(CACHED_JOINT, seed=1), prompts()
    ways: list[dict[str, Any]] = [{"threshold": 0.4}, {"entropy_bound": 1.2}, {"threshold": 0.3, "entropy_bound": 1.5}]
    for bounds in ways:
        short = Slots(commit=3, **bounds).steps(model, tokens, generator=seeded())
        assert same(list(short), list(decode(model, tokens, commit=Commit(3, **bounds), generator=seeded())))


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 0.45, 0.55, 1.0])
@pytest.mark.parametrize("order", [order for order in ORDERS if order != "uniform"])
def test_a_threshold_says_the_longest_sure_prefix_and_at_least_one(order: str, threshold: float) -> None:
    """Against the pass's own logits: the candidates by the order's rule, cut before the first that is not sure."""
    spy = Spy(tiny(CACHED_JOINT, seed=1, positions=7))
    tokens = torch.cat([prompts(), prompts((7, 6, 5))])
    now, sizes = tokens, set()
    steps = decode(spy, tokens, order=order, commit=3, candidates=5, threshold=threshold, generator=seeded())
    for step in islice(steps, 8):  # and not forever
        layout, at, logits = spy.passes[-1]
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
    spy = Spy(tiny(CACHED_JOINT, seed=1, positions=7))
    steps = list(decode(spy, tokens, order=order, commit=3, latents=1, cache=cached, generator=seeded()))
    dates: dict[tuple[int, int], int] = {}
    for step, (layout, _, _) in zip(steps, spy.passes, strict=True):
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
    ("decoder", "passes"),
    [
        (Slots(), 6),
        (Slots(commit=2, order="uniform"), 3),
        (Slots(commit=4, latents=0), 2),
        (Slots(commit=4, threshold=0.5), None),
        (Slots(commit=4, threshold=1.0), 6),
        (NextToken(), 6),
        (Speculation(latents=2), None),
        (Blocks(size=4), 6),
        (Blocks(size=4, commit=3), 3),
        (read_decoder(Teacherless().decoder(Absorbing())), 1),
    ],
    ids=str,
)
def test_every_decoder_ends_within_its_passes(decoder: Decoder, passes: int | None) -> None:
    tokens = prompts((6, 4, 1, 0))
    steps = list(decoder.steps(tiny(CACHED_JOINT, seed=1), tokens, generator=seeded()))
    assert len(steps) <= 6 if passes is None else len(steps) == passes
    assert [step.index for step in steps] == list(range(len(steps)))
    assert (steps[-1].tokens != MASK).all()
    assert torch.equal(steps[-1].tokens[tokens != MASK], tokens[tokens != MASK])
    assert torch.equal(torch.stack([step.committed for step in steps]).sum(0), (tokens == MASK).long())
    ignorant = Ignorant(MASK, CACHED_JOINT)
    list(decoder.steps(ignorant, tokens))
    assert all((layout.unsaid | layout.said).any() for layout in ignorant.seen)


def test_noise_other_than_masks_is_walked() -> None:
    """By the process of the run, in as many passes as positions or as asked, and second thoughts after them."""
    model, prompt = tiny(MDM, vocab=5, positions=8), torch.tensor([[1, 5, 5, 5], [5, 5, 5, 5]])
    way = Walk(Hybrid(0.2))
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
    along = list(Walk(Hybrid(0.2), path=Pyramid(0.5)).steps(model, prompt, generator=seeded()))
    walked = list(denoise(model, Hybrid(0.2), prompt, steps=4, path=Pyramid(0.5), generator=seeded()))
    assert all(torch.equal(step.tokens, move.z) for step, move in zip(along, walked, strict=True))


# --- records


OWN_ORDER = Order("mine", lambda ahead: ahead.entropy)
OWN_POLICY = LatentPolicy("uniform", lambda around: around.before)  # of a name in the table, and not the table's


@pytest.mark.parametrize(
    ("decoder", "remedy"),
    [
        (Slots(order=OWN_ORDER), r"order 'mine' is a function of yours.*us.decode\(model, tokens, order=...\)"),
        (Slots(latent_policy=OWN_POLICY), r"latent_policy 'uniform' is a function of yours.*latent_policy=...\)"),
        (Slots(commit=Commit(2, rule=lambda logp, real: real)), r"is a function.*us.decode\(model, tokens, commit="),
    ],
)
def test_a_decoder_that_holds_a_function_is_refused(decoder: Slots, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        to_record(decoder)


def test_policies_of_the_tables_are_recorded_by_their_names() -> None:
    record = to_record(Slots(order=MARGIN, latent_policy=NEAREST))
    assert (record["order"], record["latent_policy"]) == ("margin", "nearest")
    assert from_record(Decoders, record) == Slots(order="margin", latent_policy="nearest")


def test_a_record_of_an_unknown_decoder_or_name_is_refused() -> None:
    with pytest.raises(ValueError, match="the record is a 'Guess'; expected one of Slots, NextToken, Speculation, Bl"):
        from_record(Decoders, {"type": "Guess"})
    with pytest.raises(ValueError, match="no order is called 'mine'"):
        from_record(Decoders, {"type": "Slots", "order": "mine"})
    with pytest.raises(ValueError, match="Blocks has no field latents"):
        from_record(Decoders, {"type": "Blocks", "latents": 1})


def test_old_tags_are_read_where_they_are_no_choice() -> None:
    """`NextToken` and `Blocks` were an objective and a path, and are decoders."""
    assert from_record(Objectives, {"type": "NextToken"}) == NextTokenPrediction()
    assert from_record(Paths, {"type": "Blocks", "size": 3}) == Blockwise(3)
    assert from_record(Decoders, {"type": "NextToken"}) == NextToken()
    assert from_record(Decoders, {"type": "Blocks", "size": 3}) == Blocks(3)
    with pytest.raises(ValueError, match="the record is a 'NextToken'; expected one of Diagonal"):
        from_record(Paths, {"type": "NextToken"})
    assert all(new != old for old, new in RENAMED.items())

"""What a pass of `decode` holds and says, option by option (float64, 1e-9).

Laws: cached = recomputed, and a batch = its rows alone, whatever the options; rows that are done leave; latents are
added while the best candidate is in doubt and no longer; a bound on entropy says the longest prefix that keeps to it;
each latent policy picks what a loop over the positions picks.
"""

import math
from collections.abc import Callable
from functools import cache as remember
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import EXACT, Ignorant, Spy, chi_square_p, ragged_clean, seeded, tiny

from unspoken.decoders.decode import decode
from unspoken.decoders.policies import LATENT_POLICIES, ORDERS, attended
from unspoken.decoders.step import Step
from unspoken.layout.attention import ATTENTIONS
from unspoken.model.denoiser import Denoiser

MASK, SEQ = 6, 9
CACHEABLE = [name for name, rule in ATTENTIONS.items() if rule.cacheable]
RELATION = torch.rand(SEQ, SEQ, generator=seeded(5))
BESIDE = {**LATENT_POLICIES, "attended": attended(RELATION)}
SURE: list[dict[str, Any]] = [{}, {"commit": 3}, {"commit": 3, "threshold": 0.5}, {"commit": 3, "entropy_bound": 0.8}]


@remember
def model(rule: str) -> Denoiser:
    return tiny(ATTENTIONS[rule], seed=1, positions=SEQ)


def prompts(free: tuple[int, ...] = (9, 5, 7, 1, 0)) -> Tensor:
    x0, given = ragged_clean(free, SEQ)
    return torch.where(given, x0, MASK)


def story(steps: list[Step], row: int) -> list[tuple[Tensor, ...]]:
    """What became of a row, pass by pass."""
    names = ("tokens", "committed", "candidates", "latents", "guess", "confidence")
    return [tuple(getattr(step, name)[row] for name in names) for step in steps if row in step.rows]


def assert_same(a: list[Step], b: list[Step], rows: list[tuple[int, int]]) -> None:
    for row, other in rows:
        ours, theirs = story(a, row), story(b, other)
        assert len(ours) == len(theirs)
        for x, y in zip(ours, theirs, strict=True):
            assert all(map(torch.equal, x[:-1], y[:-1])) and torch.allclose(x[-1], y[-1], **EXACT)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rule", CACHEABLE)
def test_cached_is_recomputed(rule: str, order: str) -> None:
    """Beside every latent policy; ways to say several at once, and widening, go round over orders and rules."""
    tokens, turn = prompts(), list(ORDERS).index(order)
    for number, beside in enumerate(BESIDE.values()):
        options = {"order": order, "latent_policy": beside, "latents": 1, "candidates": 3, **SURE[(number + turn) % 4]}
        options["min_confidence"] = 0.8 * ((number + CACHEABLE.index(rule)) % 2)
        cached, plain = (
            list(decode(model(rule), tokens, **options, cache=c, generator=seeded(2))) for c in (True, False)
        )
        assert len(cached) == len(plain) and cached[-1].cached > 0 and plain[-1].cached == 0
        assert_same(cached, plain, [(row, row) for row in range(5)])


# Where nothing is drawn: the order of the latents matters under `ordered` alone.
UNORDERED = ["mdm", "sidm", "joint", "cached-joint", "cached-alone"]
DETERMINED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "a bound": (list(ATTENTIONS), {"latent_policy": "next", "latents": 2, "commit": 3, "entropy_bound": 1.0}),
    "widening": (list(ATTENTIONS), {"latent_policy": "next", "latents": 1, "min_confidence": 0.6}),
    "attended": (list(ATTENTIONS), {"latent_policy": BESIDE["attended"], "latents": 2, "commit": 2}),
    "margin": (list(ATTENTIONS), {"order": "margin", "candidates": SEQ, "commit": 3, "threshold": 0.4}),
    "stale": (CACHEABLE, {"latent_policy": BESIDE["attended"], "latents": 2, "stale": True}),
    **{f"all, {name}": (UNORDERED, {"latent_policy": name}) for name in LATENT_POLICIES},
}


@pytest.mark.parametrize("name", DETERMINED)
def test_a_ragged_batch_is_its_rows_alone(name: str) -> None:
    rules, options = DETERMINED[name]
    tokens, options = prompts(), {"order": "left_to_right", **options}
    present = torch.arange(SEQ) < torch.tensor([[9], [7], [9], [9], [5]])
    for rule in rules:
        together = list(decode(model(rule), tokens, present=present, **options))
        for row in range(len(tokens)):
            one = list(decode(model(rule), tokens[row : row + 1], present=present[row : row + 1], **options))
            assert_same(one, together, [(0, row)])
        # Rows in passes of their own say the same, and the passes are smaller; rows that wait too, and then nothing.
        apart = list(decode(model(rule), tokens, present=present, **options, rebatch=0.1))
        assert_same(apart, together, [(row, row) for row in range(5)])
        cost, less = (sum(len(step.rows) * step.entries for step in steps) for steps in (together, apart))
        assert less < cost or (less == cost and rule not in CACHEABLE)  # there all of a row may be in its pass anyway
        waiting = list(decode(model(rule), tokens, present=present, **options, keep_finished=True))
        assert len(waiting) == len(together) and all(
            len(step.rows) == 5 for step in waiting if "min_confidence" not in options
        )
        for a, b in zip(together, waiting, strict=True):
            assert torch.equal(a.tokens, b.tokens) and torch.allclose(a.confidence, b.confidence, **EXACT)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("options", [*SURE, {"commit": 2, "min_confidence": 0.8}], ids=str)
def test_rows_that_are_done_leave(options: dict[str, Any], cached: bool) -> None:
    """And what is left is as wide as the fullest of the others needs: a row's fresh context, and what is beside it."""
    tokens = prompts((9, 5, 7, 1, 0, 8, 6, 4, 9, 3))
    short = torch.arange(SEQ) < torch.tensor([[9], [6], [9], [9], [9]] * 2)
    for present in (torch.ones_like(short), short):
        now, fresh, doubt = tokens, (tokens != MASK) & present, torch.zeros(10, dtype=torch.bool)
        spy = Spy(model("cached-joint"))
        for step in decode(spy, tokens, latents=1, candidates=3, present=present, cache=cached, **options):
            unsaid, again = (now == MASK) & present, bool(doubt.any())  # again: rows in doubt, beside more latents
            assert torch.equal(step.rows, (doubt if again else unsaid.any(1)).nonzero()[:, 0])
            context = (fresh & ~torch.tensor(again)) if cached else ~unsaid & present
            said, beside = (part.sum(1)[step.rows] for part in (context, step.candidates | step.latents))
            layout = spy.passes[-1].layout
            assert torch.equal(layout.said.sum(1), said) and torch.equal(layout.unsaid.sum(1), beside)
            assert step.entries == layout.shape[1] == int((said + beside).max())
            now, here = step.tokens, step.committed.any(1, keepdim=True)
            fresh = torch.where(here, step.committed, fresh & again)
            doubt = torch.zeros(10, dtype=torch.bool).index_fill(0, step.rows, True) & ~here[:, 0]
        assert (now[present] != MASK).all() and not doubt.any()


@pytest.mark.parametrize("latents", [0, 1, 3])
@pytest.mark.parametrize("widen", [0.5, 0.8, 1.0, math.inf])
@pytest.mark.parametrize("rule", ["mdm", "scdm", "cached-joint"])
def test_latents_are_added_while_in_doubt(rule: str, widen: float, latents: int) -> None:
    """Twice as many, those before among them; until the best is sure, or the same twice, or all are there."""
    now, spent, room = prompts(), [], []
    before: dict[int, tuple[Any, ...]] = {}
    for step in decode(model(rule), now, latents=latents, candidates=2, min_confidence=widen, latent_policy="nearest"):
        for turn, row in enumerate(step.rows.tolist()):
            held, beside = (set(part[row].nonzero()[:, 0].tolist()) for part in (step.candidates, step.latents))
            best = int(step.said[turn, 0])
            this = (best, int(step.guess[row, best]))
            last, same, fewer, count = before.pop(row, (None, held, set(), latents))
            rest = int((now[row] == MASK).sum()) - len(held)
            assert held == same and beside >= fewer and len(beside) == min(count, rest)
            sure = float(step.confidence[row, best]) >= widen or (widen <= 1 and this == last) or len(beside) == rest
            assert sure == bool(step.committed[row].any())
            if not sure:
                before[row] = (this, held, beside, max(1, 2 * count))
            elif rest > latents:
                spent, room = [*spent, len(beside)], [*room, rest]
        now = step.tokens
    assert (now != MASK).all() and not before
    assert latents < sum(spent) / len(spent) <= sum(room) / len(room)


@pytest.mark.parametrize("rule", ["mdm", "scdm", "cached-joint"])
def test_an_infinite_threshold_is_all_latents(rule: str) -> None:
    """From left to right beside the next latents, where nothing is drawn; each token is said beside all there are."""
    options: dict[str, Any] = {"order": "left_to_right", "latent_policy": "next"}
    widened = list(decode(model(rule), prompts(), latents=1, min_confidence=math.inf, **options))
    whole = list(decode(model(rule), prompts(), latents=None, **options))
    for row in range(5):
        told = [
            (step.tokens[row].tolist(), int(step.latents[row].sum())) for step in widened if step.committed[row].any()
        ]
        assert told == [(step.tokens[row].tolist(), int(step.latents[row].sum())) for step in whole if row in step.rows]


def test_limits_of_widening() -> None:
    """A bar that every guess clears is a fixed number of latents; from all latents on there are none to add."""
    tokens = prompts()
    for latents, widen in ((2, 1e-9), (0, 1e-9), (None, 1.0), (SEQ, 1.0)):
        adaptive, fixed = (
            list(decode(model("mdm"), tokens, latents=latents, candidates=2, min_confidence=w, generator=seeded()))
            for w in (widen, 0.0)
        )
        assert [step.entries for step in adaptive] == [step.entries for step in fixed]
        assert_same(adaptive, fixed, [(row, row) for row in range(5)])


@pytest.mark.parametrize("commit", [1, 2, 4])
@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("entropy", [math.inf, 1.0, 0.0])
def test_the_longest_prefix_that_keeps_to_its_bounds_is_said(commit: int, threshold: float, entropy: float) -> None:
    """Against the pass's own logits: all but the best must be that probable, and all but the last sum to the bound."""
    for order, widen in (("left_to_right", 0.0), ("confidence", 0.0), ("entropy", 0.6)):
        tokens, spy = prompts(), Spy(model("cached-joint"))
        free = left = (tokens == MASK).sum(1)
        turns = torch.zeros_like(left)
        options: dict[str, Any] = {"order": order, "min_confidence": widen, "latents": 1, "candidates": 5}
        for step in decode(spy, tokens, commit=commit, threshold=threshold, entropy_bound=entropy, **options):
            p = spy.passes[-1].logits.softmax(-1)
            for turn, row in enumerate(step.rows.tolist()):
                where = step.position[turn, : step.n_candidates].tolist()
                said = step.said[turn, : min(commit, int(left[row]))].tolist()
                best = [p[turn, where.index(position)].tolist() for position in said]
                spent = [sum(-q * math.log(q) for q in one if q > 0) for one in best]
                keeps = [n == 0 or (max(best[n]) >= threshold and sum(spent[:n]) <= entropy) for n in range(len(best))]
                expected = sorted(said[: [*keeps, False].index(False)])
                found = step.committed[row].nonzero()[:, 0].tolist()
                assert found == expected or (widen and not found)
            left, turns, tokens = left - step.committed.sum(1), turns + step.committed.any(1), step.tokens
        assert (tokens != MASK).all()
        fewest = (free / commit).ceil()
        assert (fewest <= turns).all() and (turns <= free).all()
        if (threshold, entropy) == (0, math.inf):
            assert torch.equal(turns, fewest.long())
        if threshold == 1 or entropy == 0:
            assert torch.equal(turns, free)


def keys(beside: str, row: int, step: Step, entropy: dict, age: dict) -> Callable[[int], float]:
    """What a policy ranks a position by, the lowest first."""
    held = step.candidates[row].nonzero()[:, 0].tolist()
    return {
        "uniform": lambda p: 0.0,
        "next": lambda p: float(p),  # from left to right
        "nearest": lambda p: float(min(abs(p - c) for c in held)),
        "attended": lambda p: -sum(float(RELATION[c, p]) for c in held),
        "certain": lambda p: entropy.get((row, p), math.inf),
        "uncertain": lambda p: -entropy.get((row, p), math.inf),
        "oldest": lambda p: age.get((row, p), -1),
    }[beside]


@pytest.mark.parametrize("latents", [0, 2, None])
@pytest.mark.parametrize("order", ["left_to_right", "confidence", "promising"])
@pytest.mark.parametrize("beside", BESIDE)
def test_a_policy_picks_what_a_loop_picks(beside: str, order: str, latents: int | None) -> None:
    """As many as there may be, none twice, none said, a candidate or past the end; the first by its key, in order."""
    tokens, present = prompts((9, 8, 7, 5)), torch.arange(SEQ) < torch.tensor([[9], [9], [7], [9]])
    spy, now = Spy(model("cached-joint")), tokens
    entropy: dict[tuple[int, int], float] = {}
    age: dict[tuple[int, int], float] = {}
    options: dict[str, Any] = {"latent_policy": BESIDE[beside], "latents": latents, "order": order, "candidates": 2}
    for step in decode(
        spy, tokens, **options, present=present, commit=2 if order == "confidence" else 1, predict_latents=True
    ):
        p = spy.passes[-1].logits.softmax(-1)
        for turn, row in enumerate(step.rows.tolist()):
            real = step.real[turn]
            ids = step.position[turn, real].tolist()
            unsaid = ((now[row] == MASK) & present[row]).nonzero()[:, 0].tolist()
            held = int(real[: step.n_candidates].sum())
            rest = [i for i in unsaid if i not in ids[:held]]
            assert len(set(ids)) == len(ids) and set(ids) <= set(unsaid)
            assert held == min(step.n_candidates, len(unsaid))
            assert len(ids) - held == min(SEQ if latents is None else latents, len(rest))
            if order == "promising":  # the most certain when last seen are its candidates
                check_first(ids[:held], unsaid, lambda i, row=row: entropy.get((row, i), math.inf))
            if beside != "next" or order == "left_to_right":
                check_first(ids[held:], rest, keys(beside, row, step, entropy, age))
        for turn, row in enumerate(step.rows.tolist()):
            for column in step.real[turn].nonzero()[:, 0].tolist():
                place = (row, int(step.position[turn, column]))
                entropy[place], age[place] = float(torch.special.entr(p[turn, column]).sum()), step.index
        now = step.tokens
    assert (now[present] != MASK).all()


@pytest.mark.parametrize("beside", ["nearest", "attended", "next", "oldest"])
@pytest.mark.parametrize("rule", ["scdm", "cached-joint"])
def test_what_matters_most_sees_most(rule: str, beside: str) -> None:
    """The ranks in the pass: candidates past all; the latents ranked first come last where they go inward."""
    spy, inward = Spy(model(rule)), BESIDE[beside].inward
    assert inward == (beside in ("nearest", "attended"))
    for step in decode(spy, prompts(), latents=3, candidates=2, latent_policy=BESIDE[beside]):
        layout = spy.passes[-1].layout
        for turn in range(len(step.rows)):
            ids = step.position[turn, step.real[turn]].tolist()
            rank = {
                int(p): int(o)
                for p, o, u in zip(*(f[turn] for f in (layout.position, layout.order, layout.unsaid)), strict=True)
                if u
            }
            held, rest = ids[: step.n_candidates], ids[step.n_candidates :]
            assert sorted(rest, key=rank.__getitem__) == (rest[::-1] if inward else rest)
            assert all(rank[c] > rank[p] for c in held for p in rest)


def check_first(found: list[int], among: list[int], key: Callable[[int], float]) -> None:
    """`found` are the first by `key`; equal but for rounding (policies count in float32) is equal."""
    expected = sorted(key(i) for i in among)[: len(found)]
    assert [key(i) for i in found] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"latent_policy": "uncertain"}, {"latent_policy": "certain"}, {"latent_policy": "oldest"}, {"order": "promising"}],
    ids=str,
)
def test_what_was_never_predicted_is_drawn_evenly(options: dict[str, Any]) -> None:
    """6,000 rows, 6 positions each; false alarm below 1 in 100,000 (see `test_decode`)."""
    tokens = torch.full((6000, 6), MASK)
    step = next(decode(Ignorant(MASK), tokens, latents=2, candidates=2, **options, generator=seeded(5)))
    even = torch.full((6,), 1 / 6, dtype=torch.float64)
    for drawn in (step.candidates, step.latents):
        assert chi_square_p(drawn.sum(0).double(), even) > 1e-5

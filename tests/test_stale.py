"""Stale latents: kept keys of unsaid tokens that are in no pass (float64, 1e-9).

Laws: where every latent is refreshed in every pass, or none is ever seen, they change nothing; a pass computes what is
fresh and nothing else; the cache holds the context and one key for each unsaid token, as it was last computed; a pass
sees those that are not in it, and no others; without a cache there are none.
"""

from functools import cache as remember
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import ragged_clean, seeded, tiny

from unspoken.decoders.decode import decode
from unspoken.decoders.step import Step
from unspoken.layout.attention import ATTENTIONS
from unspoken.layout.entries import Layout
from unspoken.model.cache import Cache
from unspoken.model.denoiser import Denoiser

MASK, SEQ = 6, 9
CACHEABLE = [name for name, rule in ATTENTIONS.items() if rule.cacheable]


@remember
def model(rule: str) -> Denoiser:
    return tiny(ATTENTIONS[rule], seed=1, positions=SEQ)


def prompts() -> Tensor:
    x0, given = ragged_clean((9, 5, 7, 1, 0), SEQ)
    return torch.where(given, x0, MASK)


def runs(rule: str, **options: Any) -> list[list[Step]]:
    """With stale latents and without."""
    return [list(decode(model(rule), prompts(), **options, stale=s, generator=seeded(1))) for s in (True, False)]


def difference(a: list[Step], b: list[Step]) -> float:
    """The largest of a probability at the candidates, step by step; the said tokens are equal too."""
    assert all(torch.equal(x.tokens, y.tokens) for x, y in zip(a, b, strict=True))
    return max(
        float((x.probability - y.probability)[x.real[:, : x.asked]].abs().max()) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("order", ["left_to_right", "confidence", "promising"])
@pytest.mark.parametrize("rule", CACHEABLE)
def test_beside_all_latents_none_is_stale(rule: str, order: str) -> None:
    """All are in every pass, so that no kept key is seen: under every attention that may be cached."""
    assert difference(*runs(rule, order=order, commit=2)) < 1e-9


@pytest.mark.parametrize(
    "options", [{"latents": 0}, {"latents": 2, "commit": 2}, {"latent_policy": "oldest", "latents": 2}]
)
def test_where_latents_are_alone_no_key_is_seen(options: dict[str, Any]) -> None:
    """Under `alone` nobody looks at a latent; the draws of a step are as many, however many are predicted."""
    assert difference(*runs("cached-alone", **options, candidates=2)) < 1e-9


@pytest.mark.parametrize("rule", ["cached-joint", "any-order"])
def test_stale_latents_are_seen(rule: str) -> None:
    """Beside fewer latents than all they tell something; left to right, so that both say the same position."""
    stale, plain = runs(rule, latents=0, order="left_to_right")
    assert torch.allclose(stale[1].probability, plain[1].probability, rtol=0, atol=0.5)
    assert not torch.allclose(stale[1].probability, plain[1].probability, rtol=0, atol=1e-3)


class Tamper:
    """Watches the cache of a model before each pass, and answers again with some of its keys changed.

    now: what is said, rows: which of them are in the pass, again: whether it only adds latents; set by the loop.
    newest: (row, position) -> the key of the first layer when it was last computed as a latent.
    moved: by how much the answers move where keys change that are not to be seen, and that are; and if there are any.
    """

    def __init__(self, inner: Denoiser, tokens: Tensor) -> None:
        self.inner, self.attention, self.mask_id, self.vocab_size = inner, inner.attention, MASK, MASK + 1
        self.now, self.rows, self.again, self.held = tokens, [0, 1, 2, 3], False, Cache()
        self.newest: dict[tuple[int, int], Tensor] = {}
        self.moved: list[tuple[float, float, bool]] = []

    def new_cache(self) -> Cache | None:
        return self.inner.new_cache()

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        assert cache is not None and at is not None
        changed, before = [], len(cache)
        if cache.layout is not None:
            latent, seen = cache.layout.block >= 0, cache.layout.unsaid
            absent = self.now[self.rows] == MASK  # unsaid and in no pass
            there = layout.unsaid.nonzero().unbind(1)
            absent[there[0], layout.position[there]] = False
            assert torch.equal(seen.sum(1), absent.sum(1))
            assert absent.gather(1, cache.layout.position)[seen].all()
            for turn, column in seen.nonzero().tolist():
                place = (self.rows[turn], int(cache.layout.position[turn, column]))
                assert torch.equal(first_layer(cache)[turn, :, column], self.newest[place])
            changed = [with_other_keys(cache, which) for which in (latent & ~seen, seen)]
            self.moved.append((0.0, 0.0, bool(seen.any())))
        logits = self.inner(layout, at, cache)
        if changed:
            asked = layout.unsaid.gather(1, at)
            gone, kept = ((self.inner(layout, at, c) - logits)[asked][:, :MASK].abs().max() for c in changed)
            self.moved[-1] = (float(gone), float(kept), self.moved[-1][2])
        if not self.again:
            self.held = cache
            for turn, entry in layout.unsaid.nonzero().tolist():
                key = first_layer(cache)[turn, :, before + entry].clone()
                self.newest[self.rows[turn], int(layout.position[turn, entry])] = key
        return logits


def first_layer(cache: Cache) -> Tensor:
    """Its keys, `[rows, heads, columns, width]`."""
    return cache.layers[0].keys


def with_other_keys(cache: Cache, where: Tensor) -> Cache:
    """A copy whose keys and values differ at the columns `where` `[rows, columns]`."""
    copy = cache.take(torch.arange(len(where)))
    for layer in copy.layers:
        noise = 5 * torch.randn(layer.keys.shape, generator=seeded(3), dtype=layer.keys.dtype) * where[:, None, :, None]
        layer.keys, layer.values = layer.keys + noise, layer.values + noise
    return copy


WAYS: list[dict[str, Any]] = [
    *({}, {"commit": 3, "entropy_bound": 1.0}, {"latent_policy": "oldest", "commit": 2}),
    {"min_confidence": 0.8},  # what is added in doubt leaves no key
]


@pytest.mark.parametrize("latents", [0, 2])
@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("rule", ["cached-joint", "any-order"])
@torch.no_grad()
def test_a_stale_key_is_the_last_and_seen_where_its_token_is_in_no_pass(
    rule: str, options: dict[str, Any], latents: int
) -> None:
    """And a pass computes what is fresh: what was said last, the candidates and the latents that are refreshed."""
    tokens = prompts()
    spy, fresh, context, cached = Tamper(model(rule), tokens), tokens != MASK, 0, 0
    for step in decode(spy, tokens, latents=latents, candidates=3, **options, stale=True, generator=seeded(1)):
        assert step.rows.tolist() == spy.rows
        unsaid, beside = ((part[step.rows]).sum(1) for part in (spy.now == MASK, step.candidates | step.latents))
        said = torch.zeros_like(beside) if spy.again else fresh[step.rows].sum(1)
        assert step.entries == int((said + beside).max()) and step.cached == cached
        fresh, spy.now = (fresh & spy.again) | step.committed, step.tokens
        if not spy.again:
            assert torch.equal(beside, unsaid.clamp_max(3 + latents) if step.index else unsaid)
            context, left = context + int(said.max()), int((spy.now == MASK)[step.rows].sum(1).max())
            assert len(spy.held) == first_layer(spy.held).shape[2] == context + left
            cached = context + left
        doubt = [row for row in spy.rows if not step.committed[row].any()]
        spy.rows, spy.again = doubt or (spy.now == MASK).any(1).nonzero()[:, 0].tolist(), bool(doubt)
    assert (spy.now != MASK).all() and any(there for _, _, there in spy.moved)
    for gone, kept, there in spy.moved:
        assert gone < 1e-9 and (kept > 1e-3) == there


@pytest.mark.parametrize(("rule", "cache"), [*[(rule, rule not in CACHEABLE) for rule in ATTENTIONS], ("mdm", False)])
def test_without_a_cache_there_are_none(rule: str, cache: bool) -> None:
    with pytest.raises(ValueError, match=r"stale latents of attention .*: their keys are kept in the cache"):
        decode(model(rule), prompts(), stale=True, cache=cache)

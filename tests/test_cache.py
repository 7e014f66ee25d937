"""A cache changes what is computed and nothing that is said (float64, 1e-9).

Laws: a context handed over in parts is the whole; cached = recomputed, for every attention with a cache, order, number
of latents and tokens a pass, for ragged prompts and rows, for real trunks with grouped queries; a batch is its rows; a
cache holds what was said before the pass, never a latent; entries, `cached` and `asked` of a step are what they are
said to be; where no cache is exact none is used.
"""

from collections.abc import Iterable, Iterator
from functools import cache as remember
from itertools import pairwise
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from toy import EXACT, Ignorant, Spy, ragged_clean, seeded, tiny

from unspoken.decoders.autoregressive import next_tokens, speculate
from unspoken.decoders.blocks import block_by_block
from unspoken.decoders.decode import decode
from unspoken.decoders.policies import ORDERS
from unspoken.decoders.step import Step, last
from unspoken.layout.attention import ANY_ORDER, ATTENTIONS
from unspoken.layout.entries import Layout, first_where
from unspoken.layout.packing import any_order, blocks, every_start
from unspoken.model.cache import Cache
from unspoken.model.denoiser import Denoiser

MASK = 6
CACHEABLE = [name for name, rule in ATTENTIONS.items() if rule.cacheable]
SMALL: dict[str, Any] = {
    "vocab_size": 7,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
}
GPT2: dict[str, Any] = {"vocab_size": 7, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
GPT2 |= {"initializer_range": 0.3, "bos_token_id": None, "eos_token_id": None}
TRUNKS = {
    "llama": (transformers.LlamaConfig, SMALL),
    "qwen3": (transformers.Qwen3Config, {**SMALL, "head_dim": 8}),
    "gpt2": (transformers.GPT2Config, GPT2),
}


@remember
def model(rule: str) -> Denoiser:
    return tiny(ATTENTIONS[rule], positions=7)


def prompts(free: tuple[int, ...] = (7, 5, 3, 1, 0)) -> Tensor:
    """One row without a prompt, one with nothing but."""
    x0, given = ragged_clean(free)
    return torch.where(given, x0, MASK)


def assert_same(runs: Iterable[Iterator[Step]], passes: int | None = None) -> None:
    """Step for step; and only the first of the two really has a cache."""
    steps, others = map(list, runs)
    assert len(steps) == len(others) and len(steps) == (passes or len(steps)) > 0
    for a, b in zip(steps, others, strict=True):
        for name in ("tokens", "committed", "candidates", "latents", "guess"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert torch.allclose(a.confidence, b.confidence, **EXACT)
        assert a.asked == b.asked
        assert b.cached == 0 and a.entries + a.cached >= b.entries
    assert len(steps) == 1 or steps[-1].cached > 0


@pytest.mark.parametrize("rule", CACHEABLE)
@torch.no_grad()
def test_a_context_in_parts_is_the_whole(rule: str) -> None:
    """Handed over by date, in two parts or token by token; with padding; and masks beside, which leave no trace."""
    x0, given = ragged_clean((6, 4, 1, 0))
    clean = any_order(x0, given, seeded())
    whole = blocks(clean, every_start(clean), torch.arange(3)[None], MASK, whole=True)
    logits = model(rule)(whole)
    expected = logits[whole.said | whole.unsaid]
    for cuts in ([0, 3, 7], [0, 1, 2, 3, 4, 5, 6, 7]):
        held, found = Cache(), torch.zeros_like(logits)
        for low, high in pairwise(cuts):
            context = whole.said & (whole.order >= low) & (whole.order < high)
            part = context | (whole.unsaid & (whole.horizon > low) & (whole.horizon <= high))
            index = first_where(part, int(part.sum(1).max()))
            layout = whole.without(~part).select(index)
            answers = model(rule)(layout, cache=held)
            held.keep(layout.without(layout.unsaid), int(context.sum(1).max()))
            place = torch.where(part.gather(1, index), index, logits.shape[1])
            found = torch.cat([found, found[:, :1]], 1)
            found = found.scatter(1, place[..., None].expand_as(answers), answers)[:, :-1]
        assert torch.allclose(found[whole.said | whole.unsaid], expected, **EXACT)


BESIDE = [(None, "uniform"), (0, "uniform"), (2, "uniform"), (2, "next")]


@pytest.mark.parametrize("commit", [1, 3])
@pytest.mark.parametrize(("latents", "beside"), BESIDE)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rule", CACHEABLE)
def test_cached_is_recomputed(rule: str, order: str, latents: int | None, beside: Any, commit: int) -> None:
    options: dict[str, Any] = {"order": order, "latents": latents, "latent_policy": beside, "commit": commit}
    tokens = prompts()
    runs = [decode(model(rule), tokens, **options, cache=c, generator=seeded(1)) for c in (True, False)]
    assert_same(runs, passes=7 if commit == 1 else 3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rule", CACHEABLE)
def test_cached_is_recomputed_in_every_other_way(rule: str, order: str) -> None:
    """A threshold says different numbers a row; tokens are drawn; latents are peeked at; rows are shorter."""
    tokens = prompts()
    present = torch.arange(7) < torch.tensor([[7], [6], [7], [3], [5]])
    ways: list[dict[str, Any]] = [
        {"commit": 4, "threshold": 0.5, "latents": 1},
        {"temperature": 1.0, "latents": 2, "predict_latents": True},
        {"present": present, "commit": 2, "candidates": 3, "latent_policy": "next"},
    ]
    for way in ways:
        assert_same(
            decode(model(rule), tokens, order=order, cache=c, generator=seeded(2), **way) for c in (True, False)
        )


@pytest.mark.parametrize("trunk", TRUNKS)
def test_cached_is_recomputed_by_every_trunk_and_decoder(trunk: str) -> None:
    make, fields = TRUNKS[trunk]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        real = Denoiser.from_config(make(**fields), attention=ANY_ORDER, mask_id=MASK, positions=7).double()
    tokens = prompts((6, 3, 1))
    for c in (tokens, tokens[:1]):
        assert_same(decode(real, c, latents=2, cache=k, generator=seeded()) for k in (True, False))
        assert_same(next_tokens(real, c, cache=k) for k in (True, False))
        assert_same(speculate(real, c, latents=3, drafts=2, cache=k) for k in (True, False))
        assert_same(block_by_block(real, c, size=4, commit=2, cache=k) for k in (True, False))


@pytest.mark.parametrize("latents", [None, 0, 2])
@pytest.mark.parametrize("rule", CACHEABLE)
def test_a_ragged_batch_is_its_rows_alone(rule: str, latents: int | None) -> None:
    tokens = prompts()
    options: dict[str, Any] = {"order": "left_to_right", "latent_policy": "next", "latents": latents}
    together = list(decode(model(rule), tokens, **options))
    for row in range(len(tokens)):
        rows = tokens[row : row + 1]
        steps = list(decode(model(rule), rows, **options))
        assert len(steps) == [7, 5, 3, 1, 0][row]
        for a, b in zip(steps, together, strict=False):
            assert torch.equal(a.tokens[0], b.tokens[row])
            assert torch.allclose(a.confidence[0], b.confidence[row], **EXACT)
        assert torch.equal(last(iter(together), tokens)[row], last(iter(steps), rows)[0])


DECODERS: dict[str, Any] = {
    "confidence": lambda m, t: decode(m, t, latents=2, commit=2),
    "threshold": lambda m, t: decode(m, t, latents=1, commit=3, threshold=0.5, order="left_to_right"),
    "all latents": lambda m, t: decode(m, t, order="uniform"),
    "next tokens": next_tokens,
    "speculation": lambda m, t: speculate(m, t, latents=3),
    "blocks": lambda m, t: block_by_block(m, t, size=3),
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_cache_holds_what_was_said_and_never_a_latent(name: str) -> None:
    """Row by row and key by key; the order in which it was said too."""
    spy = Spy(model("cached-joint"))
    tokens = prompts((6, 4, 2, 1))
    now, passes = tokens, 0
    for step in DECODERS[name](spy, tokens):
        held, passes = spy.cache.layout, passes + 1
        assert isinstance(held, Layout)
        # The keys of each layer are as many as the entries that the cache says it holds.
        layers = spy.cache.layers
        assert len(layers) == 2
        assert all(layer.keys.shape[2] == layer.values.shape[2] == len(spy.cache) for layer in layers)
        assert not held.unsaid.any()
        for turn, row in enumerate(step.rows.tolist()):
            there = held.said[turn]
            where = held.position[turn, there].tolist()
            assert len(set(where)) == len(where)
            known = {i for i in range(7) if step.tokens[row, i] != MASK}
            before = {i for i in range(7) if now[row, i] != MASK}
            assert set(where) <= known and torch.equal(held.token[turn, there], step.tokens[row, where])
            if name in ("confidence", "threshold", "all latents"):
                assert len(before) < 7 and set(where) == before
        now = step.tokens
    assert passes > 1 and (now != MASK).all()


@pytest.mark.parametrize("peek", [False, True])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("commit", [1, 2])
@pytest.mark.parametrize("latents", [None, 0, 2])
def test_entries_of_a_pass(latents: int | None, commit: int, cached: bool, peek: bool) -> None:
    """With a cache: those newly said, the latents and the candidates, and nothing else. The fullest row counts."""
    for tokens in (prompts(), prompts((6,))):
        spy = Spy(Ignorant(MASK, ANY_ORDER))
        now, new = tokens, tokens != MASK  # what is said and not yet in the cache
        held = 0
        steps = decode(spy, tokens, latents=latents, commit=commit, candidates=3, cache=cached, predict_latents=peek)
        for step in steps:
            layout, going = spy.passes[-1].layout, (now == MASK).any(1)  # rows that are done are in no pass
            beside, fresh = (step.candidates | step.latents).sum(1)[going], new.sum(1)[going]
            assert torch.equal(step.rows, going.nonzero()[:, 0])
            if cached:
                assert step.entries == int((fresh + beside).max())
                assert step.cached == held
                held += int(fresh.max())
                assert len(spy.cache) == held
                assert torch.equal(layout.said.sum(1), fresh)
            else:
                context = (now != MASK).sum(1)[going]
                assert step.entries == int((context + beside).max())
                assert step.cached == 0
                assert torch.equal(layout.said.sum(1), context)
            assert torch.equal(layout.unsaid.sum(1), beside)
            assert layout.shape[1] == step.entries
            asked = step.candidates | step.latents if peek else step.candidates
            assert step.asked == int(asked.sum(1).max())
            assert torch.equal(step.confidence > 0, asked)
            new, now = step.committed, step.tokens
        assert (now != MASK).all()


@pytest.mark.parametrize("rule", [r for r in ATTENTIONS if r not in CACHEABLE])
def test_no_cache_where_none_is_exact(rule: str) -> None:
    """`cache=True` silently recomputes: a bidirectional context changes as tokens are said."""
    assert model(rule).new_cache() is None
    tokens = prompts()
    runs = [list(decode(model(rule), tokens, latents=2, cache=c, generator=seeded())) for c in (True, False)]
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a.tokens, b.tokens) and torch.equal(a.confidence, b.confidence)
        assert a.cached == b.cached == 0 and a.entries == b.entries


@torch.no_grad()
def test_a_cache_under_a_bidirectional_context_would_lie() -> None:
    """The refusal is needed: with a cache forced upon it, SCDM says other probabilities."""
    spy = Spy(model("scdm"))
    tokens = prompts((6, 5))
    honest = list(decode(model("scdm"), tokens, order="left_to_right", latents=0))
    spy.new_cache = Cache
    forced = list(decode(spy, tokens, order="left_to_right", latents=0))
    assert forced[-1].cached > 0
    assert max(float((a.confidence - b.confidence).abs().max()) for a, b in zip(honest, forced, strict=True)) > 1e-3


@torch.no_grad()
def test_an_empty_cache_is_none() -> None:
    held = Cache()
    layout = blocks(any_order(*ragged_clean(), seeded()), torch.zeros(4, 1).long(), torch.arange(2)[None], MASK)
    assert len(held) == 0 and held.before(layout) is layout
    assert torch.equal(model("any-order")(layout, cache=held), model("any-order")(layout))

"""Decoding: a generator that yields one `Step` for every forward pass.

A pass holds the context (all that is said, or with a cache what was said last), unsaid tokens that are predicted but
not said (the latents), and the candidates, of which the best are said. Everything else is left out of it: fewer
latents are a smaller pass, and rows that are done are in none. Counts are known ahead wherever no confidence decides,
so that no step has to ask the device.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unspoken.decoders.passes import Rules, look_on, plan_of
from unspoken.decoders.policies import CONFIDENCE, UNIFORM_LATENTS, Commit, Latents, Order, latents_named, order_named
from unspoken.decoders.rows import Rows, begin
from unspoken.decoders.step import Step
from unspoken.model.cache import Cache
from unspoken.model.denoiser import Model

CANDIDATES = 8  # the paper's `topk_candidate_min`


def decode(
    model: Model,
    tokens: Tensor,
    *,
    latents: int | None = None,
    candidates: int | None = None,
    commit: int | Sequence[int] = 1,
    threshold: float = 0.0,
    entropy: float = math.inf,
    order: Order | str = CONFIDENCE,
    beside: Latents | str = UNIFORM_LATENTS,
    widen: float = 0.0,
    stale: bool = False,
    wait: bool = False,
    split: float = 0.0,
    temperature: float = 0.0,
    present: Tensor | None = None,
    cache: bool = True,
    peek: bool = False,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """Says every unsaid token of `tokens`, `commit` of them a step, and yields each step (lazily: a pass a `next`).

    Prompts and infilling are one thing: what is not the mask is given and never changes. Rows may hold different
    numbers of unsaid tokens; rows that are done leave the batch.

    model: a `Denoiser`.
    tokens: `[batch, seq]` int64, the model's mask id where unsaid.
    latents: unsaid tokens beside the candidates in a pass; None = all there are.
    candidates: from how many the best is chosen, the first by `order`; None = 8 (the paper's number) or `commit` if
        larger. They come before the latents where there are not enough unsaid tokens for both. Blind orders
        (uniform, left_to_right) take `commit`.
    commit: tokens said a step and row, at most; or so many in the first step, in the second, ... (the last number from
        then on), as `InformationProfile.schedule` plans them.
    threshold: of those, the best is said in any case, and the following ones as long as the likeliest token of each has
        at least this probability; 0 says them all. Under left_to_right this is the confident prefix.
    entropy: of those, the best is said in any case, and the following ones as long as the entropies of the ones before
        sum to at most this, in nats (EB-sampler, arXiv 2505.24857).
    order: `uniform`, `left_to_right`, `confidence`, `margin`, `entropy`, `promising` (candidates are those that were
        surest when last predicted), or an `Order`.
    beside: which unsaid tokens the latents are: `uniform`, drawn at random anew each step; `next`, those which the
        order would say next; `nearest`, `uncertain`, `certain`, `oldest`; or a `Latents`, such as `attended(relation)`.
    widen: above 0, `latents` are only where a step begins: rows whose best candidate is less probable than this are
        predicted again with twice as many, until it is probable enough, the same twice in a row, or beside all. inf
        goes on to all.
    stale: beside a cache, keep the latents' keys too: all are predicted in the first pass, and from then on those that
        are in no pass are still seen, as they were in the last step (its first pass, when it widens) that predicted
        them. `latents` is how many are refreshed a pass.
    wait: rows that are done stay in the passes until all are, as in most codes. Greedy and without random choices
        nothing but cost changes.
    split: above 0, rows that need fewer entries than others get passes of their own from then on, where that saves
        this share of the entries: fewer FLOPs, more calls. Nothing else changes, as with `wait`.
    temperature: 0 says the likeliest token; above 0 the token is drawn from softmax(logits / temperature).
    present: `[batch, seq]` bool (or 0 and 1), False past the end of short rows; those are in no pass.
    cache: keep the keys and values of the context where the model can (`Attention.cacheable`): exact, and less work.
    peek: run the head on the latents too, to see what they hold (`Step.guess`).
    generator: every random choice; None = a fresh one of seed 0.
    Raises ValueError on tokens outside the vocabulary, wrong shapes, and counts that make no sense.
    """
    order, beside = order_named(order), latents_named(beside)
    sizes = list(commit) if isinstance(commit, Sequence) else [commit]
    candidates = max(CANDIDATES, *sizes) if candidates is None else candidates
    check_tokens(model, tokens, present)
    if not sizes:
        raise ValueError("commit=() says nothing; give one number or more")
    for size in sizes:
        _check_counts(latents, candidates, size, temperature)
    if len(sizes) > 1 and (threshold or entropy < math.inf or widen or split or stale):
        raise ValueError(
            f"commit={tuple(sizes)} says how many in each step, and so do threshold, entropy, widen, split and stale "
            "latents; take one or the other"
        )
    if not (0 <= widen <= 1 or widen == math.inf):
        raise ValueError(
            f"widen={widen}; give a probability, 0 to keep to the number of latents, inf to end beside all"
        )
    if not 0 <= split < 1 or (split and wait):
        raise ValueError(f"split={split}, wait={wait}: give a share in [0, 1), and not both")
    if stale and not (cache and model.attention.cacheable):
        raise ValueError(
            f"stale latents of attention {model.attention.name}, cache={cache}: their keys are kept in the cache; take "
            "cached-joint or any-order, with cache=True"
        )
    if latents is not None and latents > tokens.shape[1]:
        warnings.warn(f"{latents} latents asked of {tokens.shape[1]} positions: all are taken", stacklevel=2)
    rules = Rules(
        latents=tokens.shape[1] if latents is None else latents,
        candidates=candidates if order.after else sizes[0],
        commit=Commit(sizes[0], threshold, entropy),
        order=order,
        beside=beside,
        widen=widen,
        stale=stale,
        wait=wait,
        split=split,
        temperature=temperature,
        peek=peek or beside.needs_entropy or order.needs_entropy,
        generator=torch.Generator().manual_seed(0) if generator is None else generator,
    )
    present = torch.ones_like(tokens, dtype=torch.bool) if present is None else present.bool()
    return _steps(model, tokens.clone(), present, rules, sizes, model.new_cache() if cache else None)


@torch.no_grad()
def _steps(
    model: Model, tokens: Tensor, present: Tensor, rules: Rules, sizes: Sequence[int], held: Cache | None
) -> Iterator[Step]:
    """The loop of `decode`, whose arguments are checked and complete."""
    passes, groups = 0, [(begin(tokens, (tokens == model.mask_id) & present, present), held)]
    while groups:
        rows, held = groups.pop()
        going = rows.left > 0
        if not bool(going.any()):
            continue
        if not (rules.wait or bool(going.all())):
            rows, held = _part(rows, held, going)
        if rules.split and (few := _apart(rows, rules, held is not None)) is not None:
            groups += [_part(rows, held, ~few), _part(rows, held, few)]
            continue
        rows.narrow()
        its = replace(rules, latents=tokens.shape[1]) if rules.stale and held is not None and not len(held) else rules
        if len(sizes) > 1:  # a pass is a step, and all rows are in it
            size = sizes[min(passes, len(sizes) - 1)]
            its = replace(its, commit=Commit(size), candidates=its.candidates if its.order.after else size)
        for index, seen, now in look_on(model, rows, plan_of(rows, its), held, its):
            if len(rows.index) == len(tokens):
                tokens = rows.tokens[:, :-1].clone()
            else:
                tokens = tokens.index_copy(0, rows.index, rows.tokens[:, :-1])
            yield Step(
                index=passes,
                tokens=tokens,
                rows=index,
                position=seen.plan.position,
                real=seen.plan.real,
                held=seen.plan.candidates,
                said=seen.said,
                chosen=now,
                likeliest=seen.likeliest,
                probability=seen.probability,
                entries=seen.layout.shape[1],
                cached=seen.cached,
                asked=seen.likeliest.shape[1],
                mask_id=model.mask_id,
            )
            passes += 1
        groups.append((rows, held))


def _part(rows: Rows, held: Cache | None, which: Tensor) -> tuple[Rows, Cache | None]:
    """The rows where `which` `[r]` (on the CPU), and what is held of them."""
    at = which.nonzero()[:, 0]
    return rows.take(at), None if held is None else held.take(at)


def _apart(rows: Rows, rules: Rules, cached: bool) -> Tensor | None:
    """`[r]` bool: the rows that need few entries, where passes of their own save at least a share of `rules.split`."""
    context = rows.news if cached else rows.length - rows.left
    needs = context + rows.left.clamp_max(rules.candidates + rules.latents)
    width, n = needs.sort().values, len(needs)
    together, apart = n * int(width[-1]), torch.arange(1, n) * width[:-1] + torch.arange(n - 1, 0, -1) * width[-1]
    if n == 1 or together - int(apart.min()) < rules.split * together:
        return None
    return needs <= width[int(apart.argmin())]


def check_tokens(model: Model, tokens: Tensor, present: Tensor | None = None) -> None:
    """Raises ValueError for what can not be decoded."""
    if tokens.dim() != 2 or tokens.dtype != torch.int64:
        raise ValueError(f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}; give int64 [batch, seq]")
    if present is not None and present.shape != tokens.shape:
        raise ValueError(f"present has shape {tuple(present.shape)}, tokens {tuple(tokens.shape)}; make them equal")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < model.vocab_size:
        raise ValueError(
            f"token ids run from {int(tokens.min())} to {int(tokens.max())}, the model's vocabulary from 0 to "
            f"{model.vocab_size - 1}: was the model trained on another task?"
        )


def _check_counts(latents: int | None, candidates: int, commit: int, temperature: float) -> None:
    if latents is not None and (type(latents) is not int or latents < 0):
        raise ValueError(f"latents={latents}; give a whole number of 0 or more, or None for all")
    if type(candidates) is not int or type(commit) is not int:
        raise ValueError(f"candidates={candidates}, commit={commit}; give whole numbers")
    if not 1 <= commit <= candidates:
        raise ValueError(f"commit={commit} of candidates={candidates}; need 1 <= commit <= candidates")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature}; give 0 for the likeliest token, or more to sample")

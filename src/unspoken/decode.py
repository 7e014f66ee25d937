"""Decoding: a generator that yields one `Step` for every forward pass.

A pass holds the context (all that is said, or with a cache what was said last), `latents` unsaid tokens that are
predicted but not said, and the candidates, of which the best are said. Everything else is left out of it: fewer latents
are a smaller pass.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from unspoken.denoiser import Model
from unspoken.layout import Layout, first_where, one_block, rank_of
from unspoken.policies import CONFIDENCE, Beside, Order, latent_ranks, order_named

CANDIDATES = 8  # the paper's `topk_candidate_min`


@dataclass(frozen=True)
class Step:
    """What one forward pass did.

    tokens: `[batch, seq]` after the step, the mask id where still unsaid.
    committed: `[batch, seq]` bool, said in this step.
    candidates, latents: `[batch, seq]` bool, the unsaid positions in the pass; candidates hold the committed ones.
    guess, confidence: `[batch, seq]`, the likeliest token and its probability where the head ran (the candidates;
        the latents too when peeking); elsewhere the mask id and 0.
    entries: how many entries the pass held a row: the width that was computed, padding of short rows included.
    cached: how many entries of context a row were seen from the cache.
    asked: at how many entries a row the head ran.
    """

    index: int
    tokens: Tensor
    committed: Tensor
    candidates: Tensor
    latents: Tensor
    guess: Tensor
    confidence: Tensor
    entries: int
    cached: int
    asked: int

    def __str__(self) -> str:
        said, seen = int(self.committed.sum()), int(self.latents.sum())
        return f"step {self.index}: {said} said beside {seen} latents, {self.entries} entries a row"


def decode(
    model: Model,
    tokens: Tensor,
    *,
    latents: int | None = None,
    candidates: int | None = None,
    commit: int = 1,
    threshold: float = 0.0,
    order: Order | str = CONFIDENCE,
    beside: Beside = "uniform",
    temperature: float = 0.0,
    present: Tensor | None = None,
    cache: bool = True,
    peek: bool = False,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """Says every unsaid token of `tokens`, `commit` of them a step, and yields each step (lazily: a pass a `next`).

    Prompts and infilling are one thing: what is not the mask is given and never changes. Rows may hold different
    numbers of unsaid tokens; rows that are done wait for the others.

    model: a `Denoiser`.
    tokens: `[batch, seq]` int64, the model's mask id where unsaid.
    latents: unsaid tokens beside the candidates in a pass; None = all there are.
    candidates: from how many the best is chosen, the first by `order`; None = 8 (the paper's number) or `commit` if
        larger. They come before the latents where there are not enough unsaid tokens for both. Blind orders
        (uniform, left_to_right) take `commit`.
    commit: tokens said a step and row, at most.
    threshold: of those, the best is said in any case, and the following ones as long as the likeliest token of each has
        at least this probability; 0 says them all. Under left_to_right this is the confident prefix.
    order: `uniform`, `left_to_right`, `confidence`, `margin`, `entropy`, or an `Order`.
    beside: which unsaid tokens the latents are: `uniform`, drawn at random anew each step; `next`, those which the
        order would say next.
    temperature: 0 says the likeliest token; above 0 the token is drawn from softmax(logits / temperature).
    present: `[batch, seq]` bool (or 0 and 1), False past the end of short rows; those are in no pass.
    cache: keep the keys and values of the context where the model can (`Attention.cacheable`): exact, and less work.
    peek: run the head on the latents too, to see what they hold (`Step.guess`).
    generator: every random choice; None = a fresh one of seed 0.
    Raises ValueError on tokens outside the vocabulary, wrong shapes, and counts that make no sense.
    """
    order = order_named(order)
    candidates = max(CANDIDATES, commit) if candidates is None else candidates
    check_tokens(model, tokens, present)
    _check_counts(latents, candidates, commit, threshold, temperature)
    if beside not in get_args(Beside):
        raise ValueError(f"beside={beside!r}; give one of {', '.join(get_args(Beside))}")
    if order.after is None:
        candidates = commit
    if latents is not None and latents > tokens.shape[1]:
        warnings.warn(f"{latents} latents asked of {tokens.shape[1]} positions: all are taken", stacklevel=2)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    present = torch.ones_like(tokens, dtype=torch.bool) if present is None else present.bool()
    rules = _Rules(tokens.shape[1] if latents is None else latents, candidates, commit, threshold, order, beside)
    return _steps(model, tokens, present, rules, temperature, cache, peek, generator)


@dataclass(frozen=True)
class _Rules:
    """The counts and policies of a decoding, complete."""

    latents: int
    candidates: int
    commit: int
    threshold: float
    order: Order
    beside: Beside


@dataclass(frozen=True)
class _Plan:
    """What a step will compute, `[batch, seq]` each: who is in the pass, ranks in the block, turns in the order."""

    candidates: Tensor
    latents: Tensor
    rank: Tensor
    turn: Tensor


@torch.no_grad()
def _steps(
    model: Model,
    tokens: Tensor,
    present: Tensor,
    rules: _Rules,
    temperature: float,
    cache: bool,
    peek: bool,
    generator: torch.Generator,
) -> Iterator[Step]:
    """The loop of `decode`, whose arguments are checked and complete."""
    tokens, said_at = tokens.clone(), torch.zeros_like(tokens)
    held = model.new_cache() if cache else None
    fresh = present & (tokens != model.mask_id)  # context that the next pass computes
    # Counts a row are known ahead, so that no step has to ask the device, unless a threshold decides.
    left, said = ((tokens == model.mask_id) & present).sum(1).cpu(), fresh.sum(1).cpu()
    index = 0
    while int(max(left.tolist(), default=0)):
        unsaid = (tokens == model.mask_id) & present
        plan = _plan(unsaid, rules, generator)
        best = left.clamp_max(rules.candidates)
        more = (left - best).clamp_max(rules.latents)
        whole = one_block(tokens, unsaid, torch.where(unsaid, plan.rank, said_at))
        parts = [(fresh, said), (plan.candidates | plan.latents, best + more)]
        layout = _pass(whole, parts if held is not None else [(fresh | parts[1][0], said + best + more)])
        asked = plan.candidates | plan.latents if peek else plan.candidates
        there = asked.gather(1, layout.position) & layout.unsaid
        at = first_where(there, int((best + more if peek else best).max()))
        position, real = layout.position.gather(1, at), there.gather(1, at)
        cached = 0 if held is None else len(held)
        logits = model(layout, at, held)
        turn = _turns(logits, plan.candidates.gather(1, position) & real, plan.turn.gather(1, position), rules)
        chosen = turn < rules.commit
        word = torch.where(chosen, _draw(logits, temperature, generator), tokens.gather(1, position))
        if held is not None:
            held.keep(layout, int(said.max()))
        tokens = put(tokens, position, word, real)
        committed = put(torch.zeros_like(unsaid), position, chosen, real)
        turns = put(torch.zeros_like(tokens), position, turn, real)
        order = said_at.amax(1, keepdim=True) + 1 + turns
        said_at = torch.where(committed, order, said_at)
        confidence, guess = logits.softmax(-1).max(-1)
        yield Step(
            index=index,
            tokens=tokens,
            committed=committed,
            candidates=plan.candidates,
            latents=plan.latents,
            guess=put(torch.full_like(tokens, model.mask_id), position, guess, real),
            confidence=put(confidence.new_zeros(tokens.shape), position, confidence, real),
            entries=layout.shape[1],
            cached=cached,
            asked=at.shape[1],
        )
        done = committed.sum(1).cpu() if rules.threshold > 0 else left.clamp_max(rules.commit)
        left, index = left - done, index + 1
        on = left > 0  # a row that is done need not be looked at again
        fresh, said = (committed, done * on) if held is not None else (fresh | committed, said + done)


def last(steps: Iterator[Step], tokens: Tensor) -> Tensor:
    """The tokens `[batch, seq]` after the last step, or `tokens` where there was nothing to say."""
    for step in steps:
        tokens = step.tokens
    return tokens


def _plan(unsaid: Tensor, rules: _Rules, generator: torch.Generator) -> _Plan:
    """Draws a step's candidates, then its latents among the rest."""
    turn = rank_of(rules.order.before(unsaid, generator), unsaid)
    chosen = unsaid & (turn < rules.candidates)
    rest = unsaid & ~chosen
    rank = latent_ranks(rules.beside, rest, turn - rules.candidates, generator)
    # Candidates share one rank past every latent's: under `ordered` each sees the latents and no other candidate.
    return _Plan(chosen, rest & (rank < rules.latents), torch.where(rest, rank, unsaid.shape[1]), turn)


def _pass(whole: Layout, parts: list[tuple[Tensor, Tensor]]) -> Layout:
    """The entries of a pass, part by part; the rest of `whole` is left out.

    parts: which entries `[batch, seq]`, and how many of them each row has, `[batch]` on the CPU.
    """
    selected = [whole.without(~keep).select(first_where(keep, int(count.max()))) for keep, count in parts]
    return selected[0] if len(selected) == 1 else selected[0].join(selected[1])


def _turns(logits: Tensor, candidate: Tensor, turn: Tensor, rules: _Rules) -> Tensor:
    """`[batch, m]`: in which turn each candidate is said: 0, 1, ... from the best on; late for what must wait.

    turn: its place in the order before the pass, by which blind orders go.
    """
    logp = logits.log_softmax(-1)
    score = -turn.double() if rules.order.after is None else rules.order.after(logp)
    late = candidate.shape[1] + rules.commit
    turns = torch.where(candidate, rank_of(-score, candidate), late)
    if rules.threshold > 0:
        doubtful = candidate & (turns > 0) & (logp.amax(-1).exp() < rules.threshold)
        first = torch.where(doubtful, turns, late).amin(1, keepdim=True)
        turns = torch.where(turns < first, turns, late)
    return turns


def put(into: Tensor, position: Tensor, values: Tensor, real: Tensor) -> Tensor:
    """`into` `[batch, seq]` with `values` `[batch, m]` at `position` `[batch, m]` where `real` `[batch, m]`."""
    # What is not real goes to a column past the end: it may share a position with what is.
    wide = torch.cat([into, into[:, :1]], dim=1)
    index = torch.where(real, position, into.shape[1])
    return wide.scatter(1, index, values.to(into.dtype))[:, :-1]


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """`[batch, m]` token ids: the likeliest, or a draw from softmax(logits / temperature)."""
    if temperature == 0:
        return logits.argmax(-1)
    noise = torch.empty(logits.shape, device=generator.device).exponential_(generator=generator)
    # Less the maximum first: a small temperature would carry the logits past what floats hold.
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature
    return (scaled.softmax(-1) / noise.to(logits.device)).argmax(-1)


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


def _check_counts(latents: int | None, candidates: int, commit: int, threshold: float, temperature: float) -> None:
    if latents is not None and (not isinstance(latents, int) or latents < 0):
        raise ValueError(f"latents={latents}; give a whole number of 0 or more, or None for all")
    if not 1 <= commit <= candidates:
        raise ValueError(f"commit={commit} of candidates={candidates}; need 1 <= commit <= candidates")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold}; give a probability, 0 to say `commit` tokens in any case")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature}; give 0 for the likeliest token, or more to sample")

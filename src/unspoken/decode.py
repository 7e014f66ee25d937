"""Decoding: a generator that yields one `Step` for every forward pass.

A pass holds the context (all that is said), `latents` unsaid tokens that are predicted but not said, and the
candidates, of which the best are said. Everything else is left out of it: fewer latents are a smaller pass.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.denoiser import Model
from unspoken.layout import Layout, draw_ranks, first_where, one_block, rank_of
from unspoken.policies import CONFIDENCE, Order, order_named

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
    """

    index: int
    tokens: Tensor
    committed: Tensor
    candidates: Tensor
    latents: Tensor
    guess: Tensor
    confidence: Tensor
    entries: int

    def __str__(self) -> str:
        said, seen = int(self.committed.sum()), int(self.latents.sum())
        return f"step {self.index}: {said} said beside {seen} latents, {self.entries} entries a row"


@dataclass(frozen=True)
class _Plan:
    """What a step will compute, `[batch, seq]` each: candidates, latents, and their ranks in the block."""

    candidates: Tensor
    latents: Tensor
    rank: Tensor


def decode(
    model: Model,
    tokens: Tensor,
    *,
    latents: int | None = None,
    candidates: int | None = None,
    commit: int = 1,
    order: Order | str = CONFIDENCE,
    temperature: float = 0.0,
    present: Tensor | None = None,
    peek: bool = False,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """Says every unsaid token of `tokens`, `commit` of them a step, and yields each step (lazily: a pass a `next`).

    Prompts and infilling are one thing: what is not the mask is given and never changes. Rows may hold different
    numbers of unsaid tokens; rows that are done wait for the others.

    model: a `Denoiser`.
    tokens: `[batch, seq]` int64, the model's mask id where unsaid.
    latents: unsaid tokens beside the candidates in a pass, drawn at random anew each step; None = all there are.
    candidates: from how many the best is chosen, drawn at random; None = 8 (the paper's number) or `commit` if
        larger. They come before the latents where there are not enough unsaid tokens for both. Blind orders
        (uniform, left_to_right) take `commit`.
    commit: tokens said a step and row.
    order: `uniform`, `left_to_right`, `confidence`, `margin`, `entropy`, or an `Order`.
    temperature: 0 says the likeliest token; above 0 the token is drawn from softmax(logits / temperature).
    present: `[batch, seq]` bool (or 0 and 1), False past the end of short rows; those are in no pass.
    peek: run the head on the latents too, to see what they hold (`Step.guess`).
    generator: every random choice; None = a fresh one of seed 0.
    Raises ValueError on tokens outside the vocabulary, wrong shapes, and counts that make no sense.
    """
    order = order_named(order)
    candidates = max(CANDIDATES, commit) if candidates is None else candidates
    _check(model, tokens, present, latents, candidates, commit, temperature)
    if order.after is None:
        candidates = commit
    if latents is not None and latents > tokens.shape[1]:
        warnings.warn(f"{latents} latents asked of {tokens.shape[1]} positions: all are taken", stacklevel=2)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    present = torch.ones_like(tokens, dtype=torch.bool) if present is None else present.bool()
    most = tokens.shape[1] if latents is None else latents

    return _steps(model, tokens, present, most, candidates, commit, order, temperature, peek, generator)


@torch.no_grad()
def _steps(
    model: Model,
    tokens: Tensor,
    present: Tensor,
    latents: int,
    candidates: int,
    commit: int,
    order: Order,
    temperature: float,
    peek: bool,
    generator: torch.Generator,
) -> Iterator[Step]:
    """The loop of `decode`, whose arguments are checked and complete."""
    tokens, said_at = tokens.clone(), torch.zeros_like(tokens)
    left = ((tokens == model.mask_id) & present).sum(1).cpu()  # known ahead: no step has to ask the device
    length = present.sum(1).cpu()
    for index in range(-(-max(left.tolist(), default=0) // commit)):
        unsaid = (tokens == model.mask_id) & present
        plan = _plan(unsaid, order, candidates, latents, generator)
        held = left.clamp_max(candidates)
        beside = (left - held).clamp_max(latents)
        width = int((length - left + beside + held).max())
        layout = _pass(tokens, unsaid, present, said_at, plan, width)
        asked = plan.candidates | plan.latents if peek else plan.candidates
        at = first_where(asked.gather(1, layout.position), int((beside + held if peek else held).max()))
        position = layout.position.gather(1, at)
        logits = model(layout, at)
        chosen = _choose(logits, plan.candidates.gather(1, position), order, commit)
        said = torch.where(chosen, _draw(logits, temperature, generator), tokens.gather(1, position))
        tokens = tokens.scatter(1, position, said)
        committed = torch.zeros_like(unsaid).scatter(1, position, chosen)
        said_at = torch.where(committed, index + 1, said_at)
        confidence, guess = logits.softmax(-1).max(-1)
        real = asked.gather(1, position)
        yield Step(
            index=index,
            tokens=tokens,
            committed=committed,
            candidates=plan.candidates,
            latents=plan.latents,
            guess=torch.full_like(tokens, model.mask_id).scatter(1, position, torch.where(real, guess, model.mask_id)),
            confidence=confidence.new_zeros(tokens.shape).scatter(1, position, confidence * real),
            entries=width,
        )
        left = (left - commit).clamp_min(0)


def last(steps: Iterator[Step], tokens: Tensor) -> Tensor:
    """The tokens `[batch, seq]` after the last step, or `tokens` where there was nothing to say."""
    for step in steps:
        tokens = step.tokens
    return tokens


def _plan(unsaid: Tensor, order: Order, candidates: int, latents: int, generator: torch.Generator) -> _Plan:
    """Draws a step's candidates, then its latents among the rest."""
    chosen = unsaid & (rank_of(order.before(unsaid, generator), unsaid) < candidates)
    rest = unsaid & ~chosen
    rank = draw_ranks(rest, generator)
    # Candidates share one rank past every latent's: under `ordered` each sees the latents and no other candidate.
    return _Plan(chosen, rest & (rank < latents), torch.where(rest, rank, unsaid.shape[1]))


def _pass(tokens: Tensor, unsaid: Tensor, present: Tensor, said_at: Tensor, plan: _Plan, width: int) -> Layout:
    """The entries of a pass, `[batch, width]`: context, latents and candidates; the rest is left out."""
    held = present & (~unsaid | plan.candidates | plan.latents)
    whole = one_block(tokens, unsaid, torch.where(unsaid, plan.rank, said_at), held)
    return whole.select(first_where(held, width))


def _choose(logits: Tensor, candidate: Tensor, order: Order, commit: int) -> Tensor:
    """`[batch, m]` bool: the candidates to commit, the best by the order's score."""
    if order.after is None:
        return candidate
    score = order.after(logits.log_softmax(-1))
    return candidate & (rank_of(-score, candidate) < commit)


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """`[batch, m]` token ids: the likeliest, or a draw from softmax(logits / temperature)."""
    if temperature == 0:
        return logits.argmax(-1)
    noise = torch.empty(logits.shape, device=generator.device).exponential_(generator=generator)
    # Less the maximum first: a small temperature would carry the logits past what floats hold.
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature
    return (scaled.softmax(-1) / noise.to(logits.device)).argmax(-1)


def _check(
    model: Model,
    tokens: Tensor,
    present: Tensor | None,
    latents: int | None,
    candidates: int,
    commit: int,
    temperature: float,
) -> None:
    if tokens.dim() != 2 or tokens.dtype != torch.int64:
        raise ValueError(f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}; give int64 [batch, seq]")
    if present is not None and present.shape != tokens.shape:
        raise ValueError(f"present has shape {tuple(present.shape)}, tokens {tuple(tokens.shape)}; make them equal")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < model.vocab_size:
        raise ValueError(
            f"token ids run from {int(tokens.min())} to {int(tokens.max())}, the model's vocabulary from 0 to "
            f"{model.vocab_size - 1}: was the model trained on another task?"
        )
    if latents is not None and (not isinstance(latents, int) or latents < 0):
        raise ValueError(f"latents={latents}; give a whole number of 0 or more, or None for all")
    if not 1 <= commit <= candidates:
        raise ValueError(f"commit={commit} of candidates={candidates}; need 1 <= commit <= candidates")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature}; give 0 for the likeliest token, or more to sample")

"""Decoding: a generator that yields one `Step` for every forward pass.

A pass holds the context (all that is said, or with a cache what was said last), unsaid tokens that are predicted but not
said (the latents), and the candidates, of which the best are said. Everything else is left out of it: fewer latents are a
smaller pass, and rows that are done are in none. Counts are known ahead wherever no confidence decides, so that no step
has to ask the device.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from unspoken.cache import Cache
from unspoken.denoiser import Model
from unspoken.layout import FOREVER, PADDING, Layout
from unspoken.policies import (
    CONFIDENCE,
    NEXT,
    UNIFORM_LATENTS,
    Around,
    Commit,
    Latents,
    Order,
    at_random,
    entropy_of,
    latents_named,
    order_named,
)

CANDIDATES = 8  # the paper's `topk_candidate_min`


@dataclass(frozen=True)
class Step:
    """What one forward pass did, for its r rows of the batch: those that are done are in no pass.

    tokens: `[batch, seq]` after the step, the mask id where still unsaid.
    rows: `[r]` the rows of the batch in the pass.
    position: `[r, m]` the unsaid positions in the pass, the candidates first; `real` `[r, m]` False for filling.
    held: how many of those m are candidates.
    said: `[r, k]` the positions said in this step, the best first, where `chosen` `[r, k]`.
    likeliest, probability: `[r, asked]` at the first `asked` of `position`: what the network would say there.
    entries: how many entries the pass held a row: the width that was computed, padding of short rows included.
    cached: how many entries of context a row were seen from the cache.
    asked: at how many entries a row the head ran: the candidates; the latents too when peeking.
    """

    index: int
    tokens: Tensor
    rows: Tensor
    position: Tensor
    real: Tensor
    held: int
    said: Tensor
    chosen: Tensor
    likeliest: Tensor
    probability: Tensor
    entries: int
    cached: int
    asked: int
    mask_id: int

    @cached_property
    def committed(self) -> Tensor:
        """`[batch, seq]` bool, said in this step."""
        return self._spread(self.said, self.chosen, self.chosen, False)

    @cached_property
    def candidates(self) -> Tensor:
        """`[batch, seq]` bool; they hold the committed ones."""
        real = self.real[:, : self.held]
        return self._spread(self.position[:, : self.held], real, real, False)

    @cached_property
    def latents(self) -> Tensor:
        """`[batch, seq]` bool: predicted and not said."""
        real = self.real[:, self.held :]
        return self._spread(self.position[:, self.held :], real, real, False)

    @cached_property
    def guess(self) -> Tensor:
        """`[batch, seq]`: the likeliest token where the head ran, elsewhere the mask id."""
        real = self.real[:, : self.asked]
        return self._spread(self.position[:, : self.asked], self.likeliest, real, self.mask_id)

    @cached_property
    def confidence(self) -> Tensor:
        """`[batch, seq]`: the likeliest token's probability where the head ran, elsewhere 0."""
        real = self.real[:, : self.asked]
        return self._spread(self.position[:, : self.asked], self.probability, real, 0.0)

    def _spread(self, position: Tensor, values: Tensor, real: Tensor, empty: bool | float) -> Tensor:
        """`[batch, seq]`: the values of the rows in the pass at their positions."""
        whole = values.new_full(self.tokens.shape, empty)
        return whole.index_copy(0, self.rows, put(whole[self.rows], position, values, real))

    def __str__(self) -> str:
        said, seen = int(self.chosen.sum()), int(self.real[:, self.held :].sum())
        return f"step {self.index}: {said} said beside {seen} latents, {self.entries} entries a row"


def decode(
    model: Model,
    tokens: Tensor,
    *,
    latents: int | None = None,
    candidates: int | None = None,
    commit: int = 1,
    threshold: float = 0.0,
    entropy: float = math.inf,
    order: Order | str = CONFIDENCE,
    beside: Latents | str = UNIFORM_LATENTS,
    widen: float = 0.0,
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
    commit: tokens said a step and row, at most.
    threshold: of those, the best is said in any case, and the following ones as long as the likeliest token of each has
        at least this probability; 0 says them all. Under left_to_right this is the confident prefix.
    entropy: of those, the best is said in any case, and the following ones as long as the entropies of the ones before
        sum to at most this, in nats (EB-sampler, arXiv 2505.24857).
    order: `uniform`, `left_to_right`, `confidence`, `margin`, `entropy`, or an `Order`.
    beside: which unsaid tokens the latents are: `uniform`, drawn at random anew each step; `next`, those which the
        order would say next; `nearest`, `uncertain`, `certain`; or a `Latents` policy such as `Attended`.
    widen: above 0, `latents` are only where a step begins: rows whose best candidate is less probable than this are
        predicted again with twice as many, until it is probable enough, the same twice in a row, or beside all.
    temperature: 0 says the likeliest token; above 0 the token is drawn from softmax(logits / temperature).
    present: `[batch, seq]` bool (or 0 and 1), False past the end of short rows; those are in no pass.
    cache: keep the keys and values of the context where the model can (`Attention.cacheable`): exact, and less work.
    peek: run the head on the latents too, to see what they hold (`Step.guess`).
    generator: every random choice; None = a fresh one of seed 0.
    Raises ValueError on tokens outside the vocabulary, wrong shapes, and counts that make no sense.
    """
    order, beside = order_named(order), latents_named(beside)
    candidates = max(CANDIDATES, commit) if candidates is None else candidates
    check_tokens(model, tokens, present)
    _check_counts(latents, candidates, commit, temperature)
    if not 0 <= widen <= 1:
        raise ValueError(f"widen={widen}; give a probability, 0 to keep to the number of latents")
    if latents is not None and latents > tokens.shape[1]:
        warnings.warn(f"{latents} latents asked of {tokens.shape[1]} positions: all are taken", stacklevel=2)
    rules = _Rules(
        latents=tokens.shape[1] if latents is None else latents,
        candidates=candidates if order.after else commit,
        commit=Commit(commit, threshold, entropy),
        order=order,
        beside=beside,
        widen=widen,
        temperature=temperature,
        peek=peek or beside.needs_entropy,
        generator=torch.Generator().manual_seed(0) if generator is None else generator,
    )
    present = torch.ones_like(tokens, dtype=torch.bool) if present is None else present.bool()
    return _steps(model, tokens.clone(), present, rules, model.new_cache() if cache else None)


@dataclass(frozen=True)
class _Rules:
    """The counts and policies of a decoding, complete."""

    latents: int
    candidates: int
    commit: Commit
    order: Order
    beside: Latents
    widen: float
    temperature: float
    peek: bool
    generator: torch.Generator


@dataclass(frozen=True)
class _Rows:
    """The rows that are still going.

    index: `[r]` which of the batch they are. tokens: `[r, seq]`. unsaid, context: `[r, seq]` bool, what is to be said
    and what was. said_at: `[r, seq]` the orders of the context. entropy: `[r, seq]` nats of what was last seen of an
    unsaid token, infinite where nothing was. fresh, new: `[r, f]` context that the next pass computes beside a cache:
    positions, and which of them are real. count: `[r, 1]` how many were said. left: `[r]` to say, on the CPU.
    """

    index: Tensor
    tokens: Tensor
    unsaid: Tensor
    context: Tensor
    said_at: Tensor
    entropy: Tensor
    fresh: Tensor
    new: Tensor
    count: Tensor
    left: Tensor

    def take(self, at: Tensor) -> _Rows:
        """The rows `at`, a tensor on the CPU."""
        there = at.to(self.tokens.device)
        return _Rows(**{f.name: getattr(self, f.name)[at if f.name == "left" else there] for f in fields(self)})


@dataclass(frozen=True)
class _Plan:
    """Positions `[r, c]` of the candidates and `[r, m]` of the latents, the first ones first; and which are real."""

    candidates: Tensor
    chance: Tensor
    latents: Tensor
    there: Tensor

    def take(self, at: Tensor) -> _Plan:
        """The rows `at`."""
        return _Plan(**{f.name: getattr(self, f.name)[at] for f in fields(self)})


@dataclass(frozen=True)
class _Seen:
    """What a pass told: see `Step`; `word` `[r, k]` is what is to be said, and `entropy` `[r, asked]` nats."""

    layout: Layout
    position: Tensor
    real: Tensor
    said: Tensor
    chosen: Tensor
    word: Tensor
    likeliest: Tensor
    probability: Tensor
    entropy: Tensor | None
    more: Tensor
    cached: int


@torch.no_grad()
def _steps(model: Model, tokens: Tensor, present: Tensor, rules: _Rules, held: Cache | None) -> Iterator[Step]:
    """The loop of `decode`, whose arguments are checked and complete."""
    passes, rows = 0, _begin(tokens, (tokens == model.mask_id) & present, present)
    while True:
        going = rows.left > 0
        if not bool(going.all()):
            at = going.nonzero()[:, 0]
            rows, held = rows.take(at), held if held is None else held.take(at)
        if len(rows.left) == 0:
            return
        plan = _plan(rows, rules)
        for part, its_plan, seen, now, rows in _look_on(model, rows, plan, held, rules):
            tokens = rows.tokens if len(rows.tokens) == len(tokens) else tokens.index_copy(0, rows.index, rows.tokens)
            yield Step(
                index=passes,
                tokens=tokens,
                rows=part.index,
                position=seen.position,
                real=seen.real,
                held=its_plan.candidates.shape[1],
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


def last(steps: Iterator[Step], tokens: Tensor) -> Tensor:
    """The tokens `[batch, seq]` after the last step, or `tokens` where there was nothing to say."""
    for step in steps:
        tokens = step.tokens
    return tokens


def _begin(tokens: Tensor, unsaid: Tensor, present: Tensor) -> _Rows:
    """All rows: the prompt is the context, and nothing was computed or seen."""
    context = present & ~unsaid
    new, fresh = context.to(torch.uint8).topk(int(context.sum(1).max()) if len(tokens) else 0, dim=1)
    return _Rows(
        index=torch.arange(len(tokens), device=tokens.device),
        tokens=tokens,
        unsaid=unsaid,
        context=context,
        said_at=torch.zeros_like(tokens),
        entropy=torch.full(tokens.shape, math.inf, device=tokens.device),
        fresh=fresh,
        new=new.bool(),
        count=torch.zeros_like(tokens[:, :1]),
        left=unsaid.sum(1).cpu(),
    )


def _look_on(
    model: Model, rows: _Rows, plan: _Plan, held: Cache | None, rules: _Rules
) -> Iterator[tuple[_Rows, _Plan, _Seen, Tensor, _Rows]]:
    """The passes until every row has said something: one, or more of them where latents are added in doubt.

    Yields the rows of a pass, their plan, what was seen, which of it is said, and all rows after it.
    """
    seen = _look(model, rows, plan, rules.latents, held, True, rules)
    if held is not None:
        held.keep(seen.layout, rows.fresh.shape[1])
    sure = _sure(seen, None, rules.latents, rules)
    now = seen.chosen if sure is None else seen.chosen & sure[:, None]
    after = _say(rows, seen, now, rules)
    yield rows, plan, seen, now, after
    latents, at = rules.latents, torch.arange(len(rows.left))
    while sure is not None and not bool(sure.all()):
        doubt = (~sure).nonzero()[:, 0]
        at, latents = at[doubt.cpu()], max(1, 2 * latents)
        before = (seen.said[doubt, 0], seen.word[doubt, 0])
        part, its_plan = rows.take(at), plan.take(at)
        seen = _look(model, part, its_plan, latents, None if held is None else held.take(at), False, rules)
        sure = _sure(seen, before, latents, rules)
        now = seen.chosen & sure[:, None]
        after = after.with_rows(at, _say(part, seen, now, rules))
        yield part, its_plan, seen, now, after


def _sure(seen: _Seen, before: tuple[Tensor, Tensor] | None, latents: int, rules: _Rules) -> Tensor | None:
    """`[r]` bool: rows that need no more latents; None where their number is fixed.

    The best candidate is probable enough, or the same as with fewer latents, or all there are were in view.
    """
    if rules.widen == 0:
        return None
    best = seen.position[:, : seen.probability.shape[1]] == seen.said[:, :1]
    sure = torch.where(best, seen.probability, 0.0).amax(1) >= rules.widen
    if before is not None:
        sure = sure | ((seen.said[:, 0] == before[0]) & (seen.word[:, 0] == before[1]))
    return sure | (seen.more <= latents)


def _plan(rows: _Rows, rules: _Rules) -> _Plan:
    """A step's candidates, and its latents among the rest."""
    left = rows.left
    c = min(rules.candidates, int(left.max()))
    most = rows.tokens.shape[1] if rules.widen else rules.latents
    m = int((left - left.clamp_max(c)).clamp_max(most).max())
    before = rules.order.before(rows.unsaid, rules.generator).masked_fill(~rows.unsaid, math.inf)
    alike = rules.beside is NEXT or (rules.beside is UNIFORM_LATENTS and rules.order.before is at_random)
    value, position = before.topk(c + m if alike else c, dim=1, largest=False)
    real = value < math.inf
    if alike or m == 0:
        return _Plan(position[:, :c], real[:, :c], position[:, c:], real[:, c:])
    rest = put(rows.unsaid, position, torch.zeros_like(real), real)
    score = rules.beside.rank(Around(rest, position, real, before, rows.entropy, rules.generator))
    value, latents = score.masked_fill(~rest, math.inf).topk(m, dim=1, largest=False)
    return _Plan(position, real, latents, value < math.inf)


def _look(
    model: Model, rows: _Rows, plan: _Plan, latents: int, held: Cache | None, first: bool, rules: _Rules
) -> _Seen:
    """One pass over the rows, with the first `latents` of the plan's. first: the fresh context is to be computed."""
    c = plan.candidates.shape[1]
    position = torch.cat([plan.candidates, plan.latents[:, :latents]], dim=1)
    real = torch.cat([plan.chance, plan.there[:, :latents]], dim=1)
    asked = position.shape[1] if rules.peek else c
    cached = 0 if held is None else len(held)
    layout, at = _layout(rows, position, real, c, asked, held is not None, first)
    logp = model(layout, at, held).log_softmax(-1)
    top, likeliest = logp.max(-1)
    best = _best(logp[:, :c], plan.chance, rules)
    there = plan.chance.gather(1, best)
    of_best = logp.gather(1, best[..., None].expand(-1, -1, logp.shape[-1]))
    return _Seen(
        layout=layout,
        position=position,
        real=real,
        said=position.gather(1, best),
        chosen=rules.commit.among(of_best, there),
        word=likeliest.gather(1, best) if rules.temperature == 0 else _draw(of_best, rules),
        likeliest=likeliest,
        probability=top.exp(),
        entropy=entropy_of(logp) if rules.beside.needs_entropy else None,
        more=plan.there.sum(1),
        cached=cached,
    )


def _layout(
    rows: _Rows, position: Tensor, real: Tensor, c: int, asked: int, cached: bool, first: bool
) -> tuple[Layout, Tensor]:
    """The entries of a pass: context, candidates, latents; and where `[r, asked]` those are that the head is asked at.

    position, real: `[r, c + m]` the candidates and the latents. Candidates share an order past every latent's: under
    `ordered` attention each sees the latents and no other candidate.
    """
    (r, seq), m = rows.tokens.shape, position.shape[1] - c
    ranks = torch.arange(-c, m, device=position.device).masked_fill_(torch.arange(c + m, device=position.device) < c, seq)
    if not cached and int(rows.context_width) + c + m >= seq:
        order = put(rows.said_at, position, ranks.expand(r, -1), real)
        there = put(rows.context, position, real, real)
        index, unsaid, at = torch.arange(seq, device=position.device).expand(r, seq), rows.unsaid, position[:, :asked]
    else:
        context, new = (rows.fresh, rows.new) if cached else rows.said()
        if cached and not first:
            context, new = context[:, :0], new[:, :0]
        f = context.shape[1]
        index, there = torch.cat([context, position], dim=1), torch.cat([new, real], dim=1)
        order = torch.cat([rows.said_at.gather(1, context), ranks.expand(r, -1)], dim=1)
        unsaid = (torch.arange(f + c + m, device=position.device) >= f).expand(r, -1)
        at = torch.arange(f, f + asked, device=position.device).expand(r, -1)
    layout = Layout(
        token=rows.tokens.gather(1, index),
        position=index,
        order=order,
        horizon=torch.where(unsaid, FOREVER, order + 1),
        block=torch.where(unsaid, 0, -1),
        document=torch.where(there, 0, PADDING),
    )
    return layout, at


def _best(logp: Tensor, real: Tensor, rules: _Rules) -> Tensor:
    """`[r, k]` which candidates are the best, the best first, as many as may be said at most."""
    k = min(rules.commit.most, logp.shape[1])
    if rules.order.after is None:  # in the order they came in
        return torch.arange(k, device=logp.device).expand(len(logp), k)
    return rules.order.after(logp).masked_fill(~real, -math.inf).topk(k, dim=1).indices


def _say(rows: _Rows, seen: _Seen, now: Tensor, rules: _Rules) -> _Rows:
    """The rows after saying `seen.word` at `seen.said` where `now`."""
    k = now.shape[1]
    turn = rows.count + 1 + torch.arange(k, device=now.device)
    said = now.sum(1, keepdim=True)
    fixed = rules.commit.fixed and rules.widen == 0
    return replace(
        rows,
        tokens=put(rows.tokens, seen.said, seen.word, now),
        unsaid=put(rows.unsaid, seen.said, ~now, now),
        context=put(rows.context, seen.said, now, now),
        said_at=put(rows.said_at, seen.said, turn, now),
        entropy=rows.entropy if seen.entropy is None else put(rows.entropy, seen.position, seen.entropy, seen.real),
        fresh=seen.said,
        new=now,
        count=rows.count + said,
        left=rows.left - (rows.left.clamp_max(rules.commit.most) if fixed else said[:, 0].cpu()),
    )


def _draw(logp: Tensor, rules: _Rules) -> Tensor:
    """`[r, k]` token ids drawn from softmax(logp / temperature)."""
    noise = torch.empty(logp.shape, device=rules.generator.device).exponential_(generator=rules.generator)
    # Less the maximum first: a small temperature would carry the logits past what floats hold.
    scaled = (logp - logp.amax(-1, keepdim=True)) / rules.temperature
    return (scaled.softmax(-1) / noise.to(logp.device)).argmax(-1)


def put(into: Tensor, position: Tensor, values: Tensor, real: Tensor) -> Tensor:
    """`into` `[batch, seq]` with `values` `[batch, m]` at `position` `[batch, m]` where `real` `[batch, m]`."""
    # What is not real goes to a column past the end: it may share a position with what is.
    wide = torch.cat([into, into[:, :1]], dim=1)
    index = torch.where(real, position, into.shape[1])
    return wide.scatter(1, index, values.to(into.dtype))[:, :-1]


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
    if latents is not None and (not isinstance(latents, int) or latents < 0):
        raise ValueError(f"latents={latents}; give a whole number of 0 or more, or None for all")
    if not 1 <= commit <= candidates:
        raise ValueError(f"commit={commit} of candidates={candidates}; need 1 <= commit <= candidates")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature}; give 0 for the likeliest token, or more to sample")

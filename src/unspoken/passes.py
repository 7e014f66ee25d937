"""One pass of a decoding: who is in it, and what it says. The loop around it is `decode`.

Who is in a pass is a list of positions `[rows, few]`, not a mask over the sequence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from unspoken.cache import Cache
from unspoken.denoiser import Model
from unspoken.layout import FOREVER, PADDING, Layout
from unspoken.policies import NEXT, UNIFORM_LATENTS, Around, Commit, Latents, Order, at_random, entropy_of
from unspoken.rows import Rows
from unspoken.step import put


@dataclass(frozen=True)
class Rules:
    """The counts and policies of a decoding, complete."""

    latents: int
    candidates: int
    commit: Commit
    order: Order
    beside: Latents
    widen: float
    stale: bool
    temperature: float
    peek: bool
    generator: torch.Generator

    @property
    def needs_entropy(self) -> bool:
        """Whether a policy goes by what was seen of the latents."""
        return self.order.needs_entropy or self.beside.needs_entropy


@dataclass(frozen=True)
class Plan:
    """Positions `[r, c]` of the candidates and `[r, m]` of the latents, the first ones first; and which are real."""

    candidates: Tensor
    chance: Tensor
    latents: Tensor
    there: Tensor

    def take(self, at: Tensor) -> Plan:
        """The rows `at`."""
        return Plan(**{f.name: getattr(self, f.name)[at] for f in fields(self)})


@dataclass(frozen=True)
class Seen:
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


def look_on(
    model: Model, rows: Rows, plan: Plan, held: Cache | None, rules: Rules
) -> Iterator[tuple[Rows, Plan, Seen, Tensor, Rows]]:
    """The passes until every row has said something: one, or more of them where latents are added in doubt.

    Yields the rows of a pass, their plan, what was seen, which of it is said, and all rows after it.
    """
    seen = _look(model, rows, plan, rules.latents, held, True, rules)
    sure = _sure(seen, None, rules.latents, rules)
    now = seen.chosen if sure is None else seen.chosen & sure[:, None]
    after = _say(rows, seen, now, rules)
    if held is not None:
        held.keep(seen.layout, rows.fresh.shape[1], after.unsaid if rules.stale else None)
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
        after = after.replaced(at, _say(part, seen, now, rules))
        yield part, its_plan, seen, now, after


def _sure(seen: Seen, before: tuple[Tensor, Tensor] | None, latents: int, rules: Rules) -> Tensor | None:
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


def plan_of(rows: Rows, rules: Rules) -> Plan:
    """A step's candidates, and its latents among the rest."""
    left = rows.left
    c = min(rules.candidates, int(left.max()))
    most = rows.tokens.shape[1] if rules.widen else rules.latents
    m = int((left - left.clamp_max(c)).clamp_max(most).max())
    ahead = rows.ahead(rules.generator)
    before = rules.order.before(ahead).masked_fill(~rows.unsaid, math.inf)
    alike = rules.beside is NEXT or (rules.beside is UNIFORM_LATENTS and rules.order.before is at_random)
    value, position = before.topk(c + m if alike else c, dim=1, largest=False)
    real = value < math.inf
    if alike or m == 0:
        return Plan(position[:, :c], real[:, :c], position[:, c:], real[:, c:])
    rest = put(rows.unsaid, position, torch.zeros_like(real), real)
    score = rules.beside.rank(Around(rest, position, real, before, ahead))
    value, latents = score.masked_fill(~rest, math.inf).topk(m, dim=1, largest=False)
    return Plan(position, real, latents, value < math.inf)


def _look(model: Model, rows: Rows, plan: Plan, latents: int, held: Cache | None, first: bool, rules: Rules) -> Seen:
    """One pass over the rows, with the first `latents` of the plan's. first: the fresh context is to be computed."""
    c = plan.candidates.shape[1]
    position = torch.cat([plan.candidates, plan.latents[:, :latents]], dim=1)
    real = torch.cat([plan.chance, plan.there[:, :latents]], dim=1)
    asked = position.shape[1] if rules.peek else c
    cached = 0 if held is None else len(held)
    if held is not None and rules.stale:
        held.forget(put(~rows.unsaid, position, real, real))
    layout, at = _layout(rows, position, real, c, asked, held is not None, first)
    logp = model(layout, at, held).log_softmax(-1)
    top, likeliest = logp.max(-1)
    best = _best(logp[:, :c], plan.chance, rules)
    there = plan.chance.gather(1, best)
    of_best = logp.gather(1, best[..., None].expand(-1, -1, logp.shape[-1]))
    return Seen(
        layout=layout,
        position=position,
        real=real,
        said=position.gather(1, best),
        chosen=rules.commit.among(of_best, there),
        word=likeliest.gather(1, best) if rules.temperature == 0 else _draw(of_best, rules),
        likeliest=likeliest,
        probability=top.exp(),
        entropy=entropy_of(logp) if rules.needs_entropy else None,
        more=plan.there.sum(1),
        cached=cached,
    )


def _layout(
    rows: Rows, position: Tensor, real: Tensor, c: int, asked: int, cached: bool, first: bool
) -> tuple[Layout, Tensor]:
    """The entries of a pass: context, candidates, latents; and where `[r, asked]` those are that the head is asked at.

    position, real: `[r, c + m]` the candidates and the latents. Candidates share an order past every latent's: under
    `ordered` attention each sees the latents and no other candidate.
    """
    (r, seq), m = rows.tokens.shape, position.shape[1] - c
    ranks = torch.cat([position.new_full((c,), seq), torch.arange(m, device=position.device)])
    if not cached and int((rows.length - rows.left).max()) + c + m >= seq:
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


def _best(logp: Tensor, real: Tensor, rules: Rules) -> Tensor:
    """`[r, k]` which candidates are the best, the best first, as many as may be said at most."""
    k = min(rules.commit.most, logp.shape[1])
    if rules.order.after is None:  # in the order they came in
        return torch.arange(k, device=logp.device).expand(len(logp), k)
    return rules.order.after(logp).masked_fill(~real, -math.inf).topk(k, dim=1).indices


def _say(rows: Rows, seen: Seen, now: Tensor, rules: Rules) -> Rows:
    """The rows after saying `seen.word` at `seen.said` where `now`."""
    k = now.shape[1]
    this = 1 + rows.looked.amax(1, keepdim=True).expand(seen.position.shape)
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
        looked=put(rows.looked, seen.position, this, seen.real),
        fresh=seen.said,
        new=now,
        count=rows.count + said,
        left=rows.left - (rows.left.clamp_max(rules.commit.most) if fixed else said[:, 0].cpu()),
    )


def _draw(logp: Tensor, rules: Rules) -> Tensor:
    """`[r, k]` token ids drawn from softmax(logp / temperature)."""
    noise = torch.empty(logp.shape, device=rules.generator.device).exponential_(generator=rules.generator)
    # Less the maximum first: a small temperature would carry the logits past what floats hold.
    scaled = (logp - logp.amax(-1, keepdim=True)) / rules.temperature
    return (scaled.softmax(-1) / noise.to(logp.device)).argmax(-1)

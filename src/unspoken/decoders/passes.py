"""One pass of a decoding: who is in it, and what it says. The loop around it is `decode`.

Who is in a pass is a list of positions `[r, few]`, not a mask over the sequence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.decoders.policies import NEXT, UNIFORM_LATENTS, Around, Commit, Latents, Order, at_random, entropy_of
from unspoken.decoders.rows import Rows
from unspoken.layout.entries import FOREVER, PADDING, Layout
from unspoken.model.cache import Cache
from unspoken.model.denoiser import Model


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
    wait: bool
    split: float
    temperature: float
    peek: bool
    generator: torch.Generator

    @property
    def needs_entropy(self) -> bool:
        """Whether a policy goes by what was seen of the latents."""
        return self.order.needs_entropy or self.beside.needs_entropy


@dataclass(frozen=True)
class Plan:
    """Positions `[r, m]` of unsaid tokens and which of them are real: `candidates` of them, then latents, in order."""

    position: Tensor
    real: Tensor
    candidates: int

    def take(self, at: Tensor) -> Plan:
        """The rows `at`."""
        return Plan(self.position[at], self.real[at], self.candidates)

    def first(self, latents: int) -> Plan:
        """With so many latents at most."""
        width = self.candidates + latents
        return (
            self
            if self.position.shape[1] <= width
            else Plan(self.position[:, :width], self.real[:, :width], self.candidates)
        )


@dataclass(frozen=True)
class Seen:
    """What a pass over `plan` told: see `Step`; `word` `[r, k]` is what is to be said, `entropy` `[r, asked]` nats.

    fresh: `[r, f]` where among the entries the fresh context is, None where it is the first f of them.
    """

    layout: Layout
    plan: Plan
    said: Tensor
    chosen: Tensor
    word: Tensor
    likeliest: Tensor
    probability: Tensor
    entropy: Tensor | None
    fresh: Tensor | None
    cached: int


def look_on(
    model: Model, rows: Rows, plan: Plan, held: Cache | None, rules: Rules
) -> Iterator[tuple[Tensor, Seen, Tensor]]:
    """The passes until every row has said something: one, or more of them where latents are added in doubt.

    Yields which of the batch's rows were in a pass, what was seen, and which of it is said; `rows` say it before that.
    """
    seen = _look(model, rows, plan.first(rules.latents), held, True, rules)
    fresh, new = rows.fresh, rows.new
    sure = _sure(seen, None, plan, rules)
    now = seen.chosen if sure is None else seen.chosen & sure[:, None]
    _say(rows, seen, now, rules)
    if held is not None:
        if seen.fresh is None:
            held.keep(seen.layout, fresh.shape[1])
        else:
            held.keep_at(seen.layout, seen.fresh, new, rows.unsaid[:, :-1] if rules.stale else None)
    yield rows.index, seen, now
    latents, at = rules.latents, torch.arange(len(rows.left))
    while sure is not None and not bool(sure.all()):
        doubt = (~sure).nonzero()[:, 0]
        at, latents, plan = at[doubt.cpu()], max(1, 2 * latents), plan.take(doubt)
        before = (seen.said[doubt, 0], seen.word[doubt, 0])
        part = rows.take(at)
        its = plan.first(min(latents, int(part.left.max()) - plan.candidates))  # the rows no longer in doubt had more
        seen = _look(model, part, its, None if held is None else held.take(at), False, rules)
        sure = _sure(seen, before, plan, rules)
        assert sure is not None
        now = seen.chosen & sure[:, None]
        _say(part, seen, now, rules)
        rows.put_back(at, _padded(part, rows))
        yield part.index, seen, now


def _padded(part: Rows, rows: Rows) -> Rows:
    """What a part said last, as wide as what the others did."""
    missing = rows.fresh.shape[1] - part.fresh.shape[1]
    if missing > 0:
        part.fresh = torch.nn.functional.pad(part.fresh, (0, missing))
        part.new = torch.nn.functional.pad(part.new, (0, missing))
    return part


def _sure(seen: Seen, before: tuple[Tensor, Tensor] | None, plan: Plan, rules: Rules) -> Tensor | None:
    """`[r]` bool: rows that need no more latents; None where their number is fixed.

    The best candidate is probable enough, or the same as with fewer latents, or all there are were in view.
    """
    if rules.widen == 0:
        return None
    best = seen.plan.position[:, : seen.probability.shape[1]] == seen.said[:, :1]
    sure = torch.where(best, seen.probability, 0.0).amax(1) >= rules.widen
    if before is not None and rules.widen <= 1:
        sure = sure | ((seen.said[:, 0] == before[0]) & (seen.word[:, 0] == before[1]))
    return sure | (plan.real.sum(1) == seen.plan.real.sum(1))


def plan_of(rows: Rows, rules: Rules) -> Plan:
    """A step's candidates, and its latents among the rest."""
    most = int(rows.left.max())
    c = min(rules.candidates, most)
    m = int((rows.left - c).clamp(0, rows.seq if rules.widen else rules.latents).max())
    ahead = rows.ahead(rules.generator)
    before = torch.where(ahead.unsaid, rules.order.before(ahead), math.inf)
    alike = rules.beside is NEXT or (rules.beside is UNIFORM_LATENTS and rules.order.before is at_random)
    value, position = before.topk(c + m if alike else c, dim=1, largest=False)
    real = value < math.inf
    if alike or m == 0:
        return Plan(position, real, c)
    rest = rows.unsaid.scatter(1, rows.where(position, real), False)[:, :-1]
    score = rules.beside.rank(Around(rest, position, real, before, ahead))
    value, latents = torch.where(rest, score, math.inf).topk(m, dim=1, largest=False)
    return Plan(torch.cat([position, latents], dim=1), torch.cat([real, value < math.inf], dim=1), c)


def _look(model: Model, rows: Rows, plan: Plan, held: Cache | None, first: bool, rules: Rules) -> Seen:
    """One pass over the rows. first: the fresh context is to be computed."""
    position, real, c = plan.position, plan.real, plan.candidates
    cached = 0 if held is None else len(held)
    if held is not None and rules.stale:
        held.forget((~rows.unsaid).scatter(1, rows.where(position, real), True))
    asked = position.shape[1] if rules.peek else c
    layout, at, fresh = _layout(rows, plan, asked, held is not None, first, rules)
    logp = model(layout, at, held).log_softmax(-1)
    top, likeliest = logp.max(-1)
    best = _best(logp[:, :c], real[:, :c], rules)
    there = real.gather(1, best)
    drawn = rules.temperature > 0
    of_best = None if rules.commit.fixed and not drawn else _rows_of(logp, best)
    return Seen(
        layout=layout,
        plan=plan,
        said=position.gather(1, best),
        chosen=there if of_best is None else rules.commit.among(of_best, there),
        word=_draw(of_best, rules) if drawn and of_best is not None else likeliest.gather(1, best),
        likeliest=likeliest,
        probability=top.exp(),
        entropy=entropy_of(logp) if rules.needs_entropy else None,
        fresh=fresh,
        cached=cached,
    )


def _layout(
    rows: Rows, plan: Plan, asked: int, cached: bool, first: bool, rules: Rules
) -> tuple[Layout, Tensor, Tensor | None]:
    """The entries of a pass: context, candidates, latents; and where `[r, asked]` those are that the head is asked at.

    And where the fresh context is, see `Seen`. Candidates share an order past every latent's: under `ordered` attention
    each sees the latents and no other candidate; a latent sees those before it.
    """
    position, real, seq = plan.position, plan.real, rows.seq
    width, device = position.shape[1], position.device
    among = torch.arange(width - plan.candidates, device=device)
    ranks = torch.cat(
        [torch.full((plan.candidates,), seq, device=device), among.flip(0) if rules.beside.inward else among]
    )
    if not cached and int((rows.length - rows.left + rows.left.clamp_max(width)).max()) >= seq:
        at = rows.where(position, real)
        order = rows.order.scatter(1, at, ranks.expand_as(at))[:, :-1]
        document = rows.document
        if width < int(rows.left.max()):  # some unsaid tokens are left out
            document = torch.where(rows.context.scatter(1, at, True), 0, PADDING)
        index, unsaid, document = (
            torch.arange(seq, device=device).expand_as(order),
            rows.unsaid[:, :-1],
            document[:, :-1],
        )
        token, at, fresh = rows.tokens[:, :-1].clone(), position[:, :asked], None
    else:
        context, new = (rows.fresh, rows.new) if cached else rows.said()
        if cached and not first:
            context, new = context[:, :0], new[:, :0]
        f = context.shape[1]
        index, there = torch.cat([context, position], dim=1), torch.cat([new, real], dim=1)
        order = torch.cat([rows.order.gather(1, context), ranks.expand_as(position)], dim=1)
        unsaid = (torch.arange(f + width, device=device) >= f).expand_as(order)
        document, token = torch.where(there, 0, PADDING), rows.tokens.gather(1, index)
        at, fresh = torch.arange(f, f + asked, device=device).expand(len(order), -1), None
        used = rows.left.clamp_max(width) + (rows.news * first if cached else rows.length - rows.left)
        if (
            int(used.max()) < f + width or rules.stale
        ):  # a row has much context, another much to say: close up their gaps
            went, keep = _closed_up(there, int(used.max()))
            index, order, unsaid, document, token = (
                field.gather(1, keep) for field in (index, order, unsaid, document, token)
            )
            at, fresh = went[:, f : f + asked], went[:, :f]
    horizon, block = torch.where(unsaid, FOREVER, order + 1), torch.where(unsaid, 0, -1)
    return Layout(token, index, order, horizon, block, document), at, fresh


def _closed_up(real: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Where `[r, m]` each entry goes when those that are not real leave, and which `[r, width]` are kept."""
    place = (~real).to(torch.uint8).argsort(dim=1, stable=True)
    columns = torch.arange(place.shape[1], device=place.device).expand_as(place)
    went = torch.empty_like(place).scatter_(1, place, columns)
    return went.clamp_max(max(width - 1, 0)), place[:, :width]


def _best(logp: Tensor, real: Tensor, rules: Rules) -> Tensor:
    """`[r, k]` which candidates are the best, the best first, as many as may be said at most."""
    k = min(rules.commit.most, logp.shape[1])
    if rules.order.after is None:  # in the order they came in
        return torch.arange(k, device=logp.device).expand(len(logp), k)
    return torch.where(real, rules.order.after(logp), -math.inf).topk(k, dim=1).indices


def _rows_of(logp: Tensor, best: Tensor) -> Tensor:
    return logp.gather(1, best[..., None].expand(-1, -1, logp.shape[-1]))


def _say(rows: Rows, seen: Seen, now: Tensor, rules: Rules) -> None:
    """The rows say `seen.word` at `seen.said` where `now`."""
    at, k = rows.where(seen.said, now), now.shape[1]
    rows.tokens.scatter_(1, at, seen.word)
    rows.unsaid.scatter_(1, at, False)
    rows.context.scatter_(1, at, True)
    rows.order.scatter_(1, at, rows.count + torch.arange(1, k + 1, device=at.device))
    if rules.needs_entropy or rules.beside.needs_age:
        _remember(rows, seen)
    rows.fresh, rows.new = seen.said, now
    said = now.sum(1, keepdim=True)
    rows.count = rows.count + said
    fixed = rules.commit.fixed and rules.widen == 0
    rows.news = rows.left.clamp_max(rules.commit.most) if fixed else said[:, 0].cpu()
    rows.left = rows.left - rows.news


def _remember(rows: Rows, seen: Seen) -> None:
    """What was seen of every unsaid token in the pass, and that it was now."""
    at = rows.where(seen.plan.position, seen.plan.real)
    if seen.entropy is not None:
        rows.entropy.scatter_(1, at, seen.entropy.to(rows.entropy.dtype))
    now = 1 + rows.looked[:, :-1].amax(1, keepdim=True)
    rows.looked.scatter_(1, at, now.expand(at.shape))


def _draw(logp: Tensor, rules: Rules) -> Tensor:
    """`[r, k]` token ids drawn from softmax(logp / temperature)."""
    noise = torch.empty(logp.shape, device=rules.generator.device).exponential_(generator=rules.generator)
    # Less the maximum first: a small temperature would carry the logits past what floats hold.
    scaled = (logp - logp.amax(-1, keepdim=True)) / rules.temperature
    return (scaled.softmax(-1) / noise.to(logp.device)).argmax(-1)

"""One pass of decoding from slots: its entries, what the network told of them, and what is said. The loop: `slots`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.decoders.commit import Commit
from unspoken.decoders.endings import NONE
from unspoken.decoders.plan import Plan
from unspoken.decoders.policies import entropy_of
from unspoken.decoders.rules import Rules, Width
from unspoken.decoders.sampling import drawn
from unspoken.decoders.state import DecodingState
from unspoken.decoders.step import Step
from unspoken.decoders.values import draw_values, says_values, with_port, with_states
from unspoken.layout.entries import FOREVER, PADDING, Layout, entries_of
from unspoken.model.cache import Cache
from unspoken.model.network import Model


@dataclass(frozen=True)
class Seen:
    """What a pass over `plan` told: see `Step`; `word` `[r, k]` is what is to be said, `entropy` `[r, asked]` nats.

    value: `[r, k, width]` what is to be said where tokens are values.
    states: `[r, entries, width]` the last states, where the model carries them.
    fresh: `[r, f]` where among the entries the fresh context is, None where it is the first f of them.
    """

    layout: Layout
    plan: Plan
    said: Tensor
    chosen: Tensor
    word: Tensor
    value: Tensor | None
    states: Tensor | None
    likeliest: Tensor
    probability: Tensor
    entropy: Tensor | None
    fresh: Tensor | None
    cached: int

    def step(self, index: int, tokens: Tensor, rows: Tensor, now: Tensor, mask_id: int, value: Tensor | None) -> Step:
        """As decoders tell it. tokens, value: after it; rows: of the batch in the pass; now: what of it is said."""
        return Step(
            index=index,
            tokens=tokens,
            rows=rows,
            position=self.plan.position,
            real=self.plan.real,
            n_candidates=self.plan.candidates,
            said=self.said,
            chosen=now,
            likeliest=self.likeliest,
            probability=self.probability,
            entries=self.layout.shape[1],
            cached=self.cached,
            asked=self.likeliest.shape[1],
            mask_id=mask_id,
            value=value,
        )


def look_on(
    model: Model, state: DecodingState, plan: Plan, cache: Cache | None, width: Width, rules: Rules
) -> Iterator[tuple[Tensor, Seen, Tensor]]:
    """The passes until every row has said something: one, or more of them where latents are added in doubt.

    plan: of as many latents as the step may come to; width: of its first pass.
    Yields which of the batch's rows were in a pass, what was seen, and which of it is said; `state` has it before that.
    """
    seen = _look(model, state, plan.first(width), cache, True, width, rules)
    fresh, new = state.fresh, state.new
    sure = _sure(seen, None, plan, rules)
    now = seen.chosen if sure is None else seen.chosen & sure[:, None]
    _say(state, seen, now, width, rules)
    if cache is not None:
        if seen.fresh is None:
            cache.keep(seen.layout, fresh.shape[1])
        else:
            cache.keep_at(seen.layout, seen.fresh, new, state.unsaid[:, :-1] if rules.slots.stale else None)
    yield state.index, seen, now
    at = torch.arange(len(state.left))
    while sure is not None and not bool(sure.all()):
        doubt = (~sure).nonzero()[:, 0]
        at, plan = at[doubt.cpu()], plan.take(doubt)
        before = (seen.said[doubt, 0], seen.word[doubt, 0])
        part = state.take(at)
        width = width.doubled(int(part.left.max()))
        parts_cache = None if cache is None else cache.take(at)
        seen = _look(model, part, plan.first(width), parts_cache, False, width, rules)
        sure = _sure(seen, before, plan, rules)
        assert sure is not None
        now = seen.chosen & sure[:, None]
        _say(part, seen, now, width, rules)
        state.put_back(at, _padded(part, state))
        yield part.index, seen, now


def _padded(part: DecodingState, whole: DecodingState) -> DecodingState:
    """What a part said last, as wide as what the others did."""
    missing = whole.fresh.shape[1] - part.fresh.shape[1]
    if missing > 0:
        part.fresh = torch.nn.functional.pad(part.fresh, (0, missing))
        part.new = torch.nn.functional.pad(part.new, (0, missing))
    return part


def _sure(seen: Seen, before: tuple[Tensor, Tensor] | None, plan: Plan, rules: Rules) -> Tensor | None:
    """`[r]` bool: rows that need no more latents; None where their number is fixed.

    The best candidate is probable enough, or the same as with fewer latents, or all there are were in view.
    """
    if rules.slots.min_confidence == 0:
        return None
    best = seen.plan.position[:, : seen.probability.shape[1]] == seen.said[:, :1]
    sure = torch.where(best, seen.probability, 0.0).amax(1) >= rules.slots.min_confidence
    if before is not None and rules.slots.min_confidence <= 1:
        sure = sure | ((seen.said[:, 0] == before[0]) & (seen.word[:, 0] == before[1]))
    return sure | (plan.real.sum(1) == seen.plan.real.sum(1))


def _look(
    model: Model,
    state: DecodingState,
    plan: Plan,
    cache: Cache | None,
    first: bool,
    width: Width,
    rules: Rules,
) -> Seen:
    """One pass over the rows. first: the fresh context is to be computed."""
    position, real, c = plan.position, plan.real, plan.candidates
    cached = 0 if cache is None else len(cache)
    if cache is not None and rules.slots.stale:
        cache.forget((~state.unsaid).scatter(1, state.where(position, real), True))
    asked = c if says_values(model) else width.asked(position.shape[1])
    layout, at, fresh = _layout(state, plan, asked, cache is not None, first, rules)
    turn = (position[:, :asked] == state.first()) & real[:, :asked] if rules.endings.ends else None
    logp, top, likeliest, value, states = _read(model, layout, at, cache, rules, turn)
    best, chosen = _chosen(logp[:, :c], real[:, :c], width.commit, rules)
    draws = rules.slots.temperature > 0 and value is None
    return Seen(
        layout=layout,
        plan=plan,
        said=position.gather(1, best),
        chosen=chosen,
        word=_draw(_rows_of(logp, best), rules) if draws else likeliest.gather(1, best),
        value=None if value is None else entries_of(value, best),
        states=states,
        likeliest=likeliest,
        probability=top.exp(),
        entropy=entropy_of(logp) if rules.needs_entropy else None,
        fresh=fresh,
        cached=cached,
    )


def _read(
    model: Model, layout: Layout, at: Tensor, cache: Cache | None, rules: Rules, turn: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Log-probabilities `[r, a, vocab]`, of the likeliest tokens, those tokens `[r, a]`, and values `[r, a, width]`.

    A value is drawn whole, and stands for the only token of a vocabulary of one. The last are states: see `Seen`.
    turn: `[r, a]` which entry is the first unsaid one of its row, where a text may end; None where texts do not end.
    """
    if not says_values(model):
        logits, states = with_states(model, layout, at, cache)
        logp = rules.endings.without_never(logits).log_softmax(-1)
        logp = logp if turn is None else rules.endings.in_turn(logp, turn)
        top, likeliest = logp.max(-1)
        return logp, top, likeliest, None, states
    known = with_port(model)
    value, logp = draw_values(known.predict_values(layout, at, cache), model, rules.generator, rules.slots.temperature)
    return logp[..., None], logp, torch.full_like(at, known.placeholder), value, None


def _chosen(logp: Tensor, real: Tensor, commit: Commit, rules: Rules) -> tuple[Tensor, Tensor]:
    """`[r, k]` which candidates are the best, the best first, and which of them are committed: those come first."""
    best = _best(logp, real, commit, rules)
    there = real.gather(1, best)
    if commit.fixed:
        return best, there
    chosen = commit.among(_rows_of(logp, best), there)
    if commit.rule is None:  # a prefix of the best
        return best, chosen
    turn = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)
    return best.gather(1, turn), chosen.gather(1, turn)


def _layout(
    state: DecodingState, plan: Plan, asked: int, cached: bool, first: bool, rules: Rules
) -> tuple[Layout, Tensor, Tensor | None]:
    """The entries of a pass: context, candidates, latents; and where `[r, asked]` those are that the head is asked at.

    And where the fresh context is, see `Seen`. Candidates share an order past every latent's: under `ordered` attention
    each sees the latents and no other candidate; a latent sees those before it.
    """
    position, real, seq = plan.position, plan.real, state.seq
    width, device = position.shape[1], position.device
    among = torch.arange(width - plan.candidates, device=device)
    ranks = torch.cat(
        [torch.full((plan.candidates,), seq, device=device), among.flip(0) if rules.latent_policy.inward else among]
    )
    if not cached and int((state.length - state.left + state.left.clamp_max(width)).max()) >= seq:
        at = state.where(position, real)
        order = state.order.scatter(1, at, ranks.expand_as(at))[:, :-1]
        document = state.document
        if width < int(state.left.max()):  # some unsaid tokens are left out
            document = torch.where(state.context.scatter(1, at, True), 0, PADDING)
        index, unsaid, document = (
            torch.arange(seq, device=device).expand_as(order),
            state.unsaid[:, :-1],
            document[:, :-1],
        )
        token, at, fresh = state.tokens[:, :-1].clone(), position[:, :asked], None
    else:
        context, new = (state.fresh, state.new) if cached else state.said()
        if cached and not first:
            context, new = context[:, :0], new[:, :0]
        f = context.shape[1]
        index, there = torch.cat([context, position], dim=1), torch.cat([new, real], dim=1)
        order = torch.cat([state.order.gather(1, context), ranks.expand_as(position)], dim=1)
        unsaid = (torch.arange(f + width, device=device) >= f).expand_as(order)
        document, token = torch.where(there, 0, PADDING), state.tokens.gather(1, index)
        at, fresh = torch.arange(f, f + asked, device=device).expand(len(order), -1), None
        used = state.left.clamp_max(width) + (state.news * first if cached else state.length - state.left)
        if (
            int(used.max()) < f + width or rules.slots.stale
        ):  # a row has much context, another much to say: close up their gaps
            went, keep = _closed_up(there, int(used.max()))
            index, order, unsaid, document, token = (
                field.gather(1, keep) for field in (index, order, unsaid, document, token)
            )
            at, fresh = went[:, f : f + asked], went[:, :f]
    horizon, block = torch.where(unsaid, FOREVER, order + 1), torch.where(unsaid, 0, -1)
    held = {"value": state.value, "carried": state.carried, "foreseen": state.foreseen}
    wide = {name: None if its is None else entries_of(its, index) for name, its in held.items()}
    return Layout(token, index, order, horizon, block, document, **wide), at, fresh


def _closed_up(real: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Where `[r, m]` each entry goes when those that are not real leave, and which `[r, width]` are kept."""
    place = (~real).to(torch.uint8).argsort(dim=1, stable=True)
    columns = torch.arange(place.shape[1], device=place.device).expand_as(place)
    went = torch.empty_like(place).scatter_(1, place, columns)
    return went.clamp_max(max(width - 1, 0)), place[:, :width]


def _best(logp: Tensor, real: Tensor, commit: Commit, rules: Rules) -> Tensor:
    """`[r, k]` which candidates are the best, the best first, as many as may be said at most."""
    k = min(commit.most, logp.shape[1])
    if rules.order.blind:  # in the order they came in
        return torch.arange(k, device=logp.device).expand(len(logp), k)
    return torch.where(real, rules.order.score(logp), -math.inf).topk(k, dim=1).indices


def _rows_of(logp: Tensor, best: Tensor) -> Tensor:
    return logp.gather(1, best[..., None].expand(-1, -1, logp.shape[-1]))


def _say(state: DecodingState, seen: Seen, now: Tensor, width: Width, rules: Rules) -> None:
    """The rows say `seen.word` at `seen.said` where `now`."""
    at, k = state.where(seen.said, now), now.shape[1]
    state.tokens.scatter_(1, at, seen.word)
    if state.value is not None and seen.value is not None:
        state.value.scatter_(1, at[..., None].expand_as(seen.value), seen.value)
    state.unsaid.scatter_(1, at, False)
    state.context.scatter_(1, at, True)
    state.order.scatter_(1, at, state.count + torch.arange(1, k + 1, device=at.device))
    if rules.needs_entropy or rules.latent_policy.needs_age:
        _remember(state, seen)
    if seen.states is not None:
        state.carry(seen.layout, seen.states)
    state.fresh, state.new = seen.said, now
    said = now.sum(1, keepdim=True)
    state.count = state.count + said
    fixed = width.commit.fixed and rules.slots.min_confidence == 0
    state.news = state.left.clamp_max(width.commit.most) if fixed else said[:, 0].cpu()
    state.left = state.left - state.news
    past = rules.endings.past(state.tokens[:, :-1], state.index, seen.said, now) if rules.endings is not NONE else None
    if past is not None:
        state.end(past)


def _remember(state: DecodingState, seen: Seen) -> None:
    """What was seen of every unsaid token in the pass, and that it was now."""
    at = state.where(seen.plan.position, seen.plan.real)
    if seen.entropy is not None:
        state.entropy.scatter_(1, at, seen.entropy.to(state.entropy.dtype))
    now = 1 + state.looked[:, :-1].amax(1, keepdim=True)
    state.looked.scatter_(1, at, now.expand(at.shape))


def _draw(logp: Tensor, rules: Rules) -> Tensor:
    """`[r, k]` token ids drawn as the decoder says."""
    return drawn(logp, rules.generator, rules.slots.temperature, rules.slots.top_k, rules.slots.top_p)

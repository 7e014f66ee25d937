"""Decoders from left to right that are not from mask slots alone: next tokens, and exact self-speculation.

`Slots(order="left_to_right", latent_policy="next")` says one token after the other from mask slots, beside the latents
that follow. Here `next_tokens` reads the next token at the last one said, as ordinary autoregression does; `speculate`
says what those slots would say, to the token, in fewer passes: the latents' guesses are drafts, and one pass checks
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import check_answers, check_causal
from unspoken.decoders.endings import NONE, Endings, cut
from unspoken.decoders.sampling import check_sampling, drawn
from unspoken.decoders.step import Step, put
from unspoken.decoders.values import rows_to_say
from unspoken.layout.entries import PADDING, Layout, first_where
from unspoken.layout.packing import Clean, blocks, has_successor, slot_of
from unspoken.model.cache import Cache
from unspoken.model.network import Model


@dataclass(frozen=True)
class NextToken:
    """Ordinary autoregression: the next token, one a pass, read at the last token said.

    For models trained on next tokens, MuToR's (Gerontopoulos et al. 2025, arXiv 2505.10518) among them.

    Attributes:
        cache: Keep the context's keys and values where the model can.
        temperature: 0 says the likeliest token; above 0 the token is drawn from softmax(logits / temperature).
        top_k: Tokens are drawn from the k most probable alone; 0 for all.
        top_p: Tokens are drawn from the most probable that together have this probability; 1 for all.
    """

    cache: bool = True
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        checks.plain(self)
        check_sampling(self.temperature, self.top_k, self.top_p)

    def steps(
        self,
        model: Model,
        tokens: Tensor,
        *,
        present: Tensor | None = None,
        predict_latents: bool = False,
        generator: torch.Generator | None = None,
        endings: Endings = NONE,
    ) -> Iterator[Step]:
        """See `Slots.steps` and `next_tokens`: there are no latents. Rows that are done leave the batch."""
        clean = rows_to_say(self, model, tokens, present)
        check_causal(self, model)
        checks.seeded(generator)
        if not bool(clean.prompt.any(1).all()):
            raise ValueError("next-token decoding reads the first token at the prompt's last: give every row a prompt")
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        return _next_tokens(model, clean, model.new_cache() if self.cache else None, self, generator, endings)


@dataclass(frozen=True)
class Speculation:
    """Left to right from mask slots, several tokens a pass: the latents' guesses are drafts, and one pass checks them.

    Blockwise parallel decoding (Stern et al. 2018, arXiv 1811.03115) with the model's own latents as its draft heads.

    Attributes:
        latents: Beside each next token; by default all there are.
        drafts: So many at most are checked in a pass; by default as many as there are latents.
        cache: Keep the context's keys and values where the model can.
    """

    latents: int | None = None
    drafts: int | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        checks.plain(self)
        _check_drafts(self.latents, self.drafts)

    def steps(
        self,
        model: Model,
        tokens: Tensor,
        *,
        present: Tensor | None = None,
        predict_latents: bool = False,
        generator: torch.Generator | None = None,
        endings: Endings = NONE,
    ) -> Iterator[Step]:
        """See `Slots.steps` and `speculate`: the latents are predicted in any case, and nothing is drawn."""
        clean = rows_to_say(self, model, tokens, present)
        if not model.attention.cacheable:
            raise ValueError(
                f"speculation with attention {model.attention.name}: its context sees what comes after it, so that a "
                "draft would change what it is checked by; take cached-joint, cached-alone or any-order"
            )
        most = max(clean.most - 1, 0)
        latents = most if self.latents is None else min(self.latents, most)
        drafts = latents if self.drafts is None else min(self.drafts, latents)
        return _speculate(model, clean, latents, drafts, model.new_cache() if self.cache else None, endings)


def next_tokens(model: Model, tokens: Tensor, *, cache: bool = True) -> Iterator[Step]:
    """Ordinary autoregression: the likeliest next token, one a pass, read at the last token said.

    For models trained on next tokens (`NextTokenPrediction`, `MuToR`, `MultiToken` with a share of `next_token`).
    tokens: `[batch, seq]`, the mask id where unsaid; every row needs a prompt.
    cache: keep the context's keys and values where the model can.
    Raises ValueError on tokens outside the vocabulary and on rows without a prompt.
    """
    return NextToken(cache).steps(model, tokens)


@torch.no_grad()
def _next_tokens(
    model: Model, clean: Clean, cache: Cache | None, decoder: NextToken, generator: torch.Generator, endings: Endings
) -> Iterator[Step]:
    tokens, rows, index = clean.x0, torch.arange(len(clean.x0), device=clean.x0.device), 0
    while True:
        if not bool((going := clean.free[:, 0] > index).all()):
            left = going.nonzero()[:, 0]
            clean, rows, cache = clean.rows(left), rows[left], None if cache is None else cache.take(left)
        if not len(rows):
            return
        context = clean.context()
        new = context.order == index if cache is not None else context.order <= index
        layout = context.select_where(new & context.said)
        at = first_where(has_successor(layout, clean) & (layout.order == index), 1)
        cached = 0 if cache is None else len(cache)
        logits = endings.without_never(model(layout, at, cache))
        guess = drawn(logits, generator, decoder.temperature, decoder.top_k, decoder.top_p)
        probability = logits.softmax(-1).gather(-1, guess[..., None])[..., 0]
        check_answers(index, probability)
        if cache is not None:
            cache.keep(layout, layout.shape[1])
        position, said = clean.place[:, index : index + 1], torch.ones_like(guess, dtype=torch.bool)
        clean = replace(clean, x0=put(clean.x0, position, guess, said))
        tokens = tokens.index_copy(0, rows, clean.x0)
        step = Step.of_all(
            index,
            clean.x0,
            position,
            said,
            (guess, probability),
            mask_id=model.mask_id,
            entries=layout.shape[1],
            cached=cached,
        )
        clean = cut(clean, endings.past(clean.x0, rows, position, said))
        yield replace(step, tokens=tokens, rows=rows)
        index += 1


def speculate(
    model: Model, tokens: Tensor, *, latents: int | None = None, drafts: int | None = None, cache: bool = True
) -> Iterator[Step]:
    """Left to right, the likeliest token each, as `Slots` with these latents say it, but several a pass.

    A pass holds the last pass's drafts as context and a block of masks after each of them; slot 0 of a block says what
    follows if the drafts up to there are right. The first that is wrong is replaced, and that block's latents draft on.
    Exact because a block can not see what comes after its threshold. Entries a pass: about (drafts + 1) (latents + 2).

    tokens: `[batch, seq]`, the mask id where unsaid. latents: beside each next token; None = all there are.
    drafts: at most so many are checked in a pass; None = as many as there are latents.
    Raises ValueError where the attention's context would see drafts that are not to be (see `Attention.cacheable`).
    """
    return Speculation(latents, drafts, cache).steps(model, tokens)


@torch.no_grad()
def _speculate(
    model: Model, clean: Clean, latents: int, drafts: int, cache: Cache | None, endings: Endings
) -> Iterator[Step]:
    """clean.x0 holds what is said and then the drafts; `said` and `drafted` `[batch, 1]` count them."""
    said, drafted = torch.zeros_like(clean.free), torch.zeros_like(clean.free)
    ahead, passes = torch.arange(drafts + 1, device=said.device)[None], 0
    rows, rank = torch.arange(len(said), device=said.device), clean.rank
    known = said - 1  # the order of the newest context in the cache; the prompt's is 0
    while bool((said < clean.free).any()):
        layout = _checks(clean, torch.where(ahead <= drafted, said + ahead, clean.free), latents, model.mask_id)
        if cache is not None:
            layout = layout.select_where((layout.document != PADDING) & ~(layout.said & (layout.order <= known)))
        cached = 0 if cache is None else len(cache)
        at = first_where(layout.unsaid, int(layout.unsaid.sum(1).max()))
        block, slot = layout.horizon - 1 - said, slot_of(layout, rank.shape[1])
        index = (block * (latents + 1) + slot).gather(1, at)
        likeliest = endings.without_never(model(layout, at, cache)).softmax(-1).max(-1)
        real = layout.unsaid.gather(1, at)
        check_answers(passes, likeliest.values, real)
        probability, guess = (_table(part, index, real, drafts, latents) for part in likeliest)
        right = (guess[:, :, 0] == clean.x0.gather(1, clean.at(said + ahead))) & (ahead < drafted)
        accepted = right.long().cumprod(1).sum(1, keepdim=True)
        known = said + accepted
        if cache is not None:
            stays = layout.said & (layout.order <= known)
            cache.keep(layout.without(~stays), int(stays.sum(1).max()))
        # Said now: the accepted drafts and the token after them. That block's latents are the next drafts.
        new = (ahead <= accepted) & (said < clean.free)
        position = clean.at(said + ahead)
        tokens = torch.where(clean.given | (rank < said), clean.x0, model.mask_id)
        tokens = put(tokens, position, guess[:, :, 0], new)
        past = endings.past(tokens, rows, position, new)
        if past is not None:  # what was accepted after the end is not said
            new = new & ~past.gather(1, position)
            tokens = torch.where(past & ~clean.given, model.mask_id, tokens)
        beyond = said + drafted + 1 + torch.arange(latents, device=said.device)
        yield Step.of_all(
            passes,
            tokens,
            position,
            new,
            (guess[:, :, 0], probability[:, :, 0]),
            mask_id=model.mask_id,
            entries=layout.shape[1],
            cached=cached,
            asked=at.shape[1],
            position=torch.cat([position, clean.at(beyond)], dim=1),
            real=torch.cat([(ahead <= drafted) & (said < clean.free), beyond < clean.free], dim=1),
        )
        block = accepted[:, :, None].expand(-1, -1, latents + 1)
        following = guess.gather(1, block)[:, 0, 1 : drafts + 1]
        said = torch.where(said < clean.free, known + 1, said)
        clean = cut(clean, past)
        drafted = (clean.free - said - 1).clamp(0, drafts)
        ranks = said + torch.arange(drafts, device=said.device)
        clean = replace(clean, x0=put(tokens, clean.at(ranks), following, ranks < said + drafted))
        passes += 1


def _checks(clean: Clean, start: Tensor, latents: int, mask_id: int) -> Layout:
    """Context up to the last draft in the order it is said, then a block at every threshold of `start`."""
    slots = torch.arange(latents + 1, device=start.device)[None]
    layout = blocks(clean, start, slots, mask_id)
    end = layout.order.max() + 1
    key = torch.where(layout.said, layout.order, end + torch.arange(layout.shape[1], device=end.device))
    key = torch.where(layout.document == PADDING, end + layout.shape[1], key)
    return layout.select(key.argsort(dim=1, stable=True))


def _table(part: Tensor, index: Tensor, real: Tensor, drafts: int, latents: int) -> Tensor:
    """What was read `[batch, m]` at the entries asked, of every slot of every block `[batch, drafts + 1, latents + 1]`.

    index: `[batch, m]` where in that table each belongs, if `real`.
    """
    table = part.new_zeros(len(part), (drafts + 1) * (latents + 1))
    return put(table, index, part, real).view(-1, drafts + 1, latents + 1)


def _check_drafts(latents: int | None, drafts: int | None) -> None:
    for name, value in (("latents", latents), ("drafts", drafts)):
        if value is not None:
            checks.count(name, value)
    if drafts is not None and latents is not None and drafts > latents:
        raise ValueError(f"drafts={drafts} of latents={latents}; need 0 <= drafts <= latents")

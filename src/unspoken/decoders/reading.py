"""Reading without writing: what a model would say in every open slot, and nothing is said.

A slot is an unsaid token. Its row is the log-probabilities of the clean token there, given what is said and as many of
the other open slots as are in the pass beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import check_answers, check_tokens
from unspoken.decoders.decode import Decoder, decode
from unspoken.decoders.endings import Endings
from unspoken.decoders.gaps import filler_for, gapped, no_text
from unspoken.decoders.slot_logits import slot_logits
from unspoken.decoders.step import Step, put
from unspoken.decoders.values import port_of
from unspoken.layout.entries import first_where, most, one_block
from unspoken.model.denoiser import Denoiser
from unspoken.model.network import Model
from unspoken.model.tokens import Tokenizer, tokenizer_of


@dataclass(frozen=True)
class Slot:
    """What a model would say in one open slot.

    Attributes:
        position: In its row.
        gap: In which gap of the text, from 0.
        index: Which token of that gap, from 0.
        ids: The most probable tokens, the most probable first.
        logp: Their log-probabilities, nats.
        texts: Those tokens as texts; None where there is no tokenizer.
    """

    position: int
    gap: int
    index: int
    ids: tuple[int, ...]
    logp: tuple[float, ...]
    texts: tuple[str, ...] | None


@dataclass(frozen=True)
class Reading:
    """What a model would say in the open slots of a batch: s is how many the fullest row has.

    Attributes:
        steps: How many steps of decoding were made before.
        tokens: `[batch, seq]` what was read, the mask id in the open slots.
        position: `[batch, s]` where the open slots are, from left to right; anything where not `open`.
        open: `[batch, s]` bool, False where a row has fewer slots.
        gap: `[batch, s]` in which gap of the text each is, from 0.
        index: `[batch, s]` which token of its gap, from 0.
        ids: `[batch, s, k]` the k most probable tokens, the most probable first.
        logp: `[batch, s, k]` their log-probabilities, nats.
        rows: `[batch, s, vocab]` the log-probabilities of all tokens, nats; None unless asked for.
        tokenizer: For the texts of tokens; None where there is none.
    """

    steps: int
    tokens: Tensor
    position: Tensor
    open: Tensor
    gap: Tensor
    index: Tensor
    ids: Tensor
    logp: Tensor
    rows: Tensor | None
    tokenizer: Tokenizer | None = field(default=None, repr=False)

    def slots(self, row: int = 0) -> list[Slot]:
        """The open slots of a row of the batch, from left to right."""
        found = []
        for at in self.open[row].nonzero()[:, 0].tolist():
            ids = tuple(self.ids[row, at].tolist())
            texts = None if self.tokenizer is None else tuple(self.tokenizer.decode([token]) for token in ids)
            position, gap, index = (int(its[row, at]) for its in (self.position, self.gap, self.index))
            found.append(Slot(position, gap, index, ids, tuple(self.logp[row, at].tolist()), texts))
        return found


@dataclass(frozen=True)
class _Rule:
    """How slots are read; see `readings_ids`."""

    latents: int | None
    temperature: float
    top_k: int
    whole: bool
    never: Endings


def read(model: Denoiser, texts: str | Sequence[str], *, passes: int = 1, **options: Any) -> Reading:
    """What a model would say in the gaps of texts; nothing is said.

    texts: one or several, with gaps as in `"Once <fill 12> lived a king"`.
    passes: 1 reads the texts as they are. With more, the model's decoder first says `passes - 1` steps of a copy, and
        the slots that are open then are read (at least one is).
    options: see `readings_ids`.
    Returns a `Reading` of a batch, of one row for one text.
    Raises ValueError for a model without a tokenizer, for texts without a gap, and for what `readings_ids` refuses.
    """
    checks.count("passes", passes, 1)
    return _last(readings(model, texts, passes=passes, **options))


def read_ids(model: Model, tokens: Tensor, *, passes: int = 1, **options: Any) -> Reading:
    """`read` of ids: `[batch, seq]` int64, the mask id in the open slots. options: see `readings_ids`."""
    checks.count("passes", passes, 1)
    return _last(readings_ids(model, tokens, passes=passes, **options))


def readings(
    model: Denoiser,
    texts: str | Sequence[str],
    *,
    passes: int | None = None,
    decoder: Decoder | None = None,
    **options: Any,
) -> Iterator[Reading]:
    """What a model would say in the gaps of texts before each step of their decoding; see `read`, `readings_ids`."""
    tokenizer = tokenizer_of(model, "us.read")
    rows = [gapped(tokenizer, text, model) for text in ([texts] if isinstance(texts, str) else texts)]
    if not rows or not all(row.gaps for row in rows):
        raise ValueError("nothing to read: give texts with gaps, as in 'Once <fill 12> lived a king'")
    width = max(len(row.ids) for row in rows)
    tokens = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows], device=model.device)
    present = torch.tensor([[True] * len(row.ids) + [False] * (width - len(row.ids)) for row in rows])
    gap = torch.full_like(tokens, -1)
    for number, row in enumerate(rows):
        for which, (low, high) in enumerate(row.gaps):
            gap[number, low:high] = which
    return readings_ids(
        model,
        tokens,
        present=present.to(model.device),
        passes=passes,
        decoder=filler_for(model, decoder, {}),
        never=no_text(tokenizer, model.vocab_size),
        gap=gap,
        tokenizer=tokenizer,
        **options,
    )


def readings_ids(
    model: Model,
    tokens: Tensor,
    *,
    present: Tensor | None = None,
    passes: int | None = None,
    latents: int | None = None,
    temperature: float = 1.0,
    top_k: int = 8,
    whole: bool = False,
    never: Sequence[int] = (),
    decoder: Decoder | None = None,
    generator: torch.Generator | None = None,
    gap: Tensor | None = None,
    tokenizer: Tokenizer | None = None,
) -> Iterator[Reading]:
    """What a model would say in its open slots before each step of a decoding: one `Reading` a step.

    Slots are read from the mask, as `Slots` does, without carried states. A row holds what the model predicts there;
    what the decoder says is another matter.
    tokens: `[batch, seq]` int64, the mask id where open. They are not written to, and what is given stays.
    present: `[batch, seq]` bool, False past the end of short rows; those are in no pass.
    passes: so many readings at most; by default until nothing is open.
    latents: how many of the other open slots are in the pass beside the slot that is read: all by default, in one pass
        where each sees all others; 0 reads each slot alone; else the nearest, of two as near the left one. A slot that
        is not read in one pass with the others costs a pass of its own. Under `ordered` attention a latent sees those
        to its left.
    temperature: rows are log_softmax(logits / temperature); 1 is the model's own.
    top_k: so many tokens of each row are told. whole: keep the whole rows too.
    never: ids that are never said, such as padding: their probability is 0.
    decoder, generator: what says a step, by default the model's own decoder, and its random choices; see `decode`.
    gap: `[batch, seq]` number of the gap of each open slot; by default masks side by side are one gap.
    tokenizer: for the texts of tokens.
    Raises ValueError on tokens outside the vocabulary, on options that make no sense, for a model of values, and where
        nothing is open.
    """
    if port_of(model) is not None:
        raise ValueError(f"the model's tokens are values ({port_of(model)}); only ids can be read")
    check_tokens(model, tokens, present)
    checks.number("temperature", temperature, checks.TINY, checks.HUGE, "a number above 0, 1 for the model's own")
    checks.count("top_k", top_k, 1, model.vocab_size - len({model.mask_id, *never}))
    if latents is not None:
        checks.count("latents", latents)
    if passes is not None:
        checks.count("passes", passes, 1)
    there = torch.ones_like(tokens, dtype=torch.bool) if present is None else present.bool()
    slots = (tokens == model.mask_id) & there
    if not bool(slots.any()):
        raise ValueError(f"nothing is open: put the mask id {model.mask_id} where tokens are to be read")
    steps = iter(())
    if passes != 1:
        steps = decode(model, tokens, decoder=decoder, present=present, generator=generator)
    rule = _Rule(latents, temperature, top_k, whole, Endings(never=tuple(never)))
    return _readings(model, tokens, there, _gaps(slots) if gap is None else gap, rule, steps, passes, tokenizer)


@torch.no_grad()
def _readings(
    model: Model,
    tokens: Tensor,
    present: Tensor,
    gap: Tensor,
    rule: _Rule,
    steps: Iterator[Step],
    passes: int | None,
    tokenizer: Tokenizer | None,
) -> Iterator[Reading]:
    """The loop, whose arguments are checked and complete."""
    order, index, done = torch.zeros_like(tokens), _index(gap), 0
    while bool((slots := (tokens == model.mask_id) & present).any()):
        position = first_where(slots, most(slots))
        is_open = slots.gather(1, position)
        logits = slot_logits(model, one_block(tokens, slots, order, present), position, is_open, rule.latents)
        logp = (rule.never.without_never(logits) / rule.temperature).log_softmax(-1)
        top = logp.topk(rule.top_k, dim=-1)
        check_answers(done, top.values[..., 0], is_open)
        at = (gap.gather(1, position), index.gather(1, position))
        whole = logp if rule.whole else None
        yield Reading(done, tokens, position, is_open, *at, top.indices, top.values, whole, tokenizer)
        done += 1
        step = None if done == passes else next(steps, None)
        if step is None:
            return
        tokens, order = step.tokens, _dated(order, step)


def _last(found: Iterator[Reading]) -> Reading:
    *_, reading = found
    return reading


def _dated(order: Tensor, step: Step) -> Tensor:
    """`[batch, seq]`: when each token was said, after a step; 0 is the prompt."""
    before = order[step.rows]
    now = before.amax(1, keepdim=True) + step.chosen.cumsum(1)
    return order.index_copy(0, step.rows, put(before, step.said, now, step.chosen))


def _gaps(slots: Tensor) -> Tensor:
    """`[batch, seq]`: the number of the gap of each slot, -1 elsewhere; slots side by side are one gap."""
    begins = slots & ~torch.nn.functional.pad(slots, (1, 0))[:, :-1]
    return torch.where(slots, begins.cumsum(1) - 1, -1)


def _index(gap: Tensor) -> Tensor:
    """`[batch, seq]`: which token of its gap each slot is, from 0."""
    place = torch.arange(gap.shape[1], device=gap.device).expand_as(gap)
    begins = gap != torch.nn.functional.pad(gap, (1, 0), value=-1)[:, :-1]
    return place - torch.where(begins, place, 0).cummax(1).values

"""Log-likelihoods of continuations, in nats, for any model: exact from left to right, else estimated with an error.

A model whose context is causal says a continuation token by token: the sum of the log-probabilities is its
log-likelihood exactly. Of any other model the numbers are means over draws of something that is right on average:
over random orders (`any_order`), or of the bound (`nelbo`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.entries import Layout, one_block
from unspoken.layout.packing import ask_masks, ask_next, blocks, every_start, left_to_right
from unspoken.layout.questions import Question
from unspoken.measure.likelihood import nelbo, nll_by_latents
from unspoken.model.denoiser import Denoiser
from unspoken.noise import Absorbing
from unspoken.training.losses import packed_losses

Likelihood = Literal["exact", "slots", "any_order", "nelbo"]


@dataclass(frozen=True)
class Score:
    """Of one continuation: its log-likelihood in nats, the standard error of that, and whether it is the greedy one.

    error: 0 where the number is exact. greedy: by one pass for each token from left to right.
    """

    total: float
    error: float
    greedy: bool


def default_likelihood(model: Denoiser) -> Likelihood:
    """`exact` for a model that records no decoder, or decodes from left to right without masks; `nelbo` for others."""
    decoder = model.decoder
    kind = decoder.get("type") if isinstance(decoder, dict) else type(decoder).__name__
    if not model.attention.cacheable:
        return "nelbo"
    return "exact" if decoder is None or kind == "NextToken" else "slots"


@torch.no_grad()
def scores(
    model: Denoiser,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    likelihood: Likelihood | None = None,
    draws: int = 32,
    seed: int = 0,
) -> list[Score]:
    """Of each pair (context, continuation) of token ids, log p(continuation | context).

    likelihood: `exact` asks the clean tokens for the next one, `slots` asks a mask for it, both from left to right;
        `any_order` is the mean over random orders, every token predicted without latents;
        `nelbo` is minus the bound. draws: of the last two, for each pair. seed: of their random choices.
    Raises ValueError for empty contexts, for a likelihood that the model's attention has not, and for rows longer than
    it knows, before any pass.
    """
    how = default_likelihood(model) if likelihood is None else likelihood
    if how not in get_args(Likelihood):
        raise ValueError(f"likelihood={how!r}: give one of {', '.join(get_args(Likelihood))}")
    if how in ("exact", "slots") and not model.attention.cacheable:
        raise ValueError(
            f"likelihood={how!r} with attention {model.attention.name}: its context is not causal; take any_order, or "
            "nelbo"
        )
    checks.count("draws", draws, 2)
    for context, continuation in pairs:
        _check_row(model, context, continuation)
    generator = torch.Generator().manual_seed(seed)
    return [
        _exact(model, *_row(model, *pair), how == "slots")
        if how in ("exact", "slots")
        else _estimated(model, *_row(model, *pair), how, draws, generator)
        for pair in pairs
    ]


def _check_row(model: Denoiser, context: Sequence[int], continuation: Sequence[int]) -> None:
    if not context:
        raise ValueError("an empty context: give one token at least, such as the tokenizer's bos_token_id")
    length, known = len(context) + len(continuation), model.known_positions
    if known is not None and length > known:
        raise ValueError(f"a row of {length} tokens, and the model knows {known} positions: cut its context")
    if model.mask_id in (*context, *continuation):
        raise ValueError(f"a row holds the mask ({model.mask_id}), which stands for what is not said; take it out")


def _row(model: Denoiser, context: Sequence[int], continuation: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`[1, seq]` ids, and which are given."""
    x0 = torch.tensor([[*context, *continuation]], device=model.device)
    return x0, torch.arange(x0.shape[1], device=model.device)[None] < len(context)


def _exact(model: Denoiser, x0: Tensor, given: Tensor, slots: bool) -> Score:
    if bool(given.all()):
        return Score(0.0, 0.0, True)
    clean = left_to_right(x0, given)
    if slots:
        start, next_one = every_start(clean), torch.zeros(1, 1, dtype=torch.int64, device=x0.device)
        packed = ask_masks(blocks(clean, start, next_one, model.mask_id), x0)
    else:
        packed = ask_next(clean.context(), clean)
    losses = packed_losses(model, packed).double()
    return Score(-float(losses.sum()), 0.0, _greedy(model, packed.layout, packed.one))


def _greedy(model: Denoiser, layout: Layout, question: Question) -> bool:
    """Whether every target is the likeliest token."""
    best = model(layout, question.at).argmax(-1)
    return bool((best == question.target)[question.real].all())


def _estimated(
    model: Denoiser, x0: Tensor, given: Tensor, how: Likelihood, draws: int, generator: torch.Generator
) -> Score:
    if bool(given.all()):
        return Score(0.0, 0.0, True)
    if how == "nelbo":
        each = nelbo(model, Absorbing(), x0, given, generator, draws)[0].double()
    else:  # a row a draw: times are stratified over them
        rows = [each.expand(draws, -1).contiguous() for each in (x0, given)]
        each = nll_by_latents(model, rows[0], rows[1], (0,), generator, draws=1)[:, 0]
    return Score(-float(each.mean()), float(each.std() / draws**0.5), _greedy_at_once(model, x0, given))


def _greedy_at_once(model: Denoiser, x0: Tensor, given: Tensor) -> bool:
    """Whether the likeliest token of every position is the continuation's, said from left to right."""
    tokens = torch.where(given, x0, model.mask_id)
    for position in (~given[0]).nonzero()[:, 0].tolist():
        unsaid = tokens == model.mask_id
        order = torch.where(unsaid, unsaid.cumsum(1) - 1, torch.where(given, 0, 1))
        at = torch.tensor([[position]], device=x0.device)
        if int(model(one_block(tokens, unsaid, order), at).argmax(-1)) != int(x0[0, position]):
            return False
        tokens = torch.where(torch.arange(x0.shape[1], device=x0.device) == position, x0, tokens)
    return True

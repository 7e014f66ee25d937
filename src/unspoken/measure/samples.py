"""Samples of a task without right answers: their entropy, and what they cost a model that reads from the left.

The two belong together: a low temperature lowers the cost a token, which the field reports as generative perplexity
(its exponential), by saying few different tokens (Zheng et al. 2024, arXiv 2409.02908).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unspoken.model.denoiser import Denoiser
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.losses import packed_losses
from unspoken.training.objective import MultiToken, MuToR, NextTokenPrediction, Objective

TOGETHER = 50  # samples in a pass


def unigram_entropy(tokens: Tensor, said: Tensor, vocab_size: int) -> Tensor:
    """`[n]` float64 nats: of each sample, the entropy of which tokens it says how often.

    tokens: `[n, length]` ids below vocab_size. said: `[n, length]` bool, which of them the model said; one or more.
    """
    counts = torch.zeros(len(tokens), vocab_size, dtype=torch.float64, device=tokens.device)
    counts.scatter_add_(1, tokens, said.double())
    return torch.special.entr(counts / counts.sum(1, keepdim=True)).sum(1)


def reader(train: Train) -> Objective | None:
    """What asks a model of every token from left to right, each beside what it was trained beside; None where none.

    That is an exact likelihood, as a chain of conditionals. A masked model has bounds, which are not comparable.
    """
    objective = train.objective
    if not train.attention.cacheable:  # all tokens are asked in one pass
        return None
    if isinstance(objective, NextTokenPrediction | MuToR):
        return NextTokenPrediction()
    if isinstance(objective, MultiToken) and objective.order == "left_to_right":
        return replace(objective, prefixes=0, weight=0.0, next_token=0.0)
    return None


@torch.no_grad()
def nll_from_left(model: Denoiser, train: Train, samples: Examples) -> Tensor:
    """`[n]` float64 nats a token: what the samples cost a model that reads from the left, given tokens not counted.

    train: the model's config. Raises ValueError for a model that `reader` has nothing for.
    """
    objective = reader(train)
    if objective is None:
        raise ValueError(
            f"attention {train.attention.name} trained with {train.objective} does not read from left to right: its "
            "likelihood is a bound; take a model of NextTokenPrediction, MuToR or MultiToken"
        )
    found = []
    for part in samples.split(TOGETHER):
        packed = objective.pack(train.process, part.x0, part.given, model.mask_id, document=part.document)
        losses = packed_losses(model, packed.to(model.device)).double()
        found.append((losses.sum(1) / packed.one.real.sum(1)).cpu())
    return torch.cat(found)

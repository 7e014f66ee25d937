"""Tokens drawn from what the network predicts: at a temperature, from the most probable alone."""

from __future__ import annotations

import torch
from torch import Tensor

from unspoken import checks
from unspoken.model.drawing import tempered


def check_sampling(temperature: float, top_k: int, top_p: float) -> None:
    """Raises ValueError for numbers that nothing can be drawn by, and for a choice that a temperature of 0 ignores."""
    checks.temperature(temperature)
    checks.count("top_k", top_k)
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p}; give a probability above 0, 1 for every token")
    if temperature == 0 and (top_k or top_p < 1):
        raise ValueError(f"top_k={top_k}, top_p={top_p} at temperature 0, which says the likeliest; give temperature=1")


def drawn(logits: Tensor, generator: torch.Generator, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """`[...]` ids of logits `[..., vocab]`: the likeliest at temperature 0.

    top_k: of the k most probable alone; 0 for all. top_p: of the most probable that together have this probability.
    """
    if temperature == 0:
        return logits.argmax(-1)
    p = nucleus(tempered(logits, temperature), top_k, top_p)
    noise = torch.empty(p.shape, device=generator.device).exponential_(generator=generator)
    return (p / noise.to(p.device)).argmax(-1)


def nucleus(p: Tensor, top_k: int, top_p: float) -> Tensor:
    """Probabilities `[..., vocab]`, 0 outside of the k most probable, then outside of the nucleus; not normalised.

    The nucleus (Holtzman et al. 2020, arXiv 1904.09751) is the fewest tokens that together have `top_p` of what is
    left, at least one.
    """
    if 0 < top_k < p.shape[-1]:
        least = p.topk(top_k, dim=-1).values[..., -1:]
        p = torch.where(p < least, 0.0, p)
    if top_p >= 1:
        return p
    ordered, which = p.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered  # what the more probable ones have together
    kept = torch.where(before < top_p * ordered.sum(-1, keepdim=True), ordered, 0.0)
    return torch.zeros_like(p).scatter(-1, which, kept)

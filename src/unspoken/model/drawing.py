"""Ids drawn from logits, at any temperature."""

from __future__ import annotations

import torch
from torch import Tensor


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature) `[..., vocab]` at any temperature above 0, also one that float32 does not hold."""
    # Less the maximum first: a small temperature would carry the logits past what floats hold.
    return ((logits - logits.amax(-1, keepdim=True)) / min(max(temperature, 1e-37), 1e37)).softmax(-1)


def draw_ids(logits: Tensor, generator: torch.Generator | None, temperature: float) -> tuple[Tensor, Tensor]:
    """Ids `[batch, m]` drawn from softmax(logits / temperature), the likeliest at 0; their log-probabilities at 1."""
    logp = logits.log_softmax(-1)
    if temperature == 0:
        ids = logp.argmax(-1)
    else:
        device = logp.device if generator is None else generator.device
        noise = torch.empty(logp.shape, device=device, dtype=logp.dtype).exponential_(generator=generator)
        ids = (tempered(logp, temperature) / noise.to(logp.device)).argmax(-1)
    return ids, logp.gather(-1, ids[..., None])[..., 0]

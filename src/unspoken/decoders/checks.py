"""What can not be decoded, refused before any work."""

from __future__ import annotations

import torch
from torch import Tensor

from unspoken.model.denoiser import Model


def check_tokens(model: Model, tokens: Tensor, present: Tensor | None = None) -> None:
    """Raises ValueError for what can not be decoded."""
    if tokens.dim() == 3:
        raise ValueError(
            f"tokens are {tuple(tokens.shape)}, as values are: those need a model with a port, and "
            "Slots (codes) or Walk (vectors)"
        )
    if tokens.dim() != 2 or tokens.dtype != torch.int64:
        raise ValueError(f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}; give int64 [batch, seq]")
    if present is not None and present.shape != tokens.shape:
        raise ValueError(f"present has shape {tuple(present.shape)}, tokens {tuple(tokens.shape)}; make them equal")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < model.vocab_size:
        raise ValueError(
            f"token ids run from {int(tokens.min())} to {int(tokens.max())}, the model's vocabulary from 0 to "
            f"{model.vocab_size - 1}: was the model trained on another task?"
        )


def check_all_present(decoder: object, present: Tensor | None) -> None:
    """Raises ValueError where rows end early, for decoders whose passes hold every position."""
    if present is not None and not bool(present.bool().all()):
        raise ValueError(f"{type(decoder).__name__} takes rows of one length; leave present out, or decode by Slots")


def check_causal(decoder: object, model: Model) -> None:
    """Raises ValueError where the context would see what comes after it."""
    if not model.attention.cacheable:
        raise ValueError(
            f"{type(decoder).__name__} with attention {model.attention.name}: its context sees what comes after it, "
            "and no such model is trained so; take cached-joint, cached-alone or any-order, or decode by Slots"
        )

"""What is asked of a `transformers` trunk, whatever its family."""

from __future__ import annotations

import copy
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


REMEDY = "take a decoder with full attention and rotary or learned positions, such as Llama, Qwen or GPT-2"


class Clock(nn.Module):
    """Every token's time, read at the input: cosines of it, and one linear map that begins at nothing."""

    WAVES = 16

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(self.WAVES, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, t: Tensor) -> Tensor:
        """`[batch, entries]` in [0, 1] to `[batch, entries, width]`."""
        waves = torch.arange(1, self.WAVES + 1, device=t.device) * torch.pi
        return self.linear(torch.cos(t[..., None] * waves).to(self.linear.weight.dtype))


def vocabulary(trunk: PreTrainedModel) -> int:
    """Token ids that the trunk reads, the mask included."""
    embedding = trunk.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise ValueError(f"{type(trunk).__name__} does not read tokens by one table of embeddings; {REMEDY}")
    return embedding.num_embeddings


def output_head(trunk: PreTrainedModel) -> nn.Module:
    """From last states to logits. Raises ValueError where there is none."""
    head = trunk.get_output_embeddings()
    if head is None:
        raise ValueError(f"{type(trunk).__name__} has no output embedding; take a causal language model")
    return head


def body(trunk: PreTrainedModel) -> PreTrainedModel:
    """What computes the last states, without the output embedding. Raises ValueError where there is no such part."""
    inner: Any = trunk.base_model if trunk.base_model is not trunk else getattr(trunk, "model", None)
    if inner is None:
        raise ValueError(f"{type(trunk).__name__} has no part that computes its last states alone")
    return inner


def cache_argument(trunk: PreTrainedModel) -> str:
    """What the trunk calls its keys and values: transformers renamed `past_key_values` to `cache` in 5.24."""
    return "cache" if "cache" in signature(body(trunk).forward).parameters else "past_key_values"


def use_attention(trunk: PreTrainedModel, kernel: str) -> None:
    """Sets how a trunk computes attention, in configs of its own: other models of the same config stay as they are.

    Raises ValueError where transformers has no such implementation for its family.
    """
    memo: dict[int, Any] = {}  # one copy of each, whichever modules hold it
    for module in trunk.modules():
        if (config := getattr(module, "config", None)) is not None:
            module.config = copy.deepcopy(config, memo)  # pyright: ignore[reportArgumentType]
    try:
        trunk.set_attn_implementation({"sdpa": "sdpa", "flex": "flex_attention"}[kernel])
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"{type(trunk).__name__} does not support an attention implementation by {kernel} in transformers; {REMEDY}"
        ) from error

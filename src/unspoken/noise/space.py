"""What the tokens of a task are: ids of a vocabulary, or vectors of real numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken import checks

MASK = "<|mask|>"  # the mask as a new token of a tokenizer is called so
PADDING = -1  # the document of tokens that are not there: a row may be shorter than its batch


@dataclass(frozen=True)
class Ids:
    """Token ids. The data's are 0, ..., mask_id - 1; the mask comes after them."""

    mask_id: int

    def __post_init__(self) -> None:
        checks.count("mask_id", self.mask_id)

    def check(self, x0: Tensor) -> None:
        """Raises ValueError unless x0 is `[batch, seq]` whole numbers."""
        if x0.dim() != 2 or x0.is_floating_point():
            raise ValueError(f"tokens are {x0.dtype} of shape {tuple(x0.shape)}; give int64 [batch, seq] ids")


@dataclass(frozen=True)
class Reals:
    """Vectors of `width` real numbers."""

    width: int

    def __post_init__(self) -> None:
        checks.count("width", self.width, 1)

    def check(self, x0: Tensor) -> None:
        """Raises ValueError unless x0 is `[batch, seq, width]` real numbers."""
        if x0.dim() != 3 or x0.shape[2] != self.width or not x0.is_floating_point():
            raise ValueError(
                f"values are {x0.dtype} of shape {tuple(x0.shape)}; give floats [batch, seq, {self.width}]"
            )


Space = Ids | Reals


def unknown(value: Tensor) -> Tensor:
    """What stands for a value that is not known: not a number for vectors, -1 for codes."""
    return value.new_full((), float("nan") if value.is_floating_point() else -1)


def is_unknown(value: Tensor) -> Tensor:
    """`[..., length]` bool: which of the values `[..., length, width]` are not known."""
    return (value.isnan() if value.is_floating_point() else value < 0).any(-1)


def paired(token: Tensor, value: Tensor) -> Tensor:
    """`[..., length, 1 + width]`: ids `[..., length]` and values `[..., length, width]` as one tensor, the id first."""
    return torch.cat([token[..., None].to(value.dtype), value], -1)


def unpaired(both: Tensor) -> tuple[Tensor, Tensor]:
    """The ids and the values that `paired` put together."""
    return both[..., 0].long(), both[..., 1:]

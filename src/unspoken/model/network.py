"""What is asked of a network, whatever it is made of."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from unspoken.layout.attention import Attention
from unspoken.layout.entries import Layout
from unspoken.model.cache import Cache


class Model(Protocol):
    """What losses and decoders ask of a network; `denoiser.Denoiser` is one, an exact table in a test is another."""

    @property
    def attention(self) -> Attention: ...
    @property
    def mask_id(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Logits `[batch, m, vocab]` of the clean token at the entries `at` `[batch, m]` (all when None).

        The mask is never a clean token: its logit is -inf. cache: one of `new_cache`, whose context is seen too; the
        caller says what of this pass to keep in it (`Cache.keep`).
        """
        ...

    def new_cache(self) -> Cache | None:
        """An empty cache, None where the model can not use one exactly."""
        ...

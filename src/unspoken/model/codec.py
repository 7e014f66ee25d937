"""Blocks of words as blocks of vectors, and back, by the model that an `Autoencoding` run trained."""

from __future__ import annotations

import torch
from torch import Tensor

from unspoken.layout.reads import shown
from unspoken.layout.thoughts import to_vectors, to_words
from unspoken.model.adapters import without_adapter
from unspoken.model.denoiser import Denoiser
from unspoken.noise.gaussian import Normal
from unspoken.noise.thoughts import Thoughts


@torch.no_grad()
def vectors_of(codec: Denoiser, thoughts: Tensor, there: Tensor, vectors: int) -> Tensor:
    """`[n, blocks, vectors, width]`: the means of the vectors of thoughts `[n, blocks, words]`.

    there: `[n, blocks]` bool, which thoughts there are; of the others the vectors are anything.
    """
    layout = to_vectors(thoughts, there, vectors, codec.mask_id)
    first = thoughts.shape[1] * thoughts.shape[2]
    at = torch.arange(first, layout.shape[1], device=thoughts.device).expand(len(thoughts), -1)
    prediction: Normal = codec.predict_values(layout, at)
    return prediction.mean.unflatten(1, (thoughts.shape[1], vectors))


@torch.no_grad()
def words_of(codec: Denoiser, value: Tensor, form: Thoughts) -> Tensor:
    """The words `[n, words]` of one thought a row, each the likeliest after those before it.

    value: `[n, vectors, width]`.
    """
    n, vectors, _ = value.shape
    there = torch.ones(n, 1, dtype=torch.bool, device=value.device)
    said = torch.empty(n, 1, 0, dtype=torch.int64, device=value.device)
    cache = codec.new_cache()
    at = torch.arange(vectors, device=value.device).expand(n, vectors)
    with without_adapter(codec.trunk):
        for _ in range(form.words):
            layout = shown(to_words(said, there, vectors, form), at, value)
            if cache is not None:
                new = torch.arange(len(cache), layout.shape[1], device=value.device).expand(n, -1)
                layout = layout.select(new)
            last = torch.full((n, 1), layout.shape[1] - 1, device=value.device)
            logits = codec(layout, last, cache)
            if cache is not None:
                cache.keep(layout, layout.shape[1])
            said = torch.cat([said, logits.argmax(-1)[:, None]], 2)
    return said[:, 0]

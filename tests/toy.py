"""Networks whose answers are known: an exact table, and one that knows nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaConfig

from unspoken.attention import SCDM, Attention
from unspoken.cache import Cache
from unspoken.denoiser import Denoiser
from unspoken.layout import Layout


def all_sequences(vocab: int, length: int) -> Tensor:
    """`[vocab ** length, length]`: every sequence."""
    return torch.cartesian_prod(*[torch.arange(vocab)] * length).view(-1, length)


@dataclass
class Exact:
    """The exact conditional marginals of a distribution over all sequences, given what is said.

    p: `[vocab ** length]` probabilities in the order of `all_sequences`. The mask is token `vocab`.
    """

    p: Tensor
    vocab: int
    length: int
    attention: Attention = SCDM

    @property
    def mask_id(self) -> int:
        return self.vocab

    @property
    def vocab_size(self) -> int:
        return self.vocab + 1

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        states = all_sequences(self.vocab, self.length)
        match = torch.ones(layout.shape[0], len(states), dtype=torch.bool)
        for e in range(layout.shape[1]):
            agrees = layout.token[:, e, None] == states[:, layout.position[:, e]].T
            match &= agrees | ~layout.said[:, e, None]
        weight = self.p * match
        position = layout.position if at is None else layout.position.gather(1, at)
        one_hot = torch.nn.functional.one_hot(states, self.vocab_size).to(self.p.dtype)  # [states, length, vocab]
        marginal = torch.einsum("bs,slv->blv", weight, one_hot) / weight.sum(1)[:, None, None]
        return marginal.gather(1, position[..., None].expand(-1, -1, self.vocab_size)).log()

    def new_cache(self) -> None:
        return None


@dataclass
class Ignorant:
    """Zero logits for every token but the mask; counts its calls and keeps the layouts it was shown."""

    vocab: int
    attention: Attention = SCDM

    def __post_init__(self) -> None:
        self.seen: list[Layout] = []

    @property
    def mask_id(self) -> int:
        return self.vocab

    @property
    def vocab_size(self) -> int:
        return self.vocab + 1

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        self.seen.append(layout)
        shape = layout.shape if at is None else tuple(at.shape)
        logits = torch.zeros(*shape, self.vocab_size)
        logits[..., self.mask_id] = -torch.inf
        return logits

    def new_cache(self) -> None:
        return None


def tiny(attention: Attention, vocab: int = 6, seed: int = 0) -> Denoiser:
    """A real two-layer Llama in float64, its weights large enough that everything visible matters."""
    config = LlamaConfig(
        vocab_size=vocab + 1,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Denoiser.from_config(config, attention=attention, mask_id=vocab).double().eval()


def random_distribution(vocab: int, length: int, seed: int = 0) -> Tensor:
    """Strictly positive and far from independent."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(vocab**length, generator=generator, dtype=torch.float64)
    return logits.softmax(0)

"""Networks whose answers are known: an exact table, and one that knows nothing. And data to try them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LlamaConfig

from unspoken.layout.attention import SCDM, Attention
from unspoken.layout.entries import PADDING, Layout, one_block
from unspoken.layout.packing import Packed
from unspoken.layout.questions import joined
from unspoken.model.cache import Cache
from unspoken.model.denoiser import Denoiser
from unspoken.model.network import Model
from unspoken.model.ports import Port
from unspoken.training.config import Trunk

EXACT: dict[str, Any] = {"rtol": 0.0, "atol": 1e-9}  # for float64


def all_sequences(vocab: int, length: int) -> Tensor:
    """`[vocab ** length, length]`: every sequence."""
    return torch.cartesian_prod(*[torch.arange(vocab)] * length).view(-1, length)


@dataclass
class Exact:
    """The exact conditional marginals of a distribution over all sequences, given the tokens that an entry may see.

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
        seen = layout if cache is None else cache.before(layout)
        tells = (seen.token != self.mask_id) & (seen.document != PADDING)
        sees = seen.mask(self.attention, seen.shape[1] - layout.shape[1])[:, 0] & tells[:, None]
        position = layout.position
        if at is not None:
            sees = sees.gather(1, at[..., None].expand(-1, -1, sees.shape[2]))
            position = position.gather(1, at)
        match = torch.ones(*position.shape, len(states), dtype=torch.bool)
        for e in range(seen.shape[1]):
            agrees = seen.token[:, e, None] == states[:, seen.position[:, e]].T
            match &= agrees[:, None] | ~sees[:, :, e, None]
        weight = self.p * match
        one_hot = torch.nn.functional.one_hot(states, self.vocab_size).to(self.p.dtype)  # [states, length, vocab]
        marginal = torch.einsum("bms,slv->bmlv", weight, one_hot) / weight.sum(2)[..., None, None]
        index = position[..., None, None].expand(-1, -1, 1, self.vocab_size)
        return marginal.gather(2, index)[:, :, 0].log()

    def new_cache(self) -> Cache | None:
        return Cache() if self.attention.cacheable else None


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

    def new_cache(self) -> Cache | None:
        return Cache() if self.attention.cacheable else None


class Pass(NamedTuple):
    """What a network was shown, where it was asked, and what it thought."""

    layout: Layout
    at: Tensor
    logits: Tensor


class Spy:
    """A network watched from outside: every pass, and the cache it last used.

    says: what it answers in place of what it thought, `[batch, m]` tokens, from the layout, the entries asked and the
        number of the pass.
    """

    def __init__(self, inner: Model, says: Callable[[Layout, Tensor, int], Tensor] | None = None) -> None:
        self.inner, self.says, self.passes = inner, says, list[Pass]()
        self.used: Cache | None = None
        self.attention, self.mask_id, self.vocab_size = inner.attention, inner.mask_id, inner.vocab_size

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        assert at is not None
        logits, self.used = self.inner(layout, at, cache), cache
        self.passes.append(Pass(layout, at, logits))
        if self.says is None:
            return logits
        said = self.says(layout, at, len(self.passes) - 1)
        return torch.nn.functional.one_hot(said, self.vocab_size).double()

    def new_cache(self) -> Cache | None:
        return self.inner.new_cache()

    @property
    def cache(self) -> Cache:
        """The one of the last pass."""
        assert self.used is not None
        return self.used


TRUNK = Trunk(layers=1, width=16, heads=2)  # of runs whose losses do not matter


def tiny(
    attention: Attention,
    vocab: int = 6,
    seed: int = 0,
    layers: int = 2,
    positions: int = 0,
    port: Port | None = None,
    loops: int = 1,
    carry: bool = False,
) -> Denoiser:
    """A real small Llama in float64, its weights large enough that everything visible matters.

    positions: learned ones; without them masks that see nothing but masks are all alike.
    carry: slots read carried states, by a map that is not zero.
    """
    config = LlamaConfig(
        vocab_size=vocab + 1,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        given: dict[str, Any] = {"attention": attention, "mask_id": vocab, "positions": positions, "port": port}
        model = Denoiser.from_config(config, **given, loops=loops, carry=carry)
        if model.carried is not None:
            torch.nn.init.normal_(model.carried.weight, std=0.3)
        return model.double().eval()


def random_distribution(vocab: int, length: int, seed: int = 0) -> Tensor:
    """Strictly positive and far from independent."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(vocab**length, generator=generator, dtype=torch.float64)
    return logits.softmax(0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ragged_clean(free: tuple[int, ...] = (6, 4, 1, 0), length: int = 7, vocab: int = 6) -> tuple[Tensor, Tensor]:
    """Clean tokens `[rows, length]`, and which are given: `free` of a row are not, at arbitrary positions."""
    shape = (len(free), length)
    rank = torch.rand(shape, generator=seeded(1)).argsort(1)
    return torch.randint(vocab, shape, generator=seeded()), rank >= torch.tensor(free)[:, None]


def alone(model: Model, x0: Tensor, prompt: Tensor, said: dict[int, int], block: list[tuple[int, int]]) -> Tensor:
    """Logits by position of the one pass that decoding makes: prompt, said tokens and a block, and nothing else.

    x0, prompt: `[seq]`. said: position -> when the token was said; block: position and token of its slots.
    """
    tokens, order, unsaid = x0.clone(), torch.zeros_like(x0), torch.zeros_like(prompt)
    for p, date in said.items():
        order[p] = date
    for slot, (p, token) in enumerate(block):
        # The nearest latent ranks first, what is said next last.
        tokens[p], order[p], unsaid[p] = token, slot or len(x0), True
    entries = [p for p in range(len(x0)) if prompt[p] or p in said or unsaid[p]]
    layout = one_block(tokens[None], unsaid[None], order[None]).select(torch.tensor([entries]))
    logits = model(layout)[0]
    return torch.zeros(len(x0), logits.shape[-1], dtype=logits.dtype).index_copy(0, torch.tensor(entries), logits)


def chi_square_p(counts: Tensor, p: Tensor) -> float:
    """The p-value of Pearson's chi-square test of `counts` against the distribution `p`."""
    expected = p * counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(p) - 1) / 2, dtype=torch.float64), statistic / 2))


def side_by_side(packs: Sequence[Packed]) -> Packed:
    """Documents of equal batch in one pass, one after the other; they do not see each other, and count alike."""
    layout, questions, width = None, [], 0
    for number, packed in enumerate(packs):
        there = packed.layout.document != PADDING
        own = replace(packed.layout, document=torch.where(there, number, PADDING))
        layout = own if layout is None else layout.join(own)
        questions += [replace(q, at=q.at + width, weight=q.weight / len(packs)) for q in packed.questions]
        width += own.shape[1]
    if layout is None:
        raise ValueError("no documents given; give at least one")
    return Packed(layout, joined(tuple(questions)))

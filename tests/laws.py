"""The laws of a trunk, measured: by how much each is broken, as a part of the largest state."""

from __future__ import annotations

import dataclasses

import torch
from small import MASK, VOCAB
from torch import Tensor

from unspoken.decoders.decode import decode
from unspoken.layout.entries import Layout, random_order
from unspoken.model.denoiser import Denoiser
from unspoken.model.reach import limits

ENTRIES = 24


def domain(model: Denoiser) -> tuple[int, int]:
    """How many positions and entries a pass may have."""
    far, many = limits(model.trunk.config)
    positions = min([limit.size for limit in far] + [model.known_positions or 64])
    return positions, min([limit.size - 1 for limit in many] + [ENTRIES, positions])


def some_layout(model: Denoiser, rows: int = 3, spread: bool = True) -> Layout:
    """Half the tokens unsaid, a few given, in random order; where spread, at positions as far as they may be."""
    generator = torch.Generator().manual_seed(0)
    positions, entries = domain(model)
    shape = (rows, entries)
    token = torch.randint(MASK, shape, generator=generator)
    unsaid = torch.rand(shape, generator=generator) < 0.5
    given = ~unsaid & (torch.rand(shape, generator=generator) < 0.4)
    layout = random_order(torch.where(unsaid, MASK, token), unsaid, given, generator)
    positions = positions if spread else entries
    places = torch.stack([torch.randperm(positions, generator=generator)[:entries].sort().values for _ in range(rows)])
    # In the last row the context comes first: without its latents nothing is far.
    places[-1] = places[-1].gather(0, layout.unsaid[-1].to(torch.int8).argsort(stable=True).argsort())
    return dataclasses.replace(layout, position=places)


def off(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a part of the largest value."""
    worst = (a - b).abs().max() / b.abs().max() if b.numel() else torch.zeros(())
    return float(worst.nan_to_num(1e9))


def at(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def masks(model: Denoiser, layout: Layout, states: Tensor) -> float:
    """Other tokens at the entries that no context sees."""
    token = torch.where(layout.unsaid, (layout.token + 1) % VOCAB, layout.token)
    moved = model.states(dataclasses.replace(layout, token=token))
    return off(moved[layout.said], states[layout.said])


def attention(model: Denoiser, layout: Layout, states: Tensor) -> float:
    """Other tokens in the context: a latent must notice, or the other laws hold of a trunk that looks at nothing."""
    token = torch.where(layout.said, (layout.token + 1) % MASK, layout.token)
    moved = model.states(dataclasses.replace(layout, token=token))
    return 0.0 if off(moved[layout.unsaid], states[layout.unsaid]) > 1e-3 else 1.0


def order_of_the_list(model: Denoiser, layout: Layout, states: Tensor) -> float:
    index = torch.rand(layout.shape, generator=torch.Generator().manual_seed(1)).argsort(1)
    return off(model.states(layout.select(index)), at(states, index))


def dropped(model: Denoiser, layout: Layout, states: Tensor) -> float:
    """Without the latents that come late, and without any, in all rows and in the last: no other entry sees them."""
    worst = 0.0
    for keep in (layout.said | (layout.order <= 2), layout.said):
        for rows in (torch.arange(len(states)), torch.tensor([len(states) - 1])):
            small = layout.rows(rows).select_where(keep[rows])
            part = model.states(small)
            real = small.said | small.unsaid
            worst = max(worst, off(part[real], states[rows][keep[rows]]))
    return worst


def batch(model: Denoiser, layout: Layout, states: Tensor) -> float:
    """A row alone."""
    return max(off(model.states(layout.rows(torch.tensor([r]))), states[r : r + 1]) for r in range(len(states)))


def packed(model: Denoiser, layout: Layout, states: Tensor) -> float:
    """Two documents side by side in one row, as many entries of each as there is room for."""
    half = torch.arange(layout.shape[1] // 2)[None]
    one, two = (layout.rows(torch.tensor([row])).select(half) for row in (0, 1))
    both = one.join(dataclasses.replace(two, document=two.document + 1))
    return off(model.states(both), torch.cat([model.states(one), model.states(two)], 1))


def cached(model: Denoiser, layout: Layout, states: Tensor) -> float:
    """Decoding with a cache and without: the probabilities of what is said."""
    if not model.attention.cacheable:
        return 0.0
    tokens = torch.full((2, max(3, domain(model)[1] - 2)), MASK)  # a cache holds padding too: room for two of it
    tokens[0, :2] = 1
    runs = [
        list(decode(model, tokens, latents=1, order="left_to_right", latent_policy="next", cache=cache))
        for cache in (True, False)
    ]
    return max(off(a.confidence, b.confidence) for a, b in zip(*runs, strict=True))


def head(model: Denoiser, layout: Layout, states: Tensor) -> float:
    """The trunk's own logits beside the output embedding of its last states."""
    whole = model.trunk(
        inputs_embeds=model.embed(layout),
        position_ids=layout.position,
        attention_mask=model.mask(layout, model.attention),
    ).logits
    ours = model(layout)
    return off(ours[..., :MASK], whole[..., :MASK].to(ours.dtype))


LAWS = {law.__name__: law for law in (masks, attention, order_of_the_list, dropped, batch, packed, cached, head)}


@torch.no_grad()
def measured(model: Denoiser) -> dict[str, float]:
    """By how much each law is broken; infinity where it can not be asked."""
    found: dict[str, float] = {}
    try:
        layout = some_layout(model)
        states = model.states(layout)
    except Exception:
        found["runs"] = float("inf")
        try:
            layout = some_layout(model, spread=False)
            states = model.states(layout)
        except Exception:
            return found
    for name, law in LAWS.items():
        try:
            found[name] = law(model, layout, states)
        except Exception:
            found[name] = float("inf")  # it can not be asked
    return found

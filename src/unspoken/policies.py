"""Which unsaid positions may be said next, which of them are, and which keep them company: the policies.

An `Order` is two small functions. `before` ranks the unsaid positions ahead of the pass (the first become
candidates); `after` scores the candidates by what the network said of them (the best are committed). A blind order
has no `after`: it knows its positions beforehand, so its passes carry no other candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unspoken.layout import draw_ranks

Before = Callable[[Tensor, torch.Generator], Tensor]
After = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Order:
    """before: (unsaid `[batch, seq]` bool, generator) -> score `[batch, seq]`, lowest first.

    after: log-probabilities `[batch, candidates, vocab]` -> score `[batch, candidates]`, highest first.
    """

    name: str
    before: Before
    after: After | None = None


def at_random(unsaid: Tensor, generator: torch.Generator) -> Tensor:
    """Independent uniform scores `[batch, seq]`: a uniformly random ranking."""
    return torch.rand(unsaid.shape, generator=generator, device=generator.device).to(unsaid.device)


def from_left(unsaid: Tensor, generator: torch.Generator) -> Tensor:
    """The position itself `[batch, seq]`: leftmost first."""
    return torch.arange(unsaid.shape[1], device=unsaid.device).expand(unsaid.shape)


def top_probability(logp: Tensor) -> Tensor:
    """The log-probability of the likeliest token (Kim et al. 2025, arXiv 2502.06768: "top probability")."""
    return logp.amax(-1)


def top_margin(logp: Tensor) -> Tensor:
    """The probability of the likeliest token less that of the runner-up (arXiv 2502.06768: "margin")."""
    first, second = logp.exp().topk(2, dim=-1).values.unbind(-1)
    return first - second


def least_entropy(logp: Tensor) -> Tensor:
    """The negative entropy in nats (Dream's "entropy")."""
    return torch.special.entr(logp.exp()).sum(-1).neg()


UNIFORM = Order("uniform", at_random)
LEFT_TO_RIGHT = Order("left_to_right", from_left)
CONFIDENCE = Order("confidence", at_random, top_probability)
MARGIN = Order("margin", at_random, top_margin)
ENTROPY = Order("entropy", at_random, least_entropy)

ORDERS: dict[str, Order] = {o.name: o for o in (UNIFORM, LEFT_TO_RIGHT, CONFIDENCE, MARGIN, ENTROPY)}


def order_named(order: Order | str) -> Order:
    """An `Order`, or the one of that name."""
    if isinstance(order, Order):
        return order
    if order not in ORDERS:
        raise ValueError(f"no order is called {order!r}; write one of {', '.join(ORDERS)}, or pass an Order")
    return ORDERS[order]


Beside = Literal["uniform", "next"]


def latent_ranks(beside: Beside, rest: Tensor, turn: Tensor, generator: torch.Generator) -> Tensor:
    """`[batch, seq]` int: the order in which the unsaid positions `rest` are taken as latents.

    uniform: at random (the paper's policy). next: by `turn`, their place in the order of decoding.
    """
    return turn if beside == "next" else draw_ranks(rest, generator)

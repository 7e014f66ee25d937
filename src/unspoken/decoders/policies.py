"""Which unsaid positions are candidates, and which are latents: the policies. How many are committed: `commit`.

An `Order` ranks the unsaid positions ahead of the pass (the first become candidates) and scores the candidates by what
the network said of them. A `LatentPolicy` ranks the other unsaid positions: the first are predicted too. The tables
`ORDERS` and `LATENT_POLICIES` are names for some of them: a value that is in no table does as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from unspoken import checks

T = TypeVar("T")


@dataclass(frozen=True)
class Ahead:
    """What is known before a pass, each `[r, seq]`.

    unsaid: bool. entropy: nats when last predicted, infinite where never. looked: in which pass that was, -1 for never.
    """

    unsaid: Tensor
    entropy: Tensor
    looked: Tensor
    generator: torch.Generator


NEVER = 100.0  # past the entropy of any vocabulary, and not so large that float32 loses a random order beside it
Before = Callable[[Ahead], Tensor]
After = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Order:
    """before: what is known ahead -> score `[r, seq]`, lowest first.

    after: log-probabilities `[r, candidates, vocab]` -> score `[r, candidates]`, highest first. A blind order has none:
    it knows its positions beforehand, so its passes carry no other candidates.
    needs_entropy: the head must run on the latents too.
    """

    name: str
    before: Before
    after: After | None = None
    needs_entropy: bool = False

    def __post_init__(self) -> None:
        checks.kind("name", self.name, str, "a name, as text")
        checks.function("before", self.before, "what is known ahead of a pass to scores, the lowest first")
        if self.after is not None:
            checks.function("after", self.after, "log-probabilities to scores, the highest first")

    @property
    def blind(self) -> bool:
        """Whether it knows its positions before the pass."""
        return self.after is None

    def score(self, logp: Tensor) -> Tensor:
        """`[r, candidates]`, highest first, of log-probabilities `[r, candidates, vocab]`; of one that is not blind."""
        assert self.after is not None
        return self.after(logp)

    def as_record(self) -> str:
        """Its name, where it is in the table. Raises ValueError where it is not."""
        return _recorded(self, ORDERS, "order")


def at_random(ahead: Ahead) -> Tensor:
    """Independent uniform scores `[r, seq]`: a uniformly random ranking."""
    device = ahead.generator.device
    return torch.rand(ahead.unsaid.shape, generator=ahead.generator, device=device).to(ahead.unsaid.device)


def from_left(ahead: Ahead) -> Tensor:
    """The position itself `[r, seq]`: leftmost first."""
    unsaid = ahead.unsaid
    return torch.arange(unsaid.shape[1], dtype=torch.float32, device=unsaid.device).expand(unsaid.shape)


def most_certain(ahead: Ahead) -> Tensor:
    """The entropy when last predicted; those that never were come last, in random order."""
    chance = at_random(ahead)
    return torch.where(ahead.entropy.isinf(), NEVER + chance, ahead.entropy + 1e-6 * chance)


def least_certain(ahead: Ahead) -> Tensor:
    """The least certain when last predicted first; before them all those that never were, in random order."""
    chance = at_random(ahead)
    return torch.where(ahead.entropy.isinf(), chance - NEVER, 1e-6 * chance - ahead.entropy)


def longest_ago(ahead: Ahead) -> Tensor:
    """Those that were not predicted for the longest time first."""
    return ahead.looked + at_random(ahead)


def top_probability(logp: Tensor) -> Tensor:
    """The log-probability of the likeliest token (Kim et al. 2025, arXiv 2502.06768: "top probability")."""
    return logp.amax(-1)


def top_margin(logp: Tensor) -> Tensor:
    """The probability of the likeliest token less that of the runner-up (arXiv 2502.06768: "margin")."""
    first, second = logp.exp().topk(2, dim=-1).values.unbind(-1)
    return first - second


def least_entropy(logp: Tensor) -> Tensor:
    """The negative entropy in nats (Dream's "entropy")."""
    return entropy_of(logp).neg()


def entropy_of(logp: Tensor) -> Tensor:
    """Nats, `[..., vocab]` log-probabilities to `[...]`.

    Where an end was barred (`Endings.in_turn`), less than all probability is left: minus its logarithm is added, for
    what else may be said there is unlikely, however few tokens it is.
    """
    p = logp.exp()
    left = p.sum(-1)
    return torch.special.entr(p).sum(-1) + torch.where(left < 0.999, -left.log(), 0.0)


UNIFORM = Order("uniform", at_random)
LEFT_TO_RIGHT = Order("left_to_right", from_left)
CONFIDENCE = Order("confidence", at_random, top_probability)
MARGIN = Order("margin", at_random, top_margin)
ENTROPY = Order("entropy", at_random, least_entropy)
PROMISING = Order("promising", most_certain, top_probability, needs_entropy=True)

ORDERS: dict[str, Order] = {o.name: o for o in (UNIFORM, LEFT_TO_RIGHT, CONFIDENCE, MARGIN, ENTROPY, PROMISING)}


def order_named(order: Order | str) -> Order:
    """An `Order`, or the one of that name."""
    return _known(order, ORDERS, "order", Order)


def _known(value: T | str, table: dict[str, T], option: str, kind: type[T]) -> T:
    if isinstance(value, kind):
        return value
    if not isinstance(value, str):
        raise ValueError(
            f"{option}={value!r}; write one of {', '.join(table)}, or pass a us.{kind.__name__}(name, ...)"
        )
    if value not in table:
        raise ValueError(f"no {option} is called {value!r}; write one of {', '.join(table)}, or pass one of your own")
    return table[value]


def _recorded(value: Order | LatentPolicy, table: Mapping[str, Order | LatentPolicy], option: str) -> str:
    if table.get(value.name) is not value:
        raise ValueError(
            f"{option} {value.name!r} is a function of yours, and a record holds names of the table alone "
            f"({', '.join(table)}): pass it to us.decode(model, tokens, {option}=...)"
        )
    return value.name


@dataclass(frozen=True)
class Around:
    """What a latent policy may go by.

    rest: `[r, seq]` bool, the unsaid positions that are no candidates: those it ranks.
    candidates: `[r, c]` positions, and `real` `[r, c]`. before: `[r, seq]` the order's scores, lowest first.
    """

    rest: Tensor
    candidates: Tensor
    real: Tensor
    before: Tensor
    ahead: Ahead


@dataclass(frozen=True)
class LatentPolicy:
    """rank: what is around -> score `[r, seq]`, lowest first.

    needs_entropy: the head must run on the latents too. needs_age: it is to be known when each was last predicted.
    inward: where each latent sees those before it, those ranked first come last: what matters most sees the most.
    """

    name: str
    rank: Callable[[Around], Tensor]
    needs_entropy: bool = False
    needs_age: bool = False
    inward: bool = False

    def __post_init__(self) -> None:
        checks.kind("name", self.name, str, "a name, as text")
        checks.function("rank", self.rank, "what is around to scores, the lowest first")

    def as_record(self) -> str:
        """Its name, where it is in the table. Raises ValueError where it is not."""
        return _recorded(self, LATENT_POLICIES, "latent_policy")


def _nearest(around: Around) -> Tensor:
    """The distance to the nearest candidate; ties at random."""
    position = torch.arange(around.rest.shape[1], device=around.rest.device)
    far = (position - around.candidates[..., None]).abs().float()  # [r, c, seq]
    return torch.where(around.real[..., None], far, math.inf).amin(1) + at_random(around.ahead)


UNIFORM_LATENTS = LatentPolicy("uniform", lambda around: at_random(around.ahead))
NEXT_IN_ORDER = LatentPolicy("next", lambda around: around.before)
NEAREST = LatentPolicy("nearest", _nearest, inward=True)
UNCERTAIN = LatentPolicy("uncertain", lambda around: least_certain(around.ahead), needs_entropy=True)
CERTAIN = LatentPolicy("certain", lambda around: most_certain(around.ahead), needs_entropy=True)
OLDEST = LatentPolicy("oldest", lambda around: longest_ago(around.ahead), needs_age=True)

LATENT_POLICIES: dict[str, LatentPolicy] = {
    p.name: p for p in (UNIFORM_LATENTS, NEXT_IN_ORDER, NEAREST, UNCERTAIN, CERTAIN, OLDEST)
}


def attended(relation: Tensor) -> LatentPolicy:
    """Those that the candidates attend to most.

    relation: `[seq, seq]` how much the entry at a position (row) looks at a latent at another (column), on the whole;
        `relation.relation_of` measures it on a trained model. One table for all inputs: it suits boards and graphs,
        where places have a meaning of their own, and says little of free text.
    """
    checks.kind("relation", relation, Tensor, "a tensor, numbers [seq, seq]")
    if relation.dim() != 2 or relation.shape[0] != relation.shape[1] or not relation.isfinite().all():
        raise ValueError(f"relation of shape {tuple(relation.shape)}; give finite numbers [seq, seq], a row a position")

    def rank(around: Around) -> Tensor:
        if len(relation) != around.rest.shape[1]:
            seq = around.rest.shape[1]
            raise ValueError(f"relation is of {len(relation)} positions, and rows have {seq}: give one [{seq}, {seq}]")
        looks = relation.to(around.rest.device)[around.candidates] * around.real[..., None]  # [r, c, seq]
        return -looks.sum(1)

    return LatentPolicy("attended", rank, inward=True)


def policy_named(policy: LatentPolicy | str) -> LatentPolicy:
    """A `LatentPolicy`, or the one of that name."""
    return _known(policy, LATENT_POLICIES, "latent_policy", LatentPolicy)

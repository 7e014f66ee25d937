"""Attention that grows from a causal model's to its own, over the first steps of an adaptation (`Train.anneal`)."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor

from unspoken.layout.attention import Attention, Entry

PAIRS = 4096  # parts that pairs of entries fall into


@dataclass(frozen=True)
class Annealed(Attention):
    """A rule of which only a share of the pairs that look ahead is open: a query and a key at a later position.

    DiffuLLaMA (arXiv 2410.17891, attention mask annealing). With 0 nothing later is seen, as a causal model was
    trained; with 1 it is the rule itself. Which pairs are open is fixed by their positions, and those that are open at
    one share are open at every larger one.
    """

    ahead: float = 1.0

    def visible(self, q: Entry, k: Entry) -> Tensor:
        """See `Attention.visible`."""
        part = (q.position * 73_856_093 + k.position * 19_349_663) % 2_147_483_647 * 48_271 % 2_147_483_647 % PAIRS
        return super().visible(q, k) & ((k.position <= q.position) | (part < self.ahead * PAIRS))


def annealed(attention: Attention, ahead: float) -> Attention:
    """The rule, of which that share of what looks ahead is open; see `Annealed`."""
    if ahead >= 1:
        return attention
    return Annealed(**{f.name: getattr(attention, f.name) for f in fields(Attention)}, ahead=ahead)

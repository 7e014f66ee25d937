"""Sequences of a sparse Markov chain: a source whose likelihood, entropy and every illegal step are known exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unspoken.tasks.base import SPLITS, Split, check_range
from unspoken.tasks.generated import Generated
from unspoken.tasks.hashing import Hashes, in_order
from unspoken.tasks.sampled import Form
from unspoken.tasks.store import Rows, Stored

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Chain(Generated):
    """A stationary Markov chain in which each state has `len(shares)` legal successors. No prompt: all is said.

    The chain itself is drawn once (`seed`), the same for all splits; training draws new sequences of it without end.

    Attributes:
        states: Of the chain, up to 26: letters.
        shares: Probabilities of a state's successors; they sum to 1.
        length: Tokens of a sequence.
        train: Sequences; 0 for new ones without end.
        validation: Sequences.
        test: Sequences.
        seed: Of the chain and its splits.
    """

    states: int = 16
    shares: tuple[float, ...] = (0.6, 0.3, 0.1)
    length: int = 24  # type: ignore[override]
    train: int = field(default=0, kw_only=True)
    validation: int = field(default=500, kw_only=True)
    test: int = field(default=2_000, kw_only=True)

    name: ClassVar[str] = "chain"
    symmetries: ClassVar[str] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "states", 2, len(LETTERS))
        if not 1 <= len(self.shares) <= self.states:
            raise ValueError(f"{len(self.shares)} shares given, 1 to as many as states={self.states} expected")
        if not abs(sum(self.shares) - 1) <= 1e-9 or not min(self.shares) > 0:
            raise ValueError(f"shares={self.shares}: give probabilities above 0 that sum to 1")
        if self.length < 2:
            raise ValueError(f"length={self.length}: give two tokens or more")

    @cached_property
    def form(self) -> Form:
        return Form(f"chain of {self.states} states", tuple(LETTERS[: self.states]), asked=0, said=self.length)

    @property
    def endless(self) -> int:
        return 100_000

    @property
    def transition(self) -> Tensor:
        """`[from, to]` probabilities, float64."""
        return _chain(self)[0]

    @property
    def entropy(self) -> float:
        """Nats of a sequence: what no model can beat."""
        table, start = _chain(self)
        one = torch.special.entr(table).sum(1)
        return float(torch.special.entr(start).sum() + (self.length - 1) * (start @ one))

    def nll(self, x0: Tensor) -> Tensor:
        """`[n]` nats of sequences, infinite where a step is illegal."""
        table, start = (part.to(x0.device) for part in _chain(self))
        return -start[x0[:, 0]].log() - table[x0[:, :-1], x0[:, 1:]].log().sum(1)

    def illegal(self, x0: Tensor) -> Tensor:
        """`[n, length - 1]` bool: steps that the chain never takes."""
        return self.transition.to(x0.device)[x0[:, :-1], x0[:, 1:]] == 0

    def fresh(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, length]` by inverse distribution functions: one uniform number a token."""
        table, start = _chain(self)
        u = torch.rand(n, self.length, generator=generator, dtype=torch.float64)
        tokens = [(u[:, :1] > start.cumsum(0)).sum(1).clamp_max(self.states - 1)]
        steps = table.cumsum(1)
        for i in range(1, self.length):
            tokens.append((u[:, i, None] > steps[tokens[-1]]).sum(1).clamp_max(self.states - 1))
        return torch.stack(tokens, 1)

    def canonical(self, rows: Rows) -> Hashes:
        return in_order(rows)

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: whether every step is legal."""
        return ~self.illegal(tokens).any(1)

    def encode(self, text: str) -> Tensor:
        """`[length]` ids of letters, `.` where nothing is said yet."""
        known, text = LETTERS[: self.states] + ".", text.strip()
        strange = sorted(set(text) - set(known))
        if strange or len(text) != self.length:
            what = f"{strange}" if strange else f"{len(text)} characters"
            raise ValueError(f"{what} given, {self.length} of {known} expected")
        return torch.tensor([known.index(c) for c in text])

    def show(self, tokens: Tensor) -> str:
        """A sequence as letters."""
        return "".join(self.check_tokens(tokens))

    def gap(self, position: int) -> str:
        """Nothing."""
        return ""

    def describe(self) -> dict[str, Any]:
        """The card, and the entropy."""
        return super().describe() | {"entropy": f"{self.entropy / self.length:.3f} nats a token"}

    def _stored(self, split: Split) -> Stored:
        return super()._stored(split) if self.path else _sequences(self, split)


@lru_cache(maxsize=8)
def _sequences(task: Chain, split: Split) -> Stored:
    """A split, drawn from a stream of its own; sequences may come twice, for short chains repeat."""
    index = SPLITS.index(split)
    x0 = task.fresh(task.sizes[index], torch.Generator().manual_seed(1_000_003 * task.seed + 1 + index))
    return Stored(x0.numpy().astype(np.int16), len(x0) - len(torch.unique(x0, dim=0)))


@lru_cache(maxsize=8)
def _chain(task: Chain) -> tuple[Tensor, Tensor]:
    """Its transition table `[from, to]` and stationary distribution.

    A random cycle is among the first successors, so that every state is reached.
    """
    generator = torch.Generator().manual_seed(task.seed)
    n = task.states
    cycle = torch.randperm(n, generator=generator)
    table = torch.zeros(n, n, dtype=torch.float64)
    for at in range(n):
        first = int(cycle[(cycle == at).nonzero()[0, 0] - 1])
        others = [s for s in torch.randperm(n, generator=generator).tolist() if s != first]
        for share, to in zip(task.shares, [first, *others], strict=False):
            table[at, to] = share
    start = torch.full((n,), 1 / n, dtype=torch.float64)
    slow = (table + torch.eye(n, dtype=torch.float64)) / 2  # the same stationary law, and no period
    for _ in range(10_000):
        start = start @ slow
    return table, start / start.sum()

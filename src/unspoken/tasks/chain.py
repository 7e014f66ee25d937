"""Sequences of a sparse Markov chain: a source whose likelihood, entropy and every illegal step are known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspoken.tasks.base import Examples, Split
from unspoken.tasks.splits import SPLITS

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Chain:
    """A stationary Markov chain in which each state has `len(shares)` legal successors. No prompt: all is said.

    The chain itself is drawn once (`seed`), the same for all splits; training draws new sequences of it without end.

    Attributes:
        states: Of the chain, up to 26: letters.
        shares: Probabilities of a state's successors; they sum to 1.
        length: Tokens of a sequence.
        validation: Sequences.
        test: Sequences.
        seed: Of the chain and its splits.
    """

    states: int = 16
    shares: tuple[float, ...] = (0.6, 0.3, 0.1)
    length: int = 24
    validation: int = 500
    test: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.states <= len(LETTERS) or not 1 <= len(self.shares) <= self.states:
            raise ValueError(
                f"states={self.states}, {len(self.shares)} shares: give 2 to {len(LETTERS)} states, and from 1 share "
                "to as many as there are states"
            )
        if not abs(sum(self.shares) - 1) <= 1e-9 or not min(self.shares) > 0:
            raise ValueError(f"shares={self.shares}: give probabilities above 0 that sum to 1")
        if self.length < 2 or self.validation < 0 or self.test < 0 or self.seed < 0:
            raise ValueError(
                f"length={self.length}, validation={self.validation}, test={self.test}, seed={self.seed}: give two "
                "tokens or more, and sizes and a seed of 0 or more"
            )

    @property
    def vocab_size(self) -> int:
        """States, and the mask."""
        return self.states + 1

    @property
    def mask_id(self) -> int:
        """The last id."""
        return self.states

    @property
    def title(self) -> str:
        """What it is."""
        return f"chain of {self.states} states"

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

    def size(self, split: Split) -> int:
        """Sequences of a split; of training there is no end, and this is what counts as one epoch."""
        return {"train": 100_000, "validation": self.validation, "test": self.test}[split]

    def sample(self, split: Split, n: int, generator: torch.Generator | None = None) -> Examples:
        """New sequences where training draws with a generator; else the split's first n, or random ones of it."""
        if n < 0 or n > self.size(split):
            raise ValueError(f"{n} sequences of {split} asked; there are {self.size(split)}")
        if split == "train" and generator is not None:
            x0 = self._draw(n, generator)
        else:
            own = torch.Generator().manual_seed(1_000_003 * self.seed + 1 + SPLITS.index(split))
            x0 = self._draw(self.size(split) if generator is not None else n, own)
            if generator is not None:
                x0 = x0[torch.randint(len(x0), (n,), generator=generator)]
        return Examples(x0, torch.zeros_like(x0, dtype=torch.bool))

    def read(self, path: str | Path) -> Examples:
        """Sequences of a file, one a line; ValueError names the line of what is wrong."""
        rows = []
        for number, line in enumerate(Path(path).read_text().splitlines(), 1):
            try:
                tokens = self.encode(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            if bool((tokens == self.mask_id).any()) or bool(self.illegal(tokens[None]).any()):
                raise ValueError(f"{path}, line {number}: {line!r} is no whole sequence of legal steps")
            rows.append(tokens)
        if not rows:
            raise ValueError(f"{path} holds no sequence; give one a line")
        return Examples(torch.stack(rows), torch.zeros(len(rows), self.length, dtype=torch.bool))

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: all is said, every step is legal, and what was given is kept."""
        kept = ((prompt == self.mask_id) | (prompt == answer)).all(1)
        said = (answer < self.states).all(1)
        return kept & said & ~self.illegal(answer.clamp_max(self.states - 1)).any(1)

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
        return "".join(self.symbol(int(token)) for token in tokens)

    def symbol(self, token: int) -> str:
        """A state's letter, `.` for the mask."""
        return "." if token == self.mask_id else LETTERS[token]

    def gap(self, position: int) -> str:
        """Nothing."""
        return ""

    def describe(self) -> dict[str, Any]:
        """What the data are."""
        return {
            "length": self.length,
            "vocab_size": self.vocab_size,
            "vocabulary": f"letters {LETTERS[0]}..{LETTERS[self.states - 1]}",
            "source": f"generated, seed {self.seed}",
            "entropy": f"{self.entropy / self.length:.3f} nats a token",
            "symmetries": "none",
            "licence": "generated here: no rights reserved",
            "splits": {split: {"sequences": self.size(split), "duplicates": self._twice(split)} for split in SPLITS},
        }

    def _twice(self, split: Split) -> int:
        """How many of a split's sequences came before in it: they are draws, and short chains repeat."""
        x0 = self.sample(split, self.size(split)).x0
        return len(x0) - len(torch.unique(x0, dim=0))

    def _draw(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, length]` by inverse distribution functions: one uniform number a token."""
        table, start = _chain(self)
        u = torch.rand(n, self.length, generator=generator, dtype=torch.float64)
        tokens = [(u[:, :1] > start.cumsum(0)).sum(1).clamp_max(self.states - 1)]
        steps = table.cumsum(1)
        for i in range(1, self.length):
            tokens.append((u[:, i, None] > steps[tokens[-1]]).sum(1).clamp_max(self.states - 1))
        return torch.stack(tokens, 1)


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

"""Two thoughts of which the second depends on the first, with 64 right answers to every question.

Small enough to list all of them, so that accuracy and diversity have exact values.

task = Permutations()
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from unspoken import checks
from unspoken.messages import quoted
from unspoken.tasks.base import SPLITS, Examples, Split, check_seed
from unspoken.tasks.reasoned import Reasoned, words
from unspoken.tasks.refine import permutations as random_permutations
from unspoken.tasks.sampled import Form

SYMBOLS = 8
QUESTIONS = 4  # and as many permutations


@dataclass(frozen=True)
class Permutations(Reasoned):
    """A question t of 0..3; a thought x, pi_t(x); a thought u, pi_{x mod 4}(u); and the last symbol as the answer.

    x and u are any symbols of 0..7, and pi_0 to pi_3 are permutations of them, drawn once (`seed`). So 64 of the 4,096
    pairs of thoughts answer a question, and each of them is right. All four questions are in every split: there are no
    others, and nothing is held out. What is learned is the distribution of the answers.

    Attributes:
        validation: Examples in the split; answers come twice.
        test: Examples in the split; answers come twice.
        seed: Of the permutations, validation and test; training draws new examples without end.
    """

    validation: int = 200
    test: int = 400
    seed: int = 0

    of_thought: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        checks.plain(self)
        check_seed(self.seed)
        if min(self.validation, self.test) < 0:
            raise ValueError(f"validation, test = {self.validation}, {self.test}: give 0 or more")

    @cached_property
    def form(self) -> Form:
        """A token, two thoughts of two, and a token."""
        return Form(f"two permutations of {SYMBOLS} symbols", words(*map(str, range(SYMBOLS))), asked=1, said=5)

    @property
    def table(self) -> Tensor:
        """`[4, 8]`: pi_t(x)."""
        return _table(self.seed).clone()

    def right(self, question: int) -> Tensor:
        """`[64, length]`: all right sequences of a question of 0..3, in the order of x and then u."""
        checks.count("question", question, 0, QUESTIONS - 1)
        x, u = torch.cartesian_prod(torch.arange(SYMBOLS), torch.arange(SYMBOLS)).T
        return self._rows(torch.full_like(x, question), x, u)

    def holds(self, split: Split) -> int:
        """Examples in a split; of train there is no end, and this is what counts as one epoch."""
        return {"train": 100_000, "validation": self.validation, "test": self.test}[split]

    def numbered(self, split: Split, index: Tensor) -> Examples:
        """Those of a stream of the split's own."""
        generator = torch.Generator().manual_seed((1_000_003 * self.seed + 1 + SPLITS.index(split)) % 2**63)
        return self.examples(self._fresh(int(index.max()) + 1 if len(index) else 0, generator)[index])

    def drawn(self, n: int, generator: torch.Generator) -> Examples:
        return self.examples(self._fresh(n, generator))

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: whether both thoughts follow their permutations, and the answer is the last symbol."""
        t, x, _, u, _, _ = tokens.T
        fine = (t < QUESTIONS) & (x < SYMBOLS) & (u < SYMBOLS)
        right = self._rows(*(torch.where(fine, its, 0) for its in (t, x, u)))
        return fine & (tokens == right).all(1)

    def encode(self, text: str) -> Tensor:
        """See `Reasoned.encode`; ValueError for a question other than 0..3, too."""
        row = super().encode(text)
        if int(row[0]) >= QUESTIONS:
            raise ValueError(f"{quoted(text)} given, a question of 0..{QUESTIONS - 1} expected")
        return row

    def answered(self, row: Tensor) -> Tensor:
        """With the first right answer."""
        return self.right(int(row[0]))[0]

    def describe(self) -> dict[str, Any]:
        """The card, what is held out, and the share right of who guesses both thoughts."""
        held_out = f"nothing: all {QUESTIONS} questions are in every split"
        return super().describe() | {"held out": held_out, "chance": 1 / SYMBOLS**2}

    def _fresh(self, n: int, generator: torch.Generator) -> Tensor:
        """`[n, length]` examples."""
        # A row of numbers each, so that the first examples of a stream do not depend on how many are drawn.
        u = torch.rand(n, 3, generator=generator, dtype=torch.float64, device=generator.device).cpu()
        return self._rows(*(u * torch.tensor([QUESTIONS, SYMBOLS, SYMBOLS])).long().T)

    def _rows(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        """`[n, length]`, of three `[n]`."""
        pi = _table(self.seed)
        last = pi[x % QUESTIONS, u]
        return torch.stack([t, x, pi[t, x], u, last, last], 1)


@lru_cache(maxsize=8)
def _table(seed: int) -> Tensor:
    return random_permutations(QUESTIONS, SYMBOLS, torch.Generator().manual_seed(seed))

"""3-SAT: a value for each variable such that every clause, an "or" of three literals, is true.

As in Ye et al. 2024, "Beyond autoregression" (arXiv 2410.14157), with 5, 7 or 9 variables there. No clause says
anything of a variable alone, so a left-to-right model has to guess the first value before it sees what follows.

task = Sat(variables=5)
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, product
from math import comb
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.messages import quoted
from unspoken.tasks.base import check_range
from unspoken.tasks.dimacs import is_dimacs, read_cnf
from unspoken.tasks.files import Text, located, read_lines, texts
from unspoken.tasks.generated import Generated
from unspoken.tasks.hashing import Hashes, in_any_order, in_order
from unspoken.tasks.refine import collected, permutations, rejection, subsets
from unspoken.tasks.sampled import BLANK, Form
from unspoken.tasks.store import Rows

_RATIO = 4.26  # clauses a variable, at which random 3-SAT turns from satisfiable to not: the hard ones are there
_ROUNDS = 6  # of colour refinement; a literal hears of all others in two


@dataclass(frozen=True)
class Sat(Generated):
    """Satisfiable formulas of distinct clauses with three distinct variables each, and an assignment.

    Variables are 1 to `variables`; literal x is token x - 1, literal -x is token variables + x - 1. A sequence is the
    clauses, three literals each, and the answer: for each variable in order the literal that is true. The formula is
    any satisfiable one with equal odds, the answer any assignment that satisfies it; `judge` takes all of them.

    A file may also be a formula in DIMACS form (.cnf). A question without an answer gets the first that satisfies it.

    Attributes:
        variables: 3 to 9.
        clauses: At most 7 * C(variables, 3), as one assignment satisfies no more. 0: 4.26 a variable, rounded. The
            files of Ye et al. seem to have 41, 45 and 51 of 5, 7 and 9 variables, to judge by their lengths.
    """

    variables: int = 7
    clauses: int = 0

    name: ClassVar[str] = "sat"
    symmetries: ClassVar[str] = "order of clauses and of literals in a clause, names of variables, their negation"
    difficulty_is: ClassVar[str] = "log2 of the assignments that satisfy, rounded down"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "variables", 3, 9)
        check_range(self, "clauses", 0, self._most, "; 0 is the hard number")

    @property
    def _most(self) -> int:
        return 7 * comb(self.variables, 3)

    @property
    def count(self) -> int:
        """Clauses in a formula."""
        return self.clauses or min(round(_RATIO * self.variables), self._most)

    @cached_property
    def form(self) -> Form:
        """Three literals a clause, and a value for each variable."""
        title = f"3-SAT, {self.variables} variables, {self.count} clauses"
        words = tuple(f"{sign}{x}" for sign in ("", "-") for x in range(1, self.variables + 1))
        return Form(title, words, asked=3 * self.count, said=self.variables)

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, length]`: random formulas, those that nothing satisfies left out."""
        return rejection(n, lambda size: self._attempt(size, rng), "fewer clauses")

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: colours of literals, each refined by its negation's and by the clauses that it is in."""
        literals, size = rows[:, : self.asked].astype(np.int64), 2 * self.variables
        colours = np.zeros((len(rows), size), np.uint64)
        for _ in range(_ROUNDS):
            members = np.take_along_axis(colours, literals, 1).reshape(-1, self.count, 3)
            said = collected(np.repeat(in_any_order(members), 3, axis=1), literals, size)
            negated = np.roll(colours, self.variables, axis=1)
            colours = in_order(np.stack([colours, negated, said], axis=-1))
        return in_any_order(colours)

    def judge(self, tokens: list[int]) -> bool:
        """Does each variable have a value, and does every clause hold a literal that is true?"""
        clauses, values = tokens[: self.asked], tokens[self.asked :]
        if any(token % self.variables != x for x, token in enumerate(values)):
            return False
        return all(not set(values).isdisjoint(clauses[i : i + 3]) for i in range(0, len(clauses), 3))

    def encode(self, text: str) -> Tensor:
        """`[length]` token ids of `1,-2,3/4,5,-6=1,-2,.,4,5,-6`: clauses, and a literal that is true or `.` for each.

        Clauses may be separated by spaces, too; nothing after `=`, or no `=`, leaves all values blank. A line of a
        .jsonl file has what is before `=` as "input" and what is after it as "output". ValueError for another form or
        number of clauses, a clause that comes twice, or one whose variables are not distinct.
        """
        question, _, answer = re.sub(r"\s*([,/=])\s*", r"\1", text.strip()).partition("=")
        clauses = [self._clause(clause) for clause in re.split(r"[/\s]+", question)]
        self.check_count("clauses", [frozenset(clause) for clause in clauses], self.count)
        values = re.split(r"[,\s]+", answer) if answer else [BLANK] * self.variables
        if len(values) != self.variables:
            raise ValueError(f"{len(values)} values {quoted(answer)} given, {self.variables} expected, as 1,-2,3,...")
        literals = [literal for clause in clauses for literal in clause]
        return torch.tensor([*literals, *map(self._value, range(1, self.variables + 1), values)])

    def texts(self, path: Path) -> Iterator[Text]:
        lines = read_lines(path)
        return iter([self._formula(path)]) if is_dimacs(lines, "cnf") else texts(lines, self.line)

    def answered(self, row: Tensor) -> Tensor:
        """With the first assignment that satisfies it, counting in binary; ValueError where none does."""
        models = _models(row[: self.asked].numpy().reshape(1, self.count, 3), self.variables)[0]
        if not models.any():
            raise ValueError("no assignment makes every clause true")
        x = torch.arange(self.variables)
        values = x + self.variables * (1 - (int(models.argmax()) >> x & 1))
        return torch.cat([row[: self.asked], values])

    def show(self, tokens: Tensor) -> str:
        words = self.check_tokens(tokens)
        clauses = [",".join(words[i : i + 3]) for i in range(0, self.asked, 3)]
        return "/".join(clauses) + "=" + ",".join(words[self.asked :])

    def gap(self, position: int) -> str:
        """Two spaces after a clause, and a line for the answer."""
        if position + 1 == self.asked:
            return "\n"
        return "  " if position < self.asked and position % 3 == 2 else super().gap(position)

    def hardness(self, rows: Tensor) -> Tensor:
        """`[n]` int64: log2 of the number of answers, rounded down: 0 where there is only one."""
        clauses = rows[:, : self.asked].numpy().reshape(-1, self.count, 3)
        return torch.from_numpy(np.log2(_models(clauses, self.variables).sum(1)).astype(np.int64))

    def disguise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Variables renamed and negated, clauses and literals reordered, at random in each row of `[n, length]`."""
        n, v = len(rows), self.variables
        flips = torch.randint(2, (n, v), generator=generator, device=generator.device).cpu()
        names = permutations(n, v, generator)
        x0 = torch.cat([names + v * flips, names + v * (1 - flips)], 1).gather(1, rows)
        clauses, values = x0[:, : self.asked].unflatten(1, (self.count, 3)), x0[:, self.asked :]
        clauses = clauses.gather(1, permutations(n, self.count, generator)[..., None].expand(-1, -1, 3))
        clauses = clauses.gather(2, permutations(n * self.count, 3, generator).view(n, self.count, 3))
        return torch.cat([clauses.flatten(1), values.gather(1, (values % v).argsort(1))], 1)

    def _attempt(self, size: int, rng: np.random.Generator) -> Rows:
        """The satisfiable ones among so many random formulas, each with a random assignment."""
        clauses = _every_clause(self.variables)
        clauses = clauses[subsets(size, len(clauses), self.count, rng)]
        models = _models(clauses, self.variables)
        clauses, models = clauses[models.any(1)], models[models.any(1)]
        chosen = ((1 - rng.random(models.shape)) * models).argmax(1)
        x = np.arange(self.variables)
        values = x + self.variables * (1 - (chosen[:, None] >> x & 1))
        literals = rng.permuted(clauses, axis=2).reshape(len(clauses), self.asked)
        return np.concatenate([literals, values], axis=1).astype(np.int16)

    def _formula(self, path: Path) -> Text:
        """The one of a DIMACS file."""
        with located(path):
            variables, clauses = read_cnf(read_lines(path))
            if variables != self.variables:
                instead = f"write Sat(variables={variables}, clauses={len(clauses)})"
                raise ValueError(f"the formula: {variables} variables given, {self.variables} expected; {instead}")
        return "the formula", lambda: "/".join(",".join(map(str, clause)) for clause in clauses)

    def _clause(self, text: str) -> list[int]:
        words = text.split(",")
        if len(words) != 3 or not set(words) <= set(self.words) or len({word.lstrip("-") for word in words}) != 3:
            expected = f"three literals of distinct variables 1 to {self.variables}, as 1,-2,3, expected"
            raise ValueError(f"clause {quoted(text)} given, {expected}")
        return [self.words.index(word) for word in words]

    def _value(self, variable: int, word: str) -> int:
        if word not in (str(variable), f"-{variable}", BLANK):
            raise ValueError(f"value {quoted(word)} given, {variable}, -{variable} or {BLANK} expected for {variable}")
        return self.mask_id if word == BLANK else self.words.index(word)


@lru_cache
def _every_clause(variables: int) -> NDArray[np.int64]:
    """`[8 * C(variables, 3), 3]`: the literals of all clauses."""
    names, signs = list(combinations(range(variables), 3)), list(product((0, variables), repeat=3))
    return (np.array(names)[:, None] + np.array(signs)).reshape(-1, 3)


@lru_cache
def _false(variables: int) -> NDArray[np.uint8]:
    """`[2 * variables, 2**variables / 8]`: for each literal the assignments that make it false, a bit each."""
    true = (np.arange(2**variables) >> np.arange(variables)[:, None] & 1).astype(bool)
    return np.packbits(np.concatenate([~true, true]), axis=1, bitorder="little")


def _models(clauses: NDArray[np.integer], variables: int) -> NDArray[np.uint8]:
    """`[n, 2**variables]`: 1 where assignment a (bit x the value of x) makes all `clauses` `[n, m, 3]` true."""
    false = _false(variables)
    broken = false[clauses[..., 0]] & false[clauses[..., 1]] & false[clauses[..., 2]]
    return np.unpackbits(~np.bitwise_or.reduce(broken, axis=1), axis=1, bitorder="little")

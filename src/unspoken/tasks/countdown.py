"""Countdown: reach a target from a few numbers, each used once, by + - * / in whole numbers.

Ye et al. 2024 (arXiv 2410.14157) and their text: numbers and target, then the steps: `86,28,13,31,96=86+28=114,...`.

task = Countdown(numbers=4)
batch = task.sample("train", 128, torch.Generator().manual_seed(0))
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unspoken.messages import quoted
from unspoken.tasks.generated import Generated
from unspoken.tasks.hashing import Hashes, in_order
from unspoken.tasks.sampled import BLANK, PAD, Form
from unspoken.tasks.store import Rows

OPERATIONS = "+-*/"
_WORDS = (*"0123456789", *OPERATIONS, "=", ",", PAD)
_NUMBER = {word: number for number, word in enumerate(_WORDS)}
_STEP = re.compile(r"(0|[1-9]\d*)([-+*/])(0|[1-9]\d*)=(0|[1-9]\d*)", re.ASCII)
_QUESTION = re.compile(r"(0|[1-9]\d*)(,(0|[1-9]\d*))*", re.ASCII)


@dataclass(frozen=True)
class Countdown(Generated):
    """The numbers and the target, character by character, then steps that use all numbers and end in the target.

    A step takes two of the numbers there are and puts its result in their place. Question and answer are filled up
    with `_`; the answer's are said too, as its length is not given. A right answer is any one that reaches the
    target by exact arithmetic and uses every number once, whether or not it is the stored one.

    Attributes:
        numbers: How many are given, 2 to 6; Ye et al. take 3, 4 and 5.
        largest: Of the numbers given.
        most: No result of a stored answer is larger.
    """

    numbers: int = 4
    largest: int = 99
    most: int = 999

    name: ClassVar[str] = "countdown"
    symmetries: ClassVar[str] = "the order of the numbers"
    difficulty_is: ClassVar[str] = "steps that multiply or divide"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.numbers <= 6 or not 10 <= self.largest <= self.most < 10_000:
            raise ValueError(
                f"numbers={self.numbers}, largest={self.largest}, most={self.most} given, 2 <= numbers <= 6 and "
                "10 <= largest <= most < 10000 expected"
            )

    @cached_property
    def form(self) -> Form:
        """The numbers and the target with commas between and `=` at the end, and steps of the widest numbers."""
        most = len(str(self.most))
        asked = self.numbers * (len(str(self.largest)) + 1) + most + 1
        title = f"Countdown, {self.numbers} numbers up to {self.largest}"
        return Form(title, _WORDS, asked, said=(self.numbers - 1) * (3 * most + 3) - 1)

    def draw(self, n: int, rng: np.random.Generator) -> Rows:
        """`[n, length]`: random numbers; at each step a random pair and a random operation of those it allows."""
        start = rng.integers(1, self.largest + 1, (n, self.numbers))
        pool, steps = start.copy(), []
        for left in range(self.numbers, 1, -1):
            pool = np.take_along_axis(pool, rng.random((n, left)).argsort(1), 1)
            a, b, operation, result = self._step(pool[:, 0], pool[:, 1], rng)
            steps.append((a, operation, b, result))
            pool = np.concatenate([result[:, None], pool[:, 2:]], axis=1)
        rows = [
            self._tokens(
                ",".join(map(str, [*numbers, target])),
                ",".join(f"{a[i]}{OPERATIONS[o[i]]}{b[i]}={r[i]}" for a, o, b, r in steps),
            )
            for i, (numbers, target) in enumerate(zip(start.tolist(), pool[:, 0].tolist(), strict=True))
        ]
        return np.array(rows, np.int16)

    def _step(self, a: NDArray, b: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Two numbers in the order of the operation, which one, and what it gives: whole, not negative, small."""
        a, b = np.maximum(a, b), np.minimum(a, b)
        whole = (b > 0) & (a % np.maximum(b, 1) == 0)
        results = np.stack([a + b, a - b, a * b, np.where(whole, a // np.maximum(b, 1), -1)])
        allowed = (results >= 0) & (results <= self.most)  # a - b always is
        operation = np.where(allowed, rng.random(results.shape), -1.0).argmax(0)
        result = results[operation, np.arange(len(a))]
        swap = ((operation == 0) | (operation == 2)) & (rng.random(len(a)) < 0.5)
        return np.where(swap, b, a), np.where(swap, a, b), operation, result

    def canonical(self, rows: Rows) -> Hashes:
        """`[n]`: of the numbers, sorted, and the target."""
        asked = [self._numbers("".join(_WORDS[t] for t in row)) for row in rows[:, : self.asked].tolist()]
        return in_order(
            np.array([[*sorted(numbers[:-1]), numbers[-1]] for numbers in asked], np.int64).reshape(
                len(rows), self.numbers + 1
            )
        )

    def hardness(self, rows: Tensor) -> Tensor:
        """`[n]`: steps of the stored answer that multiply or divide."""
        return ((rows == _NUMBER["*"]) | (rows == _NUMBER["/"])).sum(1)

    def judge(self, tokens: list[int]) -> bool:
        """Whether the steps use every number once, are right, and end in the target."""
        text = "".join(_WORDS[token] for token in tokens)
        try:
            *pool, target = self._numbers(text[: self.asked])
        except ValueError:
            return False
        steps = text[self.asked :].rstrip(PAD).split(",")
        result = None
        for step in steps:
            parts = _STEP.fullmatch(step)
            if parts is None:
                return False
            a, b, result = int(parts[1]), int(parts[3]), int(parts[4])
            for number in (a, b):
                if number not in pool:
                    return False
                pool.remove(number)
            if not _is_right(a, parts[2], b, result):
                return False
            pool.append(result)
        return pool == [target]

    def encode(self, text: str) -> Tensor:
        """`[length]` of `numbers,target=`, or of it and an answer with `.` for what is not said.

        ValueError for other words, another count of numbers, or one that is too large.
        """
        question, sign, answer = text.strip().partition("=")
        if not sign and not question:
            raise ValueError(f"{quoted(text)} given, numbers and target expected, like {self._like()}")
        numbers = self._numbers(question + "=")
        if any(n > self.largest or n < 1 for n in numbers[:-1]) or numbers[-1] > self.most:
            raise ValueError(
                f"{quoted(question)} given, numbers 1..{self.largest} and a target up to {self.most} expected"
            )
        room = self.length - self.asked
        if len(answer) > room or any(c not in _NUMBER and c != BLANK for c in answer):
            raise ValueError(f"answer {quoted(answer)} given, at most {room} of 0-9 + - * / = , _ and {BLANK} expected")
        return torch.tensor(self._tokens(question, answer or BLANK * room))

    def show(self, tokens: Tensor) -> str:
        """`numbers,target=answer`, without what fills them up."""
        words = "".join(self.check_tokens(tokens))
        return words[: self.asked].rstrip(PAD) + words[self.asked :].rstrip(PAD)

    def line(self, record: dict[str, Any]) -> str:
        """Of `{"input": "86,28,13,31,96", "output": "86+28=114,..."}`, or of `{"nums": [86, ...], "target": 96}`.

        The second may hold the steps as "solution", a list of them or a text with commas between.
        """
        if isinstance(record, dict) and {"nums", "target"} <= record.keys():
            record = _in_text(record)
        return super().line(record).replace(" ", "")

    def answered(self, row: Tensor) -> Tensor:
        """With the first steps found that reach the target, no result above `most`; ValueError where none do."""
        *numbers, target = self._numbers("".join(_WORDS[t] for t in row[: self.asked].tolist()))
        steps = _steps(tuple(sorted(numbers)), target, self.most, set())
        if steps is None:
            raise ValueError(f"no steps in whole numbers up to {self.most} make {target} of {numbers}, each used once")
        return torch.tensor(self._tokens(",".join(map(str, [*numbers, target])), ",".join(steps)))

    def _numbers(self, question: str) -> list[int]:
        """The numbers and the target of `1,2,3=`, filled up or not."""
        text = question.rstrip(PAD)
        if not text.endswith("=") or not _QUESTION.fullmatch(text[:-1]):
            raise ValueError(
                f"question {quoted(text.rstrip('='))} given, numbers and target expected, like {self._like()}"
            )
        numbers = [int(n) for n in text[:-1].split(",")]
        if len(numbers) != self.numbers + 1:
            raise ValueError(
                f"{len(numbers) - 1} numbers and a target given, {self.numbers} and one expected: {self._like()}"
            )
        return numbers

    def _like(self) -> str:
        return ",".join(str(n) for n in range(2, self.numbers + 2)) + ",24"

    def _tokens(self, question: str, answer: str) -> list[int]:
        text = (question + "=").ljust(self.asked, PAD) + answer.ljust(self.length - self.asked, PAD)
        return [_NUMBER.get(word, self.mask_id) for word in text]


def _is_right(a: int, operation: str, b: int, result: int) -> bool:
    """Exactly; a number cannot be divided by 0, nor by what leaves a rest, nor fall below 0."""
    if operation == "/":
        return b != 0 and a == b * result
    return result == {"+": a + b, "-": a - b, "*": a * b}[operation]


def _in_text(record: dict[str, Any]) -> dict[str, str]:
    """Of a record of nums, target and perhaps a solution; ValueError for what are no whole numbers, or no steps."""
    nums, target, steps = record["nums"], record["target"], record.get("solution") or []
    steps = [steps] if isinstance(steps, str) else steps
    if not isinstance(nums, list) or not all(type(number) is int for number in [*nums, target]):
        raise ValueError(f"nums {quoted(nums)} and target {quoted(target)} given, whole numbers expected")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise ValueError(f"solution {quoted(steps)} given, steps such as 86+28=114 expected")
    return {"input": ",".join(map(str, [*nums, target])), "output": ",".join(steps)}


def _steps(pool: tuple[int, ...], target: int, most: int, dead: set[tuple[int, ...]]) -> list[str] | None:
    """Steps that make `target` of all of `pool`, which is sorted; None where there are none.

    dead: pools that were tried in vain.
    """
    if len(pool) == 1:
        return [] if pool[0] == target else None
    if pool in dead:
        return None
    for j, i in combinations(range(len(pool)), 2):
        a, b = pool[i], pool[j]  # a >= b
        rest = [*pool[:j], *pool[j + 1 : i], *pool[i + 1 :]]
        results = {"+": a + b, "-": a - b, "*": a * b} | ({"/": a // b} if b and a % b == 0 else {})
        for sign, result in results.items():
            if result <= most:
                steps = _steps(tuple(sorted([*rest, result])), target, most, dead)
                if steps is not None:
                    return [f"{a}{sign}{b}={result}", *steps]
    dead.add(pool)
    return None

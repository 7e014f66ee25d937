"""What `study tasks` compares: methods of one trunk, a task with its budget, and how each method is decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from unspoken import checks
from unspoken.decoders.decode import changed, read_decoder
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import CACHED_ALONE, CACHED_JOINT, MDM, SCDM, SIDM, Attention
from unspoken.layout.groups import Groups
from unspoken.measure.text import SLOT
from unspoken.study.base import check_once, check_rising, folder_of
from unspoken.study.ways import Way
from unspoken.tasks import SudokuGrids, Text
from unspoken.tasks.base import Examples
from unspoken.tasks.generated import Generated
from unspoken.tasks.sudoku.grids import Boards
from unspoken.training.config import Train
from unspoken.training.objective import MaskedDiffusion, MultiToken, Objective
from unspoken.training.pool import Job

PREFIXES = 4  # of a row at which AR and AR + MTP are asked
CANDIDATES = 8  # the paper's number


@dataclass(frozen=True)
class Method:
    """A row of the table: how it is trained.

    Attributes:
        objective: What it is asked for.
        attention: Who may look at whom.
        like: The method whose learning rate and first weights it takes; by default they are chosen for itself.
    """

    objective: Objective
    attention: Attention
    like: str = ""


METHODS: dict[str, Method] = {
    "AR": Method(MultiToken(window=1, prefixes=PREFIXES), CACHED_ALONE),
    "AR + MTP": Method(MultiToken(prefixes=PREFIXES), CACHED_JOINT),
    "AR, every prefix": Method(SLOT, CACHED_ALONE, like="AR"),
    "SIDM": Method(MaskedDiffusion(), SIDM),
    "SCDM": Method(MaskedDiffusion(), SCDM, like="MDM"),
    "MDM": Method(MaskedDiffusion(), MDM),
    "grouped": Method(MaskedDiffusion(groups=Groups(1.0, whole_at_end=0.0)), CACHED_JOINT, like="MDM"),
}
ON_TEXT = ("AR, every prefix", "SIDM", "SCDM", "MDM", "grouped")  # by their likelihoods
ORDERS = {"confidence": "MDM, by confidence", "uniform": "MDM, in random order"}
CHOICES = ((1e-3, 0.07), (2e-3, 0.07), (2e-3, 0.02))  # learning rate and first weights


@dataclass(frozen=True)
class Case:
    """A task and the budget that all methods share on it.

    Attributes:
        name: In the table and the folders.
        train: Its objective, attention, learning rate, first weights and seed are varied.
        counts: Latents that SCDM and the grouped model are measured beside, rising from 0; all are added.
        choices: Pairs of a learning rate and the standard deviation of the first weights. A method takes the pair
            whose run, of the first seed, ends with the lowest validation loss.
        hard: Examples of at least this difficulty are told apart too; 0 for none.
        only: Methods that are compared; by default all, on text those whose likelihood is cheap.
    """

    name: str
    train: Train
    counts: tuple[int, ...] = (0, 8)
    choices: tuple[tuple[float, float], ...] = CHOICES
    hard: int = 0
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_rising("counts", self.counts)
        check_once("choices", self.choices)
        checks.count("hard", self.hard)
        task = self.train.task
        if self.hard and (isinstance(task, Boards) or not getattr(task, "difficulty_is", "")):
            raise ValueError(
                f"{self.name}: hard={self.hard}, and {task.title} tells no difficulty of a sequence; give 0"
            )
        known = ON_TEXT if self._text else METHODS
        if strange := sorted(set(self.only) - set(known)):
            raise ValueError(f"{self.name}: no method {strange[0]!r}; give some of {', '.join(known)}")
        for choice in self.choices:
            self.job(self.methods[0], choice, 0, Path())  # it checks what it is given

    @property
    def methods(self) -> list[str]:
        """Those that are compared."""
        return list(self.only or (ON_TEXT if self._text else METHODS))

    def hard_ones(self, examples: Examples) -> Tensor | None:
        """`[n]`: which examples are told apart; None where none are."""
        task = self.train.task
        return task.hardness(examples.x0) >= self.hard if self.hard and isinstance(task, Generated) else None

    @property
    def told_hard(self) -> str:
        """Which examples are told apart, in words."""
        task = self.train.task
        kind = task.difficulty_is if isinstance(task, Generated) else ""
        return f"{self.name}, hard: {kind} {self.hard} or more" if self.hard else ""

    @property
    def drawn(self) -> bool:
        """Whether tokens are drawn: nothing is given, and the likeliest answer would be the only one."""
        return isinstance(self.train.task, SudokuGrids | Text)

    def chooser(self, method: str) -> str:
        """The method that chooses learning rate and first weights for it."""
        like = METHODS[method].like or method
        return like if like in self.methods else method

    def job(self, method: str, choice: tuple[float, float], seed: int, runs: Path) -> Job:
        """The training run of a method, and its folder."""
        its, (lr, init) = METHODS[method], choice
        trunk = replace(self.train.trunk, init=init)
        train = replace(self.train, objective=its.objective, attention=its.attention, lr=lr, trunk=trunk, seed=seed)
        name = folder_of(method.replace(" + ", " "))
        return train, runs / self.name / f"{name}-lr{lr:g}-init{init:g}-seed{seed}"

    def ways(self, method: str, free: int) -> list[Way]:
        """How a method is decoded. free: tokens to say, in most rows.

        Candidates are taken first: half of the tokens to say at most, so that there is room for latents. MDM, which
        sees all in any case, is decoded in both orders among all of them too.
        """
        temperature = 1.0 if self.drawn else 0.0
        if method.startswith("AR"):
            way = read_decoder(METHODS[method].objective.decoder(self.train.process))
            counts = (0, None) if "MTP" in method else (0,)
            return [Way(method, n, changed(way, {"temperature": temperature, "latents": n})) for n in counts]
        order = "uniform" if self.drawn else "confidence"
        candidates = max(1, min(CANDIDATES, free // 2))

        def slots(latents: int | None, order: str = order, candidates: int = candidates) -> Slots:
            return Slots(latents, candidates, order=order, temperature=temperature)

        if method == "SIDM":
            return [Way(method, 0, slots(0))]
        if method == "MDM":
            orders = [] if self._text else [Way(name, None, slots(None, its, free)) for its, name in ORDERS.items()]
            return [Way(method, None, slots(None)), *orders]
        return [Way(method, n, slots(n)) for n in (*self.counts, None)]

    @property
    def _text(self) -> bool:
        return isinstance(self.train.task, Text)

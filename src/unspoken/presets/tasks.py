"""The tasks by name, and the budgets that the family is compared on: two cores', and the paper's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unspoken.layout.attention import CACHED_JOINT
from unspoken.presets.images import IMAGES
from unspoken.presets.runs import PRESETS
from unspoken.presets.vectors import VECTORS
from unspoken.study.task_cases import Case
from unspoken.study.tasks import FamilyStudy
from unspoken.tasks import (
    Addition,
    Arithmetic,
    Bouncing,
    Burgers,
    Chain,
    Colouring,
    Countdown,
    Digits,
    Paths,
    PathStar,
    Permutations,
    Prompted,
    Sat,
    Scenes,
    Strips,
    Sudoku,
    SudokuGrids,
    Text,
    Zebra,
)
from unspoken.tasks import Tasks as Task
from unspoken.training.config import Train, Trunk
from unspoken.training.objective import MultiToken

TASKS: dict[str, Callable[[], Task]] = {
    "sudoku-4x4": lambda: Sudoku(box_rows=2, box_cols=2, givens=6, train=2_000, validation=20, test=20),
    "sudoku-6x6": Sudoku,
    "sudoku-9x9": lambda: Sudoku(box_rows=3, box_cols=3, train=100_000),
    "sudoku-grids": SudokuGrids,
    "sudoku-grids-9x9": lambda: SudokuGrids(box_rows=3, box_cols=3),
    "zebra-3x3": lambda: Zebra(houses=3, attributes=3),
    "zebra-4x4": Zebra,
    "countdown-3": lambda: Countdown(numbers=3),
    "countdown-4": Countdown,
    "countdown-5": lambda: Countdown(numbers=5),
    "addition": Addition,
    "arithmetic": Arithmetic,
    "permutations": Permutations,
    "sat-5": lambda: Sat(variables=5),
    "sat-7": Sat,
    "sat-9": lambda: Sat(variables=9),
    "colouring": Colouring,
    "paths": Paths,
    "path-star": PathStar,
    "chain": Chain,
    "bouncing": Bouncing,
    "burgers": Burgers,
    "burgers-forced": lambda: Burgers(forcing=2.0),
    "digits": Digits,
    "scenes": Scenes,
    "strips": Strips,
    "strips-ambiguous": lambda: Strips(spellings=2),
    "text": Text,
}
# Tasks that need something of the user's: `tokenizer=`.
OWN: dict[str, Callable[[], Task]] = {"prompted": Prompted}


FEWER = ((1e-3, 0.07), (2e-3, 0.02))
KNOWN = ((2e-3, 0.07),)  # what these presets train with: not chosen again, for their runs take longest


def _small(task: Task, batch: int, steps: int) -> Train:
    return Train(task, trunk=Trunk(init=0.07), steps=steps, batch=batch, warmup=50)


def two_cores() -> FamilyStudy:
    """Three seeds of every method on ten tasks: some eight hours on two cores.

    Sizes are the smallest that the symmetries of their splits leave enough examples of, or at which something is
    learned in that time.
    """
    text = Text(books="austen", held_out="austen-persuasion")
    cases = (
        Case("sudoku-6x6", _small(Sudoku(), 96, 500), choices=KNOWN),
        Case("path-star", _small(PathStar(), 64, 800), counts=(0, 2)),
        Case("paths", _small(Paths(nodes=8, edges=14, longest=4), 32, 800), counts=(0, 2)),
        Case("countdown-3", _small(Countdown(numbers=3, largest=20, most=99, validation=500, test=500), 64, 1000)),
        Case("colouring", _small(Colouring(edges=15), 64, 600), counts=(0, 2)),
        Case("addition", _small(Addition(), 32, 800), (0, 2), FEWER, hard=4),
        Case("zebra-3x3", _small(Zebra(houses=3, attributes=3), 32, 600), (0, 2), FEWER),
        Case("sat-5", _small(Sat(variables=5), 32, 600), (0, 2), FEWER),
        Case("sudoku-grids", _small(SudokuGrids(), 96, 500), choices=KNOWN),
        Case("text", replace(_small(text, 32, 300), trunk=Trunk(width=128, init=0.07)), (0, 8, 32), choices=KNOWN),
    )
    return FamilyStudy(cases, examples=500)


def paper() -> FamilyStudy:
    """The settings of arXiv 2602.03769 (appendix A2), as far as they are known: days of GPUs."""
    mini = Trunk(layers=6, width=512, heads=8)

    def train(task: Task, trunk: Trunk, steps: int, batch: int = 512, lr: float = 3e-4) -> Train:
        return replace(
            Train(task, lr=lr, decay="constant"), trunk=trunk, steps=steps, batch=batch, warmup=2_500, ema=0.9999
        )

    boards = Sudoku(box_rows=3, box_cols=3, train=100_000)
    grids = SudokuGrids(box_rows=3, box_cols=3)
    tiny = Trunk(layers=3, width=384, heads=12)
    books = Text(length=512, books="austen,shakespeare,bible", held_out="austen-persuasion")
    cases = (
        Case("sudoku-9x9", train(boards, mini, 70_000), counts=(0, 8, 16, 32)),
        Case("sudoku-grids-9x9", train(grids, Trunk(layers=6, width=768, heads=12), 19_500), counts=(0, 8, 16, 32, 64)),
        Case("zebra-6x6", train(Zebra(houses=6, attributes=6), mini, 146_000), counts=(0, 8, 16, 32)),
        Case(
            "countdown-5", train(Countdown(numbers=5, train=500_000), tiny, 293_000, 1024, 1e-3), counts=(0, 4, 16, 32)
        ),
        Case("sat-9", train(Sat(variables=9), tiny, 60_000, 1024, 1e-3), counts=(0, 2, 4)),
        Case("paths", train(Paths(), tiny, 60_000, 1024, 1e-3), counts=(0, 2, 4)),
        Case("text", train(books, Trunk(layers=12, width=768, heads=12), 100_000, 256), counts=(0, 8, 32, 128)),
    )
    theirs = tuple(replace(case, choices=((case.train.lr, case.train.trunk.init),)) for case in cases)
    return FamilyStudy(theirs, seeds=(0, 1, 2), examples=1_000)


FAMILY: dict[str, Callable[[], FamilyStudy]] = {"cpu": two_cores, "paper": paper}


def _preset(case: Case) -> Callable[[], Train]:
    def preset() -> Train:
        return case.train

    preset.__doc__ = f"{case.train.task.title}: SCDM, the budget of `study tasks`, some minutes on two cores."
    return preset


def prompted() -> Train:
    """Text with a tokenizer of yours (--task.tokenizer, --task.data): AR + MTP from scratch, or --trunk.checkpoint."""
    return Train(
        Prompted(),
        attention=CACHED_JOINT,
        objective=MultiToken(window=4, prefixes=16, next_token=0.5),
        trunk=Trunk(width=128, init=0.07, learned_positions=False),
        steps=1_000,
        batch=16,
        lr=1e-3,
    )


# What `unspoken train` knows: the presets, the user's own text, and every other task on its budget here.
TRAIN = (
    PRESETS
    | VECTORS
    | IMAGES
    | {"prompted": prompted}
    | {case.name: _preset(case) for case in two_cores().cases if case.name not in PRESETS}
)

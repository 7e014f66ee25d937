"""Commands on many runs: the studies, and looking at what runs and studies left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from unspoken.cli.runs import Flat
from unspoken.cli.solve import General, SolveRun
from unspoken.decoders.slots import Slots
from unspoken.presets.tasks import FAMILY
from unspoken.show import figure, report, terminal
from unspoken.study import ar_latents, decode, forcing, gidd, latents, steps, tasks
from unspoken.study.report import Result, Stage, read_result
from unspoken.tasks import Sudoku
from unspoken.training.config import Train
from unspoken.training.run import Run

README_PUZZLE = "16...4....6.4..2.12.......2....3.5.."  # of the 6x6 test split


@dataclass(frozen=True)
class _Study:
    """Where a study's files are.

    Attributes:
        runs: Where the trained models are, or will be: finished ones are reused, stopped ones gone on with.
        out: Where study.json and the figure go.
    """

    runs: Path
    out: Path

    def go(self, console: Console, budget: str, stages: Iterator[Stage | Result]) -> None:
        """Says what will be done, does it, and leaves its result."""
        console.print(budget)
        finish(console, terminal.watch_study(console, stages), self.out)


@dataclass(frozen=True)
class LatentsStudy(_Study):
    """What latent tokens buy and cost: MDM, SCDM and SIDM under one budget, the count of latents swept."""

    config: Annotated[latents.Latents, Flat]

    def __call__(self, console: Console) -> None:
        self.go(console, self.config.budget(), latents.run(self.config, self.runs))
        task = self.config.train.task
        if isinstance(task, Sudoku) and task.box == (2, 3):
            console.print("\n[bold]A held-out puzzle (the README's), decoded by SCDM beside 8 latents[/bold]")
            run = self.runs / f"scdm-seed{self.config.seeds[0]}"
            SolveRun(General(run), Slots(latents=8)).watch(console, task.encode(README_PUZZLE))


@dataclass(frozen=True)
class ArLatentsStudy(_Study):
    """Latent tokens from left to right: next-token AR, mask slots, pause, AR + MTP, teacherless, MuToR, and MDM."""

    config: Annotated[ar_latents.ArLatents, Flat]

    def __call__(self, console: Console) -> None:
        self.go(console, self.config.budget(), ar_latents.run(self.config, self.runs))


@dataclass(frozen=True)
class DecodeStudy(_Study):
    """How fast latent tokens can be made at the same accuracy, and which latents do the work of many."""

    config: Annotated[decode.Decode, Flat]

    def __call__(self, console: Console) -> None:
        self.go(console, self.config.budget(), decode.run(self.config, self.runs))


@dataclass(frozen=True)
class GiddStudy(_Study):
    """Masks against hybrid noise: bounds, and what second thoughts mend on a chain and on Sudoku."""

    config: Annotated[gidd.Gidd, Flat]

    def __call__(self, console: Console) -> None:
        self.go(console, self.config.budget(), gidd.run(self.config, self.runs))


@dataclass(frozen=True)
class ForcingStudy(_Study):
    """Times shared by a row, or one for every token: bounds and samples along every path."""

    config: Annotated[forcing.Forcing, Flat]

    def __call__(self, console: Console) -> None:
        self.go(console, self.config.budget(), forcing.run(self.config, self.runs))


@dataclass(frozen=True)
class StepsStudy:
    """How many steps are enough: the information profiles of trained runs, plans made from them, and how they fare.

    Attributes:
        runs: Run folders of masked diffusion; seeds of one model are taken together.
        out: Where study.json and the figure go.
        passes: Of the schedules.
        latents: How many unknown tokens each is predicted beside, of models that have the dial; all besides.
        examples: Of validation, for the profile, and of test.
        draws: Random sets and orders for each.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("runs/steps/study")
    passes: tuple[int, ...] = (2, 3, 4, 6, 8, 12)
    latents: tuple[int, ...] = (0, 4)
    examples: int = 500
    draws: int = 8

    def __call__(self, console: Console) -> None:
        config = steps.Steps(tuple(map(str, self.runs)), self.passes, self.latents, self.examples, self.draws)
        console.print(config.budget())
        finish(console, terminal.watch_study(console, steps.run(config)), self.out)


@dataclass(frozen=True)
class TasksStudy(_Study):
    """The family on every task: AR, AR + MTP, SIDM, SCDM, MDM, in one table.

    Attributes:
        scale: `cpu` is two cores' work; `paper` holds the paper's settings, for a GPU.
        tasks: Which of them; all by default.
        seeds: Training seeds; by default the scale's.
        workers: Runs trained at a time.
    """

    runs: Path = Path("runs/tasks")
    out: Path = Path("runs/tasks/study")
    scale: Literal["cpu", "paper"] = "cpu"
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    workers: int = 2

    def __call__(self, console: Console) -> None:
        config = FAMILY[self.scale]()
        known = [case.name for case in config.cases]
        if strange := [name for name in self.tasks if name not in known]:
            raise ValueError(f"no task of the study is called {strange[0]!r}; give some of {', '.join(known)}")
        cases = tuple(case for case in config.cases if not self.tasks or case.name in self.tasks)
        config = replace(config, cases=cases, seeds=self.seeds or config.seeds, workers=self.workers)
        self.go(console, config.budget(), tasks.run(config, self.runs / self.scale))


def finish(console: Console, result: Result, out: Path) -> None:
    """Saves a result, shows it, and draws it."""
    path = result.save(out)
    console.print()
    terminal.show_result(console, result)
    console.print(f"rows and claims: {path}")
    draw(console, result, out)


def draw(console: Console, result: Result, folder: Path) -> None:
    """Writes a result's figure and page beside its study.json."""
    picture = figure.draw(result, folder / f"{result.study}.png")
    page = report.write_page(result, picture.name, folder / "README.md")
    console.print(f"figure: {picture}\npage: {page}")


@dataclass(frozen=True)
class Show:
    """Look at a run (config, losses, figure) or at a study's result (table, verdicts; figure and page drawn anew).

    Attributes:
        path: A run folder, or a study.json.
    """

    path: tyro.conf.Positional[Path]

    def __call__(self, console: Console) -> None:
        if self.path.suffix == ".json":
            result = read_result(self.path)
            terminal.show_result(console, result)
            draw(console, result, self.path.parent)
            return
        run = Run(self.path)
        terminal.show_run(console, run, run.config(Train))
        if run.metrics():
            console.print(f"figure: {figure.losses(run, self.path / 'losses.png')}")

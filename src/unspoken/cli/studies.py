"""Commands on many runs: the studies, and looking at what runs and studies left."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import tyro
from rich.console import Console

from unspoken.cli.runs import Flat
from unspoken.cli.solve import General, SolveRun
from unspoken.decoders.slots import Slots
from unspoken.presets.adapt import adapt
from unspoken.presets.tasks import FAMILY
from unspoken.show import figure, report, terminal
from unspoken.study.base import Study
from unspoken.study.curves import CurvesStudy
from unspoken.study.families import Grid
from unspoken.study.latents import LatentsStudy
from unspoken.study.report import Result, read_result
from unspoken.study.steps import StepsStudy
from unspoken.tasks import Sudoku
from unspoken.training.config import Train
from unspoken.training.run import Run

README_PUZZLE = "16...4....6.4..2.12.......2....3.5.."  # of the 6x6 test split
Config = TypeVar("Config", bound=Study)


@dataclass(frozen=True)
class StudyRun(Generic[Config]):
    """A study from a preset.

    Attributes:
        runs: Where the trained models are, or will be: finished ones are reused, stopped ones gone on with.
        out: Where study.json and the figure go.
    """

    runs: Path
    out: Path
    config: Annotated[Config, Flat]

    def __call__(self, console: Console) -> None:
        carry_out(console, self.config, self.runs, self.out)
        if isinstance(self.config, LatentsStudy):
            self._show_the_readmes_puzzle(console, self.config)

    def _show_the_readmes_puzzle(self, console: Console, study: LatentsStudy) -> None:
        task = study.train.task
        if isinstance(task, Sudoku) and task.box == (2, 3):
            console.print("\n[bold]A held-out puzzle (the README's), decoded by SCDM beside 8 latents[/bold]")
            run = self.runs / f"scdm-seed{study.seeds[0]}"
            SolveRun(General(run), Slots(latents=8)).watch(console, task.encode(README_PUZZLE))


@dataclass(frozen=True)
class StepsRun:
    """How many steps are enough: the information profiles of trained runs, plans made from them, and how they fare.

    Attributes:
        runs: Run folders of masked diffusion; seeds of one model are taken together.
        out: Where study.json and the figure go.
        passes: Of the schedules.
        latents: How many unknown tokens each is predicted beside, of models that have the dial; all besides.
        examples: Of validation, for the profile, and of test.
        draws: Random sets and orders for each.
        orders: Orders of decoding whose cost is measured (uniform, left_to_right, confidence, margin, entropy).
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("runs/steps/study")
    passes: tuple[int, ...] = (2, 3, 4, 6, 8, 12)
    latents: tuple[int, ...] = (0, 4)
    examples: int = 500
    draws: int = 8
    orders: tuple[str, ...] = ("uniform", "confidence")

    def __call__(self, console: Console) -> None:
        runs = tuple(map(str, self.runs))
        study = StepsStudy(runs, self.passes, self.latents, self.examples, self.draws, self.orders)
        carry_out(console, study, Path(), self.out)


@dataclass(frozen=True)
class CurvesRun:
    """Accuracy against tokens a pass, FLOPs and CPU seconds, with the areas; entropy against NLL of samples of text.

    Attributes:
        runs: Run folders of models of token ids; seeds of one model are taken together.
        out: Where study.json and the figure go.
        judge: The run that tells the NLL of samples; by default the first of the runs that reads from the left.
        examples: Of each test split, where there are right answers.
        samples: Of each setting, where there are none.
        batch: Examples decoded together.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("runs/curves/study")
    judge: str = ""
    examples: int = 500
    samples: int = 100
    batch: int = 125
    grid: Annotated[Grid, Flat] = field(default_factory=Grid)

    def __call__(self, console: Console) -> None:
        runs = tuple(map(str, self.runs))
        study = CurvesStudy(runs, self.judge, self.examples, self.samples, self.batch, self.grid)
        carry_out(console, study, Path(), self.out)


@dataclass(frozen=True)
class AdaptRun:
    """A pretrained model made into models with latent tokens: what they gain, lose and cost.

    Attributes:
        checkpoint: Folder of a causal language model with its tokenizer (python tools/smollm2.py writes one).
        data: The text: files and books, see `Prompted`.
        held_out: Those of them that are the test; by default one of Austen's novels, of other data a share of the
            windows.
        methods: Which of them; all by default, `AR` in any case.
        steps: Of each training run.
        seeds: Training seeds.
        workers: Runs trained at a time.
        runs: Where the trained models are, or will be: finished ones are reused, stopped ones gone on with.
        out: Where study.json and the figure go.
    """

    checkpoint: tyro.conf.Positional[Path]
    data: str = "austen"
    held_out: str | None = None
    methods: tuple[str, ...] = ()
    steps: int = 100
    seeds: tuple[int, ...] = (0,)
    workers: int = 2
    runs: Path = Path("runs/adapt")
    out: Path = Path("runs/adapt/study")

    def __call__(self, console: Console) -> None:
        study = adapt(str(self.checkpoint), self.data, self.held_out, self.steps)
        known = [method.name for method in study.methods]
        if strange := [name for name in self.methods if name not in known]:
            raise ValueError(f"no method is called {strange[0]!r}; give some of {'; '.join(known)}")
        wanted = {known[0], *(self.methods or known)}
        methods = tuple(method for method in study.methods if method.name in wanted)
        carry_out(console, replace(study, methods=methods, seeds=self.seeds, workers=self.workers), self.runs, self.out)


@dataclass(frozen=True)
class FamilyRun:
    """The family on every task: AR, AR + MTP, SIDM, SCDM, MDM, in one table.

    Attributes:
        runs: Where the trained models are, or will be: finished ones are reused, stopped ones gone on with.
        out: Where study.json and the figure go.
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
        carry_out(console, config, self.runs / self.scale, self.out)


def carry_out(console: Console, study: Study, runs: Path, out: Path) -> None:
    """Says what will be done, does it, saves the result, shows it, and draws it."""
    console.print(study.budget())
    result = terminal.watch_study(console, study.run(runs))
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

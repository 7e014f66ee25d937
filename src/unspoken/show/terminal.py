"""The terminal: a decoding watched step by step, a study's table and verdicts, progress with the time left."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from rich.columns import Columns
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from torch import Tensor

from unspoken.decoders.step import Step
from unspoken.measure.accuracy import Solved
from unspoken.record import to_record
from unspoken.show.cells import Kind, cells
from unspoken.show.report import table_cells
from unspoken.study.catalogue import table_of
from unspoken.study.report import Result, Stage
from unspoken.tasks import Task
from unspoken.training.config import Train
from unspoken.training.loop import Update
from unspoken.training.run import Run

STYLES: dict[Kind, str] = {
    "given": "bold",
    "said": "green",
    "now": "bold black on green",
    "latent": "yellow",
    "candidate": "cyan",
    "out": "dim",
}
MEANING: dict[Kind, str] = {
    "given": "given",
    "said": "said before",
    "now": "said now",
    "candidate": "candidate not taken, its best guess",
    "latent": "latent, its best guess",
    "out": "left out of the pass",
}


def plain_console(stderr: bool = False) -> Console:
    """A console that prints text as it is: what a user wrote or a path holds is never read as rich's markup."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False)


def board(step: Step, prompt: Tensor, task: Task, row: int = 0) -> Text:
    """One row of the batch after a step as coloured text, in the task's own arrangement."""
    text = Text()
    for i, (symbol, kind) in enumerate(cells(step, prompt, task, row)):
        text.append(symbol, STYLES[kind])
        text.append(task.gap(i))
    return text


def legend() -> Text:
    """What the colours of `board` mean."""
    text = Text()
    for kind, meaning in MEANING.items():
        text.append("■ ", STYLES[kind].replace("bold black on ", ""))
        text.append(f"{meaning}   ")
    return text


def watch(console: Console, steps: Iterable[Step], prompt: Tensor, task: Task) -> Step | None:
    """Prints one puzzle's boards side by side, a board a step, and returns the last step."""
    boards, step = [], None
    for step in steps:
        latents, candidates = int(step.latents.sum()), int(step.candidates.sum())
        title = Text(f"{step.index + 1}: {latents} latents\n{candidates} candidates", style="dim")
        boards.append(Group(title, board(step, prompt, task), Text()))
    console.print(legend())
    console.print()
    console.print(Columns(boards, padding=(0, 3), equal=True))
    return step


def progress(console: Console) -> Progress:
    """A bar with the time spent and an estimate of the time left; one line a bar."""
    return Progress(
        TextColumn("{task.description:<46}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
        console=console,
        # Redirected to a file, rich shows a bar once, at its end; `watch_study` prints lines of its own there.
        disable=not console.is_terminal,
    )


def watch_training(console: Console, config: Train, updates: Iterator[Update]) -> None:
    """Runs a training with a progress bar: speed, loss, validation loss."""
    with progress(console) as bar:
        task, validation = bar.add_task("training", total=config.steps), ""
        unit = config.objective.unit
        for update in updates:
            if update.validation is not None:
                validation = f", validation {update.validation:.4f}"
                console.print(f"step {update.step}: loss {update.loss:.4f}{validation} {unit}", style="dim")
            if update.loss is not None and update.seconds is not None:
                text = f"loss {update.loss:.4f}{validation}, {1 / update.seconds:.1f} steps/s"
                bar.update(task, description=text)
            bar.update(task, completed=update.step)


def watch_solving(console: Console, stages: Iterator[int | Solved], n: int) -> Solved:
    """Runs `accuracy.solve` with a bar that counts passes."""
    with progress(console) as bar:
        task = bar.add_task(f"solving {n}", total=None)
        for event in stages:
            if isinstance(event, Solved):
                return event
            bar.advance(task)
    raise AssertionError("solving ends in a Solved")


def watch_study(console: Console, stages: Iterator[Stage | Result]) -> Result:
    """Runs a study with one bar over all its estimated work, and returns its result."""
    printed: set[tuple[str, int]] = set()
    before, clock = None, time.monotonic()  # what was done before, by an earlier call
    with progress(console) as bar:
        task = bar.add_task("preparing", total=None)
        for event in stages:
            if isinstance(event, Result):
                return event
            bar.update(task, description=event.text, completed=event.done, total=event.total)
            what, share = event.text.split(":")[0], event.done / max(event.total, 1)
            if (line := (what, int(10 * share))) not in printed:  # a line for every tenth: a pipe has no bar
                printed.add(line)
                before = share if before is None else before
                speed = (share - before) / (time.monotonic() - clock)
                left = f", about {(1 - share) / speed / 60:.0f} min left" if share - before > 0.02 else ""
                console.print(f"[{share:4.0%}] {what}{left}", style="dim")
    raise AssertionError("a study ends in a Result")


def show_run(console: Console, run: Run, config: Train) -> None:
    """A run's configuration, environment and losses."""
    known = run.environment()
    started = f"started {known['date']} on {known['machine']}" if len(known) == 2 else "environment.json is missing"
    steps = run.checkpoints()[-1][0] if run.checkpoints() else 0
    console.print(Text(str(run.folder), "bold") + f": {config.attention.name.upper()} on {config.task.title}")
    console.print(f"{steps} of {config.steps} steps are saved; {started}")
    console.print_json(data=to_record(config), indent=None)
    table = Table("step", "loss", "validation", "s a step", title=config.objective.unit, title_justify="left")
    for m in (m for m in run.metrics() if "validation" in m):
        seconds = f"{m['seconds']:.3f}" if "seconds" in m else ""
        table.add_row(str(m["step"]), f"{m['loss']:.4f}", f"{m['validation']:.4f}", seconds)
    console.print(table)


def show_result(console: Console, result: Result) -> None:
    """The table, the verdicts, the notes."""
    table = Table(title=f"study {result.study}", title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in table_of(result.study).headings:
        words = name in ("model", "task", "method", "decoded")
        table.add_column(name, justify="left" if words else "right", no_wrap=True)
    for cells_of_row in table_cells(result):
        table.add_row(*cells_of_row)
    # As wide as its cells and without a box, however narrow the terminal: no cell is cut, and a pipe gets whole lines.
    table.width = console.measure(table, options=console.options.update(max_width=1_000)).maximum
    console.print(table, crop=False)
    console.print(Text(table_of(result.study).caption), style="dim")
    for claim in result.claims:
        style = "bold yellow" if claim.holds is None else "bold green" if claim.holds else "bold red"
        console.print(Text(f"{claim.name}: {claim.verdict}", style=style))
        console.print(Text(claim.evidence), style="dim")
    for note in result.notes:
        console.print(Text(f"note: {note}"), style="dim")

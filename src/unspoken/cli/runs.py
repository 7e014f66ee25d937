"""Commands on one run: train it, solve with it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from torch import Tensor

from unspoken.decoders.decoding import USED, Beside, By, Decoding, OrderName, natural
from unspoken.measure.accuracy import solve
from unspoken.measure.intervals import wilson
from unspoken.show import html, terminal
from unspoken.tasks import Text
from unspoken.training.config import Train
from unspoken.training.loop import check_vocabulary, load, seeded, training
from unspoken.training.objective import Masked
from unspoken.training.run import Run

Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class TrainRun:
    """Train a model, or go on with a run that was stopped or killed (by the same command).

    Attributes:
        folder: The run folder; by default runs/PRESET/ATTENTION-seedN, with the objective's name after the attention's
            where it is not masked diffusion.
    """

    config: Annotated[Train, Flat]
    folder: Path

    def __call__(self, console: Console) -> None:
        objective = "" if isinstance(self.config.objective, Masked) else f"-{type(self.config.objective).__name__}"
        model = self.config.attention.name + objective.lower()
        named = str(self.folder).replace("{model}", model).replace("{attention}", self.config.attention.name)
        folder = Path(named.replace("{seed}", str(self.config.seed)))
        terminal.watch_training(console, self.config, training(self.config, folder))
        text = f"trained: {folder}\nlook at it: unspoken show {folder}\nuse it: unspoken solve {folder}"
        console.print(text, markup=False)


@dataclass(frozen=True)
class SolveRun:
    """Solve puzzles with a trained run, and watch the latent tokens think.

    Without a puzzle or a file it takes a puzzle of the run's held-out test split.

    Attributes:
        run: A run folder that `unspoken train` made.
        puzzle: A puzzle, its rows one after the other, `.` or `0` for a blank.
        file: A .txt, .csv (source,question,answer,rating) or .npy file of puzzles: all are solved and judged.
        by: `slots`, `next_token`, `speculation` (as `slots` from left to right, exactly, in fewer passes), `blocks`, or
            `walk` (through the run's own noise).
        latents: Unsaid tokens beside the candidates in a pass.
        candidates: From how many the best is said.
        commit: Tokens said a pass, at most.
        threshold: Of those, all but the first must have a likeliest token of this probability.
        order: Which candidate is said first.
        entropy: Of those, the entropies of the ones said before must sum to at most this, in nats.
        beside: Which unsaid tokens are the latents: `uniform`, at random; `next`, the next in the order; `nearest`;
            `uncertain` or `certain`, when last predicted; `oldest`, predicted the longest time ago.
        widen: Above 0, latents are doubled for rows whose best candidate is less probable than this.
        stale: Beside a cache: latents that are in no pass are still seen, as they were when last predicted.
        wait: Rows that are done stay in the passes until all are.
        split: Above 0, rows that need fewer entries get passes of their own, where that saves this share of them.
        block: Tokens of a block, where it goes by blocks.
        drafts: Of speculation: drafts checked in a pass.
        temperature: 0 says the likeliest token; more draws one.
        cache: Keep the context's keys and values where the attention allows it.
        passes: Of a walk through noise; by default as many as there are positions.
        rounds: Of second thoughts after a walk.
        seed: Of every random choice.
        html: Also write the decoding as a self-contained page.

    What is left out is as the model was trained: all latents and 8 candidates by confidence for masked diffusion, from
    left to right for the autoregressive family.
    """

    run: tyro.conf.Positional[Path]
    puzzle: str | None = None
    file: Path | None = None
    by: By | None = None
    latents: int | None = None
    candidates: int | None = None
    commit: int | None = None
    threshold: float | None = None
    order: OrderName | None = None
    entropy: float | None = None
    beside: Beside | None = None
    widen: float | None = None
    stale: bool | None = None
    wait: bool | None = None
    split: float | None = None
    block: int | None = None
    drafts: int | None = None
    temperature: float | None = None
    cache: bool | None = None
    passes: int | None = None
    rounds: int | None = None
    seed: int = 0
    html: Path | None = None

    def __call__(self, console: Console) -> None:
        if self.puzzle is not None and self.file is not None:
            raise ValueError("give --puzzle or --file, not both")
        if self.html is not None and self.file is not None:
            raise ValueError("--html shows one puzzle; give --puzzle with it, or no --html")
        task = Run(self.run).config(Train).task
        if self.file is not None:
            self._file(console)
            return
        prompt = task.sample("test", 1).prompt(task.mask_id)[0] if self.puzzle is None else task.encode(self.puzzle)
        watch_one(console, self, prompt)

    def decoding(self) -> Decoding:
        """As the run was trained, but for what was asked: another way goes by what it has a use for."""
        asked = {f.name: getattr(self, f.name, None) for f in fields(Decoding)}
        asked = {name: value for name, value in asked.items() if value is not None}
        train = Run(self.run).config(Train)
        trained = natural(train.objective, train.process)
        kept = {name: getattr(trained, name) for name in USED[asked.get("by", trained.by)] if name in USED[trained.by]}
        if asked.get("by") == "walk":
            kept["process"] = train.process
        return Decoding(**kept | asked)

    def _file(self, console: Console) -> None:
        """Solves and judges a whole file, and prints the share solved with its interval."""
        assert self.file is not None
        task, model = Run(self.run).config(Train).task, load(self.run)
        check_vocabulary(model, task)
        if isinstance(task, Text):
            raise ValueError("text has no right answers to count; give --puzzle, or see the bits of `study tasks`")
        examples = task.read(self.file).by_size()
        stages = solve(model, task, examples, self.decoding(), seed=self.seed)
        solved = terminal.watch_solving(console, stages, len(examples))
        right, n = int(solved.right.sum()), len(examples)
        low, high = wilson(right, n)
        console.print(f"{right} of {n} solved: {right / n:.3f} [{low:.3f}, {high:.3f}], the 95% interval")
        console.print(
            f"a puzzle: {solved.passes:.1f} passes of {solved.entries:.1f} entries, {solved.flops / 1e6:.0f} MFLOPs, "
            f"{solved.seconds * 1e3:.1f} ms"
        )


def watch_one(console: Console, options: SolveRun, prompt: Tensor) -> None:
    """Decodes one prompt `[seq]` and prints every step, the latents' guesses included."""
    model, task = load(options.run), Run(options.run).config(Train).task
    check_vocabulary(model, task)
    batch = prompt[None].to(model.device)
    generator = seeded("solve", options.seed)
    steps = list(options.decoding().steps(model, batch, peek=True, generator=generator))
    terminal.watch(console, steps, batch, task)
    if not steps:
        console.print("nothing to say: every cell is given")
        return
    answer = steps[-1].tokens
    console.print(f"puzzle  {task.show(prompt)}\nanswer  {task.show(answer[0])}")
    if not isinstance(task, Text):  # text has no right answer
        console.print("solved: every rule is kept" if bool(task.score(batch, answer)[0]) else "NOT solved")
    entries = sum(step.entries for step in steps)
    console.print(
        f"{len(steps)} passes, {entries} entries in all, of {len(steps) * len(prompt)} with everything in view"
    )
    if options.html is not None:
        html.write_page(steps, batch, task, options.html, title=f"{options.run}: {task.show(prompt)}")
        console.print(f"page: {options.html}")

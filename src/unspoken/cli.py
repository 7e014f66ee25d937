"""The command line: `unspoken train | solve | study | show`. Every flag is a field of a dataclass of the library."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from torch import Tensor

from unspoken.attention import ATTENTIONS, Attention
from unspoken.config import Train
from unspoken.decode import decode
from unspoken.metrics import solve, wilson
from unspoken.presets import LATENTS, PRESETS
from unspoken.record import Run
from unspoken.show import figure, html, report, terminal
from unspoken.study import latents
from unspoken.study.report import Result, read_result
from unspoken.train import check_vocabulary, load, seeded, training

OrderName = Literal["uniform", "left_to_right", "confidence", "margin", "entropy"]
README_PUZZLE = "16...4....6.4..2.12.......2....3.5.."  # of the 6x6 test split
Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class TrainRun:
    """Train a model, or go on with a run that was stopped or killed (by the same command).

    Attributes:
        folder: The run folder; by default runs/PRESET/ATTENTION-seedN.
    """

    config: Annotated[Train, Flat]
    folder: Path

    def __call__(self, console: Console) -> None:
        named = str(self.folder).replace("{attention}", self.config.attention.name)
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
        latents: Unsaid tokens beside the candidates in a pass; by default all.
        candidates: From how many the best is said; by default 8, or `commit` if larger.
        commit: Tokens said a pass.
        order: Which candidate is said first.
        temperature: 0 says the likeliest token; more draws one.
        seed: Of every random choice.
        html: Also write the decoding as a self-contained page.
    """

    run: tyro.conf.Positional[Path]
    puzzle: str | None = None
    file: Path | None = None
    latents: int | None = None
    candidates: int | None = None
    commit: int = 1
    order: OrderName = "confidence"
    temperature: float = 0.0
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

    def options(self) -> dict[str, Any]:
        """What `decode` and `metrics.solve` are asked for."""
        return {name: getattr(self, name) for name in ("latents", "candidates", "commit", "order", "temperature")}

    def _file(self, console: Console) -> None:
        """Solves and judges a whole file, and prints the share solved with its interval."""
        assert self.file is not None
        task, model = Run(self.run).config(Train).task, load(self.run)
        check_vocabulary(model, task)
        examples = task.read(self.file).by_size()
        stages = solve(model, task, examples, seed=self.seed, **self.options())
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
    steps = list(decode(model, batch, peek=True, generator=generator, **options.options()))
    terminal.watch(console, steps, batch, task)
    if not steps:
        console.print("nothing to say: every cell is given")
        return
    answer = steps[-1].tokens
    console.print(f"puzzle  {task.show(prompt)}\nanswer  {task.show(answer[0])}")
    console.print("solved: every rule is kept" if bool(task.score(batch, answer)[0]) else "NOT solved")
    entries = sum(step.entries for step in steps)
    console.print(
        f"{len(steps)} passes, {entries} entries in all, of {len(steps) * len(prompt)} with everything in view"
    )
    if options.html is not None:
        html.write_page(steps, batch, task, options.html, title=f"{options.run}: {task.show(prompt)}")
        console.print(f"page: {options.html}")


@dataclass(frozen=True)
class LatentsStudy:
    """What latent tokens buy and cost: MDM, SCDM and SIDM under one budget, the count of latents swept.

    Attributes:
        runs: Where the trained models are, or will be: finished ones are reused, stopped ones gone on with.
        out: Where study.json and the figure go.
    """

    config: Annotated[latents.Latents, Flat]
    runs: Path
    out: Path

    def __call__(self, console: Console) -> None:
        console.print(self.config.budget())
        result = terminal.watch_study(console, latents.run(self.config, self.runs))
        path = result.save(self.out)
        console.print()
        terminal.show_result(console, result)
        console.print(f"rows and claims: {path}")
        draw(console, result, self.out)
        task = self.config.train.task
        if (task.box_rows, task.box_cols) == (2, 3):
            console.print("\n[bold]A held-out puzzle (the README's), decoded by SCDM beside 8 latents[/bold]")
            run = self.runs / f"scdm-seed{self.config.seeds[0]}"
            watch_one(console, SolveRun(run, latents=8), task.encode(README_PUZZLE))


def draw(console: Console, result: Result, folder: Path) -> None:
    """Writes a result's figure and page beside its study.json."""
    picture = figure.trade_off(result.rows, folder / f"{result.study}.png")
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


def _attention_from_name(registry: tyro.constructors.ConstructorRegistry) -> None:
    """An `Attention` is written by its name on the command line."""

    @registry.primitive_rule
    def rule(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        if info.type is not Attention:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="{" + ",".join(ATTENTIONS) + "}",
            instance_from_str=lambda words: ATTENTIONS[words[0]],
            is_instance=lambda value: isinstance(value, Attention),
            str_from_instance=lambda value: [value.name],
            choices=tuple(ATTENTIONS),
        )


def _presets(make: Callable[[str, Any], Any], presets: Mapping[str, Callable[[], Any]]) -> Any:
    """A subcommand for each preset: `make(name, config)`, described by the first line of the preset's docstring."""
    defaults = {name: make(name, preset()) for name, preset in presets.items()}
    first_line = {name: (preset.__doc__ or "").split("\n")[0] for name, preset in presets.items()}
    return tyro.extras.subcommand_type_from_defaults(defaults, first_line)


def _train_type() -> Any:
    return _presets(lambda name, c: TrainRun(c, Path("runs") / name / "{attention}-seed{seed}"), PRESETS)


def _latents_type() -> Any:
    return _presets(lambda name, c: LatentsStudy(c, Path("runs") / name, Path("runs") / name / "latents"), LATENTS)


COMMANDS: dict[str, tuple[Callable[[], Any], str]] = {
    "train": (_train_type, "train a model from a preset; the same command goes on with a stopped run"),
    "solve": (lambda: SolveRun, "solve a puzzle and watch the latent tokens think; or judge a file of puzzles"),
    "study latents": (_latents_type, "what latent tokens buy and cost: table, figure, verdicts"),
    "show": (lambda: Show, "look at a run or a study's result"),
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  unspoken {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "unspoken: language models that reason with the tokens they have not said yet",
            "",
            *lines,
            "",
            "Begin with: unspoken study latents quick. Every command has --help, every preset its own:",
            "  unspoken train sudoku-6x6 --help",
        ]
    )


def parse(words: list[str]) -> Callable[[Console], None]:
    """The command that the words spell. Exits with 2, as tyro does, where they spell none."""
    for name, (make, _) in COMMANDS.items():
        if words[: len(name.split())] == name.split():
            registry = tyro.constructors.ConstructorRegistry()
            _attention_from_name(registry)
            with registry:
                rest = words[len(name.split()) :]
                return tyro.cli(make(), args=rest, prog=f"unspoken {name}", config=(tyro.conf.CascadeSubcommandArgs,))
    asked = " ".join(words[:2])
    if not words or asked in ("-h", "--help"):
        print(_usage())
    else:
        print(f"no command is called {asked!r}\n\n{_usage()}", file=sys.stderr)
    raise SystemExit(0 if asked in ("-h", "--help") else 2)


def main(words: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, 2 for bad input, 130 when interrupted."""
    console, errors = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: errors.print(f"note: {message}", style="yellow", markup=False)
        try:
            parse(sys.argv[1:] if words is None else words)(console)
        except (ValueError, FloatingPointError, OSError) as error:
            errors.print(f"error: {error}", style="red", markup=False)
            return 2
        except KeyboardInterrupt:
            errors.print("stopped; the same command goes on from the last checkpoint", style="yellow")
            return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

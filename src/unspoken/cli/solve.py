"""Solving with a trained run, by its own decoder or by another: the decoder's fields are the flags."""

from __future__ import annotations

import inspect
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import tyro
from rich.console import Console
from torch import Tensor

from unspoken.decoders.decode import Decoder, Decoders, decoders_with, options_of, read_decoder
from unspoken.decoders.denoise import Walk
from unspoken.decoders.onepass import OnePass
from unspoken.decoders.policies import LATENT_POLICIES, ORDERS
from unspoken.decoders.slots import Slots
from unspoken.measure.accuracy import solve
from unspoken.measure.intervals import wilson
from unspoken.noise.times import Paths
from unspoken.show import html, terminal
from unspoken.training.config import Train
from unspoken.training.loading import decoder_record, load
from unspoken.training.models import check_vocabulary
from unspoken.training.run import Run
from unspoken.training.seeds import seeded


def _name(kind: type) -> str:
    """`next_token` of `NextToken`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


BY: dict[str, type[Decoders]] = {_name(kind): kind for kind in get_args(Decoders)}
# A path that needs numbers of its own (`Sizes`) is for us.decode.
PATHS: dict[str, Paths] = {_name(kind): kind() for kind in get_args(Paths) if kind.__name__ != "Sizes"}
KEPT = ("latents", "cache")  # of the run's own decoder, where another has them too


@dataclass(frozen=True)
class General:
    """Solve puzzles with a trained run, and watch the latent tokens think.

    Without a puzzle or a file it takes a puzzle of the run's held-out test split.

    Attributes:
        run: A run folder that `unspoken train` made.
        puzzle: A puzzle, its rows one after the other; a blank of Sudoku is `.` (or `0 - * _ x`).
        file: A file of examples, in any of its task's forms (docs/tasks.md): all are solved and judged.
        by: The decoder, by default the run's own. A walk goes through the run's own noise.
        seed: Of every random choice.
        html: Also write the decoding as a self-contained page.
    """

    run: tyro.conf.Positional[Path]
    puzzle: str | None = None
    file: Path | None = None
    by: Annotated[str | None, tyro.conf.arg(metavar="{" + ",".join(BY) + "}")] = None
    seed: int = 0
    html: Path | None = None


@dataclass(frozen=True)
class SolveRun:
    """What `unspoken solve` does: the general options, and a decoder."""

    general: General
    decoder: Decoder = field(default_factory=Slots)

    def __call__(self, console: Console) -> None:
        its = self.general
        if its.puzzle is not None and its.file is not None:
            raise ValueError("give --puzzle or --file, not both")
        if its.html is not None and its.file is not None:
            raise ValueError("--html shows one puzzle; give --puzzle with it, or no --html")
        task = Run(its.run).config(Train).task
        if its.file is not None:
            self._file(console, its.file)
            return
        prompt = task.sample("test", 1).prompt(task.mask_id)[0] if its.puzzle is None else task.encode(its.puzzle)
        self.watch(console, prompt)

    def _file(self, console: Console, file: Path) -> None:
        """Solves and judges a whole file, and prints the share solved with its interval."""
        task, model = Run(self.general.run).config(Train).task, load(self.general.run)
        check_vocabulary(model, task)
        if not task.judged:
            raise ValueError(f"{task.title}: there are no right answers to count; give --puzzle, or no --file")
        examples = task.read(file).by_size()
        stages = solve(model, task, examples, self.decoder, seed=self.general.seed)
        solved = terminal.watch_solving(console, stages, len(examples))
        right, n = int(solved.right.sum()), len(examples)
        low, high = wilson(right, n)
        console.print(f"{right} of {n} solved: {right / n:.3f} [{low:.3f}, {high:.3f}], the 95% interval")
        console.print(
            f"a puzzle: {solved.passes:.1f} passes of {solved.entries:.1f} entries, {solved.flops / 1e6:.0f} MFLOPs, "
            f"{solved.seconds * 1e3:.1f} ms"
        )

    def watch(self, console: Console, prompt: Tensor) -> None:
        """Decodes one prompt `[seq]` and prints every step, the latents' guesses included."""
        run, page = self.general.run, self.general.html
        model, task = load(run), Run(run).config(Train).task
        check_vocabulary(model, task)
        batch = prompt[None].to(model.device)
        generator = seeded("solve", self.general.seed)
        steps = list(self.decoder.steps(model, batch, predict_latents=True, generator=generator))
        terminal.watch(console, steps, batch, task)
        if not steps:
            console.print("nothing to say: every cell is given")
            return
        answer = steps[-1].answer
        console.print(f"puzzle  {task.show(prompt)}\nanswer  {task.show(answer[0])}")
        if task.judged:
            console.print("solved: every rule is kept" if bool(task.score(batch, answer)[0]) else "NOT solved")
        entries = sum(step.entries for step in steps)
        console.print(
            f"{len(steps)} passes, {entries} entries in all, of {len(steps) * len(prompt)} with everything in view"
        )
        if page is not None:
            html.write_page(steps, batch, task, page, title=f"{run}: {task.show(prompt)}")
            console.print(f"page: {page}")


def parse_solve(words: list[str], prog: str) -> SolveRun:
    """The command that the words after `solve` spell; its flags are the fields of the decoder.

    Raises ValueError on an option of another decoder. Exits, as tyro does, for help and for what can not be parsed.
    """
    run, by = _asked(words)
    if run is None:
        return SolveRun(tyro.cli(General, args=words, prog=prog, description=_without_run()))
    decoder = chosen(Path(run), by)
    _check_flags(words, decoder)
    parsed = tyro.cli(_flags_of(decoder), args=words, prog=prog, description=_about())
    general = {f.name: getattr(parsed, f.name) for f in fields(General)}
    return SolveRun(General(**general), replace(decoder, **_values(parsed, general, decoder)))


def decoder_of_run(run: Path) -> Decoders:
    """The decoder that a run was trained for. Raises ValueError where the folder is no run's."""
    Run(run).config(Train)
    return read_decoder(decoder_record(run))


def chosen(run: Path, by: str | None) -> Decoders:
    """The decoder of a run, or another, of as many latents where it has some. Raises ValueError on names of none."""
    own = decoder_of_run(run)
    if by is None or by == _name(type(own)):
        return own
    by = by.replace("-", "_")
    if by not in BY:
        raise ValueError(f"no decoder is called {by!r}; write --by with one of {', '.join(BY)}")
    if BY[by] is Walk:
        return Walk(Run(run).config(Train).process)
    if BY[by] is OnePass:
        raise ValueError(f"{run} was not trained to answer in one pass (the objective QueryCTC): leave out --by {by}")
    shared = {name: getattr(own, name) for name in KEPT if name in options_of(own) and name in options_of(BY[by])}
    return BY[by](**shared)


def _flags_of(decoder: Decoders) -> type:
    """The general options, and what the command line can say of a decoder, at its values: the process is the run's."""
    hints = get_type_hints(type(decoder))
    special: dict[str, Any] = {
        "order": Annotated[str, tyro.conf.arg(metavar="{" + ",".join(ORDERS) + "}")],
        "latent_policy": Annotated[str, tyro.conf.arg(metavar="{" + ",".join(LATENT_POLICIES) + "}")],
        "path": Annotated[str, tyro.conf.arg(metavar="{" + ",".join(PATHS) + "}")],
        "commit": Annotated[str, tyro.conf.arg(metavar="N[,N...]")],
    }
    shown = []
    for option in fields(decoder):
        value = getattr(decoder, option.name)
        if isinstance(value, get_args(Paths)):
            value = _name(type(value))
        if option.name == "commit":
            value = _commit_written(value)
        if option.name != "process" and isinstance(value, (int, float, str, type(None))):
            shown.append((option.name, special.get(option.name, hints[option.name]), value))
    made = make_dataclass(type(decoder).__name__, shown, bases=(General,), frozen=True)
    made.__doc__ = type(decoder).__doc__
    return made


def _values(flags: Any, without: Container[str], decoder: Decoders) -> dict[str, Any]:
    """What the flags say, as the decoder's fields hold it. Raises ValueError on a path that has no name.

    A path whose name is the decoder's own is that path, with its numbers.
    """
    values = {f.name: getattr(flags, f.name) for f in fields(flags) if f.name not in without}
    if "commit" in values:
        values["commit"] = _commit(values["commit"], decoder)
    if isinstance(decoder, Walk) and values["path"] == _name(type(decoder.path)):
        return values | {"path": decoder.path}
    if "path" in values and values["path"] not in PATHS:
        raise ValueError(f"no path is called {values['path']!r}; write one of {', '.join(PATHS)}")
    return values | ({"path": PATHS[values["path"]]} if "path" in values else {})


def _commit_written(commit: object) -> str:
    """As the flag is written: `4`, `3,2,1`, or `recorded` for what is no number."""
    numbers = commit if isinstance(commit, tuple) else (commit,)
    return ",".join(map(str, numbers)) if all(isinstance(n, int) for n in numbers) else "recorded"


def _commit(written: str, decoder: Decoders) -> Any:
    """The tokens a step that the flag says: a number, or one for the first step, the second, ..."""
    if written == _commit_written(own := getattr(decoder, "commit", None)):
        return own
    try:
        numbers = tuple(map(int, written.split(",")))
    except ValueError:
        raise ValueError(f"--commit {written}: give a number, or some with commas, as in 4 or 3,2,1") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _asked(words: list[str]) -> tuple[str | None, str | None]:
    """The run folder and the decoder's name among the words, None where there is none."""
    run = by = None
    left = iter(words)
    for word in left:
        flag, equals, value = word.partition("=")
        if not word.startswith("-"):
            run = run or word
        elif not _is_switch(flag):
            value = value if equals else next(left, None)
            by = value if flag == "--by" else by
    return run, by


def _is_switch(flag: str) -> bool:
    """Whether a flag takes no value."""
    name = _option(flag)
    hints = {n: hint for kind in BY.values() for n, hint in get_type_hints(kind).items()}
    return flag in ("-h", "--help") or hints.get(name) is bool


def _option(flag: str) -> str:
    return flag.removeprefix("--").removeprefix("no-").replace("-", "_")


def _check_flags(words: list[str], decoder: Decoders) -> None:
    """Raises ValueError on an option of another decoder."""
    for flag in _flags(words):
        if _option(flag) == "process":
            raise ValueError("--process: a walk goes through the noise that the run was trained with; leave it out")
        others = decoders_with(_option(flag))
        if others and type(decoder).__name__ not in others:
            names = [_name(kind) for kind in BY.values() if kind.__name__ in others]
            add = " or ".join(f"--by {name}" for name in names)
            raise ValueError(
                f"{flag} is an option of {' and '.join(names)}; the decoder here is {_name(type(decoder))}: add {add}"
            )


def _flags(words: list[str]) -> Iterator[str]:
    return (word.partition("=")[0] for word in words if word.startswith("--"))


def _without_run() -> str:
    """What `--help` says where no run is named: the decoders."""
    lines = [f"{name}: {(kind.__doc__ or '').splitlines()[0]}" for name, kind in BY.items()]
    more = "With a run its decoder's options are listed too: unspoken solve RUN --help. The decoders:"
    return "\n\n".join([_about(), more, *lines])


def _about() -> str:
    return inspect.cleandoc(General.__doc__ or "").split("\n\nAttributes:")[0]

"""The commands by name, and running one. Every flag is a field of a dataclass of ours."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from rich.console import Console

from unspoken.cli.runs import TrainRun
from unspoken.cli.say import ChatRun, CompleteRun
from unspoken.cli.solve import General, parse_solve
from unspoken.cli.studies import AdaptRun, CurvesRun, FamilyRun, Show, StepsRun, StudyRun
from unspoken.cli.tasks import ListTasks, ShowTask
from unspoken.layout.attention import ATTENTIONS, Attention
from unspoken.presets import (
    AR_LATENTS,
    DECODE,
    DIAL,
    FORCING,
    FOREDIFF,
    GIDD,
    LADIR,
    LATENTS,
    LOOPS,
    NARVL,
    TOKENBRIDGE,
)
from unspoken.presets.tasks import OWN, TASKS, TRAIN
from unspoken.show import terminal
from unspoken.study.base import Study


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


def _presets(
    make: Callable[[str, Any], Any], presets: Mapping[str, Callable[[], Any]], kind: Callable[[Any], Any] = type
) -> Any:
    """A subcommand for each preset: `make(name, config)`, described by the first line of the preset's docstring.

    kind: the type of what is made, where it is more than its class.
    """
    commands = []
    for name, preset in presets.items():
        made, first_line = make(name, preset()), (preset.__doc__ or "").split("\n")[0]
        commands.append(Annotated[kind(made), tyro.conf.subcommand(name, default=made, description=first_line)])
    return Union[tuple(commands)]  # noqa: UP007 (a list of them)


def _train_type() -> Any:
    return _presets(lambda name, c: TrainRun(c, Path("runs") / name / "{model}-seed{seed}"), TRAIN)


def _study(name: str, presets: Mapping[str, Callable[[], Study]], out: str = "study") -> Callable[[], Any]:
    """The command of a study: each preset's runs are in runs/NAME/PRESET, its result in a folder there."""
    runs = Path("runs") / name
    return lambda: _presets(
        lambda preset, study: StudyRun(runs / preset, runs / preset / out, study),
        presets,
        lambda made: StudyRun[type(made.config)],
    )


def _task_type() -> Any:
    return _presets(lambda _, task: ShowTask(task), TASKS | OWN)


COMMANDS: dict[str, tuple[Callable[[], Any], str]] = {
    "train": (_train_type, "train a model from a preset; the same command goes on with a stopped run"),
    "solve": (lambda: General, "solve a puzzle and watch the latent tokens think; or judge a file of puzzles"),
    "complete": (lambda: CompleteRun, "go on with a text, or fill its gaps"),
    "chat": (lambda: ChatRun, "talk to a model by its chat template, line by line"),
    "study latents": (_study("", LATENTS, "latents"), "what latent tokens buy and cost: table, figure, verdicts"),
    "study dial": (_study("dial", DIAL), "groups of joint latents: a better dial than ordered ones?"),
    "study ar-latents": (
        _study("ar-latents", AR_LATENTS),
        "latent tokens from left to right: do they give AR models lookahead?",
    ),
    "study decode": (_study("decode", DECODE), "how fast can latent tokens be made, and which of them matter?"),
    "study loops": (_study("loops", LOOPS), "the same layers several times: harder puzzles for their cost?"),
    "study gidd": (_study("gidd", GIDD), "noise that says wrong tokens too: can a model mend what it said?"),
    "study forcing": (_study("forcing", FORCING), "a time for every token: one model for every schedule?"),
    "study steps": (lambda: StepsRun, "how many steps are enough: the information profile of trained runs"),
    "study curves": (lambda: CurvesRun, "accuracy against tokens a pass, FLOPs and seconds, of any trained runs"),
    "study adapt": (lambda: AdaptRun, "a pretrained model made into ones with latent tokens: what it gains and loses"),
    "study ladir": (_study("ladir", LADIR), "reasoning in blocks of vectors: do more denoising steps answer more?"),
    "study forediff": (_study("forediff", FOREDIFF), "a flow that reads a frozen predictor: steadier, or better?"),
    "study narvl": (_study("narvl", NARVL), "questions about images, answered in one pass: as well as word by word?"),
    "study tokenbridge": (
        _study("tokenbridge", TOKENBRIDGE),
        "images as codes made after training: as good as continuous ones, and by which head?",
    ),
    "study tasks": (lambda: FamilyRun, "the family on every task: which claims hold where"),
    "tasks list": (lambda: ListTasks, "the tasks by name"),
    "tasks show": (_task_type, "the card of a task: sizes, vocabulary, duplicates, symmetries, examples"),
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
            if name == "solve":
                return parse_solve(words[1:], f"unspoken {name}")  # its flags are those of the run's decoder
            registry = tyro.constructors.ConstructorRegistry()
            _attention_from_name(registry)
            with registry:
                rest = words[len(name.split()) :]
                return tyro.cli(make(), args=rest, prog=f"unspoken {name}", config=(tyro.conf.CascadeSubcommandArgs,))
    asked, groups = " ".join(words[:2]), {name.partition(" ")[0] for name in COMMANDS}
    helped = words[-1:] in (["-h"], ["--help"]) and (len(words) == 1 or (len(words) == 2 and words[0] in groups))
    if helped or not words:
        print(_usage())
    else:
        print(f"no command is called {asked!r}\n\n{_usage()}", file=sys.stderr)
    raise SystemExit(0 if helped else 2)


def run(words: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, 2 for bad input, 130 when interrupted."""
    console, errors = terminal.plain_console(), terminal.plain_console(stderr=True)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: errors.print(f"note: {message}", style="yellow")
        try:
            parse(sys.argv[1:] if words is None else words)(console)
        except (ValueError, FloatingPointError, OSError) as error:
            errors.print(f"error: {error}", style="red")
            return 2
        except KeyboardInterrupt:
            errors.print("stopped; the same command goes on from the last checkpoint", style="yellow")
            return 130
    return 0

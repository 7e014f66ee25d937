"""Accuracy against tokens a pass, FLOPs and seconds, of any runs, with the area under each curve.

Every model is decoded at a family of settings, from one token a pass to all; where there are no right answers, samples
are drawn at several temperatures, and their entropy is held against what they cost a model that reads from the left.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from unspoken.measure.accuracy import Outcome, solve_ways, solved
from unspoken.measure.area import areas
from unspoken.measure.groups import numbered, seeds_of
from unspoken.measure.samples import nll_from_left, reader, unigram_entropy
from unspoken.model.denoiser import Denoiser
from unspoken.study.base import Findings, Study
from unspoken.study.families import Grid, Kind, check_decodable, drawn_of, settings_of
from unspoken.study.report import Stage
from unspoken.study.table import Column, Mean, Row, Table, cost_columns, costs
from unspoken.tasks import Task
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.loading import load
from unspoken.training.objective import MaskedDiffusion
from unspoken.training.run import Run

DATA = "test examples"  # beside the samples
_HEAD = (Column("part", "part"), Column("task", "task"), Column("model", "model"))
_COSTS = (Column("tokens_per_pass", "tokens a pass", "{:.2f}".format), *cost_columns("example", mflops=1))
_TEXT = (Mean("entropy", "entropy"), Mean("nll", "NLL"))
TABLE = Table(
    "curves",
    {
        "settings": (
            *_HEAD,
            Column("family", "family"),
            Column("setting", "setting"),
            Mean("accuracy", "right", share=True),
            *_COSTS,
        ),
        "area": (
            *_HEAD,
            Mean("area_by_tokens", "tokens a pass"),
            Mean("area_by_flops", "MFLOPs"),
            Mean("area_by_seconds", "ms"),
        ),
        "samples": (
            *_HEAD,
            Column("setting", "setting"),
            Column("temperature", "family", "T {:g}".format),
            *_TEXT,
            *_COSTS,
        ),
        "data": (*_HEAD, *_TEXT),
    },
    "settings: the share of right answers, and costs an example. area: under that share, against each cost. samples: "
    "drawn at temperature T, and data: of the test split; entropy of a sample's tokens in nats, NLL in nats a token "
    "under the judge. With 95% intervals.",
)


@dataclass(frozen=True)
class CurvesStudy(Study):
    """The study's config. It trains nothing.

    Attributes:
        runs: Run folders; seeds of one model are those that differ in the seed alone.
        judge: The run folder of a model that reads from the left, which tells the NLL of samples where there are no
            right answers; by default the first of the runs that does.
        examples: Of each test split, where there are right answers.
        samples: Of each setting, where there are none.
        batch: Examples decoded together.
        grid: The families of settings and their values.
    """

    TABLE = TABLE

    runs: tuple[str, ...]
    judge: str = ""
    examples: int = 500
    samples: int = 100
    batch: int = 125
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError(f"runs={self.runs}: give one run folder or more, each once")
        super().__post_init__()

    def budget(self) -> str:
        return (
            f"{len(self.runs)} run(s), each decoded at its families of settings: {self.examples} test examples where "
            f"there are right answers, elsewhere {self.samples} samples at {len(self.grid.temperatures)} temperatures"
        )

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        """Looks at the runs, loads and decodes them. runs: the folder that they are given from."""
        parts = _parts(self, runs)
        rows: list[Row] = []
        for done, part in enumerate(parts):
            stage = Stage(part.title, done, len(parts))
            rows += yield from (_solved if part.task.judged else _sampled)(self, part, stage)
        return rows, [], _notes(self, parts)


@dataclass(frozen=True)
class Subject:
    """A model on one task, and the folders of its seeds."""

    name: str
    kind: Kind
    folders: list[Path]

    def models(self) -> list[Denoiser]:
        """One a seed, on the CPU."""
        return [load(folder, "cpu") for folder in self.folders]


@dataclass(frozen=True)
class Part:
    """A task, what is asked of it, and its models. judge: the run that reads samples, where there are no answers."""

    title: str
    task: Task
    test: Examples
    subjects: list[Subject]
    judge: Path | None


def _parts(config: CurvesStudy, runs: Path) -> list[Part]:
    """The runs by task. Raises ValueError before any pass for what can not be decoded, drawn or judged."""
    alike = seeds_of([runs / folder for folder in config.runs])
    for train, folders in alike.items():
        check_decodable(str(folders[0]), train)
    tasks = list(dict.fromkeys(train.task for train in alike))
    if config.judge and all(task.judged for task in tasks):
        raise ValueError(f"judge={config.judge!r}, and every task of the runs has right answers; leave it out")
    parts = []
    for title, task in zip(numbered([task.title for task in tasks]), tasks, strict=True):
        its = {train: folders for train, folders in alike.items() if train.task == task}
        n = min(config.examples if task.judged else config.samples, task.size("test"))
        test = task.sample("test", n).by_size()
        most = int((~test.given).sum(1).max())
        names = numbered([_name(train) for train in its])
        subjects = [
            Subject(name, Kind(train, config.grid, most), folders)
            for name, (train, folders) in zip(names, its.items(), strict=True)
        ]
        for subject in subjects:
            (settings_of if task.judged else drawn_of)(subject.kind)
        parts.append(Part(title, task, test, subjects, None if task.judged else _judge(config, runs, task, its)))
    return parts


def _name(train: Train) -> str:
    """Attention, what it was trained on where that is not plain masked diffusion, and whether it has a predictor."""
    objective, name = train.objective, train.attention.name.upper()
    if not isinstance(objective, MaskedDiffusion):
        name = f"{name}, {type(objective).__name__}"
    elif objective.groups is not None:
        name = f"{name}, grouped"
    return name if train.foresight is None else f"{name}, foresight"


def _judge(config: CurvesStudy, runs: Path, task: Task, its: dict[Train, list[Path]]) -> Path:
    """The run that reads the samples of a task. Raises ValueError where none can."""
    if config.judge:
        folder = runs / config.judge
        train = Run(folder).config(Train)
        if reader(train) is None or train.task != task:
            raise ValueError(
                f"judge={config.judge!r}: attention {train.attention.name} trained with {train.objective} on "
                f"{train.task.title}; give a run that reads from the left (NextTokenPrediction, MuToR, MultiToken) and "
                f"is trained on {task}"
            )
        return folder
    for train, folders in its.items():
        if reader(train) is not None:
            return folders[0]
    raise ValueError(
        f"{task.title} has no right answers, and none of its runs reads from the left and so can judge samples; give "
        "the folder of one that does: judge"
    )


@dataclass
class _Turns:
    """How far a task is. stage: at its beginning. turns: in all, one for each setting on each batch."""

    stage: Stage
    turns: int
    begun: int = 0
    last: tuple[object, ...] = ()

    def tell(self, way: tuple[object, ...], entries: int = 0) -> Stage:
        """A pass of a setting."""
        self.begun += way != self.last
        self.last = way
        done = self.stage.done + min(self.begun - 1, self.turns) / self.turns
        return replace(self.stage, text=f"{self.stage.text}: {', '.join(map(str, way))}", done=done)


def _solved(config: CurvesStudy, part: Part, stage: Stage) -> Generator[Stage, None, list[Row]]:
    """Rows of every setting of every model, which take turns, and of the areas."""
    ways = {
        (subject.name, *key): (models, decoder)
        for subject in part.subjects
        for models in [subject.models()]
        for key, decoder in settings_of(subject.kind).items()
    }
    turns = _Turns(stage, len(ways) * -(-len(part.test) // config.batch))
    outcomes = yield from solve_ways(ways, part.task, part.test, config.batch, turns.tell)
    free = float((~part.test.given).sum(1).double().mean())
    rows = [
        TABLE.row(
            "settings",
            task=part.title,
            model=model,
            family=family,
            setting=setting,
            accuracy=its.right,
            tokens_per_pass=free / its.passes,
            **costs(its, "example"),
        )
        for (model, family, setting), its in outcomes.items()
    ]
    return rows + [
        TABLE.row("area", task=part.title, model=name, **its)
        for name, its in areas({s.name: _of(outcomes, s.name) for s in part.subjects}, free).items()
    ]


def _of(outcomes: dict[tuple[str, str, str], Outcome], model: str) -> list[Outcome]:
    return [its for (name, _, _), its in outcomes.items() if name == model]


def _sampled(config: CurvesStudy, part: Part, stage: Stage) -> Generator[Stage, None, list[Row]]:
    """Rows of the samples of every model at every temperature, and of the test examples themselves."""
    assert part.judge is not None
    judge, train = load(part.judge, "cpu"), Run(part.judge).config(Train)
    task, prompts, free = part.task, part.test.whole(), float((~part.test.given).sum(1).double().mean())

    def measured(tokens: Sequence[Tensor]) -> dict[str, Tensor]:
        """tokens: `[samples, length]` of every seed."""
        entropy = [unigram_entropy(its, ~prompts.given, task.vocab_size) for its in tokens]
        nll = [nll_from_left(judge, train, Examples(its, prompts.given)) for its in tokens]
        return {"entropy": torch.stack(entropy), "nll": torch.stack(nll)}

    rows, turns = [], _Turns(stage, sum(len(drawn_of(subject.kind)) for subject in part.subjects))
    for subject in part.subjects:
        models = subject.models()
        for (setting, temperature), decoder in drawn_of(subject.kind).items():
            yield turns.tell((subject.name, setting, temperature))
            its = [solved(model, task, prompts, decoder, config.batch) for model in models]
            outcome = Outcome.of([its])
            rows.append(
                TABLE.row(
                    "samples",
                    task=part.title,
                    model=subject.name,
                    setting=setting,
                    temperature=temperature,
                    tokens_per_pass=free / outcome.passes,
                    **measured([s.tokens for s in its]),
                    **costs(outcome, "example"),
                )
            )
    return [*rows, TABLE.row("data", task=part.title, model=DATA, **measured([prompts.x0]))]


def _notes(config: CurvesStudy, parts: Sequence[Part]) -> list[str]:
    notes = [
        "Models: "
        + "; ".join(f"{s.name}, {part.title}: {len(s.folders)} seed(s)" for part in parts for s in part.subjects)
        + ". 95% intervals over seeds and examples; of one seed over examples alone.",
    ]
    if any(part.task.judged for part in parts):
        notes += [
            "Area: the best share of right answers that a budget buys, on average over budgets that are uniform in "
            "their logarithm. Tokens a pass: from one to all of an example. MFLOPs, ms: from the cheapest to the "
            "dearest setting of the models on the same task, so that these areas compare in this table alone.",
            "The settings that an area takes are the best on these very examples, and its interval does not hold that "
            "choice. Milliseconds are CPU time of one process; the settings take turns, "
            f"{config.batch} examples each. `Slots` lets rows that are done leave the batch; other decoders keep them, "
            "and their passes count.",
        ]
    for part in parts:
        if part.judge is not None:
            judge = next((s.name for s in part.subjects if part.judge in s.folders), part.judge.name)
            notes.append(
                f"{part.title}: {len(part.test)} samples a setting and seed, from the test split's prompts. The NLL is "
                f"that of {judge}, a model that reads from the left and favours what is like its own samples; its "
                "exponential is the field's generative perplexity."
            )
    return notes

"""Is a question about an image answered in one pass as well as word by word? By NARVL, arXiv 2403.02249.

One trunk, trained to answer from left to right, all at once position by position, and all at once with a free alignment
(Query-CTC): on strips of digits with one right transcription, on strips with many, and on questions about scenes. On
strips with many, the two that answer at once also learn from the answers of the first.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unspoken.decoders.autoregressive import NextToken
from unspoken.decoders.decode import Decoder, decoder_of
from unspoken.decoders.onepass import OnePass
from unspoken.measure.accuracy import Outcome, solve_ways
from unspoken.model.denoiser import Denoiser
from unspoken.study.base import Findings, SeededStudy, check_rising, folder_of, loaded, trained
from unspoken.study.one_pass import (
    ANY,
    DISTILLED,
    LEFT,
    MANY,
    ONE,
    QUERIES,
    SCENES,
    TRAINED,
    WISE,
    WISE_DISTILLED,
    claims,
)
from unspoken.study.report import Stage
from unspoken.study.table import Column, Mean, Row, Table
from unspoken.systems import narvl
from unspoken.tasks import Scenes, Strips
from unspoken.tasks.pictured import Pictured
from unspoken.training.config import Train, Trunk
from unspoken.training.pool import Job


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


TABLE = Table(
    "narvl",
    {
        "answers": (
            Column("part", "part"),
            Column("data", "data"),
            Column("model", "model"),
            Mean("right", "right", share=True),
            Column("passes", "passes", "{:.1f}".format),
            Column("entries", "entries", "{:.1f}".format),
            Column("flops", "MFLOPs", lambda flops: f"{flops / 1e6:.2f}"),
            Column("seconds", "ms", _ms),
            Column("seconds_alone", "ms alone", _ms),
            Column("seeds"),
        ),
        "dial": (
            Column("part", "part"),
            Column("data", "data"),
            Column("model", "model"),
            Column("together", "together", drawn=True),
            Mean("right", "right", share=True),
            Column("seeds"),
        ),
        "training": (
            Column("part", "part"),
            Column("data", "data"),
            Column("model", "model"),
            Column("parameters", "weights", "{:,}".format),
            Column("steps", "steps"),
            Column("taught", "answers", lambda shares: ", ".join(f"{share:.3f}" for share in shares), optional=True),
        ),
    },
    "answers: the share that is right, passes and entries a pass, MFLOPs and CPU ms an answer in batches, and CPU ms "
    "alone. dial: one model that was trained with any number of queries that see each other, by that number. training: "
    "answers is the share of the teacher's that were right, by seed; all were learned from. With 95% intervals.",
)


@dataclass(frozen=True)
class NarvlStudy(SeededStudy):
    """The study's config.

    Attributes:
        strips: The strips with one right transcription; those with many have two spellings.
        scenes: Scenes with questions; they need Fashion-MNIST.
        steps: Of every run on strips.
        scene_steps: Of every run on scenes.
        batch: Of every run.
        lr: Of every run.
        layers: Of the trunk.
        width: Of the trunk, 4 heads.
        taught: Questions that a teacher answers.
        examples: Of the test split.
        alone: Of those, so many are answered one by one, to be timed.
        together: Numbers of queries that see each other, rising; 0, the first, is all.
        data: Kinds of data; both kinds of strips, and scenes or not.
    """

    TABLE = TABLE

    strips: Strips
    scenes: Scenes
    steps: int = 500
    scene_steps: int = 500
    batch: int = 64
    lr: float = 4e-3
    layers: int = 3
    width: int = 64
    taught: int = 12_000
    examples: int = 1_000
    alone: int = 50
    together: tuple[int, ...] = (0, 1, 2, 4, 8)
    data: tuple[str, ...] = (ONE, MANY, SCENES)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rising("together", self.together)
        if self.strips.spellings != 1 or self.strips.path or self.scenes.path:
            raise ValueError(f"strips={self.strips}: give one spelling and no path; those with two are made of it")
        if set(self.data) - set(TRAINED) or not {ONE, MANY} <= set(self.data):
            raise ValueError(f"data={self.data}: give {ONE!r} and {MANY!r}, and {SCENES!r} or not")
        if self.examples > min(self.strips.test, self.scenes.test) or self.alone > self.examples:
            raise ValueError(
                f"examples={self.examples}, alone={self.alone}: give at most the {self.strips.test} strips and "
                f"{self.scenes.test} scenes of the test splits, and alone no more than examples"
            )

    def budget(self) -> str:
        runs = sum(map(len, self.models.values()))
        return (
            f"{len(self.seeds)} seed(s) of {runs} runs, {self.steps} steps of {self.batch} on strips and "
            f"{self.scene_steps} on scenes; then {self.examples} answers by each"
        )

    @property
    def models(self) -> dict[str, tuple[str, ...]]:
        """The models of each kind of data."""
        return {data: TRAINED[data] for data in self.data}

    def of(self, data: str) -> Pictured:
        """A task by its name."""
        return {ONE: self.strips, MANY: replace(self.strips, spellings=2), SCENES: self.scenes}[data]

    def job(self, data: str, name: str, seed: int, runs: Path) -> Job:
        """A training run and its folder."""
        task, folder = self.of(data), runs / folder_of(data)
        assert isinstance(task, Strips | Scenes)
        made = {
            LEFT: lambda: narvl.left_to_right(task),
            WISE: lambda: narvl.position_wise(task),
            QUERIES: lambda: narvl.queries(task),
            ANY: lambda: narvl.queries(task, together=-1),
            WISE_DISTILLED: lambda: narvl.distilled(narvl.position_wise(task), self.answers(data, seed, runs)),
            DISTILLED: lambda: narvl.distilled(narvl.queries(task), self.answers(data, seed, runs)),
        }
        train: Train = made[name]()
        trunk = Trunk(self.layers, self.width, heads=4, init=0.07)
        steps = self.scene_steps if data == SCENES else self.steps
        whole = {"batch": self.batch, "lr": self.lr, "steps": steps, "save": steps, "validate": max(steps // 4, 1)}
        return replace(train, trunk=trunk, seed=seed, **whole), folder / f"{folder_of(name)}-seed{seed}"

    def answers(self, data: str, seed: int, runs: Path) -> Path:
        """The file of a teacher's answers; their number is in its name, hence in what is recorded of its pupils."""
        return runs / folder_of(data) / f"taught-{self.taught}-seed{seed}.txt"

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        for data in self.models:  # what is missing on this machine is missed now
            self.of(data).sample("test", 1)
        cells = [(data, name) for data, names in self.models.items() for name in names]
        jobs = {cell: [self.job(*cell, seed, runs) for seed in self.seeds] for cell in cells}
        second = {cell for cell in cells if cell[1] in (WISE_DISTILLED, DISTILLED)}
        yield from trained([job for cell in cells if cell not in second for job in jobs[cell]], self.workers)
        shares = yield from self._teach(runs, jobs[MANY, LEFT])
        yield from trained([job for cell in second for job in jobs[cell]], self.workers, "training, distilled")
        models = {cell: loaded(its) for cell, its in jobs.items()}
        found: dict[tuple[str, str], Outcome] = {}
        alone: dict[tuple[str, str], Outcome] = {}
        dial: dict[int, Outcome] = {}
        for data, names in self.models.items():
            task, test = self.of(data), self.of(data).sample("test", self.examples)
            its = {(data, name): models[data, name] for name in names}
            ways = {cell: (group, self._decoder(task, group)) for cell, group in its.items()}
            tell = lambda way, _: Stage(f"answering: {', '.join(map(str, way))}", 0, 1)  # noqa: E731
            found |= yield from solve_ways(ways, task, test, self.batch, tell)
            alone |= yield from solve_ways(ways, task, test.rows(slice(0, self.alone)), 1, tell)
            if (data, ANY) in models:
                sizes = {n: (models[data, ANY], OnePass(task.end, n)) for n in self.together}
                tell = lambda n, _: Stage(f"dial: {n}", 0, 1)  # noqa: E731
                dial = yield from solve_ways(sizes, task, test, self.batch, tell)
        rows = [*_answers(self, found, alone), *_dial(self, dial), *_training(jobs, models, shares)]
        return rows, claims(found, len(self.seeds)), _notes(self)

    def _teach(self, runs: Path, jobs: Sequence[Job]) -> Generator[Stage, None, list[float]]:
        """Writes what is missing of the teachers' answers; the share that was right, by seed."""
        shares = []
        for number, (seed, model) in enumerate(zip(self.seeds, loaded(jobs), strict=True)):
            yield Stage("answers of the teacher", number, len(jobs))
            task, path = self.of(MANY), self.answers(MANY, seed, runs)
            assert isinstance(task, Strips)
            if not path.exists():
                narvl.taught(model, task, path, self.taught, decoder=self._decoder(task, [model]), seed=seed)
            its = task.examples(task.taught(path))
            shares.append(float(task.score(its.prompt(task.mask_id), its.x0).double().mean()))
        return shares

    def _decoder(self, task: Pictured, models: Sequence[Denoiser]) -> Decoder:
        """A model's own; from left to right up to the end of an answer."""
        own = decoder_of(models[0])
        return narvl.UntilEnd(own, task.end) if isinstance(own, NextToken) else own


Found = Mapping[tuple[str, str], Outcome]


def _answers(config: NarvlStudy, found: Found, alone: Found) -> list[Row]:
    return [
        TABLE.row(
            "answers",
            data=data,
            model=name,
            right=its.right,
            passes=its.passes,
            entries=its.entries,
            flops=its.flops,
            seconds=its.seconds,
            seconds_alone=alone[data, name].seconds,
            seeds=list(config.seeds),
        )
        for (data, name), its in found.items()
    ]


def _dial(config: NarvlStudy, dial: Mapping[int, Outcome]) -> list[Row]:
    return [
        TABLE.row("dial", data=MANY, model=ANY, together=n, right=its.right, seeds=list(config.seeds))
        for n, its in dial.items()
    ]


def _training(
    jobs: Mapping[tuple[str, str], Sequence[Job]],
    models: Mapping[tuple[str, str], Sequence[Denoiser]],
    shares: Sequence[float],
) -> list[Row]:
    return [
        TABLE.row(
            "training",
            data=data,
            model=name,
            parameters=sum(p.numel() for p in models[data, name][0].parameters()),
            steps=its[0][0].steps,
            taught=list(shares) if name in (WISE_DISTILLED, DISTILLED) else None,
        )
        for (data, name), its in jobs.items()
    ]


def _notes(config: NarvlStudy) -> list[str]:
    return [
        f"{len(config.seeds)} seed(s), {config.examples} examples of each test split, whose images no training example "
        "shows; 95% intervals over seeds and examples. A transcription is right where it spells the digits, whichever "
        "spelling each has.",
        "Distilled models learn from the answers of the model from left to right (the likeliest words) to "
        f"{config.taught:,} questions, again and again; all others draw new examples for every batch.",
        "From left to right a row stops at the end of its answer, and its keys and values are cached. Milliseconds are "
        f"CPU time of this process, in batches of {config.batch} and one by one.",
        "The claims are corrected together (Holm).",
    ]

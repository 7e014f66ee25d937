"""Does a flow gain by reading a frozen predictor of its condition? By Foresight Diffusion, arXiv 2505.16474.

The future of a viscous flow from its past, where the past determines it, and where a hidden force does not let it. A
predictor and a flow that reads it, against a plain flow, at equal optimiser steps. Samples are judged by their error,
by how much they differ, and by whether that difference is right (CRPS, spread over skill).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from unspoken.study.base import Findings, SeededStudy, folder_of, loaded, trained
from unspoken.study.foretold import (
    DEEP,
    DETERMINED,
    JOINT,
    LOOKS,
    PLAIN,
    PREDICTOR,
    SPLIT,
    TRAINED,
    TWO,
    WIDE,
    Found,
    Samples,
    accuracy,
    calibrated,
    drawn,
    one_answer,
    two_streams,
)
from unspoken.study.report import Stage
from unspoken.study.table import Column, Mean, Row, Table
from unspoken.systems import forediff
from unspoken.tasks import Burgers
from unspoken.training.config import Train
from unspoken.training.pool import Job
from unspoken.training.stages import Made

TABLE = Table(
    "forediff",
    {
        "samples": (
            Column("part", "part"),
            Column("regime", "future"),
            Column("model", "model"),
            Mean("error", "error"),
            Mean("worst", "worst", optional=True),
            Mean("consistency", "STD", digits=4, optional=True),
            Mean("crps", "CRPS", digits=4, optional=True),
            Mean("spread_skill", "spread/skill", digits=2, optional=True),
            Mean("first_guess", "at t = 1", optional=True),
            Column("passes", "passes"),
            Column("flops", "MFLOPs", lambda flops: f"{flops / 1e6:.0f}"),
            Column("seconds", "ms", lambda seconds: f"{seconds * 1e3:.1f}"),
            Column("seeds"),
        ),
        "picture": (
            *(Column(name, drawn=True) for name in ("part", "regime", "model")),
            *(Column(name, drawn=True) for name in ("low", "middle", "high", "true")),
        ),
        "training": (
            Column("part", "part"),
            Column("regime", "future"),
            Column("model", "model"),
            Column("parameters", "weights", "{:,}".format),
            Column("steps", "steps"),
        ),
    },
    "samples: many of each condition. Error: relative L2, the mean over samples; worst: of a condition's samples; STD: "
    "the standard deviation of that error over a condition's samples; CRPS (unbiased); spread/skill: 1 where samples "
    "differ as they should; at t = 1: the error of the flow's guess before it denoises. MFLOPs and CPU ms a sample. "
    "picture: the last frame of one condition, drawn in the figure. training: the weights of a model, its predictor's "
    "too, and the steps of all its stages. With 95% intervals.",
)


@dataclass(frozen=True)
class ForediffStudy(SeededStudy):
    """The study's config.

    Attributes:
        task: The data where the past determines the future.
        forcing: Of the hidden force of the other regime.
        first: Steps of the predictor.
        second: Steps of a flow that reads it; a plain flow, and one trained at once, has both.
        batch: Of every run.
        lr: Of every run.
        predictor: Layers of the predictor.
        flow: Layers of the flow beside it. A plain flow has as many as both.
        width: Of the residual stream, of 4 heads.
        conditions: Of the test split.
        samples: Of each.
        passes: Of a walk.
        guesses: Draws of the noise that the guess at t = 1 is the mean over.
    """

    TABLE = TABLE

    task: Burgers
    forcing: float = 1.0
    first: int = 1_000
    second: int = 800
    batch: int = 32
    lr: float = 2e-3
    predictor: int = 4
    flow: int = 2
    width: int = 48
    conditions: int = 96
    samples: int = 16
    passes: int = 20
    guesses: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2:
            raise ValueError(f"samples={self.samples}: give 2 or more, of which one can see how they differ")
        if self.task.forcing or not self.forcing > 0:
            raise ValueError(
                f"task.forcing={self.task.forcing}, forcing={self.forcing}: give 0, and a force above 0 for the other"
            )

    def budget(self) -> str:
        runs = sum(map(len, TRAINED.values()))
        return (
            f"{len(self.seeds)} seed(s) of {runs} runs on {self.task.title}, a plain flow of "
            f"{self.first + self.second} steps of {self.batch}; then {self.samples} samples of each of "
            f"{self.conditions} conditions in {self.passes} passes"
        )

    def of(self, regime: str) -> Burgers:
        """The data of a regime."""
        return self.task if regime == DETERMINED else replace(self.task, forcing=self.forcing)

    def job(self, regime: str, name: str, seed: int, runs: Path) -> Job:
        """A training run and its folder."""

        def folder(name: str) -> Path:
            return runs / folder_of(regime) / f"{folder_of(name)}-seed{seed}"

        task, m, n, whole = self.of(regime), self.predictor, self.flow, self.first + self.second
        stage = Made(str(folder(PREDICTOR)))
        made = {
            PREDICTOR: lambda: forediff.predictor(task, m, steps=self.first),
            PLAIN: lambda: forediff.vanilla(task, m + n, steps=whole),
            WIDE: lambda: forediff.vanilla(task, 2 * m + n, steps=whole),
            SPLIT: lambda: forediff.joint(task, n, m, 0.0, steps=whole),
            JOINT: lambda: forediff.joint(task, n, m, 1.0, steps=whole),
            TWO: lambda: forediff.foreseeing(task, stage, n, steps=self.second),
            DEEP: lambda: forediff.foreseeing(task, stage, m + n, steps=self.second),
        }
        train: Train = made[name]()
        trunk = replace(train.trunk, width=self.width)
        return replace(train, trunk=trunk, batch=self.batch, lr=self.lr, seed=seed), folder(name)

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        cells = [(regime, name) for regime, names in TRAINED.items() for name in names]
        jobs = {cell: [self.job(*cell, seed, runs) for seed in self.seeds] for cell in cells}
        for stage, at in enumerate((True, False)):  # flows read predictors
            its = [job for (_, name), group in jobs.items() if (name == PREDICTOR) is at for job in group]
            yield from trained(its, self.workers, f"training, stage {stage + 1}")
        found: dict[tuple[str, str], Samples] = {}
        for done, cell in enumerate(cells):
            yield Stage(f"sampling: {', '.join(cell)}", done, len(cells))
            models = loaded(jobs[cell])
            test = self.of(cell[0]).sample("test", self.conditions)
            one = cell[1] == PREDICTOR
            how = self.samples, self.passes, self.guesses
            found[cell] = Samples.of([one_answer(m, test) if one else drawn(m, test, *how) for m in models])
        rows, n = [*_samples(self, found), *_training(self, found), *_pictures(found)], len(self.seeds)
        return rows, [two_streams(found, n), calibrated(found, n), *accuracy(found, n)], _notes(self)


def _samples(config: ForediffStudy, found: Found) -> list[Row]:
    return [
        TABLE.row(
            "samples",
            regime=regime,
            model=name,
            error=its.error,
            **its.its,
            passes=its.passes,
            flops=its.flops,
            seconds=its.seconds,
            seeds=list(config.seeds),
        )
        for (regime, name), its in found.items()
    ]


def _training(config: ForediffStudy, found: Found) -> list[Row]:
    steps = {PREDICTOR: config.first}
    return [
        TABLE.row(
            "training",
            regime=regime,
            model=name,
            parameters=its.parameters,
            steps=steps.get(name, config.first + config.second),
        )
        for (regime, name), its in found.items()
    ]


def _pictures(found: Found) -> list[Row]:
    return [
        TABLE.row("picture", regime=regime, model=name, **its.shown)
        for (regime, name), its in found.items()
        if name in (PLAIN, TWO)
    ]


def _notes(config: ForediffStudy) -> list[str]:
    return [
        f"{len(config.seeds)} seed(s), {config.conditions} conditions of the test split, {config.samples} samples each "
        f"in {config.passes} passes; 95% intervals over seeds and conditions.",
        f"Equal optimiser steps: a predictor has {config.first}, a flow that reads it {config.second}, all others "
        f"both. {TWO} and {SPLIT} have {config.predictor} + {config.flow} layers, {PLAIN} their sum; {DEEP} has a flow "
        f"of as many layers as {PLAIN} beside the predictor, and {WIDE} as many layers in one flow.",
        f"{SPLIT} trains both streams by the flow's loss alone (ForeDiff-zero), {JOINT} with the predictor's beside "
        "it.",
        f"Hidden force: root mean square {config.forcing:g}, in the future alone. A sample's error there is against "
        "one draw of the future, and no model can bring it to 0.",
        f"The claims about errors are corrected together (Holm, {len(LOOKS)} looks); the two others stand alone.",
    ]

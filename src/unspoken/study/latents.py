"""The paper's trade-off: what do latent tokens buy, and what do they cost?

MDM (all latents, always), SCDM (any number) and SIDM (none) are trained with one budget and differ in nothing but
who may look at whom. Then the number of latents is swept at decoding time. arXiv 2602.03769.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unspoken.decoders.policies import order_named
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import MDM, SCDM, SIDM, Attention
from unspoken.measure.accuracy import Outcome, solve_ways
from unspoken.model.denoiser import Denoiser
from unspoken.study.base import Findings, Study, check_rising
from unspoken.study.report import Stage
from unspoken.study.table import Column, Mean, Row, Table, cost_columns, costs
from unspoken.study.trade_off import Level, Levels, nll_a_token, verdicts
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.loading import load
from unspoken.training.loop import training
from unspoken.training.pool import Job
from unspoken.training.run import Run

TABLE = Table(
    "latents",
    {
        "": (
            Column("model", "model", str.upper),
            Column("latents", "latents"),
            Mean("accuracy", "solved", share=True),
            Mean("nll", "NLL"),
            *cost_columns("puzzle", milliseconds=1),
            Column("seeds"),
            Column("saturated", "solved", lambda yes: " saturated" if yes else ""),
        )
    },
    "With 95% intervals. NLL: nats a token. Entries: a pass. Passes, MFLOPs and milliseconds: a puzzle.",
)


@dataclass(frozen=True)
class LatentsStudy(Study):
    """The study's config.

    Attributes:
        train: The budget that the three models share; its attention and seed are varied.
        seeds: Training seeds.
        counts: Latents at decoding, rising from 0; the last must cover the sequence and means all.
        unseen_counts: Counts at which MDM, trained with all latents in view, is decoded too: must the dial be trained?
        puzzles: Of the test split.
        order: Of decoding.
        candidates: Of decoding.
        batch: Puzzles decoded together.
        draws: Random steps a puzzle in the NLL estimate.
    """

    TABLE = TABLE
    MAY_BE_EMPTY = ("unseen_counts",)

    train: Train
    seeds: tuple[int, ...] = (0, 1, 2)
    counts: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 36)
    unseen_counts: tuple[int, ...] = (0, 8)
    puzzles: int = 1000
    order: str = "confidence"
    candidates: int = 8
    batch: int = 250
    draws: int = 16

    def __post_init__(self) -> None:
        check_rising("counts", self.counts, self.train.task.length)
        super().__post_init__()
        if any(not 0 <= n < self.every for n in self.unseen_counts):
            raise ValueError(f"unseen_counts={self.unseen_counts}: give counts from 0 to below all")
        order_named(self.order)

    @property
    def every(self) -> int:
        """The count that means all latents."""
        return self.counts[-1]

    def budget(self) -> str:
        train, models = self.train, " ".join(attention.name.upper() for attention, _ in self.grid())
        return (
            f"{models}: {len(self.seeds)} seed(s) of {train.steps} steps of {train.batch} on {train.task.title}, "
            f"then {self.puzzles} held-out puzzles at {len(self.counts)} counts of latents"
        )

    def grid(self) -> list[tuple[Attention, tuple[int, ...]]]:
        """Which model is measured at which counts."""
        return [(MDM, (*self.unseen_counts, self.every)), (SIDM, (0,)), (SCDM, self.counts)]

    def job(self, attention: Attention, seed: int, runs: Path) -> Job:
        """The training run of a model, and its folder."""
        return replace(self.train, attention=attention, seed=seed), runs / f"{attention.name}-seed{seed}"

    def decoding(self, n: int) -> Slots:
        """How a model is decoded beside n latents."""
        most = None if n == self.every else n
        return Slots(latents=most, candidates=self.candidates, order=self.order)

    def shown(self, n: int) -> int | str:
        """A count as the table has it."""
        return "all" if n == self.every else n

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        # In order of size, so that the rows of a batch are alike and hardly padded.
        test = self.train.task.sample("test", self.puzzles).by_size()
        clock = _Clock(self, runs, test)
        models = yield from _trained(self, runs, clock)
        nll = yield from _likelihoods(self, models, test, clock)
        outcomes = yield from _decoded(self, models, test, clock)
        levels = {key: Level(**vars(outcomes[key]), nll=nll[key]) for key in nll}
        return _rows(levels, self), verdicts(levels, self.counts), _notes(levels, self)


Key = tuple[str, int]  # a model's name, and a count
Models = dict[str, list[Denoiser]]  # by name, a model a seed


def _trained(config: LatentsStudy, runs: Path, clock: _Clock) -> Generator[Stage, None, Models]:
    """One after the other, in this process: all its threads work on each."""
    for seed in config.seeds:
        for attention, _ in config.grid():
            name = text = f"training {attention.name.upper()}, seed {seed}"
            for update in training(*config.job(attention, seed, runs)):
                text = text if update.loss is None else f"{name}: loss {update.loss:.3f}"
                yield clock.tick(text, clock.step)
    return {a.name: [load(config.job(a, seed, runs)[1]) for seed in config.seeds] for a, _ in config.grid()}


def _likelihoods(
    config: LatentsStudy, models: Models, test: Examples, clock: _Clock
) -> Generator[Stage, None, dict[Key, Tensor]]:
    """`[seeds, puzzles]` nats a token of every model at every count."""
    found: dict[Key, list[Tensor]] = {}
    for attention, counts in config.grid():
        for model in models[attention.name]:
            text = f"likelihood of {attention.name.upper()}"
            yield clock.tick(text, clock.draw * _nll_passes(attention, counts, config))
            for n, column in zip(counts, nll_a_token(model, test, counts, config.draws).unbind(1), strict=True):
                found.setdefault((attention.name, n), []).append(column)
    return {key: torch.stack(columns) for key, columns in found.items()}


def _decoded(
    config: LatentsStudy, models: Models, test: Examples, clock: _Clock
) -> Generator[Stage, None, dict[Key, Outcome]]:
    ways = {(a.name, n): (models[a.name], config.decoding(n)) for a, counts in config.grid() for n in counts}

    def stage(way: Key, entries: int) -> Stage:
        return clock.tick(f"decoding with {way[0].upper()}, {config.shown(way[1])} latents", entries)

    return (yield from solve_ways(ways, config.train.task, test, config.batch, stage))


def _nll_passes(attention: Attention, counts: tuple[int, ...], config: LatentsStudy) -> int:
    return config.draws * (len(counts) if attention.latents == "joint" else 1)


class _Clock:
    """Estimated work in entries of a forward pass (a training step counts three times): for the time left."""

    def __init__(self, config: LatentsStudy, runs: Path, test: Examples):
        length, free = config.train.task.length, int((~test.given).sum(1).max())
        self.step = 3.0 * config.train.batch * length
        self.draw = float(len(test) * length)
        self.done = self.total = 0.0
        for seed in config.seeds:
            for attention, counts in config.grid():
                trained = [step for step, _ in Run(config.job(attention, seed, runs)[1]).checkpoints()]
                self.total += self.step * (config.train.steps - max(trained, default=0))
                self.total += self.draw * _nll_passes(attention, counts, config)
                for n in counts:
                    widths = (length - left + min(left, n + config.candidates) for left in range(1, free + 1))
                    self.total += float(len(test) * sum(widths))

    def tick(self, text: str, work: float) -> Stage:
        """Some more work is done."""
        self.done += work
        return Stage(text, min(self.done, self.total), self.total)


def _rows(levels: Levels, config: LatentsStudy) -> list[Row]:
    return [
        TABLE.row(
            model=name,
            latents=config.shown(n),
            accuracy=level.right,
            nll=level.nll,
            **costs(level, "puzzle"),
            seeds=list(config.seeds),
            saturated=level.saturated,
        )
        for (name, n), level in levels.items()
    ]


def _notes(levels: Levels, config: LatentsStudy) -> list[str]:
    """What a reader of the numbers has to know."""
    over = "seeds and puzzles" if len(config.seeds) > 1 else "puzzles (one seed: what another would change is unknown)"
    return [
        f"{len(config.seeds)} seed(s), {config.train.steps} steps, {config.puzzles} held-out puzzles; "
        f"95% t intervals over {over}.",
        f"Decoding: {config.order}, {config.candidates} candidates, greedy, one token a pass, {config.batch} together; "
        "candidates see the latents and, under SCDM, not each other. NLL: uniformly random order. Milliseconds are CPU "
        "time, the counts in turns.",
        "MDM at fewer than all latents was never trained so: it shows whether the dial has to be.",
        *(
            f"SATURATED: {name} at {config.shown(n)} latents; its accuracy can show no difference."
            for (name, n), level in levels.items()
            if level.saturated
        ),
    ]

"""Does a flow gain by reading a frozen predictor of its condition? By Foresight Diffusion, arXiv 2505.16474.

The future of a viscous flow from its past, where the past determines it, and where a hidden force does not let it. A
predictor and a flow that reads it, against a plain flow, at equal optimiser steps. Samples are judged by their error,
by how much they differ, and by whether that difference is right (CRPS, spread over skill).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unspoken.decoders.decode import decode
from unspoken.decoders.denoise import denoise_values
from unspoken.decoders.step import last
from unspoken.measure.accuracy import clock
from unspoken.measure.costs import pass_flops
from unspoken.measure.ensemble import ensemble
from unspoken.measure.intervals import Estimate, holm, p_value
from unspoken.model.denoiser import Denoiser
from unspoken.study.base import Findings, SeededStudy, folder_of, loaded, trained
from unspoken.study.report import Check, Claim, Stage, claim
from unspoken.study.table import Column, Mean, Row, Table
from unspoken.systems import forediff
from unspoken.tasks import Burgers
from unspoken.tasks.base import Examples
from unspoken.tasks.valued import relative_l2
from unspoken.training.config import Train
from unspoken.training.pool import Job
from unspoken.training.stages import Made

PREDICTOR, PLAIN, SPLIT, JOINT, TWO, DEEP, WIDE = (
    "predictor",
    "plain",
    "one stage",
    "joint",
    "two streams",
    "two streams, as deep",
    "plain, as many weights",
)
DETERMINED, FORCED = "determined", "hidden force"
TRAINED = {DETERMINED: (PREDICTOR, PLAIN, SPLIT, JOINT, TWO, DEEP, WIDE), FORCED: (PREDICTOR, PLAIN, TWO, DEEP)}
STEADIER, CALIBRATED, WORSE = 0.7, (0.7, 1.3), 1.05  # what the claims ask
LOOKS = (  # claim, a model that is to err less, and the other
    ("two streams err less", TWO, PLAIN),
    ("two streams, as deep, err less", DEEP, PLAIN),
    ("two streams, as deep, err less", DEEP, WIDE),
    ("training in stages errs less than all at once", TWO, SPLIT),
    ("training in stages errs less than all at once", TWO, JOINT),
)
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
    "training: the weights of a model, its predictor's too, and the steps of all its stages. With 95% intervals.",
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
            found[cell] = Samples.of([one_answer(m, test) if one else drawn(self, m, test) for m in models])
        rows = [*_samples(self, found), *_training(self, found)]
        return rows, [_two_streams(self, found), _calibrated(self, found), *_accuracy(self, found)], _notes(self)


@dataclass(frozen=True)
class Samples:
    """What the samples of a model are like, by seed and condition; costs are a sample's, the mean over seeds.

    error: `[seeds, conditions]` relative L2. its: the other measures of a flow, `[seeds, conditions]` (spread over
        skill `[seeds, 1]`); a predictor gives one answer, and has none.
    """

    error: Tensor
    its: Mapping[str, Tensor]
    passes: int
    flops: float
    seconds: float
    parameters: int

    @classmethod
    def of(cls, seeds: Sequence[Samples]) -> Samples:
        """Those of several seeds together."""
        error = torch.cat([each.error for each in seeds])
        its = {name: torch.cat([each.its[name] for each in seeds]) for name in seeds[0].its}
        return replace(seeds[0], error=error, its=its, seconds=sum(each.seconds for each in seeds) / len(seeds))


def drawn(config: ForediffStudy, model: Denoiser, test: Examples) -> Samples:
    """Samples of every condition by one flow."""
    k, prompt = config.samples, test.prompt(0)
    rows, z, began = prompt.repeat_interleave(k, 0), prompt, clock(model.device)
    for move in denoise_values(model, forediff.FLOW, rows, steps=config.passes):
        z = move.z
    seconds = clock(model.device) - began
    asked = ~test.given[0]
    truth = test.answer[:, asked]
    of = ensemble(z.unflatten(0, (len(prompt), k))[:, :, asked], truth)
    guess = forediff.first_guess(model, prompt, config.guesses)[:, asked]
    its = {
        "worst": of.worst,
        "consistency": of.consistency,
        "crps": of.crps,
        "spread_skill": torch.tensor([of.spread_skill], dtype=torch.float64),
        "first_guess": relative_l2(guess.flatten(1).double(), truth.flatten(1).double()),
    }
    its = {name: value[None] for name, value in its.items()}
    return _costed(model, Samples(of.relative_l2[None], its, config.passes, 0.0, seconds / len(rows), 0), prompt)


def one_answer(model: Denoiser, test: Examples) -> Samples:
    """The answer of a predictor to every condition."""
    prompt, began = test.prompt(0), clock(model.device)
    said = last(decode(model, prompt, temperature=0.0), prompt)
    seconds = clock(model.device) - began
    asked = ~test.given[0]
    error = relative_l2(said[:, asked].flatten(1).double(), test.answer[:, asked].flatten(1).double())
    return _costed(model, Samples(error[None], {}, 1, 0.0, seconds / len(prompt), 0), prompt)


def _costed(model: Denoiser, its: Samples, prompt: Tensor) -> Samples:
    """With the weights of the model, and the FLOPs of its passes; a predictor's own pass is one."""
    entries = prompt.shape[1]
    flops = its.passes * pass_flops(model, entries, 0)
    if model.foresight is not None:
        flops += pass_flops(model.foresight, entries, 0)
    return replace(its, flops=float(flops), parameters=sum(p.numel() for p in model.parameters()))


Found = Mapping[tuple[str, str], Samples]  # by regime and model


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


def _two_streams(config: ForediffStudy, found: Found) -> Claim:
    """A predictor understands the condition better than the flow does at t = 1, and samples differ less."""
    foretold, plain, two = (found[DETERMINED, name] for name in (PREDICTOR, PLAIN, TWO))
    guess = plain.its["first_guess"]
    better = Estimate.of(foretold.error - guess)
    steadier = Estimate.of(two.its["consistency"] - STEADIER * plain.its["consistency"])
    ratio = float(two.its["consistency"].mean() / plain.its["consistency"].mean())
    checks = [
        Check(
            better.high < 0,
            f"the predictor errs by {foretold.error.mean():.4f}, the plain flow at t = 1 by {guess.mean():.4f}, "
            f"{better.signed}",
        ),
        Check(steadier.high < 0, f"STD {ratio:.2f} of the plain flow's, {STEADIER:g} asked, {steadier.signed}"),
    ]
    return claim("two streams", checks, len(config.seeds), 3)


def _calibrated(config: ForediffStudy, found: Found) -> Claim:
    """Where the future is uncertain, the samples of two streams still spread as they should."""
    plain, two = found[FORCED, PLAIN], found[FORCED, TWO]
    worse = Estimate.of(two.its["crps"] - WORSE * plain.its["crps"])
    spread = two.its["spread_skill"]
    low, high = CALIBRATED
    checks = [
        Check(
            bool(((spread >= low) & (spread <= high)).all()),
            f"spread over skill {', '.join(f'{x:.2f}' for x in spread.flatten().tolist())}, {low:g} to {high:g} asked",
        ),
        Check(
            worse.high < 0,
            f"CRPS {two.its['crps'].mean():.4f}, the plain flow's {plain.its['crps'].mean():.4f}, at most {WORSE:g} "
            f"times that asked, {worse.signed}",
        ),
    ]
    return claim("two streams keep the spread", checks, len(config.seeds), 3)


def _accuracy(config: ForediffStudy, found: Found) -> list[Claim]:
    """Who errs less where the future is determined; all looks corrected together (Holm)."""
    less = [found[DETERMINED, other].error - found[DETERMINED, mine].error for _, mine, other in LOOKS]
    stands = holm([p_value(values) for values in less])
    checks: dict[str, list[Check]] = {}
    for (name, mine, other), values, sure in zip(LOOKS, less, stands, strict=True):
        errors = [float(found[DETERMINED, n].error.mean()) for n in (mine, other)]
        text = f"{mine} {errors[0]:.4f}, {other} {errors[1]:.4f}, less by {Estimate.of(values).signed}"
        checks.setdefault(name, []).append(Check(sure and float(values.mean()) > 0, text))
    return [claim(name, its, len(config.seeds), 3) for name, its in checks.items()]


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

"""One model for every schedule? A time for every token in training, many paths in sampling (arXiv 2407.01392).

The same network under uniform noise, trained on one time a row, on a time for every token, and on a mixture of both.
Its bound, and the illegal steps of what it draws, along the diagonal, a pyramid and from left to right.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unspoken.measure.intervals import Estimate
from unspoken.measure.walks import Drawn, bound_on, chain_of, drawn
from unspoken.noise import Uniform
from unspoken.noise.times import Autoregressive, Diagonal, Independent, Mixture, Paths, Pyramid, Shared, Times
from unspoken.study.base import Findings, SeededStudy, loaded, trained
from unspoken.study.report import Check, Claim, Stage, claim
from unspoken.study.table import Column, Mean, Row, Table
from unspoken.tasks import Chain
from unspoken.training.config import Train
from unspoken.training.objective import Denoising
from unspoken.training.pool import Job

LOSES, WINS = 0.03, 2.0
SHARED, INDEPENDENT, MIXED = "shared", "independent", "mixed"
DIAGONAL, PYRAMID, LEFT = "diagonal", "pyramid", "left to right"
TRAINED: dict[str, Times] = {SHARED: Shared(), INDEPENDENT: Independent(), MIXED: Mixture(Shared(), Independent())}
WALKED: dict[str, Paths] = {DIAGONAL: Diagonal(), PYRAMID: Pyramid(0.15), LEFT: Autoregressive()}
TABLE = Table(
    "forcing",
    {
        "": (
            Column("times", "times"),
            Column("path", "path"),
            Column("passes", "passes"),
            Mean("bound", "bound", by_seed=False),
            Mean("illegal", "illegal"),
            Column("entropy", "entropy", "{:.3f}".format),
        )
    },
    "Times of training; the path of bound and walk. Bound: nats a token. Illegal: share of drawn steps that the "
    "chain never takes. Entropy: of single tokens, nats. With 95% intervals.",
)


@dataclass(frozen=True)
class ForcingStudy(SeededStudy):
    """The study's config.

    Attributes:
        train: The budget; times and seed are varied.
        passes: Of a walk.
        sequences: Drawn a seed.
        draws: Of the bound, a sequence.
    """

    TABLE = TABLE

    train: Train
    passes: tuple[int, ...] = (24, 96)
    sequences: int = 500
    draws: int = 16

    def budget(self) -> str:
        return (
            f"times {', '.join(TRAINED)}: {len(self.seeds)} seed(s) of {self.train.steps} steps on "
            f"{self.train.task.title}; then bounds and {self.sequences} sequences along {', '.join(WALKED)}"
        )

    def job(self, times: str, seed: int, runs: Path) -> Job:
        """A training run and its folder."""
        objective = Denoising(times=TRAINED[times])
        return replace(self.train, process=Uniform(), objective=objective, seed=seed), runs / f"{times}-seed{seed}"

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        chain = chain_of(self.train.task)
        jobs = {times: [self.job(times, seed, runs) for seed in self.seeds] for times in TRAINED}
        yield from trained([job for its in jobs.values() for job in its], self.workers)
        rows: list[Row] = []
        bounds: dict[tuple[str, str], Tensor] = {}
        test = chain.sample("test", self.sequences)
        prompt = torch.full((self.sequences, chain.length), chain.mask_id)
        for done, times in enumerate(TRAINED):
            models = loaded(jobs[times])
            for name, path in WALKED.items():
                yield Stage(f"{times} times, {name}", done, len(TRAINED))
                bound = bounds[times, name] = bound_on(models, Uniform(), test, path, self.draws)
                for passes in self.passes:
                    found = [drawn(m, Uniform(), prompt, passes, path, seed=n) for n, m in enumerate(models)]
                    its, cell = Drawn.of(chain, found), {"times": times, "path": name, "passes": passes}
                    entropy = float(its.entropy.mean())
                    rows.append(TABLE.row(**cell, bound=bound, illegal=its.illegal, entropy=entropy))
        return rows, [verdict(rows, bounds)], _notes(self, chain)


def verdict(rows: list[Row], bounds: dict[tuple[str, str], Tensor]) -> Claim:
    """Independent times lose at most 0.03 nats on the diagonal, and win from the left: in bound and illegal steps.

    Of the latter they draw at most half as many.
    """
    lost = Estimate.of(bounds[INDEPENDENT, DIAGONAL] - bounds[SHARED, DIAGONAL])
    won = Estimate.of(bounds[INDEPENDENT, LEFT] - bounds[SHARED, LEFT])
    checks = [
        Check(lost.mean <= LOSES, f"diagonal: {lost.mean:+.3f} nats a token {lost.signed}"),
        Check(won.high < 0, f"left to right: {won.mean:+.3f} nats a token {won.signed}"),
    ]
    left = {(r["times"], r["passes"]): r["illegal"] for r in rows if r["path"] == LEFT}
    for (times, passes), illegal in left.items():
        if times == INDEPENDENT:
            text = f"illegal from the left in {passes} passes {illegal:.3f}, of shared times {left[SHARED, passes]:.3f}"
            checks.append(Check(illegal * WINS <= left[SHARED, passes], text))
    return claim("one model every schedule", checks, len(bounds[SHARED, DIAGONAL]))


def _notes(config: ForcingStudy, task: Chain) -> list[str]:
    return [
        f"{len(config.seeds)} seed(s) of {config.train.steps} steps, uniform noise; {config.sequences} sequences a "
        "seed. 95% intervals over seeds and sequences.",
        f"Bounds in nats a token along the path itself; the chain's own entropy is {task.entropy / task.length:.3f}.",
        "Mixed: half of the rows have one time, half a time for every token.",
    ]

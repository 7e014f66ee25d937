"""Can a model that was trained on wrong tokens mend what it says? GIDD's hybrid noise (arXiv 2503.04482).

The same network is trained with masks alone and with a share of uniform noise. On a Markov chain each illegal step is
seen; on Sudoku each wrong cell. Then second thoughts (`decoders.correct`) are given to both.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unspoken.measure.intervals import Estimate
from unspoken.measure.walks import Drawn, bound_on, chain_of, drawn, mended
from unspoken.model.denoiser import Denoiser
from unspoken.noise import Hybrid
from unspoken.noise.times import Diagonal
from unspoken.study.base import Findings, SeededStudy, loaded, trained
from unspoken.study.report import Check, Claim, Stage, claim
from unspoken.study.table import Column, Mean, Row, Table, pair
from unspoken.tasks import Chain
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.pool import Job

FEWER, NO_FEWER, JUDGED = 5.0, 0.8, 16
_HEAD = (Column("part", "part"), Column("share", "p_u", "{:g}".format), Column("passes", "passes"))
_ROUNDS = Column("more_passes", "rounds", "{:.1f}".format)
_BEFORE, _AFTER = Mean("before", "before", by_seed=False), Mean("after", "after", by_seed=False)
TABLE = Table(
    "gidd",
    {
        "chain": (
            *_HEAD,
            _BEFORE,
            Mean("after", "after"),
            _ROUNDS,
            Column("entropy", "entropy", pair),
            Column("nll", "NLL", pair),
            Mean("bound", "bound", by_seed=False),
        ),
        "sudoku": (*_HEAD, _BEFORE, _AFTER, _ROUNDS, Column("solved", "solved", pair)),
    },
    "Before and after second thoughts (so many rounds a row): share of illegal steps (chain), of wrong cells "
    "(Sudoku); entropy of single tokens and NLL of legal steps, nats; puzzles solved. Bound: nats a token. With "
    "95% intervals.",
)


@dataclass(frozen=True)
class GiddStudy(SeededStudy):
    """The study's config.

    Attributes:
        train: A chain's budget; process and seed are varied.
        puzzles: A Sudoku's; trained with the first seed alone.
        shares: Uniform noise at the middle (p_u); the first is none.
        passes: Of a walk, on the chain.
        puzzle_passes: Of a walk, on Sudoku.
        sequences: Drawn a seed; puzzles decoded.
        draws: Of the bound, a sequence.
        rounds: Of second thoughts.
        temperature: Of second thoughts.
    """

    TABLE = TABLE

    train: Train
    puzzles: Train
    shares: tuple[float, ...] = (0.0, 0.2)
    passes: tuple[int, ...] = (4, 8, 16, 64)
    puzzle_passes: tuple[int, ...] = (2, 4, 8, 26)
    sequences: int = 500
    draws: int = 8
    rounds: int = 48
    temperature: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shares[0] != 0 or len(self.shares) < 2:
            raise ValueError(f"shares={self.shares}: begin with 0 (masks alone), and give one or more above it")
        if max(self.passes) < JUDGED:
            raise ValueError(f"passes={self.passes}: give one of {JUDGED} or more, where the claim is judged")

    def budget(self) -> str:
        shares = ", ".join(f"{share:g}" for share in self.shares)
        return (
            f"hybrid noise of {shares}: {len(self.seeds)} seed(s) of {self.train.steps} steps on "
            f"{self.train.task.title}, one of {self.puzzles.steps} on {self.puzzles.task.title}; then "
            f"{self.sequences} sequences and puzzles at each number of passes, before and after second thoughts"
        )

    def job(self, on: Train, name: str, share: float, seed: int, runs: Path) -> Job:
        """A training run and its folder."""
        return replace(on, process=Hybrid(share), seed=seed), runs / f"{name}-{share:g}-seed{seed}"

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        chain = chain_of(self.train.task)
        chains = {s: [self.job(self.train, "chain", s, seed, runs) for seed in self.seeds] for s in self.shares}
        boards = {s: self.job(self.puzzles, "sudoku", s, self.seeds[0], runs) for s in self.shares}
        yield from trained([*boards.values(), *(job for of_share in chains.values() for job in of_share)], self.workers)
        rows: list[Row] = []
        bounds: dict[float, Tensor] = {}
        test, puzzles = chain.sample("test", self.sequences), self.puzzles.task.sample("test", self.sequences)
        for done, share in enumerate(self.shares):
            yield Stage(f"walks and second thoughts, p_u {share:g}", done, len(self.shares))
            models, (board,) = loaded(chains[share]), loaded([boards[share]])
            bounds[share] = bound_on(models, Hybrid(share), test, Diagonal(), self.draws)
            rows += [_chain_row(self, chain, models, share, passes, bounds[share]) for passes in self.passes]
            rows += [_board_row(self, board, share, passes, puzzles) for passes in self.puzzle_passes]
        return rows, [verdict(rows, bounds)], _notes(self, chain, rows)


def _chain_row(config: GiddStudy, task: Chain, models: list[Denoiser], share: float, passes: int, bound: Tensor) -> Row:
    prompt = torch.full((config.sequences, task.length), task.mask_id)
    given = prompt != task.mask_id
    before = [drawn(model, Hybrid(share), prompt, passes, seed=n) for n, model in enumerate(models)]
    second = (config.rounds, config.temperature)
    thought = [mended(model, z, given, *second, n) for n, (model, z) in enumerate(zip(models, before, strict=True))]
    was, now = Drawn.of(task, before), Drawn.of(task, [z for z, _ in thought])
    return TABLE.row(
        "chain",
        share=share,
        passes=passes,
        before=was.illegal,
        after=now.illegal,
        more_passes=sum(n for _, n in thought) / len(thought),
        entropy=[float(was.entropy.mean()), float(now.entropy.mean())],
        nll=[float(was.nll.mean()), float(now.nll.mean())],
        bound=bound,
    )


def _board_row(config: GiddStudy, model: Denoiser, share: float, passes: int, puzzles: Examples) -> Row:
    task = config.puzzles.task
    prompt = puzzles.prompt(task.mask_id)
    before = drawn(model, Hybrid(share), prompt, passes, seed=0)
    after, more = mended(model, before, puzzles.given, config.rounds, config.temperature, 0)
    wrong = [((z != puzzles.x0) & ~puzzles.given).double().mean(1)[None] for z in (before, after)]
    solved = [task.score(prompt, z).double().mean().item() for z in (before, after)]
    return TABLE.row(
        "sudoku", share=share, passes=passes, before=wrong[0], after=wrong[1], more_passes=more, solved=solved
    )


def verdict(rows: list[Row], bounds: dict[float, Tensor]) -> Claim:
    """With uniform noise second thoughts make illegal steps 5 times rarer, without they do not; masks bound lower.

    Judged on the chain at 16 passes or more, where a walk is not hopeless to begin with; with noise the interval after
    must be as far below the interval before.
    """
    judged = [row for row in rows if row["part"] == "chain" and row["passes"] >= JUDGED]
    checks = [_fewer(row) for row in judged]
    if {row["share"] == 0 for row in judged} != {True, False}:
        checks.append(Check(False, "with and without uniform noise were not both measured"))
    plain = bounds[0.0]
    for share, bound in bounds.items():
        if share:
            gap = Estimate.of(plain - bound)
            text = f"bound {plain.mean():.3f} without, {bound.mean():.3f} with p_u {share:g} ({gap.signed})"
            checks.append(Check(gap.high < 0, text))
    return claim("self-correction", checks, len(plain))


def _fewer(row: Row) -> Check:
    before, after = (Estimate(row[key], *row[f"{key}_interval"]) for key in ("before", "after"))
    text = (
        f"p_u {row['share']:g}, {row['passes']} passes: illegal {before} to {after.mean:.4f} "
        f"[{after.low:.3f}, {after.high:.3f}]"
    )
    rarer = before.low > 0 and after.high * FEWER <= before.low
    return Check(after.mean >= NO_FEWER * before.mean > 0 if row["share"] == 0 else rarer, text)


def _notes(config: GiddStudy, task: Chain, rows: list[Row]) -> list[str]:
    mending = {share: [r for r in rows if r["part"] == "sudoku" and r["share"] == share] for share in config.shares}
    boards = "; ".join(
        f"p_u {share:g}: " + ", ".join(f"{r['passes']} passes {r['before']:.3f} to {r['after']:.3f}" for r in its)
        for share, its in mending.items()
    )
    return [
        f"{len(config.seeds)} seed(s) of {config.train.steps} steps; {config.sequences} sequences a "
        f"seed; the chain's own entropy is {task.entropy / task.length:.3f} nats a token. 95% intervals.",
        f"Second thoughts: at most {config.rounds} rounds of one token a row, temperature {config.temperature:g}, "
        "shown at time 0.01. They seek the mode: look at the entropy of single tokens and the NLL of legal steps.",
        f"Wrong cells of Sudoku, before and after: {boards}. One seed of {config.puzzles.steps} steps.",
    ]

"""The paper's trade-off: what do latent tokens buy, and what do they cost?

MDM (all latents, always), SCDM (any number) and SIDM (none) are trained with one budget and differ in nothing but
who may look at whom. Then the number of latents is swept at decoding time. arXiv 2602.03769.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspoken.attention import MDM, SCDM, SIDM, Attention
from unspoken.config import Train
from unspoken.denoiser import Denoiser
from unspoken.metrics import Solved, interval, solve
from unspoken.objective import nll_by_latents
from unspoken.policies import order_named
from unspoken.record import Run
from unspoken.study.report import Check, Claim, Result, Stage, claim
from unspoken.tasks.base import Examples
from unspoken.train import load, seeded, training


@dataclass(frozen=True)
class Latents:
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

    train: Train
    seeds: tuple[int, ...] = (0, 1, 2)
    counts: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 36)
    unseen_counts: tuple[int, ...] = (0, 8)
    puzzles: int = 1000
    order: str = "confidence"
    candidates: int = 8
    batch: int = 250
    draws: int = 32

    def __post_init__(self) -> None:
        if not self.seeds or not self.counts or list(self.counts) != sorted(set(self.counts)):
            raise ValueError(f"seeds={self.seeds}, counts={self.counts}: give seeds, and counts that rise")
        if self.counts[0] != 0 or self.counts[-1] < self.train.task.length:
            raise ValueError(
                f"counts={self.counts} should run from 0 to all; end with {self.train.task.length} or more"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds}: give each once")
        if any(not 0 <= n < self.counts[-1] for n in self.unseen_counts) or len(set(self.unseen_counts)) < len(
            self.unseen_counts
        ):
            raise ValueError(f"unseen_counts={self.unseen_counts}: give different counts from 0 to below all")
        for name in ("puzzles", "candidates", "batch", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        order_named(self.order)

    @property
    def every(self) -> int:
        """The count that means all latents."""
        return self.counts[-1]

    def budget(self) -> str:
        """One line on what will be done."""
        train, models = self.train, " ".join(attention.name.upper() for attention, _ in self.grid())
        return (
            f"{models}: {len(self.seeds)} seed(s) of {train.steps} steps of {train.batch} on {train.task.title}, "
            f"then {self.puzzles} held-out puzzles at {len(self.counts)} counts of latents"
        )

    def grid(self) -> list[tuple[Attention, tuple[int, ...]]]:
        """Which model is measured at which counts."""
        return [(MDM, (*self.unseen_counts, self.every)), (SIDM, (0,)), (SCDM, self.counts)]


@dataclass(frozen=True)
class Measured:
    """One model at one count: `right` and `nll` (nats a token) are `[seeds, puzzles]`, the costs are means."""

    right: Tensor
    nll: Tensor
    passes: float
    entries: float
    flops: float
    seconds: float


Table = dict[tuple[str, int], Measured]


def run(config: Latents, runs: Path) -> Iterator[Stage | Result]:
    """Trains what `runs` does not hold yet, measures, and ends in a `Result`.

    Yields `Stage`s. Runs are in `runs/MODEL-seedN`; finished ones are reused, half-done ones are gone on with.
    Raises ValueError where a folder there holds a run of another budget.
    """
    test = config.train.task.sample("test", config.puzzles)
    clock = _Clock(config, runs, test)
    for seed in config.seeds:
        for attention, _ in config.grid():
            name, run = attention.name, _folder(runs, attention, seed)
            text = f"training {name.upper()}, seed {seed}"
            for update in training(replace(config.train, attention=attention, seed=seed), run):
                loss = "" if update.loss is None else f": loss {update.loss:.3f}"
                text = text if not loss else f"training {name.upper()}, seed {seed}{loss}"
                yield clock.tick(text, clock.step)
    models = {a: [load(_folder(runs, a, seed)) for seed in config.seeds] for a, _ in config.grid()}
    nll: dict[tuple[str, int], list[Tensor]] = {}
    for attention, counts in config.grid():
        for model in models[attention]:
            text = f"likelihood of {attention.name.upper()}"
            yield clock.tick(text, clock.draw * _nll_passes(attention, counts, config))
            for n, column in zip(counts, _nll(model, test, counts, config.draws).unbind(1), strict=True):
                nll.setdefault((attention.name, n), []).append(column)
    solved: dict[tuple[str, int], list[list[Solved]]] = {key: [] for key in nll}
    # Batches outside, counts inside: whatever else the machine does falls on all counts alike.
    for batch in test.split(config.batch):
        for attention, counts in config.grid():
            for n in counts:
                solved[attention.name, n].append([])
                for model in models[attention]:
                    text = f"decoding with {attention.name.upper()}, {_count(n, config)} latents"
                    for event in _solving(model, config, batch, n):
                        if isinstance(event, Solved):
                            solved[attention.name, n][-1].append(event)
                        else:
                            yield clock.tick(text, event)
    table = {key: _measured(solved[key], torch.stack(nll[key])) for key in nll}
    yield Result("latents", config, _rows(table, config), verdicts(table, config), _notes(table, config))


def _folder(runs: Path, attention: Attention, seed: int) -> Path:
    return runs / f"{attention.name}-seed{seed}"


def _count(n: int, config: Latents) -> str:
    return "all" if n == config.every else str(n)


def _solving(model: Denoiser, config: Latents, test: Examples, n: int) -> Iterator[int | Solved]:
    most = None if n == config.every else n
    return solve(
        model,
        config.train.task,
        test,
        latents=most,
        candidates=config.candidates,
        order=config.order,
        batch=config.batch,
    )


@torch.no_grad()
def _nll(model: Denoiser, test: Examples, counts: tuple[int, ...], draws: int) -> Tensor:
    """`[puzzles, counts]` nats a token that is not given. The same noise for every model."""
    x0, given = test.x0.to(model.device), test.given.to(model.device)
    total = nll_by_latents(model, x0, given, counts, seeded("nll"), draws)
    return total / (~given).sum(1, keepdim=True)


def _nll_passes(attention: Attention, counts: tuple[int, ...], config: Latents) -> int:
    return config.draws * (len(counts) if attention.latents == "joint" else 1)


def _measured(batches: list[list[Solved]], nll: Tensor) -> Measured:
    """From the outcomes of every batch and seed: answers side by side, costs averaged over the puzzles."""
    right = torch.cat([torch.stack([s.right for s in seeds]) for seeds in batches], dim=1).double()
    flat = [s for seeds in batches for s in seeds]
    share = [len(s.right) / right.numel() for s in flat]
    costs = ("passes", "entries", "flops", "seconds")
    mean = {name: sum(w * getattr(s, name) for w, s in zip(share, flat, strict=True)) for name in costs}
    return Measured(right, nll, **mean)


class _Clock:
    """Estimated work in entries of a forward pass (a training step counts three times): for the time left."""

    def __init__(self, config: Latents, runs: Path, test: Examples):
        length, free = config.train.task.length, int((~test.given).sum(1).max())
        self.step = 3.0 * config.train.batch * length
        self.draw = float(len(test) * length)
        self.done = self.total = 0.0
        for seed in config.seeds:
            for attention, counts in config.grid():
                trained = [step for step, _ in Run(_folder(runs, attention, seed)).checkpoints()]
                self.total += self.step * (config.train.steps - max(trained, default=0))
                self.total += self.draw * _nll_passes(attention, counts, config)
                for n in counts:
                    widths = (length - left + min(left, n + config.candidates) for left in range(1, free + 1))
                    self.total += float(len(test) * sum(widths))

    def tick(self, text: str, work: float) -> Stage:
        """Some more work is done."""
        self.done += work
        return Stage(text, min(self.done, self.total), self.total)


def _rows(table: Table, config: Latents) -> list[dict[str, Any]]:
    return [_row(name, n, cell, config) for (name, n), cell in table.items()]


def _row(name: str, n: int, cell: Measured, config: Latents) -> dict[str, Any]:
    return {
        "model": name,
        "latents": "all" if n == config.every else n,
        "accuracy": float(cell.right.mean()),
        "accuracy_interval": list(interval(cell.right)),
        "accuracy_by_seed": cell.right.mean(1).tolist(),
        "nll": float(cell.nll.mean()),
        "nll_interval": list(interval(cell.nll)),
        "nll_by_seed": cell.nll.mean(1).tolist(),
        "passes": cell.passes,
        "entries_per_pass": cell.entries,
        "flops_per_puzzle": cell.flops,
        "seconds_per_puzzle": cell.seconds,
        "seeds": list(config.seeds),
        "saturated": _saturated(cell),
    }


def _saturated(cell: Measured) -> bool:
    """Too near to none or all right for a difference to show."""
    low, high = interval(cell.right)
    return high > 0.99 or low < 0.01


def verdicts(table: Table, config: Latents) -> list[Claim]:
    """The paper's two claims on this table."""
    return [_joint_prediction(table, config), _dial(table, config)]


def _joint_prediction(table: Table, config: Latents) -> Claim:
    """At an equal budget MDM beats SIDM: intervals apart in accuracy and in NLL."""
    mdm, sidm = table["mdm", config.every], table["sidm", 0]
    (a_low, a_high), (b_low, b_high) = interval(mdm.right), interval(sidm.right)
    (c_low, c_high), (d_low, d_high) = interval(mdm.nll), interval(sidm.nll)
    accuracy = f"accuracy MDM {mdm.right.mean():.3f} [{a_low:.3f}, {a_high:.3f}], "
    accuracy += f"SIDM {sidm.right.mean():.3f} [{b_low:.3f}, {b_high:.3f}]"
    nll = f"NLL MDM {mdm.nll.mean():.4f} [{c_low:.4f}, {c_high:.4f}], "
    nll += f"SIDM {sidm.nll.mean():.4f} [{d_low:.4f}, {d_high:.4f}] nats a token"
    return claim("joint prediction", [Check(a_low > b_high, accuracy), Check(c_high < d_low, nll)])


def _dial(table: Table, config: Latents) -> Claim:
    """SCDM's NLL falls with the count, its accuracy rises from SIDM's level towards MDM's, and so do the costs."""
    cells = [table["scdm", n] for n in config.counts]
    first, last = cells[0], cells[-1]
    mdm, sidm = table["mdm", config.every], table["sidm", 0]
    rises = [interval(b.nll - a.nll)[0] > 0 for a, b in pairwise(cells)]
    curve = ", ".join(f"{_count(n, config)}: {c.nll.mean():.4f}" for n, c in zip(config.counts, cells, strict=True))
    fall = interval(last.nll - first.nll)
    gain = interval(last.right - first.right)
    nearer = abs(first.right.mean() - sidm.right.mean()) <= abs(first.right.mean() - mdm.right.mean())
    flops = [c.flops for c in cells]
    seconds = [c.seconds for c in cells]
    return claim(
        "dial",
        [
            Check(not any(rises), f"no step of SCDM's NLL rises beyond noise ({curve})"),
            Check(
                fall[1] < 0, f"NLL changes by {last.nll.mean() - first.nll.mean():+.4f} {_pair(fall, 4)} from 0 to all"
            ),
            Check(
                gain[0] > 0,
                f"accuracy goes from {first.right.mean():.3f} to {last.right.mean():.3f}, a gain of {_pair(gain, 3)}",
            ),
            Check(
                bool(nearer),
                f"it starts nearer to SIDM's {sidm.right.mean():.3f} than to MDM's {mdm.right.mean():.3f}",
            ),
            Check(flops == sorted(flops), f"FLOPs a puzzle rise from {flops[0]:.3g} to {flops[-1]:.3g}"),
            Check(
                seconds[-1] > seconds[0],
                f"seconds a puzzle rise from {seconds[0]:.4f} to {seconds[-1]:.4f}",
            ),
        ],
    )


def _pair(low_high: tuple[float, float], digits: int) -> str:
    return f"[{low_high[0]:+.{digits}f}, {low_high[1]:+.{digits}f}]"


def _notes(table: Table, config: Latents) -> list[str]:
    """What a reader of the numbers has to know."""
    over = "seeds and puzzles" if len(config.seeds) > 1 else "puzzles (one seed: what another would change is unknown)"
    notes = [
        f"{len(config.seeds)} seed(s), {config.train.steps} steps, {config.puzzles} held-out puzzles; "
        f"95% bootstrap intervals over {over}.",
        f"Decoding: {config.order}, {config.candidates} candidates, greedy, one token a pass, {config.batch} together; "
        "candidates see the latents and, under SCDM, not each other. NLL: uniformly random order.",
        "MDM at fewer than all latents was never trained so: it shows whether the dial has to be.",
    ]
    for (name, n), cell in table.items():
        if _saturated(cell):
            notes.append(f"SATURATED: {name} at {_count(n, config)} latents; its accuracy can show no difference.")
    return notes

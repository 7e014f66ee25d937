"""The paper's trade-off: what do latent tokens buy, and what do they cost?

MDM (all latents, always), SCDM (any number) and SIDM (none) are trained with one budget and differ in nothing but
who may look at whom. Then the number of latents is swept at decoding time. arXiv 2602.03769.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspoken.decoders.policies import order_named
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import MDM, SCDM, SIDM, Attention
from unspoken.measure.accuracy import Solved, solve
from unspoken.measure.intervals import interval, share_interval
from unspoken.measure.likelihood import nll_by_latents
from unspoken.model.denoiser import Denoiser
from unspoken.record import environment
from unspoken.study.dial import Measured, Table, saturated, verdicts
from unspoken.study.report import Result, Stage
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.loop import load, seeded, training
from unspoken.training.run import Run


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
    draws: int = 16

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


def run(config: Latents, runs: Path) -> Iterator[Stage | Result]:
    """Trains what `runs` does not hold yet, measures, and ends in a `Result`.

    Yields `Stage`s. Runs are in `runs/MODEL-seedN`; finished ones are reused, half-done ones are gone on with.
    Raises ValueError where a folder there holds a run of another budget.
    """
    began = environment()  # what the numbers come from, not what the tree is hours later
    # In order of size, so that the rows of a batch are alike and hardly padded.
    test = config.train.task.sample("test", config.puzzles).by_size()
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
    rows, claims = _rows(table, config), verdicts(table, config.counts)
    yield Result("latents", config, rows, claims, _notes(table, config), began)


def _folder(runs: Path, attention: Attention, seed: int) -> Path:
    return runs / f"{attention.name}-seed{seed}"


def _count(n: int, config: Latents) -> str:
    return "all" if n == config.every else str(n)


def _solving(model: Denoiser, config: Latents, test: Examples, n: int) -> Iterator[int | Solved]:
    most = None if n == config.every else n
    decoding = Slots(latents=most, candidates=config.candidates, order=config.order)
    return solve(model, config.train.task, test, decoding, batch=config.batch)


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
        "accuracy_interval": list(share_interval(cell.right)),
        "accuracy_by_seed": cell.right.mean(1).tolist(),
        "nll": float(cell.nll.mean()),
        "nll_interval": list(interval(cell.nll)),
        "nll_by_seed": cell.nll.mean(1).tolist(),
        "passes": cell.passes,
        "entries_per_pass": cell.entries,
        "flops_per_puzzle": cell.flops,
        "seconds_per_puzzle": cell.seconds,
        "seeds": list(config.seeds),
        "saturated": saturated(cell),
    }


def _notes(table: Table, config: Latents) -> list[str]:
    """What a reader of the numbers has to know."""
    over = "seeds and puzzles" if len(config.seeds) > 1 else "puzzles (one seed: what another would change is unknown)"
    notes = [
        f"{len(config.seeds)} seed(s), {config.train.steps} steps, {config.puzzles} held-out puzzles; "
        f"95% t intervals over {over}.",
        f"Decoding: {config.order}, {config.candidates} candidates, greedy, one token a pass, {config.batch} together; "
        "candidates see the latents and, under SCDM, not each other. NLL: uniformly random order.",
        "MDM at fewer than all latents was never trained so: it shows whether the dial has to be.",
    ]
    for (name, n), cell in table.items():
        if saturated(cell):
            notes.append(f"SATURATED: {name} at {_count(n, config)} latents; its accuracy can show no difference.")
    return notes

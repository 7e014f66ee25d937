"""The family on every task: autoregression, AR + MTP, SIDM, SCDM and MDM under one budget each, in one table.

Which claims of arXiv 2602.03769 hold on which task; where nothing separates, it is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder, changed, read_decoder
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import CACHED_ALONE, CACHED_JOINT, MDM, SCDM, SIDM, Attention
from unspoken.measure.accuracy import Solved
from unspoken.measure.intervals import interval, share_interval
from unspoken.measure.likelihood import nll_by_latents
from unspoken.model.denoiser import Denoiser
from unspoken.record import environment
from unspoken.study.choice import solved
from unspoken.study.family import Key, verdicts
from unspoken.study.pool import train_all
from unspoken.study.report import Result, Stage
from unspoken.tasks import SudokuGrids, Text
from unspoken.tasks.base import Examples
from unspoken.tasks.sudoku.grids import diversity
from unspoken.training.config import Train
from unspoken.training.loop import load, seeded
from unspoken.training.losses import packed_losses
from unspoken.training.objective import LatentBlocks, Masked, Objective

SLOT = LatentBlocks(window=1)
METHODS: dict[str, tuple[Objective, Attention]] = {
    "AR": (SLOT, CACHED_ALONE),
    "AR + MTP": (LatentBlocks(prefixes=1), CACHED_JOINT),
    "SIDM": (Masked(), SIDM),
    "SCDM": (Masked(), SCDM),
    "MDM": (Masked(), MDM),
}


@dataclass(frozen=True)
class Case:
    """A task and the budget that all methods share on it.

    Attributes:
        name: In the table and the folders.
        train: Its objective, attention and seed are varied.
        counts: Latents that SCDM is measured beside, rising from 0; all are added.
    """

    name: str
    train: Train
    counts: tuple[int, ...] = (0, 8)

    def __post_init__(self) -> None:
        if not self.counts or list(self.counts) != sorted(set(self.counts)) or self.counts[0] != 0:
            raise ValueError(f"counts={self.counts}: give counts of latents that rise from 0")

    @property
    def methods(self) -> list[str]:
        """On text the paper compares likelihoods: of AR, SCDM and MDM."""
        return ["AR", "SCDM", "MDM"] if isinstance(self.train.task, Text) else list(METHODS)

    def job(self, method: str, seed: int, runs: Path) -> tuple[Train, Path]:
        """The training run of a method, and its folder."""
        objective, attention = METHODS[method]
        train = replace(self.train, objective=objective, attention=attention, seed=seed)
        return train, runs / self.name / f"{method.replace(' ', '')}-seed{seed}"

    def ways(self, method: str) -> list[tuple[int | None, Decoder]]:
        """How a method is decoded, and beside how many latents (None for all)."""
        drawn = isinstance(self.train.task, (SudokuGrids, Text))  # there the likeliest answer would be the only one
        temperature = 1.0 if drawn else 0.0
        if method.startswith("AR"):
            way = read_decoder(METHODS[method][0].decoder(self.train.process))
            return [(None if method == "AR + MTP" else 0, changed(way, {"temperature": temperature}))]
        order = "uniform" if drawn else "confidence"
        counts = (*self.counts, None) if method == "SCDM" else (0,) if method == "SIDM" else (None,)
        return [(n, Slots(latents=n, order=order, temperature=temperature)) for n in counts]


@dataclass(frozen=True)
class Tasks:
    """The study's config.

    Attributes:
        cases: The tasks, each with its budget.
        seeds: Training seeds.
        examples: Of each test split, at most.
        batch: Examples decoded together.
        draws: Random steps a window in the estimates of bits per byte.
        workers: Runs trained at a time.
    """

    cases: tuple[Case, ...]
    seeds: tuple[int, ...] = (0,)
    examples: int = 1000
    batch: int = 250
    draws: int = 16
    workers: int = 2

    def __post_init__(self) -> None:
        names = [case.name for case in self.cases]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the tasks are {names}: give one or more, each once")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds}: give seeds, each once")
        if min(self.examples, self.batch, self.draws, self.workers) < 1:
            raise ValueError("examples, batch, draws and workers must be 1 or more")

    def budget(self) -> str:
        """One line on what will be done."""
        runs = sum(len(case.methods) for case in self.cases) * len(self.seeds)
        return f"{runs} runs on {', '.join(case.name for case in self.cases)}; {len(self.seeds)} seed(s)"


@dataclass(frozen=True)
class Cell:
    """One way on one task. values: `[seeds, examples]`: solved or not; for text, bits per byte of each window."""

    values: Tensor
    row: dict[str, Any]


def run(config: Tasks, runs: Path) -> Iterator[Stage | Result]:
    """Trains what `runs` does not hold yet, measures, and ends in a `Result`; yields `Stage`s."""
    began = environment()
    tests: dict[str, Examples] = {}
    for done, case in enumerate(config.cases):
        yield Stage(f"examples of {case.name}", done, len(config.cases))
        task = case.train.task
        tests[case.name] = task.sample("test", min(config.examples, task.size("test")))
    jobs = [case.job(m, seed, runs) for case in config.cases for m in case.methods for seed in config.seeds]
    for done in train_all(jobs, config.workers):
        yield Stage("training", done, sum(train.steps for train, _ in jobs))
    table: dict[Key, Cell] = {}
    plan = [(case, method) for case in config.cases for method in case.methods]
    for done, (case, method) in enumerate(plan):
        yield Stage(f"measuring: {case.name}, {method}", done, len(plan))
        models = [load(case.job(method, seed, runs)[1], "cpu") for seed in config.seeds]
        measure = _bits if isinstance(case.train.task, Text) else _answers
        for latents, cell in measure(config, case, method, models, tests[case.name]).items():
            table[case.name, method, latents] = cell
    values = {key: cell.values for key, cell in table.items()}
    bits = frozenset(case.name for case in config.cases if isinstance(case.train.task, Text))
    claims = verdicts(values, bits)
    yield Result("tasks", config, [cell.row for cell in table.values()], claims, _notes(config), began)


def _answers(config: Tasks, case: Case, method: str, models: list[Denoiser], test: Examples) -> dict[int | None, Cell]:
    return {n: _answered(config, case, method, models, test, n, way) for n, way in case.ways(method)}


def _answered(
    config: Tasks, case: Case, method: str, models: list[Denoiser], test: Examples, n: int | None, way: Decoder
) -> Cell:
    task = case.train.task
    test = test.by_size()
    its = [solved(model, task, test, way, config.batch) for model in models]
    right = torch.stack([s.right for s in its]).double()
    row = _head(config, case, method, n) | {
        "accuracy": float(right.mean()),
        "accuracy_interval": list(share_interval(right)),
        "accuracy_by_seed": right.mean(1).tolist(),
        **_costs(its),
    }
    if isinstance(task, SudokuGrids):
        row["distinct"] = sum(diversity(s.tokens) for s in its) / len(its)
    return Cell(right, row)


def _costs(its: list[Solved]) -> dict[str, float]:
    mean = {name: sum(getattr(s, name) for s in its) / len(its) for name in ("passes", "entries", "flops", "seconds")}
    return {
        "passes": mean["passes"],
        "entries_per_pass": mean["entries"],
        "flops_per_example": mean["flops"],
        "seconds_per_example": mean["seconds"],
    }


@torch.no_grad()
def _bits(config: Tasks, case: Case, method: str, models: list[Denoiser], test: Examples) -> dict[int | None, Cell]:
    """Bits per byte of what is not given of every window, and a sample; of masked models over random orders."""
    task = case.train.task
    assert isinstance(task, Text)
    size = (task.bytes_in(test.x0) - task.bytes_in(test.prompt(task.mask_id))).double()
    ways = case.ways(method)
    nats = torch.stack([_nats(config, case, method, model, test, [n for n, _ in ways]) for model in models])
    cells = {}
    for (n, way), of_windows in zip(ways, nats.unbind(2), strict=True):
        bits = of_windows / math.log(2) / size.mean()  # a window counts by its bytes
        row = {
            "bits_per_byte": float(bits.mean()),
            "bits_interval": list(interval(bits)),
            "bits_by_seed": bits.mean(1).tolist(),
            "sample": _said(task, models[0], way),
        }
        cells[n] = Cell(bits, _head(config, case, method, n) | row)
    return cells


def _nats(config: Tasks, case: Case, method: str, model: Denoiser, test: Examples, counts: list[int | None]) -> Tensor:
    """`[windows, counts]` nats of each window's tokens that are not given."""
    length, parts = case.train.task.length, []
    for part in test.split(50):
        if method == "AR":
            packed = SLOT.pack(case.train.process, part.x0, part.given, model.mask_id)
            parts.append(packed_losses(model, packed).sum(1, keepdim=True).double())
        else:
            n = [length if count is None else count for count in counts]
            parts.append(nll_by_latents(model, part.x0, part.given, n, seeded("bits", len(parts)), config.draws))
    return torch.cat(parts)


def _said(task: Text, model: Denoiser, way: Decoder) -> str:
    """One window that the model says of itself."""
    blank = torch.full((1, task.length), task.mask_id)
    *_, step = way.steps(model, blank, generator=seeded("sample"))
    return task.show(step.tokens[0])


def _head(config: Tasks, case: Case, method: str, n: int | None) -> dict[str, Any]:
    latents = "all" if n is None else n
    return {"task": case.name, "method": method, "latents": latents, "seeds": list(config.seeds)}


def _notes(config: Tasks) -> list[str]:
    budgets = "; ".join(
        f"{case.name}: {case.train.task.title}, {case.train.task.length} tokens, {case.train.steps} steps of "
        f"{case.train.batch}, {case.train.trunk.layers} x {case.train.trunk.width}"
        for case in config.cases
    )
    over = (
        "seeds and examples" if len(config.seeds) > 1 else "examples alone: what another seed would change is unknown"
    )
    return [
        f"{len(config.seeds)} seed(s), up to {config.examples} held-out examples; 95% intervals over {over}.",
        f"Budgets: {budgets}. Learning rate and first weights are those found on 6x6 Sudoku, for every method.",
        "AR is the mask slot without latents, asked at every threshold of a row; AR + MTP beside all latents, at one "
        "random threshold a row. Both are decoded greedily from left to right; SIDM, SCDM and MDM by confidence among "
        "8 candidates, one token a pass; grids are drawn at temperature 1 in random order (a greedy answer would be "
        "the only one).",
        "Each claim is looked at on every task by a 95% interval of its own: no correction is made for their number. "
        "Lookahead compares AR asked at every threshold of a row with AR + MTP asked at one.",
        f"Bits per byte are of the first {config.examples} windows of the held-out book: AR exactly, from left to "
        "right; SCDM and MDM over random orders, an upper bound on what they spend. Samples: the first window "
        "drawn at temperature 1, as it came.",
    ]

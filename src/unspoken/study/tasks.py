"""The family on every task: autoregression, AR + MTP, SIDM, SCDM and MDM under one budget each, in one table.

Which claims of arXiv 2602.03769 hold on which task; where nothing separates, it is said.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder, changed, read_decoder
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import CACHED_ALONE, CACHED_JOINT, MDM, SCDM, SIDM, Attention
from unspoken.measure.accuracy import Outcome, solved
from unspoken.measure.intervals import Estimate, holm, p_value
from unspoken.measure.text import SLOT, bits_per_byte, sample_of
from unspoken.model.denoiser import Denoiser
from unspoken.study.base import Findings, SeededStudy, check_rising, loaded, trained
from unspoken.study.report import Check, Claim, Stage, claim
from unspoken.study.table import Column, Mean, Row, Table, cost_columns, costs
from unspoken.tasks import SudokuGrids, Text
from unspoken.tasks.base import Examples
from unspoken.tasks.sudoku.grids import diversity
from unspoken.training.config import Train
from unspoken.training.objective import MaskedDiffusion, MultiToken, Objective
from unspoken.training.pool import Job

METHODS: dict[str, tuple[Objective, Attention]] = {
    "AR": (SLOT, CACHED_ALONE),
    "AR + MTP": (MultiToken(prefixes=1), CACHED_JOINT),
    "SIDM": (MaskedDiffusion(), SIDM),
    "SCDM": (MaskedDiffusion(), SCDM),
    "MDM": (MaskedDiffusion(), MDM),
}
CANDIDATES, TURNS = 8, 1.1  # the paper's number; entries a pass beside all latents over those beside none
Way = tuple[str, int | None]  # method, latents (None for all)
Key = tuple[str, str, int | None]  # task, and the way

PAIRS: dict[str, tuple[Way, Way]] = {  # that the first does better than the second
    "joint prediction": (("MDM", None), ("SIDM", 0)),
    "the dial": (("SCDM", None), ("SCDM", 0)),
    "lookahead": (("AR + MTP", None), ("AR", 0)),
}
TABLE = Table(
    "tasks",
    {
        "": (
            Column("task", "task"),
            Column("method", "method"),
            Column("latents", "latents"),
            Column("seeds"),
            Mean("accuracy", "solved", share=True, optional=True),
            Mean("bits_per_byte", "bits per byte", stem="bits", optional=True),
            *(replace(column, optional=True) for column in cost_columns("example", hidden=("entries", "ms"))),
            Column("distinct", "solved", ", {:.3f} distinct".format, optional=True),
            Column("sample", optional=True),
        )
    },
    "With 95% intervals. Passes and MFLOPs: an example.",
)


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
        check_rising("counts", self.counts)

    @property
    def methods(self) -> list[str]:
        """On text the paper compares likelihoods: of AR, SCDM and MDM."""
        return ["AR", "SCDM", "MDM"] if isinstance(self.train.task, Text) else list(METHODS)

    def job(self, method: str, seed: int, runs: Path) -> Job:
        """The training run of a method, and its folder."""
        objective, attention = METHODS[method]
        train = replace(self.train, objective=objective, attention=attention, seed=seed)
        return train, runs / self.name / f"{method.replace(' ', '')}-seed{seed}"

    def ways(self, method: str, free: int) -> list[tuple[int | None, Decoder]]:
        """How a method is decoded, and beside how many latents (None for all). free: tokens to say, in most rows."""
        drawn = isinstance(self.train.task, (SudokuGrids, Text))  # there the likeliest answer would be the only one
        temperature = 1.0 if drawn else 0.0
        # Candidates are taken first: as many as there are free tokens would leave no room for latents.
        candidates = max(1, min(CANDIDATES, free // 4))
        if method.startswith("AR"):
            way = read_decoder(METHODS[method][0].decoder(self.train.process))
            return [(None if method == "AR + MTP" else 0, changed(way, {"temperature": temperature}))]
        order = "uniform" if drawn else "confidence"
        counts = (*self.counts, None) if method == "SCDM" else (0,) if method == "SIDM" else (None,)
        return [(n, Slots(n, candidates, order=order, temperature=temperature)) for n in counts]


@dataclass(frozen=True)
class FamilyStudy(SeededStudy):
    """The study's config.

    Attributes:
        cases: The tasks, each with its budget.
        examples: Of each test split, at most.
        batch: Examples decoded together.
        draws: Random steps a window in the estimates of bits per byte.
    """

    TABLE = TABLE

    cases: tuple[Case, ...]
    examples: int = 1000
    batch: int = 250
    draws: int = 16

    def __post_init__(self) -> None:
        names = [case.name for case in self.cases]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the tasks are {names}: give one or more, each once")
        super().__post_init__()

    def budget(self) -> str:
        runs = sum(len(case.methods) for case in self.cases) * len(self.seeds)
        return f"{runs} runs on {', '.join(case.name for case in self.cases)}; {len(self.seeds)} seed(s)"

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        tests: dict[str, Examples] = {}
        for done, case in enumerate(self.cases):
            yield Stage(f"examples of {case.name}", done, len(self.cases))
            task = case.train.task
            tests[case.name] = task.sample("test", min(self.examples, task.size("test")))
        plan = [(case, method) for case in self.cases for method in case.methods]
        yield from trained([case.job(m, seed, runs) for case, m in plan for seed in self.seeds], self.workers)
        rows: list[Row] = []
        values: dict[Key, Tensor] = {}
        for done, (case, method) in enumerate(plan):
            yield Stage(f"measuring: {case.name}, {method}", done, len(plan))
            models = loaded([case.job(method, seed, runs) for seed in self.seeds])
            measure = _bits if isinstance(case.train.task, Text) else _answers
            for latents, its, row in measure(self, case, method, models, tests[case.name]):
                values[case.name, method, latents] = its
                shown = "all" if latents is None else latents
                rows.append(TABLE.row(task=case.name, method=method, latents=shown, seeds=list(self.seeds), **row))
        return rows, verdicts(values, rows), _notes(self)


# The number of latents; `[seeds, examples]`, solved or not, or of text bits per byte of each window; what a row holds.
Cell = tuple[int | None, Tensor, Row]


def _answers(config: FamilyStudy, case: Case, method: str, models: list[Denoiser], test: Examples) -> Iterator[Cell]:
    task, test = case.train.task, test.by_size()
    for latents, way in case.ways(method, free_tokens(test)):
        its = [solved(model, task, test, way, config.batch) for model in models]
        outcome = Outcome.of([its])
        row = {"accuracy": outcome.right, **costs(outcome, "example")}
        if isinstance(task, SudokuGrids):
            row["distinct"] = sum(diversity(s.tokens) for s in its) / len(its)
        yield latents, outcome.right, row


def _bits(config: FamilyStudy, case: Case, method: str, models: list[Denoiser], test: Examples) -> Iterator[Cell]:
    """Bits per byte of every window, and a sample; of masked models over random orders."""
    task, ways = case.train.task, case.ways(method, free_tokens(test))
    assert isinstance(task, Text)
    counts = None if method == "AR" else [task.length if n is None else n for n, _ in ways]
    of_seeds = [bits_per_byte(task, model, case.train.process, test, counts, config.draws) for model in models]
    for (latents, way), its in zip(ways, torch.stack(of_seeds, dim=1), strict=True):
        yield latents, its, {"bits_per_byte": its, "sample": sample_of(task, models[0], way)}


def free_tokens(examples: Examples) -> int:
    """Tokens to say, in the median row."""
    return int((~examples.given).sum(1).median())


def verdicts(values: Mapping[Key, Tensor], rows: Sequence[Row]) -> list[Claim]:
    """Each claim over the tasks that were measured. values: `[seeds, examples]`; of bits per byte less is better.

    It holds where it does on a task at least, by paired differences with Holm's correction for the number of tasks, and
    is reversed on none. A task on which the dial does not turn is left out of the dial, and named.
    """
    entries = {(row["task"], row["method"], row["latents"]): row.get("entries_per_pass") for row in rows}
    bits = {row["task"] for row in rows if "bits_per_byte" in row}
    return [
        _over_tasks(name, pair, values, entries, bits)
        for name, pair in PAIRS.items()
        if any({(task, *pair[0]), (task, *pair[1])} <= values.keys() for task, _, _ in values)
    ]


def _over_tasks(
    name: str, pair: tuple[Way, Way], values: Mapping[Key, Tensor], entries: Mapping[Any, float | None], bits: set[str]
) -> Claim:
    more, less = pair
    tasks = [t for t in dict.fromkeys(task for task, _, _ in values) if {(t, *more), (t, *less)} <= values.keys()]
    turned = [t for t in tasks if name != "the dial" or _turns(entries, t)]
    gains = [(values[t, *less] - values[t, *more]) * (1 if t in bits else -1) for t in turned]
    found: dict[str, list[str]] = {"better": [], "nothing separates": [], "worse": []}
    for task, gain, sure in zip(turned, gains, holm([p_value(gain) for gain in gains]), strict=True):
        kind = "nothing separates" if not sure else "better" if gain.mean() > 0 else "worse"
        of, to = (float(values[task, *way].mean()) for way in (less, more))
        what = " bits per byte" if task in bits else ""
        found[kind].append(f"{task} {of:.3f} to {to:.3f}{what} ({Estimate.of(gain).signed})")
    left_out = {"left out, for as many entries beside none as beside all": [t for t in tasks if t not in turned]}
    evidence = "; ".join(f"{kind}: {', '.join(its)}" for kind, its in (found | left_out).items() if its)
    holds = bool(found["better"]) and not found["worse"]
    seeds = min(len(its) for its in values.values())
    return claim(name, [Check(holds, evidence)], seeds)


def _turns(entries: Mapping[Any, float | None], task: str) -> bool:
    """Whether a pass beside all latents has a tenth more entries than one beside none."""
    few, many = entries.get((task, "SCDM", 0)), entries.get((task, "SCDM", "all"))
    return few is None or many is None or many >= TURNS * few


def _notes(config: FamilyStudy) -> list[str]:
    budgets = "; ".join(
        f"{case.name}: {case.train.task.title}, {case.train.task.length} tokens, {case.train.steps} steps of "
        f"{case.train.batch}, {case.train.trunk.told}"
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
        f"a quarter of the tokens to say ({CANDIDATES} at most), one token a pass; grids are drawn at temperature 1 in "
        "random order (a greedy answer would be the only one). Milliseconds are CPU time.",
        "Each claim is looked at on every task: p-values are corrected for the number of tasks (Holm), intervals are "
        "not. Lookahead compares AR asked at every threshold of a row with AR + MTP asked at one.",
        f"Bits per byte are of the first {config.examples} windows of the held-out book: AR exactly, from left to "
        "right; SCDM and MDM over random orders, an upper bound on what they spend. Samples: the first window "
        "drawn at temperature 1, as it came.",
    ]

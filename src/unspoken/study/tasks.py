"""The family on every task: autoregression, AR + MTP, SIDM, SCDM, MDM and groups under one budget each, in one table.

Which claims of arXiv 2602.03769 hold on which task; where nothing separates, it is said.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspoken.measure.accuracy import Outcome, solved
from unspoken.measure.groups import of_one_length
from unspoken.measure.profile import InformationProfile, profile_losses
from unspoken.measure.text import bits_per_byte, sample_of
from unspoken.model.denoiser import Denoiser
from unspoken.study.base import Findings, SeededStudy, folder_of, loaded, trained
from unspoken.study.kept import kept
from unspoken.study.report import Claim, Stage
from unspoken.study.table import Column, Mean, Row, Table, cost_columns, costs
from unspoken.study.task_cases import CANDIDATES, PREFIXES, Case
from unspoken.study.task_claims import Key, explanation, verdicts
from unspoken.study.ways import Way
from unspoken.tasks import SudokuGrids, Text
from unspoken.tasks.base import Examples
from unspoken.tasks.sudoku.grids import diversity
from unspoken.training.pool import Job, finished
from unspoken.training.run import Run
from unspoken.training.seeds import seeded

PROFILED = ("SIDM", "MDM")  # the models whose total correlations are measured
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
            Column("latents_per_pass", optional=True),
            Column("distinct", "solved", ", {:.3f} distinct".format, optional=True),
            Column("sample", optional=True),
        ),
        "choice": (
            Column("part", "latents"),
            Column("task", "task"),
            Column("chooser", "method"),
            Column("lr", "solved", "LR {:g}, ".format),
            Column("init", "solved", "first weights {:g}".format),
            Column("losses"),
        ),
        "correlation": (
            Column("part", "latents"),
            Column("task", "task"),
            Column("model", "method"),
            Column("tokens"),
            Column("nll", "solved", "{:.3f} nats a token, ".format),
            Column("total_correlation", "solved", "TC {:.3f}".format),
        ),
    },
    "With 95% intervals. Passes and MFLOPs: an example. choice: learning rate and first weights. correlation: the NLL "
    "of answers said one at a time in random order, and their total correlation (TC) a token.",
)


@dataclass(frozen=True)
class FamilyStudy(SeededStudy):
    """The study's config.

    Attributes:
        cases: The tasks, each with its budget.
        examples: Of each test split, at most.
        batch: Examples decoded together.
        draws: Random steps a window in the estimates of bits per byte.
        profiled: Validation examples that total correlations are measured on; of text a quarter of them.
        sets: Random sets of known tokens an example and number, in total correlations.
    """

    TABLE = TABLE

    cases: tuple[Case, ...]
    examples: int = 1000
    batch: int = 250
    draws: int = 16
    profiled: int = 200
    sets: int = 2

    def __post_init__(self) -> None:
        names = [case.name for case in self.cases]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the tasks are {names}: give one or more, each once")
        super().__post_init__()

    def budget(self) -> str:
        runs = sum(len(case.methods) for case in self.cases) * len(self.seeds)
        first = sum(len(_choosers(case)) * (len(case.choices) - 1) for case in self.cases)
        return (
            f"{runs} runs on {', '.join(case.name for case in self.cases)}; {len(self.seeds)} seed(s); and {first} "
            "runs that choose learning rates and first weights"
        )

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        tests: dict[str, Examples] = {}
        for done, case in enumerate(self.cases):
            yield Stage(f"examples of {case.name}", done, len(self.cases))
            task = case.train.task
            tests[case.name] = task.sample("test", min(self.examples, task.size("test")))
            if not task.size("validation"):
                raise ValueError(f"{task.title} has no validation examples to choose learning rates by")
            hard = case.hard_ones(tests[case.name])
            if hard is not None and not hard.any():
                raise ValueError(f"{case.name}: no test example has a difficulty of {case.hard} or more; give less")
        rows: list[Row] = []
        values: dict[Key, Tensor] = {}
        for case in self.cases:
            chosen = yield from _chosen(self, case, runs, rows)
            jobs = {m: [case.job(m, chosen[case.chooser(m)], s, runs) for s in self.seeds] for m in case.methods}
            yield from trained([job for its in jobs.values() for job in its], self.workers, f"training on {case.name}")
            for done, (method, its) in enumerate(jobs.items()):
                yield Stage(f"measuring: {case.name}, {method}", done, len(jobs))
                part = measured(self, case, method, its, runs, tests[case.name])
                rows += part["rows"]
                values |= {(name, way, n): torch.tensor(its).double() for name, way, n, its in part["values"]}
        shown = sorted(rows, key=lambda row: list(TABLE.parts).index(row.get("part", "")))
        return shown, _claims(self, values, shown), _notes(self)


def _choosers(case: Case) -> list[str]:
    """The methods that choose for themselves, and for others."""
    return list(dict.fromkeys(case.chooser(method) for method in case.methods))


def _chosen(
    config: FamilyStudy, case: Case, runs: Path, rows: list[Row]
) -> Generator[Stage, None, dict[str, tuple[float, float]]]:
    """Of each chooser the choice whose run, of the first seed, ends with the lowest validation loss; adds its row."""
    first = {
        method: [case.job(method, choice, config.seeds[0], runs) for choice in case.choices]
        for method in _choosers(case)
    }
    if len(case.choices) == 1:
        return dict.fromkeys(first, case.choices[0])
    jobs = [job for its in first.values() for job in its]
    yield from trained(jobs, config.workers, f"choosing on {case.name}", may_diverge=True)
    found = {}
    for method, its in first.items():
        losses = [_last_loss(job) for job in its]
        left = [(loss, choice) for loss, choice in zip(losses, case.choices, strict=True) if loss is not None]
        if not left:
            raise ValueError(f"{method} diverged on {case.name} at every choice of {case.choices}: give lower rates")
        found[method] = lr, init = min(left)[1]
        rows.append(TABLE.row("choice", task=case.name, chooser=method, lr=lr, init=init, losses=losses))
    return found


def _last_loss(job: Job) -> float | None:
    """The validation loss that a run ended with; None where it diverged."""
    return Run(job[1]).metrics()[-1]["validation"] if finished(job) else None


def measured(config: FamilyStudy, case: Case, method: str, jobs: list[Job], runs: Path, test: Examples) -> Any:
    """Of a method on a task its `rows`, and `values`: task, way, latents, and `[seeds, examples]`. See `kept`.

    Values are solved or not, of text bits a byte. A model that is profiled has the row of its total correlation too.
    """
    asked = {
        "case": case,
        "method": method,
        "seeds": config.seeds,
        "settings": (config.examples, config.batch, config.draws, config.profiled, config.sets),
    }

    def measure() -> dict[str, Any]:
        models, rows, values = loaded(jobs), [], []
        cells = _bits if isinstance(case.train.task, Text) else _answers
        for name, way, its, row in cells(config, case, method, models, test):
            shown = "all" if way.latents is None else way.latents
            rows.append(TABLE.row(task=name, method=way.name, latents=shown, seeds=list(config.seeds), **row))
            values.append([name, way.name, way.latents, its.tolist()])
        if method in PROFILED:
            rows.append(_correlation(config, case, method, models))
        return {"rows": rows, "values": values}

    return kept(runs / case.name / f"measured-{folder_of(method)}.json", jobs, asked, measure)


Cell = tuple[str, Way, Tensor, Row]  # the task as rows name it; `[seeds, examples]`; what the row holds


def _answers(config: FamilyStudy, case: Case, method: str, models: list[Denoiser], test: Examples) -> Iterator[Cell]:
    task, test = case.train.task, test.by_size()
    hard = case.hard_ones(test)
    for way in case.ways(method, free_tokens(test)):
        its = [solved(model, task, test, way.decoder, config.batch) for model in models]
        outcome = Outcome.of([its])
        row = {"accuracy": outcome.right, "latents_per_pass": outcome.latents, **costs(outcome, "example")}
        if isinstance(task, SudokuGrids):
            row["distinct"] = sum(diversity(s.tokens) for s in its) / len(its)
        yield case.name, way, outcome.right, row
        if hard is not None:
            only = {"accuracy": outcome.right[:, hard], "latents_per_pass": outcome.latents}
            yield f"{case.name}, hard", way, outcome.right[:, hard], only


def _bits(config: FamilyStudy, case: Case, method: str, models: list[Denoiser], test: Examples) -> Iterator[Cell]:
    """Bits per byte of every window, and a sample; of masked models over random orders."""
    task, ways = case.train.task, case.ways(method, free_tokens(test))
    assert isinstance(task, Text)
    counts = None if method.startswith("AR") else [task.length if w.latents is None else w.latents for w in ways]
    of_seeds = [bits_per_byte(task, model, case.train.process, test, counts, config.draws) for model in models]
    for way, its in zip(ways, torch.stack(of_seeds, dim=1), strict=True):
        yield case.name, way, its, {"bits_per_byte": its, "sample": sample_of(task, models[0], way.decoder)}


def free_tokens(examples: Examples) -> int:
    """Tokens to say, in the median row."""
    return int((~examples.given).sum(1).median())


def _correlation(config: FamilyStudy, case: Case, method: str, models: list[Denoiser]) -> Row:
    """Of the commonest number of tokens to say, with no latents beside SIDM's and all beside MDM's."""
    task = case.train.task
    few = max(1, config.profiled // 4) if isinstance(task, Text) else config.profiled
    its = of_one_length(task, "validation", few)
    losses = [profile_losses(m, its.x0, its.given, None, seeded("profile"), config.sets) for m in models]
    profile = InformationProfile.fitted(torch.cat(losses))
    n = profile.length
    nll, correlation = profile.nll / n, profile.total_correlation / n
    return TABLE.row("correlation", task=case.name, model=method, tokens=n, nll=nll, total_correlation=correlation)


def _claims(config: FamilyStudy, values: dict[Key, Tensor], rows: list[Row]) -> list[Claim]:
    its = [row for row in rows if row.get("part") == "correlation"]
    return [*verdicts(values, rows), explanation(its, len(config.seeds))]


def _notes(config: FamilyStudy) -> list[str]:
    budgets = "; ".join(
        f"{case.name}: {case.train.task.title}, {case.train.task.length} tokens, {case.train.steps} steps of "
        f"{case.train.batch}, {case.train.trunk.told}"
        for case in config.cases
    )
    over = (
        "seeds and examples" if len(config.seeds) > 1 else "examples alone: what another seed would change is unknown"
    )
    hard = [case.told_hard for case in config.cases if case.hard]
    given = ", ".join(case.name for case in config.cases if len(case.choices) == 1)
    return [
        f"{len(config.seeds)} seed(s), up to {config.examples} held-out examples; 95% intervals over {over}.",
        f"Budgets: {budgets}." + "".join(f" {its}." for its in hard),
        "Learning rate and first weights: those whose run of the first seed ends with the lowest validation loss of "
        "its own objective. AR, AR + MTP, SIDM and MDM choose for themselves; AR at every prefix takes AR's (on text "
        "it chooses), SCDM and grouped take MDM's." + (f" Not chosen but given: on {given}." if given else ""),
        f"AR and AR + MTP are asked at the same {PREFIXES} random prefixes of a row: AR for the next token, AR + MTP "
        "for all that is left, which are more targets and more FLOPs a step, in a pass whose latents see each other. "
        "AR, every prefix: for the next token of each. All are decoded greedily from left to right. Grouped: joint "
        "latents and a causal context (CACHED_JOINT), rows whole in the beginning and split in groups at the end.",
        f"SIDM, SCDM, MDM and grouped are decoded by confidence among half of the tokens to say ({CANDIDATES} at "
        "most), one token a pass; MDM in both orders among all of them too. Grids are drawn at temperature 1 in random "
        "order (a greedy answer would be the only one).",
        "Each claim is looked at on every task: p-values are corrected for the number of tasks (Holm), intervals are "
        "not, nor is the number of claims. That nothing separates does not say that nothing differs.",
        f"Bits per byte are of the first {config.examples} windows of the held-out book: AR exactly, from left to "
        "right; the others over random orders, an upper bound on what they spend. Samples: the first window drawn at "
        "temperature 1, as it came.",
        f"Total correlation: {config.profiled} validation examples of the commonest number of tokens to say (of text a "
        f"quarter of them), {config.sets} random sets of known tokens each.",
    ]

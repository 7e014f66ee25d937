"""A better dial: groups of joint latents against the paper's ordered ones, and against models without a dial.

All models of a task have one budget, and differ in who may look at whom and in how their latents are grouped. Then the
number of latents is swept at decoding time.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from unspoken.measure.accuracy import solve_ways
from unspoken.measure.costs import training_flops
from unspoken.model.denoiser import Denoiser
from unspoken.study.base import Findings, Study, check_once, loaded, trained
from unspoken.study.grouped import better_dial, effects, no_loss
from unspoken.study.report import Claim, Stage
from unspoken.study.rivals import DialCase, Rival
from unspoken.study.table import Column, Mean, Row, Table, cost_columns, costs
from unspoken.study.trade_off import Key, Level, nll_a_token
from unspoken.tasks.base import Examples

_MODEL = (Column("task", "task"), Column("model", "model"))
_PART = Column("part", "part")
TABLE = Table(
    "dial",
    {
        "dial": (
            _PART,
            *_MODEL,
            Column("latents", "latents"),
            Mean("accuracy", "solved", share=True),
            Mean("nll", "NLL"),
            *cost_columns("puzzle"),
            Column("seeds"),
        ),
        "training": (
            _PART,
            *_MODEL,
            Column("steps", "latents", "{} steps".format),
            Column("training_flops", "MFLOPs", lambda flops: f"{flops / 1e6:.3g}"),
        ),
        "effects": (
            _PART,
            Column("task", "task"),
            Column("what", "model"),
            Column("to"),
            Column("of"),
            Column("latents", "latents"),
            Mean("solved_more", "solved", by_seed=False),
            Mean("nll_more", "NLL", by_seed=False),
        ),
    },
    "dial: a model decoded beside so many latents. training: its steps, and the FLOPs of them all. effects: what a "
    "difference between two models adds to the share solved and to the NLL, paired. With 95% intervals; NLL in nats a "
    "token; passes, MFLOPs and ms a puzzle.",
)


@dataclass(frozen=True)
class DialStudy(Study):
    """The study's config.

    Attributes:
        cases: The tasks, each with its budget.
        rivals: The models.
        ordered: Of them, the paper's dial.
        grouped: Of them, those that are to be better than it at equal training.
        best: Of them, the one that solves most beside all latents.
        top: Of them, the one with a dial that is to lose nothing to it there; none where it is empty.
        split: What is measured on.
        puzzles: Of the split.
        top_puzzles: Of the split, for what `top` and `best` solve beside all latents: a point is little.
        top_draws: How often each of these is decoded, with other random candidates; its mean counts.
        batch: Puzzles decoded together.
        draws: Random steps a puzzle in the NLL estimate.
        workers: Runs trained at a time.
    """

    TABLE = TABLE
    MAY_BE_EMPTY = ("grouped",)

    cases: tuple[DialCase, ...]
    rivals: tuple[Rival, ...]
    ordered: str = "SCDM"
    grouped: tuple[str, ...] = ()
    best: str = "MDM"
    top: str = ""
    split: Literal["test", "validation"] = "test"
    puzzles: int = 500
    top_puzzles: int = 1000
    top_draws: int = 1
    batch: int = 250
    draws: int = 16
    workers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_once("cases", [case.name for case in self.cases])
        check_once("rivals, by their folders,", [rival.folder for rival in self.rivals])
        first = {rival.folder for rival in self.rivals if not rival.needs}
        for rival in self.rivals:
            if strange := sorted(rival.needs - first):
                raise ValueError(
                    f"{rival.name} needs {strange[0]!r}, which is no folder of a model that needs none itself; "
                    f"give one of {', '.join(sorted(first))}"
                )
        names, claimed = {rival.name for rival in self.rivals}, (*self.grouped, self.top)
        claimed += (self.ordered,) * bool(self.grouped) + (self.best,) * bool(self.top)
        if strange := sorted(set(claimed) - names - {""}):
            raise ValueError(f"{strange[0]!r} is none of the models; give one of {', '.join(sorted(names))}")

    @property
    def recipes(self) -> dict[str, list[str]]:
        """Those of `grouped` by the name of their claim: a name is the attention and, after a comma, the recipe."""
        found: dict[str, list[str]] = {}
        for name in self.grouped:
            recipe = name.partition(", ")[2]
            found.setdefault("grouped dial" if recipe == "grouped" else f"grouped dial, {recipe}", []).append(name)
        return found

    def budget(self) -> str:
        runs = len(self.rivals) * sum(len(case.seeds) for case in self.cases)
        tasks = "; ".join(
            f"{c.name}: {c.train.steps} steps of {c.train.batch}, {len(c.seeds)} seed(s)" for c in self.cases
        )
        models = f"{runs} runs of {len(self.rivals)} models on {tasks}"
        return f"{models}; then {self.puzzles} puzzles of the {self.split} split"

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        rows: list[Row] = []
        claims: list[Claim] = []
        for case in self.cases:
            task = case.train.task
            examples = task.sample(self.split, min(self.puzzles, task.size(self.split))).by_size()
            models = yield from _trained(self, case, runs)
            levels = yield from _measured(self, case, models, examples)
            cost = _costs(self, case, runs)
            rows += [*_levels(case, levels), *_training(self, case, cost), *_effects(case, levels)]
            claims += yield from _claims(self, case, models, levels, cost)
        return rows, claims, _notes(self)


Models = dict[str, list[Denoiser]]  # by name, a model a seed


def _trained(config: DialStudy, case: DialCase, runs: Path) -> Generator[Stage, None, Models]:
    """Those that begin with nothing, then those that begin with one of them."""
    for later in (False, True):
        now = [r for r in config.rivals if bool(r.needs) == later]
        jobs = [case.job(rival, seed, runs) for seed in case.seeds for rival in now]
        yield from trained(jobs, config.workers, f"training on {case.name}")
    return {r.name: loaded([case.job(r, seed, runs) for seed in case.seeds]) for r in config.rivals}


def _measured(
    config: DialStudy, case: DialCase, models: Models, examples: Examples
) -> Generator[Stage, None, dict[Key, Level]]:
    nll: dict[str, Tensor] = {}
    counts = {rival.name: case.counts_of(rival) for rival in config.rivals}
    for done, (name, its) in enumerate(models.items()):
        yield Stage(f"likelihood on {case.name}: {name}", done, len(models))
        nll[name] = torch.stack([nll_a_token(model, examples, counts[name], config.draws) for model in its])
    ways = {(name, n): (its, case.decoding(n)) for name, its in models.items() for n in counts[name]}
    total = float(len(ways) * len(case.seeds) * int((~examples.given).sum()) * case.train.task.length)
    done = 0.0  # entries; a cache leaves some of the total undone

    def stage(way: Key, entries: int) -> Stage:
        nonlocal done
        done += entries
        return Stage(f"decoding {case.name}: {way[0]}, {shown(case, way[1])} latents", min(done, total), total)

    outcomes = yield from solve_ways(ways, case.train.task, examples, config.batch, stage)
    return {
        (name, n): Level(**vars(its), nll=nll[name][:, :, counts[name].index(n)]) for (name, n), its in outcomes.items()
    }


def shown(case: DialCase, n: int) -> int | str:
    """A count as the table has it."""
    return "all" if n == case.counts[-1] else n


def _levels(case: DialCase, levels: dict[Key, Level]) -> list[Row]:
    return [
        TABLE.row(
            "dial",
            task=case.name,
            model=name,
            latents=shown(case, n),
            accuracy=level.right,
            nll=level.nll,
            **costs(level, "puzzle"),
            seeds=list(case.seeds),
        )
        for (name, n), level in levels.items()
    ]


def _costs(config: DialStudy, case: DialCase, runs: Path) -> dict[str, float]:
    """FLOPs of each model's training, with those of the models that it needs."""
    own = {r.folder: training_flops(case.job(r, case.seeds[0], runs)[0]) for r in config.rivals}
    return {r.name: own[r.folder] + sum(own[needed] for needed in r.needs) for r in config.rivals}


def _training(config: DialStudy, case: DialCase, cost: dict[str, float]) -> list[Row]:
    return [
        TABLE.row(
            "training",
            task=case.name,
            model=rival.name,
            steps=round(case.train.steps * rival.steps),
            training_flops=cost[rival.name],
        )
        for rival in config.rivals
    ]


def _effects(case: DialCase, levels: dict[Key, Level]) -> list[Row]:
    return [
        TABLE.row(
            "effects",
            task=case.name,
            what=f"{effect.what}: {effect.to} for {effect.of}",
            to=effect.to,
            of=effect.of,
            latents=effect.count,
            solved_more=solved,
            nll_more=nll,
        )
        for effect, nll, solved in effects(levels, case.counts)
    ]


def _claims(
    config: DialStudy, case: DialCase, models: Models, levels: dict[Key, Level], cost: dict[str, float]
) -> Generator[Stage, None, list[Claim]]:
    """Of the first task by their names; of the others with theirs."""
    claims = []
    if config.grouped:
        cached = [r.name for r in config.rivals if r.attention.cacheable]
        claims += better_dial(levels, case.counts, config.ordered, config.recipes, cached)
    if config.top:
        task, every = case.train.task, case.counts[-1]
        once = task.sample(config.split, min(config.top_puzzles, task.size(config.split))).by_size()
        draws = config.top_draws  # a batch of each has candidates of its own
        more = Examples(once.x0.repeat(draws, 1), once.given.repeat(draws, 1))
        ways = {name: (models[name], case.decoding(every)) for name in (config.top, config.best)}
        stage = Stage(f"decoding {case.name} beside all latents", 0, 1)
        found = yield from solve_ways(ways, task, more, config.batch, lambda way, entries: stage)
        shares = {name: its.right.unflatten(1, (draws, len(once))).mean(1) for name, its in found.items()}
        top = shares[config.top], shares[config.best]
        flops = cost[config.top] / cost[config.best]
        claims.append(no_loss(levels, case.counts, config.top, config.best, top, flops))
    of = "" if case == config.cases[0] else f", {case.name}"
    return [replace(its, name=f"{its.name}{of}") for its in claims]


def _notes(config: DialStudy) -> list[str]:
    budgets = "; ".join(case.told for case in config.cases)
    rivals = "; ".join(f"{r.name}: {r.told}" for r in config.rivals if r.told)
    together = ', and those of "grouped dial" are corrected together (Holm)' if config.grouped else ""
    again = f", each decoded {config.top_draws} times with other random candidates" if config.top_draws > 1 else ""
    return [
        f"Budgets: {budgets}.",
        *([f"Models: {rivals}."] if rivals else []),
        f"{config.puzzles} puzzles of the {config.split} split. 95% intervals over seeds and puzzles; each look of a "
        f"claim is paired{together}.",
        "Decoding: one token a pass. Candidates see the latents; under joint latents they see each other too, in a "
        "pass of the same entries: beside none, each candidate sees the other ones. NLL: uniformly random order, one "
        "token beside n others. Joint models without groups were trained beside all that is unsaid, SCDM beside every "
        "number, SIDM beside none (it is measured once).",
        *([f'"No loss at the top": {config.top_puzzles} puzzles{again}.'] if config.top else []),
        "Training FLOPs: a step is three forward passes of its entries. Milliseconds are CPU time, ways in turns.",
    ]

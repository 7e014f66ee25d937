"""Do loops of the same layers solve harder puzzles for their cost? And other changes of a training run, as data.

Every variant is trained from one base, decoded by several commit rules, and compared by share solved, NLL and FLOPs.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unspoken.decoders.slots import Slots
from unspoken.measure.accuracy import Outcome, solve_ways
from unspoken.model.denoiser import Denoiser
from unspoken.study.base import Findings, SeededStudy, check_once, folder_of, loaded, trained
from unspoken.study.compared import Comparison, Look, Size, looks_of, verdicts
from unspoken.study.report import Stage
from unspoken.study.table import Column, Mean, Row, Table, cost_columns, costs
from unspoken.study.trade_off import nll_a_token, saturated
from unspoken.study.variants import Variant
from unspoken.tasks.base import Examples
from unspoken.training.config import Train

_PART, _VARIANT = Column("part", "part"), Column("variant", "variant")


def _millions(flops: float) -> str:
    return f"{flops / 1e6:.3g}"


TABLE = Table(
    "loops",
    {
        "decoding": (
            _PART,
            _VARIANT,
            Column("commit", "what"),
            Mean("accuracy", "solved", share=True),
            *cost_columns("puzzle"),
            Column("seeds"),
        ),
        "training": (
            _PART,
            _VARIANT,
            Column("trunk", "what"),
            Column("steps", "what", ", {} steps".format),
            Column("parameters", "weights", "{:,}".format),
            Column("pass_flops", "a pass", _millions),
            Column("training_flops", "MFLOPs", _millions),
            Mean("nll", "NLL"),
        ),
        "comparisons": (
            _PART,
            Column("claim", "what"),
            Column("mine", "variant"),
            Column("other", "variant", " for {}".format),
            Mean("solved_more", "solved", by_seed=False),
            Column("shown", "solved", lambda yes: "" if yes else " not shown"),
        ),
    },
    "decoding: a variant by a commit rule; passes, MFLOPs and ms a puzzle. training: layers x width, loops, steps, NLL "
    "in nats a token, MFLOPs of a pass over a whole board and of all steps. comparisons: what one variant for another "
    "adds to the share solved, paired, one token a pass. With 95% intervals.",
)
ONE = "one a pass"  # the commit rule of the claims


@dataclass(frozen=True)
class LoopsStudy(SeededStudy):
    """The study's config.

    Attributes:
        train: The base that all variants change; its seed is varied.
        variants: What is trained.
        comparisons: The claims, and which variants belong to them; there may be none.
        thresholds: A pass commits one token, or all those as probable as a threshold: a row for each.
        puzzles: Of the test split.
        batch: Puzzles decoded together.
        draws: Random steps a puzzle in the NLL estimate.
    """

    TABLE = TABLE
    MAY_BE_EMPTY = ("comparisons", "thresholds")

    train: Train
    variants: tuple[Variant, ...]
    comparisons: tuple[Comparison, ...] = ()
    thresholds: tuple[float, ...] = (0.99, 0.9, 0.7)
    puzzles: int = 1000
    batch: int = 250
    draws: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_once("variants, by their folders,", [folder_of(its.name) for its in self.variants])
        for its in self.variants:
            its.check(self.train)
        names = [its.name for its in self.variants]
        if strange := [name for c in self.comparisons for name in (c.mine, c.other) if name not in names]:
            raise ValueError(f"{strange[0]!r} is none of the variants; give one of {'; '.join(names)}")
        if not all(0 < t < 1 for t in self.thresholds):
            raise ValueError(f"thresholds={self.thresholds}: give probabilities between 0 and 1")

    def budget(self) -> str:
        train, names = self.train, "; ".join(its.name for its in self.variants)
        runs, rules = len(self.variants) * len(self.seeds), 1 + len(self.thresholds)
        return (
            f"{runs} runs on {train.task.title}, {len(self.seeds)} seed(s) of each of: {names}. The base has "
            f"{train.steps} steps of {train.batch}. Then {self.puzzles} puzzles of the test split "
            f"by {rules} commit rules"
        )

    def decodings(self) -> dict[str, Slots]:
        """The commit rules by name; all that is unsaid is a candidate."""
        every = self.train.task.length
        several = {f"threshold {t:g}": Slots(candidates=every, commit=every, threshold=t) for t in self.thresholds}
        return {ONE: Slots(candidates=every), **several}

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        sizes = {its.name: Size.of(its.train(self.train)) for its in self.variants}
        for comparison in self.comparisons:
            comparison.check(sizes)
        jobs = {its.name: [its.job(self.train, seed, runs) for seed in self.seeds] for its in self.variants}
        yield from trained([job for its in jobs.values() for job in its], self.workers)
        models = {name: loaded(its, None) for name, its in jobs.items()}
        test = self.train.task.sample("test", self.puzzles).by_size()
        nll = yield from _likelihoods(self, models, test)
        outcomes = yield from _decoded(self, models, test)
        right = {its.name: outcomes[its.name, ONE].right for its in self.variants}
        looks = looks_of(self.comparisons, right)
        rows = [*_decoding(self, outcomes), *_training(self, sizes, nll), *_comparisons(looks)]
        return rows, verdicts(looks, right, sizes), _notes(self, right)


Models = Mapping[str, Sequence[Denoiser]]  # by variant, a model a seed
Key = tuple[str, str]  # a variant's name, and a commit rule's


def _likelihoods(config: LoopsStudy, models: Models, test: Examples) -> Generator[Stage, None, dict[str, Tensor]]:
    """`[seeds, puzzles]` nats a token of every variant, beside all latents where it looks at any."""
    found = {}
    for done, (name, its) in enumerate(models.items()):
        yield Stage(f"likelihood: {name}", done, len(models))
        n = 0 if its[0].attention.latents == "alone" else config.train.task.length
        found[name] = torch.stack([nll_a_token(model, test, [n], config.draws)[:, 0] for model in its])
    return found


def _decoded(config: LoopsStudy, models: Models, test: Examples) -> Generator[Stage, None, dict[Key, Outcome]]:
    ways = {
        (name, commit): (its, decoding)
        for name, its in models.items()
        for commit, decoding in config.decodings().items()
    }
    free, length = int((~test.given).sum()), config.train.task.length
    total = float(len(ways) * len(config.seeds) * free * length)
    done = 0.0  # entries; a cache, and several tokens a pass, leave some of the total undone

    def stage(way: Key, entries: int) -> Stage:
        nonlocal done
        done += entries
        return Stage(f"decoding: {way[0]}, {way[1]}", min(done, total), total)

    return (yield from solve_ways(ways, config.train.task, test, config.batch, stage))


def _decoding(config: LoopsStudy, outcomes: Mapping[Key, Outcome]) -> list[Row]:
    return [
        TABLE.row(
            "decoding",
            variant=name,
            commit=commit,
            accuracy=its.right,
            **costs(its, "puzzle"),
            seeds=list(config.seeds),
        )
        for (name, commit), its in outcomes.items()
    ]


def _training(config: LoopsStudy, sizes: Mapping[str, Size], nll: Mapping[str, Tensor]) -> list[Row]:
    trains = {its.name: its.train(config.train) for its in config.variants}
    return [
        TABLE.row(
            "training",
            variant=name,
            trunk=train.trunk.told,
            steps=train.steps,
            nll=nll[name],
            **vars(sizes[name]),
        )
        for name, train in trains.items()
    ]


def _comparisons(looks: Sequence[Look]) -> list[Row]:
    return [
        TABLE.row(
            "comparisons",
            claim=look.its.claim,
            mine=look.its.mine,
            other=look.its.other,
            solved_more=look.gain,
            shown=look.shown,
        )
        for look in looks
    ]


def _notes(config: LoopsStudy, right: Mapping[str, Tensor]) -> list[str]:
    train = config.train
    over = "seeds and puzzles" if len(config.seeds) > 1 else "puzzles (one seed: what another would change is unknown)"
    return [
        f"Base: {train.task.title}, {train.steps} steps of {train.batch}, {train.trunk.told}, {train.attention.name}. "
        f"Variants: {'; '.join(its.told for its in config.variants)}.",
        f"{len(config.seeds)} seed(s), {config.puzzles} puzzles of the test split; 95% intervals over {over}. The "
        "comparisons of all claims are paired and corrected together (Holm), their intervals are not.",
        "Decoding: greedy, all that is unsaid is a candidate, the most confident first; a cache is kept where the "
        "attention allows one. NLL: uniformly random order. Training FLOPs: a step is three forward passes of its "
        "entries. Milliseconds are CPU time (of a GPU, the clock's), the variants in turns.",
        "The NLL of a model that carries states is that of a first pass, which reads none. That a difference is not "
        "shown does not say that there is none. Learning rate and first weights are the base's for all.",
        *(f"SATURATED: {name}; its accuracy can show no difference." for name, its in right.items() if saturated(its)),
    ]

"""How fast can latent tokens be made, at the same accuracy? What each ingredient of the decoder saves.

The baseline is what users of masked diffusion get today: everything recomputed, one token a pass, rows that are done
waiting. Against it: rows that leave, a cache, several tokens a pass, stale latents, chosen and adaptive ones.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from unspoken.decoders.slots import Slots
from unspoken.layout.attention import ATTENTIONS, CACHED_JOINT, MDM, SCDM
from unspoken.measure.accuracy import Outcome, solve_in_turns, solve_ways, solved
from unspoken.measure.intervals import interval
from unspoken.measure.policies import cells, curves_of
from unspoken.model.denoiser import Denoiser
from unspoken.study.base import Findings, SeededStudy, check_positive, check_rising, loaded, trained
from unspoken.study.report import Stage
from unspoken.study.speed import BASE, OURS, SAME_RULE, Key, faster, floor_of, quarter
from unspoken.study.table import Column, Mean, Row, Table, cost_columns, costs, count
from unspoken.tasks.base import Examples, Task
from unspoken.training.config import Train
from unspoken.training.loop import new_denoiser
from unspoken.training.pool import Job

SEVERAL = "cached, several a pass"
_WAY = (Column("part", "part"), Column("way", "way"))
_BATCH = Column("batch", "batch")
_COSTS = cost_columns("puzzle")
_RATIOS = (Column("fewer_flops", "fewer FLOPs", "{:.1f}x".format), Column("faster", "faster", "{:.1f}x".format))
TABLE = Table(
    "decode",
    {
        "ways": (
            *_WAY,
            Column("model"),
            _BATCH,
            Column("latents", "latents", count),
            *(Column(name) for name in ("threshold", "entropy", "widen")),
            Mean("accuracy", "solved", share=True),
            Column("difference"),
            *_COSTS[:2],
            Column("latents_per_pass"),
            *_COSTS[2:],
            *_RATIOS,
        ),
        "clock": (*_WAY, _BATCH, Column("commit"), *_COSTS, *_RATIOS),
        "latents": (
            _WAY[0],
            Column("policy", "way"),
            Column("latents", "latents"),
            Mean("accuracy", "solved", share=True),
            Mean("nll", "NLL", by_seed=False, optional=True),
        ),
    },
    "ways: to decode the trained models, beside the baseline at the same batch. clock: the larger shape, random "
    "weights. latents: SCDM beside so many of a policy. With 95% intervals; NLL in nats a token.",
    headings=(
        *("part", "way", "batch", "latents", "solved", "NLL"),
        *("entries", "passes", "MFLOPs", "ms", "fewer FLOPs", "faster"),
    ),
)


@dataclass(frozen=True)
class DecodeStudy(SeededStudy):
    """The study's config.

    Attributes:
        train: The budget of MDM and the cached model; its attention and seed are varied.
        dial: That of SCDM, for the curves of the latents.
        puzzles: Of the test split; the curves of the latents take half of them.
        held_out: Puzzles of validation.
        batches: Puzzles decoded together. At 1 only every tenth puzzle is decoded.
        thresholds: Probabilities that all but the first token of a pass must have; validation chooses.
        entropies: Nats that the tokens of a pass but the last may sum to (EB-sampler); validation chooses.
        split: See `decode`: of the ways whose rows part.
        refreshed: Latents a pass where the others are stale; validation chooses.
        counts: Latents of SCDM, for each policy; the last means all.
        draws: Random steps a puzzle in the NLL estimates.
        clock: A run of the shape that the wall clock is read at; its weights stay random.
        clock_batches: Puzzles decoded together there.
    """

    TABLE = TABLE

    train: Train
    dial: Train
    clock: Train
    puzzles: int = 1000
    held_out: int = 500
    batches: tuple[int, ...] = (1, 16, 64)
    thresholds: tuple[float, ...] = (0.98, 0.99, 0.995, 0.998)
    entropies: tuple[float, ...] = (0.02, 0.05, 0.1)
    split: float = 0.02
    refreshed: tuple[int, ...] = (4, 8)
    counts: tuple[int, ...] = (0, 1, 2, 3, 4, 8, 12, 16, 32, 36)
    draws: int = 8
    clock_batches: tuple[int, ...] = (16, 64)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rising("counts", self.counts, self.train.task.length)
        for name in ("batches", "clock_batches"):
            check_positive(name, *getattr(self, name))
        if self.puzzles < 10:
            raise ValueError(f"puzzles={self.puzzles}: give 10 or more; at batch 1 every tenth is decoded")
        if not all(0 < t <= 1 for t in self.thresholds):
            raise ValueError(f"thresholds={self.thresholds}: give probabilities")

    def budget(self) -> str:
        train = self.train
        return (
            f"MDM and a cached model: {len(self.seeds)} seed(s) of {train.steps} steps of {train.batch} on "
            f"{train.task.title}, SCDM of {self.dial.steps}; then {self.puzzles} held-out puzzles in "
            f"{len(self.families())} ways at batches {', '.join(map(str, self.batches))}"
        )

    def job(self, name: str, seed: int, runs: Path) -> Job:
        """The training run of a model, and its folder."""
        train = self.dial if name == SCDM.name else self.train
        return replace(train, attention=ATTENTIONS[name], seed=seed), runs / f"{name}-seed{seed}"

    def families(self) -> dict[str, tuple[str, list[Slots]]]:
        """Each way's model and the settings that validation chooses among, the baseline first."""
        every, at, cached = self.train.task.length, self.thresholds, CACHED_JOINT.name
        one, most = Slots(candidates=every), Slots(candidates=every, commit=every)
        several = [replace(most, threshold=t) for t in at] + [replace(most, entropy_bound=e) for e in self.entropies]
        few = Slots(commit=8, latent_policy="uncertain", rebatch=self.split)
        stale = replace(few, stale=True, order="promising", latent_policy="oldest")
        return {
            BASE: (MDM.name, [replace(one, keep_finished=True)]),
            "MDM, one a pass": (MDM.name, [one]),
            "MDM, several a pass": (MDM.name, several),
            "cached, one a pass": (cached, [one]),
            SEVERAL: (cached, several),
            "+ stale latents": (cached, [replace(stale, latents=n, threshold=t) for n in self.refreshed for t in at]),
            "+ chosen latents": (cached, [replace(few, latents=n, threshold=t) for n in self.refreshed for t in at]),
            "+ adaptive latents": (cached, [replace(few, latents=8, min_confidence=t, threshold=t) for t in at]),
        }

    def choose(self, models: Models, held_out: Examples) -> Generator[Stage, None, dict[str, Choice]]:
        """Of each family the cheapest setting that keeps the baseline's accuracy; and of all of them, ours."""
        families, chosen, floor = self.families(), {}, 0.0
        for done, (way, (name, settings)) in enumerate(families.items()):
            yield Stage(f"choosing on validation: {way}", done, len(families))
            found = [tried(name, models[name], self.train.task, held_out, d) for d in settings]
            if way == BASE:
                floor = found[0].low
            chosen[way] = cheapest(found, floor)
        several = chosen[SEVERAL]
        # Exact, so nothing is to be chosen: they show what a cache, and passes of their own, are worth.
        for way, its in {"+ rows part": {"rebatch": self.split}, "without the cache": {"cache": False}}.items():
            decoding = replace(several.decoding, **its)
            chosen[way] = tried(several.model, models[several.model], self.train.task, held_out, decoding)
        ours = chosen[OURS] = cheapest(list(chosen.values()), floor)
        rule = {name: getattr(ours.decoding, name) for name in ("commit", "threshold", "entropy_bound")}
        same = Slots(candidates=self.train.task.length, **rule)
        chosen[SAME_RULE] = tried(MDM.name, models[MDM.name], self.train.task, held_out, same)
        return chosen

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        task = self.train.task
        test, held_out = task.sample("test", self.puzzles), task.sample("validation", self.held_out)
        names = (MDM.name, SCDM.name, CACHED_JOINT.name)
        yield from trained([self.job(name, seed, runs) for seed in self.seeds for name in names], self.workers)
        models = {name: loaded([self.job(name, seed, runs) for seed in self.seeds]) for name in names}
        chosen = yield from self.choose(models, held_out)
        table: dict[Key, Outcome] = {}
        for done, batch in enumerate(self.batches):
            stage = Stage(f"decoding: {batch} together", done, len(self.batches))
            some = test if batch > 1 else Examples(test.x0[::10], test.given[::10])
            ways = {(way, batch): (models[its.model], its.decoding) for way, its in chosen.items()}
            table |= yield from solve_ways(ways, task, some, batch, lambda way, entries, at=stage: at)
        yield Stage("the clock at a larger shape", 0, 1)
        clock = _clock(self, table, chosen[OURS])
        half, curves = test.split(max(1, self.puzzles // 2))[0], []
        for curve in curves_of(task, models[SCDM.name], half, self.counts, self.draws):
            curves.append(curve)
            yield Stage(f"which latents: {curve.policy}", len(curves), len(cells(self.counts)))
        rows = [_row(chosen, key, its, table[BASE, key[1]]) for key, its in table.items()] + clock
        rows += [TABLE.row("latents", **vars(curve)) for curve in curves]
        return rows, [*faster(table, clock), quarter(curves)], _notes(self, chosen)


Models = dict[str, list[Denoiser]]  # by name, a model a seed


@dataclass(frozen=True)
class Choice:
    """A way to decode a model, and what it gave on validation: share solved, the least that is as good, FLOPs."""

    model: str
    decoding: Slots
    accuracy: float
    low: float
    flops: float


def tried(name: str, models: Sequence[Denoiser], task: Task, held_out: Examples, decoding: Slots) -> Choice:
    """A setting on validation."""
    its = Outcome.of([[solved(model, task, held_out, decoding, 64) for model in models]])
    return Choice(name, decoding, float(its.right.mean()), floor_of(its.right), its.flops)


def cheapest(choices: Sequence[Choice], floor: float) -> Choice:
    """The fewest FLOPs of those that reach the accuracy `floor`; where none does, the most accurate."""
    good = [c for c in choices if c.accuracy >= floor]
    return min(good, key=lambda c: c.flops) if good else max(choices, key=lambda c: (c.accuracy, -c.flops))


def _clock(config: DecodeStudy, table: dict[Key, Outcome], chosen: Choice) -> list[Row]:
    """Seconds at the larger shape: the baseline, and ours saying as many tokens a pass as on the trained task."""
    task, rows = config.clock.task, []
    baseline, fast = (new_denoiser(replace(config.clock, attention=a)) for a in (MDM, ATTENTIONS[chosen.model]))
    unsaid = float((~config.train.task.sample("test", config.puzzles).given).sum(1).double().mean())
    commit = max(1, int(unsaid / table[OURS, max(config.batches)].passes))
    one = Slots(candidates=task.length)
    several = replace(one, commit=commit)
    ours = replace(chosen.decoding, candidates=task.length, commit=commit, threshold=0.0, entropy_bound=inf)
    ways = {BASE: (baseline, replace(one, keep_finished=True)), SAME_RULE: (baseline, several), OURS: (fast, ours)}
    for batch in config.clock_batches:
        found = solve_in_turns(ways, task, task.sample("test", batch))
        base = found[BASE]
        for way, its in found.items():
            ratios = {"fewer_flops": base.flops / its.flops, "faster": base.seconds / its.seconds}
            said = 1 if way == BASE else commit
            rows.append(TABLE.row("clock", way=way, batch=batch, commit=said, **costs(its, "puzzle"), **ratios))
    return rows


def _row(chosen: dict[str, Choice], key: Key, its: Outcome, base: Outcome) -> Row:
    way, batch = key
    decoding = chosen[way].decoding
    return TABLE.row(
        "ways",
        way=way,
        model=chosen[way].model,
        batch=batch,
        latents=decoding.latents,
        threshold=decoding.threshold,
        entropy=decoding.entropy_bound if decoding.entropy_bound < inf else None,
        widen=decoding.min_confidence,
        accuracy=its.right,
        difference=list(interval(its.right - base.right)),
        latents_per_pass=its.latents,
        fewer_flops=base.flops / its.flops,
        faster=base.seconds / its.seconds,
        **costs(its, "puzzle"),
    )


def _notes(config: DecodeStudy, chosen: dict[str, Choice]) -> list[str]:
    ours = chosen[OURS]
    return [
        f"{len(config.seeds)} seed(s) of {config.train.steps} steps for each model ({config.dial.steps} for SCDM); "
        f"{config.puzzles} held-out puzzles (at batch 1 every tenth); 95% intervals over seeds and puzzles.",
        f"Every way takes, of its settings, the fewest FLOPs whose accuracy on {config.held_out} validation puzzles is "
        "in the baseline's interval there; where none is, the most accurate. MDM by ours' rule takes what ours takes.",
        f"Ours: {ours.model}, {ours.decoding}.",
        f"The clock is read on {config.clock.task.title}, a trunk of {config.clock.trunk.width} x "
        f"{config.clock.trunk.layers} with random weights: there ours says as many tokens a pass, at any confidence, "
        "as it said on the trained task (rounded down). Accuracy there is not shown: two cores do not train it.",
        "Seconds are CPU time of one process, ways in turns; ratios are of one run.",
    ]

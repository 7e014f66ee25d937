"""How fast can latent tokens be made, at the same accuracy? What each ingredient of the decoder saves.

The baseline is what users of masked diffusion get today: everything recomputed, one token a pass, rows that are done
waiting. Against it: rows that leave, a cache, several tokens a pass, and few latents, stale, chosen or adaptive, of a
model that was trained in groups.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from unspoken.decoders.policies import LatentPolicy
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import ATTENTIONS, CACHED_JOINT, MDM
from unspoken.measure.accuracy import Outcome, solve_ways
from unspoken.measure.intervals import Estimate, interval
from unspoken.measure.policies import cells, curves_of, policies_of
from unspoken.model.denoiser import Denoiser
from unspoken.study.base import Findings, SeededStudy, check_positive, check_rising, loaded, trained
from unspoken.study.choices import BEHIND, TOGETHER, Choice, cheapest, tried
from unspoken.study.report import Stage
from unspoken.study.speed import (
    BASE,
    FASTEST,
    FASTEST_RULE,
    OURS,
    OWN,
    SAME_RULE,
    Key,
    faster,
    floor_of,
    quarter,
)
from unspoken.study.table import Column, Mean, Row, Table, cost_columns, costs, count
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.objective import MaskedDiffusion
from unspoken.training.pool import Job

CACHED, DIAL = CACHED_JOINT.name, "grouped"  # the models with a cache: trained beside all latents, and in groups
PARTED = "+ rows part"
TIMED = 256  # validation puzzles that the costs of ways are measured on
_COSTS = cost_columns("puzzle")
TABLE = Table(
    "decode",
    {
        "ways": (
            Column("part", "part"),
            Column("way", "way"),
            Column("model"),
            Column("batch", "batch"),
            Column("latents", "latents", count),
            Column("candidates", optional=True),
            *(Column(name) for name in ("policy", "threshold", "entropy", "widen")),
            Mean("accuracy", "solved", share=True),
            Column("difference"),
            *_COSTS[:2],
            Column("latents_per_pass"),
            *_COSTS[2:],
            Column("fewer_flops", "fewer FLOPs", "{:.1f}x".format),
            Column("faster", "faster", "{:.1f}x".format),
            Column("faster_interval"),
        ),
        "latents": (
            Column("part", "part"),
            Column("policy", "way"),
            Column("latents", "latents"),
            Mean("accuracy", "solved", share=True),
            Mean("nll", "NLL", by_seed=False, optional=True),
        ),
    },
    "ways: to decode the trained models, beside the baseline at the same batch. latents: the model in groups beside so "
    "many of a policy. With 95% intervals; NLL in nats a token.",
    headings=(
        *("part", "way", "batch", "latents", "solved", "NLL"),
        *("entries", "passes", "MFLOPs", "ms", "fewer FLOPs", "faster"),
    ),
)


@dataclass(frozen=True)
class DecodeStudy(SeededStudy):
    """The study's config.

    Attributes:
        train: The budget of MDM and of a model with a cache; its attention and seed are varied.
        dial: The run of a model with a cache that is trained in groups; its seed is varied.
        puzzles: Of the test split; the curves of the latents take half of them.
        held_out: Puzzles of validation.
        batches: Puzzles decoded together.
        thresholds: Probabilities that all but the first token of a pass must have; validation chooses.
        entropies: Nats that the tokens of a pass but the last may sum to (EB-sampler); validation chooses.
        split: See `Slots.rebatch`: of the ways whose rows part.
        few: Latents beside eight candidates.
        counts: Latents of the curves, for each policy; the last means all.
        candidates: Of the curves.
        draws: Random steps a puzzle in the NLL estimates.
    """

    TABLE = TABLE

    train: Train
    dial: Train
    puzzles: int = 1000
    held_out: int = 2000
    batches: tuple[int, ...] = (16, 64)
    thresholds: tuple[float, ...] = (0.98, 0.99, 0.995, 0.998)
    entropies: tuple[float, ...] = (0.02, 0.05, 0.1)
    split: float = 0.02
    few: int = 8
    counts: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 36)
    candidates: int = 8
    draws: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rising("counts", self.counts, self.train.task.length)
        check_positive("batches", *self.batches)
        if self.dial.task != self.train.task:
            raise ValueError(f"dial.task={self.dial.task}, and train.task={self.train.task}: give both one task")
        objective = self.dial.objective
        if not (self.dial.attention.cacheable and isinstance(objective, MaskedDiffusion) and objective.groups):
            name = self.dial.attention.name
            raise ValueError(
                f"dial.attention={name}, dial.objective={objective}: its latents are in groups and its context is "
                "cached; give CACHED_JOINT, and MaskedDiffusion with groups"
            )
        if len(self.thresholds) < 2 or not all(0 < t <= 1 for t in self.thresholds):
            raise ValueError(f"thresholds={self.thresholds}: give two probabilities or more, in (0, 1]")

    def budget(self) -> str:
        of = f"{self.train.steps} steps of {self.train.batch}"
        dial = f"{self.dial.steps} of {self.dial.batch}"
        batches = ", ".join(map(str, self.batches))
        return (
            f"MDM and a model with a cache, {of}, and one in groups, {dial}, on {self.train.task.title}: "
            f"{len(self.seeds)} seed(s); then {self.puzzles} puzzles of the test split at batches {batches}"
        )

    def job(self, name: str, seed: int, runs: Path) -> Job:
        """The training run of a model, and its folder."""
        train = self.dial if name == DIAL else replace(self.train, attention=ATTENTIONS[name])
        return replace(train, seed=seed), runs / f"{name}-seed{seed}"

    def families(self, policies: dict[str, LatentPolicy]) -> dict[str, tuple[str, list[Slots]]]:
        """Each way's model and the settings that validation chooses among, the baseline first.

        Few latents alone take the two highest of the thresholds: where little is seen, less is sure.
        """
        every, high = self.train.task.length, sorted(self.thresholds)[-2:]
        most = Slots(candidates=every, commit=every)
        several = [replace(most, threshold=t) for t in self.thresholds]
        several += [replace(most, entropy_bound=e) for e in self.entropies]
        few = Slots(self.few, commit=8, rebatch=self.split)
        chosen = [replace(few, latent_policy=policies[name]) for name in ("attended", "nearest")]
        stale = [
            Slots(self.few // 2, c, commit=c, order="promising", latent_policy="oldest", stale=True, rebatch=self.split)
            for c in (8, 16)
        ]
        return {
            BASE: (MDM.name, [Slots(candidates=every, keep_finished=True)]),
            OWN: (MDM.name, several),
            PARTED: (CACHED, [replace(its, rebatch=self.split) for its in several]),
            "in groups, rows part": (DIAL, [replace(its, rebatch=self.split) for its in several]),
            "+ chosen latents": (DIAL, [replace(its, threshold=t) for its in chosen for t in high]),
            "+ adaptive latents": (
                DIAL,
                [replace(chosen[0], order="promising", min_confidence=t, threshold=t) for t in high],
            ),
            "+ stale latents": (DIAL, [replace(its, threshold=t) for its in stale for t in high]),
        }

    def choose(self, models: Models, held_out: Examples) -> Generator[Stage, None, dict[str, Choice]]:
        """Of each family the cheapest setting that keeps the baseline's accuracy; of all, ours by FLOPs and by time.

        Those two are found by decoding some of the puzzles as they are decoded on test: so many together, in turns.
        """
        task, families = self.train.task, self.families(policies_of(self.train.task, models[DIAL]))
        chosen: dict[str, Choice] = {}
        base, floor = None, 0.0
        for done, (way, (name, settings)) in enumerate(families.items()):
            yield Stage(f"choosing on validation: {way}", done, len(families))
            found = [tried(name, models[name], task, held_out, decoding, base) for decoding in settings]
            base = found[0][1] if base is None else base
            floor = floor_of(base)
            chosen[way] = cheapest([its for its, _ in found], floor)
        chosen |= self._exact(chosen)
        good = [its for its in chosen.values() if its.accuracy >= floor]
        ways = {its.way: (models[its.model], its.decoding) for its in good}
        stage, some = Stage("costs on validation", 0, 1), held_out.split(TIMED)[0]
        costs_of = yield from solve_ways(ways, task, some, max(self.batches), lambda way, entries: stage)
        chosen[OURS] = min(good, key=lambda its: costs_of[its.way].flops)
        chosen[FASTEST] = min(good, key=lambda its: costs_of[its.way].seconds)
        for way, mine in ((SAME_RULE, OURS), (FASTEST_RULE, FASTEST)):
            chosen[way] = Choice(MDM.name, self._same_rule(chosen[mine].decoding))
        return chosen

    def _exact(self, chosen: dict[str, Choice]) -> dict[str, Choice]:
        """Nothing is to be chosen of these: they say what another way says, at another cost."""
        parted = chosen[PARTED]
        together = replace(parted.decoding, rebatch=0.0)
        one = Slots(candidates=self.train.task.length)
        return {
            "MDM, one a pass": replace(chosen[BASE], decoding=one),
            "cached, several a pass": replace(parted, decoding=together),
            "without the cache": replace(parted, decoding=replace(together, cache=False)),
        }

    def _same_rule(self, decoding: Slots) -> Slots:
        """How many tokens are committed, and nothing else, is another's."""
        rule = {name: getattr(decoding, name) for name in ("commit", "threshold", "entropy_bound")}
        return Slots(candidates=self.train.task.length, **rule)

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        task, names = self.train.task, (MDM.name, CACHED, DIAL)
        test, held_out = task.sample("test", self.puzzles), task.sample("validation", self.held_out)
        yield from trained([self.job(name, seed, runs) for seed in self.seeds for name in names], self.workers)
        models = {name: loaded([self.job(name, seed, runs) for seed in self.seeds]) for name in names}
        chosen = yield from self.choose(models, held_out)
        for way, name in (("cached, one a pass", CACHED), ("in groups, one a pass", DIAL)):
            chosen[way] = Choice(name, Slots(candidates=task.length))
        table: dict[Key, Outcome] = {}
        for done, batch in enumerate(self.batches):
            stage = Stage(f"decoding: {batch} together", done, len(self.batches))
            ways = {its.way: (models[its.model], its.decoding) for its in chosen.values()}
            found = yield from solve_ways(ways, task, test, batch, lambda way, entries, at=stage: at)
            table |= {(way, batch): found[its.way] for way, its in chosen.items()}
        half, curves = test.split(max(1, self.puzzles // 2))[0], []
        for curve in curves_of(task, models[DIAL], half, self.counts, self.draws, self.candidates):
            curves.append(curve)
            yield Stage(f"which latents: {curve.policy}", len(curves), len(cells(self.counts)))
        rows = [_row(chosen[way], (way, batch), its, table[BASE, batch]) for (way, batch), its in table.items()]
        rows += [TABLE.row("latents", **vars(curve)) for curve in curves]
        return rows, [*faster(table), quarter(curves)], _notes(self, chosen)


Models = dict[str, list[Denoiser]]  # by name, a model a seed


def _row(chosen: Choice, key: Key, its: Outcome, base: Outcome) -> Row:
    way, batch = key
    decoding, times = chosen.decoding, Estimate.of_ratios(base.by_seed, its.by_seed)
    return TABLE.row(
        "ways",
        way=way,
        model=chosen.model,
        batch=batch,
        latents=decoding.latents,
        candidates=decoding.candidates,
        policy=_named(decoding.latent_policy),
        threshold=decoding.threshold,
        entropy=decoding.entropy_bound if decoding.entropy_bound < inf else None,
        widen=decoding.min_confidence,
        accuracy=its.right,
        difference=list(interval(its.right - base.right)),
        latents_per_pass=its.latents,
        fewer_flops=base.flops / its.flops,
        faster=times.mean,
        faster_interval=[times.low, times.high],
        **costs(its, "puzzle"),
    )


def _named(policy: str | LatentPolicy) -> str:
    return policy if isinstance(policy, str) else policy.name


def _notes(config: DecodeStudy, chosen: dict[str, Choice]) -> list[str]:
    names = {its.way: way for way, its in chosen.items() if way not in (OURS, FASTEST, SAME_RULE, FASTEST_RULE)}
    ours, fastest = names[chosen[OURS].way], names[chosen[FASTEST].way]
    train, dial = config.train, config.dial
    return [
        f"{len(config.seeds)} seed(s). MDM and the model with a cache: {train.steps} steps of {train.batch}. The one "
        f"in groups, with a cache too: {dial.steps} steps of {dial.batch}, {dial.objective}.",
        f"{config.puzzles} puzzles of the test split; 95% intervals over seeds and puzzles. Every way takes, of its "
        f"settings, the fewest FLOPs whose accuracy on {config.held_out} validation puzzles is in the baseline's "
        f"interval there; where none is, the most accurate. What falls {BEHIND} behind that on the puzzles so far "
        f"(after each {TOGETHER}) is tried on no more.",
        f"Ours, by FLOPs: {ours}. By the clock: {fastest}. Of all that are as accurate, they cost the least on {TIMED} "
        "validation puzzles. MDM by the same rule commits by the same commit, threshold and entropy bound.",
        "Seconds are CPU time of one process and all its threads (of a GPU, the clock's); the ways take turns, and "
        "ratios are of the same turn.",
        f"Which latents: {config.candidates} candidates, one token a pass. Attended ones go by the mean of the seeds' "
        "relations.",
    ]

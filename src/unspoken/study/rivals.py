"""What the study of the dial compares: models of one budget, on tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from unspoken.decoders.slots import Slots
from unspoken.layout.attention import Attention
from unspoken.layout.groups import Groups, Related
from unspoken.measure.relation import relation_of
from unspoken.study.base import check_once, check_rising, folder_of
from unspoken.training.config import Train
from unspoken.training.loading import checkpoint_folder, load
from unspoken.training.objective import MaskedDiffusion
from unspoken.training.pool import Job
from unspoken.training.run import Run
from unspoken.training.seeds import seeded


@dataclass(frozen=True)
class Rival:
    """A model of the study.

    Attributes:
        name: In the table and the folders.
        attention: Who may look at whom.
        groups: How its latents are grouped in training; by default they are not.
        steps: Over the task's.
        lr: Over the task's.
        start: The folder of the rival whose weights it begins with, e.g. cached-joint.
        related: The folder of the rival whose relation says who goes with whom in its groups.
    """

    name: str
    attention: Attention
    groups: Groups | None = None
    steps: float = 1.0
    lr: float = 1.0
    start: str = ""
    related: str = ""

    @property
    def folder(self) -> str:
        """What its runs are called."""
        return folder_of(self.name)

    @property
    def needs(self) -> set[str]:
        """The folders of the rivals that must be trained before it."""
        return {self.start, self.related} - {""}

    @property
    def told(self) -> str:
        """How it is trained otherwise than the others."""
        said = [str(self.groups)] if self.groups is not None else []
        said += [f"{self.steps:g} times the steps"] if self.steps != 1 else []
        said += [f"{self.lr:g} times the learning rate"] if self.lr != 1 else []
        said += [f"from the weights of {self.start}"] if self.start else []
        said += [f"members by the relation of {self.related}"] if self.related else []
        return ", ".join(said)


@dataclass(frozen=True)
class DialCase:
    """A task and the budget that all models share on it.

    Attributes:
        name: In the table and the folders.
        train: Its objective, attention and seed are varied; steps, learning rate and first weights where a model says
            so, and the rate rises over a tenth of the steps at most.
        counts: Latents at decoding, rising from 0; the last must cover the sequence and means all.
        candidates: Of decoding.
        seeds: Training seeds.
        order: Of decoding: which candidate is said first.
        temperature: Of decoding; above 0 where nothing is given, and the likeliest answer would be the only one.
    """

    name: str
    train: Train
    counts: tuple[int, ...]
    candidates: int = 8
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    order: str = "confidence"
    temperature: float = 0.0

    def __post_init__(self) -> None:
        check_rising("counts", self.counts, self.train.task.length)
        self.decoding(0)  # it checks what it is given
        check_once("seeds", self.seeds)

    def job(self, rival: Rival, seed: int, runs: Path) -> Job:
        """The training run of a model, and its folder; what it needs must be there."""
        of = runs.resolve() / self.name
        folder, groups, trunk = of / f"{rival.folder}-seed{seed}", rival.groups, self.train.trunk
        if rival.related and groups is not None:
            groups = replace(groups, members=self._members(folder, of / f"{rival.related}-seed{seed}"))
        if rival.start:
            trunk = replace(trunk, checkpoint=str(checkpoint_folder(of / f"{rival.start}-seed{seed}")))
        steps = round(self.train.steps * rival.steps)
        train = replace(
            self.train,
            attention=rival.attention,
            objective=MaskedDiffusion(groups=groups),
            trunk=trunk,
            steps=steps,
            warmup=min(self.train.warmup, steps // 10),
            lr=self.train.lr * rival.lr,
            seed=seed,
        )
        return train, folder

    def _members(self, folder: Path, of: Path) -> Related:
        """The relation of another run's model; of a run that has begun, the one that it began with."""
        if Run(folder).exists():
            begun = Run(folder).config(Train).objective
            if isinstance(begun, MaskedDiffusion) and begun.groups and isinstance(begun.groups.members, Related):
                return begun.groups.members
        model = load(of, "cpu")
        examples = self.train.task.sample("train", 512, seeded("relation examples"))
        return Related.of(relation_of(model, examples.x0, examples.given, generator=seeded("relation")))

    def counts_of(self, rival: Rival) -> tuple[int, ...]:
        """At which counts a model is measured: those that look at no latent are the same at all."""
        return self.counts[:1] if rival.attention.latents == "alone" else self.counts

    def decoding(self, n: int) -> Slots:
        """How a model is decoded beside n latents."""
        latents = None if n == self.counts[-1] else n
        return Slots(latents, self.candidates, order=self.order, temperature=self.temperature)

    @property
    def told(self) -> str:
        """Its budget, and how it is decoded."""
        train = self.train
        drawn = f"drawn at temperature {self.temperature:g}" if self.temperature else "greedy"
        return (
            f"{self.name}: {train.task.title}, {train.steps} steps of {train.batch}, {train.trunk.told}, "
            f"{len(self.seeds)} seed(s), {self.candidates} candidates, order {self.order}, {drawn}"
        )

"""What the study of the dial compares: models of one budget, on tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from unspoken.decoders.slots import Slots
from unspoken.layout.attention import Attention
from unspoken.layout.groups import Groups, Related
from unspoken.measure.relation import relation_of
from unspoken.study.base import check_once, check_rising
from unspoken.training.config import Train
from unspoken.training.loop import checkpoint_folder, load, seeded
from unspoken.training.objective import MaskedDiffusion
from unspoken.training.pool import Job


@dataclass(frozen=True)
class Rival:
    """A model of the study.

    Attributes:
        name: In the table and the folders.
        attention: Who may look at whom.
        groups: How its latents are grouped in training; by default they are not.
        longer: Its steps over the task's.
        faster: Its learning rate over the task's.
        start: The rival whose weights it begins with.
        related: The rival whose relation says who goes with whom in its groups.
    """

    name: str
    attention: Attention
    groups: Groups | None = None
    longer: float = 1.0
    faster: float = 1.0
    start: str = ""
    related: str = ""

    @property
    def folder(self) -> str:
        """What its runs are called."""
        return self.name.lower().replace(",", "").replace(" ", "-").replace("_", "-")

    @property
    def told(self) -> str:
        """How it is trained otherwise than the others."""
        said = [str(self.groups)] if self.groups is not None else []
        said += [f"{self.longer:g} times the steps"] if self.longer != 1 else []
        said += [f"from the weights of {self.start}"] if self.start else []
        said += [f"members by the relation of {self.related}"] if self.related else []
        return ", ".join(said)


@dataclass(frozen=True)
class DialCase:
    """A task and the budget that all models share on it.

    Attributes:
        name: In the table and the folders.
        train: Its objective, attention and seed are varied.
        counts: Latents at decoding, rising from 0; the last must cover the sequence and means all.
        candidates: Of decoding.
        seeds: Training seeds.
    """

    name: str
    train: Train
    counts: tuple[int, ...]
    candidates: int = 8
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        check_rising("counts", self.counts, self.train.task.length)
        check_once("seeds", self.seeds)

    def job(self, rival: Rival, seed: int, runs: Path) -> Job:
        """The training run of a model, and its folder; what it begins with must be there."""
        folder, groups, trunk = runs / self.name, rival.groups, self.train.trunk
        if rival.related and groups is not None:
            groups = replace(groups, members=self._relation(folder / f"{rival.related}-seed{seed}"))
        if rival.start:
            trunk = replace(trunk, checkpoint=str(checkpoint_folder(folder / f"{rival.start}-seed{seed}")))
        steps = round(self.train.steps * rival.longer)
        train = replace(
            self.train,
            attention=rival.attention,
            objective=MaskedDiffusion(groups=groups),
            trunk=trunk,
            steps=steps,
            warmup=min(self.train.warmup, steps // 10),
            lr=self.train.lr * rival.faster,
            seed=seed,
        )
        return train, folder / f"{rival.folder}-seed{seed}"

    def _relation(self, folder: Path) -> Related:
        model = load(folder, "cpu")
        examples = self.train.task.sample("train", 512, seeded("relation examples"))
        return Related.of(relation_of(model, examples.x0, examples.given, generator=seeded("relation")))

    def counts_of(self, rival: Rival) -> tuple[int, ...]:
        """At which counts a model is measured: those that look at no latent are the same at all."""
        return self.counts[:1] if rival.attention.latents == "alone" else self.counts

    def decoding(self, n: int) -> Slots:
        """How a model is decoded beside n latents."""
        return Slots(None if n == self.counts[-1] else n, self.candidates)

"""What the study of loops compares: training runs that differ in settings, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from unspoken.decoders.decode import read_decoder
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import ATTENTIONS
from unspoken.messages import quoted
from unspoken.record import from_record, to_record
from unspoken.study.base import check_once, folder_of
from unspoken.training.config import Train
from unspoken.training.pool import Job

FIXED = ("task", "port", "seed")  # all variants solve the same puzzles, once for each seed of the study


@dataclass(frozen=True)
class Change:
    """A setting of a training run and its value.

    Attributes:
        name: As the command line writes it, without dashes: `steps`, `trunk.loops`, `attention`.
        value: Attention by its name.
    """

    name: str
    value: bool | int | float | str

    def __str__(self) -> str:
        return f"{self.name} {self.value}"


@dataclass(frozen=True)
class Variant:
    """A training run of the study, by what it changes of the base; without changes it is the base.

    ValueError where it changes a setting twice, and where it has no steps.

    Attributes:
        name: In the table and the folders.
        changes: Of settings.
        steps: Times the base's.
    """

    name: str
    changes: tuple[Change, ...] = ()
    steps: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.steps < math.inf:
            raise ValueError(f"{self.name!r} has {self.steps} times the base's steps; give a number above 0, e.g. 2")
        if self.changes:
            check_once(f"the changes of {self.name!r}", [change.name for change in self.changes])

    def train(self, base: Train) -> Train:
        """The base with the changes. ValueError where a setting is unknown, fixed, or of another type or range."""
        record = to_record(base)
        for change in self.changes:
            if change.name.partition(".")[0] in FIXED:
                raise ValueError(f"{self.name!r} changes {change.name}, which is the same for all variants; leave it")
            *path, name = change.name.split(".")
            within = record
            for part in path:
                within = within.get(part) if isinstance(within, dict) else None
            if not isinstance(within, dict) or name not in within.keys() - {"type"}:
                known = ", ".join(within.keys() - {"type"}) if isinstance(within, dict) else "none"
                raise ValueError(
                    f"{self.name!r} changes {quoted(change.name)}, which is no setting of a training run; known there: "
                    f"{known}"
                )
            within[name] = change.value
            if change.name == "attention":
                if change.value not in ATTENTIONS:
                    names = ", ".join(ATTENTIONS)
                    raise ValueError(f"{self.name!r}: no attention is called {change.value!r}; write one of {names}")
                within[name] = to_record(ATTENTIONS[str(change.value)])
        train = from_record(Train, record, f"the training of {self.name!r}")
        return replace(train, steps=round(train.steps * self.steps))

    def job(self, base: Train, seed: int, runs: Path) -> Job:
        """The training run, and its folder."""
        return replace(self.train(base), seed=seed), runs / f"{folder_of(self.name)}-seed{seed}"

    def check(self, base: Train) -> None:
        """ValueError where the run can not be trained, or is not decoded from slots that see each other."""
        train = self.train(base)
        decoder = read_decoder(train.objective.decoder(train.process))
        if not isinstance(decoder, Slots) or train.attention.latents == "ordered":
            raise ValueError(
                f"{self.name!r} has objective={train.objective}, attention={train.attention.name}: all that is unsaid "
                "is a candidate here, and candidates see each other; give MaskedDiffusion() and mdm, joint, "
                "cached-joint, sidm or cached-alone"
            )

    @property
    def told(self) -> str:
        """What differs from the base."""
        said = [*map(str, self.changes), *([f"{self.steps:g} times the steps"] if self.steps != 1 else [])]
        return f"{self.name}: {', '.join(said) or 'the base'}"

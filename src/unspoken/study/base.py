"""What every study is: a config that is checked, a grid of runs that is trained where it is missing, and findings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from unspoken.model.denoiser import Denoiser
from unspoken.record import environment
from unspoken.study.report import Claim, Result, Stage
from unspoken.study.table import Row, Table
from unspoken.training.loading import load
from unspoken.training.pool import Job, train_all

Findings = tuple[list[Row], list[Claim], list[str]]  # rows, claims, notes


@dataclass(frozen=True)
class Study(ABC):
    """What a study trains and measures, as data: a frozen dataclass, hence its own record.

    Of its fields every whole number is 1 or more, and a tuple holds something, each once (those of `MAY_BE_EMPTY`
    perhaps nothing): ValueError where that is not so.
    """

    TABLE: ClassVar[Table]
    MAY_BE_EMPTY: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name, value in ((field.name, getattr(self, field.name)) for field in fields(self)):
            if isinstance(value, tuple) and (value or name not in self.MAY_BE_EMPTY):
                check_once(name, value)
            elif isinstance(value, int):
                check_positive(name, value)

    @abstractmethod
    def budget(self) -> str:
        """One line on what will be done."""

    @abstractmethod
    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        """Trains what `runs` does not hold yet, and measures."""

    def run(self, runs: Path = Path()) -> Iterator[Stage | Result]:
        """Trains what the folder `runs` does not hold yet, measures, and ends in a `Result`; yields `Stage`s.

        Finished runs are reused, half-done ones are gone on with. ValueError where a folder holds a run of another
        budget.
        """
        if "\0" in str(runs):
            raise ValueError(f"the folder of the runs, {str(runs)!r}, has a NUL character in its name; give another")
        began = environment()  # what the numbers come from, not what the tree is hours later
        rows, claims, notes = yield from self.findings(runs)
        yield Result(self.TABLE.study, self, rows, claims, notes, began)


@dataclass(frozen=True, kw_only=True)
class SeededStudy(Study):
    """A study of one grid of runs.

    Attributes:
        seeds: Training seeds.
        workers: Runs trained at a time.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    workers: int = 2


def check_once(name: str, values: Sequence[Any]) -> None:
    """ValueError where a field holds nothing, or a value twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name}={values}: give {name}, one or more, each once")


def check_positive(name: str, *values: int) -> None:
    """ValueError where one of a field's values is below 1."""
    if min(values) < 1:
        raise ValueError(f"{name}={values[0] if len(values) == 1 else values}: give 1 or more")


def folder_of(name: str) -> str:
    """What the runs of a model are called: its name in small letters, with hyphens."""
    return name.lower().replace(",", "").replace(" ", "-").replace("_", "-")


def check_rising(name: str, counts: Sequence[int], every: int = 0) -> None:
    """ValueError where counts of latents do not rise from 0, or end below `every`, which means all."""
    if not counts or list(counts) != sorted({0, *counts}) or counts[-1] < every:
        raise ValueError(
            f"{name}={counts}: give {name} that rise from 0" + (f" to all; end with {every} or more" if every else "")
        )


def trained(jobs: Iterable[Job], workers: int, text: str = "training", *, may_diverge: bool = False) -> Iterator[Stage]:
    """Trains what is missing and goes on with what is half done; see `pool.train_all`."""
    jobs = list(jobs)
    total = sum(train.steps for train, _ in jobs)
    for done in train_all(jobs, workers, may_diverge):
        yield Stage(text, done, total)


def loaded(jobs: Sequence[Job], device: str | None = "cpu") -> list[Denoiser]:
    """The models of runs. device: None for the GPU where there is one."""
    return [load(folder, device) for _, folder in jobs]

"""A study's grid of runs: its models are trained where they are missing, and loaded; its config is checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from unspoken.model.denoiser import Denoiser
from unspoken.study.report import Stage
from unspoken.tasks import Chain
from unspoken.tasks.base import Task
from unspoken.training.loop import load
from unspoken.training.pool import Job, train_all


def trained(jobs: Sequence[Job], workers: int, text: str = "training", *, may_diverge: bool = False) -> Iterator[Stage]:
    """Trains what is missing and goes on with what is half done; see `pool.train_all`."""
    total = sum(train.steps for train, _ in jobs)
    for done in train_all(jobs, workers, may_diverge):
        yield Stage(text, done, total)


def loaded(jobs: Sequence[Job]) -> list[Denoiser]:
    """The models of runs, on the CPU."""
    return [load(folder, "cpu") for _, folder in jobs]


def check_once(config: Any, *names: str) -> None:
    """ValueError where a field holds nothing, or a value twice."""
    for name in names:
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name}={values}: give {name}, one or more, each once")


def check_positive(config: Any, *names: str) -> None:
    """ValueError where a field, or one of its values, is below 1."""
    for name in names:
        value = getattr(config, name)
        if min(value, default=1) < 1 if isinstance(value, tuple) else value < 1:
            raise ValueError(f"{name}={value}: give 1 or more")


def chain_of(task: Task) -> Chain:
    """The task, where illegal steps can be counted. ValueError where they can not."""
    if not isinstance(task, Chain):
        raise ValueError(f"{task.title} given; illegal steps are counted on a chain: give a Chain")
    return task

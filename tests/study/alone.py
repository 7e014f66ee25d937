"""Studies of tiny runs, trained in this process: starting processes would take longer than the runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from unspoken.study import base
from unspoken.study.base import Study
from unspoken.study.report import Result, Stage
from unspoken.training.loop import train
from unspoken.training.pool import Job
from unspoken.training.run import Run


def one_by_one(jobs: Sequence[Job], workers: int, may_diverge: bool = False) -> Iterator[int]:
    """What `pool.train_all` does (tests/test_pool.py), in this process."""
    done = sum(config.steps for config, folder in jobs if Run(folder).checkpoints())
    for config, folder in jobs:
        if not Run(folder).checkpoints():
            train(config, folder)
            done += config.steps
            yield done


@contextmanager
def in_process() -> Iterator[None]:
    """Studies train one run after the other, here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "train_all", one_by_one)
        yield


def finish(stages: Iterator[Stage | Result]) -> Result:
    """Runs a study to its end, without showing anything."""
    *_, result = stages
    assert isinstance(result, Result)
    return result


def stages_and_result(study: Study, runs: Path) -> tuple[list[Stage], Result]:
    """What a study of tiny runs yields, trained here."""
    with in_process():
        *stages, result = study.run(runs)
    assert isinstance(result, Result)
    return [s for s in stages if isinstance(s, Stage)], result


def of_part(result: Result, part: str) -> list[dict[str, Any]]:
    """The rows of a part."""
    return [row for row in result.rows if row["part"] == part]

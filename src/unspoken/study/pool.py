"""Trains many runs, several at a time: small models gain more from a core each than from all cores together."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from pathlib import Path

import torch

from unspoken.config import Train
from unspoken.record import Run
from unspoken.train import train

Job = tuple[Train, Path]


def train_all(jobs: Sequence[Job], workers: int) -> Iterator[int]:
    """Trains every (config, folder), `workers` at a time; yields how many steps are done in all, as it goes.

    Finished runs cost nothing, half-done ones are gone on with. Raises what the first failing run raises.
    """
    open_jobs = [job for job in jobs if _done(job) < job[0].steps]
    if not open_jobs:
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    )
    try:
        pending = {pool.submit(_train, *job) for job in open_jobs}
        while pending:
            finished, pending = wait(pending, timeout=2, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            yield sum(map(_done, jobs))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _train(config: Train, folder: Path) -> None:
    train(config, folder)  # the model stays in the child: it is on the disk


def _done(job: Job) -> int:
    """Steps of a run that are over: what is saved once it is finished, what is logged while it goes."""
    config, folder = job
    run = Run(folder)
    saved = max((step for step, _ in run.checkpoints()), default=0)
    logged = run.metrics()[-1]["step"] if run.metrics() else 0
    return saved if saved >= config.steps else min(max(saved, logged), config.steps - 1)

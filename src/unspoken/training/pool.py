"""Trains many runs, several at a time: small models gain more from a core each than from all cores together."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

import torch

from unspoken.training.config import Train
from unspoken.training.loop import train
from unspoken.training.run import Run

Job = tuple[Train, Path]


def train_all(jobs: Sequence[Job], workers: int, may_diverge: bool = False) -> Iterator[int]:
    """Trains every (config, folder), `workers` at a time; yields how many steps are done in all, as it goes.

    Finished runs cost nothing, half-done ones are gone on with. Raises what the first failing run raises, and
    ValueError before any work where a folder holds another run. However it ends, what still runs is ended with it.

    may_diverge: a run whose loss is no number is left as it is, not `finished`.
    """
    for config, folder in jobs:
        if (folder / "config.json").exists():
            Run(folder).start(config)
    open_jobs = [job for job in jobs if not finished(job)]
    if not open_jobs:
        return
    threads = max(1, _cores() // workers)
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(threads, theirs))
    try:
        pending, most = {pool.submit(_train, *job, may_diverge) for job in open_jobs}, 0
        while pending:
            ended, pending = wait(pending, timeout=2, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()
            most = max(most, sum(map(_done, jobs)))  # a run that goes on drops what it logged after it was saved
            yield most
    finally:
        ours.close()  # ends the children, in the middle of a run too: it is on the disk, as after kill -9
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _cores() -> int:
    """Those that this process may use: more threads than that would wait for one another."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(threads: int, parent: Connection) -> None:
    """In a child: its threads, and that it ends with its parent, be that by an interrupt or kill -9."""
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it as well, and ends its children
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Connection) -> None:
    parent.poll(None)  # returns when the other end is closed: nothing is ever sent
    os._exit(1)


def _train(config: Train, folder: Path, may_diverge: bool) -> None:
    try:
        train(config, folder)  # the model stays in the child: it is on the disk
    except FloatingPointError:
        if not may_diverge:
            raise


def finished(job: Job) -> bool:
    """Whether a run is on the disk, whole."""
    return _done(job) >= job[0].steps


def _done(job: Job) -> int:
    """Steps of a run that are over: what is saved once it is finished, what is logged while it goes."""
    config, folder = job
    run = Run(folder)
    saved = max((step for step, _ in run.checkpoints()), default=0)
    logged = max((m["step"] for m in run.metrics()), default=0)
    return saved if saved >= config.steps else min(max(saved, logged), config.steps - 1)

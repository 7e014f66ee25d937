"""Checkpoints: `state/` to go on from, `denoiser/` to use; there whole or not at all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unspoken.messages import first_line
from unspoken.model.denoiser import Denoiser
from unspoken.model.loading import sums
from unspoken.record import new_folder, read_json, write_json
from unspoken.training.config import Train
from unspoken.training.run import Run

SUMS = "state.json"  # beside `state/`: the SHA-256 of each of its files

if TYPE_CHECKING:  # slow to import: loaded where it is first needed
    from accelerate import Accelerator


def save_checkpoint(run: Run, step: int, accelerator: Accelerator, average: Denoiser, keep: int) -> None:
    """Writes the checkpoint of a step, and removes all but the newest `keep`. OSError where it can not be written."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with run.writing(f"the checkpoint of step {step}"):
            with new_folder(run.checkpoint_at(step)) as folder:
                accelerator.save_state(str(folder / "state"))
                write_json(folder / SUMS, sums(folder / "state", "*"))
                average.save_pretrained(folder / "denoiser")
            run.prune(keep)
    accelerator.wait_for_everyone()


def restore(run: Run, accelerator: Accelerator, optimizer: Any, average: Denoiser, config: Train) -> int:
    """Loads the last checkpoint into what the accelerator holds and into the average; returns its step, or 0.

    optimizer: the accelerator's.

    Raises ValueError, with the way out, where the checkpoint is damaged.
    """
    first = 0
    if run.checkpoints():
        first, checkpoint = run.checkpoints()[-1]
        with _global_generators_kept(), _readable(checkpoint, run):
            _check_state(checkpoint)
            accelerator.load_state(str(checkpoint / "state"))
            _check_moments(optimizer)
            average.load_state_dict(Denoiser.from_pretrained(checkpoint / "denoiser").state_dict())
    if accelerator.is_main_process:
        with run.writing("the log"):
            run.cut_metrics(first, config.logged(first))
            run.prune(config.keep)
    return first


def _check_state(checkpoint: Path) -> None:
    """Raises ValueError where a file of `state/` is not as it was saved. Older checkpoints have no sums."""
    if not (checkpoint / SUMS).exists():
        return
    recorded, found = read_json(checkpoint / SUMS), sums(checkpoint / "state", "*")
    if changed := [name for name in sorted(recorded) if found.get(name) != recorded[name]]:
        raise ValueError(f"state/{changed[0]} is missing or not as it was saved: another SHA-256")


def _check_moments(optimizer: Any) -> None:
    """Raises ValueError where the optimizer's state is gone or of other weights, which torch loads without a word."""
    moments = [(p, v) for p, of in optimizer.state.items() for name, v in of.items() if name != "step"]
    if not moments or any(p.shape != v.shape for p, v in moments):
        raise ValueError("the optimizer's state is not of these weights")


@contextmanager
def _readable(checkpoint: Path, run: Run) -> Iterator[None]:
    """Around the reading of a checkpoint, whose readers raise what they please: ValueError with the way out."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise  # not the checkpoint's fault
    except Exception as error:
        before = run.checkpoints()[:-1]
        way = f"go on from step {before[-1][0]}" if before else "begin anew"
        raise ValueError(f"{checkpoint} is damaged ({first_line(error)}); remove this folder to {way}") from error


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    """Accelerate restores them; here no number comes from them, and they are the caller's."""
    python, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)

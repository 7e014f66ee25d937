"""Training: one visible loop on accelerate, read it top to bottom.

The loop is a generator of `Update`s; progress bars and early stopping are loops over it. Every random number
comes from a generator seeded by (seed, step), so a killed run goes on exactly where its last checkpoint was.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from unspoken.layout.annealing import annealed
from unspoken.layout.packing import Packed
from unspoken.model.denoiser import Denoiser
from unspoken.tasks.base import Examples
from unspoken.training.checkpoint import restore, save_checkpoint
from unspoken.training.config import Train
from unspoken.training.foresight import ask_foreseen
from unspoken.training.loading import held_by, load
from unspoken.training.losses import losses_in_parts, packed_losses
from unspoken.training.models import new_denoiser
from unspoken.training.run import Run
from unspoken.training.seeds import seeded, seeded_globally

if TYPE_CHECKING:  # slow to import: loaded where they are first needed
    from accelerate import Accelerator


@dataclass(frozen=True)
class Update:
    """What training reports: the step just done (1 ... steps) and, where due, what was measured there.

    loss: mean training loss since the last report, nats a token. validation: nats a token. seconds: a step.
    """

    step: int
    loss: float | None = None
    validation: float | None = None
    seconds: float | None = None


def train(config: Train, folder: str | Path) -> Denoiser:
    """Trains to the end, or goes on where a killed run left off, and returns the averaged model."""
    for _ in training(config, folder):
        pass
    return load(folder)


def training(config: Train, folder: str | Path) -> Iterator[Update]:
    """Trains, yielding an `Update` a step; resumes from the folder's last checkpoint.

    Raises ValueError before any work, and before anything is written, where the folder holds another run, where another
    process trains it, where the checkpoint's vocabulary is another, and where the task can not be sampled.
    """
    run = Run(Path(folder))
    accelerator = _accelerator(config)
    main = accelerator.is_main_process
    if main:
        run.check(config)
    config.check_memory()
    held = held_by(run) if config.begins else None  # what came from earlier runs is in the checkpoint
    denoiser, average = new_denoiser(config, held), new_denoiser(config, held)
    config.task.sample("train", 1, seeded(config.seed))  # what fails fails here, before anything is written
    held_out = config.task.sample("validation", min(config.validation_examples, config.task.size("validation")))
    with run.alone() if main else nullcontext():
        if main:
            run.start(config)
        accelerator.wait_for_everyone()
        yield from _steps(config, run, accelerator, (denoiser, average), held_out)


def _steps(
    config: Train, run: Run, accelerator: Accelerator, models: tuple[Denoiser, Denoiser], held_out: Examples
) -> Iterator[Update]:
    """The loop: every step that is left. models: the one to train, and the average of its weights."""
    denoiser, average = models
    main = accelerator.is_main_process
    if config.recompute:
        denoiser.activation_checkpointing_enable()
    optimizer = torch.optim.AdamW(denoiser.parameters(), betas=(0.9, 0.999), weight_decay=config.weight_decay)
    average.to(accelerator.device).requires_grad_(False).eval()
    model, optimizer = accelerator.prepare(denoiser, optimizer)
    first = restore(run, accelerator, optimizer, average, config)

    model.train()
    meter = _Meter(accelerator.device)
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        denoiser.attention = annealed(average.attention, config.ahead(step))
        for part, packed in _parts(config, denoiser, step, accelerator):
            last = part == config.accumulate - 1
            with nullcontext() if last else accelerator.no_sync(model):
                meter.add(_backward(config, model, packed, (step, part), accelerator))
        accelerator.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad()
        update_average(average, accelerator.unwrap_model(model), min(config.ema, (1 + step) / (10 + step)))

        done = step + 1
        save, validate = config.due(done, config.save), config.due(done, config.validate)
        if not (save or validate or config.due(done, config.log)):
            yield Update(done)
            continue
        loss_mean, seconds = meter.read(done - first, accelerator)
        if not math.isfinite(loss_mean):
            raise FloatingPointError(f"the loss is {loss_mean} at step {done}: lower lr ({config.lr}) or clip")
        measured: dict[str, Any] = {}
        if validate and len(held_out):
            measured["validation"], slots = validation_loss(config, average, held_out)
            measured |= {"slots": slots} if slots else {}
        if main:
            run.log(step=done, loss=loss_mean, lr=config.rate(step), seconds=round(seconds, 4), **measured)
        if save:
            save_checkpoint(run, done, accelerator, average, config.keep)
        meter = _Meter(accelerator.device)
        first = done
        yield Update(done, loss_mean, measured.get("validation"), seconds)


class _Meter:
    """The mean loss and time of the steps since it was made, without asking the device at every step."""

    def __init__(self, device: torch.device):
        self.total, self.clock = torch.zeros((), device=device), time.perf_counter()

    def add(self, loss: Tensor) -> None:
        self.total = self.total + loss

    def read(self, steps: int, accelerator: Accelerator) -> tuple[float, float]:
        """Mean loss, of all processes' rows, and seconds a step over the last `steps`."""
        total: Any = accelerator.reduce(self.total, "sum")
        return float(total) / steps, (time.perf_counter() - self.clock) / steps


def _parts(config: Train, model: Denoiser, step: int, accelerator: Accelerator) -> Iterator[tuple[int, Packed]]:
    """This process's rows of a step's batch, part by part.

    The whole batch is drawn and packed, and then cut, by every process alike: so its weights are those of the whole
    step, and nothing depends on how many parts and processes there are.
    """
    generator = seeded(config.seed, step, 0, 0)
    examples = config.task.sample("train", config.batch, generator)
    packed = packed_batch(config, model, examples, generator, step / config.steps)
    size = config.batch // (config.accumulate * accelerator.num_processes)
    for part in range(config.accumulate):
        first = size * (accelerator.process_index * config.accumulate + part)
        yield part, packed.rows(first, first + size).to(accelerator.device)


def _backward(config: Train, model: Any, packed: Packed, part: tuple[int, int], accelerator: Accelerator) -> Tensor:
    """Adds the gradient of a part of a step to the weights', and returns its share of the step's loss."""
    generator = seeded(config.seed, *part, accelerator.process_index)
    with seeded_globally(generator.initial_seed()):  # for the dropout that a checkpoint may have
        loss = packed.reduce(packed_losses(model, packed))
    accelerator.backward(loss * accelerator.num_processes)  # gradients are averaged over processes
    return loss.detach()


def _accelerator(config: Train) -> Accelerator:
    """For the config's precision, on the device at hand. Raises ValueError where either can not be had."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if config.precision == "fp16" and not torch.accelerator.is_available():
        raise ValueError("precision='fp16' has no effect on a CPU; take 'bf16', or 'no' for float32")
    auto = "bf16" if torch.cuda.is_available() else "no"  # on a CPU bf16 is slower than float32
    precision = auto if config.precision == "auto" else config.precision
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # of an earlier training in this process; a live one keeps what it prepared
    accelerator = Accelerator(mixed_precision=precision)
    launched = os.environ.get("WORLD_SIZE", "1")
    if launched != str(accelerator.num_processes):
        raise ValueError(
            f"{launched} processes were launched, and accelerate sees {accelerator.num_processes}, so each would train "
            "alone; on CPUs set ACCELERATE_USE_CPU=true"
        )
    if config.batch % (config.accumulate * accelerator.num_processes):
        raise ValueError(
            f"batch={config.batch} does not split into accumulate={config.accumulate} equal parts on "
            f"{accelerator.num_processes} processes: give a multiple of {config.accumulate * accelerator.num_processes}"
        )
    return accelerator


def packed_batch(
    config: Train, model: Denoiser, examples: Examples, generator: torch.Generator, progress: float = 1.0
) -> Packed:
    """A pass over a batch, and what it is asked, by the config's objective. On the CPU.

    progress: how much of training is done, in [0, 1]; what is validated is what training ends with.
    """
    x0, given, document = examples.x0, examples.given, examples.document
    value = config.objective.values(model, examples)
    packed = config.objective.pack(config.process, x0, given, model.mask_id, generator, value, progress, document)
    return packed if config.foresight is None else ask_foreseen(packed, config.foresight.weight)


@torch.no_grad()
def validation_loss(config: Train, model: Denoiser, held_out: Examples) -> tuple[float, list[float]]:
    """The training loss on held-out examples at four fixed draws of the noise each, and the first draw's by slot."""
    packs = [packed_batch(config, model, held_out, seeded("validation", draw)) for draw in range(4)]
    packs = [packed.to(model.device) for packed in packs]
    losses = [losses_in_parts(model, packed) for packed in packs]
    loss = torch.stack([packed.reduce(its) for packed, its in zip(packs, losses, strict=True)]).mean()
    return float(loss), packs[0].by_slot(losses[0])


@torch.no_grad()
def update_average(average: Denoiser, model: torch.nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * model, over all weights."""
    get_ema_multi_avg_fn(decay)(list(average.parameters()), list(model.parameters()), torch.tensor(0))

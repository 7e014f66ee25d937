"""Training: one visible loop on accelerate, read it top to bottom.

The loop is a generator of `Update`s; progress bars and early stopping are loops over it. Every random number
comes from a generator seeded by (seed, step), so a killed run goes on exactly where its last checkpoint was.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from unspoken.layout.packing import Packed
from unspoken.model.adapters import adapted
from unspoken.model.denoiser import Denoiser
from unspoken.model.folder import read_ours
from unspoken.model.masks import add_token
from unspoken.model.tokens import load_tokenizer
from unspoken.noise.space import MASK
from unspoken.tasks import Task
from unspoken.tasks.base import Examples
from unspoken.tasks.prompted import Prompted
from unspoken.training.checkpoint import restore, save_checkpoint
from unspoken.training.config import Train
from unspoken.training.losses import losses_in_parts, packed_losses
from unspoken.training.run import Run

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
    denoiser, average = new_denoiser(config), new_denoiser(config)
    config.task.sample("train", 1, seeded(config.seed))  # what fails fails here, before anything is written
    held_out = config.task.sample("validation", min(256, config.task.size("validation")))
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
    optimizer = torch.optim.AdamW(denoiser.parameters(), betas=(0.9, 0.999), weight_decay=config.weight_decay)
    average.to(accelerator.device).requires_grad_(False).eval()
    model, optimizer = accelerator.prepare(denoiser, optimizer)
    first = restore(run, accelerator, optimizer, average, config)

    model.train()
    meter = _Meter(accelerator.device)
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        for part, packed in _parts(config, denoiser.mask_id, step, accelerator):
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


def _parts(config: Train, mask_id: int, step: int, accelerator: Accelerator) -> Iterator[tuple[int, Packed]]:
    """This process's rows of a step's batch, part by part.

    The whole batch is drawn and packed, and then cut, by every process alike: so its weights are those of the whole
    step, and nothing depends on how many parts and processes there are.
    """
    generator = seeded(config.seed, step, 0, 0)
    examples = config.task.sample("train", config.batch, generator)
    packed = packed_batch(config, mask_id, examples, generator, step / config.steps)
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


def new_denoiser(config: Train) -> Denoiser:
    """The untrained model of a config: same seed, same weights; the global generator is left as it was."""
    task = config.task
    with seeded_globally(config.seed):
        if config.trunk.checkpoint:
            start = checkpoint_folder(config.trunk.checkpoint)
            own = read_ours(start) is not None  # our own models know their mask
            mask_id: int | str | None = None if own else task.mask_id
            words = None
            if isinstance(task, Prompted):
                mask_id, words = None if own else task.mask or MASK, tokenizer_for(task, start)
            # Small steps are lost in half precision: weights and average are float32, autocast comes on top.
            given = {"attention": config.attention, "mask_id": mask_id, "port": config.port, "dtype": torch.float32}
            given |= {"tokenizer": words}
            given |= {"loops": config.trunk.loops} if config.trunk.loops > 1 else {}
            model = Denoiser.from_pretrained(start, carry=config.objective.carries, **given)
            if config.trunk.lora:
                model.trunk = adapted(model.trunk, config.trunk.lora, model.mask_id)
        else:
            model = Denoiser.from_config(
                config.trunk.config(task.vocab_size, task.length),
                attention=config.attention,
                mask_id=task.mask_id,
                positions=task.length if config.trunk.learned_positions else 0,
                times=config.trunk.times,
                port=config.port,
                loops=config.trunk.loops,
                carry=config.objective.carries,
            )
            if isinstance(task, Prompted):
                words = model.tokenizer = copy.deepcopy(task.coding.tokenizer)
                add_token(words, task.mask or MASK)
    check_vocabulary(model, task)
    model.decoder = config.objective.decoder(config.process)
    return model


def tokenizer_for(task: Prompted, folder: str | Path) -> Any:
    """The tokenizer of a checkpoint, or the task's where it has none. Raises ValueError where they differ."""
    mine = task.coding.tokenizer
    found = load_tokenizer(folder, {})
    if found is None:
        return copy.deepcopy(mine)
    both = [{text: i for text, i in each.get_vocab().items() if text != (task.mask or MASK)} for each in (mine, found)]
    if both[0] != both[1]:
        raise ValueError(
            f"the tokenizer {task.tokenizer} of the task is another than that of {folder}: give the task the "
            f"checkpoint's, tokenizer={str(folder)!r}"
        )
    return found


def check_vocabulary(model: Denoiser, task: Task) -> None:
    """Raises ValueError where a model can not be of this task: another mask, or too few token ids."""
    if model.mask_id != task.mask_id or model.vocab_size < task.vocab_size:
        raise ValueError(
            f"the model has {model.vocab_size} token ids with the mask at {model.mask_id}; {task} has "
            f"{task.vocab_size} with the mask at {task.mask_id}: it was made for another vocabulary"
        )


def packed_batch(
    config: Train, mask_id: int, examples: Examples, generator: torch.Generator, progress: float = 1.0
) -> Packed:
    """A pass over a batch, and what it is asked, by the config's objective. On the CPU.

    progress: how much of training is done, in [0, 1]; what is validated is what training ends with.
    """
    x0, given, value, document = examples.x0, examples.given, examples.value, examples.document
    return config.objective.pack(config.process, x0, given, mask_id, generator, value, progress, document)


@torch.no_grad()
def validation_loss(config: Train, model: Denoiser, held_out: Examples) -> tuple[float, list[float]]:
    """The training loss on held-out examples at four fixed draws of the noise each, and the first draw's by slot."""
    packs = [packed_batch(config, model.mask_id, held_out, seeded("validation", draw)) for draw in range(4)]
    packs = [packed.to(model.device) for packed in packs]
    losses = [losses_in_parts(model, packed) for packed in packs]
    loss = torch.stack([packed.reduce(its) for packed, its in zip(packs, losses, strict=True)]).mean()
    return float(loss), packs[0].by_slot(losses[0])


@torch.no_grad()
def update_average(average: Denoiser, model: torch.nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * model, over all weights."""
    get_ema_multi_avg_fn(decay)(list(average.parameters()), list(model.parameters()), torch.tensor(0))


def load(folder: str | Path, device: torch.device | str | None = None) -> Denoiser:
    """The averaged model of a run folder's last checkpoint, or of any `save_pretrained` folder.

    device: where it goes; by default the GPU where there is one.

    Raises ValueError where there is neither.
    """
    if not Path(folder).exists():
        raise ValueError(f"there is no {folder}; train a run first: unspoken train sudoku-6x6")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    model = Denoiser.from_pretrained(checkpoint_folder(folder)).to(device)
    model.decoder = decoder_record(folder)
    return model


def decoder_record(folder: str | Path) -> dict[str, Any] | None:
    """The record of the decoder of a run folder, or of a `save_pretrained` folder; None where nobody said.

    Weights of before decoders were saved have none: their run's config says what they were trained for.
    """
    weights = checkpoint_folder(folder)
    if (record := (read_ours(weights) or {}).get("decoder")) is not None or weights == folder:
        return record
    config = Run(Path(folder)).config(Train)
    return config.objective.decoder(config.process)


def checkpoint_folder(folder: str | Path) -> str | Path:
    """Where the weights are: a run folder's last averaged model, else the folder (or the hub's name) itself."""
    run = Run(Path(folder))
    if not run.exists():
        return folder
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise ValueError(f"{folder} has no complete checkpoint yet; the same train command goes on with it")
    return checkpoints[-1][1] / "denoiser"


def seeded(*key: object) -> torch.Generator:
    """A CPU generator whose seed is a hash of `key`: the stream of one step does not depend on any other's."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Inside, torch's global generator is seeded, for what draws from it alone; outside it is as before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield

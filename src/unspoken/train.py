"""Training: one visible loop on accelerate, read it top to bottom.

The loop is a generator of `Update`s; progress bars and early stopping are loops over it. Every random number
comes from a generator seeded by (seed, step), so a killed run goes on exactly where its last checkpoint was.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from unspoken.attention import SCDM, Attention
from unspoken.denoiser import Denoiser
from unspoken.objective import bound_losses, noised, reduce, token_losses
from unspoken.process import Absorbing, Process
from unspoken.record import Run, new_folder
from unspoken.tasks import Task, Tasks
from unspoken.tasks.base import Examples

if TYPE_CHECKING:  # slow to import: loaded where they are first needed
    from accelerate import Accelerator
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Trunk:
    """A transformer from scratch, or a checkpoint's.

    Attributes:
        layers: Transformer layers.
        width: Of the residual stream.
        heads: Attention heads.
        family: `gpt2` learns an embedding of every position; `llama` has rotary positions, which are relative: a latent
            that sees few others can not tell where on a board it is (docs/results/LOG.md).
        checkpoint: A Hugging Face folder or name to start from instead; its vocabulary must hold the task's.
    """

    layers: int = 4
    width: int = 96
    heads: int = 4
    family: Literal["gpt2", "llama"] = "gpt2"
    checkpoint: str = ""

    def __post_init__(self) -> None:
        if self.layers < 1 or self.heads < 1 or self.width < 1 or self.width % (2 * self.heads):
            raise ValueError(
                f"a trunk of {self.layers} layers, width {self.width}, {self.heads} heads: give at least one layer "
                "and a width that is an even multiple of the heads, e.g. 4, 96, 4"
            )

    def config(self, vocab_size: int, length: int) -> PretrainedConfig:
        """The trunk's config for a task's vocabulary and length. No special tokens: every id is the task's."""
        from transformers import GPT2Config, LlamaConfig

        if self.family == "llama":
            return LlamaConfig(
                vocab_size=vocab_size,
                hidden_size=self.width,
                intermediate_size=32 * round(self.width * 8 / 3 / 32),  # 8/3 of the width, as in Llama
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                max_position_embeddings=length,
                bos_token_id=None,
                eos_token_id=None,
            )
        return GPT2Config(
            vocab_size=vocab_size,
            n_positions=length,
            n_embd=self.width,
            n_layer=self.layers,
            n_head=self.heads,
            # No dropout: losses are then those of the model that decodes, and a resumed run is exact.
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=False,  # nothing to share: the vocabulary is a handful of symbols
            bos_token_id=None,
            eos_token_id=None,
        )


@dataclass(frozen=True)
class Train:
    """A training run, whole: the object is its own config.

    The defaults are those of the 6x6 prototype in our study: batch 192, AdamW at 2e-3 falling linearly to 0.

    Attributes:
        task: The data and their judge.
        attention: Who may look at whom.
        trunk: The transformer.
        process: How tokens are masked.
        objective: `masked` is the mean cross-entropy of what is masked; `nelbo` weighs it into the likelihood bound.
        steps: Optimiser steps.
        batch: Sequences an optimiser step and process.
        accumulate: Parts that a batch is computed in, where it does not fit into memory at once.
        lr: Peak learning rate.
        decay: `linear` falls to 0 at the last step; `constant` stays.
        warmup: Steps over which the rate rises.
        weight_decay: AdamW's.
        ema: Decay of the averaged weights, which are what is evaluated and saved; (1 + n) / (10 + n) while smaller.
        clip: The gradient's norm is at most this.
        precision: `auto` is bf16 on a GPU and float32 on a CPU.
        seed: Of the weights, the examples and the noise.
        validate: Steps between validations.
        save: Steps between checkpoints.
        log: Steps between lines of metrics.jsonl.
        keep: Checkpoints kept.
    """

    task: Tasks
    attention: Attention = SCDM
    trunk: Trunk = field(default_factory=Trunk)
    process: Process = field(default_factory=Absorbing)
    objective: Literal["masked", "nelbo"] = "masked"
    steps: int = 1000
    batch: int = 192
    accumulate: int = 1
    lr: float = 2e-3
    decay: Literal["linear", "constant"] = "linear"
    warmup: int = 100
    weight_decay: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    seed: int = 0
    validate: int = 200
    save: int = 200
    log: int = 10
    keep: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "validate", "save", "log", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.batch % self.accumulate:
            raise ValueError(f"batch={self.batch} does not split into accumulate={self.accumulate} equal parts")
        if self.lr <= 0 or self.clip <= 0 or not 0 <= self.ema < 1 or self.warmup < 0:
            raise ValueError(
                f"lr={self.lr}, clip={self.clip}, ema={self.ema}, warmup={self.warmup}: lr and clip must be above "
                "0, ema in [0, 1), warmup 0 or more"
            )

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = 1.0 if self.decay == "constant" else 1 - step / self.steps
        return self.lr * min(rise, fall)


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

    Raises ValueError before any work where the folder holds another run or the checkpoint's vocabulary is another.
    """
    from accelerate import Accelerator

    run = Run(Path(folder))
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() else "no"
    accelerator = Accelerator(mixed_precision=precision, gradient_accumulation_steps=config.accumulate)
    main = accelerator.is_main_process
    denoiser, average = new_denoiser(config), new_denoiser(config)
    if main:
        run.start(config)
    accelerator.wait_for_everyone()
    optimizer = torch.optim.AdamW(denoiser.parameters(), betas=(0.9, 0.999), weight_decay=config.weight_decay)
    average.to(accelerator.device).requires_grad_(False).eval()
    model, optimizer = accelerator.prepare(denoiser, optimizer)
    held_out = config.task.sample("validation", min(256, config.task.size("validation")))

    first = 0
    if run.checkpoints():
        first, checkpoint = run.checkpoints()[-1]
        accelerator.load_state(str(checkpoint / "state"))
        kept = Denoiser.from_pretrained(checkpoint / "denoiser")
        average.load_state_dict(kept.state_dict())
    if main:
        run.cut_metrics(first)

    total, count, clock = torch.zeros((), device=accelerator.device), 0, time.perf_counter()
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        for part in range(config.accumulate):
            generator = seeded(config.seed, step, part, accelerator.process_index)
            examples = config.task.sample("train", config.batch // config.accumulate, generator)
            with accelerator.accumulate(model):
                loss = batch_loss(config, model, denoiser.mask_id, examples, generator, accelerator.device)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), config.clip)
                optimizer.step()
                optimizer.zero_grad()
            total += loss.detach() / config.accumulate
        update_average(average, accelerator.unwrap_model(model), min(config.ema, (1 + step) / (10 + step)))
        count, done = count + 1, step + 1

        loss_mean = seconds = measured = None
        save = done % config.save == 0 or done == config.steps
        if done % config.log == 0 or save:
            loss_mean, seconds = float(total) / count, (time.perf_counter() - clock) / count
            if not math.isfinite(loss_mean):
                raise FloatingPointError(f"the loss is {loss_mean} at step {done}: lower lr ({config.lr}) or clip")
        if done % config.validate == 0 or done == config.steps:
            measured = validation_loss(config, average, held_out)
        if main and loss_mean is not None:
            extra = {} if measured is None else {"validation": measured}
            run.log(step=done, loss=loss_mean, lr=config.rate(step), seconds=round(seconds or 0, 4), **extra)
        if save:
            _save(run, done, accelerator, average, config.keep)
        if loss_mean is not None:
            total, count, clock = torch.zeros_like(total), 0, time.perf_counter()
        yield Update(done, loss_mean, measured, seconds)


def new_denoiser(config: Train) -> Denoiser:
    """The untrained model of a config: same seed, same weights; the global generator is left as it was."""
    task = config.task
    with _seeded_globally(config.seed):
        if config.trunk.checkpoint:
            model = Denoiser.from_pretrained(config.trunk.checkpoint, attention=config.attention, mask_id=task.mask_id)
        else:
            hf_config = config.trunk.config(task.vocab_size, task.length)
            model = Denoiser.from_config(hf_config, attention=config.attention, mask_id=task.mask_id)
    check_vocabulary(model, task)
    return model


def check_vocabulary(model: Denoiser, task: Task) -> None:
    """Raises ValueError where a model can not be of this task: another mask, or too few token ids."""
    if model.mask_id != task.mask_id or model.vocab_size < task.vocab_size:
        raise ValueError(
            f"the model has {model.vocab_size} token ids with the mask at {model.mask_id}; {task} has "
            f"{task.vocab_size} with the mask at {task.mask_id}: it was made for another vocabulary"
        )


def batch_loss(
    config: Train,
    model: torch.nn.Module,
    mask_id: int,
    examples: Examples,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """The training loss of a batch, nats a token: a scalar."""
    z = noised(config.process, examples.x0, examples.given, mask_id, generator).to(device)
    losses = token_losses(model, z.layout, examples.x0.to(device))
    if config.objective == "nelbo":
        return reduce(bound_losses(losses, config.process, z), (~examples.given).to(device))
    return reduce(losses, z.unsaid)


@torch.no_grad()
def validation_loss(config: Train, model: Denoiser, held_out: Examples) -> float:
    """The training loss on held-out examples, at four fixed draws of the noise each."""
    losses = [
        batch_loss(config, model, model.mask_id, held_out, seeded("validation", draw), model.device)
        for draw in range(4)
    ]
    return float(torch.stack(losses).mean())


@torch.no_grad()
def update_average(average: Denoiser, model: torch.nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * model, over all weights."""
    get_ema_multi_avg_fn(decay)(list(average.parameters()), list(model.parameters()), torch.tensor(0))


def load(folder: str | Path) -> Denoiser:
    """The averaged model of a run folder's last checkpoint, or of any `save_pretrained` folder.

    Raises ValueError where there is neither.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ValueError(f"there is no {folder}; train a run first: unspoken train sudoku-6x6")
    if (folder / "config.json").exists() and (folder / "metrics.jsonl").exists():
        checkpoints = Run(folder).checkpoints()
        if not checkpoints:
            raise ValueError(f"{folder} has no complete checkpoint yet; the same train command goes on with it")
        folder = checkpoints[-1][1] / "denoiser"
    return Denoiser.from_pretrained(folder).eval()


def seeded(*key: object) -> torch.Generator:
    """A CPU generator whose seed is a hash of `key`: the stream of one step does not depend on any other's."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@contextmanager
def _seeded_globally(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _save(run: Run, step: int, accelerator: Accelerator, average: Denoiser, keep: int) -> None:
    """A checkpoint that is there whole or not at all: `state/` to go on from, `denoiser/` to use."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with new_folder(run.checkpoint_at(step)) as folder:
            accelerator.save_state(str(folder / "state"))
            average.save_pretrained(folder / "denoiser")
        run.prune(keep)
    accelerator.wait_for_everyone()

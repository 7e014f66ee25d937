"""What a training run is made of. The object is its own config: the CLI and the record follow from its fields."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from unspoken import checks
from unspoken.layout.attention import SCDM, Attention
from unspoken.model.ports import Port
from unspoken.noise import Absorbing, Process
from unspoken.tasks import Tasks
from unspoken.training.foresight import Foresight
from unspoken.training.objective import MaskedDiffusion, Objectives
from unspoken.training.stages import Made
from unspoken.training.together import check_together

if TYPE_CHECKING:  # slow to import: loaded where a trunk is made
    from transformers import LlamaConfig


LARGEST = 3.4e38  # that float32 holds
LAYER = 40_000  # bytes that a layer takes besides its weights, about


def _check_sizes(config: Any) -> None:
    """Raises ValueError, with the field's name, on integers that 64 bits do not hold."""
    for f in fields(config):
        value = getattr(config, f.name)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{f.name} is beyond 2**63; give less")


def _check_memory(needed: int, what: str, instead: str) -> None:
    """Raises ValueError where this machine has fewer bytes of memory than `what` needs."""
    import psutil

    have = psutil.virtual_memory().total
    if needed > have:
        raise ValueError(
            f"{what} takes {needed / 1e9:,.0f} GB, and this machine has {have / 1e9:,.0f} GB of memory: give {instead}"
        )


@dataclass(frozen=True)
class Trunk:
    """A Llama trunk from scratch, or a checkpoint's.

    Attributes:
        layers: Transformer layers.
        width: Of the residual stream; the MLP is 8/3 of it, as in Llama.
        heads: Attention heads.
        learned_positions: Add a learned embedding of every position to the trunk's rotary ones, as the paper's model
            does. Without it a lone latent does not know where on a board it is (docs/results/LOG.md).
        times: Show the trunk every token's time, as processes whose visible tokens may be noise need it.
        init: Standard deviation of the first weights. The default is Llama's, meant for wide trunks; narrow ones
            learn sooner from about 2 / 3 of 1 / sqrt(width) (docs/results/LOG.md).
        loops: How often a pass runs through the layers, from the second time on with the last states added to the
            input. The weights are those of one loop, the FLOPs those of `loops` times as many layers.
        checkpoint: A Hugging Face folder or name to start from instead; its vocabulary must hold the task's. Layers,
            width, heads, init, learned positions and times are then the checkpoint's, whatever is said here; loops
            above 1 replace the checkpoint's. Whether it carries states is the objective's matter.
        lora: Above 0, the checkpoint's weights stay as they are, and a LoRA of that rank is trained on its linear
            layers, and the mask's embedding (`peft`). It is saved alone.
        shift: Of a checkpoint, the answer for a mask is read at the entry to its left, as Dream and DiffuLLaMA do, so
            that the next token is answered as before any training; see `Denoiser`.
    """

    layers: int = 4
    width: int = 96
    heads: int = 4
    learned_positions: bool = True
    times: bool = False
    init: float = 0.02
    loops: int = 1
    checkpoint: str = ""
    lora: int = 0
    shift: bool = False

    def __post_init__(self) -> None:
        _check_sizes(self)
        if self.layers < 1 or self.heads < 1 or self.width < 1 or self.width % (2 * self.heads):
            raise ValueError(
                f"a trunk of {self.layers} layers, width {self.width}, {self.heads} heads: give at least one layer "
                "and a width that is an even multiple of the heads, e.g. 4, 96, 4"
            )
        checks.count("loops", self.loops, 1)
        checks.count("lora", self.lora)
        if self.lora and not self.checkpoint:
            raise ValueError(f"lora={self.lora} without a checkpoint: an adapter of random weights; give checkpoint=")
        if self.shift and not self.checkpoint:
            raise ValueError("shift=True without a checkpoint: it keeps what a causal model knows; give checkpoint=")
        if not 0 < self.init <= LARGEST:
            raise ValueError(f"init is {self.init}; give a standard deviation above 0, e.g. 0.02")

    @property
    def inner(self) -> int:
        """The width of the MLP."""
        return 32 * round(self.width * 8 / 3 / 32)

    @property
    def told(self) -> str:
        """Layers and width as notes have them, with the loops where there are several: `4 x 96, 2 loops`."""
        return f"{self.layers} x {self.width}" + (f", {self.loops} loops" if self.loops > 1 else "")

    def parameters(self, vocab_size: int, length: int) -> int:
        """How many weights the trunk has, with a task's vocabulary and length.

        Those that read times or carried states are not counted.

        All loops share them.
        """
        layer = 4 * self.width**2 + 3 * self.width * self.inner + 2 * self.width
        places = length if self.learned_positions else 0
        return self.layers * layer + self.width * (1 + 2 * vocab_size + places)

    def check_memory(self, vocab_size: int, length: int) -> None:
        """Raises ValueError where this machine's memory can not hold the weights, in float32."""
        needed = 4 * self.parameters(vocab_size, length) + LAYER * self.layers
        _check_memory(needed, f"a trunk of {self.layers} layers, width {self.width}", "fewer layers or a smaller width")

    def config(self, vocab_size: int, length: int) -> LlamaConfig:
        """The Llama config for a task's vocabulary and length. No special tokens: every id is the task's.

        Raises ValueError where this machine's memory can not hold such a trunk.
        """
        from transformers import LlamaConfig

        self.check_memory(vocab_size, length)
        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.width,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=length,
            initializer_range=self.init,
            bos_token_id=None,
            eos_token_id=None,
        )


@dataclass(frozen=True)
class Train:
    """A training run, whole: the object is its own config.

    The defaults are those of 6x6 Sudoku on two cores: batch 192, AdamW at 2e-3 falling linearly to 0.

    Attributes:
        task: The data and their judge.
        attention: Who may look at whom.
        trunk: The transformer.
        process: How tokens are noised; masks, unless the objective is `Denoising`.
        objective: What a pass holds and is asked: masked diffusion, or one of the autoregressive family.
        port: Of a task whose tokens are values: how they are read and predicted.
        foresight: A predictor of the condition, whose states the model reads (ForeDiff).
        codec: The run that made the vectors of a task's thoughts, for `ThoughtDiffusion`; it stays as it is.
        start: The run whose averaged weights are trained on; the model must be of the same shape.
        steps: Optimiser steps.
        batch: Sequences an optimiser step, over all processes.
        accumulate: Parts that a process computes its share of the batch in, where it does not fit into memory at once.
            Neither parts nor processes change the loss or its gradient, but for rounding and dropout.
        lr: Peak learning rate.
        decay: `linear` falls in equal steps, the last of which runs at lr / steps; `constant` stays.
        warmup: Steps over which the rate rises.
        anneal: Steps over which what lies ahead of an entry is opened to it, pair by pair, from none (as a causal
            checkpoint was trained) to all that its attention allows; 0 opens all at once.
        weight_decay: AdamW's.
        ema: Decay of the averaged weights, which are what is evaluated and saved; (1 + n) / (10 + n) while smaller.
        clip: The gradient's norm is at most this.
        recompute: The states between layers are computed again in the backward pass, and need no memory (gradient
            checkpointing): a third more time a step.
        precision: Of the passes; weights and average are float32. `auto` is bf16 on a GPU and float32 on a CPU.
        seed: Of the weights, the examples and the noise.
        validate: Steps between validations.
        validation_examples: Those that the loss is measured on, at most.
        save: Steps between checkpoints.
        log: Steps between lines of metrics.jsonl.
        keep: Checkpoints kept.
    """

    task: Tasks
    attention: Attention = SCDM
    trunk: Trunk = field(default_factory=Trunk)
    process: Process = field(default_factory=Absorbing)
    objective: Objectives = field(default_factory=MaskedDiffusion)
    port: Port | None = None
    foresight: Foresight | None = None
    codec: Made | None = None
    start: Made | None = None
    steps: int = 1000
    batch: int = 192
    accumulate: int = 1
    lr: float = 2e-3
    decay: Literal["linear", "constant"] = "linear"
    warmup: int = 100
    anneal: int = 0
    weight_decay: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    recompute: bool = False
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    seed: int = 0
    validate: int = 200
    validation_examples: int = 256
    save: int = 200
    log: int = 10
    keep: int = 1

    def __post_init__(self) -> None:
        _check_sizes(self)
        for name in ("steps", "batch", "accumulate", "validate", "validation_examples", "save", "log", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.batch % self.accumulate:
            raise ValueError(f"batch={self.batch} does not split into accumulate={self.accumulate} equal parts")
        for name in ("decay", "precision"):
            known = get_args(get_type_hints(Train)[name])
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; give one of {', '.join(known)}")
        checks.count("anneal", self.anneal)
        if self.anneal and self.anneal >= self.steps:
            raise ValueError(
                f"anneal={self.anneal} of {self.steps} steps: the model would not be trained under its own attention; "
                "give fewer than the steps"
            )
        if not (0 < self.lr <= LARGEST and self.clip > 0 and 0 <= self.ema < 1 and self.warmup >= 0):
            raise ValueError(
                f"lr={self.lr}, clip={self.clip}, ema={self.ema}, warmup={self.warmup}: lr and clip must be above "
                "0, lr no more than float32 holds, ema in [0, 1), warmup 0 or more"
            )
        if not 0 <= max(self.lr, 1) * self.weight_decay <= LARGEST or self.seed < 0:
            raise ValueError(
                f"weight_decay={self.weight_decay}, seed={self.seed}: give 0 or more, and no infinite decay"
            )
        check_together(self)

    def check_memory(self) -> None:
        """Raises ValueError where this machine's memory can not hold the token ids of a batch."""
        what = f"a batch of {self.batch} sequences of {self.task.length} tokens"
        _check_memory(8 * self.batch * self.task.length, what, "a smaller batch")

    @property
    def begins(self) -> bool:
        """Whether the run begins with what an earlier one made."""
        stage = None if self.foresight is None else self.foresight.stage
        return any(made is not None for made in (self.codec, self.start, stage))

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = 1.0 if self.decay == "constant" else 1 - step / self.steps
        return self.lr * min(rise, fall)

    def ahead(self, step: int) -> float:
        """The share of what lies ahead that is open in step 0, 1, ...; see `anneal`."""
        return min(1.0, step / self.anneal) if self.anneal else 1.0

    def due(self, done: int, every: int) -> bool:
        """Whether what happens `every` so many steps is due once so many steps are done; at the end all is."""
        return done % every == 0 or done == self.steps

    def logged(self, done: int) -> list[int]:
        """The steps up to `done` that have a line in metrics.jsonl."""
        periods = self.log, self.save, self.validate
        return [step for step in range(1, done + 1) if any(self.due(step, every) for every in periods)]

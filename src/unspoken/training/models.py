"""The model of a config before training, and that of a run folder after it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unspoken.layout.attention import Attention
from unspoken.messages import first_line
from unspoken.model.adapters import adapted
from unspoken.model.denoiser import Denoiser
from unspoken.model.folder import read_ours
from unspoken.model.masks import add_token
from unspoken.model.ports import Port, Vectors, VectorWeights
from unspoken.model.tokens import load_tokenizer
from unspoken.noise.space import MASK
from unspoken.tasks import Task
from unspoken.tasks.prompted import Prompted
from unspoken.training.config import Train, Trunk
from unspoken.training.foresight import Foresight
from unspoken.training.objective import Autoencoding, ThoughtDiffusion
from unspoken.training.run import Run
from unspoken.training.seeds import seeded_globally
from unspoken.training.stages import Made


def new_denoiser(config: Train) -> Denoiser:
    """The untrained model of a config: same seed, same weights; the global generator is left as it was."""
    task = config.task
    before = None if config.foresight is None else _of_stage(config.foresight)
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
            given |= {"shift": True} if config.trunk.shift else {}
            model = Denoiser.from_pretrained(start, carry=config.objective.carries, **given)
            if config.trunk.lora:
                model.trunk = adapted(model.trunk, config.trunk.lora, model.mask_id)
        else:
            model = _from_scratch(config, config.trunk, config.port, config.objective.carries)
            if isinstance(task, Prompted):
                words = model.tokenizer = copy.deepcopy(task.coding.tokenizer)
                add_token(words, task.mask or MASK)
        if config.foresight is not None:  # last, so that all other weights are those of the model without it
            model.foresee(_predictor(config, config.foresight) if before is None else before)
    check_vocabulary(model, task)
    if config.codec is not None:
        model.codec = codec_of(config, config.codec)
    if config.start is not None:
        _begin_with(model, config.start)
    model.decoder = config.objective.decoder(config.process)
    return model


def _from_scratch(config: Train, trunk: Trunk, port: Port | None, carry: bool = False) -> Denoiser:
    """Drawn from the global generator."""
    length = max(config.task.length, config.objective.positions)
    return Denoiser.from_config(
        trunk.config(config.task.vocab_size, length),
        attention=config.attention,
        mask_id=config.task.mask_id,
        positions=length if trunk.learned_positions else 0,
        times=trunk.times,
        port=port,
        loops=trunk.loops,
        carry=carry,
    )


def _predictor(config: Train, foresight: Foresight) -> Denoiser:
    """A new predictor of the condition, as wide as the trunk."""
    trunk = replace(config.trunk, layers=foresight.layers, times=False, checkpoint="", lora=0, shift=False, loops=1)
    return _from_scratch(config, trunk, _read_alone(config.port, foresight.weight > 0))


def _read_alone(port: Port | None, asked: bool) -> Port | None:
    """The port of a predictor: without a head, unless it is asked for its own prediction."""
    if not isinstance(port, Vectors):
        return port
    return replace(port, view="x0", head="drawn" if asked else "none")


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


def _of_stage(foresight: Foresight) -> Denoiser | None:
    """The predictor of a stage, where there is one, without its head if that is asked nothing."""
    if foresight.stage is None:
        return None
    predictor = made(foresight.stage).requires_grad_(foresight.trained)
    if isinstance(predictor.port, Vectors) and isinstance(predictor.values, VectorWeights) and not foresight.weight:
        predictor.port, predictor.values.head = _read_alone(predictor.port, False), None
    return predictor


def codec_of(config: Train, stage: Made) -> Denoiser:
    """The frozen model of `Train.codec`. Raises ValueError where it was trained for other thoughts or vectors."""
    model, objective = made(stage), config.objective
    of = Run(Path(stage.folder)).config(Train).objective
    assert isinstance(objective, ThoughtDiffusion) and config.port is not None
    if not isinstance(of, Autoencoding) or (of.form, of.vectors, of.width) != (
        objective.form,
        objective.vectors,
        config.port.size[0],
    ):
        raise ValueError(
            f"{stage.folder} was trained by {of}: give the run of an Autoencoding of the same form, with "
            f"vectors={objective.vectors} and width={config.port.size[0]}"
        )
    return model


def _begin_with(model: Denoiser, stage: Made) -> None:
    """Loads the averaged weights of an earlier run. Raises ValueError where they are of another shape."""
    try:
        model.load_state_dict(made(stage).state_dict())
    except RuntimeError as error:
        raise ValueError(f"{stage.folder} holds a model of another shape: {first_line(error)}") from error


def made(stage: Made) -> Denoiser:
    """The model of an earlier stage, frozen, on the CPU. Raises ValueError, with the command, where it is not done."""
    run = Run(Path(stage.folder))
    how = f": make it first, `{stage.command}`" if stage.command else ""
    if not run.exists() or not run.checkpoints():
        raise ValueError(f"{stage.folder} holds no trained run, which this one begins with{how}")
    config, (step, _) = run.config(Train), run.checkpoints()[-1]
    if step < config.steps:
        raise ValueError(f"{stage.folder} has {step} of its {config.steps} steps, and this run begins with it{how}")
    return load(stage.folder, "cpu").requires_grad_(False)


def load(folder: str | Path, device: torch.device | str | None = None, attention: Attention | None = None) -> Denoiser:
    """The averaged model of a run folder's last checkpoint, or of any `save_pretrained` folder.

    device: where it goes; by default the GPU where there is one. attention: of a folder that records none, as those of
        foreign models; see `Denoiser.from_pretrained`.

    Raises ValueError where there is neither.
    """
    if not Path(folder).exists():
        raise ValueError(f"there is no {folder}; train a run first: unspoken train sudoku-6x6")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    model = Denoiser.from_pretrained(checkpoint_folder(folder), attention=attention).to(device)
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

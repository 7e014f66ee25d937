"""The model of a config before training, and that of a run folder after it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unspoken.model.adapters import adapted
from unspoken.model.denoiser import Denoiser
from unspoken.model.folder import read_ours
from unspoken.model.masks import add_token
from unspoken.model.ports import Port
from unspoken.model.tokens import load_tokenizer
from unspoken.noise.space import MASK
from unspoken.tasks import Task
from unspoken.tasks.prompted import Prompted
from unspoken.training.config import Train, Trunk
from unspoken.training.earlier import begin_with, earlier, read_alone
from unspoken.training.foresight import Foresight
from unspoken.training.loading import checkpoint_folder
from unspoken.training.seeds import seeded_globally


def new_denoiser(config: Train, held: Denoiser | None = None) -> Denoiser:
    """The untrained model of a config: same seed, same weights; the global generator is left as it was.

    held: the model of a checkpoint of this very run, which holds what came from runs of earlier stages: those may have
        moved since. Its own weights are not taken.
    """
    task = config.task
    before = earlier(config, held)
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
            model.foresee(before.predictor or _predictor(config, config.foresight))
    check_vocabulary(model, task)
    model.codec = before.codec
    if before.start is not None:
        begin_with(model, before.start, config)
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
    return _from_scratch(config, trunk, read_alone(config.port, foresight.weight > 0))


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

"""What a run begins with that earlier runs made: a codec, a predictor, weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unspoken.messages import first_line
from unspoken.model.denoiser import Denoiser
from unspoken.model.ports import Port, Vectors, VectorWeights
from unspoken.record import as_json, to_record
from unspoken.training.config import Train
from unspoken.training.foresight import Foresight
from unspoken.training.loading import load
from unspoken.training.objective import Autoencoding, ThoughtDiffusion
from unspoken.training.run import Run
from unspoken.training.stages import Made


@dataclass(frozen=True)
class Earlier:
    """Models of earlier stages; None where a config has none. A codec is frozen, a predictor as the config says."""

    codec: Denoiser | None = None
    predictor: Denoiser | None = None
    start: Denoiser | None = None


def earlier(config: Train, held: Denoiser | None = None) -> Earlier:
    """Those of a config; of a run that has a checkpoint, those that its model `held` holds.

    Raises ValueError where a stage is missing, not done, or of another kind.
    """
    foresight = config.foresight if config.foresight is not None and config.foresight.stage is not None else None
    if held is not None:
        codec = copy.deepcopy(held.codec)
        predictor = copy.deepcopy(held.foresight) if foresight is not None else None
        if predictor is not None and foresight is not None:
            predictor.requires_grad_(foresight.trained)
        return Earlier(codec, predictor)
    return Earlier(
        None if config.codec is None else codec_of(config, config.codec),
        None if foresight is None else predictor_of(config, foresight),
        None if config.start is None else made(config.start),
    )


def made(stage: Made) -> Denoiser:
    """The model of an earlier stage, frozen, on the CPU. Raises ValueError, with the command, where it is not done."""
    run = Run(Path(stage.folder))
    how = f": make it first, `{stage.command}`" if stage.command else ""
    if not run.exists() or not run.checkpoints():
        raise ValueError(f"{stage.folder} holds no trained run, which this one begins with{how}")
    config, (step, _) = config_of(stage), run.checkpoints()[-1]
    if step < config.steps:
        raise ValueError(f"{stage.folder} has {step} of its {config.steps} steps, and this run begins with it{how}")
    return load(stage.folder, "cpu").requires_grad_(False)


def config_of(stage: Made) -> Train:
    """The config of an earlier run."""
    return Run(Path(stage.folder)).config(Train)


def whatever_the_seed(config: Train) -> Train:
    """The same for all runs that differ in their seeds and those of the runs that they begin with."""

    def known(stage: Made | None) -> Made | None:
        if stage is None or not Run(Path(stage.folder)).exists():
            return stage
        return Made(as_json(to_record(whatever_the_seed(config_of(stage)))))

    foresight = config.foresight
    if foresight is not None:
        foresight = replace(foresight, stage=known(foresight.stage))
    return replace(config, seed=0, codec=known(config.codec), start=known(config.start), foresight=foresight)


def codec_of(config: Train, stage: Made) -> Denoiser:
    """The frozen model of `Train.codec`. Raises ValueError where it was trained for other thoughts or vectors."""
    model, objective = made(stage), config.objective
    of = config_of(stage).objective
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


def predictor_of(config: Train, foresight: Foresight) -> Denoiser:
    """The model of `Foresight.stage`, without its head if that is asked nothing.

    Raises ValueError for a run on another task, and for one that was trained to see noise.
    """
    assert foresight.stage is not None
    predictor = made(foresight.stage).requires_grad_(foresight.trained)
    of = config_of(foresight.stage)
    if of.task.title != config.task.title:
        raise ValueError(
            f"{foresight.stage.folder} was trained on {of.task.title}, and this run is on {config.task.title}: give a "
            "predictor of the same task"
        )
    if predictor.clock is not None or not of.process.absorbs:
        raise ValueError(
            f"{foresight.stage.folder} was trained under {of.process} and sees times: a predictor sees masks alone; "
            "give a run of Teacherless(), or of masks"
        )
    if isinstance(predictor.port, Vectors) and isinstance(predictor.values, VectorWeights) and not foresight.weight:
        predictor.port, predictor.values.head = read_alone(predictor.port, False), None
    return predictor


def read_alone(port: Port | None, asked: bool) -> Port | None:
    """The port of a predictor: without a head, unless it is asked for its own prediction."""
    if not isinstance(port, Vectors):
        return port
    return replace(port, view="x0", head="drawn" if asked else "none")


def begin_with(model: Denoiser, start: Denoiser, config: Train) -> None:
    """Loads the averaged weights of `Train.start`. Raises ValueError where shape or codec are others."""
    assert config.start is not None
    folder = config.start.folder
    if model.codec is not None and start.codec is not None:
        mine, its = model.codec.state_dict(), start.codec.state_dict()
        if mine.keys() != its.keys() or any(not torch.equal(mine[name], its[name]) for name in mine):
            raise ValueError(f"{folder} was trained with another codec than {config.codec}: give the codec of that run")
    try:
        model.load_state_dict(start.state_dict())
    except RuntimeError as error:
        raise ValueError(f"{folder} holds a model of another shape: {first_line(error)}") from error

"""What of a training run goes together: objective, attention, process, task, port, and runs of earlier stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unspoken.layout.groups import Related
from unspoken.model.ports import Vectors
from unspoken.noise import Gaussian
from unspoken.training.objective import (
    Autoencoding,
    Denoising,
    MaskedDiffusion,
    MultiToken,
    QueryCTC,
    Teacherless,
    ThoughtDiffusion,
)

if TYPE_CHECKING:  # for the type alone: `config` stands on this
    from unspoken.training.config import Train


def check_together(config: Train) -> None:
    """Raises ValueError, with what to write, for parts of a config that do not go together."""
    config.objective.check(config.attention)
    if not (config.process.absorbs or isinstance(config.objective, Denoising | ThoughtDiffusion)):
        raise ValueError(
            f"process={config.process} with objective={config.objective}, which asks masks alone: take Denoising()"
        )
    if isinstance(config.objective, Denoising):
        config.objective.check_process(config.process)
    if isinstance(config.objective, QueryCTC):
        filler = getattr(config.task, "end", None)
        if config.objective.blank >= config.task.mask_id or filler not in (None, config.objective.blank):
            raise ValueError(
                f"blank={config.objective.blank}: {config.task.title} has the ids 0 to {config.task.mask_id - 1} "
                f"beside the mask; give the one that fills up its answers" + (f", {filler}" if filler else "")
            )
    _check_values(config)
    _check_relation(config)
    _check_foresight(config)


def _check_thoughts(config: Train, objective: Autoencoding | ThoughtDiffusion) -> None:
    """Raises ValueError where the task's thoughts, the port, the process and the codec do not go together."""
    form, title = getattr(config.task, "thoughts", None), config.task.title
    if form is None:
        raise ValueError(f"{title} has no thoughts, and {type(objective).__name__} is about them: take arithmetic, say")
    if form != objective.form:
        raise ValueError(f"form={objective.form} is not how {title} has its thoughts: give form=task.thoughts")
    if isinstance(objective, Autoencoding):
        if config.port != objective.port():
            raise ValueError(f"port={config.port} with {objective}: give port=objective.port()")
        if config.codec is not None or not config.process.absorbs:
            raise ValueError("Autoencoding makes a codec, and has no noise process: leave codec= and process= out")
        if config.trunk.lora and config.recompute:
            raise ValueError("recompute=True with lora: the decoder's pass would be computed again with the adapter on")
        return
    port = config.port
    if not isinstance(port, Vectors) or port.placeholder != form.more or port.view == "eps" or not config.trunk.times:
        raise ValueError(
            f"port={port}, times={config.trunk.times}: thoughts are drawn from noise; give port=us.Vectors(width, "
            f"view='u', placeholder={form.more}) and Trunk(times=True)"
        )
    if not isinstance(config.process, Gaussian):
        raise ValueError(f'process={config.process}: vectors take us.Gaussian(path="linear")')
    if config.codec is None:
        raise ValueError("ThoughtDiffusion without codec=: give the run that made the vectors, us.Made(folder)")


def _check_foresight(config: Train) -> None:
    """Raises ValueError where what is foreseen would not be of whole sequences."""
    if config.foresight is None:
        return
    whole = isinstance(config.objective, MaskedDiffusion) and config.objective.groups is None
    if not (whole or isinstance(config.objective, Denoising)):
        raise ValueError(
            f"foresight with {config.objective}: its passes hold other entries than every position once; take "
            "Denoising, or MaskedDiffusion without groups"
        )
    if config.foresight.layers and config.trunk.checkpoint:
        raise ValueError(
            f"foresight with layers={config.foresight.layers} beside checkpoint={config.trunk.checkpoint}: a predictor "
            "from scratch has the width and the vocabulary of a trunk from scratch; give a stage"
        )
    if config.foresight.weight and config.objective.carries:
        raise ValueError(f"foresight with weight={config.foresight.weight} and carried states: give 0 for one of them")


def _check_relation(config: Train) -> None:
    """Raises ValueError where groups go by a table of other positions than the task has."""
    groups = config.objective.groups if isinstance(config.objective, MaskedDiffusion) else None
    members = groups.members if groups is not None else None
    if isinstance(members, Related) and len(members.table) != config.task.length:
        raise ValueError(
            f"Related is a table of {len(members.table)} positions, and {config.task.title} has {config.task.length}"
        )


def _check_values(config: Train) -> None:
    """Raises ValueError where the task's tokens, the port and the process do not go together."""
    if isinstance(config.objective, Autoencoding | ThoughtDiffusion):
        _check_thoughts(config, config.objective)
        return
    if config.codec is not None:
        raise ValueError(
            f"codec={config.codec} with {config.objective}: it is ThoughtDiffusion that reads vectors by it"
        )
    values = getattr(config.task, "values", None)
    if values is None:
        if config.port is not None or isinstance(config.process, Gaussian):
            raise ValueError(
                f"{config.task.title} is made of ids: it has no use for port={config.port} and process={config.process}"
            )
        return
    if config.port is None or (type(config.port).__name__, config.port.size) != (values.port, values.size):
        raise ValueError(
            f"{config.task.title} is made of values of {values.size}: give port=us.{values.port}"
            f"({', '.join(map(str, values.size))}, placeholder={values.placeholder}), not {config.port}"
        )
    if config.objective.carries:
        raise ValueError(f"{config.objective} with {config.port}: the states of values are not carried; give carry=0")
    if config.port.placeholder != values.placeholder:
        raise ValueError(f"{config.port}: give placeholder={values.placeholder}, as {config.task.title} has it")
    alone = isinstance(config.port, Vectors) and config.port.head == "none"
    if values.asked == "ids":
        if not alone or isinstance(config.objective, Denoising):
            raise ValueError(
                f"{config.objective} with {config.port}: the values of {config.task.title} are read, and ids are said; "
                "give the port head='none', and an objective of masks or next tokens"
            )
        return
    at_once = isinstance(config.port, Vectors) and isinstance(config.objective, Teacherless)
    if (isinstance(config.port, Vectors) and not at_once) != isinstance(config.process, Gaussian):
        raise ValueError(
            f"{type(config.port).__name__} under {config.process} with {config.objective}: vectors take Gaussian(), or "
            "Absorbing() with Teacherless(), which predicts all at once; codes take Absorbing()"
        )
    if isinstance(config.port, Vectors) and (alone or (at_once and config.port.view != "x0")):
        raise ValueError(
            f"head={config.port.head!r}, view={config.port.view!r} with {config.objective}: give a head, and the view "
            "x0 where all vectors are predicted at once"
        )
    if at_once:
        return
    if isinstance(config.port, Vectors):
        if config.port.view == "eps" or not config.trunk.times:
            raise ValueError(
                f"view={config.port.view!r}, times={config.trunk.times}: a walk begins at t = 1, where eps does not "
                "tell the vectors, and shows every time; give the view x0, v or u, and Trunk(times=True)"
            )
    elif not isinstance(config.objective, MaskedDiffusion | MultiToken | Teacherless) or (
        isinstance(config.objective, MultiToken) and config.objective.next_token
    ):
        raise ValueError(
            f"{config.objective} with codes: these are asked at their own masks, and decoded by Slots; take "
            "MaskedDiffusion, Teacherless, or MultiToken with next_token=0"
        )

"""Foresight Diffusion (Zhang et al. 2025, arXiv 2505.16474): a predictor understands the condition, a flow denoises.

Two stages: `predictor` is trained by squared error from the condition alone; `foreseeing` is a flow that reads the
frozen predictor's states. Beside them the plain flow (`vanilla`), and both streams trained together (`joint`; without a
weight the paper's ForeDiff-zero). `first_guess` is the paper's probe: what a flow knows of the answer at t = 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.denoise import denoise_values
from unspoken.layout.attention import MDM
from unspoken.model.denoiser import Denoiser
from unspoken.model.ports import Vectors
from unspoken.noise import Gaussian
from unspoken.noise.times import Shared
from unspoken.tasks import Tasks
from unspoken.training.config import Train, Trunk
from unspoken.training.foresight import Foresight
from unspoken.training.objective import Denoising, Teacherless
from unspoken.training.stages import Made

FLOW = Gaussian("linear")  # x_t = (1 - t) x0 + t eps


def predictor(task: Tasks, layers: int = 4, **changes: Any) -> Train:
    """Stage 1: every vector that is not given, predicted at once from those that are, by squared error.

    changes: other fields of `Train`, such as `steps`. Raises ValueError for a task of ids.
    """
    trunk = _trunk(layers, times=False)
    plain = Train(
        task, attention=MDM, trunk=trunk, objective=Teacherless(), port=_port(task, "x0"), **_budget(steps=3_000)
    )
    return replace(plain, **changes)


def vanilla(task: Tasks, layers: int = 6, **changes: Any) -> Train:
    """The plain flow: the velocity of every vector that is not given, at one time a row. See `predictor`."""
    plain = Train(
        task,
        attention=MDM,
        trunk=_trunk(layers, times=True),
        process=FLOW,
        objective=Denoising(times=Shared(), weight="flat"),
        port=_port(task, "u"),
        **_budget(steps=4_500),
    )
    return replace(plain, **changes)


def foreseeing(task: Tasks, stage: Made, layers: int = 2, **changes: Any) -> Train:
    """Stage 2: a flow that reads the states of the frozen predictor of `stage`. See `predictor`."""
    return vanilla(task, layers, **{"foresight": Foresight(stage), "steps": 1_500} | changes)


def joint(task: Tasks, layers: int = 2, foresight: int = 4, weight: float = 1.0, **changes: Any) -> Train:
    """Both streams from scratch at once, with `weight` of the predictor's squared error; 0 is ForeDiff-zero.

    layers: of the flow. foresight: layers of the predictor. changes: see `predictor`.
    """
    return vanilla(task, layers, **{"foresight": Foresight(layers=foresight, weight=weight)} | changes)


@torch.no_grad()
def first_guess(model: Denoiser, value: Tensor, draws: int = 16, generator: torch.Generator | None = None) -> Tensor:
    """`[batch, seq, width]`: eps - v(eps, 1, y), the mean over draws of eps: what a flow knows before it denoises.

    At t = 1 the state is noise alone, so the best answer is E[x0 | y], as a predictor's is (the paper's lemma). One
    step of a walk is this very number.

    value: `[batch, seq, width]` prompts, "not a number" where not known; what is known comes back.
    Raises ValueError for a model without a port of vectors.
    """
    checks.count("draws", draws, 1)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    drawn = [next(denoise_values(model, FLOW, value, steps=1, generator=generator)).z for _ in range(draws)]
    return torch.where(value.isnan(), torch.stack(drawn).mean(0), value)


def _port(task: Tasks, view: Any) -> Vectors:
    """Of a task's vectors; the velocity of an untrained flow is 0."""
    values = getattr(task, "values", None)
    if values is None or values.port != "Vectors":
        raise ValueError(f"{task.title} is not made of vectors, which a flow needs: take us.tasks.Bouncing()")
    return Vectors(values.size[0], view, values.placeholder, head="zero" if view == "u" else "drawn")


def _trunk(layers: int, times: bool) -> Trunk:
    return Trunk(layers, width=48, heads=4, times=times, init=0.07)


def _budget(steps: int) -> dict[str, Any]:
    return {"steps": steps, "batch": 64, "warmup": 50, "validate": 500, "save": 500}

"""LaDiR: latent diffusion over blocks of thoughts, then the answer (Kang et al. 2025, arXiv 2510.04573).

Three runs, each of which begins with the one before: `encoder` learns blocks of vectors for blocks of words, `reasoner`
denoises them one after the other and answers, `rolled` trains the reasoner on blocks that it draws itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unspoken.layout.attention import CACHED_JOINT
from unspoken.model.ports import Vectors
from unspoken.noise import Gaussian
from unspoken.noise.thoughts import Thoughts
from unspoken.tasks import Tasks
from unspoken.training.config import Train, Trunk
from unspoken.training.objective import Autoencoding, ThoughtDiffusion
from unspoken.training.stages import Made


def form_of(task: Tasks) -> Thoughts:
    """Where the thoughts of a task stand. Raises ValueError for a task without any."""
    form = getattr(task, "thoughts", None)
    if not isinstance(form, Thoughts):
        raise ValueError(f"{task.title} has no thoughts: take a task such as us.Permutations() or us.Arithmetic()")
    return form


def encoder(
    task: Tasks,
    *,
    vectors: int = 2,
    width: int = 8,
    beta: float = 1e-3,
    noise: float = 0.3,
    replace: float = 0.0,
    trunk: Trunk | None = None,
    **train: Any,
) -> Train:
    """Stage A: a variational autoencoder over the blocks of words of a task's thoughts.

    vectors, width, beta, noise, replace: see `Autoencoding`. train: fields of `Train` that are to be others.
    """
    objective = Autoencoding(form_of(task), vectors, width, beta, noise, replace)
    trunk = Trunk(layers=2, width=64, heads=4, init=0.07) if trunk is None else trunk
    return Train(
        task, attention=CACHED_JOINT, trunk=trunk, objective=objective, port=objective.port(), **_budget(800, train)
    )


def reasoner(
    task: Tasks,
    codec: Made,
    *,
    width: int = 8,
    trunk: Trunk | None = None,
    train: dict[str, Any] | None = None,
    **its: Any,
) -> Train:
    """Stage B: teacher forcing. Each block is denoised beside the true ones before it.

    codec: a run of `encoder`. width: of its vectors. its: fields of `ThoughtDiffusion` (`vectors`, `context`, ...).
    train: fields of `Train` that are to be others.
    """
    form = form_of(task)
    return Train(
        task,
        attention=CACHED_JOINT,
        trunk=Trunk(layers=3, width=96, heads=4, times=True, init=0.07) if trunk is None else trunk,
        process=Gaussian(path="linear"),
        objective=ThoughtDiffusion(form, **its),
        port=Vectors(width, view="u", placeholder=form.more),
        codec=codec,
        **_budget(1600, train or {}),
    )


def rolled(before: Train, start: Made, *, rollout: int = 10, **train: Any) -> Train:
    """Stage C: the answer follows on blocks that the model draws itself, in so many steps; the flow's loss stays.

    before: the run of `reasoner` that `start` is. train: fields of `Train` that are to be others.
    """
    if not isinstance(before.objective, ThoughtDiffusion):
        raise ValueError(f"before has objective={before.objective}: give the run of `reasoner` that start is")
    return replace(
        before, objective=replace(before.objective, rollout=rollout), start=start, **{"steps": 300, "lr": 5e-4} | train
    )


def _budget(steps: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Fields of `Train` on two cores, and what is to be others."""
    return {"steps": steps, "batch": 128, "lr": 2e-3, "warmup": 50, "ema": 0.99} | changes

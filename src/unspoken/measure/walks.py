"""Models of noise measured: bounds along paths, and sequences that walks draw, beside the exact chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.decoders.correct import correct
from unspoken.decoders.denoise import denoise
from unspoken.measure.bound import nelbo_along
from unspoken.model.denoiser import Denoiser
from unspoken.model.prediction import predictor
from unspoken.noise import Process
from unspoken.noise.times import Path
from unspoken.tasks import Chain
from unspoken.tasks.base import Examples, Task
from unspoken.training.seeds import seeded


def chain_of(task: Task) -> Chain:
    """The task, where illegal steps can be counted. ValueError where they can not."""
    if not isinstance(task, Chain):
        raise ValueError(f"{task.title} given; illegal steps are counted on a chain: give a Chain")
    return task


@torch.no_grad()
def bound_on(
    models: Sequence[Denoiser], process: Process, test: Examples, path: Path, draws: int, batch: int = 500
) -> Tensor:
    """`[seeds, examples]` nats a free token: the bound along a path. The same noise for every model."""
    found = []
    for model in models:
        parts = []
        for number, part in enumerate(test.split(batch)):
            total = nelbo_along(
                predictor(model, part.given),
                process,
                part.x0,
                part.given,
                model.mask_id,
                path=path,
                draws=draws,
                generator=seeded("bound", number),
            )
            parts.append(total.mean(1) / (~part.given).sum(1))
        found.append(torch.cat(parts))
    return torch.stack(found)


def drawn(
    model: Denoiser,
    process: Process,
    prompt: Tensor,
    steps: int,
    path: Path | None = None,
    *,
    seed: int,
) -> Tensor:
    """`[n, seq]`: one walk from each prompt, to its end."""
    z = prompt
    generator = seeded("walk", seed)
    for move in denoise(model, process, prompt, steps=steps, path=path, generator=generator):
        z = move.z
    return z


def mended(
    model: Denoiser, z: Tensor, given: Tensor, rounds: int, temperature: float, seed: int
) -> tuple[Tensor, float]:
    """`[n, seq]` after second thoughts; and how many passes they took a row."""
    passes, generator = 0, seeded("second thoughts", seed)
    for move in correct(model, z, given, rounds=rounds, temperature=temperature, generator=generator):
        z, passes = move.z, passes + int(move.changed.any(1).sum())
    return z, passes / len(z)


@dataclass(frozen=True)
class Drawn:
    """Sequences beside the chain that they should follow, `[seeds, sequences]` each, and one entropy a seed.

    illegal: the share of steps that the chain never takes. nll: nats a legal step. entropy: of the single tokens, nats.
    """

    illegal: Tensor
    nll: Tensor
    entropy: Tensor

    @classmethod
    def of(cls, task: Chain, sequences: Sequence[Tensor]) -> Drawn:
        """From the sequences of every seed."""
        illegal, nll, entropy = [], [], []
        for x in sequences:
            wrong = task.illegal(x)
            steps = task.transition[x[:, :-1], x[:, 1:]]
            legal = torch.where(wrong, 0.0, -torch.where(wrong, 1.0, steps).log())
            illegal.append(wrong.double().mean(1))
            nll.append(legal.sum(1) / (~wrong).sum(1).clamp_min(1))
            share = torch.bincount(x.flatten(), minlength=task.states).double() / x.numel()
            entropy.append(torch.special.entr(share).sum())
        return cls(torch.stack(illegal), torch.stack(nll), torch.stack(entropy))

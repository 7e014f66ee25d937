"""Text: bits per byte, from left to right exactly or over random orders beside so many latents; and samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder
from unspoken.measure.likelihood import nll_by_latents
from unspoken.model.denoiser import Denoiser
from unspoken.noise import Absorbing, AnyProcess
from unspoken.tasks import Prompted, Text
from unspoken.tasks.base import Examples
from unspoken.training.losses import packed_losses
from unspoken.training.objective import MultiToken, Objective
from unspoken.training.seeds import seeded

SLOT = MultiToken(window=1)
TOGETHER = 50  # windows in a pass


@torch.no_grad()
def bits_per_byte(
    task: Text | Prompted,
    model: Denoiser,
    process: AnyProcess,
    test: Examples,
    counts: Sequence[int] | None,
    draws: int,
) -> Tensor:
    """`[counts, windows]` bits of each window's tokens that are not given, per byte; a window counts by its bytes.

    counts: of latents, over random orders (`nll_by_latents`); None for autoregression by mask slots: one row.
    """
    if counts is None:
        return asked_nats(model, SLOT, process, test)[None] / math.log(2) / bytes_asked(task, test)
    parts = []
    for part in test.split(TOGETHER):
        generator = seeded("bits", len(parts))
        parts.append(nll_by_latents(model, part.x0, part.given, counts, generator, draws, part.document))
    return torch.cat(parts).T / math.log(2) / bytes_asked(task, test)


def bytes_asked(task: Text | Prompted, windows: Examples) -> float:
    """The mean number of bytes of what is not given of a window."""
    return float((task.bytes_in(windows.x0) - task.bytes_in(windows.prompt(task.mask_id))).double().mean())


@torch.no_grad()
def asked_nats(model: Denoiser, objective: Objective, process: AnyProcess, windows: Examples) -> Tensor:
    """`[n]` float64 nats: the losses of all that an objective asks of each window, summed.

    Of every next token that is the likelihood of the window, exactly.
    """
    found = []
    for part in windows.split(TOGETHER):
        packed = objective.pack(process, part.x0, part.given, model.mask_id, document=part.document)
        found.append(packed_losses(model, packed).double().sum(1))
    return torch.cat(found)


@torch.no_grad()
def slot_nats(model: Denoiser, windows: Examples, latents: Sequence[int], prefixes: int) -> Tensor:
    """`[len(latents), n]` float64 nats of each window, every token read from a mask slot beside masks for those after.

    An unbiased estimate at so many random prefixes of each window, the same for every number of latents.
    """
    return torch.stack([_at_prefixes(model, windows, n, prefixes) for n in latents])


def _at_prefixes(model: Denoiser, windows: Examples, latents: int, prefixes: int) -> Tensor:
    objective = MultiToken(window=latents + 1, prefixes=prefixes, weight=0.0)
    found = []
    for index, part in enumerate(windows.split(TOGETHER)):
        generator = seeded("prefixes", index)
        packed = objective.pack(Absorbing(), part.x0, part.given, model.mask_id, generator)
        losses, real = packed_losses(model, packed).double(), packed.one.real
        found.append((losses * real).sum(1) / real.sum(1) * (~part.given).sum(1))
    return torch.cat(found)


def sample_of(task: Text | Prompted, model: Denoiser, way: Decoder) -> str:
    """One window that the model says of itself."""
    blank = torch.full((1, task.length), task.mask_id)
    *_, step = way.steps(model, blank, generator=seeded("sample"))
    return task.show(step.tokens[0])

"""Text: bits per byte, from left to right exactly or over random orders beside so many latents; and samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder
from unspoken.measure.likelihood import nll_by_latents
from unspoken.model.denoiser import Denoiser
from unspoken.noise import AnyProcess
from unspoken.tasks import Prompted, Text
from unspoken.tasks.base import Examples
from unspoken.training.losses import packed_losses
from unspoken.training.objective import MultiToken
from unspoken.training.seeds import seeded

SLOT = MultiToken(window=1)


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
    parts = []
    for part in test.split(50):
        if counts is None:
            packed = SLOT.pack(process, part.x0, part.given, model.mask_id, document=part.document)
            parts.append(packed_losses(model, packed).sum(1, keepdim=True).double())
        else:
            generator = seeded("bits", len(parts))
            its = nll_by_latents(model, part.x0, part.given, counts, generator, draws, part.document)
            parts.append(its)
    size = (task.bytes_in(test.x0) - task.bytes_in(test.prompt(task.mask_id))).double()
    return torch.cat(parts).T / math.log(2) / size.mean()


def sample_of(task: Text | Prompted, model: Denoiser, way: Decoder) -> str:
    """One window that the model says of itself."""
    blank = torch.full((1, task.length), task.mask_id)
    *_, step = way.steps(model, blank, generator=seeded("sample"))
    return task.show(step.tokens[0])

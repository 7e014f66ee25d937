"""TokenBridge: tokens of images that are made discrete after training (Wang et al. 2025, arXiv 2503.16430).

`codec` trains an autoencoder, whose numbers a scalar quantizer turns into codes, dim by dim. `generator` is masked
diffusion over patches of codes, each read as the numbers that they stand for and predicted by a small autoregressive
head (or, for comparison, a parallel one). `guided` is classifier-free guidance on the trunk's features.

Where this differs from the release: times are uniform (there: from .7 to 1); the head keeps a sum (there: a
transformer); the context sees no masks, and masks are trained in groups, so that any number of them may share a pass.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unspoken import checks
from unspoken.codecs import Codec, Shape, load_codec, train_vae
from unspoken.layout.attention import JOINT, Attention
from unspoken.layout.entries import Layout
from unspoken.layout.groups import Groups
from unspoken.model.cache import Cache
from unspoken.model.codes import Codes, Head
from unspoken.model.denoiser import Denoiser
from unspoken.tasks import images
from unspoken.tasks.image_codes import ImageCodes
from unspoken.training.config import Train, Trunk
from unspoken.training.objective import MaskedDiffusion

SHAPES: dict[images.Source, Shape] = {
    "digits": Shape(8, grid=2, dims=8),
    "fashion": Shape(28, grid=4, dims=16),
}


def codec(source: images.Source = "digits", shape: Shape | None = None, **training: Any) -> Codec:
    """An autoencoder of the training images of `source`; a minute or two. Save it: `codec(...).save(folder)`.

    shape: by default `SHAPES`. training: arguments of `codecs.train_vae` (`steps`, `beta`, `seed`, ...).
    """
    grey = images.load(source, "train").grey
    return train_vae(grey, SHAPES[source] if shape is None else shape, **training)


def task_of(
    folder: str | Path, source: images.Source = "digits", levels: int = 32, classes: bool = False
) -> ImageCodes:
    """The task of a saved codec's codes. Raises ValueError for a folder that holds none."""
    shape = load_codec(folder).shape
    return ImageCodes(str(folder), source, shape.patches, shape.dims, levels, classes)


def generator(
    task: ImageCodes,
    head: Head = "additive",
    *,
    width: int = 64,
    trunk: Trunk | None = None,
    attention: Attention = JOINT,
    **changes: Any,
) -> Train:
    """Masked diffusion over the codes of a task.

    head, width: of the port (`us.Codes`). changes: other fields of `Train`.
    """
    port = Codes(*task.values.size, width=width, placeholder=task.values.placeholder, head=head, spacing="normal")
    objective = MaskedDiffusion(groups=Groups(whole=0.5)) if attention == JOINT else MaskedDiffusion()
    budget: dict[str, Any] = {"steps": 2_000, "batch": 64, "warmup": 50, "validate": 500, "save": 500}
    given: dict[str, Any] = {"objective": objective, **budget, **changes}
    trunk = Trunk(layers=3, width=96, heads=4, init=0.07) if trunk is None else trunk
    return Train(task, attention=attention, trunk=trunk, port=port, **given)


def guided(model: Denoiser, task: ImageCodes, weight: float, growing: bool = False) -> Denoiser:
    """The model under classifier-free guidance of its features: z = z_u + w (z_c - z_u), two passes for one.

    z_u are the trunk's last states where the class is left out. A weight of 1 is the plain model, 0 one that is told no
    class.

    growing: w rises from 1 to `weight` with the share of patches that are known, as in the release.
    Raises ValueError for a task without classes.
    """
    checks.number("weight", weight, -checks.HUGE, checks.HUGE, "a number: 1 for none, more to hold on to the class")
    if not task.classes:
        raise ValueError(f"{task.title} says no classes to be guided by: make it with classes=True")
    return _Guided(model, task, weight, growing)


class _Guided(Denoiser):
    """See `guided`. It shares all modules with the model."""

    def __init__(self, model: Denoiser, task: ImageCodes, weight: float, growing: bool):
        nn.Module.__init__(self)
        self.__dict__.update(model.__dict__)
        self.task, self.weight, self.growing = task, weight, growing

    def states(self, layout: Layout, attention: Attention | None = None, cache: Cache | None = None) -> Tensor:
        """Of both passes, mixed."""
        named = super().states(layout, attention, cache)
        if self.weight == 1:
            return named
        values = (layout.token == self.placeholder) | (layout.token == self.mask_id)
        token = torch.where(values, layout.token, self.task.no_class)
        without = super().states(replace(layout, token=token), attention, None)
        weight: float | Tensor = self.weight
        if self.growing:
            known = (layout.said & (layout.token == self.placeholder)).sum(1) / self.task.patches
            weight = 1 + (self.weight - 1) * known[:, None, None].to(named.dtype)
        return without + weight * (named - without)

    def new_cache(self) -> Cache | None:
        """None: the two passes would need one each."""
        return None

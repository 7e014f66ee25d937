"""What every objective has: a batch, its signature, and what it refuses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unspoken.layout.attention import Attention
from unspoken.layout.documents import Documents
from unspoken.layout.packing import (
    Packed,
    ask_values,
    show_values,
)
from unspoken.model.denoiser import Denoiser
from unspoken.noise import Absorbing, AnyProcess, Gaussian, Hybrid, SNRMix, Uniform
from unspoken.noise.space import is_unknown
from unspoken.tasks.base import Examples


@dataclass(frozen=True)
class Batch:
    """Clean sequences, and how they are to be corrupted.

    x0: `[batch, seq]` token ids; where the tokens are values, the placeholder id.
    given: `[batch, seq]` bool: the prompt.
    value: `[batch, seq, width]` vectors or codes of tokens that are values; None where all are ids.
    progress: how much of training is done, in [0, 1].
    present: `[batch, seq]` bool, False past the end of short rows; None where all are there. What is not there is
        `given`, and its entries are taken out of the pass: an objective need not know of it, unless it asks the prompt.
    """

    process: AnyProcess
    x0: Tensor
    given: Tensor
    mask_id: int
    generator: torch.Generator | None = None
    value: Tensor | None = None
    progress: float = 1.0
    present: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """The values. Raises ValueError where there are none."""
        if self.value is None:
            raise ValueError(f"{self.process} noises vectors, and these tokens are ids: take masks or uniform noise")
        return self.value


class Objective(ABC):
    """What a training pass holds and is asked. A final one is a frozen dataclass."""

    @abstractmethod
    def check(self, attention: Attention) -> None:
        """Raises ValueError for a rule under which a token would see what it is asked for."""

    @abstractmethod
    def decoder(self, process: AnyProcess) -> dict[str, Any] | None:
        """The record of the decoder that it trains for (`record.from_record` reads it into one of `decoders`)."""

    @property
    def unit(self) -> str:
        """What its loss is counted in."""
        return "nats a token"

    @property
    def positions(self) -> int:
        """Positions of its passes, where they may be more than those of a sequence."""
        return 0

    def values(self, model: Denoiser, examples: Examples) -> Tensor | None:
        """`[batch, m, width]`: the values that it is trained on, by default the examples' own, if any."""
        return examples.value

    @property
    def carries(self) -> bool:
        """Whether it trains a model that carries states from pass to pass."""
        return False

    @abstractmethod
    def _pack(self, batch: Batch) -> Packed:
        """A pass over ids, or over the placeholders of values."""

    def pack(
        self,
        process: AnyProcess,
        x0: Tensor,
        given: Tensor,
        mask_id: int,
        generator: torch.Generator | None = None,
        value: Tensor | None = None,
        progress: float = 1.0,
        document: Tensor | None = None,
    ) -> Packed:
        """A pass over a batch, and its questions.

        x0, given: `[batch, seq]` clean tokens, and which are the prompt. value: `[batch, seq, width]`, the vectors or
        codes that stand for the tokens, where tokens are values (then x0 is the placeholder id everywhere).
        progress: how much of training is done, in [0, 1], for what changes over it.
        document: `[batch, seq]` int64, to which document each token belongs, `PADDING` (-1) where a row is shorter than
            the batch; None where each row is one. Documents do not see each other, each is trained as if it stood alone
            in its row, its positions counted from 0, and what is in none is in no pass.
        Raises ValueError where process, objective and values do not go together.
        """
        if value is not None and isinstance(process, Uniform | Hybrid | SNRMix):
            raise ValueError(f"{process} redraws ids, and these tokens are values: take Absorbing() or Gaussian()")
        if value is not None and self.carries:
            raise ValueError(f"{self}: the states of values are not carried; give carry=0, or tokens that are ids")
        if document is None:
            return self._of(Batch(process, x0, given, mask_id, generator, value, progress))
        its = Documents.of(document, x0)
        value = None if value is None else its.split(value)
        known = its.split(given) | ~its.present
        batch = Batch(process, its.split(x0), known, mask_id, generator, value, progress, its.present)
        return its.join(self._of(batch))

    def _of(self, batch: Batch) -> Packed:
        """`_pack`, showing values where there are some, and asking for them where what is not given is values."""
        packed = self._pack(batch)
        if batch.value is None or isinstance(batch.process, Gaussian):
            return packed
        unknown = is_unknown(batch.value)[~batch.given]
        if bool(unknown.all()) and len(unknown):
            return show_values(packed, batch.value, batch.mask_id)
        if bool(unknown.any()):
            raise ValueError("some of what is asked is ids and some is values: give ids to say, or values, not both")
        return ask_values(packed, batch.value, batch.mask_id)


def masks_alone(process: AnyProcess, objective: object) -> Absorbing:
    """Raises ValueError for a process that is not masks alone."""
    if not isinstance(process, Absorbing):
        raise ValueError(f"{objective} asks masks, and {process} has other noise: take the objective Denoising()")
    return process


def need_causal(attention: Attention, objective: object) -> None:
    """Under a bidirectional context, clean tokens of a packed pass would hand later ones to earlier thresholds."""
    if not attention.cacheable:
        raise ValueError(
            f"{objective} with attention {attention.name}: its clean tokens would see what they are asked for; take a "
            "causal context that sees no latents: cached-joint, cached-alone or any-order"
        )

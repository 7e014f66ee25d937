"""Objectives of the autoregressive family: next tokens, blocks of latents, whole answers, registers."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import torch

from unspoken import checks
from unspoken.layout.attention import Attention
from unspoken.layout.packing import (
    Packed,
    any_order,
    ask_masks,
    ask_next,
    blocks,
    every_start,
    left_to_right,
    mix,
    slot_of,
    some_starts,
    weigh_slots,
)
from unspoken.noise import AnyProcess
from unspoken.training.base import Batch, Objective, need_causal

EVERY = 2**20  # tokens a pass: more than any row has


@dataclass(frozen=True)
class NextTokenPrediction(Objective):
    """Ordinary autoregression, from the left: each clean token is asked for the one said after it."""

    def check(self, attention: Attention) -> None:
        """Raises ValueError where a token would see what it is asked for."""
        need_causal(attention, self)

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: at the last token said."""
        return {"type": "NextToken"}

    def _pack(self, batch: Batch) -> Packed:
        clean = left_to_right(batch.x0, batch.given, batch.present)
        layout = clean.context()
        return ask_next(layout.select_where(layout.order < clean.free), clean)


@dataclass(frozen=True)
class MultiToken(Objective):
    """Autoregression in mask slots, with latents: predict the next token beside masks that stand for later ones.

    He et al. 2026 (arXiv 2602.03769): AR + MTP. Weights 0 on the latents are pause tokens; window 1 is the mask-slot
    form of ordinary AR; a random order is any-order AR.

    Attributes:
        window: Slots of a block, the next token's included; 0 is all that is left.
        prefixes: Thresholds drawn at random from each row; 0 takes every one.
        weight: Of a latent's loss, where the next token's is 1; a block's loss is the weighted mean.
        decay: Each latent weighs this times the one before it.
        next_token: The share of ordinary next-token loss, on the clean entries of the same pass.
        order: In which the tokens are said.
    """

    window: int = 0
    prefixes: int = 0
    weight: float = 1.0
    decay: float = 1.0
    next_token: float = 0.0
    order: Literal["left_to_right", "random"] = "left_to_right"

    def __post_init__(self) -> None:
        checks.plain(self)
        if self.window < 0 or self.prefixes < 0:
            raise ValueError(f"window={self.window}, prefixes={self.prefixes}: give 0 for all, or 1 or more")
        if not 0 <= self.weight < inf or not 0 < self.decay <= 1 or not 0 <= self.next_token < 1:
            raise ValueError(
                f"weight={self.weight}, decay={self.decay}, next_token={self.next_token}: give weight 0 or more, "
                "decay in (0, 1], next_token in [0, 1)"
            )
        if self.order not in ("left_to_right", "random"):
            raise ValueError(f"order is {self.order!r}; give 'left_to_right' or 'random'")
        if self.order == "random" and self.next_token:
            raise ValueError(
                f"next_token={self.next_token} in random order: a clean entry is not told which position comes next; "
                "give next_token=0, or order='left_to_right'"
            )

    def check(self, attention: Attention) -> None:
        """Raises ValueError where a clean token would carry later ones into a block."""
        if self.prefixes != 1 or self.next_token:
            need_causal(attention, self)

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: slots in its order, beside as many of the next tokens as a block holds."""
        order = "left_to_right" if self.order == "left_to_right" else "uniform"
        latents = self.window - 1 if self.window else None
        return {"type": "Slots", "latents": latents, "order": order, "latent_policy": "next"}

    def _pack(self, batch: Batch) -> Packed:
        x0, generator = batch.x0, batch.generator
        in_order = self.order == "left_to_right"
        clean = left_to_right(x0, batch.given, batch.present) if in_order else any_order(x0, batch.given, generator)
        start = some_starts(clean, self.prefixes, generator) if self.prefixes else every_start(clean)
        most = max(clean.most, 1)
        slots = torch.arange(min(self.window or most, most), device=x0.device)
        layout = blocks(clean, start, slots[None], batch.mask_id, whole=self.next_token > 0)
        by_slot = torch.where(slots == 0, 1.0, self.weight * self.decay ** (slots - 1))
        asked = layout.unsaid & (by_slot[slot_of(layout, x0.shape[1]).clamp_max(len(slots) - 1)] > 0)
        packed = weigh_slots(ask_masks(layout, x0, asked), by_slot)
        return mix(packed, ask_next(layout, clean), self.next_token) if self.next_token else packed


@dataclass(frozen=True)
class Teacherless(Objective):
    """The whole answer from the prompt alone, in one pass (Bachmann & Nagarajan 2024, arXiv 2403.06963)."""

    def check(self, attention: Attention) -> None:
        """No clean token but the prompt's is in the pass; but all are said at once, so latents must not be ordered."""
        if attention.latents == "ordered":
            raise ValueError(
                f"{self} with attention {attention.name}: it says all tokens at once, and ordered latents would be "
                "trained to see the ones before; take cached-joint, cached-alone, mdm or sidm"
            )

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: all in one pass."""
        return {"type": "Slots", "commit": EVERY, "order": "left_to_right", "latent_policy": "next"}

    def _pack(self, batch: Batch) -> Packed:
        clean = left_to_right(batch.x0, batch.given)
        slots = torch.arange(clean.most, device=batch.x0.device)
        start = torch.zeros_like(clean.free)
        return ask_masks(blocks(clean, start, slots[None], batch.mask_id), batch.x0)


@dataclass(frozen=True)
class MuToR(Objective):
    """Next-token training with a register at every prefix that predicts a token further ahead; decoded without them.

    MuToR (arXiv 2505.10518, eq. 5): each row draws one distance from 1 (the next token) to `reach`.

    Attributes:
        reach: The largest distance.
        weight: The registers' share of the loss.
    """

    reach: int = 4
    weight: float = 0.3

    def __post_init__(self) -> None:
        checks.plain(self)
        if self.reach < 1 or not 0 < self.weight < 1:
            raise ValueError(f"reach={self.reach}, weight={self.weight}: give reach 1 or more, weight in (0, 1)")

    def check(self, attention: Attention) -> None:
        """Raises ValueError where a token would see what it is asked for."""
        need_causal(attention, self)

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: at the last token said, without registers."""
        return {"type": "NextToken"}

    def _pack(self, batch: Batch) -> Packed:
        x0, generator = batch.x0, batch.generator
        clean = left_to_right(x0, batch.given, batch.present)
        device = x0.device if generator is None else generator.device
        ahead = torch.randint(self.reach, (len(x0), 1), generator=generator, device=device).to(x0.device)
        layout = blocks(clean, every_start(clean), ahead, batch.mask_id, whole=True)
        return mix(ask_next(layout, clean), ask_masks(layout, x0), self.weight)

"""What a pass is trained on: each objective draws the entries of a pass and what they are asked.

| objective             | order                    | thresholds          | a block holds                        |
| --------------------- | ------------------------ | ------------------- | ------------------------------------ |
| `MaskedDiffusion`     | random                   | one, random         | all that is left: masked diffusion   |
| `NextTokenPrediction` | left to right            | none                | (clean entries are asked)            |
| `MultiToken`          | left to right, or random | all, or some        | the next token, then its latents     |
| `Teacherless`         | left to right            | the first           | the whole answer                     |
| `MuToR`               | left to right            | all                 | a register: one token some way ahead |
| `BlockDiffusion`      | left to right            | every block's first | the block's tokens, partly masked    |
| `Denoising`           | (none: all at once)      | (none)              | every free token, at its own time    |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor

from unspoken.layout.attention import Attention
from unspoken.layout.entries import entries_of, one_block
from unspoken.layout.packing import (
    Packed,
    any_order,
    ask_masks,
    ask_next,
    ask_values,
    blocks,
    every_start,
    left_to_right,
    mix,
    slot_of,
    some_starts,
    weigh_slots,
    weighed,
)
from unspoken.layout.questions import Divergence, SquaredError
from unspoken.noise import Absorbing, AnyProcess, Gaussian, Hybrid, Ids, SNRMix, Uniform, Views
from unspoken.noise.gaussian import normal
from unspoken.noise.times import AlongPath, Diagonal, Shared, Times, stratified_times
from unspoken.record import to_record
from unspoken.training.losses import bound_weight, noised

EVERY = 2**20  # tokens a pass: more than any row has
MIN_SNR = 5.0  # where the weights of vectors are clipped


@dataclass(frozen=True)
class Batch:
    """Clean sequences, and how they are to be corrupted.

    x0: `[batch, seq]` token ids; where the tokens are values, the placeholder id.
    given: `[batch, seq]` bool: the prompt.
    value: `[batch, seq, width]` vectors or codes of tokens that are values; None where all are ids.
    """

    process: AnyProcess
    x0: Tensor
    given: Tensor
    mask_id: int
    generator: torch.Generator | None = None
    value: Tensor | None = None

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
    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """The record of the decoder that it trains for (`record.from_record` reads it into one of `decoders`)."""

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
    ) -> Packed:
        """A pass over a batch, and its questions.

        x0, given: `[batch, seq]` clean tokens, and which are the prompt. value: `[batch, seq, width]`, the vectors or
        codes that stand for the tokens, where tokens are values (then x0 is the placeholder id everywhere).
        Raises ValueError where process, objective and values do not go together.
        """
        if value is not None and isinstance(process, Uniform | Hybrid | SNRMix):
            raise ValueError(f"{process} redraws ids, and these tokens are values: take Absorbing() or Gaussian()")
        packed = self._pack(Batch(process, x0, given, mask_id, generator, value))
        if value is None or isinstance(process, Gaussian):
            return packed
        return ask_values(packed, value, mask_id)


@dataclass(frozen=True)
class MaskedDiffusion(Objective):
    """Masked diffusion: a random share of the tokens is masked, and every mask is asked for its token.

    Attributes:
        bound: Weigh the losses into the likelihood bound (a NELBO); otherwise all count alike.
    """

    bound: bool = False

    def check(self, attention: Attention) -> None:
        """Every rule will do."""

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """The record of the decoder that it trains for: from mask slots, the most confident first."""
        return {"type": "Slots"}

    def _pack(self, batch: Batch) -> Packed:
        process = _masks(batch.process, self)
        z = noised(process, batch.x0, batch.given, batch.mask_id, batch.generator)
        packed = ask_masks(z.layout, batch.x0, z.unsaid)
        if not self.bound:
            return packed
        return weighed(packed, bound_weight(process, z).gather(1, packed.one.at) / (~batch.given).sum())


@dataclass(frozen=True)
class NextTokenPrediction(Objective):
    """Ordinary autoregression, from the left: each clean token is asked for the one said after it."""

    def check(self, attention: Attention) -> None:
        """Raises ValueError where a token would see what it is asked for."""
        _need_causal(attention, self)

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: at the last token said."""
        return {"type": "NextToken"}

    def _pack(self, batch: Batch) -> Packed:
        clean = left_to_right(batch.x0, batch.given)
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
            _need_causal(attention, self)

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: slots in its order, beside as many of the next tokens as a block holds."""
        order = "left_to_right" if self.order == "left_to_right" else "uniform"
        latents = self.window - 1 if self.window else None
        return {"type": "Slots", "latents": latents, "order": order, "latent_policy": "next"}

    def _pack(self, batch: Batch) -> Packed:
        x0, generator = batch.x0, batch.generator
        in_order = self.order == "left_to_right"
        clean = left_to_right(x0, batch.given) if in_order else any_order(x0, batch.given, generator)
        start = some_starts(clean, self.prefixes, generator) if self.prefixes else every_start(clean)
        most = max(int(clean.free.max()), 1)
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
        slots = torch.arange(int(clean.free.max()), device=batch.x0.device)
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
        if self.reach < 1 or not 0 < self.weight < 1:
            raise ValueError(f"reach={self.reach}, weight={self.weight}: give reach 1 or more, weight in (0, 1)")

    def check(self, attention: Attention) -> None:
        """Raises ValueError where a token would see what it is asked for."""
        _need_causal(attention, self)

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: at the last token said, without registers."""
        return {"type": "NextToken"}

    def _pack(self, batch: Batch) -> Packed:
        x0, generator = batch.x0, batch.generator
        clean = left_to_right(x0, batch.given)
        device = x0.device if generator is None else generator.device
        ahead = torch.randint(self.reach, (len(x0), 1), generator=generator, device=device).to(x0.device)
        layout = blocks(clean, every_start(clean), ahead, batch.mask_id, whole=True)
        return mix(ask_next(layout, clean), ask_masks(layout, x0), self.weight)


@dataclass(frozen=True)
class BlockDiffusion(Objective):
    """Masked diffusion inside blocks that are said one after the other (BD3-LM, Arriola et al. 2025, arXiv 2503.09573).

    A block sees the clean blocks before it; each draws a time of its own.

    Attributes:
        size: Tokens of a block.
        bound: Weigh the losses into the likelihood bound; otherwise every masked token counts alike.
    """

    size: int = 4
    bound: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size}: give blocks of 1 token or more")

    def check(self, attention: Attention) -> None:
        """Raises ValueError where a clean token would carry later ones into a block."""
        _need_causal(attention, self)

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: by blocks of this size."""
        return {"type": "Blocks", "size": self.size}

    def _pack(self, batch: Batch) -> Packed:
        process, clean = _masks(batch.process, self), left_to_right(batch.x0, batch.given)
        n = -(-int(clean.free.max()) // self.size)
        start = torch.arange(n, device=batch.x0.device).expand(len(batch.x0), n)
        slots = torch.arange(self.size, device=batch.x0.device)
        layout = blocks(clean, start, slots[None], batch.mask_id, stride=self.size)
        times = stratified_times(start.numel(), batch.generator, batch.x0.device).view(start.shape)
        t = times.gather(1, layout.block.clamp_min(0))
        token = batch.x0.gather(1, layout.position)
        noisy = process.sample(token, t, Ids(batch.mask_id), batch.generator)
        token = torch.where(layout.unsaid, noisy, layout.token)
        layout = replace(layout, token=token)
        packed = ask_masks(layout, batch.x0, layout.unsaid & (token == batch.mask_id))
        if not self.bound:
            return packed
        return weighed(packed, process.nelbo_weight(t).gather(1, packed.one.at) / (~batch.given).sum())


@dataclass(frozen=True)
class Denoising(Objective):
    """Every token at a time of its own, under any process: GIDD, uniform noise, Diffusion Forcing.

    Each free token is asked for its clean one, and loses by the process's divergence (`Marginal.divergence`).

    Attributes:
        times: How the times of a row are drawn.
        weight: `snr` counts all log-SNRs alike (GIDD's "dynamic" weights, halved; arXiv 2512.10858's unweighted loss);
            `elbo` is the likelihood bound, whose weights explode at both ends; `clamp` is that, at most `most`.
            Of vectors, `snr` is Min-SNR (arXiv 2303.09556), and `flat` counts the squared errors of all times alike.
        most: Where weights are clamped.
    """

    times: Times = field(default_factory=Shared)
    weight: Literal["snr", "elbo", "clamp", "flat"] = "snr"
    most: float = 1.0

    def __post_init__(self) -> None:
        if self.weight not in ("snr", "elbo", "clamp", "flat") or not self.most > 0:
            raise ValueError(
                f"weight={self.weight!r}, most={self.most}: give 'snr', 'elbo', 'clamp' or 'flat', and most above 0"
            )
        if self.weight == "elbo" and self.times not in (Shared(), AlongPath(Diagonal())):
            raise ValueError(
                f"weight='elbo' with times={self.times} is no bound: take Shared() times, or measure it by nelbo_along"
            )

    def check(self, attention: Attention) -> None:
        """Raises ValueError where a token does not see all others: what is visible may be noise, none is context."""
        if attention.cacheable or attention.latents != "joint" or not attention.context_sees_latents:
            raise ValueError(f"{self} with attention {attention.name}: every token must see every other; take mdm")

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: through the noise of its process."""
        return {"type": "Walk", "process": to_record(process)}

    def _pack(self, batch: Batch) -> Packed:
        self.check_process(batch.process)
        t = self.times.draw(batch.given, batch.generator)
        if isinstance(batch.process, Gaussian):
            return self._of_values(batch.process, batch, t)
        process, space = batch.process, Ids(batch.mask_id)
        z = torch.where(batch.given, batch.x0, process.sample(batch.x0, t, space, batch.generator))
        weight = process.weight(z, batch.x0, t, space)
        if self.weight == "snr":
            weight = weight / process.log_snr_speed(t)
        elif self.weight == "clamp":
            weight = weight.clamp_max(self.most)
        weight = torch.where(t > 0, weight, 0.0)  # some schedules stand still, or leap, at 0
        layout = one_block(z, ~batch.given, torch.zeros_like(z), time=t)
        asked = ask_masks(layout, batch.x0).one
        weight = weight.gather(1, asked.at) * asked.real / (~batch.given).sum()
        loss = Divergence(process.marginal(t, space).take(asked.at), z.gather(1, asked.at))
        return Packed(layout, (replace(asked, weight=weight, loss=loss),))

    def check_process(self, process: AnyProcess) -> None:
        """Raises ValueError for weights that the process has not."""
        if (self.weight == "flat") != isinstance(process, Gaussian) and self.weight != "snr":
            raise ValueError(
                f"weight={self.weight!r} under {process}: vectors take 'snr' or 'flat', ids 'snr', 'elbo' or 'clamp'"
            )

    def _of_values(self, process: Gaussian, batch: Batch, t: Tensor) -> Packed:
        """Vectors, each at its own time; every one that is not given is asked for the clean vector."""
        x0 = batch.values
        eps = normal(x0, batch.generator)
        z = torch.where(batch.given[..., None], x0, process.mix(Views(x0, eps), t.to(x0.dtype)))
        layout = replace(one_block(batch.x0, ~batch.given, torch.zeros_like(batch.x0), time=t), value=z)
        asked = ask_masks(layout, batch.x0).one
        clip = MIN_SNR if self.weight == "snr" else None
        loss = SquaredError(process, t.to(x0.dtype).gather(1, asked.at), entries_of(eps, asked.at), clip)
        return Packed(layout, (replace(asked, target=entries_of(x0, asked.at), port="values", loss=loss),))


Objectives = MaskedDiffusion | NextTokenPrediction | MultiToken | Teacherless | MuToR | BlockDiffusion | Denoising


def _masks(process: AnyProcess, objective: object) -> Absorbing:
    """Raises ValueError for a process that is not masks alone."""
    if not isinstance(process, Absorbing):
        raise ValueError(f"{objective} asks masks, and {process} has other noise: take the objective Denoising()")
    return process


def _need_causal(attention: Attention, objective: object) -> None:
    """Under a bidirectional context, clean tokens of a packed pass would hand later ones to earlier thresholds."""
    if not attention.cacheable:
        raise ValueError(
            f"{objective} with attention {attention.name}: its clean tokens would see what they are asked for; take a "
            "causal context that sees no latents: cached-joint, cached-alone or any-order"
        )

"""Objectives of diffusion: masks in random order, in blocks from left to right, or any noise at any time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.attention import Attention
from unspoken.layout.carrying import check_reveal, two_passes
from unspoken.layout.entries import entries_of, one_block
from unspoken.layout.groups import Groups, ask_groups
from unspoken.layout.packing import (
    Packed,
    ask_masks,
    blocks,
    left_to_right,
    weighed,
)
from unspoken.layout.questions import Divergence, SquaredError
from unspoken.noise import AnyProcess, Gaussian, Ids, Views
from unspoken.noise.gaussian import normal
from unspoken.noise.times import AlongPath, Diagonal, Shared, Times, stratified_times
from unspoken.record import to_record
from unspoken.training.base import Batch, Objective, masks_alone, need_causal
from unspoken.training.losses import bound_weight, noised

MIN_SNR = 5.0  # where the weights of vectors are clipped


@dataclass(frozen=True)
class MaskedDiffusion(Objective):
    """Masked diffusion: a random share of the tokens is masked, and every mask is asked for its token.

    Attributes:
        bound: Weigh the losses into the likelihood bound (a NELBO); otherwise all count alike.
        groups: How the masked tokens are split into groups that do not see each other, so that few latents are trained
            for as well as many; by default the attention's rule is all there is.
        carry: Above 0, a second pass follows in which so many more tokens of a row are said, and whose masks read the
            last states that they had in the first: as in a decoding that commits so many a pass and carries states.
            `uniform` draws the number from 1 to all but one. Both passes are asked, and count alike. 0 is one pass.
    """

    bound: bool = False
    groups: Groups | None = None
    carry: int | Literal["uniform"] = 0

    def __post_init__(self) -> None:
        checks.plain(self)
        check_reveal("carry", self.carry)
        if self.carry and (self.groups is not None or self.bound):
            raise ValueError(
                f"carry={self.carry!r} with bound={self.bound}, groups={self.groups}: states are carried between whole "
                "passes, whose losses together are no likelihood bound; give bound=False and groups=None, or carry=0"
            )
        if self.bound and self.groups is not None and (self.groups.weight or self.groups.distil):
            raise ValueError(
                f"bound=True with weight={self.groups.weight}, distil={self.groups.distil}: losses weighed otherwise "
                "are no likelihood bound; give 0 for both"
            )

    def check(self, attention: Attention) -> None:
        """Every rule will do without groups; with them, one whose latents are joint and seen by nobody else."""
        if self.groups is not None:
            self.groups.check(attention)

    @property
    def carries(self) -> bool:
        """Whether there is a second pass, which reads states of the first."""
        return self.carry != 0

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """The record of the decoder that it trains for: from mask slots, the most confident first."""
        return {"type": "Slots"}

    def _pack(self, batch: Batch) -> Packed:
        process = masks_alone(batch.process, self)
        z = noised(process, batch.x0, batch.given, batch.mask_id, batch.generator)
        if self.groups is None:
            packed = ask_masks(z.layout, batch.x0, z.unsaid)
        else:
            packed = ask_groups(z.layout, batch.x0, self.groups, batch.generator, batch.progress)
        if self.carry:
            return two_passes(packed, batch.x0, self.carry, batch.generator)
        if not self.bound:
            return packed
        weight = bound_weight(process, z).gather(1, packed.layout.position.gather(1, packed.one.at))
        times = 2 if self.groups is not None and self.groups.both else 1  # that a token is in the pass
        return weighed(packed, weight / ((~batch.given).sum() * times))


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
        checks.plain(self)
        if self.size < 1:
            raise ValueError(f"size={self.size}: give blocks of 1 token or more")

    def check(self, attention: Attention) -> None:
        """Raises ValueError where a clean token would carry later ones into a block."""
        need_causal(attention, self)

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: by blocks of this size."""
        return {"type": "Blocks", "size": self.size}

    def _pack(self, batch: Batch) -> Packed:
        process, clean = masks_alone(batch.process, self), left_to_right(batch.x0, batch.given)
        n = -(-clean.most // self.size)
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
        checks.plain(self)
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
        if not attention.full:
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

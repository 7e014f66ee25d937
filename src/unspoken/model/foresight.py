"""A predictor that reads the condition alone, and how a model reads what it foresees (ForeDiff, arXiv 2505.16474).

The predictor is a `Denoiser` of its own: it never sees noise or times, so its states are the same in every pass of a
walk. They enter the model at its input: h = h0 + MLP(AdaLN([h0; g], t)), whose last layer begins at nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unspoken.model.folder import FORESIGHT, OURS, read_ours
from unspoken.model.loading import sums
from unspoken.model.trunks import Clock

if TYPE_CHECKING:  # for the type alone: `denoiser` stands on this
    from unspoken.model.denoiser import Denoiser


class Fusion(nn.Module):
    """Adds to what an entry reads, `[batch, entries, width]`, what is foreseen of it. A new one adds 0.

    foreseen: width of the predictor's states. times: scale and shift of the normalised pair depend on the entry's time.
    """

    def __init__(self, width: int, foreseen: int, times: bool):
        super().__init__()
        both = width + foreseen
        self.clock = Clock(2 * both) if times else None
        self.first, self.last = nn.Linear(both, width), nn.Linear(width, width)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, embedded: Tensor, foreseen: Tensor, t: Tensor) -> Tensor:
        """embedded: h0. foreseen: g `[batch, entries, foreseen]`. t: `[batch, entries]` in [0, 1]."""
        pair = torch.cat([embedded, foreseen.to(embedded.dtype)], -1)
        pair = nn.functional.layer_norm(pair, pair.shape[-1:])
        if self.clock is not None:
            scale, shift = self.clock(t).chunk(2, -1)
            pair = pair * (1 + scale) + shift
        return embedded + self.last(nn.functional.silu(self.first(pair)))


def fusion_of(model: Denoiser, predictor: Denoiser) -> Fusion:
    """A new fusion, drawn from torch's global generator. Raises ValueError where the two read different tokens."""
    mine, its = ((m.vocab_size, m.mask_id, _shape(m)) for m in (model, predictor))
    if mine != its:
        raise ValueError(
            f"the predictor reads (token ids, mask, values) {its}, the model {mine}: train it on the same task"
        )
    width = model.trunk.config.hidden_size
    fusion = Fusion(width, predictor.trunk.config.hidden_size, model.clock is not None)
    return fusion.to(model.trunk.device, model.trunk.dtype)


def _shape(model: Denoiser) -> tuple[Any, ...] | None:
    port = model.port
    return None if port is None else (type(port).__name__, *port.size, port.placeholder)


def is_frozen(model: nn.Module) -> bool:
    """Whether no weight of it is trained."""
    return not any(p.requires_grad for p in model.parameters())


def load_foresight(model: Denoiser, folder: str | Path, options: dict[str, Any]) -> None:
    """Gives the model the predictor that the folder of its checkpoint holds, where it records one.

    options: of `Denoiser.from_pretrained`. Raises ValueError where the predictor is gone or another one.
    """
    ours = read_ours(folder)
    if ours is None or not ours.get("foresight"):
        return
    inside = Path(folder) / FORESIGHT
    if not (inside / OURS).exists():
        raise ValueError(
            f"{folder} lacks its predictor, {FORESIGHT}/; copy the folder anew, or take another checkpoint"
        )
    if sums(inside) != ours["foresight"]:
        raise ValueError(
            f"{inside} is not the predictor that was saved with {folder}: another SHA-256; copy the folder anew"
        )
    model.foresee(type(model).from_pretrained(inside, **options))

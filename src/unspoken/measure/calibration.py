"""Whether confidence is deserved: how often the likeliest token is right, by how probable the model calls it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.reading import read_ids
from unspoken.model.denoiser import Denoiser
from unspoken.noise.space import PADDING
from unspoken.tasks.base import Examples


@dataclass(frozen=True)
class Reliability:
    """Slots in bins of confidence, of equal width from 0 to 1; bin b of n holds confidences in (b / n, (b + 1) / n].

    Attributes:
        counts: How many slots are in each bin.
        confidence: Their mean confidence, a probability; nan in an empty bin.
        right: The share of them whose likeliest token is the right one; nan in an empty bin.
    """

    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    right: tuple[float, ...]

    @property
    def error(self) -> float:
        """The expected calibration error, from 0 to 1: the mean over slots of |share right - confidence| of their bin.

        Naeini et al. 2015 (AAAI); Guo et al. 2017, arXiv 1706.04599.
        """
        bins = zip(self.counts, self.confidence, self.right, strict=True)
        return sum(n * abs(right - said) for n, said, right in bins if n) / sum(self.counts)


def reliability(confidence: Tensor, right: Tensor, bins: int = 10) -> Reliability:
    """Of predictions: confidence `[n]`, a probability, and right `[n]` bool."""
    checks.count("bins", bins, 1)
    checks.tensor("right", right, torch.bool, confidence.shape)
    if confidence.dim() != 1 or not len(confidence):
        raise ValueError(f"confidence is of shape {tuple(confidence.shape)}; give [n], of one prediction or more")
    if not bool(((confidence >= 0) & (confidence <= 1 + 1e-6)).all()):
        raise ValueError("a confidence is outside [0, 1]; give probabilities")
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    which = torch.bucketize(confidence.double().cpu(), edges)
    counts = torch.bincount(which, minlength=bins)
    said, share = (
        torch.bincount(which, its.double().cpu(), minlength=bins) / counts for its in (confidence, right)
    )  # 0 / 0 is nan
    return Reliability(tuple(counts.tolist()), tuple(said.tolist()), tuple(share.tolist()))


def calibration(
    model: Denoiser,
    examples: Examples,
    *,
    share: float = 1.0,
    latents: int | None = None,
    temperature: float = 1.0,
    bins: int = 10,
    batch: int = 64,
    generator: torch.Generator | None = None,
) -> Reliability:
    """Reliability of a model's rows in the slots of held-out examples, such as `task.sample("test", 100)`.

    share: each token that is not given is a slot with this probability, in (0, 1]; the others are shown. A token counts
        as right where it is the example's.
    latents, temperature: see `us.read_ids`.
    generator: which tokens are slots; None = a fresh one of seed 0.
    Raises ValueError for examples of values, for rows of several documents, and where no token is a slot.
    """
    checks.number("share", share, checks.TINY, 1, "a share in (0, 1]")
    if examples.value is not None:
        raise ValueError("the examples' tokens are values; only ids have rows")
    if examples.document is not None and int(examples.document.max()) > 0:
        raise ValueError("rows of several documents are not read; give examples of one document a row")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    drawn = torch.rand(examples.x0.shape, generator=generator) < share
    slots = ~examples.given & drawn
    if not bool(slots.any()):
        raise ValueError("no token of the examples is a slot; give more examples, or a larger share")
    confidence: list[Tensor] = []
    right: list[Tensor] = []
    for first in range(0, len(examples), batch):
        part = slice(first, first + batch)
        x0, its = examples.x0[part], slots[part]
        if not bool(its.any()):
            continue
        present = None if examples.document is None else (examples.document[part] != PADDING).to(model.device)
        tokens = torch.where(its, model.mask_id, x0).to(model.device)
        found = read_ids(model, tokens, present=present, latents=latents, temperature=temperature, top_k=1)
        said = found.ids[..., 0] == x0.to(model.device).gather(1, found.position)
        confidence.append(found.logp[..., 0][found.open].exp())
        right.append(said[found.open])
    return reliability(torch.cat(confidence), torch.cat(right), bins)

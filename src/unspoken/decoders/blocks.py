"""Block diffusion: the tokens of a block are said in any order before the decoder goes on to the next block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import check_all_present, check_answers, check_causal
from unspoken.decoders.step import Step, put
from unspoken.decoders.values import rows_to_say
from unspoken.layout.entries import first_where, rank_of
from unspoken.layout.packing import Clean, blocks
from unspoken.model.cache import Cache
from unspoken.model.network import Model


@dataclass(frozen=True)
class Blocks:
    """Block by block from the left, in each the most confident first (BD3-LM, Arriola et al. 2025, arXiv 2503.09573).

    Attributes:
        size: Unsaid tokens of a block.
        commit: Tokens said a pass.
        cache: Keep the finished blocks' keys and values where the model can.
    """

    size: int = 4
    commit: int = 1
    cache: bool = True

    def __post_init__(self) -> None:
        checks.plain(self)
        _check_blocks(self.size, self.commit)

    def steps(
        self,
        model: Model,
        tokens: Tensor,
        *,
        present: Tensor | None = None,
        predict_latents: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[Step]:
        """See `Slots.steps` and `block_by_block`: every unsaid token in view is a candidate, and nothing is drawn."""
        check_all_present(self, present)
        check_causal(self, model)
        return block_by_block(model, tokens, size=self.size, commit=self.commit, cache=self.cache)


def block_by_block(model: Model, tokens: Tensor, *, size: int, commit: int = 1, cache: bool = True) -> Iterator[Step]:
    """Blocks of `size` unsaid tokens from left to right; in a block the most confident are said first, `commit` a pass.

    For models trained by `BlockDiffusion` of that size: a block sees itself and what was said before it.
    tokens: `[batch, seq]`, the mask id where unsaid.
    cache: keep the finished blocks' keys and values where the model can.
    """
    _check_blocks(size, commit)
    clean = rows_to_say(Blocks(size, commit), model, tokens, None)
    return _block_by_block(model, clean, size, commit, model.new_cache() if cache else None)


@torch.no_grad()
def _block_by_block(model: Model, clean: Clean, size: int, commit: int, cache: Cache | None) -> Iterator[Step]:
    passes = 0
    slots = torch.arange(size, device=clean.x0.device)[None]
    for block in range(-(-clean.most // size)):
        whole = blocks(clean, torch.full_like(clean.free, block), slots, model.mask_id, stride=size)
        here, fresh = (clean.rank // size == block) & ~clean.given, True
        for _ in range(-(-int(here.sum(1).max()) // commit)):
            new = whole.said & (whole.order == block) & fresh if cache is not None else whole.said
            current = replace(whole, token=torch.where(whole.unsaid, clean.x0.gather(1, whole.position), whole.token))
            layout = current.select_where(new | whole.unsaid)
            masked = layout.unsaid & (layout.token == model.mask_id)
            at = first_where(masked, int(masked.sum(1).max()))
            cached = 0 if cache is None else len(cache)
            probability, guess = model(layout, at, cache).softmax(-1).max(-1)
            if cache is not None:
                cache.keep(layout.without(layout.unsaid), int(layout.said.sum(1).max()))
            real, position = masked.gather(1, at), layout.position.gather(1, at)
            check_answers(passes, probability, real)
            chosen = real & (rank_of(-probability, real) < commit)
            clean = replace(clean, x0=put(clean.x0, position, guess, chosen))
            yield Step.of_all(
                passes,
                clean.x0,
                position,
                chosen,
                (guess, probability),
                mask_id=model.mask_id,
                entries=layout.shape[1],
                cached=cached,
                real=real,
            )
            passes, fresh = passes + 1, False


def _check_blocks(size: int, commit: int) -> None:
    checks.count("size", size, 1)
    checks.count("commit", commit, 1)
    if commit > size:
        raise ValueError(f"commit={commit} of blocks of size={size}; need 1 <= commit <= size")

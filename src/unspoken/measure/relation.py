"""Which positions look at which, measured on a trained model: what the `attended` latents go by.

Averaged over examples, noise, loops, layers and heads, attention between unsaid positions is a table of the task's
structure that nobody wrote down: on Sudoku it finds row, column and box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unspoken.layout.entries import Layout
from unspoken.measure.likelihood import check_clean
from unspoken.model.denoiser import Denoiser
from unspoken.model.reach import check_reach
from unspoken.model.trunks import added, looped
from unspoken.noise import Absorbing
from unspoken.training.losses import noised


@torch.no_grad()
def relation_of(
    model: Denoiser,
    x0: Tensor,
    given: Tensor,
    *,
    process: Absorbing | None = None,
    draws: int = 4,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`[seq, seq]`: the mean attention of an unsaid entry at one position to an unsaid one at another that it may see.

    x0, given: `[n, seq]` training examples; each is noised `draws` times. The diagonal is 0, and so are pairs that
    were never unsaid together.
    """
    check_clean(model, x0, given, draws, generator)
    total = torch.zeros(x0.shape[1], x0.shape[1], device=model.device)
    seen = torch.zeros_like(total)
    for _ in range(draws):
        z = noised(process or Absorbing(), x0, given, model.mask_id, generator)
        layout, unsaid = z.layout.to(model.device), z.unsaid.to(model.device)
        both = unsaid[:, :, None] & unsaid[:, None, :] & layout.mask(model.attention)[:, 0]
        total += (looks(model, layout) * both).sum(0)
        seen += both.sum(0)
    return (total / seen.clamp_min(1)).fill_diagonal_(0)


@torch.no_grad()
def looks(model: Denoiser, layout: Layout) -> Tensor:
    """`[batch, entries, entries]`: how much each (row) attends to each (column), mean over loops, layers and heads."""
    check_reach(model.trunk.config, model.known_positions, layout)
    kernel = model.trunk.config._attn_implementation or "sdpa"
    model.trunk.set_attn_implementation("eager")  # the others do not tell
    try:
        outputs = looped(
            model.trunk,
            model.embed(layout),
            [{}] * model.loops,
            position_ids=layout.position,
            attention_mask=added(layout.mask(model.attention), model.trunk.dtype),
            use_cache=False,
            output_attentions=True,
        )
        told = [heads.mean(1) for output in outputs for heads in output.attentions]
    finally:
        model.trunk.set_attn_implementation(kernel)
    return torch.stack(told).mean(0)

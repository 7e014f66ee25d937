"""What a pretrained model is made into by `study adapt`, and the budget that two cores allow."""

from __future__ import annotations

from dataclasses import replace

from unspoken.layout.attention import MDM
from unspoken.layout.groups import Groups
from unspoken.study.adapt import AdaptStudy
from unspoken.study.adapted import Adapted
from unspoken.tasks import Prompted
from unspoken.training.config import Train, Trunk
from unspoken.training.objective import MaskedDiffusion, MultiToken, NextTokenPrediction

AR = Adapted("AR", NextTokenPrediction(), lr=3e-4)
SLOTS = MultiToken(window=17, prefixes=4, next_token=0.5)
DRAFTS = MultiToken(window=4, prefixes=16, next_token=0.5)
GROUPED = MaskedDiffusion(groups=Groups(1.0, whole_at_end=0.0))
METHODS = (
    AR,
    Adapted("AR + MTP", SLOTS, latents=(0, 1, 4, 16)),
    Adapted("AR + MTP, all weights", SLOTS, lora=0, lr=1e-4, latents=(0, 1, 4, 16)),
    Adapted("AR + MTP, shift", DRAFTS, shift=True, drafts=(1, 2, 3)),
    Adapted("grouped", GROUPED, latents=(0, 4, 16, None)),
    Adapted("MDM", MaskedDiffusion(), MDM, latents=(None,)),
    Adapted("MDM, annealed", MaskedDiffusion(), MDM, anneal=50, latents=(None,)),
)


def adapt(checkpoint: str, data: str = "austen", held_out: str | None = None, steps: int = 100) -> AdaptStudy:
    """One seed of every method from a checkpoint, on a text: an hour and a half on two cores for SmolLM2-135M.

    held_out: the source that is the test; by default one of Austen's novels, of other data a share of the windows.
    """
    held_out = ("austen-persuasion" if data == "austen" else "") if held_out is None else held_out
    task = Prompted(checkpoint, data, held_out=held_out, length=128)
    train = Train(task, trunk=Trunk(checkpoint=checkpoint), steps=steps, batch=4, warmup=min(10, steps), ema=0.98)
    methods = tuple(replace(its, anneal=min(its.anneal, steps // 2)) for its in METHODS)
    return AdaptStudy(
        replace(train, validate=steps, validation_examples=16, save=max(1, steps // 4)), methods, seeds=(0,)
    )

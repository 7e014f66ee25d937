"""What saying a text takes: passes, entries and CPU seconds a token, beside the `generate` of transformers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder
from unspoken.decoders.generate import generate_ids
from unspoken.model.denoiser import Denoiser
from unspoken.model.trunks import never_said


@dataclass(frozen=True)
class Said:
    """What saying so many tokens after each of some prompts took, a prompt at a time.

    Attributes:
        tokens: `[prompts, new]` what was said.
        seconds: `[prompts]` CPU seconds a token.
        passes: Of the trunk, a token.
        entries: Computed a token.
    """

    tokens: Tensor
    seconds: Tensor
    passes: float
    entries: float


class _Counter:
    """Passes of a trunk, and the entries computed in them, while it is in use."""

    def __init__(self, model: Denoiser) -> None:
        self.model, self.passes, self.entries = model, 0, 0

    def __enter__(self) -> _Counter:
        body = self.model.trunk.get_decoder()
        self.hook = body.register_forward_pre_hook(self._count, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def _count(self, _: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids, states = kwargs.get("input_ids", args[0] if args else None), kwargs.get("inputs_embeds")
        given = ids if states is None else states
        assert given is not None
        self.passes += 1
        self.entries += given.shape[0] * given.shape[1]


Ways = Mapping[str, tuple[Denoiser, Decoder | None]]  # by name: a model and its decoder, None: transformers' generate


def said(ways: Ways, prompts: Tensor, new: int) -> dict[str, Said]:
    """So many new tokens after each of `prompts` `[n, length]`, the likeliest each; the ways take turns at a prompt.

    `generate` of transformers has its cache and the same weights. Nothing ends a text before that many tokens.
    """
    tokens: dict[str, list[Tensor]] = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    taken = {way: [0, 0] for way in ways}
    for row in prompts:
        for way, (model, decoder) in ways.items():
            with _Counter(model) as counter:
                clock = time.process_time()
                tokens[way].append(_say(model, row[None], new, decoder)[0, len(row) :])
                seconds[way].append((time.process_time() - clock) / new)
            taken[way] = [taken[way][0] + counter.passes, taken[way][1] + counter.entries]
    total = len(prompts) * new
    return {
        way: Said(torch.stack(tokens[way]), torch.tensor(seconds[way]).double(), passes / total, entries / total)
        for way, (passes, entries) in taken.items()
    }


@torch.no_grad()
def _say(model: Denoiser, row: Tensor, new: int, decoder: Decoder | None) -> Tensor:
    if decoder is not None:
        return generate_ids(model, row, max_new_tokens=new, decoder=decoder, eos_token_id=())
    from transformers import GenerationConfig

    trunk: Any = model.trunk
    own, silent = trunk.generation_config, never_said(model.mask_id, model.unused, model.vocab_size)
    # Its own may hold penalties and ends, which the other ways have not.
    trunk.generation_config = GenerationConfig(pad_token_id=0, suppress_tokens=list(silent))
    try:
        return trunk.generate(row, attention_mask=torch.ones_like(row), max_new_tokens=new, do_sample=False)
    finally:
        trunk.generation_config = own

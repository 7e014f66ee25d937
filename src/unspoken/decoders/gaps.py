"""Texts with gaps, as in `"Once <fill 12> lived a king"`: read as ids, and filled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch

from unspoken.decoders.autoregressive import NextToken
from unspoken.decoders.decode import Decoder, changed, decode, ends_rows
from unspoken.decoders.endings import NONE, Endings
from unspoken.decoders.generate import decoder_for, ends_of
from unspoken.decoders.slots import Slots
from unspoken.model.denoiser import Denoiser
from unspoken.model.tokens import Tokenizer, ids_after, ids_of, text_after, tokenizer_of

FILL = re.compile(r"<fill (\d+)>")


@dataclass(frozen=True)
class Gapped:
    """A text with gaps, as ids: the mask id in the gaps.

    parts: the texts before, between and after the gaps. gaps: where each begins and ends among the ids.
    """

    parts: list[str]
    ids: list[int]
    gaps: list[tuple[int, int]]


def gapped(tokenizer: Tokenizer, text: str, model: Denoiser) -> Gapped:
    """Reads the gaps of a text. Raises ValueError for what is no text, empty gaps, and more than the model knows."""
    if not isinstance(text, str):
        raise ValueError(f"a text with gaps is {type(text).__name__}: give a text, as in 'Once <fill 12> lived a king'")
    split = FILL.split(text)  # text, size, text, size, ..., text
    parts, sizes = split[0::2], [int(size) for size in split[1::2]]
    if 0 in sizes:
        raise ValueError("<fill 0> is no gap; give 1 token or more")
    ids: list[int] = []
    gaps: list[tuple[int, int]] = []
    for number, part in enumerate(parts):
        ids += _ids(tokenizer, part, model.mask_id, first=number == 0)
        if number < len(sizes):
            gaps.append((len(ids), len(ids) + sizes[number]))
            ids += [model.mask_id] * sizes[number]
    known = model.known_positions
    if known is not None and len(ids) > known:
        raise ValueError(f"a text of {len(ids)} tokens with its gaps, and the model knows {known}: give a shorter one")
    return Gapped(parts, ids, gaps)


def _ids(tokenizer: Tokenizer, part: str, mask_id: int, first: bool) -> list[int]:
    """Of a part of a text, the first of which follows what the tokenizer puts before every text."""
    if first:
        return ids_of(tokenizer, part, mask_id, add_special_tokens=True)
    return ids_after(tokenizer, part, mask_id) if part else []


def filler_for(model: Denoiser, decoder: Decoder | None, changes: dict[str, Any]) -> Decoder:
    """The decoder that fills gaps, with its changes: by default the model's own, `Slots()` where that is `NextToken`.

    Raises ValueError for `NextToken`: it reads the first token at the end of the prompt, which lies after the gap.
    """
    own = decoder_for(model, decoder, {})
    if isinstance(own, NextToken):
        if decoder is not None:
            raise ValueError("NextToken reads at the last token given, which lies after the gap; fill it by us.Slots()")
        own = Slots()
    return changed(own, changes) if changes else own


def fill(model: Denoiser, text: str, decoder: Decoder, generator: torch.Generator) -> str:
    """A text with its gaps filled by a decoder; its other parts are kept to the byte."""
    tokenizer = tokenizer_of(model, "filling gaps")
    row = gapped(tokenizer, text, model)
    tokens = torch.tensor([row.ids], device=model.device)
    never = sorted({*ends_of(model), *no_text(tokenizer, model.vocab_size)} - {model.mask_id})
    endings = Endings(never=tuple(never)) if ends_rows(decoder) else NONE
    for step in decode(model, tokens, decoder=decoder, generator=generator, endings=endings):
        tokens = step.tokens
    begins = bool(row.parts[0])  # else the first gap is the text's beginning
    said = [
        text_after(tokenizer, tokens[0, low:high], skip_special_tokens=True)
        if begins or number
        else tokenizer.decode(tokens[0, low:high], skip_special_tokens=True)
        for number, (low, high) in enumerate(row.gaps)
    ]
    return "".join(a + b for a, b in zip(row.parts, [*said, ""], strict=True))


def no_text(tokenizer: Tokenizer, vocab: int) -> tuple[int, ...]:
    """Ids that are no text: those that the tokenizer has not, and its padding where that ends no text."""
    pad: Any = getattr(tokenizer, "pad_token_id", None)
    padding = () if pad is None or pad == tokenizer.eos_token_id else (int(pad),)
    return tuple(sorted({*range(len(tokenizer), vocab), *padding}))

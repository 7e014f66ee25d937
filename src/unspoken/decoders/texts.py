"""Texts in, texts out, by a model's tokenizer: `generate`, which continues texts and fills their gaps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from unspoken.decoders.autoregressive import NextToken
from unspoken.decoders.decode import Decoder, changed, decode, ends_rows
from unspoken.decoders.endings import NONE, Endings
from unspoken.decoders.generate import Streamer, decoder_for, ends_of, generate_ids
from unspoken.decoders.slots import Slots
from unspoken.model.denoiser import Denoiser
from unspoken.model.tokens import Tokenizer, ids_of, tokenizer_of

FILL = re.compile(r"<fill (\d+)>")
Message = dict[str, str]  # role and content


@overload
def generate(  # pyright: ignore[reportOverlappingOverload]
    model: Denoiser, prompts: str | list[Message], **options: Any
) -> str: ...
@overload
def generate(model: Denoiser, prompts: Sequence[str] | Sequence[list[Message]], **options: Any) -> list[str]: ...


def generate(
    model: Denoiser,
    prompts: Any,
    *,
    max_new_tokens: int = 64,
    decoder: Decoder | None = None,
    stop_strings: str | Sequence[str] = (),
    num_return_sequences: int = 1,
    streamer: Streamer | None = None,
    seed: int = 0,
    fill: bool = True,
    **options: Any,
) -> Any:
    """What a model says after each prompt; of a text with gaps, the text with its gaps filled.

    prompts: a text, the messages of a chat (`[{"role": "user", "content": ...}]`, written by the tokenizer's chat
        template), or a list of either. `"Once <fill 12> lived a king"` has a gap of 12 tokens, and its other parts come
        back to the byte.
    stop_strings: a text ends before the first of them; they are no part of the result.
    seed: of every random choice.
    fill: False reads `<fill 12>` in a text as its letters. In the messages of a chat they are letters in any case.
    max_new_tokens, decoder, num_return_sequences, streamer, options: see `generate_ids`.
    Returns a text of one prompt; else a list, of several prompts or continuations, those of each prompt one after the
        other.
    Raises ValueError for a model without a tokenizer, for empty prompts, and for what `generate_ids` refuses.
    """
    tokenizer = tokenizer_of(model, "us.generate")
    one = isinstance(prompts, str) or _is_chat(prompts)
    asked = [prompts] if one else list(prompts)
    texts = [_written(tokenizer, prompt) for prompt in asked]
    if not texts:
        raise ValueError("no prompts: give a text, or a list of one or more")
    gaps = [fill and isinstance(prompt, str) and bool(FILL.search(prompt)) for prompt in asked]
    generator = torch.Generator().manual_seed(seed)
    if any(gaps):
        if not all(gaps) or stop_strings or num_return_sequences != 1 or streamer is not None:
            raise ValueError(
                "a prompt with <fill n> is filled and not continued: give such prompts alone, without stop_strings, "
                "num_return_sequences and streamer"
            )
        filler = filler_for(model, decoder, options)
        filled = [_filled(model, tokenizer, text, filler, generator) for text in texts]
        return filled[0] if one else filled
    plain = [isinstance(prompt, str) for prompt in asked]  # a chat template writes special tokens itself
    input_ids, attention_mask = _padded(tokenizer, texts, plain, model.mask_id)
    stops = [stop_strings] if isinstance(stop_strings, str) else list(stop_strings)
    if "" in stops:
        raise ValueError("an empty stop string ends every text; leave it out")

    def has_stopped(new: Tensor) -> list[bool]:
        text = tokenizer.decode(new)
        return [any(stop in text for stop in stops)]

    ids = generate_ids(
        model,
        input_ids,
        attention_mask,
        max_new_tokens=max_new_tokens,
        decoder=decoder,
        stopped=has_stopped if stops else None,
        num_return_sequences=num_return_sequences,
        streamer=streamer,
        generator=generator,
        **options,
    )
    ends = ends_of(model, options.get("eos_token_id"))
    found = [_said(tokenizer, new.tolist(), ends, stops) for new in ids[:, input_ids.shape[1] :]]
    return found[0] if one and num_return_sequences == 1 else found


def _is_chat(prompts: Any) -> bool:
    return isinstance(prompts, Sequence) and bool(prompts) and isinstance(prompts[0], dict)


def _written(tokenizer: Tokenizer, prompt: Any) -> str:
    """A prompt as text. Raises ValueError where it is none, or empty."""
    if _is_chat(prompt):
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError("the tokenizer has no chat template: give the prompt as a text")
        return tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    if not isinstance(prompt, str):
        raise ValueError(f"a prompt is {type(prompt).__name__}: give a text, or a list of messages")
    if not prompt:
        raise ValueError("an empty prompt: give a text, such as the tokenizer's bos_token")
    return prompt


def _padded(tokenizer: Tokenizer, texts: Sequence[str], plain: Sequence[bool], mask_id: int) -> tuple[Tensor, Tensor]:
    """Ids and mask `[batch, n]`, padded on the left. plain: which texts get the tokenizer's own special tokens."""
    rows = [ids_of(tokenizer, t, mask_id, add_special_tokens=p) for t, p in zip(texts, plain, strict=True)]
    if not all(rows):
        raise ValueError("an empty prompt: its tokenizer makes no token of it; give a text")
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _said(tokenizer: Tokenizer, new: list[int], ends: Sequence[int], stops: Sequence[str]) -> str:
    """The text of new tokens, up to the first that ends it and before the first stop string; without special tokens."""
    length = next((at + 1 for at, token in enumerate(new) if token in ends), len(new))
    text, whole = (tokenizer.decode(new[:length], skip_special_tokens=skip) for skip in (True, False))
    before = [at for stop in stops if (at := whole.find(stop)) >= 0]
    if not before:
        return text
    whole = whole[: min(before)]
    for special in tokenizer.all_special_tokens:
        whole = whole.replace(special, "")
    return whole


def filler_for(model: Denoiser, decoder: Decoder | None, changes: dict[str, Any]) -> Decoder:
    """The decoder that fills gaps: `Slots()` in place of the model's own where that reads at the token before.

    The token before a gap is not the last of the prompt, at which next-token decoding reads.
    """
    own = decoder_for(model, decoder, {} if decoder is None else changes)
    if decoder is not None or not isinstance(own, NextToken):
        return decoder_for(model, decoder, changes)
    return changed(Slots(), changes) if changes else Slots()


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
        ids += ids_of(tokenizer, part, model.mask_id, add_special_tokens=number == 0) if part or number == 0 else []
        if number < len(sizes):
            gaps.append((len(ids), len(ids) + sizes[number]))
            ids += [model.mask_id] * sizes[number]
    known = model.known_positions
    if known is not None and len(ids) > known:
        raise ValueError(f"a text of {len(ids)} tokens with its gaps, and the model knows {known}: give a shorter one")
    return Gapped(parts, ids, gaps)


def _filled(model: Denoiser, tokenizer: Tokenizer, text: str, decoder: Decoder, generator: torch.Generator) -> str:
    """A text with its gaps filled."""
    row = gapped(tokenizer, text, model)
    tokens = torch.tensor([row.ids], device=model.device)
    endings = Endings(never=silent(model)) if ends_rows(decoder) else NONE
    for step in decode(model, tokens, decoder=decoder, generator=generator, endings=endings):
        tokens = step.tokens
    said = [tokenizer.decode(tokens[0, low:high], skip_special_tokens=True) for low, high in row.gaps]
    return "".join(a + b for a, b in zip(row.parts, [*said, ""], strict=True))


def silent(model: Denoiser) -> tuple[int, ...]:
    """Ids that no gap holds: ends, padding, and those that the tokenizer has not."""
    tokenizer = tokenizer_of(model, "filling")
    pad = getattr(tokenizer, "pad_token_id", None)
    ids = {*ends_of(model), *([] if pad is None else [int(pad)]), *range(len(tokenizer), model.vocab_size)}
    return tuple(sorted(ids - {model.mask_id}))

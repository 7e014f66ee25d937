"""Texts in, texts out, by a model's tokenizer: `generate`, which continues texts and fills their gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder
from unspoken.decoders.gaps import FILL, filler_for
from unspoken.decoders.gaps import fill as fill_gaps
from unspoken.decoders.generate import Streamer, ends_of, generate_ids
from unspoken.model.denoiser import Denoiser
from unspoken.model.tokens import Tokenizer, ids_of, prompt_ids, text_after, tokenizer_of

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
    stops = [stop_strings] if isinstance(stop_strings, str) else list(stop_strings)
    if "" in stops:
        raise ValueError("an empty stop string ends every text; leave it out")
    generator = torch.Generator().manual_seed(seed)
    gaps = [fill and isinstance(prompt, str) and bool(FILL.search(prompt)) for prompt in asked]
    if any(gaps):
        if not all(gaps) or stops or num_return_sequences != 1 or streamer is not None:
            raise ValueError(
                "a prompt with <fill n> is filled and not continued: give such prompts alone, without stop_strings, "
                "num_return_sequences and streamer"
            )
        filler = filler_for(model, decoder, options)
        found = [fill_gaps(model, text, filler, generator) for text in texts]
    else:
        plain = [isinstance(prompt, str) for prompt in asked]  # a chat template writes special tokens itself
        input_ids, attention_mask = _padded(tokenizer, texts, plain, model.mask_id)
        options |= {"max_new_tokens": max_new_tokens, "decoder": decoder, "streamer": streamer}
        options |= {"num_return_sequences": num_return_sequences, "generator": generator}
        stopped = _stopped(tokenizer, stops) if stops else None
        ids = generate_ids(model, input_ids, attention_mask, stopped=stopped, **options)
        ends = ends_of(model, options.get("eos_token_id"))
        found = [_said(tokenizer, new.tolist(), ends, stops) for new in ids[:, input_ids.shape[1] :]]
    return found[0] if one and num_return_sequences == 1 else found


def _stopped(tokenizer: Tokenizer, stops: Sequence[str]) -> Callable[[Tensor], list[bool]]:
    """Whether new tokens hold a stop string, which may be a special token."""

    def stopped(new: Tensor) -> list[bool]:
        text = text_after(tokenizer, new)
        return [any(stop in text for stop in stops)]

    return stopped


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
    """Ids and mask `[batch, n]`, padded on the left. plain: which texts were not written by a chat template."""
    rows = [
        prompt_ids(tokenizer, text, mask_id) if alone else ids_of(tokenizer, text, mask_id, add_special_tokens=False)
        for text, alone in zip(texts, plain, strict=True)
    ]
    if not all(rows):
        raise ValueError("an empty prompt: its tokenizer makes no token of it; give a text")
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _said(tokenizer: Tokenizer, new: list[int], ends: Sequence[int], stops: Sequence[str]) -> str:
    """The text of new tokens, up to the first that ends it and before the first stop string; without special tokens."""
    length = next((at + 1 for at, token in enumerate(new) if token in ends), len(new))
    text, whole = (text_after(tokenizer, new[:length], skip_special_tokens=skip) for skip in (True, False))
    before = [at for stop in stops if (at := whole.find(stop)) >= 0]
    if not before:
        return text
    whole = whole[: min(before)]
    for special in tokenizer.all_special_tokens:
        whole = whole.replace(special, "")
    return whole

"""Generation as `transformers` has it: ids of prompts in, ids of prompts and their continuations out.

Every row becomes its prompt and `max_new_tokens` masks after it, and a decoder says them. With `Slots`, what is unsaid
past the candidates is latent; with `NextToken` there are no latents, and the result is that of `transformers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.autoregressive import NextToken
from unspoken.decoders.decode import Decoder, changed, decode, decoder_of, ends_rows, options_of
from unspoken.decoders.endings import NONE, Endings
from unspoken.decoders.slots import Slots
from unspoken.layout.entries import first_where, most
from unspoken.model.denoiser import Denoiser


class Streamer(Protocol):
    """Takes tokens as they are said, those of `transformers` do: `TextStreamer(tokenizer)`."""

    def put(self, value: Tensor) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True)
class Canvas:
    """Prompts and the masks to say, a row each: the prompt from position 0 on, and nothing past the last mask.

    tokens: `[batch, seq]`. present: `[batch, seq]` bool. begins: `[batch]` where each row's new tokens begin.
    """

    tokens: Tensor
    present: Tensor
    begins: Tensor

    @classmethod
    def of(cls, input_ids: Tensor, attention_mask: Tensor, new: int, mask_id: int) -> Canvas:
        """Of prompts `[batch, n]`, padded on either side, and so many new tokens."""
        real = attention_mask.bool()
        begins = real.sum(1)
        first = (~real).to(torch.uint8).argsort(dim=1, stable=True)  # the prompt's tokens to the front
        prompt = torch.nn.functional.pad(input_ids.gather(1, first), (0, new), value=mask_id)
        place = torch.arange(prompt.shape[1], device=input_ids.device)
        present = place < begins[:, None] + new
        tokens = torch.where(place < begins[:, None], prompt, mask_id)
        return cls(tokens, present, begins)


@torch.no_grad()
def generate_ids(
    model: Denoiser,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_new_tokens: int = 64,
    decoder: Decoder | None = None,
    block: int = 0,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    stopped: Callable[[Tensor], Sequence[bool]] | None = None,
    num_return_sequences: int = 1,
    streamer: Streamer | None = None,
    generator: torch.Generator | None = None,
    **changes: Any,
) -> Tensor:
    """Prompts and what the model says after them, `[batch * num_return_sequences, prompt + new]`, padded on the right.

    input_ids: `[batch, n]` token ids. attention_mask: `[batch, n]`, 0 where a prompt is padded, on either side.
    max_new_tokens: said at most; a row ends before that where it says an end token, which is kept.
    decoder: by default the model's own, `NextToken()` where it records none and its context is causal.
    block: above 0, so many positions are in view at a time, and said before the next are (semi-autoregressive): in any
        order within a block. 0 is all positions at once.
    eos_token_id: what ends a text; by default the tokenizer's, and those of the trunk's generation config. An empty
        sequence: nothing does.
    pad_token_id: what follows the end; by default the tokenizer's, or the first end token.
    stopped: from the new tokens of each row, as lists of ids, whether its text has ended: for stop strings.
    num_return_sequences: so many continuations of each prompt, one after the other; draw them at a temperature.
    streamer: is given what is said as soon as all before it is said; of one row alone.
    generator: every random choice; None = a fresh one of seed 0.
    changes: options of the decoder that are to be others: `latents`, `temperature`, `top_p`, ... `latents` of a model
        that records no decoder says tokens from mask slots, from left to right, beside so many of the next.
    Raises ValueError for empty prompts, for more positions than the model knows, and for options that the decoder has
    not, before any pass.
    """
    canvas = _canvas(model, input_ids, attention_mask, max_new_tokens, num_return_sequences)
    ends, decoder = ends_of(model, eos_token_id), decoder_for(model, decoder, changes)
    _check(model, canvas, block, streamer)
    generator = torch.Generator().manual_seed(0) if generator is None else generator

    text = _Text(model, canvas, ends, streamer, stopped)
    some = (ends or stopped is not None) and ends_rows(decoder)  # others go on, and what follows an end is cut off
    endings = Endings(ends, stopped=None if stopped is None else text.stopped) if some else NONE
    tokens = canvas.tokens
    for present in _views(canvas, block, max_new_tokens):
        present = present & ~text.ended(tokens) if some else present
        for step in decode(model, tokens, decoder=decoder, present=present, generator=generator, endings=endings):
            tokens = step.tokens
            text.show(tokens)
    text.end()
    there = (tokens != model.mask_id) & canvas.present & ~text.ended(tokens)
    prompts = input_ids.repeat_interleave(num_return_sequences, 0)
    return _result(canvas, tokens, there, prompts, _pad(model, pad_token_id, ends))


def _canvas(model: Denoiser, input_ids: Tensor, attention_mask: Tensor | None, new: int, copies: int) -> Canvas:
    """The checked prompts, each `copies` times."""
    checks.count("max_new_tokens", new, 1)
    checks.count("num_return_sequences", copies, 1)
    checks.tensor("input_ids", input_ids, torch.int64, ("batch", "n"))
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    if mask.shape != input_ids.shape:
        raise ValueError(f"attention_mask {tuple(mask.shape)} of input_ids {tuple(input_ids.shape)}: give one shape")
    lengths = mask.bool().sum(1)
    if not input_ids.shape[0] or int(lengths.min()) == 0:
        raise ValueError("an empty prompt: give one token at least, such as the tokenizer's bos_token_id")
    if bool((mask.bool() & (input_ids == model.mask_id)).any()):
        raise ValueError(
            f"a prompt holds the mask ({model.mask_id}), which is what is to be said; to fill gaps give texts with "
            "<fill n> to us.generate, or rows to us.decode"
        )
    known = model.known_positions
    if known is not None and int(lengths.max()) + new > known:
        raise ValueError(
            f"a prompt of {int(lengths.max())} tokens and max_new_tokens={new}, and the model knows {known} positions: "
            "give a shorter prompt or fewer new tokens"
        )
    input_ids, mask = (each.repeat_interleave(copies, 0).to(model.device) for each in (input_ids, mask))
    return Canvas.of(input_ids, mask, new, model.mask_id)


def _check(model: Denoiser, canvas: Canvas, block: int, streamer: Streamer | None) -> None:
    """Raises ValueError for blocks that would be read otherwise than they were said, and a streamer of several rows."""
    checks.count("block", block)
    if block and model.attention.context == "causal" and model.attention.prompt == "joint":
        raise ValueError(
            f"block={block} with attention {model.attention.name}: what a block says would be read as prompt, and each "
            "of its tokens would see all of it; give block=0, or a model with a causal prompt"
        )
    if streamer is not None and len(canvas.tokens) != 1:
        raise ValueError(f"a streamer of {len(canvas.tokens)} rows; give one prompt and num_return_sequences=1")


def ends_of(model: Denoiser, given: int | Sequence[int] | None = None) -> tuple[int, ...]:
    """The token ids that end a text: those given, by default the tokenizer's and those of the generation config."""
    if given is not None:
        return (given,) if isinstance(given, int) else tuple(given)
    own = getattr(model.tokenizer, "eos_token_id", None)
    config = getattr(getattr(model.trunk, "generation_config", None), "eos_token_id", None)
    more = [] if model.tokenizer is None or config is None else [config] if isinstance(config, int) else list(config)
    return tuple(dict.fromkeys([*([] if own is None else [own]), *more]))


def _pad(model: Denoiser, given: int | None, ends: tuple[int, ...]) -> int:
    own = getattr(model.tokenizer, "pad_token_id", None)
    return given if given is not None else own if own is not None else ends[0] if ends else 0


def decoder_for(model: Denoiser, decoder: Decoder | None, changes: dict[str, Any]) -> Decoder:
    """The decoder of a call, with its changes; see `generate_ids`."""
    if decoder is None and model.decoder is None and model.attention.cacheable:
        of_slots = (changes.keys() - set(options_of(NextToken))) & set(options_of(Slots))
        decoder = Slots(latents=0, order="left_to_right", latent_policy="next") if of_slots else NextToken()
    decoder = decoder_of(model) if decoder is None else decoder
    return changed(decoder, changes) if changes else decoder


def _views(canvas: Canvas, block: int, new: int) -> list[Tensor]:
    """`[batch, seq]` bool each: what is there while a block is said; the blocks before it are said by then."""
    place = torch.arange(canvas.tokens.shape[1], device=canvas.tokens.device)
    sizes = range(block, new + block, block) if block else (new,)
    return [canvas.present & (place < canvas.begins[:, None] + size) for size in sizes]


class _Text:
    """What is said of each row so far, without gaps: the part that is streamed and that stop strings are sought in."""

    def __init__(
        self,
        model: Denoiser,
        canvas: Canvas,
        ends: tuple[int, ...],
        streamer: Streamer | None,
        stops: Callable[[Tensor], Sequence[bool]] | None,
    ):
        self.mask_id, self.canvas, self.ends, self.streamer, self.stops = model.mask_id, canvas, ends, streamer, stops
        self.shown = int(canvas.begins[0])
        if streamer is not None:
            streamer.put(canvas.tokens[:1, : self.shown].cpu())

    def reach(self, tokens: Tensor) -> Tensor:
        """`[r]`: the first position of each row that is not said."""
        unsaid = tokens == self.mask_id
        return torch.where(unsaid.any(1), unsaid.to(torch.uint8).argmax(1), tokens.shape[1])

    def stopped(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """See `Endings.stopped`."""
        assert self.stops is not None
        reach, begins, seq = self.reach(tokens), self.canvas.begins[rows], tokens.shape[1]
        length = torch.full_like(reach, seq)
        for row, (low, high) in enumerate(zip(begins.tolist(), reach.tolist(), strict=True)):
            if high > low and self.stops(tokens[row, low:high])[0]:
                length[row] = high
        return length

    def ended(self, tokens: Tensor) -> Tensor:
        """`[batch, seq]` bool: positions after the end of texts that have ended."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        new = (place >= self.canvas.begins[:, None]) & (tokens != self.mask_id)
        is_end = new & torch.isin(tokens, torch.tensor(self.ends, device=tokens.device, dtype=tokens.dtype))
        end = torch.where(is_end.any(1), is_end.to(torch.uint8).argmax(1) + 1, tokens.shape[1])
        if self.stops is not None:
            end = torch.minimum(end, self.stopped(tokens, torch.arange(len(tokens), device=tokens.device)))
        return place >= end[:, None]

    def show(self, tokens: Tensor) -> None:
        """Streams what is new."""
        if self.streamer is None:
            return
        reach = min(int(self.reach(tokens)[0]), int((~self.ended(tokens)[0]).sum()))
        if reach > self.shown:
            self.streamer.put(tokens[0, self.shown : reach].cpu())
            self.shown = reach

    def end(self) -> None:
        """After the last pass."""
        if self.streamer is not None:
            self.streamer.end()


def _result(canvas: Canvas, tokens: Tensor, there: Tensor, input_ids: Tensor, pad: int) -> Tensor:
    """As transformers returns it: the prompts as they came, then what is new, as wide as the longest.

    there: `[batch, seq]` bool, which of the tokens are said and of the text.
    """
    place = torch.arange(tokens.shape[1], device=tokens.device)
    new = there & (place >= canvas.begins[:, None])
    at = first_where(new, most(new))
    return torch.cat([input_ids.to(tokens.device), torch.where(new.gather(1, at), tokens.gather(1, at), pad)], 1)

"""Decoding by a model's own decoder, or by another: `decode`, the union of decoders, and which of them a model has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from inspect import Parameter, signature
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.autoregressive import NextToken, Speculation
from unspoken.decoders.blocks import Blocks
from unspoken.decoders.denoise import Walk
from unspoken.decoders.endings import NONE, Endings
from unspoken.decoders.onepass import OnePass
from unspoken.decoders.slots import Slots
from unspoken.decoders.step import Step
from unspoken.decoders.thoughts import ThoughtWalk
from unspoken.model.network import Model
from unspoken.record import from_record


class Decoder(Protocol):
    """A way to decode: any object with `steps` is one. Those of the union are frozen dataclasses, and can be saved."""

    def steps(
        self,
        model: Model,
        tokens: Tensor,
        *,
        present: Tensor | None = None,
        predict_latents: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[Step]:
        """Decodes `tokens` `[batch, seq]`, the mask id where unsaid; one `Step` a pass. See `Slots.steps`."""
        ...


Decoders = Slots | NextToken | Speculation | Blocks | Walk | OnePass | ThoughtWalk


def decode(
    model: Model,
    tokens: Tensor,
    *,
    decoder: Decoder | None = None,
    present: Tensor | None = None,
    predict_latents: bool = False,
    generator: torch.Generator | None = None,
    endings: Endings = NONE,
    **changes: Any,
) -> Iterator[Step]:
    """Says every unsaid token of `tokens` by the model's own decoder, and yields each step (lazily: a pass a `next`).

    model: a `Denoiser`, or whatever `Model` asks for; one that records no decoder is decoded by `Slots`.
    tokens: `[batch, seq]` int64, the model's mask id where unsaid. What is not the mask is given and never changes.
    decoder: by default the model's own.
    present: `[batch, seq]` bool (or 0 and 1), False past the end of short rows; those are in no pass (of `Slots`).
    predict_latents: run the head on the latents too, to see what they hold (`Step.guess`).
    generator: every random choice; None = a fresh one of seed 0.
    endings: what ends a row before its last position; by default nothing does.
    changes: options of the decoder that are to be others, such as `latents=4` of `Slots`.
    Raises ValueError on tokens outside the vocabulary, on options that the decoder has not or that make no sense, and
    where the model can not be decoded so.
    """
    decoder = decoder_of(model) if decoder is None else decoder
    if isinstance(decoder, type):
        raise ValueError(f"decoder={decoder.__name__} is a class; give a value: {decoder.__name__}()")
    checks.has("decoder", decoder, ("steps",), "a decoder, such as us.Slots()")
    decoder = changed(decoder, changes) if changes else decoder
    given: dict[str, Any] = {}
    if endings is not NONE:
        if not ends_rows(decoder):
            raise ValueError(
                f"{type(decoder).__name__} goes on to the end of every row; take Slots, NextToken or Speculation, or "
                "pass no endings"
            )
        given["endings"] = endings
    return decoder.steps(model, tokens, present=present, predict_latents=predict_latents, generator=generator, **given)


def ends_rows(decoder: Decoder) -> bool:
    """Whether a decoder takes `endings`."""
    taken = signature(decoder.steps).parameters.values()
    return any(its.name == "endings" or its.kind is Parameter.VAR_KEYWORD for its in taken)


def decoder_of(model: Model) -> Decoders:
    """The decoder that a model was trained for, as it records; `Slots()` where it records none."""
    own = getattr(model, "decoder", None)
    return read_decoder(own) if own is None or isinstance(own, dict) else own


def read_decoder(record: dict[str, Any] | None) -> Decoders:
    """The decoder of a record, such as an objective's `decoder` gives; `Slots()` where there is none."""
    if record is None:
        return Slots()
    try:
        return from_record(Decoders, record)
    except ValueError as error:
        raise ValueError(
            f"the model's own decoder can not be read: {error}. Pass another: decoder=us.Slots()"
        ) from error


def changed(decoder: Decoder, changes: dict[str, Any]) -> Decoder:
    """The decoder with other options. Raises ValueError on those that it has not, and names the decoders that do."""
    has = options_of(decoder)
    for option in changes:
        if option not in has:
            raise ValueError(_refusal(option, decoder, has))
    assert is_dataclass(decoder) and not isinstance(decoder, type)
    return replace(decoder, **changes)


def options_of(decoder: object) -> tuple[str, ...]:
    """The names of the options of a decoder, or of a class of them."""
    return tuple(f.name for f in fields(decoder) if f.init) if is_dataclass(decoder) else ()


def decoders_with(option: str) -> list[str]:
    """The names of the decoders of the union that have an option."""
    return [kind.__name__ for kind in get_args(Decoders) if option in options_of(kind)]


def _refusal(option: str, decoder: Decoder, has: tuple[str, ...]) -> str:
    name, others = type(decoder).__name__, decoders_with(option)
    if not others:
        return f"{option} is no option of a decoder; {name} takes {', '.join(has) or 'none'}"
    passed = " or ".join(f"decoder=us.{other}(...)" for other in others)
    return f"{option} is an option of {' and '.join(others)}; this model decodes by {name}: pass {passed}"

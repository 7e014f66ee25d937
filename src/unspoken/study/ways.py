"""How a method is decoded, as studies tell it."""

from __future__ import annotations

from dataclasses import dataclass

from unspoken.decoders.decode import Decoder


@dataclass(frozen=True)
class Way:
    """How a method is decoded: its name in the table, its number of latents (None for all), and the decoder."""

    name: str
    latents: int | None
    decoder: Decoder

"""Studies of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unspoken.codecs import Shape
from unspoken.study.tokenbridge import ALL, TokenbridgeStudy
from unspoken.systems.tokenbridge import SHAPES


def tokenbridge_reference() -> TokenbridgeStudy:
    """Three seeds of both heads on Fashion-MNIST: some twenty minutes on two cores."""
    return TokenbridgeStudy("fashion", SHAPES["fashion"])


def tokenbridge_quick() -> TokenbridgeStudy:
    """One seed on scikit-learn's digits, fewer steps and samples: two minutes on two cores."""
    return replace(
        tokenbridge_reference(),
        source="digits",
        shape=Shape(8, grid=2, dims=8),
        codec_steps=600,
        levels=16,
        steps=400,
        images=100,
        samples=200,
        dial=(0, 1, ALL),
        few=2,
        classifier_steps=200,
        seeds=(0,),
    )


TOKENBRIDGE: dict[str, Callable[[], TokenbridgeStudy]] = {
    "reference": tokenbridge_reference,
    "quick": tokenbridge_quick,
}

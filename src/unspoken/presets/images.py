"""Training runs and studies of images: questions about them, and images as codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unspoken.codecs import Shape
from unspoken.study.narvl import NarvlStudy
from unspoken.study.tokenbridge import ALL, TokenbridgeStudy
from unspoken.systems import narvl as systems
from unspoken.systems.tokenbridge import SHAPES
from unspoken.tasks import Scenes, Strips
from unspoken.training.config import Train


def narvl() -> Train:
    """NARVL on strips of digits: the whole transcription in one pass."""
    return systems.queries(Strips())


def narvl_scenes() -> Train:
    """NARVL on scenes with questions, which need Fashion-MNIST."""
    return systems.queries(Scenes())


def narvl_reference() -> NarvlStudy:
    """Three seeds of twelve runs on strips and scenes: some 50 minutes of one core (docs/results/LOG.md)."""
    return NarvlStudy(Strips(), Scenes())


def narvl_quick() -> NarvlStudy:
    """One seed, a tenth of the steps: two minutes on two cores."""
    return replace(
        narvl_reference(), steps=60, scene_steps=60, taught=500, examples=100, alone=10, together=(0, 1, 4), seeds=(0,)
    )


IMAGES: dict[str, Callable[[], Train]] = {"narvl": narvl, "narvl-scenes": narvl_scenes}
NARVL: dict[str, Callable[[], NarvlStudy]] = {"reference": narvl_reference, "quick": narvl_quick}


def tokenbridge_reference() -> TokenbridgeStudy:
    """Three seeds of both heads on Fashion-MNIST."""
    return TokenbridgeStudy("fashion", SHAPES["fashion"])


def tokenbridge_quick() -> TokenbridgeStudy:
    """One seed on scikit-learn's digits, fewer steps and samples: a minute on two cores."""
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

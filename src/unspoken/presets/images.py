"""Training runs and studies of questions about images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unspoken.study.narvl import NarvlStudy
from unspoken.systems import narvl as systems
from unspoken.tasks import Scenes, Strips
from unspoken.training.config import Train


def narvl() -> Train:
    """NARVL on strips of digits: the whole transcription in one pass; some minutes on two cores."""
    return systems.queries(Strips())


def narvl_scenes() -> Train:
    """NARVL on scenes with questions, which need Fashion-MNIST; some minutes on two cores."""
    return systems.queries(Scenes())


def narvl_reference() -> NarvlStudy:
    """Three seeds of twelve runs on strips and scenes: some twenty minutes on two cores."""
    return NarvlStudy(Strips(), Scenes())


def narvl_quick() -> NarvlStudy:
    """One seed, a tenth of the steps: two minutes on two cores."""
    return replace(
        narvl_reference(), steps=60, scene_steps=60, taught=500, examples=100, alone=10, together=(0, 1, 4), seeds=(0,)
    )


IMAGES: dict[str, Callable[[], Train]] = {"narvl": narvl, "narvl-scenes": narvl_scenes}
NARVL: dict[str, Callable[[], NarvlStudy]] = {"reference": narvl_reference, "quick": narvl_quick}

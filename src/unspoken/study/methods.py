"""The methods from left to right that are compared on one task: what a pass of each holds, and how it is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from unspoken.decoders.autoregressive import Speculation
from unspoken.decoders.decode import Decoder, read_decoder
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import CACHED_ALONE, CACHED_JOINT, MDM, Attention
from unspoken.noise import Absorbing
from unspoken.study.base import check_once, check_positive
from unspoken.training.config import Train
from unspoken.training.objective import MaskedDiffusion, MultiToken, MuToR, NextTokenPrediction, Objective, Teacherless

Key = tuple[str, str, str]  # task, method, window


@dataclass(frozen=True)
class Method:
    """A row of the comparison: how it is trained, and the ways it is decoded (the first chooses the learning rate)."""

    name: str
    objective: Objective
    attention: Attention
    decodings: Mapping[str, Decoder]
    window: str = ""

    def key(self, setting: str) -> Key:
        """Of its cell in the table."""
        return setting, self.name, self.window


@dataclass(frozen=True)
class Setting:
    """A task and the budget all methods share on it.

    Attributes:
        train: Its objective, attention, learning rate and seed are varied.
        windows: Of AR + MTP, the next token included, rising; 0 at the end is all that is left.
        questions: How many tokens a row's blocks of latents are asked for together: a window of w gets questions / w
            thresholds at random, so that all windows cost about the same. 0 takes every threshold, as the mask slot
            without latents does in any case: it is what has to be beaten.
        seeds: Training seeds.
        choosing: Steps of the runs (of the first seed) that choose the learning rate; 0 is the whole budget.
        examples: Of the test split, and at most so many of validation.
    """

    train: Train
    windows: tuple[int, ...] = (2, 4, 0)
    questions: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    choosing: int = 0
    examples: int = 1000

    def __post_init__(self) -> None:
        if list(self.windows) != [*sorted(set(self.windows) - {0}), 0] or min(self.windows) < 0:
            raise ValueError(f"windows={self.windows}: give windows that rise, and 0 (all that is left) at the end")
        check_once("seeds", self.seeds)
        check_positive("examples", self.examples)
        if min(self.questions, self.choosing) < 0:
            raise ValueError(f"questions={self.questions}, choosing={self.choosing}: give 0 or more")
        if self.choosing > self.train.steps:
            raise ValueError(f"choosing={self.choosing} is more than the whole budget of {self.train.steps} steps")

    @property
    def first_steps(self) -> int:
        """Steps of the runs that choose the learning rate."""
        return self.choosing or self.train.steps

    def methods(self) -> list[Method]:
        """All methods, the baselines first."""
        right = Slots(order="left_to_right", latent_policy="next")
        slots = MultiToken(window=1)
        pause = MultiToken(weight=0.0, prefixes=self._prefixes(0))
        found = [
            Method("next token", NextTokenPrediction(), CACHED_ALONE, {"left to right": _own(NextTokenPrediction())}),
            Method("mask slot", slots, CACHED_ALONE, {"left to right": _own(slots)}, "1"),
            Method("pause", pause, CACHED_JOINT, {"left to right": _own(pause)}, "all"),
        ]
        for window in self.windows:
            blocks = MultiToken(window=window, prefixes=self._prefixes(window))
            ways = {"left to right": _own(blocks)}
            if not window:
                ways["speculation"] = Speculation(drafts=4)
                ways["prefix of .9"] = replace(right, commit=4, threshold=0.9)
            found.append(Method("AR + MTP", blocks, CACHED_JOINT, ways, str(window or "all")))
        teacherless = {"one pass": _own(Teacherless())}
        masked = {"left to right": right, "confidence": Slots()}
        return [
            *found,
            Method("teacherless", Teacherless(), CACHED_JOINT, teacherless, "all"),
            Method("MuToR", MuToR(), CACHED_ALONE, {"left to right": _own(MuToR())}),
            Method("MDM", MaskedDiffusion(), MDM, masked, "all"),
        ]

    def _prefixes(self, window: int) -> int:
        """Thresholds a row; one where the window is all that is left."""
        if not self.questions:
            return 0
        return max(1, round(self.questions / window)) if window else 1


def _own(objective: Objective) -> Decoder:
    """What the objective trains for."""
    return read_decoder(objective.decoder(Absorbing()))

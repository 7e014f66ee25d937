"""What `study adapt` compares: a pretrained model, and what it is made into, with the ways that each is decoded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unspoken import checks
from unspoken.decoders.autoregressive import NextToken, Speculation
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import CACHED_JOINT, Attention
from unspoken.study.base import check_once, folder_of
from unspoken.study.ways import Way
from unspoken.training.config import Train
from unspoken.training.objective import MaskedDiffusion, MultiToken, NextTokenPrediction, Objectives
from unspoken.training.pool import Job

BEFORE, NEXT = "before", "next token"  # what the checkpoint itself and its way of reading are called
NAMES = re.compile(r"\w[\w ,+-]*")


@dataclass(frozen=True)
class Adapted:
    """A model that the checkpoint is made into.

    Attributes:
        name: In the table and the folders.
        objective: What it is trained for.
        attention: Who may look at whom.
        lora: The rank of its adapter; 0 trains all weights.
        shift: See `Trunk.shift`.
        lr: Peak learning rate.
        anneal: See `Train.anneal`.
        latents: The numbers of latents that it is measured beside; None is all.
        drafts: Of a model that reads from the left: how many latents' guesses are checked in a pass; none is not tried.
    """

    name: str
    objective: Objectives = field(default_factory=NextTokenPrediction)
    attention: Attention = CACHED_JOINT
    lora: int = 16
    shift: bool = False
    lr: float = 1e-3
    anneal: int = 0
    latents: tuple[int | None, ...] = ()
    drafts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not NAMES.fullmatch(self.name) or self.name == BEFORE:
            raise ValueError(f"a method is called {self.name!r}; give another name, of letters and digits")
        if not (self.reads or self.masked or isinstance(self.objective, MultiToken)):
            raise ValueError(
                f"{self.name!r} has {self.objective}: give NextTokenPrediction, MultiToken or MaskedDiffusion"
            )
        self._check_latents()
        self._check_drafts()

    def _check_latents(self) -> None:
        """Raises ValueError for latents that the model is not trained beside, or that are not in their order."""
        counts = [math.inf if n is None else n for n in self.latents]
        for count in self.latents:
            checks.count("latents", 0 if count is None else count)
        if counts != sorted(set(counts)):
            raise ValueError(
                f"{self.name!r}: latents={self.latents}: give numbers that rise, None (all) last, each once"
            )
        if not self.latents:
            return
        if isinstance(self.objective, NextTokenPrediction) or (self.shift and not self.masked):
            raise ValueError(
                f"{self.name!r}: latents={self.latents}, and no mask slot is asked for a next token; give latents=()"
            )
        if self.masked and self.shift and (self.latents != (None,) or self.attention.latents == "ordered"):
            raise ValueError(
                f"{self.name!r}: with shift=True the answer is read at the entry to the left, which has to be in the "
                "pass and to see the others; give latents=(None,) and joint latents"
            )

    def _check_drafts(self) -> None:
        """Raises ValueError for drafts that next tokens do not check, or more than a block is trained with."""
        for count in self.drafts:
            checks.count("drafts", count, 1)
        if not self.drafts:
            return
        check_once(f"drafts of {self.name!r}", self.drafts)
        if not (isinstance(self.objective, MultiToken) and self.reads and self.shift):
            raise ValueError(
                f"{self.name!r}: drafts are guesses of latents, checked by next tokens; give "
                "MultiToken(next_token=0.5) and shift=True"
            )
        if self.objective.window and max(self.drafts) >= self.objective.window:
            raise ValueError(
                f"{self.name!r}: drafts={self.drafts} of blocks of {self.objective.window} slots, the first of which "
                "is the next token; give fewer drafts or a wider window"
            )

    @property
    def reads(self) -> bool:
        """Whether its clean tokens are asked for the next one, as the checkpoint's are."""
        return isinstance(self.objective, NextTokenPrediction) or (
            isinstance(self.objective, MultiToken) and self.objective.next_token > 0
        )

    @property
    def masked(self) -> bool:
        """Whether it says tokens in any order."""
        return isinstance(self.objective, MaskedDiffusion)

    @property
    def trained(self) -> str:
        """Which weights."""
        return (f"LoRA {self.lora}" if self.lora else "all weights") + (", shift" if self.shift else "")

    def train(self, base: Train) -> Train:
        """The training run, of the seed that the base has."""
        trunk = replace(base.trunk, lora=self.lora, shift=self.shift)
        its = {"objective": self.objective, "attention": self.attention, "lr": self.lr, "anneal": self.anneal}
        return replace(base, trunk=trunk, **its)

    @property
    def folder(self) -> str:
        """What its runs are called."""
        return folder_of(self.name.replace(" + ", " "))

    def job(self, base: Train, seed: int, runs: Path) -> Job:
        """The training run, and its folder."""
        return replace(self.train(base), seed=seed), runs / f"{self.folder}-seed{seed}"

    def slots(self) -> list[Way]:
        """Decodings from masks, beside so many latents each."""
        order: dict[str, Any] = {} if self.masked else {"order": "left_to_right", "latent_policy": "next"}
        return [Way(f"slots, {'all' if n is None else n} latents", n, Slots(latents=n, **order)) for n in self.latents]

    def speculations(self) -> list[Way]:
        """Decodings by self-speculation, with so many drafts each."""
        return [Way(f"self-speculation, {n} drafts", n, Speculation(latents=n, drafts=n)) for n in self.drafts]

    def ways(self) -> list[Way]:
        """All that it is decoded by."""
        return [*([Way(NEXT, 0, NextToken())] if self.reads else []), *self.slots(), *self.speculations()]

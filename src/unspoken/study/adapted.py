"""What `study adapt` compares: a pretrained model, and what it is made into, with the ways that each is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from unspoken import checks
from unspoken.decoders.autoregressive import NextToken, Speculation
from unspoken.decoders.decode import Decoder
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import CACHED_JOINT, Attention
from unspoken.study.base import check_once, folder_of
from unspoken.training.config import Train
from unspoken.training.objective import MaskedDiffusion, MultiToken, NextTokenPrediction, Objectives
from unspoken.training.pool import Job


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
        for count in self.drafts:
            checks.count("drafts", count, 1)
        for count in self.latents:
            checks.count("latents", 0 if count is None else count)
        for name in ("latents", "drafts"):
            if getattr(self, name):
                check_once(f"{name} of {self.name!r}", getattr(self, name))
        if self.drafts and not (isinstance(self.objective, MultiToken) and self.shift):
            raise ValueError(
                f"{self.name!r}: drafts are guesses of latents, checked by next tokens; give MultiToken and shift=True"
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

    def job(self, base: Train, seed: int, runs: Path) -> Job:
        """The training run, and its folder."""
        return replace(self.train(base), seed=seed), runs / f"{folder_of(self.name.replace(' + ', ' '))}-seed{seed}"

    def ways(self) -> dict[str, tuple[int | None, Decoder]]:
        """How it is decoded, by name: beside how many latents, and by what. The first of them is the cheapest."""
        found: dict[str, tuple[int | None, Decoder]] = {"next token": (0, NextToken())} if self.reads else {}
        for n in () if self.shift and not self.masked else self.latents:
            way = Slots(latents=n) if self.masked else Slots(latents=n, order="left_to_right", latent_policy="next")
            found[f"slots, {'all' if n is None else n} latents"] = n, way
        for n in self.drafts:
            found[f"self-speculation, {n} drafts"] = n, Speculation(latents=n, drafts=n)
        return found

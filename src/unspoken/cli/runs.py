"""Training a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from unspoken.show import terminal
from unspoken.training.config import Train
from unspoken.training.loop import training
from unspoken.training.objective import MaskedDiffusion

Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class TrainRun:
    """Train a model, or go on with a run that was stopped or killed (by the same command).

    Attributes:
        folder: The run folder; by default runs/PRESET/ATTENTION-seedN, with the objective's name after the attention's
            where it is not masked diffusion, and `grouped` where its latents are in groups.
    """

    config: Annotated[Train, Flat]
    folder: Path

    def __call__(self, console: Console) -> None:
        objective = self.config.objective
        other = f"-{type(objective).__name__.lower()}"
        if isinstance(objective, MaskedDiffusion):
            other = "" if objective.groups is None else "-grouped"
        model = self.config.attention.name + other
        named = str(self.folder).replace("{model}", model).replace("{attention}", self.config.attention.name)
        folder = Path(named.replace("{seed}", str(self.config.seed)))
        terminal.watch_training(console, self.config, training(self.config, folder))
        console.print(f"trained: {folder}\nlook at it: unspoken show {folder}")
        if objective.decoder(self.config.process) is not None:  # a codec completes nothing
            console.print(f"use it: unspoken solve {folder}")

"""The model of a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from unspoken.layout.attention import Attention
from unspoken.model.denoiser import Denoiser
from unspoken.model.folder import read_ours
from unspoken.training.config import Train
from unspoken.training.run import Run


def load(folder: str | Path, device: torch.device | str | None = None, attention: Attention | None = None) -> Denoiser:
    """The averaged model of a run folder's last checkpoint, or of any `save_pretrained` folder.

    device: where it goes; by default the GPU where there is one. attention: of a folder that records none, as those of
        foreign models; see `Denoiser.from_pretrained`.

    Raises ValueError where there is neither.
    """
    if not Path(folder).exists():
        raise ValueError(f"there is no {folder}; train a run first: unspoken train sudoku-6x6")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    model = Denoiser.from_pretrained(checkpoint_folder(folder), attention=attention).to(device)
    model.decoder = decoder_record(folder)
    return model


def held_by(run: Run) -> Denoiser | None:
    """The averaged model of a run's last checkpoint, on the CPU; None where there is none that can be read.

    What is wrong with a checkpoint is said where the run goes on from it.
    """
    if not run.checkpoints():
        return None
    try:
        return Denoiser.from_pretrained(run.checkpoints()[-1][1] / "denoiser")
    except ValueError:
        return None


def decoder_record(folder: str | Path) -> dict[str, Any] | None:
    """The record of the decoder of a run folder, or of a `save_pretrained` folder; None where nobody said.

    Weights of before decoders were saved have none: their run's config says what they were trained for.
    """
    weights = checkpoint_folder(folder)
    if (record := (read_ours(weights) or {}).get("decoder")) is not None or weights == folder:
        return record
    config = Run(Path(folder)).config(Train)
    return config.objective.decoder(config.process)


def checkpoint_folder(folder: str | Path) -> str | Path:
    """Where the weights are: a run folder's last averaged model, else the folder (or the hub's name) itself."""
    run = Run(Path(folder))
    if not run.exists():
        return folder
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise ValueError(f"{folder} has no complete checkpoint yet; the same train command goes on with it")
    return checkpoints[-1][1] / "denoiser"

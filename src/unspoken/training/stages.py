"""Training in stages: a run that another one begins with, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Made:
    """A finished run of an earlier stage.

    Attributes:
        folder: Its run folder.
        command: What makes it, for the error where it is missing.
    """

    folder: str
    command: str = ""

    def __post_init__(self) -> None:
        if not self.folder:
            raise ValueError("folder is empty: give the run folder of the stage before")

"""What lies in a checkpoint folder beside the trunk: `unspoken.json`, and the weights that are ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OURS, WEIGHTS = "unspoken.json", "unspoken.safetensors"


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' progress bars: they would break into ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def read_ours(folder: str | Path) -> dict[str, Any] | None:
    """What `unspoken.json` of a checkpoint records, None where there is none. ValueError where it is broken."""
    path = Path(folder) / OURS
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if record.keys() >= {"attention", "mask_id"}:
            return record
    except (json.JSONDecodeError, AttributeError):
        pass
    raise ValueError(f"{path} is no record of ours: it should hold attention and mask_id; save the model anew")

"""What lies in a checkpoint folder beside the trunk: `unspoken.json`, and the weights that are ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unspoken.record import from_record, read_json

OURS, WEIGHTS, CODEC = "unspoken.json", "unspoken.safetensors", "codec"
FORESIGHT = "foresight"  # the folder of a predictor
HELD: dict[str, Any] = {  # in `OURS`
    "attention": dict[str, Any],
    "mask_id": int,
    "positions": int,
    "times": bool,
    "loops": int,
    "carry": bool,
    "shift": bool,
    "decoder": dict[str, Any] | None,
    "port": dict[str, Any] | None,
    "unused": int,
    "vocabulary": int,
    "added": bool,
    "base": dict[str, str],
    "foresight": dict[str, str],
    "codec": bool,
    "sha256": dict[str, str],
}


def codec_in(folder: str | Path) -> Path | None:
    """The folder of a model's codec, None where it has none. Raises ValueError where it is gone."""
    if not (read_ours(folder) or {}).get("codec"):
        return None
    held = Path(folder) / CODEC
    if not (held / OURS).exists():
        raise ValueError(f"{held} is missing, which holds the codec of the model: copy the folder anew")
    return held


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
    record = read_json(path)
    if not record.keys() >= {"attention", "mask_id"}:
        raise ValueError(f"{path} is no record of ours: it should hold attention and mask_id; save the model anew")
    for name in HELD.keys() & record.keys():
        from_record(HELD[name], record[name], f"{path}, {name}")
    return record

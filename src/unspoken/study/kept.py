"""What was measured of runs, kept beside them: a study that was killed measures nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from unspoken.model.loading import sums
from unspoken.record import as_json, read_json, write_json
from unspoken.training.loading import checkpoint_folder
from unspoken.training.pool import Job


def kept(file: Path, jobs: Sequence[Job], asked: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> Any:
    """What `measure` gives, a record as JSON; read from `file` where the same was measured and written there before.

    The same: of runs with the same weights, with the same settings `asked`, by the same code. A file that can not be
    read is written anew.
    """
    key: dict[str, Any] = {
        "weights": [sums(checkpoint_folder(folder)) for _, folder in jobs],
        "asked": asked,
        "code": _code(),
        "torch": torch.__version__,
    }
    key = json.loads(as_json(key))  # as it is read back: tuples are lists
    if file.exists():
        try:
            held = read_json(file)
        except ValueError:
            held = {}
        if held.get("key") == key and "measured" in held:
            return held["measured"]
    found = measure()
    write_json(file, {"key": key, "measured": found})
    return found


@cache
def _code() -> str:
    """The SHA-256 of this package's source, but for what commands, pictures and presets are made of."""
    sources = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        if (name := path.relative_to(root)).parts[0] not in ("cli", "presets", "show"):
            sources.update(str(name).encode() + path.read_bytes())
    return sources.hexdigest()

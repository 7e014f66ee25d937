"""Records: frozen dataclasses as tagged JSON, the environment, and files that are there whole or not at all.

Whatever is killed in the middle of a write leaves the old state or the new one, never half of one.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from unspoken.messages import quoted

T = TypeVar("T")

# Old tags of records, and what is called so today.
RENAMED = {
    "ArLatents": "ArLatentsStudy",
    "Blocks": "Blockwise",
    "Decode": "DecodeStudy",
    "Diffused": "Denoising",
    "Forcing": "ForcingStudy",
    "Gidd": "GiddStudy",
    "LatentBlocks": "MultiToken",
    "Latents": "LatentsStudy",
    "Masked": "MaskedDiffusion",
    "NextToken": "NextTokenPrediction",
    "Registers": "MuToR",
    "Steps": "StepsStudy",
    "Tasks": "FamilyStudy",
}


def to_record(value: Any) -> Any:
    """A frozen dataclass as JSON values, every dataclass tagged with its name: {"type": "Linear", ...}.

    What says for itself how it is recorded (`as_record`) is written so: an order of decoding by its name.
    Raises ValueError on functions: a record holds data.
    """
    if hasattr(value, "as_record"):
        return value.as_record()
    if is_dataclass(value) and not isinstance(value, type):
        named = {f.name: to_record(getattr(value, f.name)) for f in fields(value)}
        return {"type": type(value).__name__, **named}
    if isinstance(value, (list, tuple)):
        return [to_record(v) for v in value]
    if isinstance(value, dict):
        return {k: to_record(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no number for it
    if callable(value):
        name = getattr(value, "__qualname__", repr(value))
        raise ValueError(
            f"{name} is a function, and a record holds data alone: pass it where it is used, as in "
            "us.decode(model, tokens, commit=us.Commit(8, rule=...))"
        )
    return value


def from_record(hint: Any, record: Any, at: str = "the record") -> Any:
    """The value of type `hint` that `to_record` wrote. Fields that a record lacks take their defaults.

    hint: a dataclass, a union of them, or the type of a field. at: where the record is, for messages.
    Raises ValueError on names it does not know, and on values of another type than the field's.
    """
    kinds = typing.get_args(hint) or (hint,)
    choices = {kind.__name__: kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)}
    if isinstance(record, dict) and choices:
        return _dataclass_of(choices, record, at)
    if isinstance(record, list) and tuple in (hint, typing.get_origin(hint), *_origins(hint)):
        inner = next((a for a in _flat_args(hint) if a is not Ellipsis), Any)
        return tuple(from_record(inner, v, f"{at}[{i}]") for i, v in enumerate(record))
    if len(choices) == len(kinds):  # a dataclass in any case
        raise ValueError(f"{at} is {quoted(record)}; expected one of {', '.join(choices)}: another version's record?")
    if record in ("inf", "-inf", "nan") and float in (hint, *typing.get_args(hint)):
        return float(record)
    if not _fits(record, hint):
        raise ValueError(f"{at} is {quoted(record)}; expected {_named(hint)}")
    return record


def _dataclass_of(choices: dict[str, type], record: dict[str, Any], at: str) -> Any:
    """One of the dataclasses, by the record's tag."""
    tag = record.get("type")
    tag = tag if tag in choices else RENAMED.get(str(tag), tag)
    if tag not in choices:
        raise ValueError(f"{at} is a {quoted(record.get('type'))}; expected one of {', '.join(choices)}")
    made: Any = choices[tag]
    hints = typing.get_type_hints(made)
    values = {k: v for k, v in record.items() if k != "type"}
    if unknown := values.keys() - hints.keys():
        raise ValueError(f"{at}: {made.__name__} has no field {', '.join(sorted(unknown))}: another version's record?")
    needed = {f.name for f in fields(made) if f.default is MISSING and f.default_factory is MISSING}
    if missing := needed - values.keys():
        raise ValueError(f"{at}: the record of {made.__name__} lacks {', '.join(sorted(missing))}")
    read = {k: from_record(hints[k], v, f"{at}, {k}") for k, v in values.items()}
    try:
        return made(**read)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{at}: {error}") from error


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of a field's type. A bool is no number, a whole number is a float."""
    allowed = [a for kind in typing.get_args(hint) or (hint,) for a in (kind, *typing.get_args(kind))]
    if isinstance(value, bool) and hint is not Any:
        return bool in allowed or any(value is a for a in allowed)
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        return False
    return True


def _named(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _origins(hint: Any) -> list[Any]:
    """The containers inside an optional or a union: tuple for `tuple[int, ...] | None`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [typing.get_origin(a) for a in typing.get_args(hint)]
    return []


def _flat_args(hint: Any) -> list[Any]:
    """The element types of the tuple in `hint`."""
    if typing.get_origin(hint) is tuple:
        return list(typing.get_args(hint))
    return [b for a in typing.get_args(hint) if typing.get_origin(a) is tuple for b in typing.get_args(a)]


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".half-{path.name}")
    with half.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(half, path)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all."""
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """The text of a JSON file of ours."""
    return json.dumps(to_record(value), indent=1, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises ValueError, with the path, where it can not be read or holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not to be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds {quoted(value)}; expected a JSON object, {{...}}")
    return value


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under its name only once everything in it is written and on the disk."""
    half = path.with_name(f".half-{path.name}")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    yield half
    for file in half.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    shutil.rmtree(path, ignore_errors=True)
    os.replace(half, path)
    with suppress(PermissionError):  # Windows opens no folders
        parent = os.open(path.parent, os.O_RDONLY)
        os.fsync(parent)  # the new name, too, must be on the disk
        os.close(parent)


def environment() -> dict[str, Any]:
    """What a number was measured on: versions, machine, commit, command, date."""
    import accelerate
    import torch
    import transformers

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "machine": f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads",
        "gpu": gpu,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    """The commit of the source this runs from, or None outside a checkout."""
    here = Path(__file__).parent
    if shutil.which("git") is None:
        return None
    ask = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True)
    return ask.stdout.strip() or None

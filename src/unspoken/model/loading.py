"""A folder's weights, all of them and as they were saved, or a ValueError that says what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from unspoken.layout.attention import Attention, Prompt
from unspoken.messages import quoted
from unspoken.model.folder import OURS, WEIGHTS, quietly, read_ours
from unspoken.model.others import REFUSED, foreign
from unspoken.model.ports import Port
from unspoken.record import from_record

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OF_THE_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")  # names of models there


def sums(folder: str | Path, files: str = "*.safetensors") -> dict[str, str]:
    """The SHA-256 of files of a folder, by name: of weights, or of those whose names match `files`."""
    found = {}
    for path in sorted(Path(folder).glob(files)):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def check_sums(folder: str | Path, ours: dict[str, Any]) -> None:
    """Refuses weights that are not those that were saved; folders of before there were sums have none to check."""
    recorded = ours.get("sha256", {})
    if not isinstance(recorded, dict):
        raise ValueError(f"{Path(folder) / OURS} holds no sums of its weights; save the model anew")
    found = sums(folder) if recorded else {}
    for name, expected in recorded.items():
        if name not in found:
            raise ValueError(f"{folder} lacks {name}; copy the folder anew, or take another checkpoint")
        if found[name] != expected:
            raise ValueError(
                f"{Path(folder) / name} is not a whole one, or not the one that was saved: its SHA-256 is not that of "
                f"{OURS}; copy the folder anew, or take another checkpoint"
            )


def check_folder(folder: str | Path, options: dict[str, Any]) -> None:
    """Refuses what is no folder of a model that transformers knows. options: `from_pretrained`'s."""
    from transformers import __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    path = Path(folder)
    if not path.exists() and OF_THE_HUB.fullmatch(str(folder)) is None:
        raise ValueError(f"no model in {folder}: there is no such folder")
    if not path.exists() or options.get("trust_remote_code"):
        return  # a name of the Hub, or the caller's own risk
    try:
        config = json.loads((path / "config.json").read_text())
        kind = config.get("model_type")
    except OSError as error:
        raise ValueError(f"no model in {folder}: it holds no config.json that can be read") from error
    except (ValueError, AttributeError) as error:
        raise ValueError(f"no model in {folder}: its config.json is no JSON of a config") from error
    if kind is None:
        raise ValueError(
            f"no model in {folder}: its config.json has no model_type; a run folder, such as "
            "runs/sudoku-6x6/scdm-seed0, is loaded by us.load"
        )
    if kind in REFUSED:
        raise ValueError(f"{folder} is of the type {kind!r}, which can not be read: {REFUSED[kind]}")
    if foreign(folder) is not None:
        return
    if kind not in CONFIG_MAPPING:
        own = ", with code of its own, which is not run" if "auto_map" in config else ""
        raise ValueError(
            f"{folder} is of the type {quoted(kind)}{own}; transformers {__version__} does not know it: take a "
            "decoder that it knows, or make the trunk yourself and hand it to us.Denoiser"
        )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ValueError(
            f"{folder} is of the type {kind!r}, which is no causal language model in transformers {__version__}: take "
            "a decoder, or make the trunk yourself and hand it to us.Denoiser"
        )


def recorded(
    folder: str | Path,
    attention: Attention | None,
    mask_id: int | str | None,
    port: Port | None,
    loops: int | None = None,
    shift: bool | None = None,
) -> dict[str, Any]:
    """A `Denoiser`'s arguments beside the trunk: what the folder records of them, unless they are given."""
    if (ours := read_ours(folder)) is None:
        other = foreign(folder)
        known = {} if other is None else other.defaults
        attention = known.get("attention") if attention is None else attention
        if attention is None and not Path(folder).exists():
            raise ValueError(
                f"there is no folder {folder}; where a model of the Hugging Face Hub is meant, say who may look at "
                "whom, e.g. attention=us.SCDM"
            )
        if attention is None:
            raise ValueError(
                f"{folder} has no {OURS}: for a foreign model say who may look at whom, e.g. attention=us.SCDM; "
                "for one of ours name its run folder, e.g. runs/sudoku-6x6/scdm-seed0"
            )
        return {
            "attention": attention,
            "mask_id": known.get("mask_id") if mask_id is None else mask_id,
            "port": port,
            "loops": 1 if loops is None else loops,
            "shift": known.get("shift", False) if shift is None else shift,
        }
    check_sums(folder, ours)
    known = from_record(Port, ours["port"]) if ours.get("port") else None
    if port not in (None, known):
        raise ValueError(f"{folder} has the port {known}, not {port}: leave port out")
    return {
        "attention": attention
        or from_record(Attention, {"type": "Attention", **ours["attention"]}, f"{folder}/{OURS}"),
        "mask_id": ours["mask_id"] if mask_id is None else mask_id,
        "positions": ours.get("positions", 0),
        "times": ours.get("times", False),
        "port": known,
        "decoder": ours.get("decoder"),
        "loops": ours.get("loops", 1) if loops is None else loops,
        "carry": ours.get("carry", False),
        "unused": ours.get("unused", 0),
        "shift": ours.get("shift", False) if shift is None else shift,
    }


def check_base(folder: str | Path, base: str | Path, ours: dict[str, Any]) -> None:
    """Refuses weights beneath an adapter that are not those that it was trained on, where that is recorded."""
    found = sums(base) if ours.get("base") else {}
    if changed := [name for name, expected in ours.get("base", {}).items() if found.get(name) != expected]:
        raise ValueError(
            f"the adapter in {folder} is of another trunk: {changed[0]} in {base} is not the file that it was trained "
            "on (another SHA-256); give base=, the folder of that"
        )


def read_as(prompt: Prompt | None, attention: Attention, given: bool, folder: str | Path) -> Attention:
    """The rule, with the prompt read as asked: by default as the folder records, of a foreign model as it was trained.

    attention: the caller's where `given`, else the recorded one. A rule without a cache has but one way. Raises
    ValueError where a causal prompt is asked of it.
    """
    if prompt is not None:
        return replace(attention, prompt=prompt)
    if not attention.cacheable or attention.prompt == "causal" or not given:
        return attention
    ours = read_ours(folder)
    # LLaDA and Dream are read by `foreign`, and were trained to look in both directions.
    causal = foreign(folder) is None if ours is None else ours["attention"].get("prompt") == "causal"
    return replace(attention, prompt="causal" if causal else "joint")


def load_trunk(folder: str | Path, options: dict[str, Any]) -> PreTrainedModel:
    """The causal language model of a folder or of the Hub, with just the weights that its config asks for."""
    from transformers import AutoModelForCausalLM

    # What has another shape is told as well, and refused below, by its name.
    told = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    other = foreign(folder)
    try:
        with quietly():
            if other is None:
                loaded: Any = AutoModelForCausalLM.from_pretrained(folder, **options | told)
            else:
                loaded = other.load(options | told)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        where = (
            "or not a whole one" if Path(folder).exists() else "which is no folder here, nor on the Hugging Face Hub"
        )
        raise ValueError(f"no model in {folder}, {where}: {said}") from error
    trunk, info = loaded
    wrong = {
        "lacks": sorted(info["missing_keys"]),
        "has, and its config does not ask for,": sorted(info["unexpected_keys"]),
        "has in another shape": sorted(str(each[0]) for each in info["mismatched_keys"]),
    }
    for what, names in wrong.items():
        if names:
            raise ValueError(
                f"{folder} {what} {len(names)} weights, such as {', '.join(names[:3])}: it is damaged, or its "
                "config.json is another model's; copy it anew, or load the trunk yourself and hand it to us.Denoiser"
            )
    return trunk


def load_inputs(inputs: nn.ModuleDict, folder: str | Path) -> None:
    """Fills the learned positions, times, port and carried states of a model from our file beside the trunk."""
    try:
        weights = load_file(Path(folder) / WEIGHTS)
        # Older folders hold the places alone, and call them "weight".
        inputs.load_state_dict({"place.weight" if name == "weight" else name: w for name, w in weights.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{folder} lacks its learned positions, times or port ({WEIGHTS}): {error}") from error

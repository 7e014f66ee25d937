"""Adapters of `peft` on a trunk: saved alone, and loaded onto the trunk that they were trained on.

`model.trunk = peft.get_peft_model(model.trunk, config)` is all that it takes: the layers of the adapter are inside the
trunk then, and run in every pass. `model.trunk = model.trunk.merge_and_unload()` makes them part of its weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unspoken.extras import need
from unspoken.messages import first_line
from unspoken.model.trunks import bare
from unspoken.record import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG, WEIGHTS = FILES = "adapter_config.json", "adapter_model.safetensors"  # as peft calls them


def is_adapted(trunk: PreTrainedModel) -> bool:
    """Whether a trunk has an adapter of `peft` on it."""
    return bare(trunk) is not trunk


def adapted(trunk: PreTrainedModel, rank: int, mask_id: int) -> Any:
    """A trunk with a new LoRA of that rank on every linear layer but the head; the mask's embedding is trained too.

    arXiv 2106.09685; the scale is alpha / rank with alpha = 2 * rank.
    """
    need("peft", "adapters")
    if is_adapted(trunk):
        raise ValueError(f"lora={rank}: the checkpoint holds an adapter already; with lora=0 that is trained on")
    from peft import LoraConfig, get_peft_model

    linear: dict[str, Any] = {"target_modules": "all-linear", "trainable_token_indices": [mask_id]}
    with _without_old_names():
        return get_peft_model(trunk, LoraConfig(r=rank, lora_alpha=2 * rank, task_type="CAUSAL_LM", **linear))


@contextmanager
def _without_old_names() -> Iterator[None]:
    """Without the warning that `peft` asks a trunk by a name that transformers calls old: users can not mend it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield


@contextmanager
def without_adapter(trunk: Any) -> Iterator[None]:
    """Inside, a trunk runs as it was before it got an adapter; one that has none runs as it is."""
    if not is_adapted(trunk):
        yield
        return
    with trunk.disable_adapter():
        yield


def base_of(folder: str | Path, base: str | Path | None) -> str | Path:
    """Where the trunk's weights are: the folder itself, or where it holds an adapter, what that belongs on.

    base: what the caller says. Raises ValueError where nobody says it, and for a base of a folder that is no adapter's.
    """
    path = Path(folder) / CONFIG
    if not path.exists():
        if base is not None:
            raise ValueError(f"base={base}, and {folder} holds no adapter ({CONFIG}): leave base out")
        return folder
    found = base or read_json(path).get("base_model_name_or_path")
    if not found:
        raise ValueError(f"{path} does not say which model the adapter is of: give base=, that model's folder")
    return found


def check_base_known(trunk: Any) -> None:
    """Raises ValueError for an adapter whose trunk is in no folder: saved alone, it could not be loaded."""
    if not trunk.active_peft_config.base_model_name_or_path:
        raise ValueError(
            "an adapter is saved without its trunk, and this trunk is in no folder: save the model before the adapter "
            "is put on it and load that, or save it merged (model.trunk = model.trunk.merge_and_unload())"
        )


def save_adapter(trunk: Any, folder: str | Path) -> None:
    """Writes the adapter alone; the rows that the vocabulary grew by are made anew when it is loaded."""
    trunk.save_pretrained(str(folder), save_embedding_layers=False)


def with_adapter(trunk: PreTrainedModel, folder: str | Path, base: str | Path) -> Any:
    """The trunk of `base` with the adapter of a folder on it, which may be trained on.

    Raises ValueError for an adapter of another trunk.
    """
    need("peft", "adapters")
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    try:
        with safe_open(Path(folder) / WEIGHTS, "pt") as file:
            saved = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        with _without_old_names():
            made = PeftModel.from_pretrained(trunk, str(folder), is_trainable=True)
        held: Any = get_peft_model_state_dict(made, save_embedding_layers=False)
        wanted = {name: tuple(weight.shape) for name, weight in held.items()}
    except Exception as error:  # whatever peft says of a trunk that has other layers
        raise ValueError(
            f"the adapter in {folder} does not fit {base}, it is of another trunk or damaged: {first_line(error)}"
        ) from error
    if wrong := [name for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]:
        raise ValueError(
            f"the adapter in {folder} does not fit {base}, it is of another trunk: {len(wrong)} weights are missing or "
            f"have another shape, such as {wrong[0]}"
        )
    return made

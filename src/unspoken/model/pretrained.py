"""What a folder holds of a model, read and made to fit together: trunk, mask, tokenizer, and perhaps an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unspoken.layout.attention import Attention, Prompt
from unspoken.model.adapters import base_of
from unspoken.model.folder import OURS, read_ours
from unspoken.model.loading import check_base, check_folder, load_trunk, read_as, recorded
from unspoken.model.masks import choose_mask, grow
from unspoken.model.ports import Port
from unspoken.model.tokens import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Asked:
    """What a caller says of a folder's model; None where the folder is to say it. See `Denoiser.from_pretrained`."""

    attention: Attention | None
    mask_id: int | str | None
    port: Port | None
    loops: int | None
    shift: bool | None
    prompt: Prompt | None
    pad_to: int
    tokenizer: Tokenizer | None
    base: str | Path | None


@dataclass(frozen=True)
class Parts:
    """A trunk without its adapter, and a `Denoiser`'s arguments beside it.

    base: where the trunk is from, the folder itself where that holds no adapter. added: see `Denoiser.added`.
    """

    trunk: PreTrainedModel
    given: dict[str, Any]
    tokenizer: Tokenizer | None
    base: str | Path
    added: bool


def read_parts(folder: str | Path, asked: Asked, options: dict[str, Any]) -> Parts:
    """The parts of a folder's model. options: of the trunk. Raises ValueError for what does not go together."""
    base = base_of(folder, asked.base)
    check_folder(base, options)
    told = folder if (Path(folder) / OURS).exists() else base
    given = recorded(told, asked.attention, asked.mask_id, asked.port, asked.loops, asked.shift)
    given["attention"] = read_as(asked.prompt, given["attention"], asked.attention is not None, told)
    ours = read_ours(folder) if base != folder else None
    if ours is not None:
        check_base(folder, base, ours)
        if asked.mask_id is not None or asked.pad_to != 1:
            raise ValueError(
                f"mask_id={asked.mask_id!r}, pad_to={asked.pad_to} of the adapter {folder}: it was trained with the "
                "mask and the vocabulary that it records; leave both out"
            )
    trunk = load_trunk(base, options)
    tokenizer = asked.tokenizer or load_tokenizer(told, options)
    if ours is not None:
        grow(trunk, ours["mask_id"], ours["vocabulary"], ours["added"])
        return Parts(trunk, given, tokenizer, base, ours["added"])
    unused = given.get("unused", 0)
    given["mask_id"], given["unused"], added = choose_mask(trunk, tokenizer, given["mask_id"], asked.pad_to, unused)
    return Parts(trunk, given, tokenizer, base, added)

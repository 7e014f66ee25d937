"""A model as a folder: the trunk's own files, and beside them ours."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from unspoken.model.adapters import FILES, base_of, check_base_known, is_adapted, save_adapter
from unspoken.model.folder import CODEC, FORESIGHT, OURS, WEIGHTS, quietly
from unspoken.model.loading import sums
from unspoken.record import to_record

if TYPE_CHECKING:  # for the type alone: `denoiser` stands on this
    from unspoken.model.denoiser import Denoiser


def save(model: Denoiser, folder: str | Path) -> None:
    """See `Denoiser.save_pretrained`."""
    decoder = to_record(model.decoder)
    if is_adapted(model.trunk):
        check_base_known(model.trunk)
    with quietly():
        if is_adapted(model.trunk):
            save_adapter(model.trunk, folder)
        else:
            model.trunk.save_pretrained(folder)
            for name in FILES:  # of an adapter that was saved here before: the folder would be read as one
                (Path(folder) / name).unlink(missing_ok=True)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(str(folder))
    if model.inputs:
        save_file(model.inputs.state_dict(), Path(folder) / WEIGHTS)
    if model.codec is not None:
        save(model.codec, Path(folder) / CODEC)
    record: dict[str, Any] = {
        "attention": asdict(model.attention),
        "mask_id": model.mask_id,
        "positions": 0 if model.place is None else model.place.num_embeddings,
        "times": model.clock is not None,
        "loops": model.loops,
        "carry": model.carried is not None,
        "shift": model.shift,
        "decoder": decoder,
        "codec": model.codec is not None,
        "unused": model.unused,
        "sha256": sums(folder),
    }
    if model.port is not None:
        record["port"] = to_record(model.port)
    if model.foresight is not None:
        model.foresight.save_pretrained(Path(folder) / FORESIGHT)
        record["foresight"] = sums(Path(folder) / FORESIGHT)
    if is_adapted(model.trunk):
        base = base_of(folder, None)
        record |= {"vocabulary": model.vocab_size, "added": model.added}
        record["base"] = sums(base) if Path(base).exists() else {}
    (Path(folder) / OURS).write_text(json.dumps(record, indent=1) + "\n")

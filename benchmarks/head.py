"""What the head and the loss of a training step cost at a large vocabulary: CPU seconds and peak memory, in one run.

    python benchmarks/head.py

A step is forward and backward of a batch with a share of its tokens masked, on one thread. Ours is compared, in turns,
with

- `trunk`: the trunk's body alone, over the same entries: no logits, no loss;
- `asked`: the same, and the logits of the masked entries with their cross-entropy: what no step can avoid;
- `everywhere`: the logits of all entries, as most codes compute them, and the cross-entropy of the masked ones.

Each peak is of a process of its own: the most memory that a step holds beyond what was held before it, gradients
among it. Random weights of SmolLM2's shape (576 wide, 49,152 words), or a folder's.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

import unspoken as us
from unspoken.layout.entries import entries_of
from unspoken.layout.packing import Packed, ask_masks
from unspoken.model.trunks import output_head
from unspoken.record import environment, write_json


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        layers: Of the trunk; SmolLM2-135M has 30.
        batch: Rows.
        length: Tokens of a row.
        masked: The share of them that is asked.
        vocab: Words, the mask among them.
        repeats: Timings of each way, of which the median counts; one step before does not count.
        checkpoint: A folder of a model, in place of random weights; its layers and vocabulary count.
        out: Folder for head.json; none is written without it.
        peaks: Whether peaks are measured, each in a process of its own.
        peak: One way, of which the peak memory in MB is measured and nothing else.
    """

    layers: int = 6
    batch: int = 4
    length: int = 128
    masked: float = 0.5
    vocab: int = 49_152
    repeats: int = 3
    checkpoint: Path | None = None
    out: Path | None = None
    peaks: bool = True
    peak: str | None = None


def model_of(options: Options) -> us.Denoiser:
    """A causal-context denoiser, whose mask is the last word, in training mode."""
    if options.checkpoint is not None:
        return us.Denoiser.from_pretrained(options.checkpoint, attention=us.CACHED_JOINT, mask_id=0).train()
    from transformers import LlamaConfig

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    }
    config = LlamaConfig(vocab_size=options.vocab, num_hidden_layers=options.layers, tie_word_embeddings=True, **shape)
    return us.Denoiser.from_config(config, attention=us.CACHED_JOINT, mask_id=options.vocab - 1).train()


def batch_of(options: Options, model: us.Denoiser) -> Packed:
    """Random words, of which the share that is masked is asked; some rows have more of them than others."""
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, options.length)
    x0 = torch.randint(1, model.vocab_size - 1, shape, generator=generator)
    unsaid = torch.rand(shape, generator=generator) < options.masked
    given = torch.zeros_like(unsaid)
    layout = us.random_order(torch.where(unsaid, model.mask_id, x0), unsaid, given, generator)
    return ask_masks(layout, x0)


def ours(model: us.Denoiser, packed: Packed) -> Tensor:
    """The library's step."""
    return packed.reduce(us.packed_losses(model, packed))


def trunk(model: us.Denoiser, packed: Packed) -> Tensor:
    """A step without logits."""
    return model.states(packed.layout).square().mean()


def asked(model: us.Denoiser, packed: Packed) -> Tensor:
    """A step with the logits of what is asked, by hand."""
    q = packed.one
    states = entries_of(model.states(packed.layout), q.at)[q.real]
    logits = output_head(model.trunk)(states)
    return torch.nn.functional.cross_entropy(logits, q.target[q.real])


def everywhere(model: us.Denoiser, packed: Packed) -> Tensor:
    """A step with the logits of all entries."""
    q = packed.one
    logits = output_head(model.trunk)(model.states(packed.layout))
    target = torch.full(packed.layout.token.shape, -100)
    for row, real in enumerate(q.real):
        target[row, q.at[row, real]] = q.target[row, real]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())


WAYS: dict[str, Callable[[us.Denoiser, Packed], Tensor]] = {
    "ours": ours,
    "trunk": trunk,
    "asked": asked,
    "everywhere": everywhere,
}


def step(model: us.Denoiser, packed: Packed, way: str) -> float:
    """CPU seconds of one step; the gradients are let go."""
    clock = time.process_time()
    WAYS[way](model, packed).backward()
    taken = time.process_time() - clock
    model.zero_grad(set_to_none=True)
    return taken


def seconds(options: Options) -> dict[str, list[float]]:
    """CPU seconds of the steps of every way, in turns."""
    model = model_of(options)
    packed = batch_of(options, model)
    turns = [{way: step(model, packed, way) for way in WAYS} for _ in range(options.repeats + 1)][1:]
    return {way: [turn[way] for turn in turns] for way in WAYS}


def held() -> float:
    """MB of memory that this process has held at most (Linux: `ru_maxrss` would count what its parent held)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def peak(options: Options, way: str) -> float:
    """MB that a step of a process of its own holds beyond model and batch."""
    given = [
        f"--{name}={value}"
        for name, value in asdict(options).items()
        if value is not None and name not in ("peak", "peaks", "out")
    ]
    said = subprocess.run(
        [sys.executable, __file__, *given, f"--peak={way}"], capture_output=True, text=True, check=True
    ).stdout
    return float(said.split()[-1])


def measure_peak(options: Options, way: str) -> float:
    """MB of this process's first step."""
    model = model_of(options)
    packed = batch_of(options, model)
    with torch.no_grad():
        model.states(packed.layout)  # what a first pass sets up, and a loaded checkpoint's own peak, are not the step's
    before = held()
    step(model, packed, way)
    return round(held() - before, 1)


def main(options: Options) -> None:
    """Measures, prints the ratios, writes them."""
    torch.set_num_threads(1)
    if options.peak is not None:
        print(measure_peak(options, options.peak))
        return
    taken = seconds(options)
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        ratios = [mine / base for mine, base in zip(taken["ours"], taken[way], strict=True)]
        rows.append(
            {
                "way": way,
                "cpu_seconds": statistics.median(taken[way]),
                "ours_takes": statistics.median(ratios),
                "range": [min(ratios), max(ratios)],
                "peak_mb": peak(options, way) if options.peaks else None,
            }
        )
        print(
            "{way:<11} {cpu_seconds:6.2f} s, peak {peak_mb} MB; ours takes {ours_takes:.2f} of it".format(**rows[-1]),
            flush=True,
        )
    if options.out is not None:
        record = {
            name: value for name, value in asdict(options).items() if name not in ("out", "peak", "peaks", "checkpoint")
        }
        write_json(options.out / "head.json", {"environment": environment(), **record, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Options))

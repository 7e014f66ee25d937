"""What decoding a set of prompts gives, and what it costs: passes, entries, FLOPs, seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder
from unspoken.measure.costs import pass_flops
from unspoken.model.denoiser import Denoiser
from unspoken.tasks.base import Examples, Task


@dataclass(frozen=True)
class Solved:
    """What decoding a set of prompts gave and cost.

    right: `[n]` bool. tokens: `[n, length]`, the answers. The rest is what was computed per example, the padding of
        short rows included (rows that are done are in no pass of `Slots`; the other ways keep them): passes, entries
        a pass, latents a pass, FLOPs, seconds of wall clock.
    """

    right: Tensor
    tokens: Tensor
    passes: float
    entries: float
    latents: float
    flops: float
    seconds: float


def solve(
    model: Denoiser, task: Task, examples: Examples, decoder: Decoder, *, batch: int = 250, seed: int = 0
) -> Iterator[int | Solved]:
    """Decodes every example in batches of `batch`; yields the entries of each pass, then `Solved`."""
    generator = torch.Generator().manual_seed(seed)
    right: list[Tensor] = []
    answers: list[Tensor] = []
    passes, entries, latents, flops, seconds = 0, 0, 0, 0, 0.0
    for first in range(0, len(examples), batch):
        prompt = examples.prompt(task.mask_id)[first : first + batch].to(model.device)
        steps = decoder.steps(model, prompt, generator=generator)
        tokens = prompt
        clock = time.perf_counter()
        for step in steps:
            tokens, rows = step.answer, len(step.rows)
            if tokens.is_cuda:
                torch.cuda.synchronize()  # else the clock is read before the work is done
            seconds += time.perf_counter() - clock
            passes += rows
            entries += rows * step.entries
            latents += int(step.real[:, step.n_candidates :].sum())
            flops += rows * pass_flops(model, step.entries, step.asked, step.cached)
            yield rows * step.entries
            clock = time.perf_counter()
        right.append(task.score(prompt, tokens))
        answers.append(tokens)
    n = len(examples)
    yield Solved(
        right=torch.cat(right),
        tokens=torch.cat(answers),
        passes=passes / n,
        entries=entries / max(passes, 1),
        latents=latents / max(passes, 1),
        flops=flops / n,
        seconds=seconds / n,
    )

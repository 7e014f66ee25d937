"""What is measured: accuracy and likelihood with intervals, and what a run cost (passes, entries, FLOPs, seconds)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unspoken.decode import decode
from unspoken.denoiser import Denoiser
from unspoken.policies import Order
from unspoken.tasks.base import Examples, Task

Z95 = 1.959964  # the normal distribution's 97.5% quantile


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% Wilson interval of a proportion."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}: give 0 <= successes <= n and n >= 1")
    p, z2 = successes / n, Z95**2
    middle, half = p + z2 / (2 * n), Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At the ends the formula is exact but for rounding.
    low = 0.0 if successes == 0 else (middle - half) / (1 + z2 / n)
    high = 1.0 if successes == n else (middle + half) / (1 + z2 / n)
    return low, high


def interval(values: Tensor, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95% bootstrap interval of the mean of `values` `[seeds, examples]`, over both at once.

    Seeds and examples are drawn anew together (the same examples for every seed, as they were measured), so the
    interval holds what another training seed would change where there are several. With one seed it holds the
    examples' share alone. A difference of two methods on the same seeds and examples is a paired interval.
    """
    generator = torch.Generator().manual_seed(seed)
    values = values.double()

    def share(n: int) -> Tensor:
        """`[resamples, n]`: how often each of n is drawn in n draws, over n."""
        drawn = torch.randint(n, (resamples, n), generator=generator)
        return (
            torch.zeros(resamples, n, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double()) / n
        )

    means = ((share(values.shape[0]) @ values) * share(values.shape[1])).sum(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def matmul_weights(model: Denoiser) -> int:
    """Weights of the trunk's body that multiply every entry: its matrices, embeddings and output head apart."""
    body = model.trunk.base_model
    embeddings = {id(m.weight) for m in body.modules() if isinstance(m, nn.Embedding)}
    return sum(p.numel() for p in body.parameters() if p.dim() >= 2 and id(p) not in embeddings)


def pass_flops(model: Denoiser, entries: int, heads: int) -> int:
    """FLOPs of one row of a pass: matrices and attention over `entries`, the output head at `heads` of them.

    Two for a multiplication and its addition; norms, activations and softmax, which are linear in the entries and
    small beside the matrices, are left out.
    """
    config = model.trunk.config
    width = config.hidden_size
    per_head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * per_head * entries * entries
    return 2 * matmul_weights(model) * entries + attention + 2 * width * model.vocab_size * heads


@dataclass(frozen=True)
class Solved:
    """What decoding a set of prompts gave and cost.

    right: `[n]` bool. The rest per example: passes it was in, entries a pass, FLOPs, seconds of wall clock.
    """

    right: Tensor
    passes: float
    entries: float
    flops: float
    seconds: float


def solve(
    model: Denoiser,
    task: Task,
    examples: Examples,
    *,
    latents: int | None = None,
    candidates: int | None = None,
    commit: int = 1,
    order: Order | str = "confidence",
    temperature: float = 0.0,
    batch: int = 250,
    seed: int = 0,
) -> Iterator[int | Solved]:
    """Decodes every example in batches of `batch` (see `decode`); yields the entries of each pass, then `Solved`."""
    generator = torch.Generator().manual_seed(seed)
    right: list[Tensor] = []
    passes, entries, flops, seconds = 0, 0, 0, 0.0
    for first in range(0, len(examples), batch):
        prompt = examples.prompt(task.mask_id)[first : first + batch].to(model.device)
        steps = decode(
            model,
            prompt,
            latents=latents,
            candidates=candidates,
            commit=commit,
            order=order,
            temperature=temperature,
            generator=generator,
        )
        tokens, rows = prompt, len(prompt)
        clock = time.perf_counter()
        for step in steps:
            tokens = step.tokens
            seconds += time.perf_counter() - clock
            passes += rows
            entries += rows * step.entries
            flops += rows * pass_flops(model, step.entries, int(step.candidates.sum(1).max()))
            yield rows * step.entries
            clock = time.perf_counter()
        right.append(task.score(prompt, tokens))
    n = len(examples)
    yield Solved(torch.cat(right), passes / n, entries / max(passes, 1), flops / n, seconds / n)

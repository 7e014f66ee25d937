"""What is measured: accuracy and likelihood with intervals, and what a run cost (passes, entries, FLOPs, seconds)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.stats import t as student_t
from torch import Tensor, nn

from unspoken.decoding import Decoding
from unspoken.denoiser import Denoiser
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


def interval(values: Tensor) -> tuple[float, float]:
    """The 95% interval of the mean of `values` `[seeds, examples]`, for other seeds and other examples.

    Student's t on the sum of two variances: of the seeds' means over the seeds, and of the examples' means over the
    examples, with Satterthwaite's degrees of freedom. (It errs to the wide side: the examples' noise is also in the
    seeds' means. Three seeds alone make a t interval wide, and a bootstrap of three far too narrow.) With one seed it
    holds the examples' share alone. The difference of two methods on the same seeds and examples is a paired interval.
    """
    values = values.double()
    mean = float(values.mean())
    parts = [values.mean(1 - along) for along in (0, 1) if values.shape[along] > 1]
    variances = [(float(v.var()) / len(v), len(v) - 1) for v in parts]
    total = sum(v for v, _ in variances)
    if total == 0:
        return mean, mean
    freedom = total**2 / sum(v**2 / df for v, df in variances)
    half = float(student_t.ppf(0.975, freedom)) * math.sqrt(total)
    return mean - half, mean + half


def share_interval(right: Tensor) -> tuple[float, float]:
    """The 95% interval of the share of `right` `[seeds, examples]` (0 or 1), inside [0, 1].

    `interval`, but Wilson's over the examples where there is one seed, and where every answer is the same: a variance
    of nothing would leave an interval of nothing.
    """
    low, high = interval(right)
    if right.shape[0] == 1 or low == high:
        return wilson(round(float(right.double().mean()) * right.shape[1]), right.shape[1])
    return max(low, 0.0), min(high, 1.0)


def matmul_weights(model: Denoiser) -> int:
    """Weights of the trunk's body that multiply every entry: its matrices, embeddings and output head apart."""
    body = model.trunk.base_model
    embeddings = {id(m.weight) for m in body.modules() if isinstance(m, nn.Embedding)}
    return sum(p.numel() for p in body.parameters() if p.dim() >= 2 and id(p) not in embeddings)


def pass_flops(model: Denoiser, entries: int, heads: int, cached: int = 0) -> int:
    """FLOPs of one row of a pass: matrices and attention over `entries`, the output head at `heads` of them.

    cached: entries that are looked at and not computed.

    Two for a multiplication and its addition; norms, activations and softmax, which are linear in the entries and
    small beside the matrices, are left out.
    """
    config = model.trunk.config
    width = config.hidden_size
    per_head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * per_head * entries * (cached + entries)
    return 2 * matmul_weights(model) * entries + attention + 2 * width * model.vocab_size * heads


@dataclass(frozen=True)
class Solved:
    """What decoding a set of prompts gave and cost.

    right: `[n]` bool. tokens: `[n, length]`, the answers. The rest is what was computed per example, the padding of
        short rows included (rows that are done are in no pass of `decode`; the other ways keep them): passes, entries
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
    model: Denoiser, task: Task, examples: Examples, decoding: Decoding, *, batch: int = 250, seed: int = 0
) -> Iterator[int | Solved]:
    """Decodes every example in batches of `batch`; yields the entries of each pass, then `Solved`."""
    generator = torch.Generator().manual_seed(seed)
    right: list[Tensor] = []
    answers: list[Tensor] = []
    passes, entries, latents, flops, seconds = 0, 0, 0, 0, 0.0
    for first in range(0, len(examples), batch):
        prompt = examples.prompt(task.mask_id)[first : first + batch].to(model.device)
        steps = decoding.steps(model, prompt, generator=generator)
        tokens = prompt
        clock = time.perf_counter()
        for step in steps:
            tokens, rows = step.tokens, len(step.rows)
            if tokens.is_cuda:
                torch.cuda.synchronize()  # else the clock is read before the work is done
            seconds += time.perf_counter() - clock
            passes += rows
            entries += rows * step.entries
            latents += int(step.real[:, step.held :].sum())
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

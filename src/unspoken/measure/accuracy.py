"""What decoding a set of prompts gives, and what it costs: passes, entries, FLOPs, seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from unspoken.decoders.decode import Decoder
from unspoken.measure.costs import pass_flops
from unspoken.model.denoiser import Denoiser
from unspoken.tasks.base import Examples, Task

Way = TypeVar("Way", bound=Hashable)  # what a way to decode goes by
Told = TypeVar("Told")


@dataclass(frozen=True)
class Solved:
    """What decoding a set of prompts gave and cost.

    right: `[n]` bool. tokens: `[n, length]`, the answers. The rest is what was computed per example, the padding of
        short rows included (rows that are done are in no pass of `Slots`; the other ways keep them): passes, entries
        a pass, latents a pass, FLOPs, seconds (see `clock`).
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
        began = clock(model.device)
        for step in steps:
            tokens, rows = step.answer, len(step.rows)
            seconds += clock(model.device) - began
            passes += rows
            entries += rows * step.entries
            latents += int(step.real[:, step.n_candidates :].sum())
            flops += rows * pass_flops(model, step.entries, step.asked, step.cached)
            yield rows * step.entries
            began = clock(model.device)
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


def clock(device: torch.device) -> float:
    """Seconds that costs are measured in: CPU seconds of this process, all threads; on a GPU the clock's.

    A busy machine lengthens the clock's seconds, and hardly the CPU's.
    """
    if device.type == "cpu":
        return time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize()  # else the clock is read before the work is done
    return time.perf_counter()


def solved(model: Denoiser, task: Task, examples: Examples, decoder: Decoder, batch: int) -> Solved:
    """`solve` to its end."""
    return next(e for e in solve(model, task, examples, decoder, batch=batch) if isinstance(e, Solved))


@dataclass(frozen=True)
class Outcome:
    """A way to decode, with a model for each seed, on the same examples.

    right: `[seeds, examples]` float64, 1 where the answer is right. The rest are means an example, entries and latents
        a pass. turns: seconds an example of each part and seed, in the order in which ways took turns; empty where they
        did not.
    """

    right: Tensor
    passes: float
    entries: float
    latents: float
    flops: float
    seconds: float
    turns: tuple[float, ...] = ()

    @property
    def by_seed(self) -> Tensor:
        """`[seeds, turns]`: the seconds of `turns`."""
        return torch.tensor(self.turns, dtype=torch.float64).view(-1, len(self.right)).T

    @classmethod
    def of(cls, parts: Sequence[Sequence[Solved]]) -> Outcome:
        """From every part of the examples and, in it, every seed."""
        right = torch.cat([torch.stack([s.right for s in seeds]) for seeds in parts], dim=1).double()
        share = [len(seeds[0].right) / right.shape[1] for seeds in parts]
        mean = {
            name: sum(
                w * sum(getattr(s, name) for s in seeds) / len(seeds) for w, seeds in zip(share, parts, strict=True)
            )
            for name in ("passes", "entries", "latents", "flops", "seconds")
        }
        return cls(right, **mean, turns=tuple(s.seconds for seeds in parts for s in seeds))


def solve_ways(
    ways: Mapping[Way, tuple[Sequence[Denoiser], Decoder]],
    task: Task,
    examples: Examples,
    batch: int,
    tell: Callable[[Way, int], Told],
) -> Generator[Told, None, dict[Way, Outcome]]:
    """Every way, with a model for each seed, on the same examples; yields what `tell` makes of a pass and its entries.

    Batches outside, ways inside: whatever else the machine does falls on all ways alike. What is drawn, ways and models
    draw alike, and batches do not.
    """
    found: dict[Way, list[list[Solved]]] = {way: [] for way in ways}
    for number, part in enumerate(examples.split(batch)):
        for way, (models, decoder) in ways.items():
            found[way].append([])
            for model in models:
                for event in solve(model, task, part, decoder, batch=batch, seed=number):
                    if isinstance(event, Solved):
                        found[way][-1].append(event)
                    else:
                        yield tell(way, event)
    return {way: Outcome.of(parts) for way, parts in found.items()}

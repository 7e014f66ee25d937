"""Which latents? What each policy's latents do for a model: accuracy and NLL, by their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.decoders.policies import CERTAIN, NEAREST, UNCERTAIN, UNIFORM_LATENTS, LatentPolicy, attended
from unspoken.decoders.slots import Slots
from unspoken.decoders.step import last
from unspoken.measure.likelihood import nll_by_policy
from unspoken.measure.relation import relation_of
from unspoken.model.denoiser import Denoiser
from unspoken.tasks.base import Examples, Task
from unspoken.training.seeds import seeded

BLIND = UNIFORM_LATENTS.name
POLICIES = (BLIND, NEAREST.name, "attended", UNCERTAIN.name, CERTAIN.name)
TRAINING = 512  # examples that the relation is measured on


@dataclass(frozen=True)
class Curve:
    """One policy at one count of latents.

    accuracy: `[seeds, puzzles]`; nll: the same, nats a token, None where it needs a past.
    """

    policy: str
    latents: int
    accuracy: Tensor
    nll: Tensor | None


def cells(counts: Sequence[int]) -> list[tuple[str, int]]:
    """Policies at counts: beside none, and beside all, there is nothing to choose, and the blind one stands for all."""
    return [(name, n) for name in POLICIES for n in counts if name == BLIND or 0 < n < max(counts)]


def policies_of(task: Task, models: Sequence[Denoiser]) -> dict[str, LatentPolicy]:
    """All of `POLICIES`; `attended` goes by the mean of the models' relations, measured on training examples."""
    examples = task.sample("train", TRAINING, seeded("relation examples"))
    relations = [relation_of(m, examples.x0, examples.given, generator=seeded("relation")) for m in models]
    found = (UNIFORM_LATENTS, NEAREST, attended(torch.stack(relations).mean(0)), UNCERTAIN, CERTAIN)
    return {policy.name: policy for policy in found}


def curves_of(
    task: Task, models: Sequence[Denoiser], test: Examples, counts: Sequence[int], draws: int, candidates: int
) -> Iterator[Curve]:
    """Accuracy and NLL of all `cells`; a model for each seed."""
    policies = policies_of(task, models)
    nll = {name: [_nll(model, its, test, counts, draws) for model in models] for name, its in policies.items()}
    for name, count in cells(counts):
        decoding = Slots(None if count == max(counts) else count, candidates, latent_policy=policies[name])
        right = [_right(task, model, decoding, test) for model in models]
        columns = [seed[:, list(counts).index(count)] for seed in nll[name] if seed is not None]
        yield Curve(name, count, torch.stack(right).double(), torch.stack(columns) if columns else None)


def _nll(model: Denoiser, policy: LatentPolicy, test: Examples, counts: Sequence[int], draws: int) -> Tensor | None:
    """`[puzzles, counts]` nats a token: the same tokens are asked for, whatever the policy."""
    if policy.needs_entropy:
        return None  # it goes by what was seen before, and an estimate of one step has seen nothing
    total = nll_by_policy(model, test.x0, test.given, policy, counts, seeded("quarter"), draws)
    return total / (~test.given).sum(1, keepdim=True)


def _right(task: Task, model: Denoiser, decoding: Slots, test: Examples) -> Tensor:
    """`[puzzles]` bool."""
    found = []
    for part in test.split(250):
        prompt = part.prompt(task.mask_id)
        found.append(task.score(prompt, last(decoding.steps(model, prompt, generator=seeded("which latents")), prompt)))
    return torch.cat(found)

"""Which latents? The claim "quarter of the latents": chosen ones do the work of four times as many random ones."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken.decoders.policies import CERTAIN, NEAREST, UNCERTAIN, UNIFORM_LATENTS, LatentPolicy, attended
from unspoken.decoders.slots import Slots
from unspoken.decoders.step import last
from unspoken.measure.intervals import interval
from unspoken.measure.likelihood import nll_by_policy
from unspoken.measure.relation import relation_of
from unspoken.model.denoiser import Denoiser
from unspoken.study.report import Check, Claim, Stage, claim, ends
from unspoken.study.table import Column, Mean
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.loop import seeded

BLIND, TIMES, AT_LEAST = UNIFORM_LATENTS.name, 4, 2
TRAINING = 512  # examples that the relation is measured on
COLUMNS = (
    Column("part", "part"),
    Column("policy", "way"),
    Column("latents", "latents"),
    Mean("accuracy", "solved", share=True),
    Mean("nll", "NLL", by_seed=False, optional=True),
)


@dataclass(frozen=True)
class Curve:
    """One policy at one count of latents, as `COLUMNS` has it.

    accuracy: `[seeds, puzzles]`; nll: the same, nats a token, None where it needs a past.
    """

    policy: str
    latents: int
    accuracy: Tensor
    nll: Tensor | None


def curves_of(
    train: Train, models: list[Denoiser], test: Examples, counts: Sequence[int], draws: int
) -> Generator[Stage, None, list[Curve]]:
    """Accuracy and NLL of every policy at every count; each seed's model goes by its own relation."""
    policies = [_policies(train, model) for model in models]
    every = max(counts)
    # Beside none, and beside all, there is nothing to choose: the blind policy stands for all.
    cells = [(name, n) for name in policies[0] for n in counts if name == BLIND or 0 < n < every]
    nll = {
        name: [_nll(m, p[name], test, counts, draws) for m, p in zip(models, policies, strict=True)]
        for name in policies[0]
    }
    curves = []
    for done, (name, count) in enumerate(cells):
        yield Stage(f"which latents: {name}", done, len(cells))
        right = [
            _right(train, model, its[name], test, None if count == every else count)
            for model, its in zip(models, policies, strict=True)
        ]
        columns = [seed[:, list(counts).index(count)] for seed in nll[name] if seed is not None]
        curves.append(Curve(name, count, torch.stack(right).double(), torch.stack(columns) if columns else None))
    return curves


def _policies(train: Train, model: Denoiser) -> dict[str, LatentPolicy]:
    examples = train.task.sample("train", TRAINING, seeded("relation examples"))
    relation = relation_of(model, examples.x0, examples.given, generator=seeded("relation"))
    return {p.name: p for p in (UNIFORM_LATENTS, NEAREST, attended(relation), UNCERTAIN, CERTAIN)}


@torch.no_grad()
def _nll(model: Denoiser, policy: LatentPolicy, test: Examples, counts: Sequence[int], draws: int) -> Tensor | None:
    """`[puzzles, counts]` nats a token: the same tokens are asked for, whatever the policy."""
    if policy.needs_entropy:
        return None  # it goes by what was seen before, and an estimate of one step has seen nothing
    total = nll_by_policy(model, test.x0, test.given, policy, counts, seeded("quarter"), draws)
    return total / (~test.given).sum(1, keepdim=True)


def _right(train: Train, model: Denoiser, policy: LatentPolicy, test: Examples, latents: int | None) -> Tensor:
    """`[puzzles]` bool."""
    found = []
    for part in test.split(250):
        prompt = part.prompt(train.task.mask_id)
        steps = Slots(latents, latent_policy=policy).steps(model, prompt, generator=seeded("which latents"))
        found.append(train.task.score(prompt, last(steps, prompt)))
    return torch.cat(found)


def quarter(curves: Sequence[Curve]) -> Claim:
    """At two counts n or more, one policy has with n / 4 latents the NLL that random ones have with n.

    The policy is the best over all counts, so that none is picked for each. See `_reaches` for a count.
    """
    its = {(c.policy, c.latents): c for c in curves if c.nll is not None}
    blind = [n for policy, n in its if policy == BLIND]
    counts = [n for n in blind if n % TIMES == 0 and n // TIMES in blind and 0 < n < max(blind)]
    rivals = {p for p, _ in its if p != BLIND and all((p, n // TIMES) in its for n in counts)}
    if not counts or not rivals:
        return claim("quarter of the latents", [Check(False, "no count was tried with a quarter of it")])
    policy = min(sorted(rivals), key=lambda p: sum(_nats_of(its[p, n // TIMES]) for n in counts))
    found = {n: _reaches(its[policy, n // TIMES], its[BLIND, n // TIMES], its[BLIND, n]) for n in counts}
    shown = sum(check.holds for check in found.values())
    head = Check(shown >= AT_LEAST, f"{policy} latents do it at {shown} of {len(counts)} counts ({AT_LEAST} wanted)")
    return claim("quarter of the latents", [head, *(Check(True, check.text) for check in found.values())])


def _nats_of(curve: Curve) -> float:
    return float(_nll_of(curve).mean())


def _nll_of(curve: Curve) -> Tensor:
    assert curve.nll is not None
    return curve.nll


def _reaches(mine: Curve, few: Curve, many: Curve) -> Check:
    """Chosen latents are as good as `many` random ones on the mean, and surely bring half of what those bring or more.

    And they do bring something: the random ones are worse when they are so `few`. By 95% intervals, paired.
    """
    gain, gap = _nll_of(few) - _nll_of(many), _nll_of(mine) - _nll_of(many)
    matters, surely = interval(gain)[0] > 0, interval(gap)[1] <= float(gain.mean()) / 2
    text = (
        f"{mine.latents} for {many.latents}: NLL {_nats_of(mine):.3f}, random ones {_nats_of(many):.3f} (difference "
        f"{ends(interval(gap), '+')}; {few.latents} random ones {_nats_of(few):.3f}), solved "
        f"{mine.accuracy.mean():.3f} and {many.accuracy.mean():.3f}"
    )
    holds = matters and surely and float(gap.mean()) <= 0
    return Check(holds, f"{'yes' if holds else 'no'}, {text}")

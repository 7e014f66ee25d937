"""Which latents? The claim "quarter of the latents": chosen ones do the work of four times as many random ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unspoken.config import Train
from unspoken.decoders.decode import decode
from unspoken.decoders.policies import CERTAIN, NEAREST, UNCERTAIN, UNIFORM_LATENTS, Latents, attended
from unspoken.decoders.step import last
from unspoken.denoiser import Denoiser
from unspoken.likelihood import nll_beside
from unspoken.metrics import interval, share_interval
from unspoken.relation import relation_of
from unspoken.study.report import Check, Claim, Stage, claim, ends
from unspoken.tasks.base import Examples
from unspoken.train import seeded

BLIND, TIMES, AT_LEAST = UNIFORM_LATENTS.name, 4, 2
TRAINING = 512  # examples that the relation is measured on


@dataclass(frozen=True)
class Curve:
    """One policy at one count: `right` `[seeds, puzzles]`; `nll` the same, nats a token, None where it needs a past."""

    policy: str
    count: int
    right: Tensor
    nll: Tensor | None

    def row(self) -> dict[str, Any]:
        """As a row of the study."""
        nll = {} if self.nll is None else {"nll": float(self.nll.mean()), "nll_interval": list(interval(self.nll))}
        return {
            "part": "latents",
            "policy": self.policy,
            "latents": self.count,
            "accuracy": float(self.right.mean()),
            "accuracy_interval": list(share_interval(self.right)),
            "accuracy_by_seed": self.right.mean(1).tolist(),
            **nll,
        }


def measure_quarter(
    train: Train, models: list[Denoiser], test: Examples, counts: Sequence[int], draws: int
) -> Iterator[Stage | Curve]:
    """Accuracy and NLL of every policy at every count; each seed's model goes by its own relation."""
    policies = [_policies(train, model) for model in models]
    every = max(counts)
    # Beside none, and beside all, there is nothing to choose: the blind policy stands for all.
    cells = [(name, n) for name in policies[0] for n in counts if name == BLIND or 0 < n < every]
    nll = {
        name: [_nll(m, p[name], test, counts, draws) for m, p in zip(models, policies, strict=True)]
        for name in policies[0]
    }
    for done, (name, count) in enumerate(cells):
        yield Stage(f"which latents: {name}", done, len(cells))
        right = [
            _right(train, model, its[name], test, None if count == every else count)
            for model, its in zip(models, policies, strict=True)
        ]
        columns = [seed[:, list(counts).index(count)] for seed in nll[name] if seed is not None]
        yield Curve(name, count, torch.stack(right).double(), torch.stack(columns) if columns else None)


def _policies(train: Train, model: Denoiser) -> dict[str, Latents]:
    examples = train.task.sample("train", TRAINING, seeded("relation examples"))
    relation = relation_of(model, examples.x0, examples.given, generator=seeded("relation"))
    return {p.name: p for p in (UNIFORM_LATENTS, NEAREST, attended(relation), UNCERTAIN, CERTAIN)}


@torch.no_grad()
def _nll(model: Denoiser, policy: Latents, test: Examples, counts: Sequence[int], draws: int) -> Tensor | None:
    """`[puzzles, counts]` nats a token: the same tokens are asked for, whatever the policy."""
    if policy.needs_entropy:
        return None  # it goes by what was seen before, and an estimate of one step has seen nothing
    total = nll_beside(model, test.x0, test.given, policy, counts, seeded("quarter"), draws)
    return total / (~test.given).sum(1, keepdim=True)


def _right(train: Train, model: Denoiser, policy: Latents, test: Examples, latents: int | None) -> Tensor:
    """`[puzzles]` bool."""
    found = []
    for part in test.split(250):
        prompt = part.prompt(train.task.mask_id)
        steps = decode(model, prompt, latents=latents, beside=policy, generator=seeded("which latents"))
        found.append(train.task.score(prompt, last(steps, prompt)))
    return torch.cat(found)


def quarter(curves: Sequence[Curve]) -> Claim:
    """At two counts n or more the best policy has with n / 4 the NLL, or accuracy, that random ones have with n."""
    blind = {c.count: c for c in curves if c.policy == BLIND}
    every = max(blind)
    tried = [n for n in blind if n % TIMES == 0 and n // TIMES in blind and 0 < n < every]
    best = {n: _best(curves, blind[n], n // TIMES) for n in tried}
    checks = list(best.values()) or [Check(False, "no count was tried with a quarter of it")]
    if sum(check.holds for check in checks) >= AT_LEAST:  # the counts at which it does not hold are named all the same
        checks = [c if c.holds else Check(True, f"but not at every count: {c.text}") for c in checks]
    return claim("quarter of the latents", checks)


def _best(curves: Sequence[Curve], blind: Curve, count: int) -> Check:
    """The policy that comes nearest at a quarter of the count, by NLL; by accuracy where that alone holds."""
    rivals = [c for c in curves if c.count == count and c.policy != BLIND]
    by_nll = min((c for c in rivals if c.nll is not None), key=lambda c: float(c.nll.mean()), default=None)  # type: ignore[union-attr]
    if by_nll is not None and by_nll.nll is not None and blind.nll is not None:
        gap = by_nll.nll - blind.nll
        if float(gap.mean()) <= 0:
            return Check(True, _text(by_nll.policy, count, blind.count, "NLL", by_nll.nll, blind.nll))
    best = max(rivals, key=lambda c: float(c.right.mean()))
    reaches = float(best.right.mean()) >= float(blind.right.mean())
    if reaches or by_nll is None or by_nll.nll is None or blind.nll is None:
        return Check(reaches, _text(best.policy, count, blind.count, "accuracy", best.right, blind.right))
    return Check(False, _text(by_nll.policy, count, blind.count, "NLL", by_nll.nll, blind.nll))


def _text(policy: str, few: int, many: int, what: str, mine: Tensor, blind: Tensor) -> str:
    gap = ends(interval(mine - blind), "+")
    return (
        f"{what} beside {few} {policy} latents {mine.mean():.3f}, beside {many} random ones {blind.mean():.3f} ({gap})"
    )

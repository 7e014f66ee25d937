"""Schedules beside what was foretold of them: the verdicts of `study steps`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unspoken.layout.attention import MDM
from unspoken.measure.intervals import interval, share_interval
from unspoken.study.report import Check, Claim, claim, ends

EVEN, PLANNED = "even", "planned"
AS_GOOD, RESOLVED = 0.01, 0.2  # nats a token; the share of the largest loss that an interval may hold


@dataclass(frozen=True)
class Measured:
    """A schedule, beside all latents: what was foretold of it, and what came.

    overhead: nats a token that it was foretold to lose, by the profile; `told` `[seeds, rows]` the same of each row.
    nll, lost: `[seeds, rows]` nats a token of test, and those above saying one at a time; right: its answers.
    """

    group: str
    kind: str
    sizes: tuple[int, ...]
    overhead: float
    told: Tensor
    nll: Tensor
    lost: Tensor
    right: Tensor

    def row(self) -> dict[str, Any]:
        """As a row of the study."""
        return {
            "part": "schedule",
            "model": self.group,
            "latents": None,
            "schedule": self.kind,
            "passes": len(self.sizes),
            "sizes": list(self.sizes),
            "foretold": self.overhead,
            "lost": float(self.lost.mean()),
            "lost_interval": list(interval(self.lost)),
            "nll": float(self.nll.mean()),
            "nll_interval": list(interval(self.nll)),
            "accuracy": float(self.right.mean()),
            "accuracy_interval": list(share_interval(self.right)),
        }


def prediction(found: Sequence[Measured]) -> Claim:
    """What a schedule was foretold to lose is what it lost, for models whose tokens see all others' places as masks.

    The difference is within its interval of 0: two-sided, 95% for all schedules of a model together (Bonferroni), by
    rows alone, since both sides are of the same seeds.
    """
    from scipy.special import ndtri  # slow to import

    checks = []
    for name in dict.fromkeys(m.group for m in found if m.group.startswith(MDM.name.upper())):
        its = [m for m in found if m.group == name]
        z = float(ndtri(1 - 0.025 / len(its)))
        worst = max(its, key=lambda m: abs(_gap(m)[0]) / _gap(m)[1])
        gap, error = _gap(worst)
        text = (
            f"{name}: of {len(its)} schedules the farthest ({worst.kind}, {len(worst.sizes)} passes) was foretold to "
            f"lose {worst.overhead:.4f} and lost {worst.lost.mean():.4f} nats a token, allowed {z * error:.4f} apart"
        )
        checks.append(Check(abs(gap) <= z * error, text))
        most = max(its, key=lambda m: m.overhead)
        share = z * _gap(most)[1] / most.overhead if most.overhead else math.inf
        checks.append(
            Check(share <= RESOLVED, f"resolved to {share:.1%} of what {len(most.sizes)} {most.kind} passes lose")
        )
    return claim("prediction", checks)


def _gap(m: Measured) -> tuple[float, float]:
    """What it lost less what was foretold, and the standard error of that over rows."""
    came, told = m.lost.mean(0), m.told.mean(0)
    error = math.sqrt(float(came.var()) / len(came) + float(told.var()) / len(told))
    return float(came.mean()) - m.overhead, max(error, 1e-12)


def planned(found: Sequence[Measured]) -> Claim:
    """At two numbers of passes or more, and with every model, a plan of fewer passes is as good as even steps.

    As good: on the same test rows and orders at most 0.01 nats a token worse, and not surely worse at all; while even
    steps of those fewer passes are surely worse than the plan.
    """
    checks = []
    for name in dict.fromkeys(m.group for m in found):
        its = [m for m in found if m.group == name]
        plans, evens = ({len(m.sizes): m for m in its if m.kind == kind} for kind in (PLANNED, EVEN))
        told = []
        for passes, equal in sorted(evens.items()):
            fewer = [n for n in plans if n < passes and n in evens and _saves(plans[n], equal, evens[n])]
            if fewer:
                gap = interval(plans[min(fewer)].nll - equal.nll)
                told.append(f"{min(fewer)} for {passes} ({ends(gap, '+')})")
        checks.append(Check(len(told) >= 2, f"{name}: planned for even passes: {', '.join(told) or 'none'}"))
    return claim("planned schedule", checks)


def _saves(plan: Measured, more: Measured, as_many: Measured) -> bool:
    """Whether a plan is as good as `more` even passes, and surely better than `as_many` even ones as it has."""
    gap = plan.nll - more.nll
    as_good = float(gap.mean()) <= AS_GOOD and interval(gap)[0] <= 0
    return as_good and interval(plan.nll - as_many.nll)[1] < 0

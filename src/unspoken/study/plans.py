"""Schedules beside what was foretold of them: the verdicts of `study steps`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unspoken.layout.attention import MDM
from unspoken.measure.groups import EVEN, PLANNED, Scheduled
from unspoken.measure.intervals import Estimate
from unspoken.study.report import Check, Claim, claim

AS_GOOD, RESOLVED = 0.01, 0.2  # nats a token; the share of the largest loss that an interval may hold


def _by_model(found: Sequence[Scheduled]) -> dict[str, list[Scheduled]]:
    return {name: [m for m in found if m.model == name] for name in dict.fromkeys(m.model for m in found)}


def prediction(found: Sequence[Scheduled]) -> Claim:
    """What a schedule was foretold to lose is what it lost, for models whose tokens see all others' places as masks.

    The difference is within its interval of 0: two-sided, 95% for all schedules of a model together (Bonferroni), by
    rows alone, since both sides are of the same seeds.
    """
    from scipy.special import ndtri  # slow to import

    checks = []
    for name, its in _by_model([m for m in found if m.model.startswith(MDM.name.upper())]).items():
        z = float(ndtri(1 - 0.025 / len(its)))
        worst = max(its, key=lambda m: abs(_gap(m)[0]) / _gap(m)[1])
        gap, error = _gap(worst)
        text = (
            f"{name}: of {len(its)} schedules the farthest ({worst.schedule}, {worst.passes} passes) was foretold "
            f"to lose {worst.foretold:.4f} and lost {worst.lost.mean():.4f} nats a token, allowed {z * error:.4f} apart"
        )
        checks.append(Check(abs(gap) <= z * error, text))
        most = max(its, key=lambda m: m.foretold)
        share = z * _gap(most)[1] / most.foretold if most.foretold else math.inf
        checks.append(
            Check(share <= RESOLVED, f"resolved to {share:.1%} of what {most.passes} {most.schedule} passes lose")
        )
    return claim("prediction", checks)


def _gap(m: Scheduled) -> tuple[float, float]:
    """What it lost less what was foretold, and the standard error of that over rows."""
    came, told = m.lost.mean(0), m.told.mean(0)
    error = math.sqrt(float(came.var()) / len(came) + float(told.var()) / len(told))
    return float(came.mean()) - m.foretold, max(error, 1e-12)


def planned(found: Sequence[Scheduled]) -> Claim:
    """At two numbers of passes or more, and with every model, a plan of fewer passes is as good as even steps.

    As good: on the same test rows and orders at most 0.01 nats a token worse, and not surely worse at all; while even
    steps of those fewer passes are surely worse than the plan.
    """
    checks = []
    for name, its in _by_model(found).items():
        plans, evens = ({m.passes: m for m in its if m.schedule == kind} for kind in (PLANNED, EVEN))
        told = []
        for passes, equal in sorted(evens.items()):
            fewer = [n for n in plans if n < passes and n in evens and _saves(plans[n], equal, evens[n])]
            if fewer:
                gap = Estimate.of(plans[min(fewer)].nll - equal.nll)
                told.append(f"{min(fewer)} for {passes} ({gap.signed})")
        checks.append(Check(len(told) >= 2, f"{name}: planned for even passes: {', '.join(told) or 'none'}"))
    return claim("planned schedule", checks)


def _saves(plan: Scheduled, more: Scheduled, as_many: Scheduled) -> bool:
    """Whether a plan is as good as `more` even passes, and surely better than `as_many` even ones as it has."""
    gap = Estimate.of(plan.nll - more.nll)
    return gap.mean <= AS_GOOD and gap.low <= 0 and Estimate.of(plan.nll - as_many.nll).high < 0

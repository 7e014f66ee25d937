"""How many steps are enough? What parallel decoding of a trained model loses, foretold from its losses alone.

The profile of the model's own sampler is measured on validation (`profile`), schedules are planned from it, and what
they are foretold to lose is held against what they do lose on test: the likelihood of whole decodings, and the answers
that they draw. What other orders cost is told from decodings (`pseudo_cost`).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from unspoken.decoders.policies import order_named
from unspoken.measure.groups import (
    EVEN,
    PLANNED,
    Group,
    Ordered,
    Scheduled,
    beside,
    fitted,
    groups_of,
    known_and_test,
    schedules,
)
from unspoken.measure.intervals import Estimate
from unspoken.measure.profile import InformationProfile
from unspoken.measure.schedules import even
from unspoken.study.base import Findings, Study
from unspoken.study.report import Check, Claim, Stage, claim
from unspoken.study.table import Column, Mean, Row, Table, count
from unspoken.tasks.base import Examples

AS_GOOD, RESOLVED = 0.01, 0.2  # nats a token; the share of the largest loss that an interval may hold
_HEAD = (Column("part", "part"), Column("model", "model"), Column("latents", "latents", count))
_SCHEDULE = (
    *_HEAD,
    Column("schedule", "schedule"),
    Column("passes", "passes"),
    Column("sizes", "sizes", lambda sizes: " ".join(map(str, sizes))),
    Column("foretold", "foretold", "{:.4f}".format),
    Mean("lost", "lost", by_seed=False, digits=4),
    Mean("nll", "NLL", "{:.4f}".format, by_seed=False),
    Mean("accuracy", "right", share=True, by_seed=False),
)
TABLE = Table(
    "steps",
    {
        "profile": (
            *_HEAD,
            Column("h", drawn=True),
            Column("nll", "NLL", "{:.4f}".format),
            Column("total_correlation", "schedule", "TC {:.3f}, ".format),
            Column("dual_total_correlation", "schedule", "DTC {:.3f}".format),
            Column("least_overhead"),
        ),
        "schedule": _SCHEDULE,
        "order": (
            *_HEAD,
            Column("order", "schedule"),
            *(column for column in _SCHEDULE if column.key in ("passes", "sizes", "accuracy")),
            Mean("pseudo_cost", "lost", by_seed=False, digits=4),
        ),
    },
    "Nats a token that saying tokens together loses: foretold from validation, lost by whole decodings of test "
    "sequences; the NLL of these. Right: answers drawn at temperature 1. TC, DTC: total and dual total correlation "
    "a token. With 95% intervals.",
    headings=tuple(column.heading for column in _SCHEDULE),
)


@dataclass(frozen=True)
class StepsStudy(Study):
    """The study's config. It trains nothing.

    Attributes:
        runs: Run folders; seeds of one model are those that differ in the seed alone.
        passes: Of the schedules.
        latents: How many unknown tokens each is predicted beside, of models that have the dial; all besides.
        examples: Of validation, for the profile, and of test: those of the commonest number of tokens to say.
        draws: Random sets a row and k in the profile; random orders a row of a schedule.
        orders: Names of orders whose pseudo-cost is measured, in even steps of every number of passes.
    """

    TABLE = TABLE
    MAY_BE_EMPTY = ("latents", "orders")

    runs: tuple[str, ...]
    passes: tuple[int, ...] = (2, 3, 4, 6, 8, 12)
    latents: tuple[int, ...] = (0, 4)
    examples: int = 500
    draws: int = 8
    orders: tuple[str, ...] = ("uniform", "confidence")

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError(f"runs={self.runs}: give one run folder or more, each once")
        super().__post_init__()
        if list(self.passes) != sorted(self.passes) or self.passes[0] < 1:
            raise ValueError(f"passes={self.passes}: give numbers of 1 or more that rise")
        if min(self.latents, default=0) < 0:
            raise ValueError(f"latents={self.latents}: give 0 or more")
        for order in self.orders:
            order_named(order)

    def budget(self) -> str:
        return (
            f"the profiles of {len(self.runs)} run(s) on {self.examples} validation examples; schedules of "
            f"{', '.join(map(str, self.passes))} passes, even and planned, on as many of test; the pseudo-cost of "
            f"{' and '.join(self.orders) or 'no'} order"
        )

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        """Loads the runs, measures their profiles, plans and decodes. runs: the folder that they are given from."""
        groups = groups_of([runs / folder for folder in self.runs])
        data = {group.name: known_and_test(group.train.task, self.examples) for group in groups}
        profiles: list[Row] = []
        found: list[Scheduled] = []
        ordered: list[Ordered] = []
        for done, group in enumerate(groups):
            stage = Stage(group.name, done, len(groups))
            its = yield from _measured(self, group, *data[group.name], stage)
            profiles += its[0]
            found += its[1]
            ordered += yield from _ordered(self, group, data[group.name][1], stage)
        rows = profiles + [_schedule_row(its) for its in found] + [_order_row(its) for its in ordered]
        notes = [_note(group, *data[group.name]) for group in groups] + _notes(self, profiles)
        return rows, [prediction(found), planned(found)], notes


def _beside(config: StepsStudy, group: Group) -> tuple[int | None, ...]:
    """The numbers of latents that a group is measured beside, all of them last."""
    return (*(config.latents if group.has_dial else ()), None)


def _measured(
    config: StepsStudy, group: Group, known: Examples, test: Examples, stage: Stage
) -> Generator[Stage, None, tuple[list[Row], list[Scheduled]]]:
    """The rows of a group's profiles, and the schedules that they plan, beside so many latents."""
    rows, found = [], []
    for latents in _beside(config, group):
        name = beside(group.name, latents)
        yield replace(stage, text=f"{name}: profile")
        losses = group.losses(known, latents, config.draws)
        rows.append(_profile_row(group.name, latents, losses))
        profile = fitted(losses)
        yield replace(stage, text=f"{name}: one at a time")
        alone = group.nll(test, (1,) * profile.length, config.draws, latents)
        for kind, sizes in schedules(profile, config.passes):
            yield replace(stage, text=f"{name}: {len(sizes)} passes, {kind}")
            found.append(group.scheduled(kind, sizes, losses, test, alone, config.draws, latents))
    return rows, found


def _ordered(config: StepsStudy, group: Group, test: Examples, stage: Stage) -> Generator[Stage, None, list[Ordered]]:
    """Decodings of every order in even steps, at as many passes as there are tokens or fewer."""
    found, length = [], int((~test.given[0]).sum())
    for latents in _beside(config, group):
        for passes in (n for n in config.passes if n <= length):
            for order in config.orders:
                yield replace(stage, text=f"{beside(group.name, latents)}: {passes} passes, {order} order")
                found.append(group.ordered(order, even(length, passes), test, latents))
    return found


def _profile_row(group: str, latents: int | None, losses: Tensor) -> Row:
    """losses: `[seeds, rows, L, sizes]`."""
    profile = InformationProfile.fitted(losses[..., 0].flatten(0, 1))
    n = profile.length
    return TABLE.row(
        "profile",
        model=group,
        latents=latents,
        h=list(profile.h),
        nll=profile.nll / n,
        total_correlation=profile.total_correlation / n,
        dual_total_correlation=profile.dual_total_correlation / n,
        least_overhead=[lost / n for lost in fitted(losses).least_overhead()],
    )


def _schedule_row(its: Scheduled) -> Row:
    values = {name: value for name, value in vars(its).items() if name != "told"}
    return TABLE.row("schedule", **values | {"passes": its.passes, "sizes": list(its.sizes)})


def _order_row(its: Ordered) -> Row:
    return TABLE.row("order", **vars(its) | {"passes": its.passes, "sizes": list(its.sizes)})


def _by_model(found: Sequence[Scheduled]) -> dict[str, list[Scheduled]]:
    return {name: [m for m in found if m.name == name] for name in dict.fromkeys(m.name for m in found)}


def prediction(found: Sequence[Scheduled]) -> Claim:
    """What a schedule was foretold to lose is what it lost, with every model and number of latents.

    The difference is within its interval of 0: two-sided, 95% for all schedules of a model together (Bonferroni), by
    rows alone, since both sides are of the same seeds.
    """
    from scipy.special import ndtri  # slow to import

    checks = []
    for name, its in _by_model(found).items():
        z = float(ndtri(1 - 0.025 / len(its)))
        worst = max(its, key=lambda m: abs(_gap(m)[0]) / _gap(m)[1])
        gap, error = _gap(worst)
        text = (
            f"{name}: of {len(its)} schedules the farthest ({worst.schedule}, {worst.passes} passes) was foretold "
            f"to lose {worst.foretold:.4f} and lost {worst.lost.mean():.4f} nats a token, allowed {z * error:.4f} apart"
        )
        checks.append(Check(abs(gap) <= z * error, text))
        most = max(its, key=lambda m: m.foretold)
        share = z * _gap(most)[1] / most.foretold if most.foretold > 0 else math.inf
        checks.append(
            Check(share <= RESOLVED, f"resolved to {share:.1%} of what {most.passes} {most.schedule} passes lose")
        )
    return claim("prediction", checks, None)


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
    return claim("planned schedule", checks, min((len(m.nll) for m in found), default=1))


def _saves(plan: Scheduled, more: Scheduled, as_many: Scheduled) -> bool:
    """Whether a plan is as good as `more` even passes, and surely better than `as_many` even ones as it has."""
    gap = Estimate.of(plan.nll - more.nll)
    return gap.mean <= AS_GOOD and gap.low <= 0 and Estimate.of(plan.nll - as_many.nll).high < 0


def _note(group: Group, known: Examples, test: Examples) -> str:
    return (
        f"{group.name}: {len(group.models)} run(s); {len(known)} validation and {len(test)} test examples with "
        f"{int((~test.given[0]).sum())} tokens to say (the commonest number)."
    )


def _notes(config: StepsStudy, profiles: Sequence[Row]) -> list[str]:
    notes = [
        f"Nats a token; {config.draws} random sets a row and k in the profile, {config.draws} random orders a row of a "
        "schedule; answers drawn at temperature 1, in random order. 95% intervals over seeds and examples.",
    ]
    if config.orders:
        notes.append(
            f"Orders ({', '.join(config.orders)}): lost is the pseudo-cost. It is what the tokens that were drawn "
            "together cost one by one, less what they cost together. Even steps, one decoding a row."
        )
    for name in dict.fromkeys(r["model"] for r in profiles):
        its = [r for r in profiles if r["model"] == name]
        if len(its) < 2:
            continue
        goal = its[-1]["nll"] + 0.1
        needed = []
        for r in its:
            reach = next((n for n, lost in enumerate(r["least_overhead"], 1) if r["nll"] + lost <= goal), None)
            needed.append(f"beside {'all' if r['latents'] is None else r['latents']} {reach or 'never'}")
        notes.append(
            f"{name}: passes of the best plan for {goal:.3f} nats a token (one at a time beside all, and 0.1): "
            + ", ".join(needed)
            + "."
        )
    return notes

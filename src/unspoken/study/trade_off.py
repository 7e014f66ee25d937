"""The paper's two claims as comparisons of measurements; each can come out false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unspoken.measure.accuracy import Outcome
from unspoken.measure.intervals import Estimate
from unspoken.measure.likelihood import nll_by_latents
from unspoken.model.denoiser import Denoiser
from unspoken.study.report import Check, Claim, claim, monotone
from unspoken.tasks.base import Examples
from unspoken.training.seeds import seeded


@dataclass(frozen=True)
class Level(Outcome):
    """One model at one count of latents. nll: `[seeds, puzzles]`, nats a token."""

    nll: Tensor = field(kw_only=True)

    @property
    def saturated(self) -> bool:
        """See `saturated`."""
        return saturated(self.right)


def saturated(right: Tensor) -> bool:
    """Whether a share of `[seeds, puzzles]` is too near to none or all for a difference to show."""
    return not 0.02 <= float(right.mean()) <= 0.98


Key = tuple[str, int]  # a model's name, and a number of latents
Levels = dict[Key, Level]


def verdicts(table: Levels, counts: Sequence[int]) -> list[Claim]:
    """The claims on levels that hold SCDM at `counts`, MDM at the last of them (all), and SIDM at 0."""
    mdm, sidm = table["mdm", counts[-1]], table["sidm", 0]
    levels = [table["scdm", n] for n in counts]
    dial = [
        monotone([c.nll for c in levels], "lower", "NLL"),
        *_accuracy_rises(levels, sidm, mdm),
        *_costs_rise(levels),
    ]
    seeds = len(mdm.right)
    return [claim("joint prediction", _joint_prediction(mdm, sidm), seeds), claim("dial", dial, seeds)]


def _joint_prediction(mdm: Level, sidm: Level) -> list[Check]:
    """At an equal budget MDM beats SIDM: intervals apart in accuracy and in NLL, neither of them saturated."""
    right, few = Estimate.of(mdm.right, share=True), Estimate.of(sidm.right, share=True)
    nll, more = Estimate.of(mdm.nll), Estimate.of(sidm.nll)
    return [
        Check(right.low > few.high, f"accuracy MDM {right}, SIDM {few}"),
        Check(nll.high < more.low, f"NLL in nats a token MDM {nll}, SIDM {more}"),
        Check(not mdm.saturated and not sidm.saturated, "neither is saturated"),
    ]


def _accuracy_rises(levels: list[Level], sidm: Level, mdm: Level) -> list[Check]:
    """From SIDM's level towards MDM's."""
    start, low, high = (float(c.right.mean()) for c in (levels[0], sidm, mdm))
    return [
        monotone([c.right for c in levels], "higher", "accuracy"),
        Check(
            abs(start - low) < (high - low) / 4,
            f"it starts within a quarter of the way from SIDM's {low:.3f} to MDM's {high:.3f}",
        ),
    ]


def _costs_rise(levels: list[Level]) -> list[Check]:
    """FLOPs are exact. CPU seconds were measured in turns: of each, the upper half of the counts over the lower."""
    flops = [c.flops for c in levels]
    rise = f"MFLOPs a puzzle rise from {flops[0] / 1e6:.0f} to {flops[-1] / 1e6:.0f}"
    checks = [Check(flops == sorted(flops) and flops[-1] > flops[0], rise)]
    if all(c.turns for c in levels):
        half = len(levels) // 2
        few, many = (torch.stack([c.by_seed for c in some]).sum(0) for some in (levels[:half], levels[-half:]))
        times = Estimate.of_ratios(many, few)
        ends = f"{times.mean:.2f} [{times.low:.2f}, {times.high:.2f}]"
        checks.append(Check(times.low > 1, f"CPU seconds, the upper half of the counts over the lower: {ends} times"))
    return checks


def nll_a_token(model: Denoiser, examples: Examples, counts: Sequence[int], draws: int) -> Tensor:
    """`[puzzles, counts]` nats a token that is not given. The same noise for every model."""
    x0, given = examples.x0.to(model.device), examples.given.to(model.device)
    return nll_by_latents(model, x0, given, counts, seeded("nll"), draws) / (~given).sum(1, keepdim=True)

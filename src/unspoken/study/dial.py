"""The paper's two claims as comparisons of measurements; each can come out false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unspoken.measure.accuracy import Outcome
from unspoken.measure.intervals import Estimate
from unspoken.study.report import Check, Claim, claim, no_step


@dataclass(frozen=True)
class Level(Outcome):
    """One model at one count of latents. nll: `[seeds, puzzles]`, nats a token."""

    nll: Tensor

    @property
    def saturated(self) -> bool:
        """Too near to none or all right for a difference to show."""
        return not 0.02 <= float(self.right.mean()) <= 0.98


Levels = dict[tuple[str, int], Level]  # by the model's name and its number of latents


def verdicts(table: Levels, counts: Sequence[int]) -> list[Claim]:
    """The claims on levels that hold SCDM at `counts`, MDM at the last of them (all), and SIDM at 0."""
    mdm, sidm = table["mdm", counts[-1]], table["sidm", 0]
    levels = [table["scdm", n] for n in counts]
    return [
        claim("joint prediction", _joint_prediction(mdm, sidm)),
        claim("dial", [*_nll_falls(levels), *_accuracy_rises(levels, sidm, mdm), *_costs_rise(levels)]),
    ]


def _joint_prediction(mdm: Level, sidm: Level) -> list[Check]:
    """At an equal budget MDM beats SIDM: intervals apart in accuracy and in NLL, neither of them saturated."""
    right, few = Estimate.of(mdm.right), Estimate.of(sidm.right)
    nll, more = Estimate.of(mdm.nll), Estimate.of(sidm.nll)
    return [
        Check(right.low > few.high, f"accuracy MDM {right}, SIDM {few}"),
        Check(nll.high < more.low, f"NLL in nats a token MDM {nll}, SIDM {more}"),
        Check(not mdm.saturated and not sidm.saturated, "neither is saturated"),
    ]


def _nll_falls(levels: list[Level]) -> list[Check]:
    change = Estimate.of(levels[-1].nll - levels[0].nll)
    return [
        no_step([c.nll for c in levels], "rises", "no step of the NLL rises beyond noise"),
        Check(change.high < 0, f"from no latents to all the NLL changes by {change.signed}"),
    ]


def _accuracy_rises(levels: list[Level], sidm: Level, mdm: Level) -> list[Check]:
    """From SIDM's level towards MDM's."""
    gain = Estimate.of(levels[-1].right - levels[0].right)
    start, low, high = (float(c.right.mean()) for c in (levels[0], sidm, mdm))
    return [
        no_step([c.right for c in levels], "falls", "no step of the accuracy falls beyond noise"),
        Check(gain.low > 0, f"from no latents to all it changes by {gain.signed}"),
        Check(
            abs(start - low) < (high - low) / 4,
            f"it starts within a quarter of the way from SIDM's {low:.3f} to MDM's {high:.3f}",
        ),
    ]


def _costs_rise(levels: list[Level]) -> list[Check]:
    """FLOPs are exact. Seconds are noisy: the upper half of the counts against the lower half."""
    flops, seconds = [c.flops for c in levels], [1e3 * c.seconds for c in levels]
    half = len(levels) // 2
    few, many = sum(seconds[:half]) / half, sum(seconds[-half:]) / half
    return [
        Check(
            flops == sorted(flops) and flops[-1] > flops[0],
            f"MFLOPs a puzzle rise from {flops[0] / 1e6:.0f} to {flops[-1] / 1e6:.0f}",
        ),
        Check(many > few, f"milliseconds a puzzle rise from {few:.1f} (lower counts) to {many:.1f} (upper)"),
    ]

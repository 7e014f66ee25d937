"""The paper's two claims as comparisons of measurements; each can come out false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from unspoken.measure.intervals import interval
from unspoken.study.outcome import Outcome
from unspoken.study.report import Check, Claim, claim, ends


@dataclass(frozen=True)
class Level(Outcome):
    """One model at one count of latents. nll: `[seeds, puzzles]`, nats a token."""

    nll: Tensor


Levels = dict[tuple[str, int], Level]  # by the model's name and its number of latents


def saturated(level: Level) -> bool:
    """Too near to none or all right for a difference to show."""
    return not 0.02 <= float(level.right.mean()) <= 0.98


def verdicts(table: Levels, counts: Sequence[int]) -> list[Claim]:
    """The claims on levels that hold SCDM at `counts`, MDM at the last of them (all), and SIDM at 0."""
    return [_joint_prediction(table, counts), _dial(table, counts)]


def _joint_prediction(table: Levels, counts: Sequence[int]) -> Claim:
    """At an equal budget MDM beats SIDM: intervals apart in accuracy and in NLL, neither of them saturated."""
    mdm, sidm = table["mdm", counts[-1]], table["sidm", 0]
    right, nll = [interval(m.right) for m in (mdm, sidm)], [interval(m.nll) for m in (mdm, sidm)]
    accuracies = [f"{m.right.mean():.3f} {ends(pair)}" for m, pair in zip((mdm, sidm), right, strict=True)]
    nlls = [f"{m.nll.mean():.3f} {ends(pair)}" for m, pair in zip((mdm, sidm), nll, strict=True)]
    return claim(
        "joint prediction",
        [
            Check(right[0][0] > right[1][1], f"accuracy MDM {accuracies[0]}, SIDM {accuracies[1]}"),
            Check(nll[0][1] < nll[1][0], f"NLL in nats a token MDM {nlls[0]}, SIDM {nlls[1]}"),
            Check(not saturated(mdm) and not saturated(sidm), "neither is saturated"),
        ],
    )


def _dial(table: Levels, counts: Sequence[int]) -> Claim:
    """SCDM's NLL falls with the count, its accuracy rises from SIDM's level towards MDM's, and so do the costs."""
    levels = [table["scdm", n] for n in counts]
    mdm, sidm = table["mdm", counts[-1]], table["sidm", 0]
    return claim("dial", [*_nll_falls(levels), *_accuracy_rises(levels, sidm, mdm), *_costs_rise(levels)])


def _nll_falls(levels: list[Level]) -> list[Check]:
    rises = [interval(b.nll - a.nll)[0] > 0 for a, b in pairwise(levels)]
    change = interval(levels[-1].nll - levels[0].nll)
    values = " ".join(f"{c.nll.mean():.3f}" for c in levels)
    return [
        Check(not any(rises), f"no step of the NLL rises beyond noise ({values})"),
        Check(change[1] < 0, f"from no latents to all the NLL changes by {ends(change, '+')}"),
    ]


def _accuracy_rises(levels: list[Level], sidm: Level, mdm: Level) -> list[Check]:
    falls = [interval(b.right - a.right)[1] < 0 for a, b in pairwise(levels)]
    gain = interval(levels[-1].right - levels[0].right)
    values = " ".join(f"{c.right.mean():.3f}" for c in levels)
    start, low, high = (float(c.right.mean()) for c in (levels[0], sidm, mdm))
    return [
        Check(not any(falls), f"no step of the accuracy falls beyond noise ({values})"),
        Check(gain[0] > 0, f"from no latents to all it changes by {ends(gain, '+')}"),
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

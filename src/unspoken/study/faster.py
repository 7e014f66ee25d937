"""The claims "flops" and "wall clock" as comparisons that can come out false."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unspoken.metrics import Solved, interval, share_interval
from unspoken.study.report import Check, Claim, claim, ends

BASE, OURS, SAME_RULE = "MDM, one a pass, rows wait", "ours", "MDM, several a pass"
FEWER_FLOPS, FASTER, AGAINST_SAME_RULE = 10.0, 6.0, 2.0


@dataclass(frozen=True)
class Cost:
    """A way on the test puzzles: `right` `[seeds, puzzles]`, and means a puzzle."""

    right: Tensor
    passes: float
    entries: float
    latents: float
    flops: float
    seconds: float

    @classmethod
    def of(cls, parts: list[list[Solved]], share: list[float]) -> Cost:
        """From every part of the puzzles and, in it, every seed; share: a part's of all puzzles."""
        right = torch.cat([torch.stack([s.right for s in seeds]) for seeds in parts], dim=1).double()
        mean = {
            name: sum(
                w * sum(getattr(s, name) for s in seeds) / len(seeds) for w, seeds in zip(share, parts, strict=True)
            )
            for name in ("passes", "entries", "latents", "flops", "seconds")
        }
        return cls(right, **mean)


Key = tuple[str, int]  # a way, and how many puzzles together


def faster(table: dict[Key, Cost], clock: list[dict[str, Any]]) -> list[Claim]:
    """Ten times fewer FLOPs at the same accuracy on the trained task, six times less time at the larger shape."""
    batches = sorted({batch for _, batch in table if batch > 1}) or sorted({batch for _, batch in table})
    return [_flops(table, batches), _wall_clock(clock)]


def _flops(table: dict[Key, Cost], batches: list[int]) -> Claim:
    checks = []
    for batch in batches:
        base, same, ours = (table[way, batch] for way in (BASE, SAME_RULE, OURS))
        level, gap = share_interval(base.right), interval(ours.right - base.right)
        ratio, against = base.flops / ours.flops, same.flops / ours.flops
        checks += [
            Check(
                float(ours.right.mean()) >= level[0],
                f"batch {batch}: ours solves {ours.right.mean():.3f}, the baseline {base.right.mean():.3f} "
                f"{ends(level)} (difference {ends(gap, '+')})",
            ),
            Check(ratio >= FEWER_FLOPS, f"{ratio:.1f}x fewer FLOPs"),
            Check(against >= AGAINST_SAME_RULE, f"{against:.1f}x fewer than MDM by the same commit rule"),
        ]
    return claim("flops", checks)


def _wall_clock(clock: list[dict[str, Any]]) -> Claim:
    checks = []
    for ours in (row for row in clock if row["way"] == OURS):
        same = next(r for r in clock if r["way"] == SAME_RULE and r["batch"] == ours["batch"])
        against = same["seconds_per_puzzle"] / ours["seconds_per_puzzle"]
        checks += [
            Check(
                ours["faster"] >= FASTER,
                f"batch {ours['batch']}: {ours['faster']:.1f}x less time, {ours['commit']} tokens a pass",
            ),
            Check(against >= AGAINST_SAME_RULE, f"{against:.1f}x less than MDM by the same commit rule"),
        ]
    return claim("wall clock", checks)

"""The claims "flops" and "wall clock" as comparisons that can come out false."""

from __future__ import annotations

from unspoken.measure.intervals import interval, share_interval
from unspoken.study.outcome import Outcome
from unspoken.study.report import Check, Claim, claim, ends
from unspoken.study.table import Row

BASE, OURS, SAME_RULE = "MDM, one a pass, rows wait", "ours", "MDM, ours' rule"
FEWER_FLOPS, FASTER, AGAINST_SAME_RULE = 10.0, 6.0, 2.0


Key = tuple[str, int]  # a way, and how many puzzles together


def faster(table: dict[Key, Outcome], clock: list[Row]) -> list[Claim]:
    """Ten times fewer FLOPs at the same accuracy on the trained task, six times less time at the larger shape."""
    batches = sorted({batch for _, batch in table if batch > 1}) or sorted({batch for _, batch in table})
    return [_flops(table, batches), _wall_clock(table, batches, clock)]


def _flops(table: dict[Key, Outcome], batches: list[int]) -> Claim:
    checks = []
    for batch in batches:
        base, same, ours = (table[way, batch] for way in (BASE, SAME_RULE, OURS))
        ratio, against = base.flops / ours.flops, same.flops / ours.flops
        checks += [
            _as_accurate(table, batch),
            Check(ratio >= FEWER_FLOPS, f"{ratio:.1f}x fewer FLOPs"),
            Check(against >= AGAINST_SAME_RULE, f"{against:.1f}x fewer than MDM by the same commit rule"),
        ]
    return claim("flops", checks)


def _as_accurate(table: dict[Key, Outcome], batch: int) -> Check:
    """Inside the baseline's interval, and not surely worse on the same puzzles: a wide interval excuses nothing."""
    base, ours = table[BASE, batch].right, table[OURS, batch].right
    level, gap = share_interval(base), interval(ours - base)
    text = f"batch {batch}: ours solves {ours.mean():.3f}, the baseline {base.mean():.3f} {ends(level)}"
    return Check(float(ours.mean()) >= level[0] and gap[1] >= 0, f"{text} (difference {ends(gap, '+')})")


def _wall_clock(table: dict[Key, Outcome], batches: list[int], clock: list[Row]) -> Claim:
    """The accuracy is that of the trained task."""
    checks = [_as_accurate(table, batch) for batch in batches] if clock else []
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

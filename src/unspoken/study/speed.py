"""The claims "flops", "wall clock" and "quarter of the latents" as comparisons that can come out false."""

from __future__ import annotations

from collections.abc import Sequence

from unspoken.measure.accuracy import Outcome
from unspoken.measure.intervals import Estimate
from unspoken.measure.policies import BLIND, Curve
from unspoken.study.report import Check, Claim, claim
from unspoken.study.table import Row

BASE, OURS, SAME_RULE = "MDM, one a pass, rows wait", "ours", "MDM, ours' rule"
FEWER_FLOPS, FASTER, AGAINST_SAME_RULE = 10.0, 6.0, 2.0
TIMES, AT_LEAST = 4, 2


Key = tuple[str, int]  # a way, and how many puzzles together


def faster(table: dict[Key, Outcome], clock: list[Row]) -> list[Claim]:
    """Ten times fewer FLOPs at the same accuracy on the trained task, six times less time at the larger shape.

    The accuracy beside the clock is that of the trained task.
    """
    batches = sorted({batch for _, batch in table if batch > 1}) or sorted({batch for _, batch in table})
    flops = [check for batch in batches for check in (_as_accurate(table, batch), *_fewer_flops(table, batch))]
    accurate = [_as_accurate(table, batch) for batch in batches] if clock else []
    seconds = [check for row in clock if row["way"] == OURS for check in _less_time(row, clock)]
    return [claim("flops", flops), claim("wall clock", accurate + seconds)]


def _as_accurate(table: dict[Key, Outcome], batch: int) -> Check:
    """Inside the baseline's interval, and not surely worse on the same puzzles: a wide interval excuses nothing."""
    base, ours = table[BASE, batch].right, table[OURS, batch].right
    level, gap, solved = Estimate.of(base, share=True), Estimate.of(ours - base), float(ours.mean())
    text = f"batch {batch}: ours solves {solved:.3f}, the baseline {level} (difference {gap.signed})"
    return Check(solved >= level.low and gap.high >= 0, text)


def _fewer_flops(table: dict[Key, Outcome], batch: int) -> list[Check]:
    base, same, ours = (table[way, batch].flops for way in (BASE, SAME_RULE, OURS))
    return [
        Check(base / ours >= FEWER_FLOPS, f"{base / ours:.1f}x fewer FLOPs"),
        Check(same / ours >= AGAINST_SAME_RULE, f"{same / ours:.1f}x fewer than MDM by the same commit rule"),
    ]


def _less_time(ours: Row, clock: list[Row]) -> list[Check]:
    same = next(r for r in clock if r["way"] == SAME_RULE and r["batch"] == ours["batch"])
    against, times = same["seconds_per_puzzle"] / ours["seconds_per_puzzle"], ours["faster"]
    return [
        Check(times >= FASTER, f"batch {ours['batch']}: {times:.1f}x less time, {ours['commit']} tokens a pass"),
        Check(against >= AGAINST_SAME_RULE, f"{against:.1f}x less than MDM by the same commit rule"),
    ]


def quarter(curves: Sequence[Curve]) -> Claim:
    """At two counts n or more, one policy has with n / 4 latents the NLL that random ones have with n.

    The policy is the best over all counts, so that none is picked for each. See `_reaches` for a count.
    """
    its = {(c.policy, c.latents): c for c in curves if c.nll is not None}
    nll = {(c.policy, c.latents): float(c.nll.mean()) for c in curves if c.nll is not None}
    blind = [n for policy, n in nll if policy == BLIND]
    counts = [n for n in blind if n % TIMES == 0 and n // TIMES in blind and 0 < n < max(blind)]
    rivals = {p for p, _ in nll if p != BLIND and all((p, n // TIMES) in nll for n in counts)}
    if not counts or not rivals:
        return claim("quarter of the latents", [Check(False, "no count was tried with a quarter of it")])
    policy = min(sorted(rivals), key=lambda p: sum(nll[p, n // TIMES] for n in counts))
    found = [_reaches(its[policy, n // TIMES], its[BLIND, n // TIMES], its[BLIND, n]) for n in counts]
    shown = sum(check.holds for check in found)
    head = Check(shown >= AT_LEAST, f"{policy} latents do it at {shown} of {len(counts)} counts ({AT_LEAST} wanted)")
    return claim("quarter of the latents", [head, *(Check(True, check.text) for check in found)])


def _reaches(mine: Curve, few: Curve, many: Curve) -> Check:
    """Chosen latents are as good as `many` random ones on the mean, and surely bring half of it or more.

    And they do bring something: the random ones are worse when they are so `few`. By 95% intervals, paired.
    """
    assert mine.nll is not None and few.nll is not None and many.nll is not None  # those without are no rivals
    gain, gap = Estimate.of(few.nll - many.nll), Estimate.of(mine.nll - many.nll)
    holds = gain.low > 0 and gap.high <= gain.mean / 2 and gap.mean <= 0
    text = (
        f"{'yes' if holds else 'no'}, {mine.latents} for {many.latents}: NLL {mine.nll.mean():.3f}, random ones "
        f"{many.nll.mean():.3f} (difference {gap.signed}; {few.latents} random ones {few.nll.mean():.3f}), solved "
        f"{mine.accuracy.mean():.3f} and {many.accuracy.mean():.3f}"
    )
    return Check(holds, text)

"""The claims "flops", "wall clock" and "quarter of the latents" as comparisons that can come out false."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from unspoken.measure.accuracy import Outcome
from unspoken.measure.intervals import LEVEL, Estimate, wilson
from unspoken.measure.policies import BLIND, Curve
from unspoken.study.report import Check, Claim, claim

BASE, OURS, SAME_RULE = "MDM, one a pass, rows wait", "ours", "MDM, ours' rule"
OWN = "MDM, several a pass"
FASTEST, FASTEST_RULE = "ours, by the clock", "MDM, by the clock's rule"
FEWER_FLOPS, FEWER_THAN_SAME = 10.0, 2.0
FASTER, FASTER_THAN_SAME = 6.0, 1.5
TIMES, AT_LEAST = 4, 2


Key = tuple[str, int]  # a way, and how many puzzles together


def faster(table: dict[Key, Outcome]) -> list[Claim]:
    """At the baseline's accuracy 10 times fewer FLOPs, and 6 times less CPU time; 2 and 1.5 times beside the same rule.

    What takes the fewest FLOPs and what takes the least time may be two ways. Each is compared with MDM by its commit
    rule, and by the rule that validation chooses for MDM, so that a rule that suits MDM badly proves nothing.
    """
    batches = sorted({batch for _, batch in table})
    flops, seconds = [], []
    for batch in batches:
        flops += [_as_accurate(table, OURS, batch), *_fewer_flops(table, batch)]
        seconds += [_as_accurate(table, FASTEST, batch), *_less_time(table, batch)]
    seeds = len(table[BASE, batches[0]].right)
    return [claim("flops", flops, seeds), claim("wall clock", seconds, seeds)]


def _as_accurate(table: dict[Key, Outcome], way: str, batch: int) -> Check:
    """Not below Wilson's interval of the baseline, and not surely worse on the same puzzles.

    Wilson's, as seeds that differ much would make another interval wide, and excuse a worse decoder.
    """
    base, ours = table[BASE, batch].right, table[way, batch].right
    floor, gap, solved = floor_of(base), Estimate.of(ours - base), float(ours.mean())
    text = f"batch {batch}: {way} solves {solved:.3f}, the baseline {base.mean():.3f} [{floor:.3f}, ...], difference"
    return Check(solved >= floor and gap.high >= 0, f"{text} {gap.signed}")


def floor_of(right: Tensor) -> float:
    """The least share that is as accurate as `right` `[seeds, puzzles]`: the lower end of Wilson's interval."""
    return wilson(round(float(right.mean()) * right.shape[1]), right.shape[1])[0]


def _fewer_flops(table: dict[Key, Outcome], batch: int) -> list[Check]:
    base, same, own, ours = (table[way, batch].flops for way in (BASE, SAME_RULE, OWN, OURS))
    return [
        Check(base / ours >= FEWER_FLOPS, f"{base / ours:.1f}x fewer FLOPs"),
        Check(same / ours >= FEWER_THAN_SAME, f"{same / ours:.1f}x fewer than MDM by the same commit rule"),
        Check(own / ours >= FEWER_THAN_SAME, f"{own / ours:.1f}x fewer than MDM by its own"),
    ]


def _less_time(table: dict[Key, Outcome], batch: int) -> list[Check]:
    base, same, own, ours = (table[way, batch].by_seed for way in (BASE, FASTEST_RULE, OWN, FASTEST))
    found = []
    for other, least, text in (
        (base, FASTER, "less CPU time"),
        (same, FASTER_THAN_SAME, "less than MDM by the same commit rule"),
        (own, FASTER_THAN_SAME, "less than MDM by its own"),
    ):
        times = Estimate.of_ratios(other, ours)
        found.append(Check(times.low >= least, f"{times.mean:.1f}x {text} [{times.low:.1f}, {times.high:.1f}]"))
    return found


def quarter(curves: Sequence[Curve]) -> Claim:
    """At two counts n or more, one policy does with n / 4 latents what random ones do with n: in NLL and share solved.

    The policy is the best over all counts, so that none is picked for each. See `_reaches` for a count; intervals are
    corrected for the number of counts.
    """
    its = {(c.policy, c.latents): c for c in curves if c.nll is not None}
    nll = {(c.policy, c.latents): float(c.nll.mean()) for c in curves if c.nll is not None}
    blind = [n for policy, n in nll if policy == BLIND]
    counts = [n for n in blind if n % TIMES == 0 and n // TIMES in blind and 0 < n < max(blind)]
    rivals = {p for p, _ in nll if p != BLIND and all((p, n // TIMES) in nll for n in counts)}
    if not counts or not rivals:
        return claim("quarter of the latents", [Check(False, "no count was tried with a quarter of it")], None)
    policy = min(sorted(rivals), key=lambda p: sum(nll[p, n // TIMES] for n in counts))
    level = 1 - (1 - LEVEL) / len(counts)
    found = [_reaches(its[policy, n // TIMES], its[BLIND, n // TIMES], its[BLIND, n], level) for n in counts]
    shown = sum(check.holds for check in found)
    head = Check(shown >= AT_LEAST, f"{policy} latents do it at {shown} of {len(counts)} counts ({AT_LEAST} wanted)")
    return claim(
        "quarter of the latents", [head, *(Check(True, check.text) for check in found)], len(curves[0].accuracy)
    )


def _reaches(mine: Curve, few: Curve, many: Curve, level: float) -> Check:
    """Chosen latents are as good as `many` random ones on the mean, and surely bring half of it or more.

    And they do bring something: the random ones are worse when they are so `few`. In NLL and in share solved, by
    paired intervals.
    """
    assert mine.nll is not None and few.nll is not None and many.nll is not None  # those without are no rivals
    nll = _as_good(-mine.nll, -few.nll, -many.nll, level)
    solved = _as_good(mine.accuracy, few.accuracy, many.accuracy, level)
    text = (
        f"{mine.latents} for {many.latents}: NLL {'yes' if nll else 'no'} ({mine.nll.mean():.3f}, random ones "
        f"{many.nll.mean():.3f}, {few.latents} of them {few.nll.mean():.3f}), solved {'yes' if solved else 'no'} "
        f"({mine.accuracy.mean():.3f}, {many.accuracy.mean():.3f}, {few.accuracy.mean():.3f})"
    )
    return Check(nll and solved, text)


def _as_good(mine: Tensor, few: Tensor, many: Tensor, level: float) -> bool:
    """Of `[seeds, puzzles]` of which more is better."""
    gain, gap = Estimate.of(many - few, level=level), Estimate.of(mine - many, level=level)
    return gain.low > 0 and gap.low >= -gain.mean / 2 and gap.mean >= 0

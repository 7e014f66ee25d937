"""The models of `study narvl` by their names, the data they are trained on, and the study's claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unspoken.measure.accuracy import Outcome
from unspoken.measure.intervals import Estimate, holm, p_value
from unspoken.study.report import Check, Claim, claim

LEFT, WISE, QUERIES, ANY, WISE_DISTILLED, DISTILLED = (
    "left to right",
    "position-wise",
    "queries",
    "queries, any number together",
    "position-wise, distilled",
    "queries, distilled",
)
ONE, MANY, SCENES = "strips, one spelling", "strips, two spellings", "scenes"
TRAINED = {
    ONE: (LEFT, WISE, QUERIES),
    MANY: (LEFT, WISE, QUERIES, ANY, WISE_DISTILLED, DISTILLED),
    SCENES: (LEFT, WISE, QUERIES),
}
LEAST_SEEDS = 3
TRAINED_WELL = 0.9  # of the answers from left to right, beside which the others are judged


@dataclass(frozen=True)
class Look:
    """That one model surely is right more often than another by more than `by`; below 0, that it loses less."""

    claim: str
    data: str
    mine: str
    other: str
    by: float


LOOKS = (
    Look("one pass", ONE, QUERIES, LEFT, -0.03),
    Look("marginalisation", MANY, QUERIES, WISE, 0.1),
    Look("distillation", MANY, DISTILLED, QUERIES, 0.1),
)


def claims(found: Mapping[tuple[str, str], Outcome], seeds: int) -> list[Claim]:
    """What the looks come to, all corrected together (Holm)."""
    gains = [found[look.data, look.mine].right - found[look.data, look.other].right for look in LOOKS]
    above = [gain - look.by for look, gain in zip(LOOKS, gains, strict=True)]
    stands = holm([p_value(values) for values in above])
    out = []
    for look, gain, its, sure in zip(LOOKS, gains, above, stands, strict=True):
        mine, other = (found[look.data, name] for name in (look.mine, look.other))
        checks = [Check(sure and float(its.mean()) > 0, _told(look, mine, other, gain))]
        left = float(found[look.data, LEFT].right.mean())
        checks.append(Check(left >= TRAINED_WELL, f"from left to right {left:.3f}, {TRAINED_WELL:g} asked"))
        if look.claim == "one pass":
            checks.append(Check(mine.passes == 1, f"{mine.passes:g} passes, {other.passes:.1f} from left to right"))
        out.append(claim(look.claim, checks, seeds, LEAST_SEEDS))
    return out


def _told(look: Look, mine: Outcome, other: Outcome, gain: Tensor) -> str:
    asked = f"at least {look.by:+g} asked" if look.by > 0 else f"{-look.by:g} may be lost"
    return (
        f"{look.data}: {look.mine} {mine.right.mean():.3f}, {look.other} {other.right.mean():.3f}, difference "
        f"{Estimate.of(gain).signed}, {asked}"
    )

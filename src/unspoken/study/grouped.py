"""The claims "grouped dial" and "no loss at the top", and what each rule between tokens costs; each can come out false.

Every look is a paired comparison over seeds and puzzles, and all looks of a claim are corrected together (Holm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from unspoken.measure.intervals import Estimate, holm, p_value
from unspoken.study.report import Check, Claim, claim
from unspoken.study.trade_off import Level

MOST_TOO_FEW = 2  # counts at which grouped latents need not solve more
CACHED_SHARE = 0.5  # of the FLOPs, with the cache
AT_THE_TOP, MORE_FLOPS = 0.01, 1.5  # share solved that may be lost; training FLOPs that may be spent

Key = tuple[str, int]  # a model's name, and a count of latents
Levels = Mapping[Key, Level]


def better_dial(name: str, levels: Levels, counts: Sequence[int], ordered: str, grouped: Sequence[str]) -> Claim:
    """At equal training and equal pass, each of `grouped` is better than `ordered`: NLL everywhere, and share solved.

    Of the share solved, at all counts but two; the models whose context is causal, with their cache, at less than half
    the FLOPs of `ordered` at that count.
    """
    looks = [(model, n, of) for model in grouped for n in counts for of in ("nll", "right")]
    gains = [_gain(levels, (model, n), (ordered, n), of) for model, n, of in looks]
    stands = holm([p_value(gain) for gain in gains])
    surely = {look: sure and float(gain.mean()) > 0 for look, gain, sure in zip(looks, gains, stands, strict=True)}
    checks = []
    for model in grouped:
        nll = sum(surely[model, n, "nll"] for n in counts)
        solved = sum(surely[model, n, "right"] for n in counts)
        checks += [
            Check(nll == len(counts), _told(levels, counts, model, ordered, "nll", nll)),
            Check(solved >= len(counts) - MOST_TOO_FEW, _told(levels, counts, model, ordered, "right", solved)),
        ]
        shares = [levels[model, n].flops / levels[ordered, n].flops for n in counts]
        if max(shares) < 1:  # a cache is at work
            text = f"{model}: {min(shares):.2f} to {max(shares):.2f} of its FLOPs"
            checks.append(Check(max(shares) < CACHED_SHARE, text))
    return claim(name, checks, len(levels[ordered, counts[0]].right))


def _gain(levels: Levels, mine: Key, other: Key, of: str) -> Tensor:
    """`[seeds, puzzles]`, above 0 where mine is better: a lower NLL, or a right answer."""
    sign = -1 if of == "nll" else 1
    return sign * (getattr(levels[mine], of) - getattr(levels[other], of))


def _told(levels: Levels, counts: Sequence[int], model: str, ordered: str, of: str, sure: int) -> str:
    mine, its = (" ".join(f"{getattr(levels[m, n], of).mean():.3f}" for n in counts) for m in (model, ordered))
    what = "NLL" if of == "nll" else "solved"
    return f"{model}: {what} {mine}, {ordered} {its}, surely better at {sure} of {len(counts)} counts"


def no_loss(levels: Levels, every: int, mine: str, best: str, flops: float) -> Claim:
    """At all latents, a model with the dial solves surely within a point of one without, for 1.5 times its training.

    flops: the training FLOPs of mine over those of the best.
    """
    gap = Estimate.of(levels[mine, every].right - levels[best, every].right)
    solved = [float(levels[model, every].right.mean()) for model in (mine, best)]
    text = f"beside all latents {mine} solves {solved[0]:.3f}, {best} {solved[1]:.3f}, difference {gap.signed}"
    checks = [
        Check(gap.low >= -AT_THE_TOP, text),
        Check(flops <= MORE_FLOPS, f"{flops:.2f} times its training FLOPs"),
    ]
    return claim("no loss at the top", checks, len(levels[mine, every].right))


@dataclass(frozen=True)
class Effect:
    """What one difference between two models does.

    Attributes:
        what: The difference, in words.
        to: The model that has it.
        of: The model that differs in nothing else.
        count: Latents at decoding: "none" or "all".
    """

    what: str
    to: str
    of: str
    count: str


EFFECTS = (
    Effect("latents ordered, not joint", "SCDM", "JOINT", "all"),
    Effect("latents ordered, not joint, both in the numbers asked for", "SCDM", "JOINT, grouped", "all"),
    Effect("context blind to latents", "JOINT", "MDM", "all"),
    Effect("context causal", "CACHED_JOINT", "JOINT", "all"),
    Effect("context causal", "CACHED_JOINT, grouped", "JOINT, grouped", "none"),
    Effect("trained in groups", "JOINT, grouped", "JOINT", "none"),
    Effect("trained in groups", "JOINT, grouped", "JOINT", "all"),
    Effect("every number of latents, not none alone", "JOINT, grouped", "SIDM", "none"),
    Effect("every number of latents, not none alone", "SCDM", "SIDM", "none"),
)


def effects(levels: Levels, counts: Sequence[int]) -> list[tuple[Effect, Tensor, Tensor]]:
    """Those whose models were measured: nats a token that the difference costs, and share solved that it adds.

    Both `[seeds, puzzles]`, paired.
    """
    found = []
    for effect in EFFECTS:
        n = counts[0] if effect.count == "none" else counts[-1]
        if {(effect.to, n), (effect.of, n)} <= levels.keys():
            to, of = levels[effect.to, n], levels[effect.of, n]
            found.append((effect, to.nll - of.nll, to.right - of.right))
    return found

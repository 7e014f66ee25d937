"""The claims "grouped dial" and "no loss at the top", and what each rule between tokens costs; each can come out false.

Every look is a paired comparison over seeds and puzzles. Those of "grouped dial" are corrected together (Holm).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unspoken.measure.intervals import Estimate, holm, p_value
from unspoken.study.report import Check, Claim, claim
from unspoken.study.trade_off import Key, Levels

MOST_TOO_FEW = 2  # counts at which grouped latents need not solve more
CACHED_SHARE = 0.5  # of the FLOPs, with the cache
AT_THE_TOP, MORE_FLOPS = 0.01, 1.5  # share solved that may be lost; training FLOPs that may be spent


def better_dial(
    levels: Levels, counts: Sequence[int], ordered: str, recipes: Mapping[str, Sequence[str]], cached: Collection[str]
) -> list[Claim]:
    """At equal training and equal pass, each model of a recipe is better than `ordered`: NLL everywhere, and solved.

    Of the share solved, at all counts but two. Those of them that are `cached` take less than half the FLOPs of
    `ordered` at every count, and there is one. All looks of all recipes are corrected together.
    """
    looks = [(model, n, of) for its in recipes.values() for model in its for n in counts for of in ("nll", "right")]
    gains = [_gain(levels, (model, n), (ordered, n), of) for model, n, of in looks]
    stands = holm([p_value(gain) for gain in gains])
    surely = {look: sure and float(gain.mean()) > 0 for look, gain, sure in zip(looks, gains, stands, strict=True)}
    seeds = len(levels[ordered, counts[0]].right)
    return [claim(name, _checks(levels, counts, ordered, its, cached, surely), seeds) for name, its in recipes.items()]


def _checks(
    levels: Levels,
    counts: Sequence[int],
    ordered: str,
    models: Sequence[str],
    cached: Collection[str],
    surely: Mapping[tuple[str, int, str], bool],
) -> list[Check]:
    """Of one recipe's models. surely: at which looks one is better than `ordered`."""
    checks = []
    for model in models:
        nll = sum(surely[model, n, "nll"] for n in counts)
        solved = sum(surely[model, n, "right"] for n in counts)
        checks += [
            Check(nll == len(counts), _told(levels, counts, model, ordered, "nll", nll)),
            Check(solved >= len(counts) - MOST_TOO_FEW, _told(levels, counts, model, ordered, "right", solved)),
        ]
    its = [model for model in models if model in cached]
    for model in its:
        shares = [levels[model, n].flops / levels[ordered, n].flops for n in counts]
        text = f"{model}, with its cache: {min(shares):.2f} to {max(shares):.2f} of {ordered}'s FLOPs"
        checks.append(Check(max(shares) < CACHED_SHARE, text))
    if not its:
        checks.append(Check(False, "no model with a cache was measured"))
    return checks


def _gain(levels: Levels, mine: Key, other: Key, of: str) -> Tensor:
    """`[seeds, puzzles]`, above 0 where mine is better: a lower NLL, or a right answer."""
    sign = -1 if of == "nll" else 1
    return sign * (getattr(levels[mine], of) - getattr(levels[other], of))


def _told(levels: Levels, counts: Sequence[int], model: str, ordered: str, of: str, sure: int) -> str:
    mine, its = (" ".join(f"{getattr(levels[m, n], of).mean():.3f}" for n in counts) for m in (model, ordered))
    what = "NLL" if of == "nll" else "solved (its candidates see each other)"
    return f"{model}: {what} {mine}, {ordered} {its}, surely better at {sure} of {len(counts)} counts"


def no_loss(
    levels: Levels, counts: Sequence[int], mine: str, best: str, top: tuple[Tensor, Tensor], flops: float
) -> Claim:
    """At all latents, a model with the dial solves surely within a point of one without, for 1.5 times its training.

    That it has the dial: without latents it has surely a lower NLL than the one without.
    top: of each puzzle the share of decodings that mine and the best solve beside all latents, `[seeds, puzzles]`,
        perhaps more puzzles than those of `levels`. flops: the training FLOPs of mine over those of the best.
    """
    gap, solved = Estimate.of(top[0] - top[1]), [float(right.mean()) for right in top]
    few = Estimate.of(levels[mine, counts[0]].nll - levels[best, counts[0]].nll)
    text = f"beside all latents {mine} solves {solved[0]:.3f}, {best} {solved[1]:.3f}, difference {gap.signed}"
    checks = [
        Check(gap.low >= -AT_THE_TOP, f"{text} ({top[0].shape[1]} puzzles)"),
        Check(few.high < 0, f"without latents its NLL is lower by {-few.mean:.3f}"),
        Check(flops <= MORE_FLOPS, f"{flops:.2f} times its training FLOPs"),
    ]
    return claim("no loss at the top", checks, len(top[0]))


@dataclass(frozen=True)
class Effect:
    """What the difference between two models does.

    Attributes:
        what: The difference, in words.
        to: The model that has it.
        of: The model that has it not.
        count: Latents at decoding.
    """

    what: str
    to: str
    of: str
    count: Literal["none", "all"]


EFFECTS = (
    Effect("latents ordered, not joint", "SCDM", "JOINT", "all"),
    Effect("latents ordered, not joint, each trained in every number", "SCDM", "JOINT, grouped", "all"),
    Effect("latents ordered, not joint, each trained in every number", "SCDM", "JOINT, whole to split", "all"),
    Effect("latents ordered, not joint, each trained in every number", "SCDM", "JOINT, whole to split", "none"),
    Effect("context blind to latents", "JOINT", "MDM", "all"),
    Effect("context causal", "CACHED_JOINT", "JOINT", "all"),
    Effect("context causal, trained in groups", "CACHED_JOINT, grouped", "JOINT, grouped", "none"),
    Effect("context causal, trained in groups", "CACHED_JOINT, whole to split", "JOINT, whole to split", "none"),
    Effect("trained in groups", "JOINT, grouped", "JOINT", "none"),
    Effect("trained in groups", "JOINT, grouped", "JOINT", "all"),
    Effect("trained in groups", "JOINT, whole to split", "JOINT", "all"),
    Effect("trained for every number in groups, not for none", "JOINT, grouped", "SIDM", "none"),
    Effect("trained for every number in order, not for none", "SCDM", "SIDM", "none"),
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

"""The claims of `study adapt`, as comparisons that can come out false."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from unspoken.measure.generation import Said
from unspoken.measure.intervals import Estimate
from unspoken.study.adapted import BEFORE, NEXT, Adapted
from unspoken.study.report import Check, Claim, claim, monotone

Bits = dict[tuple[str, str], Tensor]  # by method and way: `[seeds, windows]` bits per byte
Timed = dict[tuple[str, str], Said]  # by method and way

GENERATE = "transformers' generate"
KEPT = 0.02  # bits per byte that an adaptation may lose beside one to the same text without latents
PASSES = 0.6  # a token


def verdicts(methods: Sequence[Adapted], bits: Bits, timed: Mapping[tuple[str, str], Said], seeds: int) -> list[Claim]:
    """Those that the methods allow; see the functions below."""
    found = [ability(methods, bits, seeds)]
    several = [m for m in methods if len(m.latents) > 1]
    slots, masked = [m for m in several if not m.masked], [m for m in several if m.masked]
    found += [dial("lookahead on text", slots, bits, seeds)] if slots else []
    found += [dial("dial on text", masked, bits, seeds)] if masked else []
    drafting = [m for m in methods if m.drafts]
    return found + ([speculation(drafting, timed)] if drafting else [])


def ability(methods: Sequence[Adapted], bits: Bits, seeds: int) -> Claim:
    """A model that gets latents reads from the left as well as one that is fine-tuned on the same text without them."""
    control = methods[0].name
    others = [m.name for m in methods[1:] if m.reads]
    gaps = {name: Estimate.of(bits[name, NEXT] - bits[control, NEXT]) for name in others}
    learned = Estimate.of(bits[control, NEXT] - bits[BEFORE, NEXT])
    return claim(
        "ability kept",
        [
            Check(learned.high < 0, f"{control} against the checkpoint: {learned.signed} bits per byte"),
            *(Check(gap.high < KEPT, f"{name} against {control}: {gap.signed}") for name, gap in gaps.items()),
        ],
        seeds,
    )


def dial(name: str, methods: Sequence[Adapted], bits: Bits, seeds: int) -> Claim:
    """More latents, fewer bits."""
    checks = []
    for method in methods:
        names = [way.name for way in method.slots()]
        its = [bits[method.name, each] for each in names]
        checks.append(monotone(its, "lower", f"{method.name}: bits per byte, {', '.join(names)}"))
    return claim(name, checks, seeds)


def speculation(methods: Sequence[Adapted], timed: Mapping[tuple[str, str], Said]) -> Claim:
    """The tokens of transformers' generate, to the last, in .6 passes a token at most, and no slower."""
    told, same, fast = [], [], []
    for method in methods:
        theirs = timed[method.name, GENERATE]
        for way in method.speculations():
            its = timed[method.name, way.name]
            times = Estimate.of_ratios(its.seconds[None], theirs.seconds[None])
            same.append(bool((its.tokens == theirs.tokens).all()))
            fast.append(its.passes <= PASSES and times.mean <= 1)
            told.append(f"{method.name}, {way.name}: {its.passes:.2f} passes a token, {times:} of the time")
    checks = [
        Check(all(same), f"{sum(same)} of {len(same)} ways say the tokens of transformers' generate, to the last"),
        Check(any(fast), f"one takes {PASSES} passes a token at most, and no more time: {'; '.join(told)}"),
    ]
    return claim("self-speculation on text", checks, None)

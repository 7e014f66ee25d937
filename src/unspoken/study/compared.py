"""Claims that one variant solves more than another, or loses nothing to it; each can come out false.

Every look is paired over seeds and puzzles, and all looks of a study are corrected together (Holm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from torch import Tensor

from unspoken.measure.costs import pass_flops, training_flops
from unspoken.measure.intervals import Estimate, holm, p_value
from unspoken.study.report import Check, Claim, claim
from unspoken.study.trade_off import saturated
from unspoken.training.config import Train
from unspoken.training.models import new_denoiser

LEAST_SEEDS = 3  # that a verdict needs
APART = 0.05  # of FLOPs that count as equal


@dataclass(frozen=True)
class Size:
    """What a training run makes, and what it costs.

    Attributes:
        parameters: Of the model.
        pass_flops: Of a pass over the whole sequence in which every entry is asked.
        training_flops: Of all its steps.
    """

    parameters: int
    pass_flops: int
    training_flops: float

    @classmethod
    def of(cls, train: Train) -> Size:
        """Of a run that need not be trained."""
        model, length = new_denoiser(train), train.task.length
        number = sum(p.numel() for p in model.parameters())
        return cls(number, pass_flops(model, length, length), training_flops(train))


@dataclass(frozen=True)
class Comparison:
    """That one variant surely solves more than another, both committing one token a pass.

    Attributes:
        claim: What it is a part of: a claim holds where all its comparisons do.
        mine: The variant's name.
        other: The other's.
        equal: What the two have in common: fields of `Size`, parameters exactly and FLOPs to a twentieth.
        lost: The share solved that it may lose; 0 where it is to solve more.
    """

    claim: str
    mine: str
    other: str
    equal: tuple[Literal["parameters", "pass_flops", "training_flops"], ...]
    lost: float = 0.0

    def __post_init__(self) -> None:
        if self.mine == self.other or not 0 <= self.lost < 1:
            raise ValueError(
                f"{self.claim!r} compares {self.mine!r} with {self.other!r}, lost={self.lost}: give two variants, and "
                "a share in [0, 1)"
            )
        known = [field.name for field in fields(Size)]
        if not self.equal or set(self.equal) - set(known):
            raise ValueError(
                f"{self.claim!r} has equal={self.equal}: say what {self.mine!r} and {self.other!r} have in common, "
                f"one or more of {', '.join(known)}"
            )

    def check(self, sizes: Mapping[str, Size]) -> None:
        """ValueError where the two do not have in common what they are to have."""
        mine, other = sizes[self.mine], sizes[self.other]
        for name in self.equal:
            a, b = getattr(mine, name), getattr(other, name)
            if abs(a - b) > (0 if name == "parameters" else APART * b):
                raise ValueError(
                    f"{self.claim!r} compares {self.mine!r} with {self.other!r} at equal {name}, and they have "
                    f"{a:,.0f} and {b:,.0f}: change layers, loops, width or steps, or leave {name} out of equal"
                )


@dataclass(frozen=True)
class Look:
    """What a comparison came to.

    Attributes:
        its: The comparison.
        gain: `[seeds, puzzles]`, what its variant solves more.
        shown: Whether it surely does, beside all the other looks.
    """

    its: Comparison
    gain: Tensor
    shown: bool


def looks_of(comparisons: Sequence[Comparison], right: Mapping[str, Tensor]) -> list[Look]:
    """All of them, corrected together. right: by variant, `[seeds, puzzles]`, 1 where the answer is right."""
    gains = [right[its.mine] - right[its.other] for its in comparisons]
    above = [gain + its.lost for its, gain in zip(comparisons, gains, strict=True)]
    stands = holm([p_value(values) for values in above])
    return [
        Look(its, gain, sure and float(values.mean()) > 0)
        for its, gain, values, sure in zip(comparisons, gains, above, stands, strict=True)
    ]


def verdicts(looks: Sequence[Look], right: Mapping[str, Tensor], sizes: Mapping[str, Size]) -> list[Claim]:
    """A claim for each name, in their order; none under three seeds.

    That nothing is lost shows nothing where both solve none of the puzzles, or all: there it does not hold.
    """
    checks: dict[str, list[Check]] = {}
    for look in looks:
        its = checks.setdefault(look.its.claim, [])
        its.append(Check(look.shown, _told(look, right, sizes)))
        if look.its.lost:
            both = all(saturated(right[name]) for name in (look.its.mine, look.its.other))
            its.append(Check(not both, "not both are saturated"))
    return [claim(name, its, min(len(look.gain) for look in looks), LEAST_SEEDS) for name, its in checks.items()]


def _told(look: Look, right: Mapping[str, Tensor], sizes: Mapping[str, Size]) -> str:
    its = look.its
    solved = [float(right[name].mean()) for name in (its.mine, its.other)]
    mine, other = sizes[its.mine], sizes[its.other]
    may = f", of which {its.lost:g} may be lost" if its.lost else ""
    return (
        f"{its.mine} solves {solved[0]:.3f}, {its.other} {solved[1]:.3f}, difference {Estimate.of(look.gain).signed}"
        f"{may} ({mine.pass_flops / other.pass_flops:.2f} times the FLOPs of a pass, "
        f"{mine.training_flops / other.training_flops:.2f} times those of training)"
    )

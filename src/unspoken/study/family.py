"""Which claims of the paper hold on which task: each a comparison of two ways, on the same seeds and examples."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from unspoken.measure.intervals import Estimate
from unspoken.study.report import Claim

Way = tuple[str, int | None]  # method, latents (None for all)
Key = tuple[str, str, int | None]  # task, and the way

PAIRS: dict[str, tuple[Way, Way]] = {  # that the first does better than the second
    "joint prediction": (("MDM", None), ("SIDM", 0)),
    "the dial": (("SCDM", None), ("SCDM", 0)),
    "lookahead": (("AR + MTP", None), ("AR", 0)),
}


def verdicts(values: Mapping[Key, Tensor], bits: frozenset[str] = frozenset()) -> list[Claim]:
    """Each claim over the tasks that were measured. values: `[seeds, examples]`, of the tasks in `bits` less is better.

    It holds where it does on a task at least, by a 95% interval of the paired difference, and is reversed on none.
    """
    claims = []
    for name, (more, less) in PAIRS.items():
        found: dict[str, list[str]] = {"better": [], "nothing separates": [], "worse": []}
        for task in dict.fromkeys(task for task, _, _ in values):
            if {(task, *more), (task, *less)} <= values.keys():
                kind, text = _compared(task, values[task, *more], values[task, *less], task in bits)
                found[kind].append(text)
        if any(found.values()):
            evidence = "; ".join(f"{kind}: {', '.join(its)}" for kind, its in found.items() if its)
            claims.append(Claim(name, bool(found["better"]) and not found["worse"], evidence))
    return claims


def _compared(task: str, more: Tensor, less: Tensor, bits: bool) -> tuple[str, str]:
    gain = Estimate.of(less - more if bits else more - less)
    kind = "better" if gain.low > 0 else "worse" if gain.high < 0 else "nothing separates"
    what = " bits per byte" if bits else ""
    return kind, f"{task} {less.mean():.3f} to {more.mean():.3f}{what} ({gain.signed})"

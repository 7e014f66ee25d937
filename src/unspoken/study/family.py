"""Which claims of the paper hold on which task: each a comparison of two ways, on the same seeds and examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unspoken.measure.intervals import interval
from unspoken.study.report import Claim, ends

Key = tuple[str, str, int | None]  # task, method, latents (None for all)


@dataclass(frozen=True)
class _Pair:
    """The claim that `more` does better than `less`, both (method, latents)."""

    claim: str
    more: tuple[str, int | None]
    less: tuple[str, int | None]


PAIRS = (
    _Pair("joint prediction", ("MDM", None), ("SIDM", 0)),
    _Pair("the dial", ("SCDM", None), ("SCDM", 0)),
    _Pair("lookahead", ("AR + MTP", None), ("AR", 0)),
)


def verdicts(values: Mapping[Key, Tensor], bits: frozenset[str] = frozenset()) -> list[Claim]:
    """Each claim over the tasks that were measured. values: `[seeds, examples]`, of the tasks in `bits` less is better.

    It holds where it does on a task at least, by a 95% interval of the paired difference, and is reversed on none.
    """
    tasks = list(dict.fromkeys(task for task, _, _ in values))
    return [claim for pair in PAIRS if (claim := _claim(pair, values, tasks, bits)) is not None]


def _claim(pair: _Pair, values: Mapping[Key, Tensor], tasks: list[str], bits: frozenset[str]) -> Claim | None:
    found: dict[str, list[str]] = {"better": [], "nothing separates": [], "worse": []}
    for task in tasks:
        more, less = values.get((task, *pair.more)), values.get((task, *pair.less))
        if more is None or less is None:
            continue
        low, high = interval(less - more if task in bits else more - less)
        kind = "better" if low > 0 else "worse" if high < 0 else "nothing separates"
        what = " bits per byte" if task in bits else ""
        found[kind].append(f"{task} {less.mean():.3f} to {more.mean():.3f}{what} ({ends((low, high), '+')})")
    if not any(found.values()):
        return None
    evidence = "; ".join(f"{kind}: {', '.join(its)}" for kind, its in found.items() if its)
    return Claim(pair.claim, bool(found["better"]) and not found["worse"], evidence)

"""The claims of `study tasks`: on which tasks a method helps, on which it harms, and what goes along with that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from unspoken.measure.intervals import Estimate, holm, p_value
from unspoken.study.report import Check, Claim, claim
from unspoken.study.table import Row
from unspoken.study.task_cases import ORDERS

TURNS = 0.5  # latents a pass beside all, more than beside none, from which on a dial turns
SURE = 0.05  # of a rank correlation's p-value
Named = tuple[str, int | None]  # method, latents (None for all)
Key = tuple[str, str, int | None]  # task, method, latents

PAIRS: dict[str, tuple[Named, Named]] = {  # that the first does better than the second
    "joint prediction": (("MDM", None), ("SIDM", 0)),
    "the dial": (("SCDM", None), ("SCDM", 0)),
    "the dial, grouped": (("grouped", None), ("grouped", 0)),
    "lookahead": (("AR + MTP", None), ("AR", 0)),
    "lookahead, one model": (("AR + MTP", None), ("AR + MTP", 0)),
    "lookahead, AR at every prefix": (("AR + MTP", None), ("AR, every prefix", 0)),
    "groups, all latents": (("grouped", None), ("SCDM", None)),
    "groups, no latents": (("grouped", 0), ("SCDM", 0)),
    "confidence order": ((ORDERS["confidence"], None), (ORDERS["uniform"], None)),
}


def verdicts(values: Mapping[Key, Tensor], rows: Sequence[Row]) -> list[Claim]:
    """Each claim over the tasks that were measured. values: `[seeds, examples]`; of bits per byte less is better.

    It holds where it does on a task at least, by paired differences with Holm's correction for the number of tasks, and
    is reversed on none. A task on which the dial does not turn is left out of the dial, and named.
    """
    shown = [row for row in rows if "method" in row]
    seen = {(row["task"], row["method"], row["latents"]): row.get("latents_per_pass") for row in shown}
    bits = {row["task"] for row in shown if "bits_per_byte" in row}
    return [
        _over_tasks(name, pair, values, seen, bits)
        for name, pair in PAIRS.items()
        if any({(task, *pair[0]), (task, *pair[1])} <= values.keys() for task, _, _ in values)
    ]


def _over_tasks(
    name: str,
    pair: tuple[Named, Named],
    values: Mapping[Key, Tensor],
    seen: Mapping[Any, float | None],
    bits: set[str],
) -> Claim:
    more, less = pair
    tasks = [t for t in dict.fromkeys(task for task, _, _ in values) if {(t, *more), (t, *less)} <= values.keys()]
    turned = [t for t in tasks if not name.startswith("the dial") or _turns(seen, t, more[0])]
    gains = [(values[t, *less] - values[t, *more]) * (1 if t in bits else -1) for t in turned]
    found: dict[str, list[str]] = {"better": [], "nothing separates": [], "worse": []}
    for task, gain, sure in zip(turned, gains, holm([p_value(gain) for gain in gains]), strict=True):
        kind = "nothing separates" if not sure else "better" if gain.mean() > 0 else "worse"
        of, to = (float(values[task, *way].mean()) for way in (less, more))
        what = " bits per byte" if task in bits else ""
        found[kind].append(f"{task} {of:.3f} to {to:.3f}{what} ({Estimate.of(gain).signed})")
    left_out = {"left out, for as many latents beside none as beside all": [t for t in tasks if t not in turned]}
    counted = {f"{kind} on {len(its)} of {len(turned)}": its for kind, its in found.items()}
    evidence = "; ".join(f"{kind}: {', '.join(its)}" for kind, its in (counted | left_out).items() if its)
    holds = bool(found["better"]) and not found["worse"]
    seeds = min(len(its) for its in values.values())
    return claim(name, [Check(holds, evidence)], seeds)


def _turns(seen: Mapping[Any, float | None], task: str, method: str) -> bool:
    """Whether a pass beside all latents has any more of them than one beside none, on average."""
    few, many = seen.get((task, method, 0)), seen.get((task, method, "all"))
    return few is None or many is None or many - few >= TURNS


def explanation(rows: Sequence[Row], seeds: int) -> Claim:
    """Joint prediction saves the more nats, the more an answer's tokens depend on each other for SIDM.

    How far they do is the total correlation that SIDM, a model without latents, has of them. Over tasks, by Kendall's
    rank correlation, one-sided: of nats a token, and of shares (of SIDM's cost of a token when none is known, and of
    its NLL), since both numbers of nats are small where little is unknown. rows: of the part "correlation".
    """
    its = {(row["task"], row["model"]): row for row in rows}
    both = [(its[task, "SIDM"], its[task, "MDM"]) for task, model in its if model == "SIDM" and (task, "MDM") in its]
    if len(both) < 3:
        return Claim("total correlation", None, f"{len(both)} tasks: no verdict")
    tasks = [sidm["task"] for sidm, _ in both]
    correlation = [sidm["total_correlation"] for sidm, _ in both]
    saved = [sidm["nll"] - mdm["nll"] for sidm, mdm in both]
    alone = [sidm["nll"] for sidm, _ in both]
    of_first = [tc / (tc + nll) for tc, nll in zip(correlation, alone, strict=True)]  # TC + NLL = h(0), a token
    of_nll = [nats / nll for nats, nll in zip(saved, alone, strict=True)]
    checks = [_ranked("nats a token", tasks, correlation, saved), _ranked("shares", tasks, of_first, of_nll)]
    return claim("total correlation", checks, seeds)


def _ranked(what: str, tasks: Sequence[str], correlation: Sequence[float], saved: Sequence[float]) -> Check:
    from scipy.stats import kendalltau  # slow to import

    tau, p = map(float, kendalltau(correlation, saved, alternative="greater"))
    text = "; ".join(f"{t} {tc:.3f}, {more:+.3f}" for t, tc, more in zip(tasks, correlation, saved, strict=True))
    return Check(p < SURE, f"{what}: rank correlation {tau:.2f}, p = {p:.3f}, over {len(tasks)} tasks ({text})")

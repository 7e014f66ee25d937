"""What every study ends in: rows, claims that can come out false, and the files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from unspoken.measure.intervals import Estimate
from unspoken.record import environment, from_record, read_json, to_record, write_json

MARGIN = 0.25  # of the change from the first to the last: what a step may not go back


@dataclass(frozen=True)
class Stage:
    """Progress of a study: what it is doing, and how much of its estimated work is done."""

    text: str
    done: float
    total: float


@dataclass(frozen=True)
class Claim:
    """A sentence of the literature, whether it holds here, and the numbers that say so.

    holds: None where the numbers allow no verdict.
    """

    name: str
    holds: bool | None
    evidence: str

    @property
    def verdict(self) -> str:
        """In words."""
        return "no verdict" if self.holds is None else "holds" if self.holds else "does not hold"

    def __str__(self) -> str:
        return f"{self.verdict.upper()}  {self.name}: {self.evidence}"


@dataclass(frozen=True)
class Check:
    """One of the comparisons that a claim is made of."""

    holds: bool
    text: str


def claim(name: str, checks: list[Check], seeds: int | None, least: int = 2) -> Claim:
    """Holds where every check does; the evidence lists them, the failing ones marked.

    seeds: training seeds of the models compared. One allows no verdict: what another would change is unknown. None
        where the claim is about these very models. least: how many a verdict needs.
    """
    if seeds is not None and seeds < least:
        few = "one seed" if seeds == 1 else f"{seeds} seeds"
        return Claim(name, None, f"{few}: no verdict. Seen: " + "; ".join(c.text for c in checks))
    evidence = "; ".join(c.text if c.holds else f"NOT SHOWN: {c.text}" for c in checks)
    return Claim(name, bool(checks) and all(c.holds for c in checks), evidence)


def monotone(values: Sequence[Tensor], towards: Literal["higher", "lower"], of: str) -> Check:
    """That the values, `[seeds, examples]`, surely go from the first to the last, and no step goes back by much.

    Each step's interval must exclude that it goes back by `MARGIN` of the whole change: little data shows nothing. All
    steps must, so that their number needs no correction.
    """
    sign = 1 if towards == "higher" else -1
    whole = Estimate.of(values[-1] - values[0])
    back = max(-Estimate.of(sign * (b - a)).low for a, b in pairwise(values))
    allowed = max(MARGIN * sign * whole.mean, 0.0)
    gains = whole.low > 0 if towards == "higher" else whole.high < 0
    means = " ".join(f"{value.mean():.3f}" for value in values)
    text = f"{of}: {means}, in all {whole.signed}, no step goes back by more than {back:.3f}, allowed {allowed:.3f}"
    return Check(gains and back < allowed, text)


HELD: dict[str, Any] = {  # in study.json
    "study": str,
    "config": dict[str, Any],
    "rows": list[dict[str, Any]],
    "claims": list[dict[str, Any]],
    "notes": list[str],
    "environment": dict[str, Any],
}


@dataclass(frozen=True)
class Result:
    """A finished study. `rows` are dictionaries of JSON values, made by the columns of its `Table`."""

    study: str
    config: Any
    rows: list[dict[str, Any]]
    claims: list[Claim]
    notes: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=environment)

    def save(self, folder: Path) -> Path:
        """Writes `study.json` (rows, claims, notes, config, environment) and returns its path."""
        path = folder / "study.json"
        write_json(
            path,
            {
                "study": self.study,
                "environment": self.environment,
                "config": to_record(self.config),
                "rows": self.rows,
                "claims": [asdict(c) for c in self.claims],
                "notes": self.notes,
            },
        )
        return path


def read_result(path: Path) -> Result:
    """A `study.json` as `Result.save` wrote it. Raises ValueError where it is none."""
    if not path.exists():
        raise ValueError(f"there is no {path}; run a study first: unspoken study latents quick")
    record = read_json(path)
    if missing := HELD.keys() - record.keys():
        raise ValueError(f"{path} is no study.json of ours: it lacks {', '.join(sorted(missing))}")
    values: dict[str, Any] = {name: from_record(hint, record[name], f"{path}, {name}") for name, hint in HELD.items()}
    told: list[Any] = values.pop("claims")
    claims = [from_record(Claim, {"type": "Claim", **c}, f"{path}, claims[{i}]") for i, c in enumerate(told)]
    return Result(**values, claims=claims)

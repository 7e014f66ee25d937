"""What every study ends in: rows, claims that can come out false, and the files that hold them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from unspoken.measure.intervals import LEVEL, Estimate, holm, p_value
from unspoken.record import environment, to_record, write_json


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


def claim(name: str, checks: list[Check], seeds: int | None) -> Claim:
    """Holds where every check does; the evidence lists them, the failing ones marked.

    seeds: training seeds of the models compared. One allows no verdict: what another would change is unknown. None
        where the claim is about these very models.
    """
    if seeds is not None and seeds < 2:
        return Claim(name, None, "one seed: no verdict. Seen: " + "; ".join(c.text for c in checks))
    evidence = "; ".join(c.text if c.holds else f"NOT SHOWN: {c.text}" for c in checks)
    return Claim(name, bool(checks) and all(c.holds for c in checks), evidence)


def monotone(values: Sequence[Tensor], towards: Literal["higher", "lower"], of: str) -> Check:
    """That the values, `[seeds, examples]`, surely go from the first to the last, and no step surely goes back.

    Steps back are looked at with Holm's correction for their number. Alone they would prove nothing: with little data
    no step is sure.
    """
    sign = 1 if towards == "higher" else -1
    steps = [sign * (b - a) for a, b in pairwise(values)]
    back = [p < 1 - LEVEL and step.mean() < 0 for p, step in zip(holm([p_value(s) for s in steps]), steps, strict=True)]
    whole = Estimate.of(values[-1] - values[0])
    gains = whole.low > 0 if towards == "higher" else whole.high < 0
    means = " ".join(f"{value.mean():.3f}" for value in values)
    return Check(gains and not any(back), f"{of}: {means}, in all {whole.signed}, {sum(back)} steps surely back")


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
    try:
        record = json.loads(path.read_text())
        values: dict[str, Any] = {f.name: record[f.name] for f in fields(Result)}
        values["claims"] = [Claim(**claim) for claim in values["claims"]]
        return Result(**values)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no study.json of ours: {error!r}") from error

"""What every study ends in: rows, claims that can come out false, and the files that hold them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from unspoken.measure.intervals import Estimate
from unspoken.record import environment, to_record, write_json


@dataclass(frozen=True)
class Stage:
    """Progress of a study: what it is doing, and how much of its estimated work is done."""

    text: str
    done: float
    total: float


@dataclass(frozen=True)
class Claim:
    """A sentence of the literature, whether it holds here, and the numbers that say so."""

    name: str
    holds: bool
    evidence: str

    def __str__(self) -> str:
        return f"{'HOLDS' if self.holds else 'DOES NOT HOLD'}  {self.name}: {self.evidence}"


@dataclass(frozen=True)
class Check:
    """One of the comparisons that a claim is made of."""

    holds: bool
    text: str


def claim(name: str, checks: list[Check]) -> Claim:
    """Holds where every check does; the evidence lists them, the failing ones marked."""
    evidence = "; ".join(c.text if c.holds else f"NOT SHOWN: {c.text}" for c in checks)
    return Claim(name, bool(checks) and all(c.holds for c in checks), evidence)


def no_step(values: Sequence[Tensor], wrong: Literal["rises", "falls"], of: str) -> Check:
    """That none of the values, `[seeds, examples]`, surely rises or falls from the one before."""
    steps = [Estimate.of(b - a) for a, b in pairwise(values)]
    means = " ".join(f"{value.mean():.3f}" for value in values)
    return Check(not any(s.low > 0 if wrong == "rises" else s.high < 0 for s in steps), f"{of} ({means})")


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

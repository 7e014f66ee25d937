"""Judges the committed studies anew, by the rules of today, from what their rows hold.

    python tools/rejudge.py docs/results

Rows hold each seed's mean, and no example's: intervals of shares need no more, and differences are taken as if examples
were solved independently of each other. What a study's rows do not hold, its claims are not judged by: they end in "no
verdict" and name the command to run again. Writes study.json, page and figure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
import tyro
from scipy.optimize import brentq
from scipy.special import stdtrit
from torch import Tensor

from unspoken.measure.intervals import interval, seeds_share_interval
from unspoken.show import figure, report
from unspoken.study.ar_latents import lookahead
from unspoken.study.report import Claim, Result, read_result
from unspoken.study.trade_off import Level
from unspoken.study.trade_off import verdicts as dial_verdicts

Rows = list[dict[str, Any]]
TURNS = 1.1  # entries a pass beside all latents over those beside none: older rows hold no latents a pass
WIDER = 4.302653 / 1.959964  # t of two degrees of freedom over the normal's: how much wider than the old an interval is


GENERATOR = torch.Generator().manual_seed(0)


def nll_of(row: dict[str, Any], examples: int) -> Tensor:
    """A row's NLLs, `rebuilt`."""
    return rebuilt(row["nll_by_seed"], row["nll_interval"], examples)


def spread(shares: list[float], examples: int) -> Tensor:
    """`[seeds, examples]`, 1 in the share of each row, at random places."""
    rank = torch.rand(len(shares), examples, generator=GENERATOR).argsort(1)
    return (rank < (torch.tensor(shares) * examples).round()[:, None]).double()


def rebuilt(by_seed: list[float], old: list[float], examples: int) -> Tensor:
    """`[seeds, examples]` with these means, and the examples' variance that the interval of the older rule tells.

    That was Student's t of Satterthwaite's degrees of freedom on the sum of both variances. Examples of different rows
    are independent: paired differences come out wider than they were.
    """
    means, half = torch.tensor(by_seed, dtype=torch.float64), (old[1] - old[0]) / 2
    of_seeds, n = float(means.var()) / len(by_seed), examples - 1

    def missing(of_examples: float) -> float:
        total = of_seeds + of_examples
        freedom = total**2 / (of_seeds**2 / (len(by_seed) - 1) + of_examples**2 / n)
        return float(stdtrit(freedom, 0.975)) * math.sqrt(total) - half

    # Two variances may tell one interval: the larger is taken. The grid falls from where the interval is too wide.
    grid = [(half / 1.9) ** 2 * 0.9**i for i in range(150)]
    below = next((i for i, guess in enumerate(grid) if missing(guess) < 0), None)
    found: Any = brentq(missing, grid[below], grid[below - 1]) if below else min(grid, key=missing)
    noise = torch.randn(examples, generator=GENERATOR, dtype=torch.float64)
    return means[:, None] + (noise - noise.mean()) / noise.std() * math.sqrt(float(found) * examples)


def latents(result: Result) -> list[Claim]:
    """From accuracies and NLLs by seed, and FLOPs. No CPU seconds were measured: they are not judged."""
    config, levels = result.config, {}
    for row in result.rows:
        n = config["counts"][-1] if row["latents"] == "all" else row["latents"]
        right, nll = spread(row["accuracy_by_seed"], config["puzzles"]), nll_of(row, config["puzzles"])
        costs = row["passes"], row["entries_per_pass"], 0.0, row["flops_per_puzzle"], row["seconds_per_puzzle"]
        levels[row["model"], n] = Level(right, *costs, nll=nll)
    return dial_verdicts(levels, config["counts"])


def ar_latents(result: Result) -> list[Claim]:
    """The window is the one that validation chose then."""
    right: dict[tuple[str, str, str], Tensor] = {}
    for row in result.rows:
        examples = result.config["path_star" if row["task"] == "path-star" else "sudoku"]["examples"]
        right.setdefault((row["task"], row["method"], row["window"]), spread(row["accuracy_by_seed"], examples))
    chosen = re.search(r"chosen on validation \((\w+)\)", result.claims[0].evidence)
    assert chosen is not None
    degree = result.config["path_star"]["train"]["task"]["degree"]
    return [lookahead(right, 1 / degree, chosen[1])]


def tasks(result: Result) -> list[Claim]:
    """One seed: no verdict. The dial did not turn on every task."""
    few, many = (
        {
            r["task"]: r["entries_per_pass"]
            for r in result.rows
            if (r["method"], r["latents"]) == ("SCDM", n) and "passes" in r
        }
        for n in (0, "all")
    )
    still = [task for task in few if many[task] < TURNS * few[task]]
    claims = unjudged("one seed")(result)
    left_out = f"; left out, for as many entries beside none as beside all: {', '.join(still)}"
    for task in still:
        claims = [
            replace(c, evidence=re.sub(rf"{task} \S+ to \S+ \(\[\S+ \S+\]\)(, )?", "", c.evidence))
            if c.name == "the dial"
            else c
            for c in claims
        ]
    return [replace(c, evidence=c.evidence + left_out) if c.name == "the dial" else c for c in claims]


def forcing(result: Result) -> list[Claim]:
    """The rows hold no seed's bound. It holds if it does with intervals as wide as the new rule can make them."""
    (claim,) = result.claims
    wide = "; judged with intervals as wide as three seeds can make them (2.2 times those shown)"
    ends = re.search(r"left to right: (\S+) nats a token \[(\S+), (\S+)\]", claim.evidence)
    assert ends is not None
    mean, high = float(ends[1]), float(ends[3])
    holds = claim.holds if mean + WIDER * (high - mean) < 0 else None
    return [replace(claim, holds=holds, evidence=claim.evidence.removesuffix(wide) + wide)]


def unjudged(why: str, *kept: str) -> Callable[[Result], list[Claim]]:
    """No verdict, and what was seen. kept: claims that stay as they are."""

    def judged(result: Result) -> list[Claim]:
        found = []
        for claim in result.claims:
            seen = claim.evidence.partition("Seen: ")[2] or claim.evidence.replace("NOT SHOWN: ", "")
            found.append(claim if claim.name in kept else Claim(claim.name, None, f"{why}: no verdict. Seen: {seen}"))
        return found

    return judged


STUDIES: dict[str, Callable[[Result], list[Claim]]] = {
    "latents": latents,
    "ar-latents": ar_latents,
    "tasks": tasks,
    "forcing": forcing,
    "gidd": unjudged("the rows hold no seed's bound; run `unspoken study gidd reference` again"),
    "steps": unjudged("the models of Sudoku are of one seed", "prediction"),
}


def with_intervals(result: Result) -> Rows:
    """The rows, with new intervals where they hold each seed's mean."""
    rows = []
    for row in result.rows:
        row = dict(row)
        if "accuracy_by_seed" in row:
            row["accuracy_interval"] = list(seeds_share_interval(row["accuracy_by_seed"], _examples(result, row)))
        if "nll_by_seed" in row:
            row["nll_interval"] = list(interval(nll_of(row, _examples(result, row))))
        rows.append(row)
    return rows


def _examples(result: Result, row: dict[str, Any]) -> int:
    """How many examples a row's share is of."""
    config = result.config
    if result.study == "ar-latents":
        return config["path_star" if row["task"] == "path-star" else "sudoku"]["examples"]
    return config["examples"] if result.study == "tasks" else config["puzzles"]


@dataclass(frozen=True)
class Options:
    """Which studies.

    Attributes:
        results: A folder with a folder for each study.
        studies: Of them; all by default.
    """

    results: tyro.conf.Positional[Path]
    studies: tuple[str, ...] = tuple(STUDIES)


def main(options: Options) -> None:
    """Prints what changed."""
    for name in options.studies:
        folder = options.results / name
        old = read_result(folder / "study.json")
        note = "Judged anew from the rows by the rules of "
        if any(n.startswith(note) for n in old.notes):
            print(f"{name} was judged anew before, and its intervals are of the new rules: left as it is")
            continue
        said = f"{note}{date.today()} (tools/rejudge.py): intervals are new where the rows hold seeds' means."
        new = replace(old, claims=STUDIES[name](old), rows=with_intervals(old), notes=[*old.notes, said])
        new.save(folder)
        picture = figure.draw(new, folder / f"{name}.png")
        report.write_page(new, picture.name, folder / "README.md")
        for before, after in zip(old.claims, new.claims, strict=True):
            print(f"{name}, {after.name}: {before.verdict} -> {after.verdict}\n  {after.evidence}")


if __name__ == "__main__":
    main(tyro.cli(Options))

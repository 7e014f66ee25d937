"""A study's result as text: the cells of its table, and a page of Markdown to commit beside `study.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unspoken.record import write_text
from unspoken.study.report import Result

COLUMNS = ("model", "latents", "solved", "NLL", "passes", "entries", "MFLOPs", "ms")
NEEDED = {"model", "latents", "accuracy", "accuracy_interval", "nll", "nll_interval", "passes", "entries_per_pass"}
NEEDED |= {"flops_per_puzzle", "seconds_per_puzzle", "saturated"}
CAPTION = "With 95% intervals. NLL: nats a token. Entries: a pass. Passes, MFLOPs and milliseconds: a puzzle."


def table_cells(row: dict[str, Any]) -> list[str]:
    """A row of `study latents` as text, a cell for each of `COLUMNS`; FLOPs and time are a puzzle's."""
    if missing := NEEDED - row.keys():
        raise ValueError(f"a row lacks {', '.join(sorted(missing))}: the file is no study.json of ours, or not whole")
    return [
        row["model"].upper(),
        str(row["latents"]),
        _with_interval(row, "accuracy") + (" saturated" if row["saturated"] else ""),
        _with_interval(row, "nll"),
        f"{row['passes']:.1f}",
        f"{row['entries_per_pass']:.1f}",
        f"{row['flops_per_puzzle'] / 1e6:.0f}",
        f"{row['seconds_per_puzzle'] * 1e3:.1f}",
    ]


def _with_interval(row: dict[str, Any], key: str) -> str:
    low, high = row[f"{key}_interval"]
    value, low, high = (f"{x:.3f}".removeprefix("0") for x in (row[key], low, high))
    return f"{value} [{low}, {high}]"


def markdown_table(result: Result) -> str:
    """The table alone."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(table_cells, result.rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_page(result: Result, picture: str, path: Path) -> Path:
    """Verdicts, table, figure and circumstances as Markdown. `picture`: the figure's path as seen from the page."""
    where = result.environment
    verdicts = [f"- **{c.name}: {'holds' if c.holds else 'does not hold'}.** {c.evidence}." for c in result.claims]
    circumstances = [
        f"- command: `{where['command']}`, {where['date']}, commit {where['commit']}",
        f"- machine: {where['machine']}; Python {where['python']}, torch {where['torch']}, "
        f"transformers {where['transformers']}",
        *(f"- {note}" for note in result.notes),
    ]
    parts = [
        f"# study {result.study}",
        "\n".join(verdicts),
        markdown_table(result),
        CAPTION,
        f"![{result.study}]({picture})",
        "\n".join(circumstances),
    ]
    write_text(path, "\n\n".join(parts) + "\n")
    return path

"""A study's result as text: the cells of its table, and a page of Markdown to commit beside `study.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unspoken.record import write_text
from unspoken.study.report import Result

COLUMNS = ("model", "latents", "solved", "NLL, nats a token", "passes", "entries a pass", "MFLOPs", "ms")


def table_cells(row: dict[str, Any]) -> list[str]:
    """A row of `study latents` as text, a cell for each of `COLUMNS`; FLOPs and time are a puzzle's."""
    (a, b), (c, d) = row["accuracy_interval"], row["nll_interval"]
    return [
        row["model"].upper(),
        str(row["latents"]),
        f"{row['accuracy']:.3f} [{a:.3f}, {b:.3f}]" + (" saturated" if row["saturated"] else ""),
        f"{row['nll']:.4f} [{c:.4f}, {d:.4f}]",
        f"{row['passes']:.1f}",
        f"{row['entries_per_pass']:.1f}",
        f"{row['flops_per_puzzle'] / 1e6:.0f}",
        f"{row['seconds_per_puzzle'] * 1e3:.1f}",
    ]


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
        f"![{result.study}]({picture})",
        "\n".join(circumstances),
    ]
    write_text(path, "\n\n".join(parts) + "\n")
    return path

"""A study's result as text: the cells of its table, and a page of Markdown to commit beside `study.json`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from unspoken.record import write_text
from unspoken.study.catalogue import table_of
from unspoken.study.report import Result


def table_cells(result: Result) -> list[list[str]]:
    """The rows as text, a cell for each of the table's headings. ValueError where a row lacks something.

    Rows that are drawn and not shown are left out.
    """
    table = table_of(result.study)
    return [cells for row in result.rows if any(cells := table.cells(row))]


def markdown_table(result: Result) -> str:
    """The table alone."""
    headings = table_of(result.study).headings
    lines = [headings, ["---"] * len(headings), *table_cells(result)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_page(result: Result, picture: str, path: Path) -> Path:
    """Verdicts, table, figure and circumstances as Markdown. `picture`: the figure's path as seen from the page."""
    where = defaultdict(lambda: "unknown", result.environment)
    verdicts = [f"- **{c.name}: {c.verdict}.** {c.evidence}." for c in result.claims]
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
        table_of(result.study).caption,
        f"![{result.study}]({picture})",
        "\n".join(circumstances),
    ]
    write_text(path, "\n\n".join(parts) + "\n")
    return path

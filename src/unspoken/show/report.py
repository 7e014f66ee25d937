"""A study's result as text: the cells of its table, and a page of Markdown to commit beside `study.json`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unspoken.record import write_text
from unspoken.study.report import Result

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """How a study's rows are written: a heading for each cell, and the keys that a row must have."""

    columns: tuple[str, ...]
    needed: set[str]
    cells: Callable[[Row], list[str]]
    caption: str


def _latents(row: Row) -> list[str]:
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


def _ar_latents(row: Row) -> list[str]:
    return [
        row["task"],
        row["method"],
        row["window"] or "-",
        row["decoding"],
        _with_interval(row, "accuracy"),
        _share(row["first_token"]),
        f"{row['passes']:.1f}",
        f"{row['entries_per_pass']:.1f}",
        f"{row['flops_per_example'] / 1e6:.1f}",
        f"{row['seconds_per_example'] * 1e3:.2f}",
        f"{row['lr']:g}",
    ]


def _decode(row: Row) -> list[str]:
    number = {"entries_per_pass": "{:.1f}", "passes": "{:.1f}", "fewer_flops": "{:.1f}x", "faster": "{:.1f}x"}
    costs = [form.format(row[name]) if name in row else "" for name, form in number.items()]
    return [
        row["part"],
        row.get("way", row.get("policy", "")),
        str(row.get("batch", "")),
        _some(row, "latents"),
        _with_interval(row, "accuracy") if "accuracy" in row else "",
        _with_interval(row, "nll") if "nll" in row else "",
        *costs[:2],
        f"{row['flops_per_puzzle'] / 1e6:.0f}" if "flops_per_puzzle" in row else "",
        f"{row['seconds_per_puzzle'] * 1e3:.2f}" if "seconds_per_puzzle" in row else "",
        *costs[2:],
    ]


def _tasks(row: Row) -> list[str]:
    solved = _with_interval(row, "accuracy") if "accuracy" in row else ""
    low, high = row.get("bits_interval", (0, 0))
    return [
        row["task"],
        row["method"],
        str(row["latents"]),
        solved + (f", {row['distinct']:.3f} distinct" if "distinct" in row else ""),
        f"{row['bits_per_byte']:.3f} [{low:.3f}, {high:.3f}]" if "bits_per_byte" in row else "",
        f"{row['passes']:.1f}" if "passes" in row else "",
        f"{row['flops_per_example'] / 1e6:.0f}" if "flops_per_example" in row else "",
    ]


def _gidd(row: Row) -> list[str]:
    pair = [f"{a:.3f}, {b:.3f}" for a, b in (row[key] for key in ("entropy", "nll") if key in row)]
    return [
        row["part"],
        f"{row['share']:g}",
        str(row["passes"]),
        _with_interval(row, "before"),
        _with_interval(row, "after"),
        f"{row['more_passes']:.1f}",
        *(pair or ["", ""]),
        _with_interval(row, "bound") if "bound" in row else "",
        f"{row['solved'][0]:.3f}, {row['solved'][1]:.3f}" if "solved" in row else "",
    ]


def _forcing(row: Row) -> list[str]:
    cells = [row["times"], row["path"], str(row["passes"]), _with_interval(row, "bound")]
    return [*cells, _with_interval(row, "illegal"), f"{row['entropy']:.3f}"]


def _steps(row: Row) -> list[str]:
    head = [row["part"], row["model"], _some(row, "latents")]
    if row["part"] == "profile":
        low, high = row["dual_total_correlation"], row["total_correlation"]
        return [*head, f"TC {high:.3f}, DTC {low:.3f}", "", "", "", "", f"{row['nll']:.4f}", ""]
    sizes = " ".join(map(str, row["sizes"]))
    costs = [f"{row['foretold']:.4f}", _with_interval(row, "lost", 4), f"{row['nll']:.4f}"]
    return [*head, row["schedule"], str(row["passes"]), sizes, *costs, _with_interval(row, "accuracy")]


def _some(row: Row, name: str) -> str:
    if name not in row:
        return ""
    return "all" if row[name] is None else str(row[name])


_COSTS = {"passes", "entries_per_pass", "accuracy", "accuracy_interval"}
TABLES: dict[str, Table] = {
    "latents": Table(
        ("model", "latents", "solved", "NLL", "passes", "entries", "MFLOPs", "ms"),
        _COSTS | {"model", "latents", "nll", "nll_interval", "flops_per_puzzle", "seconds_per_puzzle", "saturated"},
        _latents,
        "With 95% intervals. NLL: nats a token. Entries: a pass. Passes, MFLOPs and milliseconds: a puzzle.",
    ),
    "decode": Table(
        (
            "part",
            "way",
            "batch",
            "latents",
            "solved",
            "NLL",
            "entries",
            "passes",
            "MFLOPs",
            "ms",
            "fewer FLOPs",
            "faster",
        ),
        {"part"},
        _decode,
        "ways: to decode the trained models, beside the baseline at the same batch. clock: the larger shape, random "
        "weights. latents: SCDM beside so many of a policy. With 95% intervals; NLL in nats a token.",
    ),
    "tasks": Table(
        ("task", "method", "latents", "solved", "bits per byte", "passes", "MFLOPs"),
        {"task", "method", "latents"},
        _tasks,
        "With 95% intervals. Passes and MFLOPs: an example.",
    ),
    "gidd": Table(
        ("part", "p_u", "passes", "before", "after", "rounds", "entropy", "NLL", "bound", "solved"),
        {"part", "share", "passes", "before", "before_interval", "after", "after_interval", "more_passes"},
        _gidd,
        "Before and after second thoughts (so many rounds a row): share of illegal steps (chain), of wrong cells "
        "(Sudoku); entropy of single tokens and NLL of legal steps, nats; puzzles solved. Bound: nats a token. With "
        "95% intervals.",
    ),
    "forcing": Table(
        ("times", "path", "passes", "bound", "illegal", "entropy"),
        {"times", "path", "passes", "bound", "bound_interval", "illegal", "illegal_interval", "entropy"},
        _forcing,
        "Times of training; the path of bound and walk. Bound: nats a token. Illegal: share of drawn steps that the "
        "chain never takes. Entropy: of single tokens, nats. With 95% intervals.",
    ),
    "steps": Table(
        ("part", "model", "latents", "schedule", "passes", "sizes", "foretold", "lost", "NLL", "right"),
        {"part", "model", "latents"},
        _steps,
        "Nats a token that saying tokens together loses: foretold from validation, lost by whole decodings of test "
        "sequences; the NLL of these. Right: answers drawn at temperature 1. TC, DTC: total and dual total correlation "
        "a token. With 95% intervals.",
    ),
    "ar-latents": Table(
        ("task", "method", "window", "decoded", "solved", "first", "passes", "entries", "MFLOPs", "ms", "LR"),
        _COSTS
        | {"task", "method", "window", "decoding", "first_token", "flops_per_example", "seconds_per_example", "lr"}
        | {"curriculum"},  # of the figure
        _ar_latents,
        "With 95% intervals. First: share of examples whose first token said is right. Entries: computed a pass. "
        "Passes, MFLOPs and milliseconds: an example.",
    ),
}


def table_of(result: Result) -> Table:
    """The table of a study's kind. Raises ValueError for a kind this version does not know."""
    if result.study not in TABLES:
        raise ValueError(f"no study is called {result.study!r}; known are {', '.join(TABLES)}")
    return TABLES[result.study]


def table_cells(result: Result) -> list[list[str]]:
    """The rows as text, a cell for each of the table's columns."""
    table = table_of(result)
    for row in result.rows:
        if missing := table.needed - row.keys():
            raise ValueError(
                f"a row lacks {', '.join(sorted(missing))}: the file is no study.json of ours, or not whole"
            )
    return [table.cells(row) for row in result.rows]


def _with_interval(row: Row, key: str, digits: int = 3) -> str:
    low, high = row[f"{key}_interval"]
    return f"{_share(row[key], digits)} [{_share(low, digits)}, {_share(high, digits)}]"


def _share(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def markdown_table(result: Result) -> str:
    """The table alone."""
    columns = table_of(result).columns
    lines = [columns, ["---"] * len(columns), *table_cells(result)]
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
        table_of(result).caption,
        f"![{result.study}]({picture})",
        "\n".join(circumstances),
    ]
    write_text(path, "\n\n".join(parts) + "\n")
    return path

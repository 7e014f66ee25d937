"""The figure of the study of answers in one pass."""

from __future__ import annotations

from pathlib import Path

from unspoken.show.bars import error_bars
from unspoken.show.canvas import canvas
from unspoken.study.table import Row

_COLOURS = ("#1b6ca8", "#d1603d", "#6b6b6b")  # by data


def narvl(rows: list[Row], path: Path) -> Path:
    """Right answers of every model on every kind of data, their CPU seconds, and the dial of the queries."""
    figure = canvas(13, 4.2)
    right, seconds, dial = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    its = [row for row in rows if row["part"] == "answers"]
    data = list(dict.fromkeys(row["data"] for row in its))
    colours = [_COLOURS[data.index(row["data"]) % len(_COLOURS)] for row in its]
    values, bars = error_bars(its, "right")
    right.barh(range(len(its)), values, xerr=bars, color=colours, alpha=0.7, height=0.7)
    right.set_yticks(range(len(its)), [f"{row['model']}: {row['data']}" for row in its], fontsize=7)
    right.invert_yaxis()
    right.set(xlabel="right answers", xlim=(0, 1))
    for row, colour in zip(its, colours, strict=True):
        for key, mark in (("seconds_alone", "o"), ("seconds", "s")):
            seconds.plot(row[key] * 1e3, row["right"], mark, color=colour, ms=5, alpha=0.8)
    seconds.plot([], [], "o", color="black", label="one by one")
    seconds.plot([], [], "s", color="black", label="in batches")
    seconds.set(xscale="log", xlabel="CPU ms an answer", ylabel="right answers", ylim=(0, 1))
    seconds.legend(frameon=False, fontsize=7)
    sweep = [row for row in rows if row["part"] == "dial"]
    sweep = [row for row in sweep if row["together"]] + [row for row in sweep if not row["together"]]
    values, bars = error_bars(sweep, "right")
    at = range(len(sweep))
    dial.errorbar(at, values, yerr=bars, marker="o", ms=4, capsize=2, color=_COLOURS[1])
    dial.set_xticks(at, [str(row["together"] or "all") for row in sweep])
    dial.set(xlabel="queries that see each other", ylabel="right answers", title=sweep[0]["data"] if sweep else "")
    figure.savefig(path, dpi=150)
    return path

"""The figure of the study of adaptation: bits per byte from the left, in any order, and what a token takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unspoken.show.bars import error_bars
from unspoken.show.canvas import canvas
from unspoken.study.adapted import NEXT
from unspoken.study.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def adapt(rows: list[Row], path: Path) -> Path:
    """Three panels: bits per byte from the left and in any order, and the time of each decoding beside AR's."""
    likelihood = [row for row in rows if row["part"] == "likelihood"]
    reading = {row["method"] for row in likelihood if row["way"] == NEXT}
    from_left = [row for row in likelihood if row["method"] in reading]
    any_order = [row for row in likelihood if row["method"] not in reading]
    left, other, cost = canvas(14, 4.6).subplots(1, 3)
    _bars(left, from_left, "bits_per_byte", "bits per byte, from the left")
    _bars(other, any_order, "bits_per_byte", "bits per byte, any order")
    _bars(cost, [row for row in rows if row["part"] == "decoding"], "times", "CPU time a token, of AR's")
    cost.axvline(1.0, color="#6b6b6b", lw=0.8)
    left.figure.savefig(path, dpi=150)
    return path


def _bars(axis: Axes, rows: list[Row], key: str, label: str) -> None:
    values, bars = error_bars(rows, key)
    axis.barh(range(len(rows)), values, xerr=bars, color="#1b6ca8", capsize=2, height=0.7)
    axis.set_yticks(range(len(rows)), [f"{row['method']}: {row['way']}" for row in rows], fontsize=6)
    axis.invert_yaxis()
    axis.set(xlabel=label)

"""The figure of the study of loops: what each variant solves, for how many FLOPs of decoding and of training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unspoken.show.bars import error_bars
from unspoken.show.canvas import canvas
from unspoken.study.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def loops(rows: list[Row], path: Path) -> Path:
    """Two panels: share solved against the FLOPs of decoding, a line a variant, and against those of training."""
    figure = canvas(11, 4.2)
    decoding, training = figure.subplots(1, 2)
    flops = {row["variant"]: row["training_flops"] for row in rows if row["part"] == "training"}
    for number, variant in enumerate(flops):
        its = [row for row in rows if row["part"] == "decoding" and row["variant"] == variant]
        style: dict[str, Any] = {"color": f"C{number}", "marker": "o", "ms": 4, "capsize": 2, "label": variant}
        _line(decoding, sorted(its, key=lambda row: row["flops_per_puzzle"]), style)
        best = its[:1]  # one token a pass comes first
        values, bars = error_bars(best, "accuracy")
        training.errorbar([flops[variant] / 1e12] * len(best), values, yerr=bars, **style)
    decoding.set(xlabel="MFLOPs a puzzle", ylabel="puzzles solved")
    training.set(xlabel="TFLOPs of training", ylabel="puzzles solved, one token a pass")
    for axis in (decoding, training):
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:.3g}")
    if flops:
        decoding.legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=150)
    return path


def _line(axis: Axes, rows: list[Row], style: dict[str, Any]) -> None:
    values, bars = error_bars(rows, "accuracy")
    axis.errorbar([row["flops_per_puzzle"] / 1e6 for row in rows], values, yerr=bars, **style)

"""The figure of the study of reasoning in vectors."""

from __future__ import annotations

from pathlib import Path

from unspoken.show.bars import error_bars
from unspoken.show.canvas import canvas
from unspoken.study.ladir import FORCED, told
from unspoken.study.table import Row


def ladir(rows: list[Row], path: Path) -> Path:
    """Right answers against denoising steps, and every other way of training and decoding beside them."""
    figure = canvas(11, 3.8)
    steps, others = figure.subplots(1, 2, width_ratios=(1, 1.2))
    decoding = [row for row in rows if row["part"] == "decoding"]
    sweep = {told(n): n for n in (2**i for i in range(12))}
    its = [row for row in decoding if row["variant"] == FORCED and row["decoding"] in sweep]
    for key, label in (("right", "pass@1"), ("any_right", "one of the answers is right")):
        values, bars = error_bars(its, key)
        at = [sweep[row["decoding"]] for row in its]
        steps.errorbar(at, values, yerr=bars, marker="o", ms=4, capsize=2, label=label)
    steps.set(xlabel="denoising steps a block", ylabel="answers")
    steps.set_xscale("log", base=2)
    steps.xaxis.set_major_formatter("{x:g}")
    if its:
        steps.legend(frameon=False, fontsize=8)
    values, bars = error_bars(decoding, "right")
    places = range(len(decoding))
    others.barh(places, values, xerr=bars, color="#d1603d", alpha=0.7, height=0.7)
    others.set_yticks(places, [f"{row['variant']}, {row['decoding']}" for row in decoding], fontsize=7)
    others.invert_yaxis()
    others.set(xlabel="pass@1")
    figure.savefig(path, dpi=150)
    return path

"""The figures of studies whose tokens are images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unspoken.show.bars import error_bars
from unspoken.show.canvas import canvas
from unspoken.study.table import Row, count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOUR = "#1b6ca8"


def tokenbridge(rows: list[Row], path: Path) -> Path:
    """Reconstruction by levels, bits and Frechet distance by masked patches in a pass, and samples of every way."""
    figure = canvas(12, 7.5)
    grid = figure.add_gridspec(2, 3, height_ratios=(1, 1.6))
    _levels(figure.add_subplot(grid[0, 0]), [row for row in rows if row["part"] == "codec"])
    dial = [row for row in rows if row["part"] == "dial"]
    for place, key, label in ((1, "bits", "bits a dim"), (2, "frechet", "Frechet distance")):
        axis, at = figure.add_subplot(grid[0, place]), range(len(dial))
        values, bars = error_bars(dial, key)
        axis.errorbar(at, values, yerr=bars, color=_COLOUR, marker="o", ms=4, capsize=3)
        axis.set_xticks(at, [count(row["latents"]) for row in dial])
        axis.set(xlabel="masked patches beside the one that is said", ylabel=label)
    _samples(figure.add_subplot(grid[1, :]), [row for row in rows if row["part"] == "picture"])
    figure.savefig(path, dpi=150)
    return path


def _levels(axis: Axes, rows: list[Row]) -> None:
    """The error of reconstruction against levels; a line for continuous numbers."""
    its = [row for row in rows if row["levels"] is not None]
    values, bars = error_bars(its, "error")
    axis.errorbar([row["levels"] for row in its], values, yerr=bars, color=_COLOUR, marker="o", ms=4, capsize=3)
    for row in rows:
        if row["levels"] is None:
            axis.axhline(row["error"], color="#6b6b6b", lw=1, ls="--", label="continuous")
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="levels a dim", ylabel="MSE of pixels")
    axis.legend(frameon=False, fontsize=8)


def _samples(axis: Axes, rows: list[Row]) -> None:
    """A line of images for every way, dark ink on white."""
    for number, row in enumerate(rows):
        side = row["side"]
        for place, text in enumerate(row["pixels"]):
            image = [[15 - int(grey, 16) for grey in text[i : i + side]] for i in range(0, side * side, side)]
            ends = (place, place + 0.95, number + 0.95, number)
            axis.imshow(image, cmap="gray", vmin=0, vmax=15, extent=ends, aspect="equal", interpolation="nearest")
    most = max((len(row["pixels"]) for row in rows), default=1)
    axis.set(xlim=(0, max(most, 1)), ylim=(max(len(rows), 1), 0), xticks=[])
    axis.set_yticks([n + 0.5 for n in range(len(rows))], [row["model"] for row in rows], fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)

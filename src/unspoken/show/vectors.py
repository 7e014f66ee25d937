"""The figures of the studies of latents that are vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unspoken.show.bars import error_bars
from unspoken.show.canvas import canvas
from unspoken.study.foretold import DETERMINED
from unspoken.study.table import Row
from unspoken.study.thought_answers import FORCED, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEASURES = {"error": "relative L2", "consistency": "STD", "crps": "CRPS", "spread_skill": "spread/skill"}
_COLOURS = ("#1b6ca8", "#d1603d")  # of futures that are determined, and not


def ladir(rows: list[Row], path: Path) -> Path:
    """Right answers against denoising steps, every other way beside them, and the denoising of some answers."""
    figure = canvas(12, 6.5)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.4, 1), width_ratios=(1, 1.2))
    steps, others = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
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
    _denoising(figure.add_subplot(grid[1, :]), [row for row in rows if row["part"] == "picture"])
    figure.savefig(path, dpi=150)
    return path


def _denoising(axis: Axes, rows: list[Row]) -> None:
    """A line an answer: the words of the block at work after every step."""
    axis.set(title="what the block at work would say, step by step", xlim=(-0.5, 0.5), ylim=(0, 1))
    for number, row in enumerate(rows):
        words = row["words"]
        for place, text in enumerate(words):
            axis.text(place, number, text, ha="center", va="center", fontsize=7)
        right = "right" if row["answered"] else "wrong"
        axis.text(len(words), number, right, ha="center", va="center", fontsize=7, color="#6b6b6b")
        axis.set(xlim=(-0.5, len(words) + 0.5), ylim=(len(rows) - 0.5, -0.5))
    axis.set_xlabel("step, block after block")
    axis.set_yticks([])


def forediff(rows: list[Row], path: Path) -> Path:
    """Error, standard deviation, CRPS and spread over skill of every model; and the samples of one future."""
    figure = canvas(12, 7)
    axes = figure.subplots(2, 4)
    its = [row for row in rows if row["part"] == "samples"]
    for axis, (key, label) in zip(axes[0], _MEASURES.items(), strict=True):
        there = [n for n, row in enumerate(its) if key in row]
        values, bars = error_bars([its[n] for n in there], key)
        colours = [_COLOURS[its[n]["regime"] != DETERMINED] for n in there]
        axis.barh(there, values, xerr=bars, color=colours, alpha=0.7, height=0.7)
        axis.set(xlabel=label, ylim=(len(its) - 0.5, -0.5))
        axis.set_yticks([])
    axes[0][3].axvline(1, color="#6b6b6b", lw=1, ls="--")
    axes[0][0].set_yticks(range(len(its)), [f"{row['model']}, {row['regime']}" for row in its], fontsize=7)
    for axis, row in zip(axes[1], [row for row in rows if row["part"] == "picture"], strict=False):
        colour, places = _COLOURS[row["regime"] != DETERMINED], range(len(row["true"]))
        axis.fill_between(places, row["low"], row["high"], color=colour, alpha=0.3, lw=0, label="all samples")
        axis.plot(places, row["middle"], color=colour, lw=1, label="their median")
        axis.plot(places, row["true"], color="black", lw=1, ls="--", label="true")
        axis.set_title(f"{row['model']}, {row['regime']}", fontsize=9)
        axis.set(xlabel="place, last frame")
    axes[1][0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=150)
    return path

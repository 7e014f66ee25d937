"""The figures of the studies of latents that are vectors."""

from __future__ import annotations

from pathlib import Path

from unspoken.show.bars import error_bars
from unspoken.show.canvas import canvas
from unspoken.study.forediff import DETERMINED
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


def forediff(rows: list[Row], path: Path) -> Path:
    """Error, standard deviation, CRPS, and spread over skill of every model, where the future is known and not."""
    figure = canvas(12, 4)
    axes = figure.subplots(1, 4, sharey=True)
    its = [row for row in rows if row["part"] == "samples"]
    names = [f"{row['model']}, {row['regime']}" for row in its]
    colours = ["#1b6ca8" if row["regime"] == DETERMINED else "#d1603d" for row in its]
    for axis, key, label in zip(
        axes,
        ("error", "consistency", "crps", "spread_skill"),
        ("relative L2", "STD", "CRPS", "spread/skill"),
        strict=True,
    ):
        there = [n for n, row in enumerate(its) if key in row]
        values, bars = error_bars([its[n] for n in there], key)
        axis.barh(there, values, xerr=bars, color=[colours[n] for n in there], alpha=0.7, height=0.7)
        axis.set(xlabel=label)
    axes[3].axvline(1, color="#6b6b6b", lw=1, ls="--")
    axes[0].set_yticks(range(len(its)), names, fontsize=7)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=150)
    return path

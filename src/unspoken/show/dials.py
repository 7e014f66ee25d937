"""The figure of the dial: what each model solves and knows beside so many latents, and for how many FLOPs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unspoken.show.bars import error_bars
from unspoken.show.canvas import canvas
from unspoken.study.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"SIDM": "#6b6b6b", "SCDM": "#d1603d", "MDM": "#1b6ca8", "JOINT": "#8a6bb1", "CACHED_JOINT": "#3a9a6b"}
STYLES = ("--", "-", "-.", ":")


def dials(rows: list[Row], path: Path) -> Path:
    """Three panels a task: share solved and NLL against the number of latents, share solved against FLOPs."""
    shown = [row for row in rows if row["part"] == "dial"]
    tasks = list(dict.fromkeys(row["task"] for row in shown))
    figure = canvas(13, 4.0 * max(len(tasks), 1))
    panels = figure.subplots(max(len(tasks), 1), 3, squeeze=False)
    for line, task in zip(panels, tasks, strict=False):
        of_task = [row for row in shown if row["task"] == task]
        counts = max(([r["latents"] for r in of_task if r["model"] == row["model"]] for row in of_task), key=len)
        drawn: list[str] = []
        for model in dict.fromkeys(row["model"] for row in of_task):
            colour = model.partition(",")[0]
            _curves(line, model, [r for r in of_task if r["model"] == model], counts, drawn.count(colour))
            drawn.append(colour)
        line[0].set(xlabel="latent tokens", ylabel="puzzles solved", title=task)
        line[1].set(xlabel="latent tokens", ylabel="NLL, nats a token")
        line[2].set(xlabel="MFLOPs a puzzle", ylabel="puzzles solved", xscale="log")
        line[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=150)
    return path


def _curves(panels: list[Axes], model: str, rows: list[Row], counts: list[int | str], later: int) -> None:
    """One model's line in every panel. counts: those of the axis; later: how many models of its colour came before."""
    style = {"color": COLOURS.get(model.partition(",")[0]), "ls": STYLES[later % len(STYLES)], "marker": "o", "ms": 3}
    at = [counts.index(row["latents"]) for row in rows]  # evenly spaced: counts double from step to step
    for axis, key in ((panels[0], "accuracy"), (panels[1], "nll")):
        values, bars = error_bars(rows, key)
        axis.errorbar(at, values, yerr=bars, capsize=2, label=model, **style)
        axis.set_xticks(range(len(counts)), [str(n) for n in counts])
    panels[2].plot([row["flops_per_puzzle"] / 1e6 for row in rows], [row["accuracy"] for row in rows], **style)

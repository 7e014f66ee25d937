"""Figures of the studies of noise: what second thoughts mend, one model on every path, profiles with their plans."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unspoken.show.canvas import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

from unspoken.show.bars import error_bars
from unspoken.study.table import Row

Rows = list[Row]


def mending(rows: Rows, path: Path) -> Path:
    """Before and after second thoughts, against the passes of the walk; and what it costs in diversity."""
    figure = canvas(12, 3.8)
    chain, board, entropy = figure.subplots(1, 3)
    for axis, part, label in ((chain, "chain", "illegal steps"), (board, "sudoku", "wrong cells")):
        for n, share in enumerate(_kinds(rows, "share")):
            its = [r for r in rows if r["part"] == part and r["share"] == share]
            for key, line in (("before", "--"), ("after", "-")):
                # On a logarithmic axis nothing has no place: as low as the axis goes.
                _line(axis, its, "passes", key, f"p_u {share:g}, {key}", f"o{line}", f"C{n}", floor=1e-4)
        axis.set(xscale="log", yscale="log", xlabel="passes of the walk", ylabel=f"{label}, {part}")
    for n, share in enumerate(_kinds(rows, "share")):
        its = [r for r in rows if r["part"] == "chain" and r["share"] == share]
        for at, line in ((0, "--"), (1, "-")):
            passes = [r["passes"] for r in its]
            entropy.plot(passes, [r["entropy"][at] for r in its], f"o{line}", color=f"C{n}", ms=4)
    entropy.set(xscale="log", xlabel="passes of the walk", ylabel="entropy of single tokens, nats")
    return _saved(figure, (chain, board), path)


def forcing(rows: Rows, path: Path) -> Path:
    """The bound along every path, and the illegal steps of what is drawn along it."""
    figure = canvas(10, 3.8)
    bound, illegal = figure.subplots(1, 2)
    paths = _kinds(rows, "path")
    most = max((r["passes"] for r in rows), default=0)
    for n, times in enumerate(_kinds(rows, "times")):
        its = [r | {"at": paths.index(r["path"])} for r in rows if r["times"] == times and r["passes"] == most]
        _line(bound, its, "at", "bound", times, "o-", f"C{n}")
        _line(illegal, its, "at", "illegal", times, "o-", f"C{n}")
    for axis, label in ((bound, "bound, nats a token"), (illegal, f"illegal steps, {most} passes")):
        axis.set_xticks(range(len(paths)), paths)
        axis.set(ylabel=label)
    return _saved(figure, (bound, illegal), path)


def profiles(rows: Rows, path: Path) -> Path:
    """What a token costs beside k known ones; and what even and planned steps lose, foretold and measured."""
    measured = [r for r in rows if r["part"] == "schedule"]
    models = list(dict.fromkeys((r["model"], r["latents"]) for r in measured))
    figure = canvas(5 + 4 * max(len(models), 1), 3.8)
    curve, *lost = figure.subplots(1, 1 + max(len(models), 1))
    for row in (r for r in rows if r["part"] == "profile"):
        beside = "all" if row["latents"] is None else row["latents"]
        share = [k / len(row["h"]) for k in range(len(row["h"]))]
        curve.plot(share, row["h"], label=f"{row['model'].split(',')[0]} beside {beside}, {len(row['h'])} tokens")
    curve.set(xlabel="share of the tokens known", ylabel="h, nats a token")
    for axis, model in zip(lost, models, strict=False):
        for n, kind in enumerate(_kinds(measured, "schedule")):
            its = sorted(
                (r for r in measured if ((r["model"], r["latents"]), r["schedule"]) == (model, kind)),
                key=lambda r: r["passes"],
            )
            _line(axis, its, "passes", "lost", f"{kind}, lost", "o", f"C{n}")
            axis.plot([r["passes"] for r in its], [r["foretold"] for r in its], "-", color=f"C{n}", label="foretold")
        title = model[0] if model[1] is None else f"{model[0]}, beside {model[1]}"
        axis.set(xlabel="passes", ylabel="nats a token lost", title=title)
        axis.title.set_fontsize(7)
    return _saved(figure, (curve, *lost), path)


def _kinds(rows: Rows, key: str) -> list[Any]:
    return list(dict.fromkeys(r[key] for r in rows))


def _line(axis: Axes, rows: Rows, x: str, y: str, label: str, form: str, colour: str, floor: float = -inf) -> None:
    values, bars = error_bars(rows, y, floor)
    axis.errorbar([r[x] for r in rows], values, yerr=bars, fmt=form, color=colour, ms=4, capsize=3, label=label)


def _saved(figure: Figure, legends: tuple[Axes, ...], path: Path) -> Path:
    for axis in legends:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=150)
    return path

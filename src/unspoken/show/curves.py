"""The figure of the curves: share of right answers against each cost, and entropy against NLL of samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unspoken.measure.area import frontier
from unspoken.show.bars import error_bars
from unspoken.show.canvas import canvas
from unspoken.study.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = ("-", "--", ":", "-.")
PANELS = (  # key, label, by what it is divided, whether more of it is the better
    ("tokens_per_pass", "tokens a pass", 1.0, True),
    ("flops_per_example", "MFLOPs an example", 1e6, False),
    ("seconds_per_example", "CPU ms an example", 1e-3, False),
)


def curves(rows: list[Row], path: Path) -> Path:
    """Three panels a task with right answers, and one a task without."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = canvas(13, 4.0 * max(len(tasks), 1))
    lines = figure.subplots(max(len(tasks), 1), 3, squeeze=False)
    for panels, task in zip(lines, tasks, strict=False):
        its = [row for row in rows if row["task"] == task]
        if any(row["part"] == "settings" for row in its):
            for axis, panel in zip(panels, PANELS, strict=True):
                _against(axis, [row for row in its if row["part"] == "settings"], *panel)
        else:
            _samples(panels[0], its)
            for axis in panels[1:]:
                axis.remove()
        panels[0].set_title(task, fontsize=9)
        panels[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=150)
    return path


def _against(axis: Axes, rows: list[Row], key: str, label: str, unit: float, more: bool) -> None:
    """Every setting a point; a model's line is the best that may be had at no higher cost."""
    for n, model in enumerate(dict.fromkeys(row["model"] for row in rows)):
        its = [row for row in rows if row["model"] == model]
        at, (values, bars) = [row[key] / unit for row in its], error_bars(its, "accuracy")
        axis.errorbar(at, values, yerr=bars, fmt="o", color=f"C{n}", ms=3, elinewidth=0.6, alpha=0.5)
        best = frontier([1 / x if more else x for x in at], values)
        axis.step([at[i] for i in best], [values[i] for i in best], where="post", color=f"C{n}", label=model)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel=label, ylabel="right answers")


def _samples(axis: Axes, rows: list[Row]) -> None:
    """Entropy against NLL, a line over temperatures for each way to draw; the test examples a star."""
    drawn = [row for row in rows if row["part"] == "samples"]
    for n, model in enumerate(dict.fromkeys(row["model"] for row in drawn)):
        for later, setting in enumerate(dict.fromkeys(r["setting"] for r in drawn if r["model"] == model)):
            its = [r for r in drawn if (r["model"], r["setting"]) == (model, setting)]
            at, values = [r["nll"] for r in its], [r["entropy"] for r in its]
            style = {"color": f"C{n}", "ls": STYLES[later % len(STYLES)], "marker": "o", "ms": 3}
            axis.plot(at, values, label=f"{model}, {setting}", **style)
            for row in its:
                place = {"xytext": (3, 3), "textcoords": "offset points"}
                axis.annotate(f"{row['temperature']:g}", (row["nll"], row["entropy"]), fontsize=6, **place)
    for row in (r for r in rows if r["part"] == "data"):
        axis.plot(row["nll"], row["entropy"], "k*", ms=10, label=row["model"])
    axis.set(xlabel="NLL under the judge, nats a token", ylabel="entropy of a sample, nats")

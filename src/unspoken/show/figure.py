"""Figures (matplotlib): the trade-off curve of a study, the losses of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unspoken.show import adapt, answers, curves, dials, images, loops, noise, vectors
from unspoken.show.bars import error_bars
from unspoken.show.canvas import canvas
from unspoken.study.report import Result
from unspoken.study.table import Row
from unspoken.training.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"mdm": "#1b6ca8", "scdm": "#d1603d", "sidm": "#6b6b6b"}


def draw(result: Result, path: Path) -> Path:
    """A study's figure."""
    drawn = {
        "latents": trade_off,
        "dial": dials.dials,
        "loops": loops.loops,
        "ar-latents": lookahead,
        "decode": speed,
        "tasks": family,
        "gidd": noise.mending,
        "forcing": noise.forcing,
        "steps": noise.profiles,
        "curves": curves.curves,
        "adapt": adapt.adapt,
        "ladir": vectors.ladir,
        "forediff": vectors.forediff,
        "narvl": answers.narvl,
        "tokenbridge": images.tokenbridge,
    }
    return drawn[result.study](result.rows, path)


def trade_off(rows: list[Row], path: Path) -> Path:
    """Accuracy, NLL and cost against the number of latents: SCDM's dial between SIDM's level and MDM's."""
    figure = canvas(11, 3.6)
    axes = figure.subplots(1, 3)
    for axis, key, label in (
        (axes[0], "accuracy", "puzzles solved"),
        (axes[1], "nll", "NLL, nats a token"),
    ):
        _dial(axis, rows, key)
        axis.set(xlabel="latent tokens", ylabel=label)
    _cost(axes[2], rows)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    return path


def _dial(axis: Axes, rows: list[Row], key: str) -> None:
    dial = [r for r in rows if r["model"] == "scdm"]
    at = range(len(dial))  # evenly spaced: counts double from step to step
    values, bars = error_bars(dial, key)
    axis.errorbar(at, values, yerr=bars, color=COLOURS["scdm"], marker="o", ms=4, capsize=3, label="SCDM")
    axis.set_xticks(at, [str(r["latents"]) for r in dial])
    ends = {"sidm": [r for r in rows if r["model"] == "sidm"], "mdm": [r for r in rows if r["model"] == "mdm"][-1:]}
    for name, found in ends.items():
        for row in found:
            axis.axhline(row[key], color=COLOURS[name], lw=1.5, ls="--", label=name.upper())
            axis.axhspan(*row[f"{key}_interval"], color=COLOURS[name], alpha=0.12, lw=0)


def _cost(axis: Axes, rows: list[Row]) -> None:
    for name, colour in COLOURS.items():
        points = [r for r in rows if r["model"] == name]
        flops = [r["flops_per_puzzle"] / 1e6 for r in points]
        axis.plot(flops, [r["accuracy"] for r in points], "o-" if name == "scdm" else "o", color=colour, ms=4)
        for row, x in zip(points, flops, strict=True):
            axis.annotate(
                str(row["latents"]), (x, row["accuracy"]), fontsize=7, xytext=(3, 3), textcoords="offset points"
            )
    axis.set(xlabel="MFLOPs a puzzle", ylabel="puzzles solved")


def lookahead(rows: list[Row], path: Path) -> Path:
    """Every method's share solved on each task, and what is foreseen at the start of path-star as training goes."""
    figure = canvas(13, 4.2)
    axes = figure.subplots(1, 3)
    main = [r for n, r in enumerate(rows) if n == 0 or _method(r) != _method(rows[n - 1])]
    for axis, task in zip(axes, ("path-star", "sudoku"), strict=False):
        shown = [r for r in main if r["task"] == task]
        colours = {"AR + MTP": COLOURS["scdm"], "MDM": COLOURS["mdm"]}
        _solved(axis, task, shown, [" ".join(_method(r)[1:]) for r in shown], colours, capsize=3)
    for row in [r for r in main if (r["task"], r["method"], r["window"]) == ("path-star", "AR + MTP", "all")]:
        _curriculum(axes[2], row)
    figure.savefig(path, dpi=150)
    return path


def _method(row: Row) -> tuple[str, ...]:
    window = f"({row['window']})" if row["method"] == "AR + MTP" else ""
    return row["task"], row["method"], window


def _curriculum(axis: Axes, row: Row) -> None:
    """The loss of every slot when nothing but the prompt is said: the tokens nearest to the goal come first."""
    steps, slots = row["curriculum"]["step"], row["curriculum"]["slots"]
    for slot in range(min(map(len, slots), default=0)):
        label = "next token" if slot == 0 else f"latent {slot}"
        axis.plot(steps, [s[slot] for s in slots], "o-", ms=3, color=f"C{slot}", label=label)
    axis.set(xlabel="step", ylabel="nats, only the prompt said", title="path-star, AR + MTP (all)")
    if axis.lines:
        axis.legend(frameon=False, fontsize=8)


def speed(rows: list[Row], path: Path) -> Path:
    """Accuracy against FLOPs of every way to decode, and what the policies' latents do."""
    figure = canvas(13, 4.2)
    ways, nll, solved = figure.subplots(1, 3)
    shown = [r for r in rows if r["part"] == "ways"]
    largest = max((r["batch"] for r in shown), default=0)
    for row in (r for r in shown if r["batch"] == largest):
        ours = row["way"] == "ours"
        ways.plot(
            row["flops_per_puzzle"] / 1e6, row["accuracy"], "*" if ours else "o", ms=12 if ours else 5, label=row["way"]
        )
    ways.set(xscale="log", xlabel=f"MFLOPs a puzzle, batch {largest}", ylabel="puzzles solved")
    ways.legend(frameon=False, fontsize=6)
    chosen = [r for r in rows if r["part"] == "latents"]
    for policy in dict.fromkeys(r["policy"] for r in chosen):
        for axis, key in ((nll, "nll"), (solved, "accuracy")):
            line = [r for r in chosen if r["policy"] == policy and key in r]
            axis.plot([r["latents"] for r in line], [r[key] for r in line], "o-", ms=3, label=policy)
    for axis, label in ((nll, "NLL, nats a token"), (solved, "puzzles solved")):
        axis.set(xlabel="latents beside the candidates", ylabel=label, xscale="symlog")
        if axis.lines:
            axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    return path


def family(rows: list[Row], path: Path) -> Path:
    """Every method's share solved on each task, beside so many latents where a method has several; four in a line."""
    solved = [r for r in rows if "accuracy" in r]
    tasks = list(dict.fromkeys(r["task"] for r in solved))
    lines, width = max(-(-len(tasks) // 4), 1), min(max(len(tasks), 2), 4)
    figure = canvas(3.0 * width, 3.4 * lines)
    panels = figure.subplots(lines, width, sharex=True, squeeze=False).flat
    for axis, task in zip(panels, [*tasks, *[None] * (lines * width - len(tasks))], strict=True):
        if task is None:
            axis.set_axis_off()
            continue
        shown = [r for r in solved if r["task"] == task]
        methods = [r["method"] for r in shown]
        names = [m if methods.count(m) == 1 else f"{m} ({r['latents']})" for m, r in zip(methods, shown, strict=True)]
        colours = {name.upper(): colour for name, colour in COLOURS.items()}
        _solved(axis, task, shown, names, colours, capsize=2, fontsize=7)
    figure.savefig(path, dpi=150)
    return path


def _solved(
    axis: Axes,
    task: str,
    rows: list[Row],
    names: list[str],
    colours: dict[str, str],
    capsize: int,
    fontsize: int | None = None,
) -> None:
    """A bar a row: the share of a task that is solved. colours: by method; grey for the others."""
    values, bars = error_bars(rows, "accuracy")
    colour = [colours.get(row["method"], "#9a9a9a") for row in rows]
    axis.barh(range(len(rows)), values, xerr=bars, color=colour, capsize=capsize, height=0.7)
    axis.set_yticks(range(len(rows)), names, fontsize=fontsize)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="solved", title=task)


def losses(run: Run, path: Path) -> Path:
    """Training and validation loss against the step."""
    metrics = run.metrics()
    figure = canvas(6, 3.6)
    axis = figure.subplots()
    axis.plot([m["step"] for m in metrics], [m["loss"] for m in metrics], color="#9a9a9a", lw=1, label="training")
    held = [m for m in metrics if "validation" in m]
    axis.plot(
        [m["step"] for m in held], [m["validation"] for m in held], "o-", color="#1b6ca8", ms=3, label="validation"
    )
    axis.set(xlabel="step", ylabel="loss, nats a token asked", yscale="log")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=150)
    return path

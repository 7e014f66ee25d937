"""The README's picture: a few passes of one decoding side by side.

    python tools/picture.py runs/sudoku-6x6/scdm-seed0 --out docs/picture.png

The run is one of a Sudoku task (`unspoken train sudoku-6x6 --steps 500`). A suffix .svg writes vectors instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import tyro
from torch import Tensor

import unspoken as us
from unspoken.cli.studies import README_PUZZLE
from unspoken.show.canvas import canvas
from unspoken.show.cells import Kind, cells
from unspoken.tasks import Sudoku
from unspoken.training.config import Train
from unspoken.training.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DARK, MIDDLE, LIGHT, PALE = "#222222", "#666666", "#8a8a8a", "#ececec"


@dataclass(frozen=True)
class Mark:
    """How a cell is drawn: a filled shape of matplotlib's markers behind its digit. None draws no shape."""

    meaning: str
    digit: str
    shape: str | None = None
    fill: str = "white"
    edge: str = "white"
    size: float = 17.0
    bold: bool = False


MARKS: dict[Kind, Mark] = {
    "given": Mark("given", "white", "s", DARK, DARK, 19.5, bold=True),
    "said": Mark("committed before", DARK),
    "now": Mark("committed in this pass", DARK, "s", "#ffd34d", DARK, 18, bold=True),
    "candidate": Mark("candidate, its guess", MIDDLE, "o", "#d3e6f5", "#4a86b8", 18),
    "latent": Mark("latent token, its guess", LIGHT, "D", PALE, LIGHT, 14),
    "out": Mark("masked, not in the pass", LIGHT, "s", "white", "#cccccc", 5),
}


@dataclass(frozen=True)
class Picture:
    """What is drawn.

    Attributes:
        run: A run folder of a Sudoku task.
        out: The file to write, .png or .svg.
        puzzle: Its rows one after the other, `.` for a blank.
        latents: Latent tokens in a pass.
        boards: How many passes are shown, spread evenly from the first to the last.
    """

    run: tyro.conf.Positional[Path]
    out: Path = Path("docs/picture.png")
    puzzle: str = README_PUZZLE
    latents: int = 4
    boards: int = 4


def draw(picture: Picture) -> Path:
    """Decodes the puzzle and writes the picture. ValueError for a run of another task, or nothing to decode."""
    task = Run(picture.run).config(Train).task
    if not isinstance(task, Sudoku):
        raise ValueError(f"{picture.run} was trained on {task.title}; give a run of Sudoku")
    prompt = task.encode(picture.puzzle)[None]
    steps = list(us.decode(us.load(picture.run), prompt, latents=picture.latents, predict_latents=True))
    shown = evenly(len(steps), picture.boards)
    figure = canvas(10, 3.15)
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for ax, index in zip(axes, shown, strict=True):
        board(ax, steps[index], prompt, task)
        ax.set_title(f"pass {index + 1} of {len(steps)}", fontsize=11, color=DARK)
    spacing = {"handletextpad": 0.2, "columnspacing": 1.2, "frameon": False, "fontsize": 9}
    figure.legend(handles=legend(axes[0]), loc="outside lower center", ncols=len(MARKS), **spacing)
    picture.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture.out, dpi=160, facecolor="white")
    return picture.out


def evenly(passes: int, boards: int) -> list[int]:
    """At most `boards` of the passes 0, 1, ..., the first and the last among them. ValueError where there is none."""
    if passes < 1 or boards < 1:
        raise ValueError(f"{boards} boards of {passes} passes: give a puzzle with a blank, and 1 board or more")
    return sorted({round(float(at)) for at in torch.linspace(0, passes - 1, boards)})


def board(ax: Axes, step: us.Step, prompt: Tensor, task: Sudoku) -> None:
    """One board after a step."""
    n = task.side
    for at, (symbol, kind) in enumerate(cells(step, prompt, task)):
        row, column = divmod(at, n)
        mark = MARKS[kind]
        if mark.shape is not None:
            ax.plot(column, row, mark.shape, ms=mark.size, mfc=mark.fill, mec=mark.edge)
        if kind != "out":
            weight = "bold" if mark.bold else "normal"
            ax.text(column, row, symbol, color=mark.digit, weight=weight, ha="center", va="center_baseline", size=12)
    for line in range(n + 1):
        ax.axhline(line - 0.5, color=DARK, lw=1.6 if line % task.box_rows == 0 else 0.4, zorder=0)
        ax.axvline(line - 0.5, color=DARK, lw=1.6 if line % task.box_cols == 0 else 0.4, zorder=0)
    ax.set(xlim=(-0.56, n - 0.44), ylim=(n - 0.44, -0.56), aspect="equal")
    ax.set_axis_off()


def legend(ax: Axes) -> list:
    """A small mark of every kind of cell and what it means."""
    handles = []
    for kind, mark in MARKS.items():
        shape = mark.shape or "$4$"
        fill, edge = (mark.fill, mark.edge) if mark.shape else (DARK, DARK)
        size = 5 if kind == "out" else 8
        style = {"marker": shape, "ms": size, "mfc": fill, "mec": edge, "mew": 0.8 if mark.shape else 0}
        handles += ax.plot([], [], ls="", label=mark.meaning, **style)
    return handles


if __name__ == "__main__":
    print(draw(tyro.cli(Picture)))

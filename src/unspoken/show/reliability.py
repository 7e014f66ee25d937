"""The figure of calibration: the share right against confidence, and how many slots are in each bin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unspoken.measure.calibration import Reliability
from unspoken.show.canvas import canvas


def reliability_figure(found: Mapping[str, Reliability], path: str | Path) -> Path:
    """A line a model, by name; the diagonal is a model whose confidence is the share right. The counts are below.

    Raises ValueError where matplotlib is not installed, or there is nothing to draw.
    """
    if not found:
        raise ValueError("no reliability to draw; give one or more by name, as in {'MDM': calibration(...)}")
    figure = canvas(4.5, 5.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="0.7", lw=0.8)
    for n, (name, its) in enumerate(found.items()):
        full = [b for b, count in enumerate(its.counts) if count]
        said, right = ([values[b] for b in full] for values in (its.confidence, its.right))
        above.plot(said, right, "o-", color=f"C{n}", ms=3, label=f"{name}, expected error {its.error:.3f}")
        edges = [b / len(its.counts) for b in range(len(its.counts) + 1)]
        below.stairs(its.counts, edges, color=f"C{n}")
    above.set(ylabel="share right", xlim=(0, 1), ylim=(0, 1))
    above.legend(frameon=False, fontsize=7)
    below.set(xlabel="confidence: probability of the likeliest token", ylabel="slots")
    figure.savefig(path, dpi=150)
    return Path(path)

"""A blank figure; matplotlib is imported for it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unspoken.extras import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def canvas(width: float, height: float) -> Figure:
    """A figure of so many inches; ValueError where matplotlib is not installed."""
    need("matplotlib", "pictures")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")

"""Error bars of a study's rows: what lies between a mean and the ends of its interval."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from unspoken.study.table import Row


def error_bars(rows: Sequence[Row], key: str, floor: float = -inf) -> tuple[list[float], list[list[float]]]:
    """The values of a column, and the lengths of their bars downwards and upwards. Nothing is lower than `floor`.

    An interval may miss its own mean by a rounding: no bar is shorter than nothing.
    """
    values = [max(row[key], floor) for row in rows]
    low = [max(v - max(row[f"{key}_interval"][0], floor), 0.0) for v, row in zip(values, rows, strict=True)]
    high = [max(row[f"{key}_interval"][1] - v, 0.0) for v, row in zip(values, rows, strict=True)]
    return values, [low, high]

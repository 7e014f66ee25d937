"""A study's table, said once: what its rows hold, what that is called, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from unspoken.measure.accuracy import Outcome, Solved
from unspoken.measure.intervals import interval, share_interval

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One value of a row.

    Attributes:
        key: In the row, in study.json and in figures.
        heading: In the table; without one it is recorded and not shown. Columns of one heading share a cell.
        format: The value as the cell's text.
        drawn: The figure needs it, though the table may not show it.
        optional: Of some rows alone; None is not recorded.
    """

    key: str
    heading: str = ""
    format: Callable[[Any], str] | None = str
    drawn: bool = False
    optional: bool = False

    def record(self, value: Any) -> Row:
        """The value by the keys that study.json has."""
        return {} if self.optional and value is None else {self.key: value}

    def reads(self) -> set[str]:
        """Those of the keys that table and figure need."""
        return {self.key}

    def written(self, row: Row) -> str:
        """The value of a row that has it, as text."""
        return (self.format or str)(row[self.key])


@dataclass(frozen=True)
class Mean(Column):
    """The mean of `[seeds, examples]`, its 95% interval (`STEM_interval`), and each seed's mean (`STEM_by_seed`).

    Attributes:
        format: Of the mean alone; by default it is shown with its interval.
        share: The values lie in [0, 1], and so does their interval.
        by_seed: Whether the seeds' means are recorded.
        digits: Of the mean and its interval.
        stem: Of the other keys; by default the key.
    """

    format: Callable[[Any], str] | None = None
    share: bool = False
    by_seed: bool = True
    digits: int = 3
    stem: str = ""

    def record(self, value: Any) -> Row:
        """The mean and what belongs to it."""
        if value is None:
            if self.optional:
                return {}
            raise ValueError(f"{self.key} is None: give [seeds, examples], or make the column optional")
        ends = share_interval(value) if self.share else interval(value)
        seeds = {self._seeds: value.mean(1).tolist()} if self.by_seed else {}
        return {self.key: float(value.mean()), self._interval: list(ends), **seeds}

    def reads(self) -> set[str]:
        """The seeds' means are for the record alone, and so is an interval that is not shown."""
        return {self.key, self._interval} if self.format is None else {self.key}

    def written(self, row: Row) -> str:
        """`.500 [.400, .600]`."""
        if self.format is not None:
            return self.format(row[self.key])
        mean, low, high = (_number(value, self.digits) for value in (row[self.key], *row[self._interval]))
        return f"{mean} [{low}, {high}]"

    @property
    def _interval(self) -> str:
        return f"{self.stem or self.key}_interval"

    @property
    def _seeds(self) -> str:
        return f"{self.stem or self.key}_by_seed"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def share(value: float) -> str:
    """A share as the tables write it: `.500`."""
    return _number(value, 3)


def count(value: int | None) -> str:
    """A number of latents, None for all."""
    return "all" if value is None else str(value)


def pair(values: tuple[float, float]) -> str:
    """Two numbers in one cell."""
    return "{:.3f}, {:.3f}".format(*values)


def cost_columns(of: str, mflops: int = 0, milliseconds: int = 2, hidden: tuple[str, ...] = ()) -> tuple[Column, ...]:
    """Passes, entries, FLOPs and seconds of a puzzle or an example.

    mflops, milliseconds: how many digits are shown. hidden: headings of those that are recorded and not shown.
    """
    columns = (
        Column("passes", "passes", "{:.1f}".format),
        Column("entries_per_pass", "entries", "{:.1f}".format),
        Column(f"flops_per_{of}", "MFLOPs", lambda flops: f"{flops / 1e6:.{mflops}f}"),
        Column(f"seconds_per_{of}", "ms", lambda seconds: f"{seconds * 1e3:.{milliseconds}f}"),
    )
    return tuple(replace(c, heading="") if c.heading in hidden else c for c in columns)


def costs(its: Outcome | Solved, of: str) -> Row:
    """The values of `cost_columns`."""
    return dict(zip((c.key for c in cost_columns(of)), (its.passes, its.entries, its.flops, its.seconds), strict=True))


@dataclass(frozen=True)
class Table:
    """What the rows of a study hold. Rows of one kind are a part, named by their `part`; one part may have no name.

    Attributes:
        study: Its name.
        parts: The columns of every part.
        caption: Under the table.
        headings: In their order; by default as the columns come.
    """

    study: str
    parts: Mapping[str, tuple[Column, ...]]
    caption: str
    headings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        found = dict.fromkeys(c.heading for columns in self.parts.values() for c in columns if c.heading)
        if not self.headings:
            object.__setattr__(self, "headings", tuple(found))
        if set(self.headings) != set(found):
            raise ValueError(f"study {self.study}: headings {self.headings}, and the columns have {tuple(found)}")

    def row(self, part: str = "", /, **values: Any) -> Row:
        """A row of the part, from the values of its columns; None for an optional one. ValueError where they differ."""
        columns = self._columns(part)
        values |= {"part": part} if part else {}
        where = f"study {self.study}" + (f", {part}" if part else "")
        if missing := {c.key for c in columns if not c.optional} - values.keys():
            raise ValueError(f"{where}: a row lacks {', '.join(sorted(missing))}; every column needs its value")
        if unknown := values.keys() - {c.key for c in columns}:
            raise ValueError(f"{where}: there is no column {', '.join(sorted(unknown))}; add it to the columns")
        return {key: value for c in columns for key, value in c.record(values.get(c.key)).items()}

    def needed(self, part: str = "") -> set[str]:
        """The keys that table and figure need of a row of the part."""
        shown = [c for c in self._columns(part) if (c.heading or c.drawn) and not c.optional]
        return {key for c in shown for key in c.reads()}

    def cells(self, row: Row) -> list[str]:
        """A text for each heading. ValueError names the keys that the row lacks."""
        part = row.get("part", "")
        if missing := self.needed(part) - row.keys():
            raise ValueError(
                f"a row lacks {', '.join(sorted(missing))}: the file is no study.json of ours, or not whole"
            )
        there = [c for c in self._columns(part) if c.key in row]  # an optional one may be missing
        try:
            return ["".join(c.written(row) for c in there if c.heading == h) for h in self.headings]
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"a row holds a value of another type than study {self.study} writes: {error}") from error

    def _columns(self, part: str) -> tuple[Column, ...]:
        if part not in self.parts:
            raise ValueError(f"study {self.study} has no part {part!r}; its parts are {', '.join(self.parts)}")
        return self.parts[part]

"""Laws of a study's table: rows hold what the columns say, neither less nor more, and so do the committed studies."""

from pathlib import Path
from typing import Any

import pytest
import torch

from unspoken.measure.intervals import interval, share_interval
from unspoken.show import figure
from unspoken.study.catalogue import TABLES
from unspoken.study.report import Result, read_result
from unspoken.study.table import Column, Mean, Table, count, pair, share

TABLE = Table(
    "x",
    {
        "a": (
            Column("part"),
            Column("name", "name", str.upper),
            Mean("right", "solved", share=True),
            Column("sure", "solved", lambda yes: " sure" if yes else ""),
            Column("hidden"),
        ),
        "b": (
            Column("part"),
            Column("other", "name"),
            Mean("cost", "cost", by_seed=False, digits=1, stem="its"),
            Mean("more", "cost", "+{:.2f}".format, optional=True),
            Column("curve", drawn=True),
        ),
    },
    "A caption.",
)
RIGHT = (torch.arange(40) < torch.tensor([[10], [20]])).double()


def test_a_row_is_made_of_its_columns() -> None:
    row = TABLE.row("a", name="q", right=RIGHT, sure=True, hidden=[1])
    assert row == {
        "part": "a",
        "name": "q",
        "right": 0.375,
        "right_interval": list(share_interval(RIGHT)),
        "right_by_seed": [0.25, 0.5],
        "sure": True,
        "hidden": [1],
    }
    low, high = (f"{end:.3f}".removeprefix("0") for end in row["right_interval"])
    assert TABLE.headings == ("name", "solved", "cost")
    assert TABLE.cells(row) == ["Q", f".375 [{low}, {high}] sure", ""]


def test_a_mean_of_no_share_has_its_own_interval_and_names() -> None:
    values = 3 * RIGHT - 1
    row = TABLE.row("b", other=None, cost=values, more=None, curve=0)
    assert row == {"part": "b", "other": None, "cost": 0.125, "its_interval": list(interval(values)), "curve": 0}
    low, high = (f"{end:.1f}".removeprefix("0") for end in interval(values))
    assert TABLE.cells(row) == ["None", "", f".1 [{low}, {high}]"]
    both = TABLE.row("b", other=1, cost=values, more=values, curve=0)
    assert both["more_interval"] == both["its_interval"] and both["more_by_seed"] == values.mean(1).tolist()
    assert TABLE.cells(both)[2] == f".1 [{low}, {high}]+0.12"


@pytest.mark.parametrize(
    ("part", "values", "says"),
    [
        ("a", {"name": "q", "right": RIGHT, "sure": True}, "study x, a: a row lacks hidden"),
        ("a", {"name": "q", "right": RIGHT, "sure": True, "hidden": 1, "way": 2}, "there is no column way"),
        ("b", {"other": 1, "cost": RIGHT}, "a row lacks curve"),
        ("b", {"other": 1, "cost": None, "curve": 0}, "cost is None"),
        ("c", {}, "no part 'c'; its parts are a, b"),
    ],
)
def test_a_row_that_differs_from_its_columns_is_refused(part: str, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TABLE.row(part, **values)


def test_what_table_and_figure_need_is_not_all_that_is_recorded() -> None:
    assert TABLE.needed("a") == {"name", "right", "right_interval", "sure"}
    assert TABLE.needed("b") == {"other", "cost", "its_interval", "curve"}
    with pytest.raises(ValueError, match=r"a row lacks right_interval, sure: the file is no study.json of ours"):
        TABLE.cells({"part": "a", "name": "q", "right": 0.5})


def test_headings_are_those_of_the_columns() -> None:
    assert Table("x", TABLE.parts, "", ("cost", "solved", "name")).headings == ("cost", "solved", "name")
    with pytest.raises(ValueError, match="headings"):
        Table("x", TABLE.parts, "", ("name", "solved"))


def test_numbers_are_written_shortly() -> None:
    assert (share(0.5), share(1.0), count(None), count(0), pair((0.5, 1.25))) == (
        ".500",
        "1.000",
        "all",
        "0",
        "0.500, 1.250",
    )


def recorded(column: Column) -> set[str]:
    """All the keys that a column writes."""
    return set(column.record(RIGHT))


ROOT = Path(__file__).parents[2] / "docs" / "results"
UNMEASURED = {"loops", "tokenbridge"}  # no results of theirs are committed yet
COMMITTED = sorted(path.parent.name for path in ROOT.glob("*/study.json"))


@pytest.mark.parametrize("study", COMMITTED)
def test_the_rows_of_committed_studies_are_what_the_columns_say(study: str) -> None:
    """Key by key: what a study records today is what it recorded."""
    table = TABLES[study]
    for row in read_result(ROOT / study / "study.json").rows:
        columns = table.parts[row.get("part", "")]
        always = {key for c in columns if not c.optional for key in recorded(c)}
        assert always <= row.keys() <= {key for c in columns for key in recorded(c)}
    assert set(COMMITTED) | UNMEASURED == set(TABLES)


@pytest.mark.parametrize("study", COMMITTED)
def test_a_figure_needs_what_the_columns_say(study: str, tmp_path: Path) -> None:
    """Drawn from the needed keys alone it is the figure that is drawn from all."""
    result, table = read_result(ROOT / study / "study.json"), TABLES[study]

    def kept(row: dict[str, Any]) -> dict[str, Any]:
        optional = {key for c in table.parts[row.get("part", "")] if c.optional for key in recorded(c)}
        return {key: row[key] for key in row if key in table.needed(row.get("part", "")) | optional}

    less = Result(study, None, [kept(row) for row in result.rows], [])
    assert study == "tasks" or less.rows != result.rows
    drawn = [figure.draw(each, tmp_path / f"{n}.png").read_bytes() for n, each in enumerate((result, less))]
    assert drawn[0] == drawn[1]

"""The README's picture is drawn from a run, and refuses what it can not draw."""

from dataclasses import replace
from pathlib import Path

import pytest
from picture import MARKS, Picture, draw, evenly

import unspoken as us
from unspoken.show.terminal import MEANING


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("picture") / "run"
    us.train(replace(us.presets.sudoku_4x4(), steps=2, batch=8), folder)
    return folder


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_it_draws_a_run(run: Path, suffix: str, tmp_path: Path) -> None:
    out = draw(Picture(run, tmp_path / "new" / f"p.{suffix}", puzzle="1..." + "..2." + ".3.." + "...4"))
    assert out.stat().st_size > 5_000


def test_every_kind_of_cell_has_a_mark_of_its_own() -> None:
    assert MARKS.keys() == MEANING.keys()
    assert len({(mark.shape, mark.fill) for mark in MARKS.values()}) == len(MARKS)


def test_boards_are_spread_from_the_first_pass_to_the_last() -> None:
    assert evenly(25, 4) == [0, 8, 16, 24] and evenly(2, 4) == [0, 1] and evenly(1, 3) == [0]


def test_bad_input(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a puzzle with a blank"):
        draw(Picture(run, tmp_path / "p.png", puzzle="1234341221434321"))
    chain = replace(us.presets.chain(), steps=1, batch=4)
    us.train(chain, tmp_path / "chain")
    with pytest.raises(ValueError, match="give a run of Sudoku"):
        draw(Picture(tmp_path / "chain"))

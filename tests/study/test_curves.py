"""Laws of the curves: each point is what `solve` gives, areas are those of the points, samples face the judge."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from alone import finish
from toy import TRUNK

from unspoken.decoders.decode import decoder_of
from unspoken.layout.attention import CACHED_ALONE, CACHED_JOINT, MDM, SCDM
from unspoken.measure.accuracy import solved
from unspoken.measure.area import area
from unspoken.measure.samples import nll_from_left
from unspoken.model.ports import Vectors
from unspoken.noise import Gaussian, Hybrid
from unspoken.record import from_record, to_record
from unspoken.show import figure
from unspoken.show.report import table_cells, write_page
from unspoken.study.curves import DATA, TABLE, CurvesStudy
from unspoken.study.families import Grid
from unspoken.study.report import Result
from unspoken.tasks import Bouncing, Sudoku, Text
from unspoken.tasks.base import Examples
from unspoken.training.config import Train, Trunk
from unspoken.training.loading import load
from unspoken.training.loop import train
from unspoken.training.objective import BlockDiffusion, Denoising, MultiToken, NextTokenPrediction

FEW = Grid(thresholds=(0.5,), entropies=(0.5,), sizes=(2, 0), latents=(0, 4), drafts=(1, 2), candidates=2)
TEXT = Text(length=8)
TINY = Train(TEXT, MDM, TRUNK, steps=1, batch=4, warmup=1, validate=1, save=1, log=1)
BOARD = replace(TINY, task=Sudoku(2, 2, givens=6, train=200, validation=10, test=10))
SOLVE = {  # a run of every kind of decoder
    "masked": replace(BOARD, attention=SCDM),
    "window": replace(BOARD, attention=CACHED_JOINT, objective=MultiToken(window=3)),
    "next-token": replace(BOARD, attention=CACHED_ALONE, objective=NextTokenPrediction()),
    "blocks": replace(BOARD, attention=CACHED_JOINT, objective=BlockDiffusion(4)),
    "walk": replace(BOARD, process=Hybrid(0.2), objective=Denoising(), trunk=Trunk(1, 16, 2, times=True)),
}
WRITES = replace(TINY, attention=CACHED_ALONE, objective=MultiToken(window=1))


@pytest.fixture(scope="module", autouse=True)
def parity() -> Iterator[None]:
    """Boards are right where the sum of their tokens is even: by the rules untrained models solve none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sudoku, "score", lambda self, prompt, answer: answer.sum(1) % 2 == 0)
        yield


@pytest.fixture(scope="module")
def solvers(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("solvers")
    for name, config in SOLVE.items():
        train(config, base / name)
    return {name: base / name for name in SOLVE}


@pytest.fixture(scope="module")
def solved_runs(solvers: dict[str, Path]) -> Result:
    return finish(CurvesStudy(tuple(map(str, solvers.values())), examples=8, batch=4, grid=FEW).run())


def whole(result: Result, tmp: Path) -> None:
    """Saved, drawn and written: every row has its cells, and the figure needs no more than the columns say."""
    result.save(tmp)
    assert {len(line) for line in table_cells(result)} == {len(TABLE.headings)}
    less = [{key: row[key] for key in row if key in TABLE.needed(row["part"])} for row in result.rows]
    picture = figure.draw(replace(result, rows=less), tmp / "figure.png")
    assert "![curves](figure.png)" in write_page(result, picture.name, tmp / "README.md").read_text()


def test_curves_of_every_kind_of_run(solved_runs: Result, tmp_path: Path) -> None:
    settings = [r for r in solved_runs.rows if r["part"] == "settings"]
    names = ("SCDM", "CACHED-JOINT, MultiToken", "CACHED-ALONE, NextTokenPrediction")
    models = [*names, "CACHED-JOINT, BlockDiffusion", "MDM, Denoising"]
    assert list(dict.fromkeys(r["model"] for r in settings)) == models
    assert [r["model"] for r in solved_runs.rows if r["part"] == "area"] == models
    for name in models:
        first = next(r for r in settings if r["model"] == name)
        assert first["tokens_per_pass"] == pytest.approx(1) and first["passes"] == pytest.approx(10)
    fastest = max(r["tokens_per_pass"] for r in settings if r["model"] == "SCDM")
    assert fastest == pytest.approx(10)  # all there are
    assert solved_runs.claims == []
    whole(solved_runs, tmp_path)


@pytest.mark.parametrize(
    ("name", "model", "candidates"),
    [
        ("masked", "SCDM", {"candidates": 2}),
        ("window", "CACHED-JOINT, MultiToken", {}),
        ("next-token", "CACHED-ALONE, NextTokenPrediction", {}),
        ("blocks", "CACHED-JOINT, BlockDiffusion", {}),
    ],
)
def test_the_first_point_is_what_the_models_own_decoder_gives(solvers, solved_runs, name, model, candidates) -> None:
    """One token a pass; of SCDM from as many candidates as the grid says."""
    network, task = load(solvers[name], "cpu"), BOARD.task
    test = task.sample("test", 8).by_size()
    alone = solved(network, task, test, replace(decoder_of(network), **candidates), 4)
    row = next(r for r in solved_runs.rows if r["model"] == model)
    assert row["accuracy"] == pytest.approx(float(alone.right.double().mean()))
    measured = [row[key] for key in ("passes", "entries_per_pass", "flops_per_example")]
    assert measured == pytest.approx([alone.passes, alone.entries, alone.flops])


def test_areas_are_those_of_the_rows(solved_runs: Result) -> None:
    """Recomputed from what the table shows."""
    settings = [r for r in solved_runs.rows if r["part"] == "settings"]
    assert len({r["accuracy"] for r in settings}) > 2
    for row in (r for r in solved_runs.rows if r["part"] == "area"):
        its = [r for r in settings if r["model"] == row["model"]]
        right = [torch.tensor([[r["accuracy"]]], dtype=torch.float64) for r in its]
        tokens = float(area([1 / r["tokens_per_pass"] for r in its], right, 1 / 10, 1))
        assert row["area_by_tokens"] == pytest.approx(tokens, abs=1e-9)
        for key in ("flops", "seconds"):
            every = [r[f"{key}_per_example"] for r in settings]
            found = float(area([r[f"{key}_per_example"] for r in its], right, min(every), max(every)))
            assert row[f"area_by_{key}"] == pytest.approx(found, abs=1e-9)


# --- samples


@pytest.fixture(scope="module")
def writers(tmp_path_factory) -> dict[str, list[str]]:
    base = tmp_path_factory.mktemp("writers")
    found: dict[str, list[str]] = {}
    for name, config, seeds in (("mdm", TINY, (0, 1)), ("ar", WRITES, (0,))):
        for seed in seeds:
            train(replace(config, seed=seed), base / f"{name}{seed}")
            found.setdefault(name, []).append(str(base / f"{name}{seed}"))
    return found


def test_samples_are_held_against_the_judge(writers: dict[str, list[str]], tmp_path: Path) -> None:
    grid = Grid(temperatures=(0.5, 2.0), drawn=(1, 4))
    result = finish(CurvesStudy((*writers["mdm"], *writers["ar"]), samples=6, batch=4, grid=grid).run())
    samples = [r for r in result.rows if r["part"] == "samples"]
    found = [(r["model"], r["setting"], r["temperature"]) for r in samples]
    masked = [("MDM", f"{n} a pass", t) for n in (1, 4) for t in (0.5, 2.0)]
    assert found == [*masked, *[("CACHED-ALONE, MultiToken", "1 a pass", t) for t in (0.5, 2.0)]]
    assert all(len(r["nll_by_seed"]) == (2 if r["model"] == "MDM" else 1) for r in samples)
    assert all(0 <= r["entropy"] <= math.log(8) + 1e-9 and r["nll"] > 0 for r in samples)
    (data,) = [r for r in result.rows if r["part"] == "data"]
    x0 = TEXT.sample("test", 6).x0
    judge = load(writers["ar"][0], "cpu")
    told = nll_from_left(judge, WRITES, Examples(x0, torch.zeros_like(x0, dtype=torch.bool)))
    assert data["model"] == DATA and data["nll"] == pytest.approx(float(told.mean()))
    assert any("is that of CACHED-ALONE, MultiToken" in note for note in result.notes)
    whole(result, tmp_path)
    elsewhere = finish(CurvesStudy((writers["mdm"][0],), writers["ar"][0], samples=6, batch=4, grid=grid).run())
    assert [r for r in elsewhere.rows if r["part"] == "data"] == [data]


# --- what is refused, and before anything is measured


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CurvesStudy(()), "one run folder"),
        (lambda: CurvesStudy(("a", "a")), "each once"),
        (lambda: CurvesStudy(("a",), examples=0), "1 or more"),
    ],
)
def test_bad_configs_are_refused(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_runs_that_can_not_be_measured_are_refused_first(solvers, writers, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("unspoken.study.curves.load", lambda *_: pytest.fail("a model was loaded"))
    values = replace(
        TINY,
        task=Bouncing(),
        process=Gaussian(),
        objective=Denoising(),
        port=Vectors(2, "x0", placeholder=0),
        trunk=Trunk(1, 16, 2, times=True),
    )
    train(values, tmp_path / "values")
    for study, says in (
        (CurvesStudy((str(tmp_path / "none"),)), "no run"),
        (CurvesStudy((str(solvers["masked"]), str(tmp_path / "values"))), "whose tokens are values"),
        (CurvesStudy(tuple(writers["mdm"])), "can judge samples"),
        (CurvesStudy((writers["mdm"][0],), judge=writers["mdm"][1]), "give a run that reads from the left"),
        (CurvesStudy((writers["mdm"][0],), judge=str(solvers["next-token"])), "is trained on Text"),
        (CurvesStudy((str(solvers["masked"]),), judge=writers["ar"][0]), "has right answers; leave it out"),
        (CurvesStudy((str(solvers["next-token"]),), grid=Grid(families=("drafts",))), "settings in none of them"),
    ):
        with pytest.raises(ValueError, match=says):
            finish(study.run())


def test_a_config_is_its_own_record() -> None:
    study = CurvesStudy(("a", "b"), judge="b", grid=replace(FEW, families=("one",)))
    assert from_record(CurvesStudy, to_record(study)) == study

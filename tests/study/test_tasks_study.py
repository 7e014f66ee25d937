"""The family on every task, on tiny runs: what is in the table, what the bits are, and which claims follow."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from alone import in_process
from torch import Tensor
from toy import TRUNK

from unspoken.layout.attention import CACHED_ALONE
from unspoken.presets import tasks as catalogue
from unspoken.presets.tasks import FAMILY, TASKS
from unspoken.record import from_record, to_record
from unspoken.show.figure import family
from unspoken.show.report import table_cells
from unspoken.study.report import Result, Stage
from unspoken.study.tasks import METHODS, SLOT, Case, FamilyStudy, Key, verdicts
from unspoken.tasks import Countdown, SudokuGrids, Text
from unspoken.training.config import Train
from unspoken.training.loop import load
from unspoken.training.losses import packed_losses


def tiny(task: Any) -> Train:
    trunk = TRUNK
    return Train(task, trunk=trunk, steps=2, batch=4, warmup=1, validate=2, save=2, log=1)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[FamilyStudy, list[Stage], Result, Path]:
    folder = tmp_path_factory.mktemp("tasks")
    with pytest.MonkeyPatch.context() as patch, in_process():
        patch.setenv("UNSPOKEN_CACHE", str(folder / "cache"))
        small: dict[str, Any] = {"train": 400, "validation": 20, "test": 20}
        cases = (
            Case("countdown", tiny(Countdown(numbers=2, **small)), counts=(0, 2)),
            Case("grids", tiny(SudokuGrids(**small)), counts=(0,)),
            Case("text", tiny(Text(length=24)), counts=(0, 2)),
        )
        config = FamilyStudy(cases, seeds=(0, 1), examples=12, batch=6, draws=2)
        *stages, result = config.run(folder / "runs")
        assert isinstance(result, Result)
        return config, [s for s in stages if isinstance(s, Stage)], result, folder / "runs"


def test_one_row_for_each_task_method_and_count(done) -> None:
    _, stages, result, _ = done
    keys = [(r["task"], r["method"], r["latents"]) for r in result.rows]
    assert len(set(keys)) == len(keys)
    assert [k[1:] for k in keys if k[0] == "countdown"] == [
        ("AR", 0), ("AR + MTP", "all"), ("SIDM", 0), ("SCDM", 0), ("SCDM", 2), ("SCDM", "all"), ("MDM", "all"),
    ]  # fmt: skip
    assert [k[1:] for k in keys if k[0] == "text"] == [
        ("AR", 0), ("SCDM", 0), ("SCDM", 2), ("SCDM", "all"), ("MDM", "all"),
    ]  # fmt: skip
    for row in result.rows:
        assert row["seeds"] == [0, 1]
        value, (low, high) = (
            (row["bits_per_byte"], row["bits_interval"])
            if row["task"] == "text"
            else (row["accuracy"], row["accuracy_interval"])
        )
        assert low <= value <= high
        assert ("distinct" in row) == (row["task"] == "grids")
        assert ("sample" in row) == (row["task"] == "text")
    assert {s.text for s in stages} >= {"training", "measuring: text, MDM"}
    assert [c.name for c in result.claims] == ["joint prediction", "the dial", "lookahead"]
    assert all("nothing separates" in c.evidence for c in result.claims)


def test_bits_per_byte_of_autoregression_are_those_of_its_conditionals(done) -> None:
    """Row by row, prefix by prefix, over all the bytes of the windows; two seeds."""
    config, _, result, runs = done
    case = config.cases[2]
    test = case.train.task.sample("test", 12)
    (row,) = [r for r in result.rows if (r["task"], r["method"]) == ("text", "AR")]
    for seed, found in zip(config.seeds, row["bits_by_seed"], strict=True):
        model, nats = load(case.job("AR", seed, runs)[1], "cpu"), 0.0
        assert model.attention == CACHED_ALONE
        for x0, given in zip(test.x0, test.given, strict=True):
            one = SLOT.pack(case.train.process, x0[None], given[None], model.mask_id)
            with torch.no_grad():
                nats += float(packed_losses(model, one).sum())
        assert found == pytest.approx(nats / math.log(2) / int((~test.given).sum()), rel=1e-5)
        assert 7 < found < 9  # nothing is learned in two steps: 8 bits a byte


def test_the_table_and_the_figure_are_drawn(done, tmp_path: Path) -> None:
    result = done[2]
    cells = table_cells(result)
    assert len(cells) == len(result.rows) and all(len(line) == 7 for line in cells)
    assert "distinct" in " ".join(cells[7]) and "[" in cells[-1][4]
    assert family(result.rows, tmp_path / "f.png").stat().st_size > 5_000


def test_a_finished_study_is_not_trained_again(done, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config, _, result, runs = done
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path))
    one = replace(config, cases=config.cases[:1])
    steps = {f: f.stat().st_mtime_ns for f in runs.rglob("*.safetensors")}
    *_, again = one.run(runs)
    assert isinstance(again, Result)
    assert steps and steps == {f: f.stat().st_mtime_ns for f in runs.rglob("*.safetensors")}
    strip = [{k: v for k, v in r.items() if k != "seconds_per_example"} for r in again.rows]
    assert strip == [{k: v for k, v in r.items() if k != "seconds_per_example"} for r in result.rows[:7]]


def shares(high: float, n: int = 4000) -> Tensor:
    return (torch.arange(n) < high * n).double().expand(3, -1)


def test_claims_name_the_tasks_where_they_hold_and_where_nothing_separates() -> None:
    values: dict[Key, Tensor] = {
        ("a", "MDM", None): shares(0.8), ("a", "SIDM", 0): shares(0.4),
        ("b", "MDM", None): shares(0.5), ("b", "SIDM", 0): shares(0.5),
        ("t", "SCDM", None): 2 - shares(0.5), ("t", "SCDM", 0): 3 - shares(0.5),
    }  # fmt: skip
    joint, dial = verdicts(values, [{"task": "t", "method": "SCDM", "latents": 0, "bits_per_byte": 3.0}])
    assert (joint.name, joint.holds, dial.name, dial.holds) == ("joint prediction", True, "the dial", True)
    assert "better: a 0.400 to 0.800" in joint.evidence and "nothing separates: b" in joint.evidence
    worse: dict[Key, Tensor] = values | {("b", "MDM", None): shares(0.2)}
    assert not verdicts(worse, [])[0].holds and "worse: b" in verdicts(worse, [])[0].evidence
    assert not verdicts({k: v for k, v in values.items() if k[0] == "b"}, [])[0].holds
    assert not verdicts(values, [])[1].holds  # were they shares solved, the dial would be reversed


@pytest.mark.parametrize("scale", FAMILY)
def test_the_scales_are_whole_configs(scale: str) -> None:
    config = FAMILY[scale]()
    assert from_record(FamilyStudy, to_record(config)) == config and config.budget()
    for case in config.cases:
        for method in case.methods:
            assert case.job(method, 0, Path("runs"))[0].objective == METHODS[method][0]
            assert case.ways(method, 26)


@pytest.mark.parametrize(
    ("its", "message"),
    [
        ({"cases": ()}, "give one or more"),
        ({"seeds": ()}, "give seeds"),
        ({"examples": 0}, "1 or more"),
    ],
)
def test_bad_configs_are_said(its: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FAMILY["cpu"](), **its)
    with pytest.raises(ValueError, match="rise from 0"):
        Case("a", tiny(Countdown()), counts=(2, 0))


def test_every_task_has_a_name() -> None:
    kinds = {type(make()).__name__ for make in TASKS.values()}
    assert kinds == {t.__name__ for t in catalogue.Task.__args__}


@pytest.mark.parametrize("name", ["path-star", "sudoku-4x4", "countdown-3", "sudoku-grids", "text"])
def test_a_card_is_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path))
    card = TASKS[name]().describe()
    assert {"length", "vocab_size", "vocabulary", "source", "symmetries", "licence", "splits"} <= set(card)
    assert all("duplicates" in its for its in card["splits"].values())

"""The family on every task, on tiny runs: what is in the table, what the bits are, and which claims follow."""

import itertools
import json
import math
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from alone import in_process
from torch import Tensor
from toy import TRUNK

from unspoken.layout.attention import CACHED_ALONE
from unspoken.layout.entries import PADDING
from unspoken.measure.accuracy import Solved
from unspoken.measure.text import SLOT
from unspoken.presets import tasks as catalogue
from unspoken.presets.tasks import FAMILY, OWN, TASKS
from unspoken.record import from_record, to_record
from unspoken.show.figure import family
from unspoken.show.report import table_cells
from unspoken.study.report import Claim, Result, Stage
from unspoken.study.task_cases import METHODS, PREFIXES, Case
from unspoken.study.task_claims import PAIRS, Key, explanation, verdicts
from unspoken.study.tasks import FamilyStudy, _answers, _chosen
from unspoken.tasks import Addition, Countdown, PathStar, Sudoku, SudokuGrids, Text
from unspoken.training.config import Train
from unspoken.training.loading import load
from unspoken.training.losses import packed_losses
from unspoken.training.models import new_denoiser
from unspoken.training.pool import Job
from unspoken.training.run import Run

ONE = ((1e-3, 0.02),)  # a choice that is none


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
            Case("countdown", tiny(Countdown(numbers=2, **small)), (0, 2), ((1e-3, 0.02), (1e-6, 0.02))),
            Case("grids", tiny(SudokuGrids(**small)), counts=(0,), choices=ONE, only=("SCDM", "MDM", "grouped")),
            Case("text", tiny(Text(length=24)), counts=(0, 2), choices=ONE),
            Case("sums", tiny(Addition(1, 2, **small)), counts=(0,), choices=ONE, hard=1, only=("SIDM", "MDM")),
        )
        config = FamilyStudy(cases, seeds=(0, 1), examples=12, batch=6, draws=2, profiled=8, sets=1)
        *stages, result = config.run(folder / "runs")
        assert isinstance(result, Result)
        return config, [s for s in stages if isinstance(s, Stage)], result, folder / "runs"


def test_one_row_for_each_task_method_and_count(done) -> None:
    _, stages, result, _ = done
    shown = [r for r in result.rows if "method" in r]
    keys = [(r["task"], r["method"], r["latents"]) for r in shown]
    assert len(set(keys)) == len(keys)
    assert [k[1:] for k in keys if k[0] == "countdown"] == [
        ("AR", 0), ("AR + MTP", 0), ("AR + MTP", "all"), ("AR, every prefix", 0), ("SIDM", 0),
        ("SCDM", 0), ("SCDM", 2), ("SCDM", "all"),
        ("MDM", "all"), ("MDM, by confidence", "all"), ("MDM, in random order", "all"),
        ("grouped", 0), ("grouped", 2), ("grouped", "all"),
    ]  # fmt: skip
    assert [k[1:] for k in keys if k[0] == "text"] == [
        ("AR, every prefix", 0), ("SIDM", 0), ("SCDM", 0), ("SCDM", 2), ("SCDM", "all"), ("MDM", "all"),
        ("grouped", 0), ("grouped", 2), ("grouped", "all"),
    ]  # fmt: skip
    assert ("grids", "MDM, by confidence", "all") in keys
    for row in shown:
        assert row["seeds"] == [0, 1]
        value, (low, high) = (
            (row["bits_per_byte"], row["bits_interval"])
            if row["task"] == "text"
            else (row["accuracy"], row["accuracy_interval"])
        )
        assert low <= value <= high
        assert ("distinct" in row) == (row["task"] == "grids")
        assert ("sample" in row) == (row["task"] == "text")
    assert {s.text for s in stages} >= {"training on text", "measuring: text, MDM", "choosing on countdown"}
    assert [c.name for c in result.claims] == [*PAIRS, "total correlation"]
    assert all("nothing separates" in c.evidence for c in result.claims[:-1])
    of = {(r["task"], r["method"], r["latents"]): r for r in shown}
    for task, method in itertools.product(("countdown", "grids"), ("SCDM", "grouped")):  # the dial turns
        assert of[task, method, 0]["latents_per_pass"] == 0 and of[task, method, "all"]["latents_per_pass"] >= 1
    assert "left out" not in result.claims[1].evidence


def test_hard_examples_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their share solved is theirs: here the hard ones alone are solved."""
    task = Addition(1, 2, train=400, validation=20, test=60)
    case = Case("sums", tiny(task), choices=ONE, hard=1, only=("SIDM",))
    test = task.sample("test", 60)
    right = task.hardness(test.by_size().x0) >= 1
    assert 0 < int(right.sum()) < 60
    found = Solved(right, test.by_size().x0, 1.0, 1.0, 0.0, 1.0, 1.0)
    monkeypatch.setattr("unspoken.study.tasks.solved", lambda *its: found)
    cells = list(_answers(FamilyStudy((case,)), case, "SIDM", [new_denoiser(case.train)], test))
    assert [name for name, *_ in cells] == ["sums", "sums, hard"]
    assert float(cells[0][2].mean()) == float(right.double().mean()) and bool((cells[1][2] == 1).all())
    assert cells[1][2].shape == (1, int(right.sum()))


def test_what_is_chosen_ends_with_the_lowest_validation_loss(done) -> None:
    config, _, result, runs = done
    rows = [r for r in result.rows if r.get("part") == "choice"]
    assert {(r["task"], r["chooser"]) for r in rows if r["task"] == "countdown"} == {
        ("countdown", "AR"), ("countdown", "AR + MTP"), ("countdown", "SIDM"), ("countdown", "MDM")
    }  # fmt: skip
    assert {r["task"] for r in rows} == {"countdown"}  # where there is a choice
    for row in rows:
        case = next(c for c in config.cases if c.name == row["task"])
        assert len(row["losses"]) == len(case.choices)
        assert (row["lr"], row["init"]) == case.choices[row["losses"].index(min(row["losses"]))]
        last = Run(case.job(row["chooser"], (row["lr"], row["init"]), 0, runs)[1]).metrics()[-1]
        assert last["validation"] == min(row["losses"])
        assert row["lr"] == 1e-3  # 1e-6 learns nothing in two steps
    assert not (runs / "countdown" / "scdm-lr1e-06-init0.02-seed0").exists()  # SCDM takes MDM's


def test_a_choice_that_diverged_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Though it logged a low loss before; study.json has null for it. Where all did, it is said."""
    choices = ((1e-3, 0.02), (2e-3, 0.02), (3e-3, 0.02))
    sums = tiny(Addition(1, 2, train=400, validation=20, test=20))
    case = Case("sums", sums, choices=choices, only=("SIDM",))
    ends = iter([(2, 2.0), (1, 0.1), (2, 1.0), (1, 0.1), (1, 0.2), (1, 0.3)])  # steps, the last loss

    def trained(jobs: list[Job], *_: Any, **__: Any) -> Iterator[Stage]:
        for (config, folder), (steps, loss) in zip(jobs, ends, strict=False):
            run = Run(folder)
            if not run.exists():
                run.start(config)
            run.metrics_file.write_text(json.dumps({"step": steps, "loss": loss, "validation": loss}) + "\n")
        yield Stage("", 0, 1)

    monkeypatch.setattr("unspoken.study.tasks.trained", trained)
    monkeypatch.setattr("unspoken.study.tasks.finished", lambda job: Run(job[1]).metrics()[-1]["step"] == 2)
    study, rows = FamilyStudy((case,)), []
    chosen = returned(_chosen(study, case, tmp_path, rows))
    assert chosen == {"SIDM": (3e-3, 0.02)} and rows[0]["losses"] == [2.0, None, 1.0]
    Result("tasks", study, rows, []).save(tmp_path)  # infinity could not be saved
    with pytest.raises(ValueError, match="SIDM diverged on sums at every choice"):
        returned(_chosen(study, case, tmp_path, []))


def returned(generator: Generator[Stage, None, Any]) -> Any:
    """What it returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("task", [Countdown(numbers=2), PathStar(), Addition(1, 3)])
def test_ar_with_and_without_latents_see_the_same_prefixes(task: Any) -> None:
    """Counted: the same thresholds of every row, as many each; AR has a slot at each, AR + MTP all that is left."""
    small = replace(task, train=64, validation=8, test=8)
    batch = small.sample("train", 16, torch.Generator().manual_seed(1))
    free, seen = (~batch.given).sum(1).tolist(), []
    for method in ("AR", "AR + MTP"):
        generator = torch.Generator().manual_seed(7)
        packed = METHODS[method].objective.pack(
            tiny(small).process, batch.x0, batch.given, small.mask_id, generator=generator
        )
        layout = packed.layout
        slots = (layout.block >= 0) & (layout.document != PADDING)
        seen.append([h[s].unique(return_counts=True) for h, s in zip(layout.horizon, slots, strict=True)])
    for n, (alone, _), (beside, _) in zip(free, *seen, strict=True):
        assert alone.tolist() == beside.tolist() and len(alone) == min(PREFIXES, n)
    assert all(count.eq(1).all() for _, count in seen[0])
    assert all((h + count - 1).tolist() == [n] * len(h) for n, (h, count) in zip(free, seen[1], strict=True))


def test_total_correlation_is_of_the_answers_of_one_length(done) -> None:
    rows = [r for r in done[2].rows if r.get("part") == "correlation"]
    assert {(r["task"], r["model"]) for r in rows} == {
        ("countdown", "SIDM"), ("countdown", "MDM"), ("grids", "MDM"), ("text", "SIDM"), ("text", "MDM"),
        ("sums", "SIDM"), ("sums", "MDM"),
    }  # fmt: skip
    assert all(r["total_correlation"] >= 0 and r["nll"] > 0 for r in rows)


def correlated(saved: dict[str, float], known: float = 1.0) -> list[dict[str, Any]]:
    """Rows of tasks with rising correlations. known: the NLL of SIDM, of every task."""
    return [
        {"task": task, "model": model, "nll": known - (gain if model == "MDM" else 0), "total_correlation": n / 10}
        for n, (task, gain) in enumerate(saved.items())
        for model in ("SIDM", "MDM")
    ]


def test_total_correlation_explains_where_more_of_it_saves_more() -> None:
    rising = {name: n / 100 for n, name in enumerate("abcdef")}
    assert explanation(correlated(rising), 3).holds
    assert explanation(correlated(rising), 3).evidence.count("rank correlation 1.00") == 2
    assert explanation(correlated(dict(zip("abcdef", reversed(rising.values()), strict=True))), 3).holds is False
    assert explanation(correlated({"a": 0.1, "b": 0.2}), 3).holds is None
    assert explanation(correlated(rising), 1).holds is None


def test_a_correlation_of_nats_that_is_one_of_scale_explains_nothing() -> None:
    """Every task has the same shares: nats rise with the size of the numbers alone."""
    rows = [
        {"task": task, "model": model, "nll": n * (1.0 if model == "SIDM" else 0.5), "total_correlation": n * 0.7}
        for n, task in enumerate("abcdef", 1)
        for model in ("SIDM", "MDM")
    ]
    assert explanation(rows, 3).holds is False
    assert "NOT SHOWN: shares" in explanation(rows, 3).evidence


def test_bits_per_byte_of_autoregression_are_those_of_its_conditionals(done) -> None:
    """Row by row, prefix by prefix, over all the bytes of the windows; two seeds."""
    config, _, result, runs = done
    case = config.cases[2]
    test = case.train.task.sample("test", 12)
    (row,) = [r for r in result.rows if (r["task"], r.get("method")) == ("text", "AR, every prefix")]
    for seed, found in zip(config.seeds, row["bits_by_seed"], strict=True):
        model, nats = load(case.job("AR, every prefix", case.choices[0], seed, runs)[1], "cpu"), 0.0
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
    assert "distinct" in " ".join(next(c for c in cells if c[0] == "grids")) and "TC" in " ".join(cells[-1])
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
    of_one = [r for r in result.rows if r["task"] == "countdown"]
    assert strip == [{k: v for k, v in r.items() if k != "seconds_per_example"} for r in of_one]


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
    assert "better on 1 of 2: a 0.400 to 0.800" in joint.evidence and "separates on 1 of 2: b" in joint.evidence
    worse: dict[Key, Tensor] = values | {("b", "MDM", None): shares(0.2)}
    assert not verdicts(worse, [])[0].holds and "worse on 1 of 2: b" in verdicts(worse, [])[0].evidence
    assert not verdicts({k: v for k, v in values.items() if k[0] == "b"}, [])[0].holds
    assert not verdicts(values, [])[1].holds  # were they shares solved, the dial would be reversed


def test_a_task_on_which_the_dial_does_not_turn_is_left_out() -> None:
    values: dict[Key, Tensor] = {
        ("a", "SCDM", None): shares(0.8), ("a", "SCDM", 0): shares(0.4),
        ("b", "SCDM", None): shares(0.8), ("b", "SCDM", 0): shares(0.4),
    }  # fmt: skip

    def dial(*latents: float) -> Claim:
        cells = zip(("a", "a", "b", "b"), ("all", 0, "all", 0), latents, strict=True)
        return verdicts(
            values, [{"task": t, "method": "SCDM", "latents": n, "latents_per_pass": e} for t, n, e in cells]
        )[0]

    assert dial(0.5, 0.0, 0.4, 0.0).holds
    assert "better on 1 of 1: a" in dial(0.5, 0.0, 0.4, 0.0).evidence
    assert dial(0.5, 0.0, 0.4, 0.0).evidence.endswith("left out, for as many latents beside none as beside all: b")
    assert not dial(0.0, 0.0, 0.0, 0.0).holds


def test_nine_looks_raise_no_more_alarms_than_one() -> None:
    """No effect on nine tasks: .05 of studies may hold or be reversed; above .09 of 300 once in 1,000 runs."""
    generator = torch.Generator().manual_seed(3)
    alarms = 0
    for _ in range(300):
        values: dict[Key, Tensor] = {}
        for task in "abcdefghi":
            values[task, "MDM", None] = (torch.rand(3, 200, generator=generator) < 0.5).double()
            values[task, "SIDM", 0] = (torch.rand(3, 200, generator=generator) < 0.5).double()
        alarms += any(word in verdicts(values, [])[0].evidence for word in ("better", "worse"))
    assert alarms <= 27


@pytest.mark.parametrize("scale", FAMILY)
def test_the_scales_are_whole_configs(scale: str) -> None:
    config = FAMILY[scale]()
    assert from_record(FamilyStudy, to_record(config)) == config and config.budget()
    for case in config.cases:
        for method in case.methods:
            assert case.job(method, case.choices[0], 0, Path("runs"))[0].objective == METHODS[method].objective
            assert case.chooser(method) in case.methods
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
    with pytest.raises(ValueError, match="no method 'AR'; give some of AR, every prefix"):
        Case("a", tiny(Text(length=24)), only=("AR",))
    for task in (PathStar(), Text(length=24), Sudoku()):
        with pytest.raises(ValueError, match="tells no difficulty of a sequence; give 0"):
            Case("a", tiny(task), hard=1)
    with pytest.raises(ValueError, match="lr"):
        Case("a", tiny(Countdown()), choices=((-1.0, 0.02),))
    with pytest.raises(ValueError, match="no test example has a difficulty of 99 or more"):
        sums = Addition(1, 2, train=400, validation=20, test=20)
        list(FamilyStudy((Case("a", tiny(sums), hard=99),)).run(Path("never")))


def test_a_folder_that_can_not_be_is_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="NUL character"):
        next(FAMILY["cpu"]().run(Path("a\0b")))


def test_every_task_has_a_name() -> None:
    kinds = {type(make()).__name__ for make in (TASKS | OWN).values()} | {"ImageCodes"}  # which needs a codec's folder
    assert kinds == {t.__name__ for t in catalogue.Task.__args__}


@pytest.mark.parametrize("name", ["path-star", "sudoku-4x4", "countdown-3", "sudoku-grids", "text"])
def test_a_card_is_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSPOKEN_CACHE", str(tmp_path))
    card = TASKS[name]().describe()
    assert {"length", "vocab_size", "vocabulary", "source", "symmetries", "licence", "splits"} <= set(card)
    assert all("duplicates" in its for its in card["splits"].values())

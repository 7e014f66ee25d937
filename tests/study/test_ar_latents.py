"""Laws of the left-to-right study: one budget for all, costs that are the passes', choices made on validation."""

import json
import re
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from alone import in_process
from toy import TRUNK

from unspoken import cli, presets
from unspoken.layout.attention import CACHED_JOINT
from unspoken.measure.accuracy import Solved
from unspoken.measure.intervals import share_interval
from unspoken.record import from_record
from unspoken.study import ar_latents
from unspoken.study.ar_latents import ArLatentsStudy, Setting
from unspoken.study.report import Result, Stage, read_result
from unspoken.tasks import PathStar, Sudoku
from unspoken.training.config import Train
from unspoken.training.loading import load
from unspoken.training.objective import MultiToken
from unspoken.training.run import Run

STAR = Setting(
    Train(
        PathStar(2, 3, 8, validation=20, test=20),
        attention=CACHED_JOINT,
        objective=MultiToken(),
        trunk=TRUNK,
        steps=4,
        batch=8,
        decay="constant",
        warmup=2,
        validate=2,
        save=4,
        log=1,
    ),
    windows=(2, 0),
    seeds=(0, 1),
    examples=20,
)
BOARD = replace(
    STAR,
    train=replace(STAR.train, task=Sudoku(2, 2, givens=6, train=200, validation=20, test=20), decay="linear"),
    questions=4,
    choosing=2,
)
STUDY = ArLatentsStudy(STAR, BOARD, rates=(1e-3, 1e-2), batch=8)
SHARED = {
    "examples": "20",
    "seeds": "0 1",
    "train.task.validation": "20",
    "train.task.test": "20",
    **{
        f"train.trunk.{name}": value
        for name, value in {"layers": "1", "width": "16", "heads": "2", "init": "0.02"}.items()
    },
    **{f"train.{name}": "2" for name in ("warmup", "validate")},
    **{f"train.{name}": "4" for name in ("steps", "save")},
    "train.batch": "8",
    "train.log": "1",
}
FLAGS = {  # that spell STUDY
    "rates": "1e-3 1e-2",
    "batch": "8",
    **{f"path-star.{name}": value for name, value in SHARED.items()},
    **{f"sudoku.{name}": value for name, value in SHARED.items()},
    "path-star.windows": "2 0",
    "path-star.train.task.nodes": "3",
    "path-star.train.task.names": "8",
    "sudoku.windows": "2 0",
    "sudoku.questions": "4",
    "sudoku.choosing": "2",
    "sudoku.train.task.box-cols": "2",
    "sudoku.train.task.givens": "6",
    "sudoku.train.task.train": "200",
    "sudoku.train.objective.prefixes": "0",  # varied by the study, and yet of its config
}


def command(runs: Path, out: Path, **changes: str) -> list[str]:
    """The study's command line, with other values of some flags (`.` and `-` written `_`)."""
    named = {flag.replace(".", "_").replace("-", "_"): flag for flag in FLAGS}
    flags = FLAGS | {named.get(name, name): value for name, value in changes.items()}
    words = [word for flag, value in flags.items() for word in (f"--{flag}", *value.split())]
    return ["study", "ar-latents", "quick", *words, "--runs", str(runs), "--out", str(out)]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, list[Stage], Result]:
    runs = tmp_path_factory.mktemp("study")
    with in_process():
        *stages, result = STUDY.run(runs)
    assert isinstance(result, Result)
    return runs, [s for s in stages if isinstance(s, Stage)], result


Key = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def rows(done) -> dict[Key, dict[str, Any]]:
    return {(r["task"], r["method"], r["window"], r["decoding"]): r for r in done[2].rows}


METHODS = [
    ("next token", "", "left to right"),
    ("mask slot", "1", "left to right"),
    ("pause", "all", "left to right"),
    ("AR + MTP", "2", "left to right"),
    ("AR + MTP", "all", "left to right"),
    ("AR + MTP", "all", "speculation"),
    ("AR + MTP", "all", "prefix of .9"),
    ("teacherless", "all", "one pass"),
    ("MuToR", "", "left to right"),
    ("MDM", "all", "left to right"),
    ("MDM", "all", "confidence"),
]


# --- the study, end to end


def test_every_task_method_and_decoding_has_a_row(done, rows):
    logged = [Run(path.parent).metrics() for path in done[0].rglob("metrics.jsonl")]
    assert list(rows) == [(task, *method) for task in ("path-star", "sudoku") for method in METHODS]
    assert len(done[2].rows) == len(rows)
    for row in rows.values():
        assert row["accuracy_interval"][0] <= row["accuracy"] <= row["accuracy_interval"][1]
        assert len(row["accuracy_by_seed"]) == 2
        assert sum(row["accuracy_by_seed"]) / 2 == pytest.approx(row["accuracy"])
        # Who solves an example has its first token right: there is one right answer.
        assert 0 <= row["accuracy"] <= row["first_token"] <= 1
        # Two seeds, whose logs say what a step took.
        means = [sum(m["seconds"] for m in its) / len(its) for its in logged]
        assert any((a + b) / 2 == pytest.approx(row["training_seconds_per_step"]) for a in means for b in means)
        assert row["seconds_per_example"] > 0  # what it is of is tested with times made by hand, below
        assert row["lr"] in STUDY.rates and row["seeds"] == [0, 1]


def test_a_result_is_read_back_as_it_was(done):
    runs, _, result = done
    path = result.save(runs / "out")
    record, again = json.loads(path.read_text()), read_result(path)
    assert from_record(ArLatentsStudy, record["config"]) == STUDY
    assert (again.study, again.rows, again.claims, again.notes) == (
        "ar-latents",
        result.rows,
        result.claims,
        result.notes,
    )


# Entries of each pass. Of path-star 6 tokens are given and 2 said; of the boards 6 are given and 10 said.
ENTRIES = {
    ("next token", "", "left to right"): ([6, 1], [6] + [1] * 9),
    ("mask slot", "1", "left to right"): ([6 + 1, 1 + 1], [6 + 1] + [1 + 1] * 9),
    ("pause", "all", "left to right"): ([6 + 2, 1 + 1], [6 + 10, *(1 + left for left in range(9, 0, -1))]),
    ("AR + MTP", "2", "left to right"): ([6 + 2, 1 + 1], [6 + 2, *[1 + 2] * 8, 1 + 1]),
    ("teacherless", "all", "one pass"): ([8], [16]),
    ("MuToR", "", "left to right"): ([6, 1], [6] + [1] * 9),
    ("MDM", "all", "left to right"): ([8] * 2, [16] * 10),
    ("MDM", "all", "confidence"): ([8] * 2, [16] * 10),
}


@pytest.mark.parametrize("method", ENTRIES, ids=" ".join)
def test_costs_are_of_the_passes_alone(rows, method):
    """With a cache a pass is what was said last and the masks; MDM and a single pass have the whole sequence."""
    for task, entries in zip(("path-star", "sudoku"), ENTRIES[method], strict=True):
        row = rows[task, *method]
        assert row["passes"] == len(entries)
        assert row["entries_per_pass"] == pytest.approx(sum(entries) / len(entries))


def test_speculation_says_the_same_in_no_more_passes(rows):
    for task in ("path-star", "sudoku"):
        slow, fast = (rows[task, "AR + MTP", "all", way] for way in ("left to right", "speculation"))
        for name in ("accuracy", "accuracy_by_seed", "first_token"):
            assert fast[name] == slow[name]
        assert fast["passes"] <= slow["passes"]
        assert rows[task, "AR + MTP", "all", "prefix of .9"]["passes"] <= slow["passes"]


def test_the_first_token_is_the_first_that_is_not_given(done, rows):
    """Of boards it is anywhere: judged by hand from the answers of the runs on the disk."""
    for task, setting in (("path-star", STAR), ("sudoku", BOARD)):
        for method in setting.methods():
            way, decoding = next(iter(method.decodings.items()))
            row = rows[task, method.name, method.window, way]
            test = setting.train.task.sample("test", 20)
            shares = []
            for _, folder in STUDY.finals(task, method, row["lr"], done[0]):
                generator = torch.Generator().manual_seed(0)
                prompt = test.prompt(setting.train.task.mask_id)
                *_, last = decoding.steps(load(folder), prompt, generator=generator)
                right = [
                    bool(answer[given.tolist().index(False)] == x0[given.tolist().index(False)])
                    for answer, x0, given in zip(last.tokens, test.x0, test.given, strict=True)
                ]
                shares.append(sum(right) / 20)
            assert row["first_token"] == pytest.approx(sum(shares) / 2)


def test_the_curriculum_is_the_first_seeds_log(done, rows):
    for (task, name, window, _), row in rows.items():
        method = next(m for m in STUDY.settings[task].methods() if (m.name, m.window) == (name, window))
        logged = Run(STUDY.finals(task, method, row["lr"], done[0])[0][1]).metrics()
        seen = [(m["step"], m["slots"]) for m in logged if "slots" in m]
        assert list(zip(row["curriculum"]["step"], row["curriculum"]["slots"], strict=True)) == seen
    assert [len(s) for s in rows["path-star", "AR + MTP", "all", "left to right"]["curriculum"]["slots"]] == [2, 2]


def test_the_rate_is_the_one_that_solves_most_of_validation(done, rows):
    """Recomputed from the runs on the disk: by solved examples, then by the loss; with the first seed alone.

    Boards choose after two of four steps.
    """
    for task, setting in (("path-star", STAR), ("sudoku", BOARD)):
        held_out = setting.train.task.sample("validation", 20)
        for method in setting.methods():
            way, decoding = next(iter(method.decodings.items()))
            merit = {}
            for rate in STUDY.rates:
                folder = STUDY.job(task, method, rate, 0, 4 if task == "path-star" else 2, done[0])[1]
                prompt = held_out.prompt(setting.train.task.mask_id)
                *_, last = decoding.steps(load(folder), prompt, generator=torch.Generator().manual_seed(0))
                solved = int(setting.train.task.score(prompt, last.tokens).sum())
                merit[solved, -Run(folder).metrics()[-1]["validation"]] = rate
            assert rows[task, method.name, method.window, way]["lr"] == merit[max(merit)]


def test_only_the_chosen_rate_is_trained_with_every_seed_and_to_the_end(done, rows):
    """Of path-star the run that chose is the first seed's; of boards it stops at two steps, and another is trained."""
    trained = {f"{p.parent.name}/{p.name}": Run(p).checkpoints()[-1][0] for p in done[0].glob("*/*-seed*")}
    expected = {}
    for task, setting in (("path-star", STAR), ("sudoku", BOARD)):
        for method in setting.methods():
            lr = rows[task, method.name, method.window, next(iter(method.decodings))]["lr"]
            short = 4 if task == "path-star" else 2
            for rate, seed, steps in [(rate, 0, short) for rate in STUDY.rates] + [(lr, 0, 4), (lr, 1, 4)]:
                folder = STUDY.job(task, method, rate, seed, steps, done[0])[1]
                expected[f"{folder.parent.name}/{folder.name}"] = steps
    assert trained == expected and len(expected) == 8 * (2 + 1) + 8 * (2 + 2)


def test_the_work_done_rises_to_all_of_it_in_each_stage(done):
    stages = done[1]
    by_text: dict[str, list[Stage]] = {}
    for stage in stages:
        by_text.setdefault(stage.text.split(":")[0], []).append(stage)
    assert list(by_text) == [
        "training every learning rate",
        "choosing learning rates",
        "training",
        "decoding",
    ]
    for group in by_text.values():
        assert all(a.done <= b.done <= b.total == a.total for a, b in pairwise(group))
    assert by_text["training every learning rate"][-1].done == 8 * 2 * (4 + 2)  # methods, rates, steps
    assert by_text["training"][-1].done == 8 * 2 * (4 + 4)  # methods, seeds, steps


def test_the_claim_is_one_and_does_not_hold_after_four_steps(done):
    (verdict,) = done[2].claims
    assert verdict.name == "lookahead" and not verdict.holds
    assert verdict.evidence.count("NOT SHOWN") >= 2


# --- from the command line: the runs are there, so nothing is trained


def test_the_command_leaves_table_figure_and_page(done, tmp_path, capsys):
    """It finds the runs of `done` finished: the flags spell that very config."""
    before = {p: p.stat().st_mtime_ns for p in done[0].rglob("*.safetensors")}
    assert cli.main(command(done[0], tmp_path)) == 0
    out = capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in done[0].rglob("*.safetensors")} == before
    record = json.loads((tmp_path / "study.json").read_text())
    times = {"seconds_per_example", "training_seconds_per_step"}
    assert [{k: v for k, v in r.items() if k not in times} for r in record["rows"]] == [
        {k: v for k, v in r.items() if k not in times} for r in done[2].rows
    ]
    assert (tmp_path / "ar-latents.png").read_bytes().startswith(b"\x89PNG\r\n")
    page = (tmp_path / "README.md").read_text()
    assert page.count("\n| path-star | ") == page.count("\n| sudoku | ") == len(METHODS)
    assert "lookahead: does not hold" in out and "8 methods x 2 seed(s) x 4 steps of 8 on path-star" in out
    for method, *_ in METHODS:
        assert re.search(rf"^sudoku +{re.escape(method)} ", out, re.MULTILINE)
    assert cli.main(["show", str(tmp_path / "study.json")]) == 0
    assert "lookahead: does not hold" in capsys.readouterr().out


def test_runs_of_another_budget_are_refused_though_they_are_finished(done, tmp_path, capsys):
    assert cli.main(command(done[0], tmp_path / "out", path_star_train_batch="16")) == 2
    assert "(it differs in batch)" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path_star_examples": "21"}, "21 examples of test asked for"),
        ({"sudoku_examples": "21"}, "21 examples of test asked for"),
        ({"sudoku_windows": "2 4"}, "0 (all that is left) at the end"),
        ({"rates": "1e-3 1e-3"}, "give each once"),
        ({"workers": "0"}, "workers=0"),
    ],
    ids=str,
)
def test_a_study_that_can_not_be_ends_in_2_before_any_work(tmp_path, capsys, changes, said):
    runs = tmp_path / "runs"
    try:
        code = cli.main(command(runs, tmp_path / "out", **changes))
    except SystemExit as stop:  # tyro's, where a part of the config refuses
        code = stop.code
    assert code == 2
    assert said in " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().err).split())
    assert not runs.exists()


@pytest.mark.slow
def test_with_its_own_processes_it_finds_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)  # one thread each, as in this process
    short = [replace(setting, seeds=(0,), choosing=0) for setting in (STAR, BOARD)]
    config = replace(STUDY, path_star=short[0], sudoku=short[1], rates=STUDY.rates[:1])
    *stages, result = config.run(tmp_path)
    assert isinstance(result, Result) and stages
    times = {"seconds_per_example", "training_seconds_per_step"}
    with in_process():
        *_, again = config.run(tmp_path / "again")
    assert isinstance(again, Result)
    for row, other in zip(result.rows, again.rows, strict=True):
        assert {k: v for k, v in row.items() if k not in times} == {k: v for k, v in other.items() if k not in times}


# --- choices


def chosen_rate(monkeypatch, tmp_path: Path, made: dict[float, tuple[float, float]]) -> tuple[float, float]:
    """What `_best_rate` chooses where a rate solves such a share of validation at such a validation loss."""
    method, asked = STAR.methods()[4], []

    def solved(folder: Path, setting: Setting, examples: Any, decoding: Any, batch: int) -> Any:
        asked.append((folder, examples, decoding))
        rate = next(r for r in made if folder.name.endswith(f"lr{r:g}-4steps-seed0"))
        return SimpleNamespace(right=torch.arange(20) < 20 * made[rate][0])

    config = replace(STUDY, rates=tuple(made))
    for rate, (_, loss) in made.items():
        folder = config.job("path-star", method, rate, 0, 4, tmp_path)[1]
        folder.mkdir(parents=True)
        for step, value in ((2, 9.0), (4, loss)):
            Run(folder).log(step=step, loss=1.0, validation=value)
    monkeypatch.setattr(ar_latents, "_solved", solved)
    monkeypatch.setattr(ar_latents, "finished", lambda job: made[job[0].lr][0] >= 0)
    found = ar_latents._best_rate(config, "path-star", method, tmp_path)
    held_out = STAR.train.task.sample("validation", 20)
    for _, examples, decoding in asked:
        assert torch.equal(examples.x0, held_out.x0)
        assert decoding == method.decodings["left to right"]
    return found


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({1e-3: (0.5, 1.0), 2e-3: (0.6, 2.0), 4e-3: (0.4, 0.1)}, (0.6, 2e-3)),
        ({1e-3: (0.6, 2.0), 2e-3: (0.5, 1.0)}, (0.6, 1e-3)),
        ({1e-3: (0.5, 1.0), 2e-3: (0.5, 2.0)}, (0.5, 1e-3)),
        ({1e-3: (0.5, 2.0), 2e-3: (0.5, 1.0)}, (0.5, 2e-3)),
        ({1e-3: (0.25, 2.0)}, (0.25, 1e-3)),
        ({1e-3: (0.0, 2.0), 2e-3: (-1.0, 0.0)}, (0.0, 1e-3)),
    ],
    ids=["solves most", "whatever the loss", "of equals the lower loss", "not the first", "one alone", "one diverged"],
)
def test_the_better_rate_is_chosen_by_validation(monkeypatch, tmp_path, made, expected):
    assert chosen_rate(monkeypatch, tmp_path, made) == expected


def test_where_every_rate_diverged_it_is_said(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"AR \+ MTP diverged on path-star at every rate"):
        chosen_rate(monkeypatch, tmp_path, {1e-3: (-1.0, 0.0)})


@pytest.mark.parametrize("best", ["2", "all"])
def test_the_window_of_the_verdict_is_chosen_by_validation(done, monkeypatch, best):
    """Not by what it solves of the test examples, which here is the other way round."""
    given = []

    def rate(config: ArLatentsStudy, name: str, method: Any, runs: Path) -> tuple[float, float]:
        return (0.9 if method.window == best else 0.1), STUDY.rates[0]

    def measure(config: ArLatentsStudy, name: str, method: Any, *_: Any) -> tuple[dict[str, Any], torch.Tensor]:
        return {}, torch.full((2, 20), 0.1 if method.window == best else 0.9)

    monkeypatch.setattr(ar_latents, "_best_rate", rate)
    monkeypatch.setattr(ar_latents, "_measure", measure)
    monkeypatch.setattr(ar_latents, "trained", lambda *_, **__: iter(()))
    monkeypatch.setattr(ar_latents, "lookahead", lambda right, chance, window: given.append((chance, window)))
    *_, result = STUDY.run(done[0])
    assert isinstance(result, Result) and given == [(1 / 2, best)]


def test_a_row_is_made_of_what_was_solved(monkeypatch, tmp_path):
    """Seed 0 solves the first 10 of 20, seed 1 the first 4, and each has the first token right of 5 examples more."""
    method, asked = STAR.methods()[4], []
    test = STAR.train.task.sample("test", 20).by_size()

    def solved(folder: Path, setting: Setting, examples: Any, decoding: Any, batch: int) -> Solved:
        assert torch.equal(examples.x0, test.x0) and batch == STUDY.batch
        asked.append((folder, decoding))
        n = 10 if folder.name.endswith("seed0") else 4
        tokens = examples.x0.clone()
        tokens[n:, 7] = -1  # the second token said
        tokens[n + 5 :, 6] = -1
        right = (tokens == examples.x0).all(1)
        return Solved(right, tokens, passes=n, entries=2.0 * n, latents=0.0, flops=3.0 * n, seconds=4.0 * n)

    monkeypatch.setattr(ar_latents, "_solved", solved)
    folders = [folder for _, folder in STUDY.finals("path-star", method, 1e-3, tmp_path)]
    for seed, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for step, slots in ((2, {"slots": [1.5, 1.0]}), (3, {}), (4, {"slots": [1.0, 0.5]})):
            Run(folder).log(step=step, loss=1.0, seconds=step + seed, **slots)
    decoding = method.decodings["speculation"]
    row, right = ar_latents._measure(STUDY, "path-star", method, "speculation", decoding, 1e-3, tmp_path)
    assert asked == [(folder, decoding) for folder in folders]
    assert right.shape == (2, 20) and right.sum(1).tolist() == [10, 4]
    assert (row["task"], row["method"], row["window"]) == ("path-star", "AR + MTP", "all")
    assert (row["decoding"], row["lr"], row["seeds"]) == ("speculation", 1e-3, [0, 1])
    assert row["accuracy"] == pytest.approx(0.35) and row["accuracy_by_seed"] == [0.5, 0.2]
    assert row["accuracy_interval"] == pytest.approx(list(share_interval(right)))
    assert row["first_token"] == pytest.approx((15 + 9) / 40)
    costs = ("passes", "entries_per_pass", "flops_per_example", "seconds_per_example")
    assert [row[name] for name in costs] == [7, 14, 21, 28]
    assert row["training_seconds_per_step"] == pytest.approx((3 + 4) / 2)
    assert row["curriculum"] == {"step": [2, 4], "slots": [[1.5, 1.0], [1.0, 0.5]]}


# --- one budget


CONFIGS = {"tiny": STUDY, "reference": presets.ar_latents(), "quick": presets.ar_latents_quick()}


@pytest.mark.parametrize("name", CONFIGS)
def test_methods_differ_in_what_a_pass_holds_and_in_nothing_else(name):
    config, varied = CONFIGS[name], {"objective", "attention", "lr", "seed"}
    for task, setting in config.settings.items():
        methods = setting.methods()
        jobs = [job for m in methods for rate in config.rates for job in config.finals(task, m, rate, Path("runs"))]
        assert len({folder for _, folder in jobs}) == len(methods) * len(config.rates) * len(setting.seeds)
        assert len({repr(train_config) for train_config, _ in jobs}) == len(jobs)
        for train_config, _ in jobs:
            for field in fields(Train):
                if field.name not in varied:
                    assert getattr(train_config, field.name) == getattr(setting.train, field.name)


def test_runs_that_choose_differ_from_those_measured_in_their_steps_alone():
    method = BOARD.methods()[0]
    (short, here), (whole, there) = (STUDY.job("sudoku", method, 1e-3, 0, steps, Path("runs")) for steps in (2, 4))
    assert here != there and replace(short, steps=4) == whole
    assert STUDY.finals("sudoku", method, 1e-3, Path("runs"))[0] == (whole, there)
    assert (BOARD.first_steps, STAR.first_steps) == (2, 4)


@pytest.mark.parametrize("name", ["reference", "quick"])
def test_windows_ask_about_as_many_questions(name):
    """Of boards: thresholds times window is the number asked for, to half a window."""
    setting = CONFIGS[name].sudoku
    blocks = [m.objective for m in setting.methods() if m.name == "AR + MTP"]
    assert [b.window for b in blocks if isinstance(b, MultiToken)] == list(setting.windows)
    for block in blocks:
        assert isinstance(block, MultiToken)
        if block.window:
            assert abs(block.prefixes * block.window - setting.questions) <= block.window / 2
        else:
            assert block.prefixes == 1


def test_the_quick_study_is_the_reference_with_one_seed_and_rate():
    quick, whole = CONFIGS["quick"], CONFIGS["reference"]
    assert len(quick.rates) == 1 and set(quick.rates) <= set(whole.rates)
    for mine, its in zip(quick.settings.values(), whole.settings.values(), strict=True):
        assert len(mine.seeds) == 1 and mine.choosing == 0  # with one rate there is nothing to choose
        assert replace(mine, seeds=its.seeds, choosing=its.choosing) == its
    assert replace(quick, path_star=whole.path_star, sudoku=whole.sudoku, rates=whole.rates) == whole


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("rates", (), "rates"),
        ("rates", (1e-3, 0.0), "rates above 0"),
        ("rates", (1e-3, float("nan")), "rates above 0"),
        ("rates", (1e-3, 1e-3), "each once"),
        ("rates", (1e-3, 1e-3 + 1e-12), "each once"),  # they would share a folder
        ("workers", 0, "workers"),
        ("batch", 0, "batch"),
    ],
)
def test_a_study_that_can_not_be_is_refused_when_it_is_made(field, value, said):
    with pytest.raises(ValueError, match=said):
        replace(STUDY, **{field: value})


def test_path_star_is_path_star():
    """Its degree is the chance that the verdict compares with."""
    with pytest.raises(ValueError, match="path_star is 4x4 Sudoku"):
        replace(STUDY, path_star=BOARD)


def test_without_validation_examples_nothing_can_be_chosen(tmp_path):
    blind = replace(STAR, train=replace(STAR.train, task=replace(STAR.train.task, validation=0)))
    with pytest.raises(ValueError, match="no validation examples"):
        next(replace(STUDY, path_star=blind).run(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("windows", ()),
        ("windows", (2, 4)),
        ("windows", (0, 2)),
        ("windows", (4, 2, 0)),
        ("windows", (2, 2, 0)),
        ("windows", (-1, 0)),
        ("seeds", ()),
        ("seeds", (0, 0)),
        ("questions", -1),
        ("choosing", -1),
        ("choosing", 5),
        ("examples", 0),
    ],
)
def test_a_setting_that_can_not_be_is_refused_when_it_is_made(field, value):
    with pytest.raises(ValueError, match=field):
        replace(STAR, **{field: value})

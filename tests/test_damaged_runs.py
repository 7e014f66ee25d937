"""Run folders that another process holds, that lost files, or whose files are not as they were written."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from toy import TRUNK

from unspoken import cli
from unspoken.cli import commands, runs
from unspoken.messages import quoted
from unspoken.tasks import Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.loading import load
from unspoken.training.loop import train, training
from unspoken.training.models import new_denoiser
from unspoken.training.run import Run

TASK = Sudoku(2, 2, givens=6, train=200, validation=10, test=10)
CONFIG = Train(TASK, trunk=TRUNK, steps=4, batch=4, warmup=2, save=2, log=1, validate=2)
KEPT = replace(CONFIG, keep=2)


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(KEPT, folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A copy of a finished run, to be damaged."""
    return Run(Path(shutil.copytree(trained, tmp_path / "run")))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command line says that ends with 2, and not with a traceback."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 2
    return capsys.readouterr().err


# --- two trainings on one folder


def test_a_second_training_of_a_folder_is_refused_and_the_first_goes_on(tmp_path):
    folder = tmp_path / "run"
    first = training(CONFIG, folder)
    next(first)
    before = files(folder)
    with pytest.raises(ValueError) as refused:
        next(training(CONFIG, folder))
    who = f"process {os.getpid()} on {platform.node()}"
    assert str(refused.value) == f"{folder} is being trained by {who}; wait for it, or stop it"
    assert files(folder) == before
    assert [update.step for update in first] == [2, 3, 4]
    assert [m["step"] for m in Run(folder).metrics()] == [1, 2, 3, 4]


def test_a_training_that_was_closed_or_failed_lets_the_folder_go(tmp_path):
    first = training(CONFIG, tmp_path)
    next(first)
    first.close()  # type: ignore[attr-defined]
    with pytest.raises(FloatingPointError):
        train(replace(CONFIG, lr=1e30, warmup=0), tmp_path / "diverges")
    for folder in (tmp_path, tmp_path / "diverges"):
        assert not (folder / ".holder").exists()
        with Run(folder).alone():
            pass
    train(CONFIG, tmp_path)


HOLD = "import sys, pathlib, time; from unspoken.training.run import Run\nwith Run(pathlib.Path(sys.argv[1])).alone():"


def test_the_lock_goes_with_its_process(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", f"{HOLD}\n  time.sleep(600)", str(tmp_path)])
    while not (tmp_path / ".holder").exists():
        time.sleep(0.01)
        assert child.poll() is None
    with pytest.raises(ValueError, match=f"by process {child.pid} on"):
        train(CONFIG, tmp_path)
    child.kill()
    child.wait()
    train(CONFIG, tmp_path)
    assert [m["step"] for m in Run(tmp_path).metrics()] == [1, 2, 3, 4]


# --- nothing is written before all is checked


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_task_that_fails_leaves_nothing_and_the_corrected_command_works(tmp_path, monkeypatch, split):
    sample = Sudoku.sample

    def fails(self, which, *more):
        if which == split:
            raise ValueError("line 3 is no puzzle")
        return sample(self, which, *more)

    folder = tmp_path / "runs" / "run"
    with monkeypatch.context() as broken:
        broken.setattr(Sudoku, "sample", fails)
        with pytest.raises(ValueError, match="line 3 is no puzzle"):
            train(CONFIG, folder)
    assert not list(tmp_path.iterdir())
    train(replace(CONFIG, lr=1e-3), folder)


# --- records that are gone


def test_a_run_without_its_config_is_refused_with_the_remedy(run, capsys):
    path = run.folder / "config.json"
    text = path.read_bytes()
    path.unlink()
    before = files(run.folder)
    for config in (KEPT, replace(KEPT, lr=1e-5)):
        with pytest.raises(
            ValueError, match=rf"{re.escape(str(path))} is missing.*put config.json back, or give another"
        ):
            train(config, run.folder)
    assert files(run.folder) == before
    assert "config.json" in refused(capsys, "show", run.folder)
    assert "config.json" in refused(capsys, "solve", run.folder)
    path.write_bytes(text)
    train(KEPT, run.folder)


def test_a_run_without_its_environment_trains_solves_and_shows(run, capsys):
    (run.folder / "environment.json").unlink()
    kept = load(run.folder).state_dict()
    model = train(KEPT, run.folder)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert cli.main(["solve", str(run.folder)]) == 0 and cli.main(["show", str(run.folder)]) == 0
    assert "4 of 4 steps are saved; environment.json is missing" in capsys.readouterr().out


def test_a_young_run_without_its_environment_is_no_model_yet(tmp_path):
    for _ in islice(training(KEPT, tmp_path), 1):
        pass
    (tmp_path / "environment.json").unlink()
    with pytest.raises(ValueError, match="no complete checkpoint yet"):
        load(tmp_path)


@pytest.mark.parametrize(("kept", "missing", "more"), [([], 4, 0), ([0, 3], 2, 0), ([0, 1, 1, 2, 3], 0, 1)], ids=str)
def test_lost_and_doubled_lines_of_the_log_are_told(run, kept, missing, more):
    lines = run.metrics_file.read_text().splitlines(keepends=True)
    run.metrics_file.write_text("".join(lines[i] for i in kept))
    told = rf"of 4 lines up to step 4, {missing} are missing and {more} are there twice"
    with pytest.warns(UserWarning, match=re.escape(str(run.metrics_file)) + ".*" + told):
        train(KEPT, run.folder)
    assert [m["step"] for m in run.metrics()] == sorted({i + 1 for i in kept})


def test_a_log_that_is_gone_is_told(run):
    run.metrics_file.unlink()
    with pytest.warns(UserWarning, match="4 are missing"):
        train(KEPT, run.folder)


def test_a_log_is_expected_to_hold_what_training_logs(tmp_path):
    """Every step of it, with whatever periods: a warning would fail the test."""
    config = replace(CONFIG, steps=11, log=4, save=3, validate=5)
    updates = training(config, tmp_path)
    assert [next(updates).step for _ in range(10)][-1] == 10
    updates.close()  # type: ignore[attr-defined]
    assert [m["step"] for m in Run(tmp_path).metrics()] == [3, 4, 5, 6, 8, 9, 10]
    train(config, tmp_path)
    assert [m["step"] for m in Run(tmp_path).metrics()] == config.logged(11) == [3, 4, 5, 6, 8, 9, 10, 11]


# --- records of another shape

SHAPES = ["[]", "7", '"text"', "null", "{", "", "[" * 100_000, "\xff\xfe"]


@pytest.mark.parametrize("text", [*SHAPES, "{}", '{"type": "Train"}', '{"type": "Train", "task": 3}'], ids=quoted)
def test_a_config_of_another_shape_is_refused_with_its_path(run, capsys, text):
    path = run.folder / "config.json"
    path.write_text(text, encoding="latin-1")
    before = files(run.folder)
    for read in (lambda: run.config(Train), lambda: train(KEPT, run.folder)):
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read()
    assert files(run.folder) == before
    assert str(path) in refused(capsys, "show", run.folder)
    assert str(path) in refused(capsys, "solve", run.folder)


@pytest.mark.parametrize("text", [*SHAPES, '{"date": 3, "machine": "m"}', '{"date": "d", "machine": [1]}'], ids=quoted)
def test_an_environment_of_another_shape_is_refused_with_its_path(run, capsys, text):
    path = run.folder / "environment.json"
    path.write_text(text, encoding="latin-1")
    assert str(path) in refused(capsys, "show", run.folder)


LINES = ["{}", '{"step": 2}', '{"loss": 2}', '{"step": 1.5, "loss": 1}', '{"step": true, "loss": 1}']
VALUES = ['{"step": "2", "loss": 1}', '{"step": 2, "loss": "a"}', '{"step": 2, "loss": 1, "validation": [1]}', "\0" * 9]


@pytest.mark.parametrize("line", [*SHAPES, *LINES, *VALUES, '{"step": 2, "lo'], ids=quoted)
def test_a_line_of_the_log_of_another_shape_is_refused_with_its_place(run, capsys, line):
    lines = run.metrics_file.read_bytes().split(b"\n")
    lines[1] = line.encode("latin-1")
    run.metrics_file.write_bytes(b"\n".join(lines))
    before = files(run.folder)
    where = f"{run.metrics_file}, line 2"
    for read in (run.metrics, lambda: train(KEPT, run.folder)):
        with pytest.raises(ValueError, match=re.escape(where)):
            read()
    assert files(run.folder) == before
    assert where in refused(capsys, "show", run.folder)


# --- checkpoints that are damaged

HOSTILE = b"cos\nsystem\n(S'touch %s'\ntR."
DAMAGE: dict[str, Callable[[bytes, Path], bytes]] = {
    "empty": lambda whole, _: b"",
    "half": lambda whole, _: whole[: len(whole) // 2],
    "zeros": lambda whole, _: bytes(len(whole)),
    "hostile": lambda whole, ran: HOSTILE % str(ran).encode(),
    "another": lambda whole, _: b"\x80\x02}q\x00.",  # the pickle of {}
}


def without_sums(checkpoint: Path) -> None:
    """As checkpoints of before were: what is wrong with a file is left to its readers."""
    (checkpoint / "state.json").unlink()


@pytest.mark.parametrize("name", ["optimizer.bin", "model.safetensors", "random_states_0.pkl"])
@pytest.mark.parametrize("at", [0.2, 0.9])
def test_a_flipped_bit_of_the_state_is_noticed(run, name, at):
    """Most of them are other numbers, which any reader takes."""
    last = run.checkpoints()[-1][1]
    path = last / "state" / name
    whole = bytearray(path.read_bytes())
    whole[int(at * len(whole))] ^= 4
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=f"step-0000004 is damaged .state/{name} is missing or not as it was saved"):
        train(KEPT, run.folder)


def test_a_checkpoint_without_sums_is_gone_on_from(run, trained):
    shutil.rmtree(run.checkpoints()[-1][1])
    without_sums(run.checkpoints()[-1][1])
    model, whole = train(KEPT, run.folder), load(trained).state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["state/optimizer.bin", "state/model.safetensors", "denoiser/model.safetensors"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_goes_on(run, trained, tmp_path, capsys, name, damage):
    (_, first), (_, last) = run.checkpoints()
    without_sums(first)
    without_sums(last)
    (last / name).write_bytes(DAMAGE[damage]((last / name).read_bytes(), tmp_path / "ran"))
    before = files(run.folder)
    with pytest.raises(ValueError) as said:
        train(KEPT, run.folder)
    assert str(last) in str(said.value) and str(said.value).endswith("remove this folder to go on from step 2")
    assert files(run.folder) == before and not (tmp_path / "ran").exists()

    shutil.rmtree(last)
    model = train(KEPT, run.folder)
    assert all(torch.equal(value, load(trained).state_dict()[name]) for name, value in model.state_dict().items())
    (first / name).write_bytes(b"")
    shutil.rmtree(last)
    with pytest.raises(ValueError, match=re.escape(str(first)) + ".*remove this folder to begin anew"):
        train(KEPT, run.folder)


@pytest.mark.parametrize("damage", ["no moments", "moments of other weights"])
def test_an_optimizer_of_other_weights_is_refused(run, damage):
    path = run.checkpoints()[-1][1] / "state" / "optimizer.bin"
    without_sums(run.checkpoints()[-1][1])
    state = torch.load(path, weights_only=True)
    if damage == "no moments":
        state["state"] = {}
    else:
        state["state"][0]["exp_avg"] = state["state"][0]["exp_avg"][:-1]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"step-0000004 is damaged .*the optimizer's state is not of these weights"):
        train(KEPT, run.folder)


def test_a_checkpoint_without_its_state_is_refused(run):
    shutil.rmtree(run.checkpoints()[-1][1] / "state")
    with pytest.raises(ValueError, match="step-0000004 is damaged"):
        train(KEPT, run.folder)


def test_what_is_no_checkpoint_is_none(run):
    (run.folder / "checkpoints" / "step-0000009").write_text("a file")
    (run.folder / "checkpoints" / "step-old").mkdir()
    assert [step for step, _ in run.checkpoints()] == [2, 4]


# --- a full disk


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file may grow past so many bytes: writes fail as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_in_words_and_the_last_whole_checkpoint_stands(trained, tmp_path, monkeypatch, capsys):
    """At every size of disk: each file of a checkpoint is in turn the one that does not fit."""
    sizes = sorted({len(text) for text in files(trained).values()} | {0, 8, 100, 2_000})
    said: set[str] = set()
    command = runs.TrainRun(KEPT, tmp_path)
    monkeypatch.setattr(commands, "parse", lambda words: command)
    for size in sizes:
        folder = tmp_path / str(size)
        updates = training(KEPT, folder)
        for _ in islice(updates, 3):
            pass
        updates.close()  # type: ignore[attr-defined]
        command = runs.TrainRun(KEPT, folder)
        capsys.readouterr()
        with files_of_at_most(max(size - 1, 0)):
            assert cli.main([]) == 2
        error = capsys.readouterr().err
        what = re.search(r"error: (.*) could not be written", error)
        assert what and f"{folder / 'checkpoints' / 'step-0000002'} stands, and the same command" in error
        said.add(what[1])
        assert [step for step, _ in Run(folder).checkpoints()] == [2]
        train(KEPT, folder)
        assert Run(folder).metrics()[-1]["loss"] == Run(trained).metrics()[-1]["loss"]
    assert "the checkpoint of step 4" in said and any(what.startswith("the log") for what in said)


def test_a_disk_that_was_full_from_the_start_claims_no_folder(tmp_path):
    with (
        files_of_at_most(50),
        pytest.raises(OSError, match=r"config.json and .* could not be written.*none is saved yet"),
    ):
        train(KEPT, tmp_path)
    train(replace(KEPT, lr=1e-3), tmp_path)


# --- sizes that no machine has


@pytest.mark.parametrize("trunk", [TRUNK, Trunk(), Trunk(3, 48, 2), Trunk(1, 24, 3, learned_positions=False)], ids=str)
def test_a_trunk_counts_its_weights(trunk):
    made = new_denoiser(replace(CONFIG, trunk=trunk))
    assert trunk.parameters(TASK.vocab_size, TASK.length) == sum(p.numel() for p in made.parameters())


TRUNKS = [Trunk(10**9), Trunk(10**9, 2, 1), Trunk(2**62), Trunk(4, 8 * 10**7), Trunk(1, 2**62, 1)]


@pytest.mark.parametrize("huge", [*({"trunk": trunk} for trunk in TRUNKS), {"batch": 2**40}], ids=str)
def test_what_no_memory_holds_is_refused_before_anything_is_written(tmp_path, huge):
    with pytest.raises(ValueError, match=r"takes [\d,]+ GB, and this machine has [\d,]+ GB"):
        train(replace(CONFIG, **huge), tmp_path / "run")
    assert not (tmp_path / "run").exists()


WHOLE = ["steps", "batch", "accumulate", "warmup", "seed", "validate", "save", "log", "keep", "lr", "weight_decay"]


@pytest.mark.parametrize("value", [2**63, 10**400, 10**5000], ids=["2**63", "10**400", "10**5000"])
@pytest.mark.parametrize("name", WHOLE)
def test_an_integer_beyond_64_bits_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is beyond 2\*\*63"):
        replace(CONFIG, **{name: value})


@pytest.mark.parametrize("name", ["layers", "width", "heads"])
def test_a_trunk_of_an_integer_beyond_64_bits_is_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"^{name} is beyond 2\*\*63"):
        replace(TRUNK, **{name: 10**400})


@pytest.mark.parametrize(
    ("name", "value"), [("lr", float("inf")), ("lr", 1e39), *[("weight_decay", w) for w in (float("nan"), 1e39)]]
)
def test_a_rate_that_float32_does_not_hold_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        replace(CONFIG, **{name: value})

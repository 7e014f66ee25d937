"""Run folders that another process holds, that lost files, or whose files are not as they were written."""

import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from toy import TRUNK

from unspoken.tasks import Sudoku
from unspoken.training.config import Train
from unspoken.training.loop import train, training
from unspoken.training.run import Run

TASK = Sudoku(2, 2, givens=6, train=200, validation=10, test=10)
CONFIG = Train(TASK, trunk=TRUNK, steps=4, batch=4, warmup=2, save=2, log=1, validate=2)


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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

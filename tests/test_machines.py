"""What the package must do on machines unlike this one: Windows, no home directory, an interrupted start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unspoken.record import environment
from unspoken.tasks.store import cache_dir

DRAWS = """
from unspoken.tasks import Sat
assert len(Sat(train=20, validation=2, test=2).sample("test", 2)) == 2
"""

TRAINS = """
import unspoken as us
from unspoken.tasks import Sudoku
trunk = us.Trunk(layers=1, width=16, heads=2)
task = Sudoku(2, 2, givens=6, train=50, validation=5, test=5)
us.train(us.Train(task, trunk=trunk, steps=2, batch=4, warmup=1), "run")
us.load("run")
"""

# On Windows there is no fcntl, and a folder can not be opened.
WINDOWS = """
import sys, os
sys.modules["fcntl"] = None
opened = os.open
def open_file(path, *rest, **named):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, *rest, **named)
os.open = open_file
"""

# A user without a home directory, whose packages are not theirs to write: numba finds no place for what it compiled.
NO_PLACE = """
from numba.core import caching
from unspoken.tasks import Sudoku
caching.CacheImpl._locator_classes = []
Sudoku(2, 2).encode("123434122143432.")
"""


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME", "UNSPOKEN_CACHE")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env | environment, cwd=folder, capture_output=True, text=True)


def test_on_windows_examples_are_drawn_and_a_run_is_trained(tmp_path):
    done = run(WINDOWS + DRAWS + TRAINS, tmp_path, UNSPOKEN_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr


def test_no_writable_home(tmp_path):
    """Whatever needs no cache works; what needs one says which variable names it."""
    done = run(NO_PLACE, tmp_path)
    assert done.returncode == 0, done.stderr
    home = tmp_path / "file"
    home.write_text("not a folder")
    done = run(DRAWS, tmp_path, HOME=str(home))
    assert "ValueError" in done.stderr and "set UNSPOKEN_CACHE to a writable directory" in done.stderr


def test_a_user_whose_home_is_unknown_is_told_what_to_set(monkeypatch):
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("UNSPOKEN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ValueError, match="set UNSPOKEN_CACHE to a writable directory"):
        cache_dir()


def test_the_commit_is_unknown_where_there_is_no_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["commit"] is None


@pytest.mark.parametrize("after", [0.1, 0.5, 1.0])
def test_an_interrupt_while_the_command_is_loading_leaves_no_traceback(after):
    code = "import time; print('began', flush=True); from unspoken.cli import main; main(['tasks', 'list'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "began\n"
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert "Traceback" not in errors
    assert process.returncode in (-signal.SIGINT, 130, 0)

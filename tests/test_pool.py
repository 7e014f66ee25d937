"""Laws of training many runs at a time: each is as if it were alone, and what ends the whole ends them all."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import TRUNK

from unspoken.layout.attention import CACHED_ALONE
from unspoken.tasks import PathStar
from unspoken.training.config import Train
from unspoken.training.loading import load
from unspoken.training.loop import train, training
from unspoken.training.objective import NextTokenPrediction
from unspoken.training.pool import finished, train_all
from unspoken.training.run import Run

CONFIG = Train(
    PathStar(2, 3, 8, validation=10, test=10),
    attention=CACHED_ALONE,
    objective=NextTokenPrediction(),
    trunk=TRUNK,
    steps=6,
    batch=8,
    warmup=2,
    save=2,
    validate=3,
    log=1,
)
ENDLESS = 10**6  # steps


def curve(folder: Path) -> list[dict[str, Any]]:
    """Everything that is logged but how long it took."""
    return [{k: v for k, v in m.items() if k != "seconds"} for m in Run(folder).metrics()]


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def seeds(*numbers: int) -> list[Train]:
    return [replace(CONFIG, seed=n) for n in numbers]


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> tuple[Path, list[int], dict, dict]:
    """Four runs, two at a time: one finished before, one stopped after step 3, two new.

    Their folder, what was yielded, and the finished one's files before and after.
    """
    folder = tmp_path_factory.mktemp("together")
    finished, half, *_ = seeds(0, 1, 2, 3)
    train(finished, folder / "0")
    list(islice(training(half, folder / "1"), 3))
    before = files(folder / "0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 2)  # one thread each, as in this process
        done = list(train_all([(config, folder / str(config.seed)) for config in seeds(0, 1, 2, 3)], workers=2))
    return folder, done, before, files(folder / "0")


@pytest.mark.parametrize("config", seeds(0, 1, 2, 3), ids=["finished", "half done", "new", "new too"])
def test_each_run_is_as_if_it_were_alone(together, tmp_path, config):
    """Every number that is logged and every weight, to the last bit."""
    folder = together[0] / str(config.seed)
    alone = train(config, tmp_path / "run")
    assert curve(folder) == curve(tmp_path / "run") and len(curve(folder)) == CONFIG.steps
    pairs = zip(load(folder).state_dict().items(), alone.state_dict().items(), strict=True)
    assert all(n == m and torch.equal(a, b) for (n, a), (m, b) in pairs)


def test_the_steps_done_rise_to_all_of_them(together):
    _, done, _, _ = together
    assert done and all(a <= b for a, b in pairwise(done))
    assert done[0] >= CONFIG.steps + 2 and done[-1] == 4 * CONFIG.steps  # finished ones count


def test_a_finished_run_is_not_touched(together):
    _, _, before, after = together
    assert before and before == after


def test_where_all_is_done_nothing_is_started(together, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_context", lambda *_: pytest.fail("a process was started"))
    assert list(train_all([(config, together[0] / str(config.seed)) for config in seeds(0, 1)], workers=2)) == []


def test_a_folder_of_another_run_is_refused_before_any_work(together, tmp_path):
    """A finished one too: its numbers would be taken for this budget's."""
    other = replace(seeds(0)[0], batch=16)
    before = files(together[0])
    with pytest.raises(ValueError, match=r"it differs in batch"):
        next(train_all([(seeds(5)[0], tmp_path / "new"), (other, together[0] / "0")], workers=2))
    assert files(together[0]) == before and not (tmp_path / "new").exists()


# --- ended before the end


def no_longer_grows(folder: Path, patience: float = 120.0) -> bool:
    """Whether a run's log stays as it is for three seconds, some time soon: a run that goes on adds a line a step."""
    for _ in range(int(patience / 3)):
        lines = len(Run(folder).metrics())
        time.sleep(3)
        if len(Run(folder).metrics()) == lines:
            return True
    return False


def test_a_failing_run_ends_the_others_and_its_error_is_raised(tmp_path):
    endless, bad, later = (replace(c, steps=ENDLESS) for c in seeds(1, 2, 3))
    bad = replace(bad, lr=1e30, warmup=0)
    jobs = [(endless, tmp_path / "endless"), (bad, tmp_path / "bad"), (later, tmp_path / "later")]
    with pytest.raises(FloatingPointError, match=r"the loss is \w+ at step \d+: lower lr"):
        list(train_all(jobs, workers=2))
    assert no_longer_grows(tmp_path / "endless")
    assert not Run(tmp_path / "later").metrics()


def test_a_run_that_may_diverge_does_not_end_the_others(tmp_path):
    good, bad = (replace(CONFIG, seed=1), tmp_path / "good"), (replace(CONFIG, lr=1e30, warmup=0), tmp_path / "bad")
    list(train_all([bad, good], workers=1, may_diverge=True))
    assert finished(good) and not finished(bad)


@pytest.mark.slow
def test_a_loop_that_is_dropped_ends_its_runs(tmp_path):
    steps = train_all([(replace(CONFIG, steps=ENDLESS), tmp_path / "run")], workers=1)
    assert next(done for done in steps if done) > 0
    del steps
    assert no_longer_grows(tmp_path / "run")


PROGRAM = """
import sys
from pathlib import Path
from unspoken.training.config import Train
from unspoken.training.run import Run
from unspoken.training.pool import train_all

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    list(train_all([(Run(folder / "config").config(Train), folder / "run")], workers=1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill -9"])
def test_what_ends_the_parent_ends_the_children(tmp_path, ending):
    """And says nothing of them; the same jobs go on afterwards, to the last bit."""
    Run(tmp_path / "config").start(replace(CONFIG, steps=ENDLESS))
    (tmp_path / "program.py").write_text(PROGRAM)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal interrupts all processes of its session
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for _ in range(6_000):
            if len(Run(tmp_path / "run").metrics()) > 4 or parent.poll() is not None:
                break
            time.sleep(0.05)
        if ending == signal.SIGKILL:
            parent.kill()
        else:
            os.killpg(parent.pid, ending)
        _, said = parent.communicate(timeout=120)
    finally:
        parent.kill()
    assert parent.returncode == -ending
    assert said.count("Traceback") == (ending == signal.SIGINT)  # the parent's own
    assert no_longer_grows(tmp_path / "run")
    gone_on, alone = replace(CONFIG, steps=ENDLESS), tmp_path / "alone"
    saved = Run(tmp_path / "run").checkpoints()[-1][0]
    list(islice(training(gone_on, tmp_path / "run"), 3))
    list(islice(training(gone_on, alone), saved + 3))
    assert curve(tmp_path / "run") == curve(alone)

"""What was measured is kept: the same is not measured twice, and anything else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy import TRUNK

import unspoken as us
from unspoken.study import kept as module
from unspoken.study.kept import kept
from unspoken.tasks import Sudoku
from unspoken.training.config import Train
from unspoken.training.loading import checkpoint_folder
from unspoken.training.pool import Job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A run of one step."""
    task = Sudoku(box_rows=2, box_cols=2, givens=6, train=100, validation=2, test=2)
    config = Train(task, trunk=TRUNK, steps=1, batch=2, warmup=1, validate=1, save=1, log=1)
    us.train(config, tmp_path / "run")
    return config, tmp_path / "run"


def test_the_same_is_measured_once_and_anything_else_anew(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, calls = tmp_path / "measured.json", []

    def ask(asked: dict[str, Any]) -> Any:
        def measure() -> dict[str, Any]:
            calls.append(asked)
            return {"rows": [{"a": 1 / 3}], "call": len(calls)}

        return kept(file, [job], asked, measure)

    settings: dict[str, Any] = {"seeds": (0, 1), "train": job[0]}
    first = ask(settings)
    assert ask(settings) == first == {"rows": [{"a": 1 / 3}], "call": 1}
    assert ask(settings | {"seeds": (0, 2)})["call"] == 2, "other settings"
    assert ask(settings)["call"] == 3, "one file holds one measurement"
    file.write_text(file.read_text()[:-20])
    assert ask(settings)["call"] == 4, "half a file is none"
    monkeypatch.setattr(module, "_code", lambda: "another")
    assert ask(settings)["call"] == 5, "other code"
    model = us.load(job[1])
    next(model.trunk.parameters()).data.add_(1)
    model.save_pretrained(checkpoint_folder(job[1]))
    assert ask(settings)["call"] == 6, "other weights"
    assert ask(settings)["call"] == 6

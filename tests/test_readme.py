"""The README is short, its Python runs as it stands, and its puzzle, flags and numbers are real."""

import re
from pathlib import Path

import pytest
from pages import README, ROOT, blocks, check_commands, run

import unspoken as us
from unspoken.cli.studies import README_PUZZLE
from unspoken.layout.attention import ATTENTIONS
from unspoken.show.report import table_cells
from unspoken.study.report import read_result

TEXT = README.read_text()


def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(README)
    run(code, tmp_path, monkeypatch)
    assert len(capsys.readouterr().out.splitlines()) >= 2
    assert (tmp_path / "with-latents" / "unspoken.json").exists()


def test_it_is_short_and_details_are_elsewhere() -> None:
    """A feature more is a link more: see docs."""
    assert 110 <= len(TEXT.splitlines()) <= 130
    assert len(re.findall(r"^\| --- ", TEXT, re.MULTILINE)) == 2
    assert max(map(len, TEXT.splitlines())) <= 120


def test_words_of_the_glossary_come_after_its_link() -> None:
    before, _, _ = TEXT.partition("](docs/glossary.md)")
    assert before != TEXT
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    words = {w for cell in re.findall(r"^\| ([^|]+) \|", glossary, re.MULTILINE) for w in cell.split(", ")}
    words -= {"---", "word here", "attention", "pass", "position", "step"}  # those are the field's as they stand
    assert {"said", "unsaid", "latent", "candidate", "context", "horizon", "block", "port"} <= words
    prose = before.rpartition("[")[0].lower()
    assert [w for w in words if re.search(rf"\b{re.escape(w)}s?\b", prose)] == []


def test_the_puzzle_is_held_out() -> None:
    task = us.presets.sudoku_6x6().task
    held_out = [task.show(p) for p in task.sample("test", task.size("test")).prompt(task.mask_id)]
    assert README_PUZZLE in held_out
    assert README_PUZZLE in TEXT


def test_the_commands_are_real(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_commands(README, monkeypatch) >= 5


def test_the_numbers_are_the_committed_study() -> None:
    """Every row of the README's table stands in docs/results/latents/study.json, to the digits shown."""
    result = read_result(ROOT / "docs" / "results" / "latents" / "study.json")
    measured = {(cells[0], cells[1]): cells for cells in table_cells(result)}
    shown = re.findall(r"^\| (\w+)[^|]*\| (\w+) \| (\..*?) \| (\..*?) \| ([\d.]+) \| (\d+) \|$", TEXT, re.MULTILINE)
    assert len(shown) == 6
    for model, count, *values in shown:
        _, _, solved, nll, _, entries, flops, _ = measured[model, count]
        assert values == [solved, nll, entries, flops]
    untrained = re.findall(r"to (\.\d+) with (8|none)", TEXT.replace("\n", " "))
    assert [measured["MDM", count.replace("none", "0")][2][:4] for _, count in untrained] == [".625", ".191"]
    assert [solved for solved, _ in untrained] == [".625", ".191"]


def test_the_models_are_the_attentions() -> None:
    rows = re.findall(r"^\| `us\.(\w+)` \| (\w+) \| (\w+) \| (yes|no) \| (yes|no) \|$", TEXT, re.MULTILINE)
    assert len(rows) == len(ATTENTIONS)
    for name, context, latents, sees, cache in rows:
        rule = getattr(us, name)
        assert (context, latents) == (rule.context, rule.latents)
        assert (sees == "yes", cache == "yes") == (rule.context_sees_latents, rule.cacheable)

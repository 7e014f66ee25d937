"""The README's Python runs as it stands, and its puzzle and flags are real."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

import unspoken as us
from unspoken import cli
from unspoken.cli import solve
from unspoken.decoders.decode import Decoders, read_decoder
from unspoken.presets.tasks import TRAIN
from unspoken.show.report import table_cells, write_page
from unspoken.study.report import read_result

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    short = replace(us.presets.sudoku_4x4(), steps=4, save=2, validate=2)
    monkeypatch.setattr(us.presets, "sudoku_4x4", lambda: short)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        bos_token_id=1,
        eos_token_id=2,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained("any-hf-decoder")
    exec(code, {})
    if "us.decode(" in code:
        assert "said beside" in capsys.readouterr().out


def test_the_puzzle_is_held_out() -> None:
    task = us.presets.sudoku_6x6().task
    held_out = [task.show(p) for p in task.sample("test", task.size("test")).prompt(task.mask_id)]
    assert cli.README_PUZZLE in held_out
    assert cli.README_PUZZLE in README


def test_the_commands_are_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `unspoken ...` line of the README parses; the options of `solve` are those of the run that it names."""

    def of_preset(run: Path) -> Decoders:
        train = TRAIN[run.parts[1]]()  # runs/PRESET/...
        return read_decoder(train.objective.decoder(train.process))

    monkeypatch.setattr(solve, "decoder_of_run", of_preset)
    lines = [line.split("#")[0] for line in README.replace("\\\n", "").splitlines() if line.startswith("unspoken ")]
    assert len(lines) >= 5
    for line in lines:
        assert cli.parse(shlex.split(line)[1:]) is not None


def test_the_numbers_are_the_committed_study() -> None:
    """Every row of the README's table stands in docs/results/latents/study.json, to the digits shown."""
    result = read_result(ROOT / "docs" / "results" / "latents" / "study.json")
    measured = {(cells[0], cells[1]): cells for cells in table_cells(result)}
    shown = re.findall(r"^\| (\w+)[^|]*\| (\w+) \| (\..*?) \| (\..*?) \| ([\d.]+) \| (\d+) \|$", README, re.MULTILINE)
    assert len(shown) == 6
    for model, count, *values in shown:
        _, _, solved, nll, _, entries, flops, _ = measured[model, count]
        assert values == [solved, nll, entries, flops]


def test_the_numbers_from_left_to_right_are_the_committed_study() -> None:
    """Every method's share solved, by the decoding that its learning rate was chosen by; `-` where there is none."""
    result = read_result(ROOT / "docs" / "results" / "ar-latents" / "study.json")
    measured: dict[tuple[str, ...], str] = {}
    for cells in table_cells(result):
        measured.setdefault(tuple(cells[:3]), cells[4])
    share = r"(-|\d?\.\d+ \[.*?\])"
    shown = re.findall(rf"^\| ([\w +]+) \| (-|\d+|all) \| {share} \| {share} \|$", README, re.MULTILINE)
    assert {(method, window) for method, window, *_ in shown} == {key[1:] for key in measured}
    for method, window, *values in shown:
        assert values == [measured.get((task, method, window), "-") for task in ("path-star", "sudoku")]


def test_the_numbers_of_speed_are_the_committed_study() -> None:
    """Every row of the table at 64 puzzles together."""
    result = read_result(ROOT / "docs" / "results" / "decode" / "study.json")
    measured = {cells[1]: cells for cells in table_cells(result) if (cells[0], cells[2]) == ("ways", "64")}
    shown = re.findall(r"^\| ([^|]+) \| (\..*?) \| ([\d.]+) \| (\d+) \| ([\d.]+x) \|$", README, re.MULTILINE)
    assert len(shown) == 5
    for way, *values in shown:
        *_, solved, _, _, passes, flops, _, fewer, _ = measured[way]
        assert values == [solved, passes, flops, fewer]


@pytest.mark.parametrize("study", sorted((ROOT / "docs" / "results").glob("*/study.json")), ids=lambda p: p.parent.name)
def test_every_committed_page_is_written_from_its_study(study: Path, tmp_path: Path) -> None:
    """No number of a page was typed: it is what `unspoken show` writes from the study.json beside it."""
    result = read_result(study)
    page = write_page(result, f"{result.study}.png", tmp_path / "README.md")
    assert page.read_text() == (study.parent / "README.md").read_text()
    assert (study.parent / f"{result.study}.png").exists()


@pytest.mark.parametrize(
    ("study", "claims"),
    [
        ("gidd", {"self-correction"}),
        ("forcing", {"one model every schedule"}),
        ("steps", {"prediction", "planned schedule"}),
        ("decode", {"flops", "wall clock", "quarter of the latents"}),
    ],
)
def test_committed_studies_name_their_claims(study: str, claims: set[str]) -> None:
    result = read_result(ROOT / "docs" / "results" / study / "study.json")
    assert {c.name for c in result.claims} == claims


def test_the_numbers_of_noise_and_steps_are_the_committed_studies() -> None:
    """Illegal steps before second thoughts, and bounds; what even and planned steps solve."""
    result = read_result(ROOT / "docs" / "results" / "gidd" / "study.json")
    measured = {(cells[1], cells[2]): cells for cells in table_cells(result) if cells[0] == "chain"}
    shown = re.findall(
        r"^\| ([\d.]+)[^|]* \| (\d+) \| (\.\d+ \S+ \S+) \| .*? \| ([\d.]+ \S+ \S+) \|$", README, re.MULTILINE
    )
    assert len(shown) == 4
    for share, passes, before, bound in shown:
        assert (before, bound) == (measured[share, passes][3], measured[share, passes][8])
    result = read_result(ROOT / "docs" / "results" / "steps" / "study.json")
    solved = {cells[5]: cells[9] for cells in table_cells(result) if cells[1].startswith("MDM, 6x6")}
    rows = re.findall(r"^\| (\d+) \| ([\d ]+) \| (\..*?) \| ([\d ]+) \| (\..*?) \|$", README, re.MULTILINE)
    assert len(rows) == 4
    for passes, even, of_even, planned, of_planned in rows:
        assert len(even.split()) == len(planned.split()) == int(passes)
        assert (of_even, of_planned) == (solved[even], solved[planned])


@pytest.mark.parametrize(
    ("study", "claims"), [("latents", {"joint prediction", "dial"}), ("ar-latents", {"lookahead"})]
)
def test_a_committed_study_names_its_claims(study: str, claims: set[str]) -> None:
    result = read_result(ROOT / "docs" / "results" / study / "study.json")
    assert {c.name for c in result.claims} == claims
    assert all(len(row["seeds"]) == 3 for row in result.rows)

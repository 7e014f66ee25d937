"""Laws of the command line: exit codes, no traceback whatever is typed, and what the commands leave behind."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unspoken import cli
from unspoken.cli import commands, runs, solve
from unspoken.cli.say import ChatRun, CompleteRun
from unspoken.cli.solve import General
from unspoken.cli.studies import AdaptRun
from unspoken.decoders.autoregressive import NextToken, Speculation
from unspoken.decoders.blocks import Blocks
from unspoken.decoders.commit import Commit
from unspoken.decoders.decode import Decoder
from unspoken.decoders.denoise import Walk
from unspoken.decoders.slots import Slots
from unspoken.layout.entries import Layout
from unspoken.layout.groups import Groups
from unspoken.measure.intervals import wilson
from unspoken.model.cache import Cache
from unspoken.model.denoiser import Denoiser
from unspoken.noise import Absorbing, Hybrid
from unspoken.noise.schedule import Cosine
from unspoken.noise.times import Pyramid
from unspoken.study.ar_latents import ArLatentsStudy, Setting
from unspoken.study.curves import CurvesStudy
from unspoken.study.decode import DecodeStudy
from unspoken.study.families import Grid
from unspoken.study.forcing import ForcingStudy
from unspoken.study.forediff import ForediffStudy
from unspoken.study.gidd import GiddStudy
from unspoken.study.ladir import LadirStudy
from unspoken.study.latents import LatentsStudy
from unspoken.study.loops import LoopsStudy
from unspoken.study.narvl import NarvlStudy
from unspoken.study.report import Claim
from unspoken.study.tokenbridge import TokenbridgeStudy
from unspoken.tasks import PathStar, Sudoku
from unspoken.training.config import Train
from unspoken.training.loading import load
from unspoken.training.loop import training
from unspoken.training.objective import (
    BlockDiffusion,
    MaskedDiffusion,
    MultiToken,
    MuToR,
    NextTokenPrediction,
    Objective,
    Teacherless,
)
from unspoken.training.run import Run
from unspoken.training.seeds import seeded

OLD = Path(__file__).parent / "golden" / "old"  # a run of every kind of decoder
TASK = Sudoku(2, 2, givens=6, train=200, validation=10, test=10)
TINY_TASK = ["--task.train", "200", "--task.validation", "10", "--task.test", "10"]
TINY_TRUNK = ["--trunk.layers", "1", "--trunk.width", "16", "--trunk.heads", "2"]
TINY = [*TINY_TASK, *TINY_TRUNK, "--batch", "8", "--warmup", "2"]
FOUR_STEPS = ["--steps", "4", "--save", "2", "--validate", "2", "--log", "1"]


def named(value: object) -> str:
    """A test's name: the words of its command line."""
    return " ".join(map(str, value)) if isinstance(value, list) else ""


def squeezed(text: str) -> str:
    """Without the frames of tables, and with one space for many."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


class Called:
    """What a command line gave: exit code, what it printed, what it said to stderr; squeezed, and raw."""

    def __init__(self, capsys: pytest.CaptureFixture[str], words: list[str]):
        capsys.readouterr()
        try:
            self.code = cli.main(words)
        except SystemExit as stop:  # tyro's, for help and what can not be parsed
            self.code = stop.code
        printed = capsys.readouterr()
        self.raw = printed.out
        self.out, self.err = squeezed(printed.out), squeezed(printed.err)


@pytest.fixture
def call(capsys):
    return lambda *words: Called(capsys, [str(w) for w in words])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run trained by the command, in a folder with a short name."""
    folder = tmp_path_factory.mktemp("r") / "scdm"
    assert cli.main(["train", "sudoku-4x4", *TINY, *FOUR_STEPS, "--folder", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def puzzle() -> tuple[str, str]:
    """A puzzle of the test split and its solution."""
    (x0,), (prompt,) = TASK.sample("test", 1).x0, TASK.sample("test", 1).prompt(TASK.mask_id)
    return TASK.show(prompt), TASK.show(x0)


@pytest.fixture
def oracle(monkeypatch, puzzle):
    """`solve` loads a network that knows the answer of `puzzle`."""
    x0 = TASK.encode(puzzle[1])

    def knowing(folder: Path) -> Denoiser:
        model = load(folder)

        def forward(layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
            position = layout.position if at is None else layout.position.gather(1, at)
            return 9.0 * torch.nn.functional.one_hot(x0[position], model.vocab_size).float()

        monkeypatch.setattr(model, "forward", forward)
        return model

    monkeypatch.setattr(solve, "load", knowing)


# --- help, and what can not be parsed


def flags(kind: type, *without: str) -> list[str]:
    return ["--" + f.name.replace("_", "-") for f in fields(kind) if f.name not in without]


def flags_of_blocks() -> list[str]:
    return [flag.replace("--", "--objective.") for flag in flags(MultiToken)]


NESTED = ("task", "trunk", "process", "objective", "port", "foresight", "codec", "start")
OBJECTIVES = (
    *("masked-diffusion", "next-token-prediction", "multi-token"),
    *("teacherless", "mu-to-r", "block-diffusion", "denoising"),
)
AR = [
    *flags(ArLatentsStudy, "path_star", "sudoku"),
    *[f"--{part}.{flag.removeprefix('--')}" for part in ("path-star", "sudoku") for flag in flags(Setting, "train")],
    *["--runs", "--out", "--path-star.train.steps", "--path-star.train.task.degree", "--sudoku.train.task.box-cols"],
]
HELP = {
    "train": (["train", "sudoku-4x4"], [*flags(Train, *NESTED), "--folder", "--task.box-rows", "--trunk.width"]),
    "train, objectives": (["train", "sudoku-4x4"], [f"objective:{name}" for name in OBJECTIVES]),
    "train path-star": (["train", "path-star"], [*flags(Train, *NESTED), "--task.degree", *flags_of_blocks()]),
    "solve": (["solve"], flags(General, "run")),
    "solve, the decoders": (["solve"], ["slots", "next_token", "speculation", "blocks", "walk", "one_pass"]),
    "solve RUN": (["solve", OLD / "masked"], [*flags(General, "run"), *flags(Slots)]),
    "solve RUN, next tokens": (["solve", OLD / "registers"], flags(NextToken)),
    "solve RUN, blocks": (["solve", OLD / "blocks"], flags(Blocks)),
    "solve RUN, a walk": (["solve", OLD / "diffused"], flags(Walk, "process")),  # the process is the run's
    "solve RUN --by": (["solve", OLD / "masked", "--by", "speculation"], flags(Speculation)),
    "complete": (["complete"], ["PATH", *flags(CompleteRun, "run")]),
    "chat": (["chat"], ["PATH", *flags(ChatRun, "run")]),
    "study": (["study", "latents", "quick"], [*flags(LatentsStudy, "train"), "--runs", "--out", "--train.steps"]),
    "study ar-latents quick": (["study", "ar-latents", "quick"], AR),
    "study ar-latents reference": (["study", "ar-latents", "reference"], AR),
    **{
        f"study {name}": (["study", name, "quick"], [*flags(kind, *trains), "--runs", "--out", f"--{trains[-1]}.steps"])
        for name, kind, *trains in (
            ("decode", DecodeStudy, "train", "dial"),
            ("gidd", GiddStudy, "train", "puzzles"),
            ("forcing", ForcingStudy, "train"),
            ("ladir", LadirStudy, "encoder", "reasoner", "baseline"),
            ("loops", LoopsStudy, "variants", "comparisons", "train"),
        )
    },
    "study forediff": (
        ["study", "forediff", "quick"],
        [*flags(ForediffStudy, "task"), "--task.train", "--runs", "--out"],
    ),
    "study narvl": (
        ["study", "narvl", "quick"],
        [*flags(NarvlStudy, "strips", "scenes"), "--strips.queries", "--scenes.test", "--runs", "--out"],
    ),
    "study tokenbridge": (
        ["study", "tokenbridge", "quick"],
        [*flags(TokenbridgeStudy, "shape"), "--shape.dims", "--runs", "--out"],
    ),
    "study curves": (["study", "curves"], ["PATH", *flags(CurvesStudy, "runs", "grid"), *flags(Grid), "--out"]),
    "study adapt": (["study", "adapt"], ["PATH", *flags(AdaptRun, "checkpoint")]),
    "show": (["show"], ["PATH"]),
}


@pytest.mark.parametrize("command", HELP)
def test_help_names_every_flag(call, command):
    words, expected = HELP[command]
    helped = call(*words, "--help")
    assert helped.code == 0
    assert [flag for flag in expected if not re.search(rf"{flag}\b", helped.out)] == []


def test_help_names_every_command_and_preset(call):
    helped = call("--help")
    assert helped.code == 0
    commands = ("train", "solve", "complete", "chat", "study latents", "study ar-latents", "show")
    assert all(f"unspoken {name}" in helped.out for name in commands)
    train = call("train", "--help").out
    assert all(name in train for name in ("sudoku-4x4", "sudoku-6x6", "sudoku-9x9", "path-star", "sudoku-6x6-ar"))
    assert all(name in call("study", "ar-latents", "--help").out for name in ("quick", "reference"))
    assert call().code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "no command is called 'trian'"),
        (["study"], "no command is called 'study'"),
        (["study", "latnets"], "no command is called 'study latnets'"),
        (["study", "ar-latents"], "reference, quick"),
        (["study", "ar-latents", "slow"], "reference, quick"),
        (["train"], "sudoku-4x4, sudoku-6x6, sudoku-9x9"),
        (["train", "sudoku-5x5"], "sudoku-4x4, sudoku-6x6, sudoku-9x9"),
        (["train", "sudoku-4x4", "--step", "3"], "Perhaps you meant: --steps INT"),
        (["train", "sudoku-4x4", "--steps", "three"], "three"),
        (["train", "sudoku-4x4", "--attention", "smdm"], "smdm"),
        (["train", "sudoku-4x4", "--decay", "cosine"], "cosine"),
        (["train", "sudoku-4x4", "objective:nextoken"], "objective:next-token-prediction"),
        (["train", "sudoku-4x4", "--objective.reach", "2"], "objective:mu-to-r --help"),
        (["solve"], "PATH"),
        (["solve", OLD / "masked", "--latent", "3"], "--latents {None}|INT Unsaid tokens"),
        (
            ["solve", OLD / "masked", "--order", "best"],
            "no order is called 'best'; write one of uniform, left_to_right",
        ),
        (
            ["solve", OLD / "masked", "--by", "luck"],
            "write --by with one of slots, next_token, speculation, blocks, walk",
        ),
        (["solve", OLD / "masked", "--latent-policy", "all"], "no latent_policy is called 'all'; write one of uniform"),
        (["solve", OLD / "diffused", "--path", "line"], "no path is called 'line'; write one of diagonal"),
        (["solve", OLD / "masked", "--drafts", "2"], "--drafts is an option of speculation; the decoder here is slots"),
        (["solve", OLD / "masked", "--drafts=2"], "add --by speculation"),
        (["solve", OLD / "diffused", "--latents", "2"], "--latents is an option of slots and speculation; the decoder"),
        (
            ["solve", OLD / "diffused", "--no-cache"],
            "add --by slots or --by next_token or --by speculation or --by blo",
        ),
        (["solve", OLD / "registers", "--latent-policy", "next"], "the decoder here is next_token: add --by slots"),
        (["solve", OLD / "next-token", "--by", "walk"], "attention cached-alone: a walk through noise shows"),
        (["show"], "PATH"),
    ],
    ids=named,
)
def test_what_can_not_be_parsed_ends_in_2_and_says_what_can(call, words, said):
    refused = call(*words)
    assert refused.code == 2
    assert said in refused.out + refused.err


# --- train


def test_train_leaves_a_run_and_goes_on_with_it(call, tmp_path):
    words = ["train", "sudoku-4x4", *TINY, *FOUR_STEPS, "--attention", "sidm", "--seed", "5", "--folder"]
    trained = call(*words, tmp_path / "{attention}-{seed}")
    folder = tmp_path / "sidm-5"
    assert trained.code == 0 and trained.err == ""
    assert [m["step"] for m in Run(folder).metrics()] == [1, 2, 3, 4]
    last = Run(folder).metrics()[-1]
    assert f"step 4: loss {last['loss']:.4f}, validation {last['validation']:.4f}" in trained.out
    config = Run(folder).config(Train)
    assert (config.attention.name, config.seed, config.task, config.trunk.width) == ("sidm", 5, TASK, 16)
    before = Run(folder).metrics()
    assert call(*words, folder).code == 0
    assert Run(folder).metrics() == before


def test_groups_are_flags_and_in_the_folders_name(call, tmp_path):
    words = ["train", "sudoku-4x4", *TINY, *FOUR_STEPS, "--attention", "cached-joint", "--folder", tmp_path / "{model}"]
    words += ["objective:masked-diffusion", "objective.groups:groups", "--objective.groups.sizes", "uniform"]
    assert call(*words).code == 0
    objective = Run(tmp_path / "cached-joint-grouped").config(Train).objective
    assert objective == MaskedDiffusion(groups=Groups(sizes="uniform"))
    refused = call(*words[:-2], "--objective.groups.whole", "2")
    assert refused.code == 2 and "whole=2.0; give a share of rows" in refused.out + refused.err


def test_validations_may_fall_between_reports(call, tmp_path):
    words = ["train", "sudoku-4x4", *TINY, "--steps", "4", "--log", "4", "--validate", "3", "--folder", tmp_path]
    trained = call(*words)
    assert trained.code == 0
    assert re.findall(r"step (\d): loss", trained.out) == ["3", "4"]


def test_a_schedule_is_a_word_at_the_end(call, tmp_path):
    words = ["train", "sudoku-4x4", *TINY, *FOUR_STEPS, "--folder", tmp_path, "process.schedule:cosine"]
    assert call(*words).code == 0
    assert Run(tmp_path).config(Train).process == Absorbing(Cosine())


@pytest.mark.parametrize(
    ("words", "objective"),
    [
        ([], MaskedDiffusion()),
        (["--objective.bound"], MaskedDiffusion(bound=True)),
        (["--objective.carry", "2"], MaskedDiffusion(carry=2)),
        (["objective:masked-diffusion", "--objective.carry", "uniform"], MaskedDiffusion(carry="uniform")),
        (["objective:masked-diffusion", "--objective.bound"], MaskedDiffusion(bound=True)),
        (["--attention", "mdm", "objective:teacherless"], Teacherless()),
        (["--attention", "cached-alone", "objective:next-token-prediction"], NextTokenPrediction()),
        (["objective:next-token-prediction", "--attention", "any-order"], NextTokenPrediction()),
        (["objective:mu-to-r", "--attention", "cached-alone", "--objective.reach", "2"], MuToR(reach=2)),
        (["objective:multi-token", "--objective.prefixes", "1"], MultiToken(prefixes=1)),
        (["objective:block-diffusion", "--objective.size", "2", "--attention", "cached-joint"], BlockDiffusion(2)),
    ],
    ids=named,
)
def test_an_objective_is_a_word(words, objective):
    """Before or after the other flags; its own flags after it, or, of the preset's own objective, anywhere."""
    parsed = commands.parse(["train", "sudoku-4x4", "--steps", "7", *words, "--seed", "3"])
    assert isinstance(parsed, runs.TrainRun)
    assert (parsed.config.objective, parsed.config.steps, parsed.config.seed) == (objective, 7, 3)


def test_the_presets_from_left_to_right_take_the_flags_of_their_blocks():
    for preset in ("path-star", "sudoku-6x6-ar"):
        parsed = commands.parse(["train", preset, "--objective.window", "2", "--objective.prefixes", "3"])
        assert isinstance(parsed, runs.TrainRun)
        assert parsed.config.objective == MultiToken(window=2, prefixes=3)


def test_an_objective_that_the_attention_would_tell_ends_in_2(call, tmp_path):
    refused = call("train", "sudoku-4x4", *TINY, "--folder", tmp_path / "run", "objective:next-token-prediction")
    assert refused.code == 2
    assert (
        "NextTokenPrediction() with attention scdm" in refused.err
        and "cached-joint, cached-alone or any-order" in refused.err
    )
    assert not (tmp_path / "run").exists()


def test_another_configuration_in_the_folder_is_refused(call, run):
    refused = call("train", "sudoku-4x4", *TINY, *FOUR_STEPS, "--lr", "1", "--folder", run)
    assert refused.code == 2
    assert "error:" in refused.err and "(it differs in lr)" in refused.err


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (["--steps", "0"], "steps is 0"),
        (["--accumulate", "3"], "accumulate=3"),
        (["--trunk.heads", "3"], "heads"),
        (["--task.givens", "17"], "givens=17"),
        (["--lr", "1e30", "--warmup", "0"], "lower lr"),
        (["--trunk.checkpoint", "/no/such/model"], "/no/such/model"),
    ],
    ids=named,
)
def test_a_training_that_can_not_be_ends_in_2(call, tmp_path, flag, said):
    refused = call("train", "sudoku-4x4", *TINY, *FOUR_STEPS, "--folder", tmp_path / "run", *flag)
    assert refused.code == 2
    assert said in refused.err


def test_an_interrupt_ends_in_130(call, tmp_path, monkeypatch):
    def interrupted(config: Train, folder: Path):
        for update in training(config, folder):
            yield update
            if update.step == 3:
                raise KeyboardInterrupt

    words = ["train", "sudoku-4x4", *TINY, *FOUR_STEPS, "--folder", tmp_path / "run"]
    with monkeypatch.context() as patch:
        patch.setattr(runs, "training", interrupted)
        stopped = call(*words)
    assert stopped.code == 130
    assert "goes on from the last checkpoint" in stopped.err
    assert call(*words).code == 0
    assert [m["step"] for m in Run(tmp_path / "run").metrics()] == [1, 2, 3, 4]


# --- solve


def test_solve_shows_puzzle_and_answer(call, run, puzzle):
    solved = call("solve", run, "--puzzle", puzzle[0])
    assert solved.code == 0 and solved.err == ""
    answer = re.search(r"answer ([1-4]{16}) ", solved.out)
    assert answer and f"puzzle {puzzle[0]} answer" in solved.out
    assert all(a == p for a, p in zip(answer[1], puzzle[0], strict=True) if p != ".")
    right = bool(TASK.score(TASK.encode(puzzle[0])[None], TASK.encode(answer[1], unique=False)[None]))
    assert ("NOT solved" in solved.out) != right
    assert "10 passes, 160 entries in all, of 160 with everything in view" in solved.out
    assert call("solve", run).raw == solved.raw  # without a puzzle: the first of the test split


@pytest.mark.usefixtures("oracle")
def test_a_right_answer_is_called_solved(call, run, puzzle):
    solved = call("solve", run, "--puzzle", puzzle[0].replace(".", "0"))
    assert f"answer {puzzle[1]} solved: every rule is kept" in solved.out


def test_fewer_latents_are_smaller_passes(call, run):
    # 10 blanks, 1 said a pass, one candidate: 6 + said + 1 entries, and `latents` more while there are as many
    alone = call("solve", run, "--candidates", 1, "--latents", 0)
    two = call("solve", run, "--candidates", 1, "--latents", 2)
    assert f"{sum(7 + said for said in range(10))} entries" in alone.out
    assert f"{sum(7 + said + min(2, 9 - said) for said in range(10))} entries" in two.out
    assert "5 passes" in call("solve", run, "--commit", 2).out
    assert "4 passes" in call("solve", run, "--commit", "1,2,3,4").out


def test_a_commit_that_is_no_number_is_kept_and_can_be_replaced(run):
    kept = Slots(commit=Commit(4, threshold=0.9))
    for written, meant in (("recorded", kept.commit), ("3", 3), ("1,2,7", (1, 2, 7))):
        flags = solve._flags_of(kept)(run, commit=written)
        assert solve._values(flags, {"run"}, kept)["commit"] == meant
    assert solve._flags_of(kept)(run).commit == "recorded"


def test_a_full_board_has_nothing_to_say(call, run, puzzle):
    full = call("solve", run, "--puzzle", puzzle[1])
    assert full.code == 0 and "nothing to say" in full.out


@pytest.mark.filterwarnings("always:.*latents asked of.*")  # the note that this is about
def test_too_many_latents_are_all_there_are_and_that_is_said(call, run):
    solved = call("solve", run, "--latents", "100")
    assert solved.code == 0
    assert solved.err == "note: 100 latents asked of 16 positions: all are taken"
    assert solved.raw == call("solve", run).raw


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--puzzle", "1" * 15], "15 characters given, 16 expected"),
        (["--puzzle", "1?" + "." * 14], "illegal character '?' at r1c2"),
        (["--puzzle", "15" + "." * 14], "illegal character '5' at r1c2"),
        (["--puzzle", "11" + "." * 14], "contradictory givens: row 1 holds 1 at r1c1 and r1c2"),
        (["--puzzle", "123...4" + "." * 9], "no solution"),
        (["--puzzle", "." * 16], "several solutions"),
        (["--file", "/no/such.csv"], "/no/such.csv: no such file"),
        (["--file", "/no/such.xls"], "no such file"),
        (["--file", "/no/such.csv", "--puzzle", "." * 16], "--puzzle or --file, not both"),
        (["--latents", "-1"], "latents=-1"),
        (["--commit", "0"], "commit=0"),
        (["--commit", "1,x"], "as in 4 or 3,2,1"),
        (["--candidates", "2", "--commit", "3"], "commit=3 of candidates=2"),
        (["--temperature", "-1"], "temperature=-1"),
        (["--threshold", "2"], "threshold=2"),
        (
            ["--threshold", "0.5", "--by", "next_token"],
            "--threshold is an option of slots; the decoder here is next",
        ),
        (["--by", "speculation"], "take cached-joint, cached-alone or any-order"),
        (["--by", "blocks", "--size", "0"], "size=0"),
    ],
    ids=named,
)
def test_what_can_not_be_solved_ends_in_2_and_says_why(call, run, words, said):
    refused = call("solve", run, *words)
    assert refused.code == 2
    assert refused.err.startswith("error: ") and said in refused.err


def test_a_missing_run_is_named(call):
    refused = call("solve", "/no/run")
    assert refused.code == 2
    assert "error: /no/run is no run folder" in refused.err


def test_a_run_without_checkpoint_yet_is_said(call, run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "checkpoints")
    refused = call("solve", folder)
    assert refused.code == 2
    assert "has no complete checkpoint yet" in refused.err


def write_csv(path: Path, *rows: list[str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["source", "question", "answer", "rating"], *rows])
    return path


def test_a_truncated_row_is_named_by_its_line(call, run, puzzle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(Path("p.csv"), ["a", *puzzle, "1"], ["a", puzzle[0]])
    refused = call("solve", run, "--file", "p.csv")
    assert refused.code == 2
    assert "error: p.csv, line 3: 2 fields given, 4 expected" in refused.err


@pytest.mark.usefixtures("oracle")
def test_a_file_is_judged_with_an_interval(call, run, puzzle, tmp_path):
    other = puzzle[1].translate(str.maketrans("1234", "2341"))  # another solution: the oracle is wrong there
    blank = "".join("." if p == "." else o for p, o in zip(puzzle[0], other, strict=True))
    file = write_csv(tmp_path / "p.csv", *[["a", *puzzle, ""]] * 3, ["b", blank, other, ""])
    judged = call("solve", run, "--file", file)
    assert judged.code == 0
    low, high = wilson(3, 4)
    assert f"3 of 4 solved: 0.750 [{low:.3f}, {high:.3f}]" in judged.out
    assert "10.0 passes of 16.0 entries" in judged.out


def test_full_boards_in_a_file_cost_nothing(call, run, puzzle, tmp_path):
    file = tmp_path / "p.txt"
    file.write_text(puzzle[1] + "\n")
    assert "1 of 1 solved" in call("solve", run, "--file", file).out


def test_the_page_is_self_contained_and_holds_every_step(call, run, puzzle, tmp_path):
    path = tmp_path / "page.html"
    solved = call("solve", run, "--puzzle", puzzle[0], "--html", path)
    assert solved.code == 0
    page = path.read_text()
    assert not re.search(r"https?://|src=|<link|@import|url\(", page)
    found = re.search(r"^const steps = (.*);$", page, re.MULTILINE)
    assert found
    steps = json.loads(found[1])
    assert len(steps) == puzzle[0].count(".") == 10
    assert 'max="9"' in page
    for n, step in enumerate(steps):
        assert step["text"].startswith(f"step {n}: 1 said beside")
        kinds = [kind for _, kind, _, _ in step["cells"]]
        assert [k == "given" for k in kinds] == [p != "." for p in puzzle[0]]
        assert kinds.count("now") == 1 and kinds.count("said") == n
        assert all(0 < sure <= 1 for _, kind, sure, _ in step["cells"] if kind in ("now", "candidate", "latent"))
    answer = "".join(symbol for symbol, _, _, _ in steps[-1]["cells"])
    assert f"answer {answer} " in solved.out
    assert "".join(s + gap for s, _, _, gap in steps[-1]["cells"]) == TASK.grid(TASK.encode(answer, unique=False))


# --- solve as trained

WALKS = "0,1|0,3|1,2|3,4/0,4=0,3,4"  # a graph of the tiny path-star, and its path
STAR = ["--task.nodes", "3", "--task.names", "8", "--task.validation", "10", "--task.test", "10"]
STAR += [*TINY_TRUNK, "--batch", "8", "--warmup", "2", *FOUR_STEPS]


@pytest.fixture(scope="module")
def stars(tmp_path_factory):
    """Path-star runs by the words that name their objective, each trained once."""
    made: dict[tuple[str, ...], Path] = {}

    def run_of(*words: str) -> Path:
        if words not in made:
            made[words] = tmp_path_factory.mktemp("star") / "run"
            assert cli.main(["train", "path-star", *STAR, "--folder", str(made[words]), *words]) == 0
        return made[words]

    return run_of


def answer_of(called: Called) -> str:
    found = re.search(r"answer (\S+) ", called.out)
    assert found, called.out
    return found[1]


def decoded(folder: Path, decoder: Decoder, graph: str = WALKS) -> str:
    """What a run says of a graph, by the library alone."""
    task = Run(folder).config(Train).task
    prompt = task.encode(graph.split("=")[0] + "=")[None]
    *_, last = decoder.steps(load(folder), prompt)
    return task.show(last.tokens[0])


RIGHT = Slots(order="left_to_right", latent_policy="next")
OWN: dict[tuple[str, ...], tuple[Objective, Decoder, str]] = {
    # 6 tokens given, 2 to say: passes and the entries they compute, beside a cache
    ("objective:next-token-prediction",): (NextTokenPrediction(), NextToken(), "2 passes, 7 entries"),
    ("objective:mu-to-r",): (MuToR(), NextToken(), "2 passes, 7 entries"),
    (): (MultiToken(), RIGHT, "2 passes, 10 entries"),
    ("--objective.window", "1"): (MultiToken(1), replace(RIGHT, latents=0), "2 passes, 9 entries"),
    ("objective:teacherless",): (Teacherless(), replace(RIGHT, commit=99), "1 passes, 8 entries"),
    ("objective:block-diffusion",): (BlockDiffusion(), Blocks(), "2 passes, 10 entries"),
    ("objective:masked-diffusion",): (MaskedDiffusion(), Slots(), "2 passes, 10 entries"),
}


@pytest.mark.parametrize("words", OWN, ids=lambda words: " ".join(words) or "multi-token")
def test_a_run_is_decoded_as_it_was_trained(call, stars, words):
    objective, decoder, cost = OWN[words]
    folder = stars(*words)
    assert Run(folder).config(Train).objective == objective
    solved = call("solve", folder, "--puzzle", WALKS.split("=")[0] + "=")
    assert solved.code == 0 and solved.err == ""
    assert answer_of(solved) == decoded(folder, decoder)
    assert f"{cost} in all, of" in solved.out


def test_a_graph_is_written_as_the_authors_do(call, stars):
    """With nothing after `=`, or with dots; the test split's first graph where none is given."""
    graph = WALKS.split("=")[0]
    blank, dots = (call("solve", stars(), "--puzzle", f"{graph}={rest}") for rest in ("", "0,.,."))
    assert blank.raw == dots.raw and f"puzzle {graph}=0,.,. answer {graph}=0," in blank.out
    said = [path for path in ("0,3,4", "0,1,2") if answer_of(blank).endswith(path)]
    assert ("solved: every rule is kept" in blank.out) == (said == ["0,3,4"])
    assert ("NOT solved" in blank.out) == (said != ["0,3,4"])
    task = PathStar(2, 3, 8, validation=10, test=10)
    (prompt,) = task.sample("test", 1).prompt(task.mask_id)
    assert f"puzzle {task.show(prompt)} answer" in call("solve", stars()).out
    assert call("solve", stars()).raw == call("solve", stars(), "--puzzle", task.show(prompt)).raw
    assert "nothing to say" in call("solve", stars(), "--puzzle", WALKS).out
    given = call("solve", stars(), "--puzzle", f"{graph}=0,3,.")
    assert answer_of(given).startswith(f"{graph}=0,3,") and "1 passes" in given.out


def test_a_file_of_graphs_is_judged(call, stars, tmp_path):
    task = PathStar(2, 3, 8, validation=10, test=10)
    examples = task.sample("test", 10)
    (tmp_path / "g.txt").write_text("".join(task.show(x0) + "\n" for x0 in examples.x0))
    expected = [decoded(stars(), RIGHT, task.show(x0)) == task.show(x0) for x0 in examples.x0]
    judged = call("solve", stars(), "--file", tmp_path / "g.txt")
    assert judged.code == 0 and f"{sum(expected)} of 10 solved: " in judged.out
    assert "2.0 passes of 5.0 entries" in judged.out
    (tmp_path / "bad.txt").write_text(WALKS + "\n" + WALKS.replace("=0,3", "=0,1") + "\n")
    refused = call("solve", stars(), "--file", tmp_path / "bad.txt")
    assert refused.code == 2 and "bad.txt, line 2: a right answer" in refused.err


def test_what_is_asked_for_goes_before_how_it_was_trained(call, stars):
    """Speculation says the same in no more passes; a cache changes no more than the work; the rest is as trained."""
    graph = ["--puzzle", WALKS.split("=")[0] + "="]
    folder = stars()
    plain = call("solve", folder, *graph)
    fast, anew = call("solve", folder, *graph, "--by", "speculation"), call("solve", folder, *graph, "--no-cache")
    assert answer_of(fast) == answer_of(anew) == answer_of(plain)
    assert "2 passes, 16 entries in all, of 16 with everything in view" in anew.out
    alone = call("solve", folder, *graph, "--latents", 0)
    assert "2 passes, 9 entries" in alone.out  # still from the left, and with a cache
    both = call("solve", folder, *graph, "--commit", 2)
    assert "1 passes, 8 entries" in both.out
    other = stars("objective:next-token-prediction")
    by_slots = call("solve", other, *graph, "--by", "slots", "--order", "left_to_right")
    assert answer_of(by_slots) == decoded(other, Slots(order="left_to_right"))


def test_a_walk_keeps_the_noise_of_its_run(call, puzzle):
    """With the run's own options or by name; the decoder's random choices are those of the library's generator."""
    model, run = load(OLD / "diffused"), OLD / "diffused"
    for words, decoder in (
        (["--passes", "3"], Walk(Hybrid(), passes=3)),
        (["--passes=4", "--path", "pyramid", "--by", "walk"], Walk(Hybrid(), passes=4, path=Pyramid())),
    ):
        solved = call("solve", run, "--puzzle", puzzle[0], *words)
        *_, last = decoder.steps(model, TASK.encode(puzzle[0])[None], generator=seeded("solve", 0))
        assert solved.code == 0 and f"answer {TASK.show(last.tokens[0])} " in solved.out


@pytest.mark.parametrize("words", [("objective:next-token-prediction",), ()], ids=["next-token", "multi-token"])
def test_a_page_of_a_path_holds_every_step(call, stars, tmp_path, words):
    path = tmp_path / "page.html"
    solved = call("solve", stars(*words), "--html", path)
    assert solved.code == 0
    found = re.search(r"^const steps = (.*);$", path.read_text(), re.MULTILINE)
    assert found
    steps = json.loads(found[1])
    assert [[kind for _, kind, _, _ in step["cells"]][6:] for step in steps] == [
        ["now", "out" if words else "latent"],
        ["said", "now"],
    ]
    said = ",".join(symbol for symbol, _, _, _ in steps[-1]["cells"][6:])
    assert answer_of(solved).endswith(f",{said}")


def test_a_run_of_an_older_version_is_refused_and_not_fallen_over(call, run, tmp_path):
    """Its objective was a word."""
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"objective": "masked"}))
    for command in ("show", "solve"):
        refused = call(command, tmp_path / "run")
        assert refused.code == 2
        assert "objective is 'masked'; expected one of MaskedDiffusion," in refused.err


# --- study and show

STUDY = [
    *["study", "latents", "quick", "--seeds", "0", "--draws", "2"],
    *["--train.task.box-cols", "2", "--train.task.givens", "6", "--train.task.train", "200"],
    *["--train.task.validation", "10", "--train.task.test", "10"],
    *[f"--train.{word.removeprefix('--')}" if word.startswith("--") else word for word in TINY_TRUNK + FOUR_STEPS],
    *["--train.batch", "8"],
]
SIZE = ["--counts", "0", "16", "--puzzles", "5"]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("s")
    assert cli.main([*STUDY, *SIZE, "--runs", str(folder), "--out", str(folder / "out")]) == 0
    return folder


def test_a_study_leaves_table_and_figure_and_show_reads_them(call, study):
    record = json.loads((study / "out" / "study.json").read_text())
    assert (study / "out" / "latents.png").read_bytes().startswith(b"\x89PNG\r\n")
    shown = call("show", study / "out" / "study.json")
    assert shown.code == 0
    for claim in record["claims"]:
        assert f"{claim['name']}: {Claim(**claim).verdict}" in shown.out
        assert " ".join(claim["evidence"].split()) in shown.out
    assert all(f"note: {note}" in shown.out for note in record["notes"])


def test_a_study_of_another_budget_in_the_same_folder_is_refused(call, study):
    refused = call(*STUDY, *SIZE, "--runs", study, "--out", study / "out", "--train.lr", "1")
    assert refused.code == 2
    assert "(it differs in lr)" in refused.err


def test_an_adaptation_that_can_not_be_ends_in_2_before_any_training(call, tmp_path):
    out = ("--runs", tmp_path / "runs", "--out", tmp_path / "out")
    for words, said in (
        ((tmp_path / "nowhere", "--data", "excerpt", "--held-out", ""), "is not to be read"),
        ((tmp_path, "--methods", "Ar"), "no method is called 'Ar'; give some of AR; AR + MTP"),
    ):
        refused = call("study", "adapt", *words, *out)
        assert refused.code == 2 and said in " ".join(refused.err.split()), refused.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--counts", "0", "4"], "end with 16 or more"),
        (["--counts", "1", "16"], "from 0 to all"),
        (["--counts", "0", "16", "8"], "counts that rise"),
        (["--counts", "0", "16", "--puzzles", "11"], "11 examples of test asked for, which holds 10"),
    ],
    ids=named,
)
def test_a_study_that_can_not_be_ends_in_2_before_any_training(call, tmp_path, words, said):
    refused = call(*STUDY, "--runs", tmp_path / "runs", "--out", tmp_path / "out", *words)
    assert refused.code == 2
    assert said in refused.err
    assert not (tmp_path / "runs").exists()


def test_curves_of_a_run_and_show_reads_them(call, run, tmp_path):
    words = ["--examples", "4", "--families", "one", "sizes", "--sizes", "2", "--out", tmp_path / "out"]
    drawn = call("study", "curves", run, *words)
    assert drawn.code == 0 and drawn.err == ""
    record = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [(r["part"], r.get("setting")) for r in record["rows"]] == [
        ("settings", "1 a pass"),
        ("settings", "2 a pass"),
        ("area", None),
    ]
    assert (record["config"]["runs"], record["config"]["grid"]["sizes"]) == ([str(run)], [2])
    shown = call("show", tmp_path / "out" / "study.json")
    assert shown.code == 0 and all(f"note: {note}" in shown.out for note in record["notes"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give one run folder or more"),
        ([OLD / "masked", "--families", "luck"], "no family is called 'luck'"),
        ([OLD / "masked", "--families", "drafts"], "has settings in none of them"),
        ([OLD / "none"], "no run folder"),
    ],
    ids=named,
)
def test_curves_that_can_not_be_end_in_2(call, words, said, tmp_path):
    refused = call("study", "curves", *words, "--out", tmp_path / "out")
    assert refused.code == 2
    assert said in refused.out + refused.err
    assert not (tmp_path / "out").exists()


def test_show_a_run(call, run):
    shown = call("show", run)
    assert shown.code == 0
    assert "SCDM on 4x4 Sudoku, 6 givens" in shown.out and "4 of 4 steps are saved" in shown.out
    assert '"box_rows": 2, "box_cols": 2, "givens": 6' in shown.out
    for m in Run(run).metrics():
        assert ("validation" in m) == (f"{m['loss']:.4f} {m.get('validation', 0):.4f}" in shown.out)
    assert (run / "losses.png").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("kind", ["latents", "ar-latents", "curves", "loops"])
def test_a_study_without_rows_is_shown_as_that(call, study, tmp_path, kind):
    record = json.loads((study / "out" / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps(record | {"study": kind, "rows": []}))
    shown = call("show", tmp_path / "study.json")
    assert shown.code == 0 and shown.err == ""
    assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_study_of_an_unknown_kind_is_refused(call, study, tmp_path):
    record = json.loads((study / "out" / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps(record | {"study": "letters"}))
    refused = call("show", tmp_path / "study.json")
    assert refused.code == 2
    assert (
        "no study is called 'letters'; known are latents, dial, decode, loops, tasks, gidd, forcing, steps,"
        in refused.err
    )
    assert "steps, curves, ar-latents" in refused.err


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("no.json", None, "there is no"),
        ("cut.json", '{"study": "lat', "is not to be read as JSON"),
        ("other.json", '{"type": "Train"}', "no study.json of ours"),
        ("list.json", "[1]", "expected a JSON object"),
        ("folder", None, "no run folder"),
    ],
)
def test_show_what_is_not_ours(call, tmp_path, monkeypatch, name, text, said):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(name).write_text(text)
    refused = call("show", name)
    assert refused.code == 2
    assert refused.err.startswith("error: ") and said in refused.err and name in refused.err


# --- what is not as it should be yet


@pytest.mark.parametrize("command", ["page", "folder"])
def test_a_place_that_can_not_be_written_ends_in_2(call, run, tmp_path, command):
    (tmp_path / "file").touch()
    there = tmp_path / "file" / "inside"
    words = {"page": ["solve", run, "--html", there], "folder": ["train", "sudoku-4x4", *TINY, "--folder", there]}
    assert call(*words[command]).code == 2


def test_a_folder_may_hold_braces(call, tmp_path):
    assert call("train", "sudoku-4x4", *TINY, *FOUR_STEPS, "--folder", tmp_path / "{x}").code == 0
    assert (tmp_path / "{x}" / "config.json").exists()


@pytest.mark.parametrize("name", ["long" * 30, "[x]"])
def test_what_is_printed_to_be_copied_is_whole(call, tmp_path, name):
    trained = call("train", "sudoku-4x4", *TINY, *FOUR_STEPS, "--folder", tmp_path / name)
    assert f"unspoken solve {tmp_path / name}\n" in trained.raw


def test_a_page_of_a_file_is_refused(call, run, puzzle, tmp_path):
    file = tmp_path / "p.txt"
    file.write_text(puzzle[0] + "\n")
    assert call("solve", run, "--file", file, "--html", tmp_path / "page.html").code == 2


def test_an_unknown_command_is_said_to_stderr(call):
    assert "no command is called" in call("trian").err


# --- as a process


def test_as_a_process_bad_input_is_one_error_and_2(run):
    words = [sys.executable, "-m", "unspoken.cli", "solve", str(run), "--puzzle", "11" + "." * 14]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: contradictory givens") and "Traceback" not in done.stderr


def test_as_a_process_an_interrupt_ends_in_130(tmp_path):
    folder = tmp_path / "run"
    words = ["train", "sudoku-4x4", *TINY, "--steps", "1000000", "--log", "1", "--folder", str(folder)]
    # A shell starts what runs in its background with interrupts ignored, and a child inherits that: undo it.
    child = subprocess.Popen(
        [sys.executable, "-m", "unspoken.cli", *words],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(6_000):
        if Run(folder).metrics() or child.poll() is not None:
            break
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    try:
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert "stopped" in said and "Traceback" not in said


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["study", "--help"], ["tasks", "-h"]], ids=" ".join)
def test_help_on_a_group_of_commands_lists_them(call, words):
    asked = call(*words)
    assert asked.code == 0 and "unspoken study latents" in asked.out and not asked.err

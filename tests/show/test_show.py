"""Laws of the pictures: what a cell is called, boards as the task writes them, pages and figures that hold the data."""

import io
import json
import re
from dataclasses import fields, replace
from typing import Any

import matplotlib.image
import pytest
import torch
from rich.console import Console
from toy import TRUNK

from unspoken.decoders.decode import decode
from unspoken.decoders.step import Step
from unspoken.show import figure, html, report, terminal
from unspoken.show.cells import UNKNOWN, cells
from unspoken.study.catalogue import TABLES, table_of
from unspoken.study.report import Claim, Result, Stage
from unspoken.tasks import PathStar, Sudoku
from unspoken.training.config import Train
from unspoken.training.loop import Update
from unspoken.training.models import new_denoiser
from unspoken.training.run import Run

TASK = Sudoku(2, 2, givens=6, train=200, validation=10, test=10)
CONFIG = Train(TASK, trunk=TRUNK)
M = TASK.mask_id


def row(values: list, rest: Any, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """`[1, 16]`: the first cells, and the rest alike."""
    return torch.tensor([values + [rest] * (16 - len(values))], dtype=dtype)


# Cells 0..6: given, said before, said now, candidate, latent seen, latent not peeked at, left out. The rest is given.
PROMPT = row([0, M, M, M, M, M, M], 3)
STEP = Step(
    index=4,
    tokens=row([0, 1, 2, M, M, M, M], 3),
    rows=torch.tensor([0]),
    position=torch.tensor([[3, 2, 4, 5, 6]]),
    real=torch.tensor([[True, True, True, True, False]]),
    n_candidates=2,
    said=torch.tensor([[2, 3]]),
    chosen=torch.tensor([[True, False]]),
    likeliest=torch.tensor([[0, 2, 3]]),
    probability=torch.tensor([[0.5, 0.75, 0.25]]),
    entries=15,
    cached=0,
    asked=3,
    mask_id=M,
)


def test_what_became_of_each_token():
    assert cells(STEP, PROMPT, TASK) == [
        ("1", "given"),
        ("2", "said"),
        ("3", "now"),
        ("1", "candidate"),
        ("4", "latent"),
        (UNKNOWN, "latent"),
        (UNKNOWN, "out"),
        *[("4", "given")] * 9,
    ]


def test_cells_are_of_the_row_asked_for():
    """Of two rows in the pass, one the other's mirror image; and a third is done and in no pass."""
    values = {field.name: getattr(STEP, field.name) for field in fields(STEP)}
    tensors = {name: torch.cat([value, value]) for name, value in values.items() if isinstance(value, torch.Tensor)}
    for name in ("position", "said"):
        tensors[name] = torch.cat([15 - getattr(STEP, name), getattr(STEP, name)])
    tokens = torch.cat([STEP.tokens.flip(1), PROMPT.clamp_max(2), STEP.tokens])
    three = replace(STEP, **tensors | {"tokens": tokens, "rows": torch.tensor([0, 2])})
    prompt = torch.cat([PROMPT.flip(1), PROMPT, PROMPT])
    assert cells(three, prompt, TASK, row=2) == cells(STEP, PROMPT, TASK)
    assert cells(three, prompt, TASK, row=0) == cells(STEP, PROMPT, TASK)[::-1]
    assert {kind for _, kind in cells(three, prompt, TASK, row=1)} == {"given", "said"}


def test_a_board_is_written_and_coloured_as_its_cells():
    text = terminal.board(STEP, PROMPT, TASK)
    assert text.plain == f"1 2  3 1\n4 {UNKNOWN}  {UNKNOWN} 4\n\n4 4  4 4\n4 4  4 4"
    styles = [str(span.style) for span in text.spans]
    assert styles == [terminal.STYLES[kind] for _, kind in cells(STEP, PROMPT, TASK)]
    assert len(set(terminal.STYLES.values())) == len(terminal.STYLES)


@pytest.fixture(scope="module")
def decoded() -> tuple[torch.Tensor, list[Step]]:
    model = new_denoiser(CONFIG).eval()
    prompt = TASK.sample("test", 1).prompt(M)
    return prompt, list(decode(model, prompt, latents=2, candidates=3, predict_latents=True))


def test_a_finished_board_is_the_tasks_grid(decoded):
    prompt, steps = decoded
    assert terminal.board(steps[-1], prompt, TASK).plain == TASK.grid(steps[-1].tokens[0])
    assert {kind for _, kind in cells(steps[-1], prompt, TASK)} == {"given", "said", "now"}


def test_every_step_counts_its_cells(decoded):
    prompt, steps = decoded
    for n, step in enumerate(steps):
        kinds = [kind for _, kind in cells(step, prompt, TASK)]
        left = 10 - n
        counts = [kinds.count(k) for k in ("given", "said", "now", "candidate", "latent", "out")]
        held, beside = min(left, 3), min(max(left - 3, 0), 2)
        assert counts == [6, n, 1, held - 1, beside, left - held - beside]


def wide() -> Console:
    return Console(record=True, width=200, file=io.StringIO())


def test_watching_prints_every_board_and_returns_the_last_step(decoded):
    prompt, steps = decoded
    console = wide()
    assert terminal.watch(console, steps, prompt, TASK) is steps[-1]
    text = console.export_text()
    for step in steps:
        assert f"{step.index + 1}: {int(step.latents.sum())} latents" in text
    assert all(meaning in text for meaning in terminal.MEANING.values())
    first_line = TASK.grid(steps[-1].tokens[0]).split("\n")[0]
    assert first_line in text


def test_a_path_is_watched_as_its_graph_and_answer():
    """Three lines: the edges, start and goal, what is said of the path."""
    task = PathStar(2, 3, 8, validation=10, test=10)
    config = Train(task, trunk=TRUNK)
    prompt = task.sample("test", 1).prompt(task.mask_id)
    steps = list(decode(new_denoiser(config).eval(), prompt, order="left_to_right", predict_latents=True))
    edges, ends, answer = terminal.board(steps[0], prompt, task).plain.split("\n")
    assert edges.split() == [task.symbol(int(t)) for t in prompt[0, :4]]
    assert ends.split() == [str(int(t)) for t in prompt[0, 4:6]]
    assert answer.split() == [task.symbol(int(t)) for t in steps[0].guess[0, 6:]]
    assert [kind for _, kind in cells(steps[0], prompt, task)] == ["given"] * 6 + ["now", "latent"]


def test_watching_nothing_returns_nothing():
    assert terminal.watch(wide(), [], PROMPT, TASK) is None


def test_a_page_holds_each_cell_with_its_probability(tmp_path):
    path = html.write_page([STEP, STEP], PROMPT, TASK, tmp_path / "page.html", title="<b> & 'x'")
    page = path.read_text()
    found = re.search(r"^const steps = (.*);$", page, re.MULTILINE)
    assert found
    steps = json.loads(found[1])
    assert steps[0] == steps[1] and len(steps) == 2
    assert steps[0]["text"] == str(STEP)
    shown = [tuple(cell) for cell in steps[0]["cells"]]
    assert [cell[:2] for cell in shown] == cells(STEP, PROMPT, TASK)
    assert [cell[2] for cell in shown] == [None, None, 0.75, 0.5, 0.25, *[None] * 11]
    assert [cell[3] for cell in shown] == [TASK.gap(i) for i in range(16)]
    assert "<title>&lt;b&gt; &amp; &#x27;x&#x27;</title>" in page and "<b>" not in page
    assert "%" not in re.sub(r"\d%", "", page)  # every placeholder is filled


def test_no_symbol_ends_the_script(tmp_path, monkeypatch):
    monkeypatch.setattr(Sudoku, "symbol", lambda self, token: "</script>")
    page = html.write_page([STEP], PROMPT, TASK, tmp_path / "page.html").read_text()
    assert page.count("</script>") == 1


def test_a_page_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing was decoded"):
        html.write_page([], PROMPT, TASK, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def study_row(model: str, latents: int | str, accuracy: float, saturated: bool = False) -> dict[str, Any]:
    return {
        "model": model,
        "latents": latents,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.1, accuracy + 0.05],
        "nll": 2 - accuracy,
        "nll_interval": [1.9 - accuracy, 2.05 - accuracy],
        "passes": 10.0,
        "entries_per_pass": 12.34,
        "flops_per_puzzle": 5e6 * (1 + accuracy),
        "seconds_per_puzzle": 0.0123,
        "saturated": saturated,
    }


ROWS = [
    study_row("mdm", "all", 0.8),
    study_row("sidm", 0, 0.3),
    study_row("scdm", 0, 0.35),
    study_row("scdm", 2, 0.5),
    study_row("scdm", "all", 0.9, saturated=True),
]


def ar_row(task: str, method: str, window: str, decoding: str, accuracy: float) -> dict[str, Any]:
    return {
        "task": task,
        "method": method,
        "window": window,
        "decoding": decoding,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.1, accuracy + 0.05],
        "first_token": 1 - accuracy,
        "passes": 26.14,
        "entries_per_pass": 123.44,
        "flops_per_example": 123.44e6 * (1 + accuracy),
        "seconds_per_example": 0.012345,
        "lr": 2e-3,
        "curriculum": {"step": [2, 4], "slots": [[2.0, 1.5, 1.0], [1.5, 1.0, 0.5]]},
    }


AR_ROWS = [
    ar_row(task, method, window, decoding, accuracy + shift)
    for task, shift in (("path-star", 0.1), ("sudoku", 0.0))
    for method, window, decoding, accuracy in (
        ("next token", "", "left to right", 0.4),
        ("pause", "all", "left to right", 0.3),
        ("AR + MTP", "2", "left to right", 0.5),
        ("AR + MTP", "all", "left to right", 0.8),
        ("AR + MTP", "all", "speculation", 0.8),
        ("MDM", "all", "confidence", 0.7),
    )
]
RESULTS = {"latents": ROWS, "ar-latents": AR_ROWS}


def result_of(study: str, claims: tuple[Claim, ...] = (), notes: tuple[str, ...] = ()) -> Result:
    return Result(study, None, RESULTS[study], list(claims), list(notes))


def pixels(path) -> Any:
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    return matplotlib.image.imread(path)


def test_the_trade_off_is_drawn_from_the_rows(tmp_path):
    assert figure.trade_off(ROWS, tmp_path / "a.png") == tmp_path / "a.png"
    figure.trade_off(ROWS, tmp_path / "b.png")
    other = [*ROWS[:3], study_row("scdm", 2, 0.7), ROWS[4]]
    figure.trade_off(other, tmp_path / "c.png")
    a, b, c = (pixels(tmp_path / f"{name}.png") for name in "abc")
    assert a.shape == c.shape and (a == b).all() and (a != c).any()
    assert a.shape[1] > 2 * a.shape[0]  # three axes side by side
    assert 0.02 < (a[..., :3] < 0.9).any(-1).mean() < 0.5  # neither blank nor black


def test_the_lookahead_is_drawn_from_the_rows(tmp_path):
    def draw(name: str, rows: list[dict[str, Any]]):
        assert figure.lookahead(rows, tmp_path / name) == tmp_path / name
        return pixels(tmp_path / name)

    def changed(n: int, **values: Any) -> list[dict[str, Any]]:
        return [*AR_ROWS[:n], AR_ROWS[n] | values, *AR_ROWS[n + 1 :]]

    plain, again = draw("a.png", AR_ROWS), draw("b.png", AR_ROWS)
    assert (plain == again).all() and plain.shape[1] > 2 * plain.shape[0]
    assert 0.02 < (plain[..., :3] < 0.9).any(-1).mean() < 0.5  # neither blank nor black
    third = plain.shape[1] // 3
    star = draw("star.png", changed(1, accuracy=0.2, accuracy_interval=[0.1, 0.3]))
    board = draw("board.png", changed(6, accuracy=0.2, accuracy_interval=[0.1, 0.3]))
    learned = draw("learned.png", changed(3, curriculum={"step": [2, 4], "slots": [[2.0, 1.5, 1.0], [1.5, 1.2, 0.5]]}))
    assert star.shape == board.shape == learned.shape == plain.shape
    for other, part in ((star, 0), (board, 1), (learned, 2)):
        moved = (other != plain).any(-1)
        inside = moved[:, part * third : (part + 1) * third].sum()
        assert inside > 0.9 * moved.sum() > 0
    # Where no pass has the prompt alone nothing is foreseen: an empty picture, and no complaint.
    assert draw("blind.png", changed(3, curriculum={"step": [2, 4], "slots": [[], []]})).shape == plain.shape
    # A second way of decoding the same model has no bar of its own, and another model's latents no curve.
    assert (draw("ways.png", changed(4, accuracy=0.1)) == plain).all()
    assert (draw("other.png", changed(9, curriculum={"step": [], "slots": []})) == plain).all()


@pytest.mark.parametrize("study", RESULTS)
def test_a_study_is_drawn_by_its_kind(tmp_path, study):
    draw = {"latents": figure.trade_off, "ar-latents": figure.lookahead}[study]
    assert figure.draw(result_of(study), tmp_path / "a.png") == tmp_path / "a.png"
    draw(RESULTS[study], tmp_path / "b.png")
    assert (pixels(tmp_path / "a.png") == pixels(tmp_path / "b.png")).all()


def test_losses_are_drawn_from_the_metrics(tmp_path):
    def draw(name: str, *losses: float):
        run = Run(tmp_path / name)
        run.folder.mkdir()
        for step, loss in enumerate(losses, start=1):
            run.log(step=step, loss=loss, **({"validation": loss + 0.1} if step % 2 == 0 else {}))
        return pixels(figure.losses(run, run.folder / "losses.png"))

    a, b = draw("a", 1.4, 1.3, 1.2, 0.9), draw("b", 1.4, 1.0, 1.2, 0.9)
    assert a.shape == b.shape and (a != b).any()
    assert draw("young", 1.4).shape == a.shape  # no validation yet


CLAIMS = (Claim("joint prediction", True, "accuracy [0.1, 0.2]"), Claim("dial", False, "NOT SHOWN: it rises"))
LINES = {
    "latents": [
        "MDM all .800 [.700, .850] 1.200 [1.100, 1.250] 10.0 12.3 9 12.3",
        "SCDM all .900 [.800, .950] saturated 1.100 [1.000, 1.150] 10.0 12.3 10 12.3",
    ],
    "ar-latents": [
        "path-star next token - left to right .500 [.400, .550] .500 26.1 123.4 185.2 12.35 0.002",
        "sudoku AR + MTP all speculation .800 [.700, .850] .200 26.1 123.4 222.2 12.35 0.002",
    ],
}


@pytest.mark.parametrize("study", RESULTS)
@pytest.mark.parametrize("width", [200, 80, 60])
def test_a_result_is_shown_with_its_verdicts(study, width):
    """On a narrow terminal and in a pipe too: a row is one line, and no cell is cut."""
    console = Console(record=True, width=width, file=io.StringIO(), soft_wrap=True)
    terminal.show_result(console, result_of(study, CLAIMS, ("three [x] seeds",)))
    text = console.export_text()
    assert "joint prediction: holds" in text and "dial: does not hold" in text
    assert "accuracy [0.1, 0.2]" in text and "note: three [x] seeds" in text
    lines = [" ".join(line.split()) for line in text.split("\n")]
    assert all(line in lines for line in LINES[study])
    assert " ".join(TABLES[study].headings) in lines
    assert TABLES[study].caption in " ".join(lines)
    assert "…" not in text and text.count("saturated") == (study == "latents")
    rows = [" ".join(cells) for cells in report.table_cells(result_of(study))]
    first = lines.index(" ".join(rows[0].split()))
    assert lines[first : first + len(rows)] == [" ".join(row.split()) for row in rows]


def test_the_table_is_no_wider_than_its_cells():
    console = wide()
    terminal.show_result(console, result_of("ar-latents"))
    table = console.export_text().split(TABLES["ar-latents"].caption[:20])[0]
    assert 90 < max(len(line.rstrip()) for line in table.split("\n")) < 120


@pytest.mark.parametrize("study", RESULTS)
def test_a_page_of_a_result_holds_its_table_and_verdicts(tmp_path, study):
    result = result_of(study, (Claim("dial", False, "a; NOT SHOWN: b"),), ("one seed",))
    text = report.write_page(result, "a.png", tmp_path / "README.md").read_text()
    assert f"# study {study}\n" in text and "- **dial: does not hold.** a; NOT SHOWN: b." in text
    assert f"![{study}](a.png)" in text and "- one seed\n" in text and result.environment["machine"] in text
    assert f"\n{TABLES[study].caption}\n" in text
    table = [[c.strip() for c in line.strip("|").split("|")] for line in text.split("\n") if line.startswith("|")]
    columns = list(TABLES[study].headings)
    assert table == [columns, ["---"] * len(columns), *report.table_cells(result)]
    assert " ".join(table[2]) == LINES[study][0]


@pytest.mark.parametrize("study", RESULTS)
def test_a_row_that_lacks_something_is_refused_and_it_is_named(study):
    for name in TABLES[study].needed():
        rows = [RESULTS[study][0], {k: v for k, v in RESULTS[study][1].items() if k != name}]
        with pytest.raises(ValueError, match=rf"a row lacks {name}:"):
            report.table_cells(Result(study, None, rows, []))
    kept = [{k: v for k, v in r.items() if k in TABLES[study].needed()} for r in RESULTS[study]]
    assert report.table_cells(Result(study, None, kept, [])) == report.table_cells(result_of(study))


def test_an_unknown_study_is_named():
    with pytest.raises(
        ValueError,
        match=r"no study is called 'x'; known are latents, dial, decode, loops, tasks, .*, curves, ar-latents",
    ):
        table_of("x")


def test_watching_a_training_prints_its_validations():
    console = wide()
    updates = [Update(1, 1.5, None, 0.1), Update(2, 1.4, 1.45, 0.1), Update(3), Update(4, 1.2, 1.25, 0.1)]
    terminal.watch_training(console, replace(CONFIG, steps=4), iter(updates))
    assert console.export_text().strip().split("\n") == [
        "step 2: loss 1.4000, validation 1.4500 nats a token",
        "step 4: loss 1.2000, validation 1.2500 nats a token",
    ]


def test_watching_a_study_prints_each_tenth_of_a_stage_once_and_returns_the_result():
    console, result = wide(), Result("latents", None, [], [])
    losses = [Stage(f"training MDM: loss {1 - done / 100}", done, 80) for done in (0, 4, 20, 22)]
    assert terminal.watch_study(console, iter([*losses, Stage("decoding", 40, 80), result])) is result
    first, second, third = console.export_text().strip().split("\n")
    assert first == "[  0%] training MDM"
    assert re.fullmatch(r"\[ 25%\] training MDM, about \d+ min left", second)
    assert re.fullmatch(r"\[ 50%\] decoding, about \d+ min left", third)

"""The pages of docs: their Python runs, commands parse, links lead somewhere, and numbers are committed."""

import re
from pathlib import Path

import pytest
from pages import DOCS, PAGES, ROOT, anchors, blocks, check_commands, links, run

from unspoken.decoders.decode import decoders_with
from unspoken.decoders.policies import LATENT_POLICIES, ORDERS
from unspoken.presets.tasks import TASKS
from unspoken.show.report import table_cells, write_page
from unspoken.study.report import read_result
from unspoken.study.table import share

RESULTS = ROOT / "docs" / "results"
CODE = [(page.stem, i, code) for page in DOCS for i, code in enumerate(blocks(page))]
PROSE = ("README.md", "architecture.md", "families.md", "glossary.md")  # pages without examples


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


@pytest.mark.parametrize("code", [code for _, _, code in CODE], ids=[f"{name}-{i}" for name, i, _ in CODE])
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(code, tmp_path, monkeypatch)


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: p.stem)
def test_the_commands_are_real_and_every_page_has_an_example(doc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (len(blocks(doc)) + check_commands(doc, monkeypatch) >= 1) == (doc.name not in PROSE)


@pytest.mark.parametrize("doc", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(doc: Path) -> None:
    for link in links(doc):
        path, _, anchor = link.partition("#")
        target = doc.parent / path if path else doc
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_links_every_page() -> None:
    index = links(ROOT / "docs" / "README.md")
    assert {p.name for p in DOCS} - {"README.md"} <= set(index)


def test_decoding_names_every_order_and_policy() -> None:
    text = page("decoding.md")
    assert [name for name in (*ORDERS, *LATENT_POLICIES) if f"`{name}`" not in text] == []


def test_decoding_tells_whose_options_are_whose() -> None:
    rows = re.findall(r"^\| `us\.(\w+)` \|.*\| ((?:`\w+`(?:, )?)+) \|$", page("decoding.md"), re.MULTILINE)
    assert {name for name, _ in rows} == {"NextToken", "Speculation", "Blocks", "Walk", "OnePass"}
    for name, options in rows:
        assert all(name in decoders_with(option) for option in re.findall(r"`(\w+)`", options))


def test_every_task_is_told_of() -> None:
    text = page("tasks.md")
    assert [name for name in {type(make()).__name__ for make in TASKS.values()} if f"`{name}`" not in text] == []


def test_the_numbers_from_left_to_right_are_the_committed_study() -> None:
    """Every method's share solved, by the decoding that its learning rate was chosen by; `-` where there is none."""
    result = read_result(RESULTS / "ar-latents" / "study.json")
    measured: dict[tuple[str, ...], str] = {}
    for cells in table_cells(result):
        measured.setdefault(tuple(cells[:3]), cells[4])
    share = r"(-|\d?\.\d+ \[.*?\])"
    text = page("left-to-right.md")
    shown = re.findall(rf"^\| ([\w +]+) \| (-|\d+|all) \| {share} \| {share} \|$", text, re.MULTILINE)
    assert {(method, window) for method, window, *_ in shown} == {key[1:] for key in measured}
    for method, window, *values in shown:
        assert values == [measured.get((task, method, window), "-") for task in ("path-star", "sudoku")]


def test_the_numbers_of_speed_are_the_committed_study() -> None:
    """Every row of the table at 64 puzzles together."""
    result = read_result(RESULTS / "decode" / "study.json")
    measured = {cells[1]: cells for cells in table_cells(result) if (cells[0], cells[2]) == ("ways", "64")}
    row = r"^\| ([^|]+) \| (\w+) \| (\..*?) \| ([\d.]+) \| (\d+) \| ([\d.]+x) \| ([\d.]+x) \|$"
    shown = re.findall(row, page("speed.md"), re.MULTILINE)
    assert len(shown) == 10
    for way, *values in shown:
        *_, latents, solved, _, _, passes, flops, _, fewer, faster = measured[way]
        assert values == [latents, solved, passes, flops, fewer, faster]


def test_the_numbers_of_noise_are_the_committed_study() -> None:
    """Illegal steps before self-correction, and bounds."""
    result = read_result(RESULTS / "gidd" / "study.json")
    measured = {(cells[1], cells[2]): cells for cells in table_cells(result) if cells[0] == "chain"}
    row = r"^\| ([\d.]+)[^|]* \| (\d+) \| (\.\d+ \S+ \S+) \| .*? \| ([\d.]+ \S+ \S+) \|$"
    shown = re.findall(row, page("noise.md"), re.MULTILINE)
    assert len(shown) == 4
    for uniform, passes, before, bound in shown:
        assert (before, bound) == (measured[uniform, passes][3], measured[uniform, passes][8])


def test_the_numbers_of_the_dial_are_the_committed_study() -> None:
    """Both tables of 6x6 Sudoku: the share solved and the NLL of every model at every count, and the FLOPs."""
    result = read_result(RESULTS / "dial" / "study.json")
    rows = [row for row in result.rows if row["part"] == "dial"]
    counts = ["0", "1", "2", "4", "8", "16", "all"]
    solved, nll = page("dial.md").split("NLL, nats a token:")
    for key, text in (("accuracy", solved), ("nll", nll)):
        shown = re.findall(r"^\| ([A-Z_]+(?:, [\w ]+)*) \|((?: \.\d{3} \|| \|){7})", text, re.MULTILINE)
        assert [model for model, _ in shown] == list(dict.fromkeys(row["model"] for row in rows))
        for model, cells in shown:
            its = {str(r["latents"]): share(r[key]) for r in rows if r["model"] == model}
            assert [c.strip() for c in cells.split("|")[:7]] == [its.get(n, "") for n in counts]
    flops = re.findall(r"^\| ([A-Z_]+(?:, [\w ]+)*) \|.*\| (\d+)(?: to (\d+))? \|$", solved, re.MULTILINE)
    assert len(flops) == len({row["model"] for row in rows})
    for model, *ends in flops:
        its = [f"{r['flops_per_puzzle'] / 1e6:.0f}" for r in rows if r["model"] == model]
        assert [end for end in ends if end] == ([its[0], its[-1]] if len(its) > 1 else its)


def test_the_numbers_of_the_dial_on_other_tasks_are_the_committed_study() -> None:
    result = read_result(RESULTS / "dial" / "tasks" / "study.json")
    rows = [row for row in result.rows if row["part"] == "dial"]
    line = r"^\| ([a-z-]+) \| ([A-Z_]+(?:, \w+)*) \|((?: \.\d{3} \|){7}) (\d+) to (\d+) \|$"
    shown = re.findall(line, page("dial.md"), re.MULTILINE)
    assert [(task, model) for task, model, *_ in shown] == list(dict.fromkeys((r["task"], r["model"]) for r in rows))
    for task, model, cells, *ends in shown:
        its = [r for r in rows if (r["task"], r["model"]) == (task, model)]
        assert [c.strip() for c in cells.split("|")[:7]] == [share(r["nll"]) for r in its]
        assert ends == [f"{its[n]['flops_per_puzzle'] / 1e6:.0f}" for n in (0, -1)]


def test_the_numbers_of_steps_are_the_committed_study() -> None:
    """What even and planned steps solve."""
    result = read_result(RESULTS / "steps" / "study.json")
    cells = [c for c in table_cells(result) if c[0] == "schedule" and c[1].startswith("MDM, 6x6")]
    solved = {c[5]: c[9] for c in cells}
    row = r"^\| (\d+) \| ([\d ]+) \| (\..*?) \| ([\d ]+) \| (\..*?) \|$"
    rows = re.findall(row, page("steps.md"), re.MULTILINE)
    assert len(rows) == 4
    for passes, even, of_even, planned, of_planned in rows:
        assert len(even.split()) == len(planned.split()) == int(passes)
        assert (of_even, of_planned) == (solved[even], solved[planned])


@pytest.mark.parametrize("study", sorted(RESULTS.rglob("study.json")), ids=lambda p: p.parent.name)
def test_every_committed_page_is_written_from_its_study(study: Path, tmp_path: Path) -> None:
    """No number of a page was typed: it is what `unspoken show` writes from the study.json beside it."""
    result = read_result(study)
    written = write_page(result, f"{result.study}.png", tmp_path / "README.md")
    assert written.read_text() == (study.parent / "README.md").read_text()
    assert (study.parent / f"{result.study}.png").exists()


@pytest.mark.parametrize(
    ("study", "claims"),
    [
        ("gidd", {"self-correction"}),
        ("forcing", {"one model every schedule"}),
        ("steps", {"prediction", "planned schedule"}),
        (
            "ladir",
            {
                "test-time compute",
                "repulsion adds answers",
                "rollout helps",
                "small times help",
                "vectors of a block need each other",
                "vectors beat next tokens",
            },
        ),
        (
            "forediff",
            {
                "two streams",
                "two streams keep the spread",
                "two streams err less",
                "two streams, as deep, err less",
                "training in stages errs less than all at once",
            },
        ),
        ("narvl", {"one pass", "marginalisation", "distillation"}),
        ("decode", {"flops", "wall clock", "quarter of the latents"}),
        ("dial", {"grouped dial", "grouped dial, whole to split", "no loss at the top"}),
    ],
)
def test_committed_studies_name_their_claims(study: str, claims: set[str]) -> None:
    result = read_result(RESULTS / study / "study.json")
    assert {c.name for c in result.claims} == claims


@pytest.mark.parametrize(
    ("study", "claims"), [("latents", {"joint prediction", "dial"}), ("ar-latents", {"lookahead"})]
)
def test_a_committed_study_names_its_claims(study: str, claims: set[str]) -> None:
    result = read_result(RESULTS / study / "study.json")
    assert {c.name for c in result.claims} == claims
    assert all(len(row["seeds"]) == 3 for row in result.rows)

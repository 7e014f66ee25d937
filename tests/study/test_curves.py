"""Laws of the curves: families follow from what a model was trained on, each point is what `solve` gives."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from alone import finish
from toy import TRUNK

from unspoken.decoders.autoregressive import NextToken, Speculation
from unspoken.decoders.blocks import Blocks
from unspoken.decoders.decode import Decoders, decoder_of
from unspoken.decoders.denoise import Walk
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import ANY_ORDER, CACHED_ALONE, CACHED_JOINT, JOINT, MDM, SCDM, SIDM, Attention
from unspoken.layout.groups import Groups
from unspoken.layout.packing import left_to_right
from unspoken.measure.accuracy import solved
from unspoken.measure.area import area
from unspoken.measure.groups import numbered
from unspoken.measure.samples import nll_from_left, reader, unigram_entropy
from unspoken.model.ports import Vectors
from unspoken.noise import Gaussian, Hybrid
from unspoken.record import from_record, to_record
from unspoken.show import figure
from unspoken.show.report import table_cells, write_page
from unspoken.study.curves import DATA, TABLE, CurvesStudy
from unspoken.study.families import FAMILIES, Grid, Kind, drawn_of, settings_of
from unspoken.study.report import Result
from unspoken.tasks import Bouncing, Sudoku, Text
from unspoken.tasks.base import Examples
from unspoken.training.config import Train, Trunk
from unspoken.training.loop import load, new_denoiser, train
from unspoken.training.objective import (
    BlockDiffusion,
    Denoising,
    MaskedDiffusion,
    MultiToken,
    MuToR,
    NextTokenPrediction,
    Objective,
    Teacherless,
)

FEW = Grid(thresholds=(0.5,), entropies=(0.5,), sizes=(2, 0), latents=(0, 4), drafts=(1, 2), candidates=2)
TEXT = Text(length=8)
TINY = Train(TEXT, MDM, TRUNK, steps=1, batch=4, warmup=1, validate=1, save=1, log=1)
BOARD = replace(TINY, task=Sudoku(2, 2, givens=6, train=200, validation=10, test=10))
SOLVE = {  # a run of every kind of decoder
    "masked": replace(BOARD, attention=SCDM),
    "window": replace(BOARD, attention=CACHED_JOINT, objective=MultiToken(window=3)),
    "next-token": replace(BOARD, attention=CACHED_ALONE, objective=NextTokenPrediction()),
    "blocks": replace(BOARD, attention=CACHED_JOINT, objective=BlockDiffusion(4)),
    "walk": replace(BOARD, process=Hybrid(0.2), objective=Denoising(), trunk=Trunk(1, 16, 2, times=True)),
}
WRITES = replace(TINY, attention=CACHED_ALONE, objective=MultiToken(window=1))


def kind(attention: Attention, objective: Objective | None = None, most: int = 8, **changes) -> Kind:
    """A model of a board, trained on what is given."""
    config = Train(Sudoku(2, 2), attention, TRUNK, objective=objective or MaskedDiffusion())
    return Kind(replace(config, **changes), FEW, most)


MASKED = {  # candidates see each other, and all are
    ("one", "1 a pass"): Slots(candidates=8),
    ("sizes", "2 a pass"): Slots(candidates=8, commit=2),
    ("sizes", "8 a pass"): Slots(candidates=8, commit=8),
    ("threshold", "p 0.5"): Slots(candidates=8, commit=8, threshold=0.5),
    ("entropy", "nats 0.5"): Slots(candidates=8, commit=8, entropy_bound=0.5),
}
ORDERED = {  # they do not, and few leave room for latents
    ("one", "1 a pass"): Slots(candidates=2),
    ("sizes", "2 a pass"): Slots(candidates=2, commit=2),
    ("sizes", "8 a pass"): Slots(candidates=8, commit=8),
    ("threshold", "p 0.5"): Slots(candidates=2, commit=2, threshold=0.5),
    ("entropy", "nats 0.5"): Slots(candidates=2, commit=2, entropy_bound=0.5),
}
NONE, FOUR = (
    {
        ("latents", f"latents {n}"): Slots(n, 2),
        ("latents", f"latents {n}, p 0.5"): Slots(n, 2, commit=2, threshold=0.5),
    }
    for n in (0, 4)
)


def beside(commit: int, latents: int | None, **rule: float) -> Slots:
    return Slots(latents, commit=commit, order="left_to_right", latent_policy="next", **rule)


WALKS = {("walk", f"passes {n}"): Walk(passes=n) for n in (8, 4, 1)}
EXPECTED: dict[str, tuple[Kind, dict[tuple[str, str], Decoders]]] = {
    "mdm": (kind(MDM), MASKED),
    "joint": (kind(JOINT), MASKED),
    "cached joint": (kind(CACHED_JOINT), MASKED),
    "grouped": (kind(CACHED_JOINT, MaskedDiffusion(groups=Groups())), MASKED | NONE | FOUR),
    "sidm": (kind(SIDM), MASKED | NONE),
    "scdm": (kind(SCDM), ORDERED | NONE | FOUR),
    "any order": (kind(ANY_ORDER), ORDERED | NONE | FOUR),
    "next token": (kind(CACHED_ALONE, NextTokenPrediction()), {("one", "1 a pass"): NextToken()}),
    "registers": (kind(CACHED_JOINT, MuToR()), {("one", "1 a pass"): NextToken()}),
    "mask slot": (kind(CACHED_ALONE, MultiToken(window=1)), {("one", "1 a pass"): beside(1, 0)}),
    "pause": (kind(CACHED_JOINT, MultiToken(weight=0.0)), {("one", "1 a pass"): beside(1, None)}),
    "window": (
        kind(CACHED_JOINT, MultiToken(window=3, next_token=0.5)),
        {
            ("one", "1 a pass"): beside(1, 2),
            ("sizes", "2 a pass"): beside(2, 1),
            ("sizes", "3 a pass"): beside(3, 0),
            ("threshold", "p 0.5"): beside(3, 0, threshold=0.5),
            ("entropy", "nats 0.5"): beside(3, 0, entropy_bound=0.5),
            ("next", "next token"): NextToken(),
            ("drafts", "drafts 1"): Speculation(2, 1),
            ("drafts", "drafts 2"): Speculation(2, 2),
        },
    ),
    "teacherless": (kind(MDM, Teacherless()), {("sizes", "8 a pass"): kind(MDM, Teacherless()).own}),
    "blocks": (
        kind(CACHED_JOINT, BlockDiffusion(4)),
        {
            ("one", "1 a pass"): Blocks(4),
            ("sizes", "2 a pass"): Blocks(4, commit=2),
            ("sizes", "4 a pass"): Blocks(4, commit=4),
        },
    ),
    "denoising masks": (kind(MDM, Denoising()), MASKED | WALKS),
    "other noise": (
        kind(MDM, Denoising(), process=Hybrid(0.2), trunk=Trunk(1, 16, 2, times=True)),
        {key: replace(walk, process=Hybrid(0.2)) for key, walk in WALKS.items()},
    ),
}


@pytest.mark.parametrize("model", EXPECTED)
def test_a_models_settings_are_what_it_was_trained_for(model: str) -> None:
    its, expected = EXPECTED[model]
    found = settings_of(its)
    assert found == expected
    assert len(set(found.values())) == len(found)


def test_every_family_has_a_model_above() -> None:
    assert {family for _, settings in EXPECTED.values() for family, _ in settings} == set(FAMILIES)


def test_families_are_chosen_and_none_is_refused() -> None:
    chosen = replace(kind(SCDM), grid=replace(FEW, families=("latents", "one")))
    assert [family for family, _ in settings_of(chosen)] == ["latents"] * 4 + ["one"]
    with pytest.raises(ValueError, match=r"families=\('walk',\): attention scdm trained with MaskedDiffusion"):
        settings_of(replace(kind(SCDM), grid=replace(FEW, families=("walk",))))


def test_a_run_that_says_one_token_has_no_setting_of_more() -> None:
    assert settings_of(kind(MDM, most=1)) == {("one", "1 a pass"): Slots(candidates=1)}


@pytest.fixture(scope="module")
def solvers(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("solvers")
    for name, config in SOLVE.items():
        train(config, base / name)
    return {name: base / name for name in SOLVE}


@pytest.fixture(scope="module")
def solved_runs(solvers: dict[str, Path]) -> Result:
    return finish(CurvesStudy(tuple(map(str, solvers.values())), examples=8, batch=4, grid=FEW).run())


def whole(result: Result, tmp: Path) -> None:
    """Saved, drawn and written: every row has its cells, and the figure needs no more than the columns say."""
    result.save(tmp)
    assert {len(line) for line in table_cells(result)} == {len(TABLE.headings)}
    less = [{key: row[key] for key in row if key in TABLE.needed(row["part"])} for row in result.rows]
    picture = figure.draw(replace(result, rows=less), tmp / "figure.png")
    assert "![curves](figure.png)" in write_page(result, picture.name, tmp / "README.md").read_text()


def test_curves_of_every_kind_of_run(solved_runs: Result, tmp_path: Path) -> None:
    settings = [r for r in solved_runs.rows if r["part"] == "settings"]
    names = ("SCDM", "CACHED-JOINT, MultiToken", "CACHED-ALONE, NextTokenPrediction")
    models = [*names, "CACHED-JOINT, BlockDiffusion", "MDM, Denoising"]
    assert list(dict.fromkeys(r["model"] for r in settings)) == models
    assert [r["model"] for r in solved_runs.rows if r["part"] == "area"] == models
    for name in models:
        first = next(r for r in settings if r["model"] == name)
        assert first["tokens_per_pass"] == pytest.approx(1) and first["passes"] == pytest.approx(10)
    fastest = max(r["tokens_per_pass"] for r in settings if r["model"] == "SCDM")
    assert fastest == pytest.approx(10)  # all there are
    assert solved_runs.claims == []
    whole(solved_runs, tmp_path)


@pytest.mark.parametrize(
    ("name", "model", "candidates"),
    [
        ("masked", "SCDM", {"candidates": 2}),
        ("window", "CACHED-JOINT, MultiToken", {}),
        ("next-token", "CACHED-ALONE, NextTokenPrediction", {}),
        ("blocks", "CACHED-JOINT, BlockDiffusion", {}),
    ],
)
def test_the_first_point_is_what_the_models_own_decoder_gives(solvers, solved_runs, name, model, candidates) -> None:
    """One token a pass; of SCDM from as many candidates as the grid says."""
    network, task = load(solvers[name], "cpu"), BOARD.task
    test = task.sample("test", 8).by_size()
    alone = solved(network, task, test, replace(decoder_of(network), **candidates), 4)
    row = next(r for r in solved_runs.rows if r["model"] == model)
    assert row["accuracy"] == pytest.approx(float(alone.right.double().mean()))
    measured = [row[key] for key in ("passes", "entries_per_pass", "flops_per_example")]
    assert measured == pytest.approx([alone.passes, alone.entries, alone.flops])


def test_areas_are_those_of_the_rows(solved_runs: Result) -> None:
    """Recomputed from what the table shows; untrained models may solve nothing, so that accuracies are put in."""
    settings = [r for r in solved_runs.rows if r["part"] == "settings"]
    for row in (r for r in solved_runs.rows if r["part"] == "area"):
        its = [r for r in settings if r["model"] == row["model"]]
        right = [torch.tensor([[r["accuracy"]]], dtype=torch.float64) for r in its]
        tokens = float(area([1 / r["tokens_per_pass"] for r in its], right, 1 / 10, 1))
        assert row["area_by_tokens"] == pytest.approx(tokens, abs=1e-9)
        for key in ("flops", "seconds"):
            every = [r[f"{key}_per_example"] for r in settings]
            found = float(area([r[f"{key}_per_example"] for r in its], right, min(every), max(every)))
            assert row[f"area_by_{key}"] == pytest.approx(found, abs=1e-9)


# --- samples


@pytest.fixture(scope="module")
def writers(tmp_path_factory) -> dict[str, list[str]]:
    base = tmp_path_factory.mktemp("writers")
    found: dict[str, list[str]] = {}
    for name, config, seeds in (("mdm", TINY, (0, 1)), ("ar", WRITES, (0,))):
        for seed in seeds:
            train(replace(config, seed=seed), base / f"{name}{seed}")
            found.setdefault(name, []).append(str(base / f"{name}{seed}"))
    return found


def test_samples_are_held_against_the_judge(writers: dict[str, list[str]], tmp_path: Path) -> None:
    grid = Grid(temperatures=(0.5, 2.0), drawn=(1, 4))
    result = finish(CurvesStudy((*writers["mdm"], *writers["ar"]), samples=6, batch=4, grid=grid).run())
    samples = [r for r in result.rows if r["part"] == "samples"]
    found = [(r["model"], r["setting"], r["temperature"]) for r in samples]
    masked = [("MDM", f"{n} a pass", t) for n in (1, 4) for t in (0.5, 2.0)]
    assert found == [*masked, *[("CACHED-ALONE, MultiToken", "1 a pass", t) for t in (0.5, 2.0)]]
    assert all(len(r["nll_by_seed"]) == (2 if r["model"] == "MDM" else 1) for r in samples)
    assert all(0 <= r["entropy"] <= math.log(8) + 1e-9 and r["nll"] > 0 for r in samples)
    (data,) = [r for r in result.rows if r["part"] == "data"]
    x0 = TEXT.sample("test", 6).x0
    judge = load(writers["ar"][0], "cpu")
    told = nll_from_left(judge, WRITES, Examples(x0, torch.zeros_like(x0, dtype=torch.bool)))
    assert data["model"] == DATA and data["nll"] == pytest.approx(float(told.mean()))
    assert any("is that of CACHED-ALONE, MultiToken" in note for note in result.notes)
    whole(result, tmp_path)
    elsewhere = finish(CurvesStudy((writers["mdm"][0],), writers["ar"][0], samples=6, batch=4, grid=grid).run())
    assert [r for r in elsewhere.rows if r["part"] == "data"] == [data]


def test_masks_are_drawn_in_random_order_and_what_draws_nothing_is_refused() -> None:
    drawn = drawn_of(Kind(TINY, replace(FEW, temperatures=(0.5,), drawn=(1, 0)), 8))
    assert drawn == {
        ("1 a pass", 0.5): Slots(commit=1, order="uniform", temperature=0.5),
        ("8 a pass", 0.5): Slots(commit=8, order="uniform", temperature=0.5),
    }
    (walk,) = drawn_of(replace(EXPECTED["other noise"][0], grid=replace(FEW, drawn=(3,)))).items()
    assert walk == (("3 a pass", 1.0), Walk(Hybrid(0.2), passes=3))
    at_once = drawn_of(replace(EXPECTED["teacherless"][0], grid=replace(FEW, temperatures=(0.5,))))
    assert at_once == {("8 a pass", 0.5): replace(kind(MDM, Teacherless()).own, temperature=0.5)}
    with pytest.raises(ValueError, match="draws none"):
        drawn_of(EXPECTED["next token"][0])


def test_unigram_entropy_by_hand() -> None:
    """Of what is said: four tokens alike; two and two; four; one."""
    tokens = torch.tensor([[1, 1, 1, 1], [0, 2, 0, 2], [0, 1, 2, 3], [0, 1, 2, 3]])
    said = torch.ones(4, 4, dtype=torch.bool)
    said[3, 1:] = False
    expected = torch.tensor([0.0, math.log(2), math.log(4), 0.0], dtype=torch.float64)
    torch.testing.assert_close(unigram_entropy(tokens, said, 5), expected)


@pytest.mark.parametrize(
    ("attention", "objective"),
    [
        (CACHED_ALONE, MultiToken(window=1)),
        (CACHED_JOINT, MultiToken(window=3)),
        (CACHED_JOINT, MultiToken()),
        (CACHED_JOINT, MultiToken(weight=0.5, next_token=0.5)),
        (CACHED_ALONE, NextTokenPrediction()),
        (CACHED_ALONE, MuToR()),
    ],
)
def test_what_a_reader_tells_is_a_chain_of_what_its_decoder_predicts(attention, objective) -> None:
    """Token by token: the probability of the sample's own token where the decoder stands before it."""
    config = Train(replace(TEXT, mode="prefix", share=0.25), attention, Trunk(1, 16, 2, init=0.5), objective=objective)
    model = new_denoiser(config).eval()
    test = config.task.sample("test", 3)
    told, total = nll_from_left(model, config, test), torch.zeros(3, dtype=torch.float64)
    clean = left_to_right(test.x0, test.given)
    for index in range(6):
        place = clean.place[:, index]
        before = torch.arange(8) < place[:, None]
        prompt = torch.where(before, test.x0, config.task.mask_id)
        total -= _probability(model, prompt, test.x0.gather(1, place[:, None])).log()
    torch.testing.assert_close(told, total / 6, rtol=1e-4, atol=1e-5)


def _probability(model, prompt: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """`[n]` of the token that the model's own decoder would say next."""
    layouts = []
    forward = model.forward

    def watched(layout, at=None, cache=None):
        layouts.append(forward(layout, at, cache))
        return layouts[-1]

    model.forward = watched
    try:
        decoder = decoder_of(model)
        next(decoder.steps(model, prompt))
    finally:
        del model.forward
    return layouts[0][:, 0].softmax(-1).gather(1, token)[:, 0].double()


def test_who_reads_from_the_left() -> None:
    def of(attention: Attention, objective: Objective) -> Objective | None:
        return reader(Train(TEXT, attention, TRUNK, objective=objective))

    assert of(MDM, MaskedDiffusion()) is None
    assert of(MDM, MultiToken(prefixes=1)) is None  # its context sees what comes after it
    assert of(ANY_ORDER, MultiToken(order="random")) is None
    assert of(CACHED_JOINT, MuToR()) == NextTokenPrediction()
    assert of(CACHED_JOINT, MultiToken(4, prefixes=1)) == MultiToken(4, weight=0.0)
    with pytest.raises(ValueError, match="likelihood is a bound"):
        nll_from_left(new_denoiser(TINY), TINY, TEXT.sample("test", 1))


# --- what is refused, and before anything is measured


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CurvesStudy(()), "one run folder"),
        (lambda: CurvesStudy(("a", "a")), "each once"),
        (lambda: CurvesStudy(("a",), examples=0), "1 or more"),
        (lambda: Grid(families=("luck",)), "no family is called 'luck'; give some of one, sizes, threshold"),
        (lambda: Grid(families=("one", "one")), "each once"),
        (lambda: Grid(thresholds=()), "give thresholds"),
        (lambda: Grid(thresholds=(0.0,)), "probabilities"),
        (lambda: Grid(entropies=(math.inf,)), "nats"),
        (lambda: Grid(sizes=(1,)), "above 1"),
        (lambda: Grid(drawn=(-1,)), "0 for all"),
        (lambda: Grid(latents=(-1,)), "latents of 0 or more"),
        (lambda: Grid(drafts=(0,)), "drafts and candidates of 1 or more"),
        (lambda: Grid(candidates=0), "drafts and candidates of 1 or more"),
        (lambda: Grid(temperatures=(0.0,)), "at 0 nothing is drawn"),
    ],
)
def test_bad_configs_are_refused(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_runs_that_can_not_be_measured_are_refused_first(solvers, writers, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("unspoken.study.curves.load", lambda *_: pytest.fail("a model was loaded"))
    values = replace(
        TINY,
        task=Bouncing(),
        process=Gaussian(),
        objective=Denoising(),
        port=Vectors(2, "x0", placeholder=0),
        trunk=Trunk(1, 16, 2, times=True),
    )
    train(values, tmp_path / "values")
    for study, says in (
        (CurvesStudy((str(tmp_path / "none"),)), "no run"),
        (CurvesStudy((str(solvers["masked"]), str(tmp_path / "values"))), "whose tokens are values"),
        (CurvesStudy(tuple(writers["mdm"])), "can judge samples"),
        (CurvesStudy((writers["mdm"][0],), judge=writers["mdm"][1]), "give a run that reads from the left"),
        (CurvesStudy((writers["mdm"][0],), judge=str(solvers["next-token"])), "is trained on Text"),
        (CurvesStudy((str(solvers["masked"]),), judge=writers["ar"][0]), "has right answers; leave it out"),
        (CurvesStudy((str(solvers["next-token"]),), grid=Grid(families=("drafts",))), "settings in none of them"),
    ):
        with pytest.raises(ValueError, match=says):
            finish(study.run())


def test_a_config_is_its_own_record() -> None:
    study = CurvesStudy(("a", "b"), judge="b", grid=replace(FEW, families=("one",)))
    assert from_record(CurvesStudy, to_record(study)) == study


def test_names_that_are_there_twice_are_numbered() -> None:
    assert numbered(["a", "b", "a"]) == ["a (1)", "b", "a (3)"]

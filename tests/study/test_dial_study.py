"""Laws of the study of the dial: one budget, all counts, claims that can come out either way, looks corrected for."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from alone import of_part, stages_and_result
from torch import Tensor
from toy import TRUNK

import unspoken as us
from unspoken import presets
from unspoken.layout.attention import CACHED_JOINT, JOINT, MDM, SCDM, SIDM
from unspoken.layout.groups import Groups, Related
from unspoken.measure.accuracy import Solved, solve
from unspoken.measure.costs import pass_flops, training_flops
from unspoken.record import from_record, to_record
from unspoken.show.dials import dials
from unspoken.show.report import table_cells
from unspoken.study.dial import DialStudy
from unspoken.study.grouped import EFFECTS, better_dial, effects, no_loss
from unspoken.study.report import Claim, Result, Stage
from unspoken.study.rivals import DialCase, Rival
from unspoken.study.trade_off import Level, Levels
from unspoken.tasks import Sudoku
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.loading import load
from unspoken.training.models import new_denoiser
from unspoken.training.objective import MaskedDiffusion
from unspoken.training.run import Run

TINY = Train(
    Sudoku(2, 2, givens=8, train=100, validation=20, test=20),
    trunk=TRUNK,
    steps=4,
    batch=8,
    warmup=1,
    validate=4,
    save=4,
    log=1,
)
COUNTS = (0, 2, 16)
RIVALS = (
    Rival("SIDM", SIDM),
    Rival("SCDM", SCDM),
    Rival("MDM", MDM),
    Rival("JOINT", JOINT),
    Rival("JOINT, grouped", JOINT, Groups()),
    Rival("CACHED_JOINT", CACHED_JOINT),
    Rival("CACHED_JOINT, grouped", CACHED_JOINT, Groups()),
    Rival("tuned", CACHED_JOINT, Groups(0), steps=0.5, lr=0.1, start="cached-joint"),
    Rival("related", JOINT, Groups(0, (2,)), related="joint"),
)
STUDY = DialStudy(
    (DialCase("boards", TINY, COUNTS, 2, (0, 1)), DialCase("again", replace(TINY, steps=2), COUNTS, 2, (3,))),
    RIVALS,
    grouped=("JOINT, grouped", "CACHED_JOINT, grouped"),
    top="tuned",
    puzzles=12,
    top_puzzles=20,
    top_draws=3,
    draws=2,
)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[list[Stage], Result, Any]:
    runs = tmp_path_factory.mktemp("runs")
    return *stages_and_result(STUDY, runs), runs


def test_every_model_is_measured_at_every_count_of_every_task(done) -> None:
    rows = of_part(done[1], "dial")
    found = [(r["task"], r["model"], r["latents"]) for r in rows]
    assert len(set(found)) == len(found)
    counts = {r.name: (0,) if r.attention == SIDM else (0, 2, "all") for r in RIVALS}
    assert set(found) == {(c.name, name, n) for c in STUDY.cases for name, its in counts.items() for n in its}
    assert all(row["seeds"] == [0, 1] if row["task"] == "boards" else [3] for row in rows)


def test_passes_are_equal_and_a_cache_makes_them_cheaper(done) -> None:
    """At a count every bidirectional rule computes the same; the causal ones less, but answer as if recomputed."""
    rows = {(r["model"], r["latents"]): r for r in of_part(done[1], "dial") if r["task"] == "boards"}
    for n in (0, 2, "all"):
        flops = {rows[m, n]["flops_per_puzzle"] for m in ("SCDM", "JOINT", "JOINT, grouped", "MDM")}
        assert len(flops) == 1
        assert rows["CACHED_JOINT, grouped", n]["flops_per_puzzle"] < flops.pop()


def test_what_a_model_begins_with_is_another_of_the_same_seed(done) -> None:
    case, runs = STUDY.cases[0], done[2]
    for seed in case.seeds:
        tuned = Run(runs / "boards" / f"tuned-seed{seed}").config(Train)
        assert f"cached-joint-seed{seed}" in tuned.trunk.checkpoint and tuned.steps == 2
        assert tuned.lr == pytest.approx(TINY.lr / 10) and tuned.seed == seed
        related = Run(runs / "boards" / f"related-seed{seed}").config(Train).objective
        assert isinstance(related, MaskedDiffusion) and related.groups is not None
        members = related.groups.members
        assert isinstance(members, Related) and members == case._members(runs, runs / "boards" / f"joint-seed{seed}")


def test_training_costs_what_its_passes_do(done) -> None:
    costs = {r["model"]: r["training_flops"] for r in of_part(done[1], "training") if r["task"] == "boards"}
    assert costs["JOINT"] == costs["JOINT, grouped"] == costs["MDM"] == costs["SCDM"]
    assert costs["tuned"] == pytest.approx(1.5 * costs["CACHED_JOINT"], rel=0.1)  # with what it begins with
    assert costs["related"] == pytest.approx(2 * costs["JOINT"], rel=0.1)
    one = replace(TINY, steps=1, batch=1)
    both = replace(one, attention=JOINT, objective=MaskedDiffusion(groups=Groups(both=True)))
    assert training_flops(one) < training_flops(both) < 2 * training_flops(one)
    model = new_denoiser(one)
    least, most = (3 * pass_flops(model, 16, asked) for asked in (0, 8))
    assert least <= training_flops(one) <= most


def test_rows_have_a_table_and_a_figure(done, tmp_path) -> None:
    cells = table_cells(done[1])
    assert len({len(row) for row in cells}) == 1 and len(cells) == len(done[1].rows)
    assert dials(done[1].rows, tmp_path / "dial.png").exists()
    assert {r["task"] for r in of_part(done[1], "effects")} == {"boards", "again"}


def test_what_is_solved_at_the_top_is_a_mean_over_draws(done) -> None:
    """Of three decodings of every puzzle, whose candidates differ; all are of one batch here."""
    case = STUDY.cases[0]
    its = case.train.task.sample("test", 20).by_size()
    thrice = Examples(its.x0.repeat(3, 1), its.given.repeat(3, 1))
    (claim,) = [c for c in done[1].claims if c.name == "no loss at the top"]
    for rival in (r for r in RIVALS if r.name in ("tuned", "MDM")):
        right = []
        for seed in case.seeds:
            model = load(case.job(rival, seed, done[2])[1], "cpu")
            *_, found = solve(model, case.train.task, thrice, case.decoding(COUNTS[-1]), seed=0)
            assert isinstance(found, Solved) and len(found.right) == 60
            right.append(float(found.right.double().mean()))
        assert (
            f"{rival.name}{' solves' if rival.name == 'tuned' else ''} {sum(right) / len(right):.3f}" in claim.evidence
        )
    assert any("20 puzzles, each decoded 3 times" in note for note in done[1].notes)


def test_claims_are_of_the_first_task_and_of_the_others_by_name(done) -> None:
    names = ["grouped dial", "no loss at the top"]
    assert [c.name for c in done[1].claims] == [*names, *(f"{name}, again" for name in names)]
    assert all(0 <= s.done <= s.total for s in done[0])


def test_the_config_is_its_own_record() -> None:
    assert from_record(DialStudy, to_record(STUDY)) == STUDY
    for preset in presets.DIAL.values():
        assert from_record(DialStudy, to_record(preset())) == preset()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"top": "nobody"}, "'nobody' is none of the models"),
        ({"grouped": ("JOINT, grouped",), "ordered": "nobody"}, "'nobody' is none of the models"),
        ({"rivals": (Rival("a", JOINT, start="b"),)}, "a needs 'b', which is no folder of a model that needs none"),
        ({"rivals": (Rival("a", MDM), Rival("b", MDM, start="a"), Rival("c", MDM, related="b"))}, "c needs 'b'"),
        ({"rivals": (Rival("a, b", JOINT), Rival("A b", MDM))}, "by their folders"),
        ({"cases": ()}, "one or more"),
    ],
    ids=["top", "ordered", "start", "chain", "twice", "none"],
)
def test_what_can_not_be_compared_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(STUDY, **({"top": "", "grouped": ()} | wrong))


def test_a_task_says_how_it_is_decoded() -> None:
    case = DialCase("grids", TINY, COUNTS, 3, (0,), order="uniform", temperature=1.0)
    assert case.decoding(2) == us.Slots(2, 3, order="uniform", temperature=1.0)
    assert case.decoding(16) == us.Slots(None, 3, order="uniform", temperature=1.0)
    assert case.told.endswith("3 candidates, order uniform, drawn at temperature 1")
    assert replace(case, temperature=0.0).told.endswith("greedy")
    for wrong, told in (({"order": "random"}, "no order is called 'random'"), ({"temperature": -1.0}, "temperature")):
        with pytest.raises(ValueError, match=told):
            replace(case, **wrong)


# --- claims


def level(nll: float, solved: float, flops: float = 100.0, seeds: int = 5, puzzles: int = 400) -> Level:
    """Paired with any other: the same puzzles are hard for all, and seeds differ a little."""
    place = (torch.arange(puzzles) * 7919 % puzzles) / puzzles
    wobble = torch.linspace(-0.01, 0.01, seeds)[:, None]
    right = (place[None] < solved + wobble).double()
    hard: Tensor = (place[None] - 0.5) * 0.2 + wobble
    return Level(right, 1, 1, 1, flops, 1, nll=(nll + hard).double())


def table(**changes: tuple[float, float, float]) -> dict[tuple[str, int], Level]:
    found = {("SCDM", n): level(0.5 - n / 100, 0.5 + n / 100) for n in COUNTS}
    found |= {("grouped", n): level(0.4 - n / 100, 0.6 + n / 100) for n in COUNTS}
    found |= {("cached", n): level(0.4 - n / 100, 0.6 + n / 100, 40.0) for n in COUNTS}
    return found | {(name[:-2].rstrip("_"), COUNTS[int(name[-1])]): level(*its) for name, its in changes.items()}


def one_recipe(levels: Levels, counts: Sequence[int], models: list[str], cached: list[str]) -> Claim:
    (found,) = better_dial(levels, counts, "SCDM", {"grouped dial": models}, cached)
    return found


def test_recipes_are_claimed_apart_and_corrected_together() -> None:
    levels = table() | {("poor", n): level(0.9, 0.1, 40.0) for n in COUNTS}
    good, poor = better_dial(levels, COUNTS, "SCDM", {"good": ["cached"], "poor": ["poor"]}, ["cached", "poor"])
    assert (good.name, good.holds, poor.name, poor.holds) == ("good", True, "poor", False)


def test_a_recipe_is_what_follows_the_attention() -> None:
    assert presets.dial().recipes == {
        "grouped dial": ["JOINT, grouped", "CACHED_JOINT, grouped"],
        "grouped dial, whole to split": ["JOINT, whole to split", "CACHED_JOINT, whole to split"],
    }


def test_a_dial_better_everywhere_holds() -> None:
    claim = one_recipe(table(), COUNTS, ["grouped", "cached"], ["cached"])
    assert claim.holds and "surely better at 3 of 3 counts" in claim.evidence
    assert "cached, with its cache: 0.40 to 0.40 of SCDM's FLOPs" in claim.evidence
    assert one_recipe(table(), COUNTS, ["grouped"], []).holds is False  # the cache is a part of it


@pytest.mark.parametrize(
    "worse",
    [
        {"grouped__1": (0.55, 0.7, 100.0)},  # its NLL is not lower at one count
        {f"grouped__{i}": (0.3, 0.4, 100.0) for i in range(3)},  # it solves more nowhere
        {"cached__2": (0.1, 0.8, 60.0)},  # with a cache, and not half as cheap
        {"cached__2": (0.1, 0.8, 100.0)},  # or not cheaper at all
    ],
    ids=["nll", "solved", "flops", "no cheaper"],
)
def test_a_dial_that_fails_anywhere_does_not_hold(worse: dict[str, tuple[float, float, float]]) -> None:
    claim = one_recipe(table(**worse), COUNTS, ["grouped", "cached"], ["cached"])
    assert claim.holds is False and "NOT SHOWN" in claim.evidence


def test_two_counts_may_solve_no_more() -> None:
    worse = {f"cached__{i}": (0.3, 0.45, 40.0) for i in range(3)}
    assert one_recipe(table(**dict(list(worse.items())[:2])), COUNTS, ["cached"], ["cached"]).holds
    assert not one_recipe(table(**worse), COUNTS, ["cached"], ["cached"]).holds


def test_looks_are_corrected_for_their_number() -> None:
    """A difference that stands alone falls beside many that show nothing."""
    many = tuple(range(20))
    levels = {("SCDM", n): level(0.5, 0.5) for n in many} | {("grouped", n): level(0.5, 0.5) for n in many}
    noise = torch.randn(5, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shift = level(0.5, 0.5)
    levels["grouped", 0] = replace(shift, nll=shift.nll - 0.012 + 0.1 * (noise - noise.mean()))
    alone = one_recipe(levels, (0,), ["grouped"], [])
    beside = one_recipe(levels, many, ["grouped"], [])
    assert "surely better at 1 of 1" in alone.evidence
    assert "surely better at 0 of 20 counts" in beside.evidence.split(";")[0]
    levels |= {("other", n): level(0.5, 0.5) for n in range(1)}
    recipes = {"one": ["grouped"], "others": ["other"] * 20}
    assert "surely better at 0 of 1" in better_dial(levels, (0,), "SCDM", recipes, [])[0].evidence.split(";")[0]


def test_one_seed_allows_no_verdict() -> None:
    levels = {key: level(0.4 if key[0] == "grouped" else 0.5, 0.6, seeds=1) for key in table()}
    assert one_recipe(levels, COUNTS, ["cached"], ["cached"]).holds is None
    top = (levels["grouped", 16].right, levels["SCDM", 16].right)
    assert no_loss(levels, COUNTS, "grouped", "SCDM", top, 1.0).holds is None


@pytest.mark.parametrize(
    ("mine", "few", "flops", "holds"),
    [
        (0.9, 0.3, 1.4, True),
        (0.898, 0.3, 1.4, True),
        (0.89, 0.3, 1.4, False),  # a point is lost, or more
        (0.95, 0.3, 1.6, False),  # by too much training
        (0.95, 0.5, 1.4, False),  # without a dial
    ],
)
def test_what_is_lost_at_the_top(mine: float, few: float, flops: float, holds: bool) -> None:
    levels = {("dial", 0): level(few, 0.5), ("MDM", 0): level(0.5, 0.5)}
    top = (level(0.1, mine, puzzles=1000).right, level(0.1, 0.9, puzzles=1000).right)
    claim = no_loss(levels, (0, 16), "dial", "MDM", top, flops)
    assert claim.holds is holds and "(1000 puzzles)" in claim.evidence


def test_effects_are_of_models_that_differ_in_what_they_say() -> None:
    """In fields of the rule, or in how latents are grouped; all are models of the reference study."""
    rules = {r.name: r for r in presets.dial().rivals}
    found = []
    for effect in EFFECTS:
        to, of = rules[effect.to], rules[effect.of]
        fields = [f for f in to.attention.__dataclass_fields__ if getattr(to.attention, f) != getattr(of.attention, f)]
        found.append((effect.to, effect.of, [*fields, *(["groups"] if to.groups != of.groups else [])]))
        assert (to.steps, to.lr, to.needs) == (of.steps, of.lr, of.needs)
    assert found == [
        ("SCDM", "JOINT", ["latents"]),
        ("SCDM", "JOINT, grouped", ["latents", "groups"]),
        ("SCDM", "JOINT, whole to split", ["latents", "groups"]),
        ("SCDM", "JOINT, whole to split", ["latents", "groups"]),
        ("JOINT", "MDM", ["context_sees_latents"]),
        ("CACHED_JOINT", "JOINT", ["context"]),
        ("CACHED_JOINT, grouped", "JOINT, grouped", ["context"]),
        ("CACHED_JOINT, whole to split", "JOINT, whole to split", ["context"]),
        ("JOINT, grouped", "JOINT", ["groups"]),
        ("JOINT, grouped", "JOINT", ["groups"]),
        ("JOINT, whole to split", "JOINT", ["groups"]),
        ("JOINT, grouped", "SIDM", ["latents", "groups"]),
        ("SCDM", "SIDM", ["latents"]),
    ]
    levels = {("SCDM", 0): level(0.5, 0.4), ("SIDM", 0): level(0.3, 0.5), ("MDM", 0): level(0.1, 0.9)}
    ((effect, nll, solved),) = effects(levels, (0, 16))
    assert (effect.to, effect.of) == ("SCDM", "SIDM")
    assert float(nll.mean()) == pytest.approx(0.2, abs=1e-3) and float(solved.mean()) == pytest.approx(-0.1, abs=1e-3)

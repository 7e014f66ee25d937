"""Laws of the study of loops: variants differ in what they say, claims can come out either way, looks corrected for."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from alone import of_part, stages_and_result
from torch import Tensor
from toy import TRUNK

from unspoken import presets
from unspoken.layout.attention import CACHED_JOINT, MDM
from unspoken.measure.accuracy import solved
from unspoken.record import from_record, to_record
from unspoken.show.loops import loops
from unspoken.show.report import table_cells
from unspoken.study.compared import Comparison, Size, looks_of, verdicts
from unspoken.study.loops import ONE, LoopsStudy
from unspoken.study.report import Claim, Result, Stage
from unspoken.study.variants import Change, Variant
from unspoken.tasks import Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.loading import load
from unspoken.training.models import new_denoiser
from unspoken.training.objective import MaskedDiffusion
from unspoken.training.run import Run

FREE = 8
TINY = Train(
    Sudoku(2, 2, givens=16 - FREE, train=100, validation=20, test=20),
    attention=MDM,
    trunk=TRUNK,
    steps=4,
    batch=8,
    warmup=1,
    validate=4,
    save=4,
    log=1,
)
VARIANTS = (
    Variant("1 layer"),
    Variant("1 layer, 2 loops", (Change("trunk.loops", 2),)),
    Variant("2 layers", (Change("trunk.layers", 2),)),
    Variant("1 layer, longer", steps=2),
    Variant("cached", (Change("attention", "cached-joint"),)),
)
SAME = Comparison("equal parameters", "1 layer, 2 loops", "1 layer", ("parameters",))
PAID = Comparison("equal parameters", "1 layer, 2 loops", "1 layer, longer", ("parameters", "training_flops"))
FLOPS = Comparison("equal FLOPs", "1 layer, 2 loops", "2 layers", ("pass_flops", "training_flops"), lost=0.01)
STUDY = LoopsStudy(
    TINY, VARIANTS, (SAME, PAID, FLOPS), thresholds=(0.9, 0.2), puzzles=12, batch=6, draws=2, seeds=(0, 1)
)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[list[Stage], Result, Any]:
    runs = tmp_path_factory.mktemp("runs")
    return *stages_and_result(STUDY, runs), runs


def test_every_variant_is_measured_by_every_commit_rule(done) -> None:
    found = [(r["variant"], r["commit"]) for r in of_part(done[1], "decoding")]
    rules = (ONE, "threshold 0.9", "threshold 0.2")
    assert found == [(its.name, rule) for its in VARIANTS for rule in rules]
    assert [r["variant"] for r in of_part(done[1], "training")] == [its.name for its in VARIANTS]
    assert all(row["seeds"] == [0, 1] for row in of_part(done[1], "decoding"))
    assert all(0 <= s.done <= s.total for s in done[0])


def test_runs_differ_in_what_their_variants_say(done) -> None:
    changed: dict[str, dict[str, Any]] = {
        "1-layer": {},
        "1-layer-2-loops": {"trunk": replace(TRUNK, loops=2)},
        "2-layers": {"trunk": replace(TRUNK, layers=2)},
        "1-layer-longer": {"steps": 8},
        "cached": {"attention": CACHED_JOINT},
    }
    assert {path.name for path in done[2].iterdir()} == {f"{name}-seed{seed}" for name in changed for seed in (0, 1)}
    for name, changes in changed.items():
        for seed in (0, 1):
            assert Run(done[2] / f"{name}-seed{seed}").config(Train) == replace(TINY, seed=seed, **changes)


def test_a_row_is_what_the_trained_model_solves(done) -> None:
    test = TINY.task.sample("test", 12).by_size()
    for name, rule in (("1 layer, 2 loops", "threshold 0.2"), ("cached", ONE)):
        row = next(r for r in of_part(done[1], "decoding") if (r["variant"], r["commit"]) == (name, rule))
        for seed, share in enumerate(row["accuracy_by_seed"]):
            variant = next(its for its in VARIANTS if its.name == name)
            model = load(variant.job(TINY, seed, done[2])[1], "cpu")
            assert float(solved(model, TINY.task, test, STUDY.decodings()[rule], 6).right.double().mean()) == share


def test_two_loops_cost_twice_as_much_up_to_the_head(done) -> None:
    """One token a pass: passes ask 8, 7, ... 1 of 16 entries. The head is read once a pass, in whatever loops."""
    head = 2 * TRUNK.width * new_denoiser(TINY).vocab_size
    flops = {r["variant"]: r["flops_per_puzzle"] for r in of_part(done[1], "decoding") if r["commit"] == ONE}
    assert 2 * flops["1 layer"] - flops["1 layer, 2 loops"] == head * sum(range(1, FREE + 1))
    assert flops["1 layer, 2 loops"] == flops["2 layers"] > flops["1 layer"] > flops["cached"]
    sizes = {r["variant"]: r for r in of_part(done[1], "training")}
    assert 2 * sizes["1 layer"]["pass_flops"] - sizes["1 layer, 2 loops"]["pass_flops"] == head * 16
    assert sizes["1 layer"]["parameters"] == sizes["1 layer, 2 loops"]["parameters"] < sizes["2 layers"]["parameters"]
    assert sizes["1 layer, longer"]["training_flops"] == 2 * sizes["1 layer"]["training_flops"]
    assert (sizes["1 layer, 2 loops"]["trunk"], sizes["1 layer, longer"]["steps"]) == ("1 x 16, 2 loops", 8)


def test_several_tokens_a_pass_take_fewer_passes(done) -> None:
    passes = {(r["variant"], r["commit"]): r["passes"] for r in of_part(done[1], "decoding")}
    for its in VARIANTS:
        one, high, low = (passes[its.name, rule] for rule in STUDY.decodings())
        assert one == FREE >= high >= low >= 1
    assert any(passes[its.name, "threshold 0.2"] < FREE for its in VARIANTS)


def test_rows_have_a_table_and_a_figure(done, tmp_path) -> None:
    cells = table_cells(done[1])
    assert len({len(row) for row in cells}) == 1 and len(cells) == len(done[1].rows)
    assert loops(done[1].rows, tmp_path / "loops.png").exists()
    assert loops([], tmp_path / "empty.png").exists()


def test_claims_are_those_that_the_config_names(done) -> None:
    assert [(c.name, c.holds) for c in done[1].claims] == [("equal parameters", None), ("equal FLOPs", None)]
    rows = of_part(done[1], "comparisons")
    assert [(r["claim"], r["mine"], r["other"]) for r in rows] == [
        (c.claim, c.mine, c.other) for c in (SAME, PAID, FLOPS)
    ]
    share = {r["variant"]: r["accuracy"] for r in of_part(done[1], "decoding") if r["commit"] == ONE}
    assert all(r["solved_more"] == pytest.approx(share[r["mine"]] - share[r["other"]]) for r in rows)


def test_the_config_is_its_own_record() -> None:
    assert from_record(LoopsStudy, to_record(STUDY)) == STUDY
    for preset in presets.LOOPS.values():
        assert from_record(LoopsStudy, to_record(preset())) == preset()


# --- what is refused


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"comparisons": (replace(SAME, mine="nobody"),)}, "'nobody' is none of the variants"),
        ({"variants": ()}, "one or more"),
        ({"variants": (Variant("a, b"), Variant("A b"))}, "by their folders"),
        ({"thresholds": (1.0,)}, "between 0 and 1"),
        ({"thresholds": (0.9, 0.9)}, "each once"),
        ({"puzzles": 0}, "1 or more"),
        ({"seeds": ()}, "one or more"),
        ({"variants": (Variant("a", (Change("trunk.lops", 2),)),)}, r"changes 'trunk\.lops', which is no setting"),
        ({"variants": (Variant("a", (Change("steps.many", 2),)),)}, r"changes 'steps\.many', which is no setting"),
        ({"variants": (Variant("a", (Change("trunk.loops", 0),)),)}, "loops=0"),
        ({"variants": (Variant("a", (Change("steps", "many"),)),)}, "the training of 'a', steps is 'many'"),
        ({"variants": (Variant("a", (Change("task.givens", 9),)),)}, r"task\.givens, which is the same for all"),
        ({"variants": (Variant("a", (Change("seed", 9),)),)}, "seed, which is the same for all"),
        ({"variants": (Variant("a", (Change("attention", "best"),)),)}, "no attention is called 'best'"),
        ({"variants": (Variant("a", (Change("attention", "scdm"),)),)}, "candidates see each other"),
    ],
)  # fmt: skip
def test_what_can_not_be_compared_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(STUDY, **({"comparisons": ()} | wrong))


def test_what_says_nothing_or_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="each once"):
        Variant("a", (Change("steps", 2), Change("steps", 3)))
    for steps in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="times the base's steps"):
            Variant("a", steps=steps)
    for wrong in ({"other": SAME.mine}, {"lost": 1.0}, {"lost": -0.1}, {"equal": ()}, {"equal": ("width",)}):
        with pytest.raises(
            ValueError, match=r"give two variants|one or more of parameters, pass_flops, training_flops"
        ):
            replace(SAME, **wrong)


@pytest.mark.parametrize(
    ("comparison", "told"),
    [
        (Comparison("c", "2 layers", "1 layer", ("parameters",)), "equal parameters, and they have"),
        (Comparison("c", "1 layer, 2 loops", "1 layer", ("pass_flops",)), "equal pass_flops, and they have"),
        (Comparison("c", "1 layer, longer", "1 layer", ("parameters", "training_flops")), "equal training_flops"),
    ],
)
def test_what_is_not_equal_is_refused_before_anything_is_trained(tmp_path, comparison: Comparison, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        next(replace(STUDY, comparisons=(comparison,)).run(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


# --- claims


def right(solved: float, seeds: int = 3, puzzles: int = 1000) -> Tensor:
    """Paired with any other: the same puzzles are hard for all, and seeds differ a little."""
    place = (torch.arange(puzzles) * 7919 % puzzles) / puzzles
    return (place[None] < solved + torch.linspace(-0.01, 0.01, seeds)[:, None]).double()


SIZES = {name: Size(10, 100, 1000.0) for name in ("plain", "longer", "few")} | {"looped": Size(10, 200, 2000.0)}
MORE = Comparison("more", "looped", "plain", ("parameters",))
CLAIMS = (MORE, replace(MORE, other="longer"), replace(MORE, claim="as good", other="few", lost=0.01))


def judged(comparisons: tuple[Comparison, ...], **shares: Tensor) -> dict[str, Claim]:
    return {its.name: its for its in verdicts(looks_of(comparisons, shares), shares, SIZES)}


@pytest.mark.parametrize(
    ("plain", "longer", "few", "more", "as_good"),
    [
        (0.5, 0.55, 0.6, True, True),
        (0.5, 0.6, 0.604, False, True),  # no more than one of two; what is lost is little
        (0.5, 0.55, 0.62, True, False),  # two points are lost
        (0.65, 0.7, 0.5, False, True),  # surely fewer
    ],
)
def test_a_claim_holds_where_all_its_comparisons_do(plain, longer, few, more, as_good) -> None:
    found = judged(CLAIMS, looped=right(0.6), plain=right(plain), longer=right(longer), few=right(few))
    assert (found["more"].holds, found["as good"].holds) == (more, as_good)
    assert "2.00 times the FLOPs of a pass, 2.00 times those of training" in found["more"].evidence
    assert ("NOT SHOWN" in found["more"].evidence) is not more
    assert "of which 0.01 may be lost" in found["as good"].evidence


@pytest.mark.parametrize("share", [0.0, 0.015, 0.99])
def test_nothing_is_not_lost_where_nothing_can_be_seen(share: float) -> None:
    """Two that solve none, or all, are as good as each other whatever they are; one alone may be so."""
    as_good = CLAIMS[-1:]
    (found,) = judged(as_good, looped=right(share), few=right(share)).values()
    assert found.holds is False and found.evidence.endswith("NOT SHOWN: not both are saturated")
    (found,) = judged(as_good, looped=right(0.99), few=right(0.9)).values()
    assert found.holds is True


@pytest.mark.parametrize(("seeds", "told"), [(1, "one seed: no verdict"), (2, "2 seeds: no verdict")])
def test_fewer_than_three_seeds_allow_no_verdict(seeds: int, told: str) -> None:
    (found,) = judged((MORE,), looped=right(0.9, seeds), plain=right(0.1, seeds)).values()
    assert found.holds is None and found.evidence.startswith(told)
    (found,) = judged((MORE,), looped=right(0.9), plain=right(0.1)).values()
    assert found.holds is True


def test_looks_are_corrected_for_their_number() -> None:
    """A gain that stands alone falls beside many that show nothing."""
    chance = torch.rand(3, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = {"looped": right(0.5), "plain": right(0.5) * (chance > 0.03), "same": right(0.5)}
    alone = looks_of((MORE,), shares)
    beside = looks_of((MORE, *[replace(MORE, other="same")] * 20), shares)
    assert [look.shown for look in alone] == [True]
    assert not any(look.shown for look in beside)


def test_a_study_without_comparisons_claims_nothing() -> None:
    assert verdicts(looks_of((), {}), {}, {}) == []


# --- presets


@pytest.mark.parametrize("preset", presets.LOOPS.values(), ids=presets.LOOPS)
def test_the_variants_of_presets_are_as_equal_as_their_claims_say(preset) -> None:
    """With few boards and narrow trunks, which take less time and leave layers, loops and steps as they are."""
    study = preset()
    box, givens = ((2, 3), 18) if study.train.task.title.startswith("6x6") else ((3, 3), 60)
    narrow = replace(study.train.trunk, width=96, heads=4)
    few = Sudoku(*box, givens=givens, train=8, validation=1, test=1)
    small = replace(study, train=replace(study.train, task=few, trunk=narrow, batch=4))
    sizes = {its.name: Size.of(its.train(small.train)) for its in small.variants}
    for comparison in study.comparisons:
        comparison.check(sizes)
    trunks = {its.name: its.train(study.train).trunk for its in study.variants}
    for c in study.comparisons:
        mine, other = trunks[c.mine], trunks[c.other]
        if "carried" in c.mine:
            assert mine == other and c.lost == 0
            continue
        assert mine.loops > other.loops == 1
        assert ("parameters" in c.equal) == (mine.layers == other.layers)
        assert ("pass_flops" in c.equal) == (mine.layers * mine.loops == other.layers) == (c.lost > 0)
    assert study.train.attention == MDM and study.variants[0].train(study.train) == study.train


def test_the_claims_of_the_presets_are_the_questions() -> None:
    of = {preset: list(dict.fromkeys(c.claim for c in presets.LOOPS[preset]().comparisons)) for preset in presets.LOOPS}
    same = ["loops, equal parameters", "loops, equal parameters and training FLOPs"]
    halves = [*same, "loops, equal FLOPs, 2 layers, 2 loops"]
    assert of["quick"] == halves
    fewer = "loops, equal FLOPs, 1 layer, 4 loops"
    assert of["reference"] == [*halves, fewer, "carried states", "cached, carried states"]
    assert of["sudoku-9x9"][2:] == [f"loops, equal FLOPs, {its}" for its in ("3 layers, 2 loops", "1 layer, 6 loops")]
    assert [len(presets.LOOPS[name]().seeds) for name in of] == [3, 1, 3]


def test_carried_states_are_compared_with_plain_models_of_the_same_attention() -> None:
    study = presets.loops()
    trains = {its.name: its.train(study.train) for its in study.variants}
    for c in (c for c in study.comparisons if "carried" in c.claim):
        mine, other = trains[c.mine], trains[c.other]
        assert mine.objective == MaskedDiffusion(carry=1) and other.objective == MaskedDiffusion()
        assert mine.attention == other.attention == (CACHED_JOINT if "cached" in c.claim else MDM)
        assert other.steps == mine.steps * (2 if "training_flops" in c.equal else 1)


def test_a_trunk_tells_its_loops_where_there_are_several() -> None:
    assert (Trunk(2, 48).told, Trunk(2, 48, loops=3).told) == ("2 x 48", "2 x 48, 3 loops")

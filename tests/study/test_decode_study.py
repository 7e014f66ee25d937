"""Laws of the study of speed: choices on validation, costs against one baseline, verdicts that can come out false."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
import torch
from alone import in_process
from toy import TRUNK

from unspoken import presets
from unspoken.decoders.policies import NEAREST, UNCERTAIN
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import CACHED_JOINT
from unspoken.layout.groups import Groups
from unspoken.measure.accuracy import Outcome, Solved
from unspoken.measure.policies import Curve
from unspoken.record import from_record, to_record
from unspoken.show.figure import speed
from unspoken.show.report import table_cells
from unspoken.study import choices, decode
from unspoken.study.choices import Choice, cheapest
from unspoken.study.decode import CACHED, DIAL, PARTED, DecodeStudy
from unspoken.study.report import Result, Stage
from unspoken.study.speed import BASE, FASTEST, FASTEST_RULE, OURS, OWN, SAME_RULE, faster, floor_of, quarter
from unspoken.tasks import Sudoku
from unspoken.training.config import Train
from unspoken.training.objective import MaskedDiffusion

TINY = Train(
    Sudoku(2, 2, givens=8, train=100, validation=20, test=20),
    trunk=TRUNK,
    steps=2,
    batch=8,
    warmup=1,
    validate=2,
    save=2,
    log=1,
)
GROUPED = replace(TINY, attention=CACHED_JOINT, objective=MaskedDiffusion(groups=Groups()))
STUDY = DecodeStudy(
    TINY,
    GROUPED,
    seeds=(0, 1),
    puzzles=20,
    held_out=10,
    batches=(3, 10),
    thresholds=(0.5, 0.9),
    entropies=(0.1,),
    few=2,
    counts=(0, 2, 8, 16),
    draws=1,
)
WAYS = {
    *(BASE, "MDM, one a pass", "MDM, several a pass", "cached, one a pass", "cached, several a pass"),
    *(
        "without the cache",
        PARTED,
        "in groups, one a pass",
        "in groups, rows part",
        "+ chosen latents",
        "+ adaptive latents",
        "+ stale latents",
    ),
    *(OURS, SAME_RULE, FASTEST, FASTEST_RULE),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[list[Stage], Result]:
    with in_process():
        *stages, result = STUDY.run(tmp_path_factory.mktemp("runs"))
    assert isinstance(result, Result)
    return [s for s in stages if isinstance(s, Stage)], result


def of_part(result: Result, part: str) -> list[dict[str, Any]]:
    return [row for row in result.rows if row["part"] == part]


def test_every_way_is_measured_at_every_batch(done) -> None:
    ways = of_part(done[1], "ways")
    assert {(r["way"], r["batch"]) for r in ways} == {(w, b) for w in WAYS for b in STUDY.batches}
    assert len(ways) == len({(r["way"], r["batch"]) for r in ways})
    for row in ways:
        assert row["accuracy_interval"][0] <= row["accuracy"] <= row["accuracy_interval"][1]
        assert len(row["accuracy_by_seed"]) == 2


def test_ratios_are_to_the_baseline_of_the_batch(done) -> None:
    ways = {(r["way"], r["batch"]): r for r in of_part(done[1], "ways")}
    for (way, batch), row in ways.items():
        assert row["fewer_flops"] == pytest.approx(ways[BASE, batch]["flops_per_puzzle"] / row["flops_per_puzzle"])
        assert row["faster"] > 0 and (way != BASE or row["faster"] == pytest.approx(1))


def test_each_ingredient_alone_changes_no_answer(done) -> None:
    """Rows that leave, a cache and rows that part are exact: they change what it costs, not what is said."""
    ways = {(r["way"], r["batch"]): r for r in of_part(done[1], "ways")}
    for batch in STUDY.batches:
        assert ways[BASE, batch]["accuracy_by_seed"] == ways["MDM, one a pass", batch]["accuracy_by_seed"]
        assert ways["MDM, one a pass", batch]["flops_per_puzzle"] <= ways[BASE, batch]["flops_per_puzzle"]
        several, parted, recomputed = (ways[w, batch] for w in ("cached, several a pass", PARTED, "without the cache"))
        assert several["accuracy_by_seed"] == parted["accuracy_by_seed"] == recomputed["accuracy_by_seed"]
        assert parted["flops_per_puzzle"] <= several["flops_per_puzzle"] < recomputed["flops_per_puzzle"]


def test_ours_is_one_of_the_ways_and_the_rule_is_its(done) -> None:
    ways = {(r["way"], r["batch"]): r for r in of_part(done[1], "ways")}
    for batch in STUDY.batches:
        for mine, same in ((OURS, SAME_RULE), (FASTEST, FASTEST_RULE)):
            twins = [w for w in WAYS - {mine} if {**ways[w, batch], "way": mine} == ways[mine, batch]]
            assert twins  # it is measured once, under both names
            rule = ("threshold", "entropy")
            assert [ways[same, batch][name] for name in rule] == [ways[mine, batch][name] for name in rule]
            assert ways[same, batch]["model"] == "mdm" and ways[same, batch]["latents"] is None


def test_the_curves_hold_every_policy_and_count(done) -> None:
    curves = {(r["policy"], r["latents"]): r for r in of_part(done[1], "latents")}
    policies, between = ("nearest", "attended", "uncertain", "certain"), STUDY.counts[1:-1]
    blind = {("uniform", n) for n in STUDY.counts}
    assert set(curves) == blind | {(p, n) for p in policies for n in between}
    assert {p for p, n in curves if "nll" not in curves[p, n]} == {"uncertain", "certain"}


def test_rows_have_a_table_and_a_figure(done, tmp_path) -> None:
    cells = table_cells(done[1])
    assert len({len(row) for row in cells}) == 1 and len(cells) == len(done[1].rows)
    assert speed(done[1].rows, tmp_path / "speed.png").exists()


def test_the_work_done_is_told(done) -> None:
    assert done[0][0].text == "training"
    assert all(0 <= s.done <= s.total for s in done[0])
    assert [c.name for c in done[1].claims] == ["flops", "wall clock", "quarter of the latents"]


# --- choices


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(0.9, 10.0), (0.95, 20.0)], 1),  # the cheaper one is not as accurate as the baseline
        ([(0.96, 10.0), (0.99, 20.0)], 0),  # both are: the cheaper
        ([(0.7, 10.0), (0.8, 20.0)], 1),  # none is: the most accurate
        ([(0.8, 20.0), (0.8, 10.0)], 1),  # and of those the cheapest
    ],
    ids=["accurate", "cheap", "nearest", "nearest and cheap"],
)
def test_the_fewest_flops_at_the_baselines_accuracy_are_chosen(found, expected) -> None:
    tried = [Choice("mdm", Slots(), accuracy, flops) for accuracy, flops in found]
    assert cheapest(tried, floor=0.95) is tried[expected]


def ended(stages: Generator[Stage, None, Any]) -> tuple[list[Stage], Any]:
    """What a generator yields, and what it returns."""
    found = []
    while True:
        try:
            found.append(next(stages))
        except StopIteration as end:
            return found, end.value


def test_a_setting_that_is_far_behind_is_tried_on_the_first_puzzles_alone(monkeypatch) -> None:
    seen = []

    def answers(model: Any, task: Any, some: Any, decoding: Slots, batch: int) -> Solved:
        seen.append(len(some))
        right = torch.arange(len(some)) < 0.9 * len(some)
        return Solved(right, some.x0, passes=1.0, entries=1.0, latents=0.0, flops=2.0, seconds=1.0)

    monkeypatch.setattr(choices, "solved", answers)
    monkeypatch.setattr(choices, "TOGETHER", 20)
    held_out = TINY.task.sample("train", 60)
    for base, parts in ((torch.ones(1, 60), [20]), (0.9 * torch.ones(1, 60), [20, 20, 20]), (None, [20, 20, 20])):
        seen.clear()
        its, right = choices.tried("mdm", ["model"], TINY.task, held_out, Slots(), base)  # type: ignore[list-item]
        assert seen == parts and right.shape == (1, sum(parts))
        assert its.accuracy == pytest.approx(0.9) and its.flops == 2.0
    # The first puzzles are easy: solving .9 of them, where the baseline solves all, is no accuracy of .9.
    seen.clear()
    base = (torch.arange(60) < 55).double()[None]  # of 60 at .917 as little as .819 counts as equal
    monkeypatch.setattr(choices, "BEHIND", 0.0)
    its, _ = choices.tried("mdm", ["model"], TINY.task, held_out, Slots(), base)  # type: ignore[list-item]
    assert seen == [20] and its.accuracy == pytest.approx(55 / 60 - 0.1) and its.accuracy < floor_of(base) < 0.9


def test_ours_is_chosen_on_validation_among_all_ways(monkeypatch) -> None:
    """By FLOPs and by time; what is less accurate than the lower end of the baseline's interval is neither."""

    def outcome(name: str, models: Any, task: Any, held_out: Any, decoding: Slots, base: Any) -> Any:
        if decoding.keep_finished:
            return Choice(name, decoding, 0.9, 100.0), solved(0.9, 1000)
        cheap, wrong = decoding.stale and decoding.candidates == 8, decoding.min_confidence > 0
        accuracy, flops = (0.5, 1.0) if wrong else (0.89, 5.0) if cheap else (0.95, 50.0)
        return Choice(name, decoding, accuracy, flops), solved(accuracy, 1000)

    def costly(
        ways: Any, task: Any, examples: Any, batch: int, tell: Any
    ) -> Generator[Stage, None, dict[Any, Outcome]]:
        assert batch == max(STUDY.batches) and not any(decoding.min_confidence for _, decoding in ways)
        yield tell(BASE, 1)
        return {
            (name, its): replace(
                cost(0.9, 5.0 if its.stale else 50.0), seconds=2.0 if its.cache or its.threshold == 0 else 1.0
            )
            for name, its in ways
        }

    monkeypatch.setattr(decode, "tried", outcome)
    monkeypatch.setattr(decode, "policies_of", lambda task, models: {"attended": UNCERTAIN, "nearest": NEAREST})
    monkeypatch.setattr(decode, "solve_ways", costly)
    stages, chosen = ended(STUDY.choose({"mdm": [], CACHED: [], DIAL: []}, TINY.task.sample("validation", 4)))
    assert isinstance(chosen, dict) and all(isinstance(s, Stage) for s in stages) and stages
    assert chosen[OURS] is chosen["+ stale latents"] and chosen[OURS].decoding.candidates == 8
    assert chosen[FASTEST] is chosen["without the cache"]
    for mine, same in ((OURS, SAME_RULE), (FASTEST, FASTEST_RULE)):
        its, other = chosen[mine].decoding, chosen[same].decoding
        assert chosen[same].model == "mdm" and other.candidates == 16 and other.latents is None
        assert (other.commit, other.threshold, other.entropy_bound) == (its.commit, its.threshold, its.entropy_bound)
    assert chosen["cached, several a pass"].decoding == replace(chosen[PARTED].decoding, rebatch=0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seeds", ()),
        ("seeds", (0, 0)),
        ("batches", (0,)),
        ("counts", (0, 2)),
        ("counts", (2, 0, 16)),
        ("thresholds", (1.5,)),
        ("draws", 0),
        ("few", 0),
        ("dial", TINY),
        ("dial", replace(GROUPED, task=replace(TINY.task, train=90))),
    ],
)
def test_a_study_that_can_not_be_is_refused_when_it_is_made(field, value) -> None:
    with pytest.raises(ValueError, match=field):
        replace(STUDY, **{field: value})


@pytest.mark.parametrize("preset", presets.DECODE)
def test_presets_can_be(preset) -> None:
    config = presets.DECODE[preset]()
    assert from_record(DecodeStudy, to_record(config)) == config
    assert config.train.task.length == 36
    assert isinstance(config.dial.objective, MaskedDiffusion) and config.dial.objective.groups is not None


# --- verdicts


def solved(share: float, n: int = 4000) -> torch.Tensor:
    """Three seeds."""
    return (torch.arange(n) < share * n).double().expand(3, -1)


def cost(share: float, flops: float, seconds: float = 1.0) -> Outcome:
    """Turns of a machine that is three times as slow at times: pairs do not mind."""
    turns = tuple(scale * seconds for scale in (1.0, 3.0, 1.01) for _ in range(3))
    return Outcome(solved(share), passes=4.0, entries=20.0, latents=0.0, flops=flops, seconds=seconds, turns=turns)


def measured(*found: Outcome) -> dict[tuple[str, int], Outcome]:
    """Of the baseline, and of ours, its rule, the fastest, its rule, and MDM by its own rule."""
    ways = (BASE, OURS, SAME_RULE, FASTEST, FASTEST_RULE, OWN)
    return {(way, 16): its for way, its in zip(ways, (cost(0.96, 1000.0, 60.0), *found), strict=True)}


GOOD = (
    *(cost(0.96, 90.0), cost(0.95, 200.0), cost(0.96, 100.0, 9.0), cost(0.95, 200.0, 15.0)),
    cost(0.96, 190.0, 14.0),
)


@pytest.mark.parametrize(
    ("at", "other", "holds"),
    [
        (0, cost(0.96, 90.0), (True, True)),
        (0, cost(0.96, 110.0), (False, True)),  # too many FLOPs
        (0, cost(0.80, 90.0), (False, True)),  # not as accurate
        (1, cost(0.95, 150.0), (False, True)),  # MDM by the same rule is as good
        (2, cost(0.96, 100.0, 11.0), (True, False)),  # too slow
        (2, cost(0.80, 100.0, 9.0), (True, False)),
        (3, cost(0.95, 200.0, 12.0), (True, False)),
        (4, cost(0.96, 170.0, 14.0), (False, True)),  # MDM by its own rule is nearly as good
        (4, cost(0.96, 190.0, 13.0), (True, False)),
    ],
)
def test_faster_fails_where_one_check_does(at, other, holds) -> None:
    claims = faster(measured(*(other if i == at else its for i, its in enumerate(GOOD))))
    assert [c.name for c in claims] == ["flops", "wall clock"]
    assert tuple(c.holds for c in claims) == holds
    assert [("NOT SHOWN" in c.evidence) for c in claims] == [not h for h in holds]


def test_seconds_that_are_few_in_some_turns_alone_are_not_shown() -> None:
    """The mean ratio is 9; its interval holds 6."""
    swinging = replace(GOOD[2], turns=tuple(s for s in (3.0, 27.0, 10.0) for _ in range(3)))
    assert faster(measured(*GOOD))[1].holds
    assert not faster(measured(*GOOD[:2], swinging, *GOOD[3:]))[1].holds


def test_seconds_that_are_few_for_some_seeds_alone_are_not_shown() -> None:
    """Of many turns, where the seeds differ, there are as many measurements as seeds."""
    turns = tuple(s for _ in range(100) for s in (6.0, 9.0, 13.0))
    base = replace(cost(0.96, 1000.0), turns=(60.0,) * 300)
    rules = [replace(its, turns=(30.0,) * 300) for its in (GOOD[3], GOOD[4])]
    table = measured(*GOOD[:2], replace(GOOD[2], turns=turns), *rules) | {(BASE, 16): base}
    assert not faster(table)[1].holds


def curves(blind: dict[int, float], chosen: dict[int, float]) -> list[Curve]:
    """NLLs, and shares solved that say the same."""
    nll = {"uniform": blind, "attended": chosen}
    return [Curve(p, n, solved(1 - 2 * v), torch.full((3, 4000), v)) for p, its in nll.items() for n, v in its.items()]


def test_a_quarter_does_where_chosen_latents_reach_the_blind_ones_at_two_counts() -> None:
    blind = {0: 0.3, 2: 0.28, 4: 0.26, 8: 0.22, 16: 0.2, 36: 0.15}
    found = quarter(curves(blind, {0: 0.3, 2: 0.21, 4: 0.19, 8: 0.18, 16: 0.17, 36: 0.15}))
    assert found.holds and "attended latents do it at 2 of 2 counts" in found.evidence
    one = quarter(curves(blind, {0: 0.3, 2: 0.21, 4: 0.21, 8: 0.2, 16: 0.18, 36: 0.15}))
    assert not one.holds and "NOT SHOWN: attended latents do it at 1 of 2" in one.evidence
    assert not quarter(curves(blind, blind)).holds
    assert not quarter(curves({0: 0.3, 36: 0.1}, {0: 0.3, 36: 0.1})).holds  # no count has a quarter
    flat = dict.fromkeys(blind, 0.2)
    assert not quarter(curves(flat, flat)).holds  # where latents bring nothing, none do the work of others
    single = {0: 0.3, 2: 0.28, 8: 0.22, 36: 0.15}
    assert not quarter(curves(single, {**single, 2: 0.1})).holds  # one count is not two


def test_a_quarter_is_judged_by_what_is_solved_too() -> None:
    """Latents of a lower NLL that solve less do not do the others' work; and one seed allows no verdict."""
    blind = {0: 0.3, 2: 0.28, 4: 0.26, 8: 0.22, 16: 0.2, 36: 0.15}
    both = curves(blind, {0: 0.3, 2: 0.21, 4: 0.19, 8: 0.18, 16: 0.17, 36: 0.15})
    less = [replace(c, accuracy=solved(0.4)) if c.policy == "attended" else c for c in both]
    assert quarter(both).holds and not quarter(less).holds
    assert "NLL yes" in quarter(less).evidence and "solved no" in quarter(less).evidence
    one = [replace(c, accuracy=c.accuracy[:1], nll=None if c.nll is None else c.nll[:1]) for c in both]
    assert quarter(one).holds is None


def test_a_quarter_that_is_better_by_chance_is_not_shown() -> None:
    """Noise as large as what latents bring: the mean is lower, and its interval says nothing."""
    noise = 0.5 * torch.randn(3, 400, generator=torch.Generator().manual_seed(0))
    noise -= noise.mean() + 0.001
    blind = [
        Curve("uniform", n, solved(1 - 2 * v), torch.full((3, 400), v))
        for n, v in {2: 0.24, 4: 0.22, 8: 0.2, 16: 0.18, 36: 0.1}.items()
    ]
    mine = [Curve("attended", n, solved(1 - 2 * v), v + noise) for n, v in {2: 0.2, 4: 0.18, 8: 0.15, 16: 0.1}.items()]
    assert not quarter([*blind, *mine]).holds

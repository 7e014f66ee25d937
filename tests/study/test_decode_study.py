"""Laws of the study of speed: choices on validation, costs against one baseline, verdicts that can come out false."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
import torch
from alone import in_process
from toy import TRUNK

from unspoken import presets
from unspoken.decoders.slots import Slots
from unspoken.measure.accuracy import Outcome
from unspoken.measure.policies import Curve
from unspoken.record import from_record, to_record
from unspoken.show.figure import speed
from unspoken.show.report import table_cells
from unspoken.study import decode
from unspoken.study.decode import SEVERAL, Choice, DecodeStudy, cheapest
from unspoken.study.report import Result, Stage
from unspoken.study.speed import BASE, OURS, SAME_RULE, faster, quarter
from unspoken.tasks import Sudoku
from unspoken.training.config import Train

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
STUDY = DecodeStudy(
    TINY,
    replace(TINY, steps=1),
    TINY,
    seeds=(0, 1),
    puzzles=20,
    held_out=10,
    batches=(1, 4),
    thresholds=(0.5, 0.9),
    entropies=(0.1,),
    refreshed=(2, 4),
    counts=(0, 2, 8, 16),
    draws=1,
    clock_batches=(3,),
)


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
    names = (*STUDY.families(), "+ rows part", "without the cache", OURS, SAME_RULE)
    assert {(r["way"], r["batch"]) for r in ways} == {(w, b) for w in names for b in STUDY.batches}
    assert len(ways) == len({(r["way"], r["batch"]) for r in ways})
    for row in ways:
        assert row["accuracy_interval"][0] <= row["accuracy"] <= row["accuracy_interval"][1]
        assert len(row["accuracy_by_seed"]) == 2


def test_ratios_are_to_the_baseline_of_the_batch(done) -> None:
    ways = {(r["way"], r["batch"]): r for r in of_part(done[1], "ways")}
    for (_, batch), row in ways.items():
        assert row["fewer_flops"] == pytest.approx(ways[BASE, batch]["flops_per_puzzle"] / row["flops_per_puzzle"])
        assert row["faster"] == pytest.approx(ways[BASE, batch]["seconds_per_puzzle"] / row["seconds_per_puzzle"])


def test_each_ingredient_alone_changes_no_answer(done) -> None:
    """Rows that leave, a cache and rows that part are exact: they change what it costs, not what is said."""
    ways = {(r["way"], r["batch"]): r for r in of_part(done[1], "ways")}
    for batch in STUDY.batches:
        assert ways[BASE, batch]["accuracy_by_seed"] == ways["MDM, one a pass", batch]["accuracy_by_seed"]
        assert ways["MDM, one a pass", batch]["flops_per_puzzle"] <= ways[BASE, batch]["flops_per_puzzle"]
        several, parted, recomputed = (ways[w, batch] for w in (SEVERAL, "+ rows part", "without the cache"))
        assert several["accuracy_by_seed"] == parted["accuracy_by_seed"] == recomputed["accuracy_by_seed"]
        assert parted["flops_per_puzzle"] <= several["flops_per_puzzle"] < recomputed["flops_per_puzzle"]


def test_the_clock_says_as_many_tokens_a_pass_as_the_trained_task(done) -> None:
    clock = {r["way"]: r for r in of_part(done[1], "clock")}
    assert list(clock) == [BASE, SAME_RULE, OURS]
    ours = next(r for r in of_part(done[1], "ways") if r["way"] == OURS and r["batch"] == 4)
    unsaid = 16 - STUDY.train.task.givens  # type: ignore[union-attr]
    assert clock[OURS]["commit"] == max(1, int(unsaid / ours["passes"])) == clock[SAME_RULE]["commit"]
    assert clock[BASE]["passes"] == unsaid
    assert clock[OURS]["passes"] == -(-unsaid // clock[OURS]["commit"])


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
    choices = [Choice("mdm", Slots(), accuracy, 0.0, flops) for accuracy, flops in found]
    assert cheapest(choices, floor=0.95) is choices[expected]


def ended(stages: Generator[Stage, None, Any]) -> tuple[list[Stage], Any]:
    """What a generator yields, and what it returns."""
    found = []
    while True:
        try:
            found.append(next(stages))
        except StopIteration as end:
            return found, end.value


def test_ours_is_chosen_on_validation_among_all_ways(monkeypatch) -> None:
    """By what each gives there alone; the floor is the lower end of the baseline's interval."""

    def outcome(name: str, models: Any, task: Any, held_out: Any, decoding: Slots) -> Choice:
        if decoding.keep_finished:
            return Choice(name, decoding, 0.9, 0.88, 100.0)
        cheap = decoding.stale and decoding.latents == 4
        return Choice(name, decoding, 0.88 if cheap else 0.95, 0.0, 5.0 if cheap else 50.0)

    monkeypatch.setattr(decode, "tried", outcome)
    stages, chosen = ended(STUDY.choose({"mdm": [], "cached-joint": []}, TINY.task.sample("validation", 4)))
    assert isinstance(chosen, dict) and all(isinstance(s, Stage) for s in stages) and stages
    assert chosen[OURS] is chosen["+ stale latents"] and chosen[OURS].decoding.latents == 4
    assert chosen[SAME_RULE].model == "mdm"
    same, ours = chosen[SAME_RULE].decoding, chosen[OURS].decoding
    assert (same.commit, same.threshold, same.entropy_bound) == (ours.commit, ours.threshold, ours.entropy_bound)
    assert chosen["+ rows part"].decoding == replace(chosen[SEVERAL].decoding, rebatch=STUDY.split)


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
        ("puzzles", 5),
    ],
)
def test_a_study_that_can_not_be_is_refused_when_it_is_made(field, value) -> None:
    with pytest.raises(ValueError, match=field):
        replace(STUDY, **{field: value})


@pytest.mark.parametrize("preset", presets.DECODE)
def test_presets_can_be(preset) -> None:
    config = presets.DECODE[preset]()
    assert from_record(DecodeStudy, to_record(config)) == config
    assert config.clock.trunk.width >= 256 and config.clock.task.length == 81
    assert config.train.task.length == 36


# --- verdicts


def solved(share: float, n: int = 4000) -> torch.Tensor:
    """Three seeds."""
    return (torch.arange(n) < share * n).double().expand(3, -1)


def cost(share: float, flops: float) -> Outcome:
    return Outcome(solved(share), passes=4.0, entries=20.0, latents=0.0, flops=flops, seconds=1.0)


def clock_rows(ours: float, same: float) -> list[dict[str, Any]]:
    seconds = {BASE: 60.0, SAME_RULE: same, OURS: ours}
    return [
        {"way": w, "batch": 16, "commit": 4, "seconds_per_puzzle": s, "faster": 60.0 / s} for w, s in seconds.items()
    ]


@pytest.mark.parametrize(
    ("ours", "same", "seconds", "holds"),
    [
        (cost(0.96, 90.0), 200.0, (9.0, 20.0), (True, True)),
        (cost(0.96, 110.0), 300.0, (9.0, 20.0), (False, True)),  # too many FLOPs
        (cost(0.80, 90.0), 200.0, (9.0, 20.0), (False, False)),  # not as accurate
        (cost(0.96, 90.0), 150.0, (9.0, 20.0), (False, True)),  # MDM by the same rule is as good
        (cost(0.96, 90.0), 200.0, (11.0, 30.0), (True, False)),  # too slow
        (cost(0.96, 90.0), 200.0, (9.0, 15.0), (True, False)),
    ],
)
def test_faster_fails_where_one_check_does(ours, same, seconds, holds) -> None:
    table = {(BASE, 16): cost(0.96, 1000.0), (SAME_RULE, 16): cost(0.95, same), (OURS, 16): ours}
    claims = faster(table, clock_rows(*seconds))
    assert [c.name for c in claims] == ["flops", "wall clock"]
    assert tuple(c.holds for c in claims) == holds
    assert [("NOT SHOWN" in c.evidence) for c in claims] == [not h for h in holds]


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

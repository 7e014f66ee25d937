"""Laws of the study and of what it measures: intervals, FLOPs, and verdicts that can come out either way."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from alone import finish
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from toy import TRUNK

from unspoken.decoders.slots import Slots
from unspoken.layout.attention import CACHED_JOINT
from unspoken.layout.entries import one_block
from unspoken.measure.accuracy import Solved, solve
from unspoken.measure.costs import matmul_weights, pass_flops
from unspoken.measure.intervals import Estimate, interval, share_interval, wilson
from unspoken.record import from_record
from unspoken.study.latents import LatentsStudy
from unspoken.study.report import Check, Result, Stage, claim, monotone, read_result
from unspoken.study.trade_off import Level, Levels, verdicts
from unspoken.tasks import Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.models import new_denoiser

TASK = Sudoku(2, 2, givens=6, train=200, validation=10, test=10)
TRAIN = Train(
    TASK,
    trunk=TRUNK,
    steps=20,
    batch=8,
    warmup=3,
    lr=1e-2,
    save=20,
    log=10,
    validate=20,
)
STUDY = LatentsStudy(TRAIN, seeds=(0, 1), counts=(0, 2, 16), puzzles=10, draws=2, batch=6)


# --- intervals


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Brown, Cai & DasGupta's formula by hand; 8 of 10 is in every textbook.
    [(8, 10, 0.490, 0.943), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (50, 100, 0.404, 0.596), (1, 1, 0.207, 1.0)],
)
def test_wilson(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-4)


@given(st.integers(1, 2000), st.data())
@settings(deadline=None, derandomize=True)
def test_wilsons_ends_are_where_the_score_test_turns(n, data):
    """The interval holds just the shares p whose score test |successes / n - p| <= z sqrt(p (1 - p) / n) accepts."""
    successes = data.draw(st.integers(0, n))
    for p in wilson(successes, n):
        assert abs(successes / n - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / n), abs=1e-7)
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1 and low < high


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_wilson_refuses_what_is_no_share(successes, n):
    with pytest.raises(ValueError, match=f"{successes} successes of {n}"):
        wilson(successes, n)


def noise(seed: int, seeds: int, examples: int) -> torch.Tensor:
    return torch.randn(seeds, examples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_bootstrap_of_one_seed_is_the_textbooks():
    """Over examples alone: mean +- 1.96 standard errors, to the bootstrap's own noise."""
    values = noise(0, 1, 400)
    error = float(values.std() / 20)
    low, high = interval(values)
    mean = float(values.mean())
    assert low < mean < high
    assert (mean - low, high - mean) == pytest.approx((1.96 * error, 1.96 * error), rel=0.1)


def test_a_share_of_one_seed_or_without_variance_has_wilsons_interval():
    some = torch.zeros(1, 40)
    some[:, :7] = 1
    assert share_interval(some) == wilson(7, 40)
    assert share_interval(torch.ones(3, 40)) == wilson(40, 40)
    assert share_interval(torch.zeros(3, 40)) == wilson(0, 40)
    low, high = share_interval(torch.eye(3, 40))
    assert 0 < low < 1 / 40 < high < 1  # t's lower end would be below 0


def test_more_examples_make_the_interval_narrower():
    widths = [high - low for low, high in (interval(noise(1, 1, n)) for n in (25, 100, 400))]
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]


def test_seeds_that_differ_make_the_interval_wider():
    same = noise(2, 1, 200).expand(4, -1)
    apart = same + torch.tensor([[-0.5], [-0.1], [0.1], [0.5]])
    (a, b), (c, d) = interval(same), interval(apart)
    assert d - c > 2 * (b - a)


def test_the_interval_repeats_and_is_exact_for_a_constant():
    values = noise(3, 3, 50)
    assert interval(values) == interval(values)
    assert interval(torch.full((3, 50), 0.25)) == (0.25, 0.25)


def test_an_estimate_is_written_with_its_interval():
    values = torch.tensor([[0.25] * 50, [0.75] * 50])
    mine = Estimate.of(values)
    assert (mine.mean, mine.low, mine.high) == (0.5, *interval(values))
    assert f"{mine}" == f"0.500 [{mine.low:.3f}, {mine.high:.3f}]"
    assert f"{mine:+}" == f"+0.500 {mine.signed}" == f"+0.500 [{mine.low:+.3f}, {mine.high:+.3f}]"
    right = (noise(5, 2, 40) > 1).double()
    assert Estimate.of(right, share=True) == Estimate(float(right.mean()), *share_interval(right))


# --- FLOPs


@pytest.mark.parametrize(("layers", "width", "heads"), [(1, 16, 2), (3, 24, 4), (2, 48, 2)])
@pytest.mark.parametrize(("entries", "asked"), [(16, 16), (9, 4), (1, 1)])
@pytest.mark.parametrize("learned", [True, False])
def test_flops_are_what_torch_counts(learned, layers, width, heads, entries, asked):
    model = new_denoiser(replace(TRAIN, trunk=Trunk(layers, width, heads, learned))).eval()
    tokens = torch.zeros(3, entries, dtype=torch.int64)
    layout = one_block(tokens, tokens == 0, tokens)
    at = torch.arange(asked).expand(3, -1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(layout, at)
    assert counter.get_total_flops() == 3 * pass_flops(model, entries, asked)


def test_the_weights_counted_are_the_layers_matrices():
    assert matmul_weights(new_denoiser(replace(TRAIN, trunk=Trunk(2, 24, 2)))) == 2 * (4 * 24 * 24 + 3 * 24 * 64)


@pytest.mark.parametrize("batch", [10, 4])
def test_solving_counts_its_passes(batch):
    model = new_denoiser(TRAIN).eval()
    test = TASK.sample("test", 10)
    *passes, solved = solve(model, TASK, test, Slots(latents=2, candidates=3), batch=batch)
    assert isinstance(solved, Solved)
    widths = [16 - left + min(left, 5) for left in range(10, 0, -1)]  # 6 givens: 10 blanks
    heads = [min(left, 3) for left in range(10, 0, -1)]
    assert solved.passes == 10
    assert solved.entries == sum(widths) / 10
    assert solved.flops == sum(pass_flops(model, w, h) for w, h in zip(widths, heads, strict=True))
    assert sum(e for e in passes if isinstance(e, int)) == 10 * sum(widths)
    assert solved.right.shape == (10,)
    assert solved.tokens.shape == (10, 16) and torch.equal(solved.tokens[test.given], test.x0[test.given])
    assert torch.equal(solved.right, TASK.score(test.prompt(TASK.mask_id), solved.tokens))


@pytest.mark.parametrize("cached", [1, 5, 12])
def test_flops_beside_a_cache_are_what_torch_counts(cached):
    """Three entries computed that see the cached ones too."""
    model = new_denoiser(replace(TRAIN, attention=CACHED_JOINT)).eval()
    tokens = torch.zeros(2, cached + 3, dtype=torch.int64)
    layout = one_block(tokens, torch.arange(cached + 3).expand(2, -1) >= cached, tokens)
    first, second = layout.select_where(layout.said), layout.select_where(layout.unsaid)
    cache = model.new_cache()
    assert cache is not None
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(first, cache=cache)
        cache.keep(first, cached)
        with FlopCounterMode(display=False) as counter:
            model(second, torch.tensor([[0, 2]] * 2), cache)
    assert counter.get_total_flops() == 2 * pass_flops(model, 3, 2, cached)
    assert pass_flops(model, 3, 2, cached) < pass_flops(model, 3 + cached, 2)


def test_solving_with_a_cache_costs_less_and_answers_the_same():
    """From the left, 6 of 16 given: what was said last, the candidate and its latents; without a cache all 16."""
    model = new_denoiser(replace(TRAIN, attention=CACHED_JOINT)).eval()
    test, decoding = TASK.sample("test", 10), Slots(order="left_to_right", latent_policy="next")
    *_, kept = solve(model, TASK, test, decoding)
    *_, anew = solve(model, TASK, test, replace(decoding, cache=False))
    assert isinstance(kept, Solved) and isinstance(anew, Solved)
    assert torch.equal(kept.tokens, anew.tokens) and kept.passes == anew.passes == 10
    assert kept.entries == (16 + sum(1 + left for left in range(9, 0, -1))) / 10 and anew.entries == 16
    widths = [(16, 0)] + [(1 + left, 15 - left) for left in range(9, 0, -1)]
    assert kept.flops == sum(pass_flops(model, entries, 1, cached) for entries, cached in widths)
    assert kept.flops < anew.flops == 10 * pass_flops(model, 16, 1)


def test_a_decoding_is_what_solve_goes_by():
    """Two tokens a pass; the same seed the same draws, another seed others."""
    model, test = new_denoiser(TRAIN).eval(), TASK.sample("test", 10)
    way = Slots(commit=2, temperature=1.0)
    ends = [list(solve(model, TASK, test, way, seed=seed))[-1] for seed in (0, 0, 1)]
    tokens = [end.tokens for end in ends if isinstance(end, Solved)]
    assert torch.equal(tokens[0], tokens[1]) and not torch.equal(tokens[0], tokens[2])
    assert [end.passes for end in ends if isinstance(end, Solved)] == [5, 5, 5]


# --- the study, end to end


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Any, list[Stage], Result]:
    runs = tmp_path_factory.mktemp("study")
    *stages, result = STUDY.run(runs)
    assert isinstance(result, Result)
    result.save(runs / "out")
    return runs, [s for s in stages if isinstance(s, Stage)], result


GRID = [("mdm", 0), ("mdm", 8), ("mdm", "all"), ("sidm", 0), ("scdm", 0), ("scdm", 2), ("scdm", "all")]


def test_every_model_and_count_has_a_row(done):
    runs, _, result = done
    record = json.loads((runs / "out" / "study.json").read_text())
    assert [(r["model"], r["latents"]) for r in record["rows"]] == GRID
    for r in record["rows"]:
        for name in ("accuracy", "nll"):
            low, high = r[f"{name}_interval"]
            assert low <= r[name] <= high
            assert len(r[f"{name}_by_seed"]) == 2 and sum(r[f"{name}_by_seed"]) / 2 == pytest.approx(r[name])
        assert 0 <= r["accuracy"] <= 1 and 0.5 < r["nll"] < 2  # ln 4 = 1.39 is knowing nothing
        assert r["passes"] == 10 and r["seconds_per_puzzle"] > 0
    assert record["study"] == "latents" and record["environment"]["torch"] == torch.__version__
    assert from_record(LatentsStudy, record["config"]) == STUDY
    again = read_result(runs / "out" / "study.json")
    assert (again.rows, again.claims, again.notes) == (record["rows"], result.claims, result.notes)


def test_costs_are_of_the_passes_alone(done):
    cost = {(r["model"], r["latents"]): (r["entries_per_pass"], r["flops_per_puzzle"]) for r in done[2].rows}
    widths = {n: sum(16 - left + min(left, n + 8) for left in range(1, 11)) / 10 for n in (0, 2, 8, 16)}
    for (model, n), (entries, flops) in cost.items():
        assert entries == pytest.approx(widths[16 if n == "all" else n])
        assert flops == pytest.approx(cost["scdm", "all" if model == "mdm" and n == 8 else n][1])


def test_the_claims_are_the_papers_two(done):
    record = json.loads((done[0] / "out" / "study.json").read_text())
    assert [sorted(c) for c in record["claims"]] == [["evidence", "holds", "name"]] * 2
    assert [c["name"] for c in record["claims"]] == ["joint prediction", "dial"]
    assert [type(c["holds"]) for c in record["claims"]] == [bool, bool]
    # 20 steps of nothing: no model is better than another
    assert not any(c["holds"] for c in record["claims"])
    assert all("NOT SHOWN" in c["evidence"] for c in record["claims"])


def test_the_work_done_rises_to_all_of_it(done):
    stages = done[1]
    assert all(a.done <= b.done for a, b in pairwise(stages))
    assert len({s.total for s in stages}) == 1
    assert all(0 < s.done <= s.total for s in stages)
    assert stages[-2].done < stages[-1].done == pytest.approx(stages[-1].total)
    texts = {s.text.split(":")[0] for s in stages}
    assert {f"training {m}, seed {n}" for m in ("MDM", "SCDM", "SIDM") for n in (0, 1)} < texts
    assert "decoding with SCDM, 2 latents" in texts and "decoding with MDM, all latents" in texts


def measured(result: Result) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k != "seconds_per_puzzle"} for r in result.rows]


Files = dict[str, tuple[int, bytes]]


@pytest.fixture(scope="module")
def again(done) -> tuple[list[Stage], Result, Files, Files]:
    """The same study a second time: its stages and result, and the runs' files before and after."""

    def files() -> Files:
        found = (p for p in done[0].rglob("*") if p.is_file())
        return {str(p.relative_to(done[0])): (p.stat().st_mtime_ns, p.read_bytes()) for p in found}

    before = files()
    *stages, result = STUDY.run(done[0])
    assert isinstance(result, Result)
    return [s for s in stages if isinstance(s, Stage)], result, before, files()


def test_a_second_study_trains_nothing_and_finds_the_same(done, again):
    stages, result, _, _ = again
    assert stages and not [s for s in stages if "training" in s.text]
    assert stages[-1].done == pytest.approx(stages[-1].total)
    assert measured(result) == measured(done[2])


def test_a_second_study_leaves_the_runs_as_they_are(again):
    _, _, before, after = again
    assert {f: content for f, (_, content) in after.items()} == {f: content for f, (_, content) in before.items()}
    kept = [f for f in before if not f.endswith("metrics.jsonl")]
    assert len(kept) > 6 and all(after[f] == before[f] for f in kept)


def test_a_second_study_does_not_touch_the_metrics(again):
    _, _, before, after = again
    assert after == before


def test_a_study_of_another_budget_is_refused(done):
    with pytest.raises(ValueError, match=r"differs in lr"):
        finish(replace(STUDY, train=replace(TRAIN, lr=1.0)).run(done[0]))


def test_too_few_puzzles_are_said_before_any_training(tmp_path):
    with pytest.raises(ValueError, match="11 examples of test"):
        next(replace(STUDY, puzzles=11).run(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seeds", (), "seeds"),
        ("counts", (), "counts"),
        ("counts", (0, 16, 8), "counts"),
        ("counts", (0, 8, 8, 16), "counts"),
        ("counts", (2, 16), "from 0"),
        ("counts", (0, 15), "16 or more"),
        ("seeds", (0, 0), "seeds"),
        ("unseen_counts", (0, 16), "unseen_counts"),
        ("unseen_counts", (-1,), "unseen_counts"),
        ("order", "best", "best"),
        ("candidates", 0, "candidates"),
        ("puzzles", 0, "puzzles"),
        ("batch", 0, "batch"),
        ("draws", 0, "draws"),
    ],
)
def test_a_study_that_can_not_be_is_refused_when_it_is_made(field, value, said):
    with pytest.raises(ValueError, match=said):
        replace(STUDY, **{field: value})


# --- verdicts, on tables made by hand


def cell(accuracy: float, nll: float, cost: float = 1.0, puzzles: int = 4000) -> Level:
    """Three seeds of one accuracy and NLL; every puzzle as hard in every cell, so that differences are clean."""
    right = (torch.arange(puzzles) < accuracy * puzzles).double().expand(3, -1)
    turns = tuple(scale * cost for scale in (1.0, 1.1, 0.9, 1.0) for _ in range(3))  # a turn a part and seed
    return Level(right, 10.0, 16.0, 0.0, cost, cost, turns, nll=nll + 0.05 * noise(4, 3, puzzles))


COUNTS = LatentsStudy(TRAIN, seeds=(0, 1), counts=(0, 4, 16))


def table(**changes: Level) -> Levels:
    """A table on which both claims hold, and what is to be different: `scdm4=cell(...)`."""
    clean = {
        "mdm16": cell(0.8, 0.5, 4.0),
        "sidm0": cell(0.3, 0.9, 1.0),
        "scdm0": cell(0.35, 0.88, 1.0),
        "scdm4": cell(0.6, 0.7, 2.0),
        "scdm16": cell(0.75, 0.55, 4.0),
    } | changes
    return {(name.rstrip("0123456789"), int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))): c for name, c in clean.items()}


def holds(**changes: Level) -> tuple[bool, bool]:
    joint, dial = verdicts(table(**changes), COUNTS.counts)
    assert (joint.name, dial.name) == ("joint prediction", "dial")
    for verdict in (joint, dial):
        assert verdict.holds == ("NOT SHOWN" not in verdict.evidence)
    return bool(joint.holds), bool(dial.holds)


def test_one_seed_gives_numbers_and_no_verdict():
    """With no true difference and seeds .3 log-odds apart, one seed was "better" in a fifth of all studies."""
    one = {key: replace(level, right=level.right[:1], nll=level.nll[:1]) for key, level in table().items()}
    for verdict in verdicts(one, COUNTS.counts):
        assert verdict.holds is None and verdict.verdict == "no verdict"
        assert verdict.evidence.startswith("one seed: no verdict. Seen: ")


def test_both_claims_hold_on_a_clean_table():
    assert holds() == (True, True)


@pytest.mark.parametrize(
    "mdm",
    [cell(0.3, 0.9), cell(0.305, 0.5), cell(0.8, 0.9), cell(0.2, 1.0), cell(0.8, 1.0), cell(0.2, 0.5)],
    ids=["equal", "accuracy within noise", "equal nll", "worse", "worse nll", "worse accuracy"],
)
def test_joint_prediction_fails_where_mdm_is_not_better_in_both(mdm):
    # SCDM at 0 is put on SIDM's level, so that the dial's own checks do not depend on MDM
    assert holds(mdm16=mdm, scdm0=cell(0.3, 0.88))[0] is False


@pytest.mark.parametrize(
    "changes",
    [
        {"scdm4": cell(0.6, 1.0)},
        {"scdm16": cell(0.75, 0.72)},
        {"scdm0": cell(0.35, 0.5), "scdm4": cell(0.6, 0.5), "scdm16": cell(0.75, 0.5)},
        {"scdm16": cell(0.3, 0.55)},
        {"scdm16": cell(0.35, 0.55)},
        {"scdm0": cell(0.7, 0.88)},
        {"scdm4": cell(0.6, 0.7, 5.0)},
        {"scdm16": cell(0.75, 0.55, 0.5)},
    ],
    ids=[
        "nll rises at first",
        "nll rises at last",
        "nll stays",
        "accuracy falls",
        "accuracy stays",
        "starts nearer to MDM",
        "costs fall at last",
        "costs fall",
    ],
)
def test_the_dial_fails_where_one_check_does(changes):
    assert holds(**changes) == (True, False)


def test_the_dial_holds_where_the_nll_rises_within_noise():
    up = cell(0.6, 0.7, 2.0)
    flat = replace(up, nll=up.nll + 1e-4 * noise(9, 3, 4000))
    config = replace(COUNTS, counts=(0, 4, 8, 16))
    assert verdicts(table(scdm8=flat), config.counts)[1].holds
    assert not verdicts(table(scdm8=replace(up, nll=up.nll + 0.1)), config.counts)[1].holds


def test_the_dial_is_not_judged_by_a_mean_of_seconds_but_turn_by_turn():
    """A clock that one busy moment has spoiled changes nothing; CPU seconds that do not rise do."""
    assert holds(scdm0=replace(cell(0.35, 0.88, 1.0), seconds=9.0)) == (True, True)
    busy = replace(cell(0.35, 0.88, 1.0), turns=(*3 * (1.0,), *3 * (1.1,), *3 * (40.0,), *3 * (1.0,)))
    assert holds(scdm0=busy) == (True, False)  # unsure, as one turn of four says the other
    flat = {
        name: replace(cell(*its), turns=(*3 * (2.0,), *3 * (2.1,), *3 * (1.9,), *3 * (2.0,)))
        for name, its in {"scdm0": (0.35, 0.88, 1.0), "scdm4": (0.6, 0.7, 2.0), "scdm16": (0.75, 0.55, 4.0)}.items()
    }
    assert holds(**flat) == (True, False)


def test_saturation_is_flagged_in_row_and_notes():
    from unspoken.study.latents import _notes, _rows

    made = table(mdm16=cell(1.0, 0.5), sidm0=cell(0.0, 0.9))
    flags = {(r["model"], r["latents"]): r["saturated"] for r in _rows(made, COUNTS)}
    assert flags == {
        ("mdm", "all"): True,
        ("sidm", 0): True,
        ("scdm", 0): False,
        ("scdm", 4): False,
        ("scdm", "all"): False,
    }
    said = [note for note in _notes(made, COUNTS) if "SATURATED" in note]
    assert len(said) == 2 and "mdm at all latents" in said[0] and "sidm at 0 latents" in said[1]


def test_a_claim_marks_the_checks_that_fail():
    verdict = claim("x", [Check(True, "a"), Check(False, "b")], 3)
    assert (verdict.holds, verdict.evidence) == (False, "a; NOT SHOWN: b")
    assert str(verdict) == "DOES NOT HOLD  x: a; NOT SHOWN: b"
    assert claim("x", [Check(True, "a")], None).holds and claim("x", [Check(True, "a")], 1).holds is None


def test_monotone_is_a_sure_whole_and_no_sure_step_back():
    """The steps are paired: a small one is sure where the examples agree, and none is where they do not."""
    flat = noise(6, 3, 200)
    up, unsure = flat + 0.01, flat + 0.01 * noise(7, 3, 200)
    assert monotone([flat, up], "higher", "x").holds and not monotone([flat, up], "lower", "x").holds
    assert not monotone([flat, up + 0.02, up], "higher", "x").holds  # the last step goes surely back
    assert monotone([flat, up + 0.002, up], "higher", "x").holds  # by a fifth of the whole: allowed
    assert not monotone([flat, unsure], "higher", "x").holds  # nothing is sure: too little data is no proof
    assert not monotone([flat, unsure, up], "higher", "x").holds  # nor that no step goes back
    assert "in all [+0.010, +0.010], no step goes back by more than -0.010" in monotone([flat, up], "higher", "x").text

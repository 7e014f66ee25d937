"""Laws of the studies of noise (gidd, forcing, steps): all cells are measured, verdicts can come out false."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from alone import finish, in_process
from toy import TRUNK, seeded

from unspoken import presets
from unspoken.decoders.correct import correct
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import JOINT, MDM, SCDM
from unspoken.layout.groups import Groups
from unspoken.measure.groups import EVEN, PLANNED, Scheduled, groups_of, of_one_length, schedules
from unspoken.measure.profile import InformationProfile
from unspoken.measure.pseudo_cost import pseudo_cost
from unspoken.measure.schedules import even
from unspoken.measure.walks import Drawn, bound_on, drawn
from unspoken.measure.walks import mended as second_thoughts
from unspoken.noise import Hybrid, Uniform
from unspoken.record import from_record, to_record
from unspoken.show.figure import draw
from unspoken.show.report import table_cells, write_page
from unspoken.study import forcing, gidd
from unspoken.study.forcing import DIAGONAL, INDEPENDENT, LEFT, SHARED, TRAINED, WALKED, ForcingStudy
from unspoken.study.gidd import GiddStudy
from unspoken.study.report import Result
from unspoken.study.steps import StepsStudy, planned, prediction
from unspoken.tasks import Chain, PathStar, Sudoku
from unspoken.training.config import Train, Trunk
from unspoken.training.loading import load
from unspoken.training.loop import train
from unspoken.training.objective import Denoising, MaskedDiffusion, NextTokenPrediction
from unspoken.training.seeds import seeded as train_seeded

CHAIN = Chain(states=4, shares=(0.7, 0.3), length=6, validation=20, test=20)
TINY = Train(
    CHAIN,
    attention=MDM,
    process=Hybrid(0.2),
    objective=Denoising(),
    trunk=Trunk(layers=1, width=16, heads=2, times=True),
    steps=2,
    batch=8,
    warmup=1,
    validate=2,
    save=2,
    log=1,
)
BOARD = replace(TINY, task=Sudoku(2, 2, givens=8, train=100, validation=20, test=20))


def whole(result: Result, tmp: Path) -> None:
    """Saved, drawn and written: every row has its cells."""
    result.save(tmp)
    cells = table_cells(result)
    assert len(cells) == len(result.rows)
    assert len({len(line) for line in cells}) == 1
    page = write_page(result, draw(result, tmp / "figure.png").name, tmp / "README.md")
    assert all(claim.name in page.read_text() for claim in result.claims)


@pytest.fixture(scope="module")
def mended(tmp_path_factory) -> Result:
    config = GiddStudy(
        TINY, BOARD, seeds=(0, 1), passes=(2, 16), puzzle_passes=(3,), sequences=12, draws=2, rounds=3, workers=1
    )
    with in_process():
        return finish(config.run(tmp_path_factory.mktemp("gidd")))


def test_second_thoughts_are_measured_at_every_share_and_number_of_passes(mended: Result, tmp_path: Path) -> None:
    found = {(r["part"], r["share"], r["passes"]) for r in mended.rows}
    chain = {("chain", share, passes) for share in (0.0, 0.2) for passes in (2, 16)}
    assert found == chain | {("sudoku", share, 3) for share in (0.0, 0.2)}
    for row in mended.rows:
        assert 0 <= row["after"] <= 1
        assert 0 <= row["more_passes"] <= 3
    assert {r["bound"] for r in mended.rows if r["part"] == "chain" and r["share"] == 0} != {
        r["bound"] for r in mended.rows if r["part"] == "chain" and r["share"] == 0.2
    }
    whole(mended, tmp_path)


def rows_of(masks: tuple[float, float], hybrid: tuple[float, float]) -> list[dict[str, Any]]:
    return [
        {
            **{"part": "chain", "share": share, "passes": 16, "before": before, "after": after},
            **{"before_interval": [before * 0.9, before * 1.1], "after_interval": [after * 0.9, after * 1.1]},
        }
        for share, (before, after) in ((0.0, masks), (0.2, hybrid))
    ]


def test_second_thoughts_are_had_and_paths_walked(tmp_path: Path) -> None:
    """What the rows hold is what `correct` and `denoise` give with their seeds."""
    train(TINY, tmp_path / "run")
    model, prompt = load(tmp_path / "run", "cpu"), torch.full((6, 6), CHAIN.mask_id)
    given = prompt != CHAIN.mask_id
    before = drawn(model, Hybrid(0.2), prompt, 4, seed=1)
    after, passes = second_thoughts(model, before, given, 3, 0.1, 5)
    moves = list(correct(model, before, given, rounds=3, temperature=0.1, generator=train_seeded("second thoughts", 5)))
    assert torch.equal(after, moves[-1].z)
    assert not torch.equal(after, before)
    assert passes == sum(int(m.changed.any(1).sum()) for m in moves) / 6
    walks = [drawn(model, Uniform(), prompt, 6, path, seed=1) for path in WALKED.values()]
    assert all(not torch.equal(a, b) for a, b in pairwise(walks))
    bounds = [bound_on([model], Uniform(), CHAIN.sample("test", 9), path, 2) for path in WALKED.values()]
    assert all(not torch.equal(a, b) for a, b in pairwise(bounds))
    assert bounds[0].shape == (1, 9)


def test_the_verdict_on_second_thoughts_can_be_either() -> None:
    low, high = torch.full((3, 9), 1.0), torch.full((3, 9), 1.1)
    good, bounds = rows_of((0.1, 0.1), (0.1, 0.01)), {0.0: low, 0.2: high}
    assert gidd.verdict(good, bounds).holds
    assert not gidd.verdict(rows_of((0.1, 0.1), (0.1, 0.03)), bounds).holds
    assert not gidd.verdict(rows_of((0.1, 0.01), (0.1, 0.01)), bounds).holds
    assert not gidd.verdict(good, {0.0: high, 0.2: low}).holds
    assert not gidd.verdict([], bounds).holds
    assert not gidd.verdict(good[1:], bounds).holds
    assert not gidd.verdict(rows_of((0.0, 0.0), (0.0, 0.0)), bounds).holds
    assert not gidd.verdict([row | {"passes": 8} for row in good], bounds).holds


@pytest.fixture(scope="module")
def forced(tmp_path_factory) -> Result:
    config = ForcingStudy(TINY, seeds=(0, 1), passes=(3, 6), sequences=12, draws=2, workers=1)
    with in_process():
        return finish(config.run(tmp_path_factory.mktemp("forcing")))


def test_every_way_to_train_is_walked_along_every_path(forced: Result, tmp_path: Path) -> None:
    cells = {(r["times"], r["path"], r["passes"]) for r in forced.rows}
    assert cells == {(t, p, n) for t in TRAINED for p in WALKED for n in (3, 6)}
    bounds = {(r["times"], r["path"]): r["bound"] for r in forced.rows}
    assert len(set(bounds.values())) == len(bounds)
    assert all(value >= 0.3 * CHAIN.entropy / 6 for value in bounds.values())
    whole(forced, tmp_path)


def test_runs_of_forcing_differ_in_their_times_alone(tmp_path: Path) -> None:
    jobs = [presets.forcing().job(times, 0, tmp_path)[0] for times in TRAINED]
    assert {type(job.objective) for job in jobs} == {Denoising}
    assert len({replace(job, objective=Denoising()) for job in jobs}) == 1
    assert all(job.process == Uniform() for job in jobs)


def test_the_verdict_on_times_can_be_either() -> None:
    noise = 1e-3 * torch.randn(3, 50, generator=seeded())

    def verdict(lost: float, won: float, illegal: float) -> bool:
        bounds = {
            (SHARED, DIAGONAL): 1 + noise,
            (INDEPENDENT, DIAGONAL): 1 + lost + noise.flip(1),
            (SHARED, LEFT): 1.2 + noise,
            (INDEPENDENT, LEFT): 1.2 - won + noise.flip(1),
        }
        rows = [
            {"times": times, "path": LEFT, "passes": 24, "illegal": value}
            for times, value in ((SHARED, 0.4), (INDEPENDENT, illegal))
        ]
        return bool(forcing.verdict(rows, bounds).holds)

    assert verdict(0.02, 0.1, 0.1)
    assert not verdict(0.04, 0.1, 0.1)
    assert not verdict(0.02, -0.1, 0.1)
    assert not verdict(0.02, 0.1, 0.3)


def test_what_is_drawn_is_held_against_the_chain() -> None:
    x0 = CHAIN.sample("test", 20).x0
    wrong = x0.clone()
    wrong[:, 1] = (CHAIN.transition[wrong[:, 0]] == 0).int().argmax(1)
    legal, broken = Drawn.of(CHAIN, [x0]), Drawn.of(CHAIN, [wrong])
    assert legal.illegal.sum() == 0
    assert (broken.illegal >= 1 / 5).all()
    first = CHAIN.nll(x0) - legal.nll[0] * 5
    assert ((first > 0) & (first < 5)).all()  # what is left is the first token's
    share = torch.bincount(x0.flatten(), minlength=4).double() / x0.numel()
    assert float(legal.entropy) == pytest.approx(float(torch.special.entr(share).sum()))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, list[str]]:
    base = tmp_path_factory.mktemp("steps")
    plain = replace(TINY, trunk=TRUNK)
    configs = {
        "mdm": replace(plain, process=presets.chain().process, objective=presets.chain().objective),
        "scdm": replace(plain, attention=SCDM, process=presets.chain().process, objective=presets.chain().objective),
        "joint": replace(plain, attention=JOINT, process=presets.chain().process, objective=MaskedDiffusion()),
        "grouped": replace(
            plain, attention=JOINT, process=presets.chain().process, objective=MaskedDiffusion(groups=Groups())
        ),
        "hybrid": TINY,
    }
    found: dict[str, list[str]] = {}
    for name, config in configs.items():
        for seed in (0, 1):
            train(replace(config, seed=seed), base / f"{name}{seed}")
            found.setdefault(name, []).append(str(base / f"{name}{seed}"))
    return found


def test_profiles_schedules_and_orders_of_trained_runs(folders: dict[str, list[str]], tmp_path: Path) -> None:
    """Models with the dial are measured beside each number of latents, others beside all."""
    runs = (*folders["mdm"], *folders["scdm"], *folders["joint"], *folders["grouped"])
    result = finish(StepsStudy(runs, passes=(1, 2, 4), latents=(0, 2), examples=15, draws=2).run())
    of_part = {part: [r for r in result.rows if r["part"] == part] for part in ("profile", "schedule", "order")}
    names = ("MDM", ""), ("SCDM", ""), ("JOINT", " (3)"), ("JOINT", " (4)")
    mdm, scdm, joint, grouped = (f"{name}, {CHAIN.title}{number}" for name, number in names)
    measured = [(mdm, None), *((scdm, n) for n in (0, 2, None)), (joint, None), *((grouped, n) for n in (0, 2, None))]
    for rows in of_part.values():
        assert list(dict.fromkeys((r["model"], r["latents"]) for r in rows)) == measured
    for row in of_part["schedule"] + of_part["order"]:
        assert sum(row["sizes"]) == 6 and len(row["sizes"]) == row["passes"]
    assert [(r["passes"], r["order"]) for r in of_part["order"][:6]] == [
        (n, order) for n in (1, 2, 4) for order in ("uniform", "confidence")
    ]
    assert [c.name for c in result.claims] == ["prediction", "planned schedule"]
    assert f"{grouped}, beside 2: of" in result.claims[0].evidence
    assert any("passes of the best plan" in note for note in result.notes)
    assert any("pseudo-cost" in note for note in result.notes)
    whole(result, tmp_path)


def test_a_schedule_is_foretold_by_the_sampler_that_decodes(folders: dict[str, list[str]]) -> None:
    """The validation rows themselves, in 30 orders: nats foretold and lost agree to 4.5 standard errors.

    That fails by chance in one of 4,000 (Student's t of 19 degrees of freedom), for each of four.
    """
    known = CHAIN.sample("validation", 20)
    for name in ("scdm", "grouped"):
        group = groups_of(folders[name])[0]
        losses = group.losses(known, 1, 30)
        for sizes in ((3, 3), (1, 5)):
            its = group.scheduled(EVEN, sizes, losses, known, group.nll(known, (1,) * 6, 30, 1), 30, 1)
            gap = (its.lost - its.told).mean(0)
            assert abs(float(gap.mean())) < 4.5 * float(gap.std()) / len(gap) ** 0.5 + 1e-9
            assert its.name == f"{group.name}, beside 1"


def test_the_cost_of_an_order_is_that_of_its_decodings(folders: dict[str, list[str]]) -> None:
    group, test = groups_of(folders["scdm"])[0], CHAIN.sample("test", 10)
    its = group.ordered("confidence", (2, 4), test, 1)
    for model, nats in zip(group.models, its.pseudo_cost, strict=True):
        way = Slots(latents=1, commit=(2, 4), temperature=1.0)
        steps = list(way.steps(model, test.prompt(CHAIN.mask_id), generator=train_seeded("draws")))
        expected = pseudo_cost(model, way, steps, generator=train_seeded("inside")).nats
        assert torch.allclose(nats, expected / 6, rtol=0, atol=1e-6)
    assert its.passes == 2 and bool((group.ordered("uniform", (1,) * 6, test).pseudo_cost == 0).all())


def test_seeds_of_one_model_are_a_group_and_other_noise_is_refused(folders: dict[str, list[str]], tmp_path) -> None:
    groups = groups_of([*folders["mdm"], *folders["scdm"]])
    assert [len(g.models) for g in groups] == [2, 2]
    with pytest.raises(ValueError, match="masked at random"):
        groups_of(folders["hybrid"])
    other = replace(presets.chain(), task=replace(CHAIN, seed=9), trunk=TRUNK, steps=1)
    train(replace(other, attention=MDM, batch=8), tmp_path / "other")
    apart = groups_of([*folders["mdm"], str(tmp_path / "other")])
    assert [(g.name[-3:], len(g.models)) for g in apart] == [("(1)", 2), ("(2)", 1)]
    with pytest.raises(ValueError, match="no run folder"):
        groups_of([str(tmp_path)])
    from_left = Train(
        PathStar(2, 3, 8, validation=10, test=10),
        attention=presets.path_star().attention,
        objective=NextTokenPrediction(),
        trunk=TRUNK,
        steps=1,
        batch=8,
    )
    train(from_left, tmp_path / "ar")
    with pytest.raises(ValueError, match="masked at random"):
        groups_of([str(tmp_path / "ar")])


def test_rows_of_the_commonest_number_are_taken() -> None:
    task = Sudoku(2, 3, train=50, validation=60, test=20)
    every = (~task.sample("validation", 60).given).sum(1)
    some = of_one_length(task, "validation", 500)
    free = (~some.given).sum(1)
    assert len(free.unique()) == 1
    assert len(some) == int((every == free[0]).sum()) == int(torch.bincount(every).max())


def test_schedules_hold_the_fewest_planned_passes_as_good_as_even_ones() -> None:
    profile = InformationProfile(tuple(4.0 / (1 + k) for k in range(12)))
    found = schedules(profile, (3, 6, 50))
    assert (EVEN, even(12, 3)) in found and (PLANNED, profile.schedule(6)) in found
    assert all(sum(sizes) == 12 for _, sizes in found)
    for n, most in ((3, 3), (6, 5)):
        fewer = profile.fewest(profile.overhead(even(12, n)))
        assert len(fewer) <= most and (PLANNED, fewer) in found


def measured(kind: str, passes: int, lost: float, told: float, group: str = "MDM, x") -> Scheduled:
    noise = 0.1 * torch.randn(2, 2, 200, generator=seeded(passes), dtype=torch.float64)
    ours, theirs = noise - noise.mean((1, 2), keepdim=True)
    right = torch.ones(2, 200, dtype=torch.float64)
    return Scheduled(group, kind, (1,) * passes, told, told + theirs, 1 + lost + ours, lost + ours, right)


def test_the_verdicts_on_steps_can_be_either() -> None:
    evens = [measured(EVEN, 3, 1.2, 1.2), measured(EVEN, 4, 1.0, 1.0), measured(EVEN, 6, 0.9, 0.9)]
    good = [*evens, measured(EVEN, 8, 0.8, 0.8)]
    plans = [measured(PLANNED, 3, 1.0, 1.0), measured(PLANNED, 6, 0.8, 0.8)]
    assert prediction(good + plans).holds
    assert not prediction([*good, measured(PLANNED, 3, 1.05, 1.0)]).holds
    assert not prediction([]).holds  # nothing to judge by
    assert prediction([measured(EVEN, 4, 1.0, 1.0, "SCDM, x")]).holds
    assert not prediction([*good, measured(EVEN, 4, 1.05, 1.0, "SCDM, x")]).holds
    assert not prediction([measured(EVEN, 4, -1.0, -1.0)]).holds  # nothing is lost: no share of it is resolved
    assert not prediction([measured(EVEN, 4, 0.01, 0.01)]).holds  # an interval that could hold anything
    assert planned(good + plans).holds
    assert not planned([*good, plans[0]]).holds  # at one number alone
    assert not planned(good).holds
    assert not planned([*good, measured(PLANNED, 3, 1.05, 1.0), measured(PLANNED, 6, 0.85, 0.8)]).holds
    same = [measured(kind, n, 1.0, 1.0) for n in (2, 3, 4, 6) for kind in (EVEN, PLANNED)]
    assert not planned(same).holds  # even steps do it as well


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: replace(presets.gidd(), shares=(0.2, 0.4)), "masks alone"),
        (lambda: replace(presets.gidd(), seeds=(0, 0)), "each once"),
        (lambda: replace(presets.gidd(), rounds=0), "1 or more"),
        (lambda: replace(presets.gidd(), passes=(4, 8)), "16 or more"),
        (lambda: replace(presets.forcing(), passes=()), "one or more"),
        (lambda: replace(presets.forcing(), draws=0), "1 or more"),
        (lambda: StepsStudy(()), "one run folder"),
        (lambda: StepsStudy(("a",), passes=(4, 2)), "rise"),
        (lambda: StepsStudy(("a",), latents=(4, 4)), "each once"),
        (lambda: StepsStudy(("a",), examples=0), "1 or more"),
        (lambda: StepsStudy(("a",), orders=("last",)), "no order is called"),
    ],
)
def test_bad_configs_are_refused(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("preset", [presets.gidd, presets.forcing])
def test_illegal_steps_need_a_chain(preset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a Chain"):
        next(replace(preset(), train=BOARD).run(tmp_path))


@pytest.mark.parametrize(
    "config", [*(make() for make in presets.GIDD.values()), *(m() for m in presets.FORCING.values())]
)
def test_presets_are_recorded_and_say_what_they_will_do(config) -> None:
    assert from_record(type(config), to_record(config)) == config
    assert "seed(s)" in config.budget()

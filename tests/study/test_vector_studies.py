"""Laws of the studies of vectors: stages begin with those before, every cell is measured, claims go either way."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from alone import of_part, stages_and_result
from toy import TRUNK

from unspoken import presets
from unspoken.decoders.denoise import denoise_values
from unspoken.layout.attention import CACHED_ALONE
from unspoken.measure.accuracy import solved
from unspoken.measure.ensemble import ensemble
from unspoken.show.figure import draw
from unspoken.study import forediff, foretold, ladir, thought_answers
from unspoken.study.report import Result, Stage
from unspoken.systems.forediff import FLOW
from unspoken.tasks import Arithmetic, Burgers
from unspoken.tasks.valued import relative_l2
from unspoken.training.config import Train
from unspoken.training.loading import load
from unspoken.training.run import Run

SHORT: dict[str, Any] = {"steps": 4, "batch": 8, "warmup": 1, "save": 4, "validate": 4, "log": 1}


def thoughts() -> ladir.LadirStudy:
    whole = presets.ladir_quick()
    timed = replace(TRUNK, times=True)
    return replace(
        whole,
        encoder=replace(whole.encoder, trunk=TRUNK, **SHORT),
        reasoner=replace(whole.reasoner, trunk=timed, **SHORT),
        baseline=replace(whole.baseline, trunk=TRUNK, **SHORT | {"steps": 9}),
        more=2,
        rollout=2,
        passes=(1, 2),
        at=2,
        questions=3,
        samples=4,
        rounds=2,
        repulsions=(0.5,),
        noises=(2.0,),
        guidances=(),
        seeds=(0, 1),
    )


BURGERS = forediff.ForediffStudy(
    Burgers(train=16, validation=4, test=6),
    first=3,
    second=2,
    batch=4,
    predictor=1,
    flow=1,
    width=16,
    conditions=3,
    samples=2,
    passes=2,
    guesses=1,
    seeds=(0, 1),
)
Done = tuple[list[Stage], Result, Any]


@pytest.fixture(scope="module")
def reasoned(tmp_path_factory) -> Done:
    runs = tmp_path_factory.mktemp("ladir")
    config = thoughts()
    with pytest.MonkeyPatch.context() as patch:  # tiny runs are of other FLOPs than those of the presets
        patch.setattr(ladir, "COMPARISONS", tuple(replace(c, equal=("parameters",)) for c in ladir.COMPARISONS[:3]))
        return *stages_and_result(config, runs), runs


@pytest.fixture(scope="module")
def foreseen(tmp_path_factory) -> Done:
    runs = tmp_path_factory.mktemp("forediff")
    return *stages_and_result(BURGERS, runs), runs


# Reasoning in vectors.


def test_every_way_is_measured_and_every_model_told(reasoned) -> None:
    found = [(r["variant"], r["decoding"]) for r in of_part(reasoned[1], "decoding")]
    assert found == list(thoughts().ways())
    assert {r["variant"] for r in of_part(reasoned[1], "training")} == set(ladir._STAGES) - {ladir.ENCODER}
    assert [r["decoding"] for r in of_part(reasoned[1], "vectors")] == ["as encoded", "noise 0.3"]
    assert all(0 <= s.done <= s.total for s in reasoned[0])


def test_runs_differ_in_what_their_names_say(reasoned) -> None:
    folder = reasoned[2]
    its: dict[str, Any] = {
        name: Run(folder / f"{name}-seed1").config(Train)
        for name in ("teacher-forcing", "small-times", "vectors-alone")
    }
    plain = its["teacher-forcing"]
    assert plain.codec is not None and plain.codec.folder == str(folder / "encoder-seed1") and plain.seed == 1
    assert replace(its["small-times"], objective=plain.objective) == plain
    assert its["small-times"].objective.context == 0.2
    assert replace(its["vectors-alone"], attention=plain.attention) == plain
    assert its["vectors-alone"].attention == CACHED_ALONE
    rolled: Any = Run(folder / "rollout-seed1").config(Train)
    assert rolled.start.folder == str(folder / "teacher-forcing-seed1") and rolled.objective.rollout == 2


def test_a_question_is_asked_as_often_as_it_is_said_and_never_twice_in_a_batch() -> None:
    config = thoughts()
    asked = config.asked()
    rows = asked.x0[:, 0].view(config.rounds, config.questions, config.samples)
    assert bool((rows == rows[:, :, :1]).all()) and bool((rows == rows[:1]).all())
    assert len(rows[0, :, 0].unique()) == config.questions


def test_answers_are_counted_as_by_hand(reasoned) -> None:
    config, folder = thoughts(), reasoned[2]
    model = load(folder / "teacher-forcing-seed0", "cpu")
    decoder = config.ways()[ladir.FORCED, ladir.told(2)]
    its = ladir.answers(config.task, [model], config.asked(), decoder, config.samples, config.questions)
    said = solved(model, config.task, config.asked(), decoder, config.samples * config.questions)
    right = said.right.view(-1, config.samples)
    assert its.right[0].tolist() == [float(row.double().mean()) for row in right]
    assert its.any_right[0].tolist() == [float(bool(row.any())) for row in right]
    groups = said.tokens.view(-1, config.samples, said.tokens.shape[1])
    different = [
        len({tuple(t.tolist()) for t, ok in zip(g, r, strict=True) if ok}) for g, r in zip(groups, right, strict=True)
    ]
    assert its.different[0].tolist() == different


@pytest.mark.parametrize("wins", [True, False])
def test_the_claim_of_test_time_compute_can_come_out_either_way(wins) -> None:
    few, many = (0.05, 0.6) if wins else (0.3, 0.6)
    cost: dict[str, float] = {}

    def level(p: float) -> thought_answers.Answers:
        right = torch.full((3, 20), p) + torch.linspace(-0.02, 0.02, 20)
        return thought_answers.Answers(right, right, right, cost)

    found = {(ladir.FORCED, ladir.told(1)): level(few), (ladir.FORCED, ladir.told(2)): level(many)}
    read = {"as encoded": torch.ones(3, 10)}
    assert thought_answers.more_steps(found, read, (1, 2), 0.01, 3).holds is wins
    bad = {"as encoded": torch.full((3, 10), 0.9)}
    assert thought_answers.more_steps(found, bad, (1, 2), 0.01, 3).holds is False


def test_the_two_cells_of_a_figure_are_drawn(reasoned, foreseen, tmp_path) -> None:
    for done in (reasoned, foreseen):
        assert draw(done[1], tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"passes": (2, 1)}, "rising numbers of passes"),
        ({"at": 3}, "rising numbers of passes"),
        ({"questions": 5}, "of 4 different ones"),
    ],
)
def test_a_study_of_thoughts_says_what_is_wrong(change, said) -> None:
    with pytest.raises(ValueError, match=said):
        replace(thoughts(), **change).asked()


def test_runs_of_different_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="different tasks"):
        replace(thoughts(), baseline=replace(thoughts().baseline, task=Arithmetic()))


# Two streams.


def test_every_model_of_every_regime_is_measured(foreseen) -> None:
    cells = [(regime, name) for regime, names in foretold.TRAINED.items() for name in names]
    for part in ("samples", "training"):
        assert [(r["regime"], r["model"]) for r in of_part(foreseen[1], part)] == cells
    steps = {r["model"]: r["steps"] for r in of_part(foreseen[1], "training")}
    assert steps.pop(foretold.PREDICTOR) == 3 and set(steps.values()) == {5}


def test_equal_weights_are_equal_but_for_the_fusion(foreseen) -> None:
    weights = {r["model"]: r["parameters"] for r in of_part(foreseen[1], "training") if r["regime"] == "determined"}
    assert weights[foretold.SPLIT] == weights[foretold.TWO]
    assert weights[foretold.JOINT] == weights[foretold.TWO] + 16 * 16 + 16  # the predictor's head
    fusion = sum(p.numel() for p in load(foreseen[2] / "determined" / "two-streams-seed0", "cpu").inputs.parameters())
    assert weights[foretold.PLAIN] < weights[foretold.TWO] < weights[foretold.PLAIN] + 2 * fusion


def test_the_measures_are_those_of_the_samples(foreseen) -> None:
    """The row of a model is what `ensemble` says of its samples, drawn once more."""
    test = BURGERS.task.sample("test", 3)
    found = []
    for seed in (0, 1):
        model = load(foreseen[2] / "determined" / f"two-streams-seed{seed}", "cpu")
        its = foretold.drawn(model, test, 2, 2, 1)
        found.append(its.error)
        rows = test.prompt(0).repeat_interleave(2, 0)
        *_, move = denoise_values(model, FLOW, rows, steps=2)
        samples = move.z.view(3, 2, *test.answer.shape[1:])[:, :, 8:]
        torch.testing.assert_close(its.error[0], ensemble(samples, test.answer[:, 8:]).relative_l2)
    row = next(r for r in of_part(foreseen[1], "samples") if r["model"] == foretold.TWO)
    assert row["error"] == pytest.approx(float(torch.cat(found).mean()))


def test_a_predictor_gives_one_answer(foreseen) -> None:
    model = load(foreseen[2] / "determined" / "predictor-seed0", "cpu")
    test = BURGERS.task.sample("test", 3)
    its = foretold.one_answer(model, test)
    assert its.its == {} and its.error.shape == (1, 3) and bool(its.error.isfinite().all())
    zero = relative_l2(torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64))
    assert zero.tolist() == [1.0]


@pytest.mark.parametrize("better", [True, False])
def test_the_claims_of_two_streams_can_come_out_either_way(better) -> None:
    def cell(error: float, std: float, crps: float, spread: float, guess: float) -> foretold.Samples:
        noise = torch.linspace(-0.001, 0.001, 30).expand(3, -1)
        its = {
            "consistency": std + noise,
            "crps": crps + noise,
            "spread_skill": torch.full((3, 1), spread),
            "first_guess": guess + noise,
        }
        return foretold.Samples(error + noise, its, 1, 0.0, 0.0, 0)

    plain, good = cell(0.2, 0.05, 0.1, 0.9, 0.3), cell(0.1, 0.02, 0.08, 1.0, 0.1)
    other = good if better else plain
    found = {(regime, name): other for regime, names in foretold.TRAINED.items() for name in names}
    for regime in foretold.TRAINED:
        found |= dict.fromkeys(((regime, name) for name in (foretold.PLAIN, foretold.WIDE)), plain)
    if not better:
        found[foretold.FORCED, foretold.TWO] = cell(0.2, 0.05, 0.2, 0.4, 0.3)
    found |= dict.fromkeys(((foretold.DETERMINED, name) for name in (foretold.SPLIT, foretold.JOINT)), plain)
    claims = [foretold.two_streams(found, 3), foretold.calibrated(found, 3)]
    claims += foretold.accuracy(found, 3)
    assert [c.holds for c in claims] == [better] * 5


@pytest.mark.parametrize(
    ("change", "said"), [({"samples": 1}, "2 or more"), ({"forcing": 0.0}, "a force above 0"), ({"batch": 0}, "batch")]
)
def test_a_study_of_two_streams_says_what_is_wrong(change, said) -> None:
    with pytest.raises(ValueError, match=said):
        replace(BURGERS, **change)

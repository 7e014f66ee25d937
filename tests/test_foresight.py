"""Foresight Diffusion: what a predictor foresees does not depend on noise or time, and a frozen one stays as it is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import EXACT, seeded, tiny

import unspoken as us
from unspoken.decoders.walk import gaussian, walk
from unspoken.layout.attention import ATTENTIONS
from unspoken.layout.condition import condition_of
from unspoken.layout.entries import one_block, random_order
from unspoken.measure.groups import seeds_of
from unspoken.model.ports import Codes, Vectors, VectorWeights
from unspoken.tasks import Bouncing, Sudoku
from unspoken.training.foresight import Foresight, ask_foreseen
from unspoken.training.loading import load
from unspoken.training.loop import packed_batch, training
from unspoken.training.losses import packed_losses
from unspoken.training.models import new_denoiser
from unspoken.training.run import Run
from unspoken.training.stages import Made

VECTORS = Vectors(2, "u", placeholder=0)
FLOW = us.Gaussian("linear")
TASK = Bouncing(positions=6, validation=4, test=4)
TRUNK = us.Trunk(1, 16, 2, times=True)
STAGE_1 = us.Train(
    TASK,
    attention=us.MDM,
    trunk=replace(TRUNK, times=False),
    objective=us.Teacherless(),
    port=Vectors(2, placeholder=0),
    steps=4,
    batch=4,
    warmup=1,
    save=2,
    log=1,
    validate=4,
)
VANILLA = replace(
    STAGE_1,
    trunk=TRUNK,
    process=FLOW,
    objective=us.Denoising(weight="flat"),
    port=Vectors(2, "u", placeholder=0, head="zero"),
)


def foreseer(
    attention: us.Attention = us.MDM, port: us.Vectors | Codes | None = VECTORS, **options: Any
) -> us.Denoiser:
    """A model that reads a predictor's states, by a fusion whose weights are not zero."""
    model = tiny(attention, positions=7, port=port, **options)
    model.foresee(tiny(us.MDM, seed=1, positions=7, port=port))
    assert model.fusion is not None
    with torch.random.fork_rng():
        torch.manual_seed(2)
        torch.nn.init.normal_(model.fusion.last.weight, std=0.3)
    return model


def prompts() -> Tensor:
    """Three rows of seven vectors, of which 2, 4 and 6 are known."""
    value = torch.randn(3, 7, 2, generator=seeded(4), dtype=torch.float64)
    for row, known in enumerate((2, 4, 6)):
        value[row, known:] = torch.nan
    return value


class Counted:
    """How often a predictor computes its states, and what they are."""

    def __init__(self, model: us.Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[Tensor] = []
        assert model.foresight is not None
        plain = model.foresight.states

        def states(*args: Any, **given: Any) -> Tensor:
            self.found.append(plain(*args, **given))
            return self.found[-1]

        monkeypatch.setattr(model.foresight, "states", states)


# What is foreseen


def test_a_condition_is_the_prompt_and_masks_whatever_was_said() -> None:
    """Under every noise and after every step the same layout, but for where its entries stand."""
    x0, given = torch.randint(6, (3, 7), generator=seeded()), torch.rand(3, 7, generator=seeded(1)) < 0.4
    start = one_block(torch.where(given, x0, 6), ~given, torch.zeros_like(x0))
    expected = condition_of(start, 6)
    later = random_order(torch.where(given | (x0 > 3), x0, 6), ~given & (x0 <= 3), given, seeded(2))
    noisy = one_block(torch.where(given, x0, 3), ~given, torch.zeros_like(x0), time=torch.rand(3, 7))
    for layout in (start, later, noisy):
        found = condition_of(layout, 6)
        assert found.time is None
        for name in ("token", "position", "order", "horizon", "block", "document"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(expected.token, torch.where(given, x0, 6)) and torch.equal(expected.said, given)


@torch.no_grad()
def test_a_condition_is_what_teacherless_training_shows() -> None:
    """The predictor's states at the masks of its own training pass, to rounding: positions may be listed otherwise."""
    task = replace(TASK, positions=7)
    model, examples = tiny(us.MDM, positions=7, port=Vectors(2, placeholder=0)), task.sample("train", 3, seeded())
    assert examples.value is not None
    x0, value = examples.x0, examples.value.double()
    packed = us.Teacherless().pack(us.Absorbing(), x0, examples.given, 6, value=value)
    noise = torch.randn(value.shape, generator=seeded(1), dtype=torch.float64)
    noisy = replace(
        one_block(x0, ~examples.given, torch.zeros_like(x0), time=torch.rand(x0.shape)), value=noise + value
    )
    noisy = replace(noisy, value=torch.where(examples.given[..., None], value, noise + value))
    foreseen, asked = model.states(condition_of(noisy, 6)), packed.one
    position = packed.layout.position.gather(1, asked.at)
    trained = model.states(packed.layout).gather(1, asked.at[..., None].expand(-1, -1, 16))
    there = foreseen.gather(1, position[..., None].expand(-1, -1, 16))
    assert int(asked.real.sum()) == 3 * 5 and torch.allclose(trained, there, **EXACT)
    losses = packed_losses(model, packed)
    target = value.gather(1, position[..., None].expand(-1, -1, 2))
    assert isinstance(model.values, VectorWeights)
    by_hand = (model.values.predict(there).value - target).square().mean(-1)
    assert torch.allclose(losses, by_hand, **EXACT)
    assert float(packed.reduce(losses)) == pytest.approx(float(by_hand.mean()), abs=1e-6)  # weights are float32


@torch.no_grad()
def test_what_is_foreseen_is_computed_once_a_walk_and_is_the_same_in_every_pass(monkeypatch) -> None:
    model = foreseer()
    counted = Counted(model, monkeypatch)
    once = list(us.denoise_values(model, FLOW, prompts(), steps=5, generator=seeded(3)))
    assert len(counted.found) == 1
    plain = model.predict_values
    monkeypatch.setattr(model, "predict_values", lambda layout, at: plain(replace(layout, foreseen=None), at))
    again = list(us.denoise_values(model, FLOW, prompts(), steps=5, generator=seeded(3)))
    assert len(counted.found) == 1 + 6  # once before the walk, and in every pass of it
    assert all(torch.equal(each, counted.found[0]) for each in counted.found)
    assert all(torch.equal(a.z, b.z) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("rule", ["mdm", "scdm", "cached-joint"])
@pytest.mark.parametrize("options", [{"latents": 1}, {"latents": 0, "order": "uniform"}, {"commit": 2}], ids=str)
@torch.no_grad()
def test_slots_foresee_once_a_decoding(rule: str, options: dict[str, Any], monkeypatch) -> None:
    """Whatever a pass leaves out: it reads the states of all positions before anything is said."""
    model = foreseer(ATTENTIONS[rule], None)
    prompt = torch.full((2, 7), 6)
    prompt[0, :3] = torch.tensor([1, 2, 3])
    prompt[1, 5:] = torch.tensor([4, 0])
    unsaid = prompt == 6
    whole = model.foreseeing(one_block(prompt, unsaid, torch.zeros_like(prompt))).foreseen
    assert whole is not None
    counted, seen = Counted(model, monkeypatch), []
    plain = model.states

    def states(layout: us.Layout, *args: Any, **given: Any) -> Tensor:
        seen.append(layout)
        return plain(layout, *args, **given)

    monkeypatch.setattr(model, "states", states)
    found = list(us.decode(model, prompt, **options))
    assert len(counted.found) == 1 and len(seen) == len(found)
    for layout, step in zip(seen, found, strict=True):
        own = whole[step.rows].gather(1, layout.position[..., None].expand(-1, -1, 16))
        assert layout.foreseen is not None and torch.allclose(layout.foreseen, own, **EXACT)
    again = list(us.decode(model, prompt, cache=False, **options))
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(found, again, strict=True))
    assert all(torch.allclose(a.confidence, b.confidence, **EXACT) for a, b in zip(found, again, strict=True))


def test_a_cache_without_foresight_is_refused() -> None:
    model = foreseer(us.CACHED_JOINT, None)
    with pytest.raises(ValueError, match="what is foreseen depends"):
        next(us.decode(model, torch.tensor([[1, 2, 6, 6, 6, 6, 6]]), decoder=us.NextToken()))


# What a new model is


def packed_of(config: us.Train) -> Any:
    return packed_batch(config, new_denoiser(config), TASK.sample("train", 4, seeded()), seeded(1))


@pytest.mark.parametrize("foresight", [Foresight(layers=2), Foresight(layers=1, weight=0.5)], ids=str)
def test_a_new_model_is_the_vanilla_one(foresight: Foresight) -> None:
    """Bit for bit: its own weights, its losses, and a velocity of 0."""
    plain, model = new_denoiser(VANILLA), new_denoiser(replace(VANILLA, foresight=foresight))
    theirs = dict(model.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in plain.named_parameters())
    packed = packed_of(VANILLA)
    assert torch.equal(packed_losses(plain, packed), packed_losses(model, packed))
    drawn = replace(VANILLA, port=Vectors(2, "u", placeholder=0))
    at = packed.one.at
    for config in (VANILLA, drawn):
        mine, its = (new_denoiser(c) for c in (config, replace(config, foresight=foresight)))
        said = [model.predict_values(packed.layout, at).value for model in (mine, its)]
        assert torch.equal(*said) and bool((said[0] == 0).all()) == (config is VANILLA)


def test_a_predictor_is_asked_beside_the_model() -> None:
    """The joint loss is the vanilla one and the weight times the predictor's squared error, by hand."""
    config = replace(VANILLA, foresight=Foresight(layers=1, weight=0.5))
    model, packed = new_denoiser(config), packed_of(config)
    losses = packed_losses(model, packed)
    plain = packed_of(VANILLA)
    assert model.foresight is not None
    condition = condition_of(plain.layout, TASK.mask_id)
    guess = model.foresight.predict_values(condition, plain.one.at).value
    wanted = plain.reduce(packed_losses(model, plain)) + 0.5 * (guess - plain.one.target).square().mean()
    assert torch.allclose(packed.reduce(losses), wanted)
    packed.reduce(losses).backward()
    assert model.foresight.values is not None
    assert all(p.grad is not None for p in model.foresight.values.parameters())


def test_codes_and_ids_are_asked_beside_the_model_too() -> None:
    for port in (None, Codes(3, 5, placeholder=0)):
        model = foreseer(us.SCDM, port)
        given = torch.rand(3, 7, generator=seeded(1)) < 0.4
        x0 = torch.randint(6, (3, 7), generator=seeded()) * (port is None)
        value = None if port is None else torch.randint(5, (3, 7, 3), generator=seeded(3))
        packed = ask_foreseen(us.MaskedDiffusion().pack(us.Absorbing(), x0, given, 6, seeded(2), value), 1.0)
        losses = packed_losses(model, packed)
        assert model.foresight is not None
        (alone,) = model.foresight(condition_of(packed.layout, 6), questions=packed.questions[:1])
        assert torch.allclose(losses[:, packed.questions[0].at.shape[1] :], alone, **EXACT)


# The laws of a frozen predictor


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stages") / "predictor"
    us.train(STAGE_1, folder)
    return folder


def second(stage: Path, **options: Any) -> us.Train:
    return replace(VANILLA, foresight=Foresight(Made(str(stage), "unspoken train forediff-predictor"), **options))


def weights(model: torch.nn.Module | None) -> dict[str, Tensor]:
    assert model is not None
    return {name: weight.clone() for name, weight in model.named_parameters()}


def test_a_frozen_predictor_stays_bit_for_bit(stage: Path, tmp_path: Path) -> None:
    """Before, after, in the average and from disk; its head is gone, and no gradient reaches it."""
    config = second(stage)
    before = weights(new_denoiser(config).foresight)
    assert before and not any("head" in name and "values" in name for name in before)
    own = weights(load(stage, "cpu"))
    assert all(torch.equal(weight, own[name]) for name, weight in before.items())
    model = new_denoiser(config)
    packed = packed_of(config)
    packed.reduce(packed_losses(model.train(), packed)).backward()
    assert model.foresight is not None and not model.foresight.training
    assert all(p.grad is None and not p.requires_grad for p in model.foresight.parameters())
    assert model.fusion is not None and model.fusion.last.weight.grad is not None
    trained = us.train(config, tmp_path / "run").cpu()
    assert all(torch.equal(weight, before[name]) for name, weight in weights(trained.foresight).items())
    assert trained.fusion is not None and bool((trained.fusion.last.weight != 0).any())
    trained.save_pretrained(tmp_path / "saved")
    again = us.Denoiser.from_pretrained(tmp_path / "saved")
    assert all(
        torch.equal(*pair) for pair in zip(trained.state_dict().values(), again.state_dict().values(), strict=True)
    )
    prompt = TASK.sample("test", 2).prompt(TASK.mask_id)
    said = [us.last(us.decode(m, prompt, passes=3, generator=seeded()), prompt) for m in (trained, again)]
    assert torch.equal(*said)


def test_a_predictor_that_is_trained_moves(stage: Path, tmp_path: Path) -> None:
    config = second(stage, frozen=False, weight=1.0)
    before = weights(new_denoiser(config).foresight)
    after = weights(us.train(config, tmp_path).cpu().foresight)
    assert not torch.equal(before["values.head.weight"], after["values.head.weight"])


def curve(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in Run(folder).metrics()]


def test_the_second_stage_goes_on_as_if_nothing_had_been(stage: Path, tmp_path: Path) -> None:
    for name, config in (("frozen", second(stage)), ("joint", second(stage, frozen=False, weight=0.5))):
        whole, cut = tmp_path / name, tmp_path / f"{name}-cut"
        us.train(config, whole)
        for update in training(config, cut):
            if update.step == 3:
                break
        found = us.train(config, cut).state_dict()
        assert curve(whole) == curve(cut)
        assert all(torch.equal(weight, found[key]) for key, weight in load(whole).state_dict().items())


def test_a_missing_stage_is_refused_with_its_command(tmp_path: Path) -> None:
    config = second(tmp_path / "nothing")
    with pytest.raises(ValueError, match="unspoken train forediff-predictor"):
        us.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_when_its_predictor_has_moved(stage: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(stage, tmp_path / "stage")
    whole, config = us.train(second(copied), tmp_path / "whole"), second(copied)
    for update in us.training(config, tmp_path / "run"):
        if update.step == 3:
            break
    copied.rename(tmp_path / "moved")
    found = us.train(config, tmp_path / "run")
    assert all(torch.equal(w, weights(whole)[name]) for name, w in weights(found).items())


def test_seeds_of_a_model_may_begin_with_seeds_of_its_predictor(tmp_path: Path) -> None:
    folders = []
    for seed in (0, 1):
        first = tmp_path / f"stage{seed}"
        us.train(replace(STAGE_1, seed=seed), first)
        folders.append(tmp_path / f"second{seed}")
        us.train(replace(second(first), seed=seed), folders[-1])
    us.train(VANILLA, tmp_path / "vanilla")
    assert list(seeds_of([*folders, tmp_path / "vanilla"]).values()) == [folders, [tmp_path / "vanilla"]]


def test_a_predictor_that_sees_noise_or_another_task_is_refused(stage: Path, tmp_path: Path) -> None:
    us.train(VANILLA, tmp_path / "flow")
    with pytest.raises(ValueError, match="a predictor sees masks alone"):
        us.train(second(tmp_path / "flow"), tmp_path / "run")
    other = replace(second(stage), task=Bouncing(positions=7, validation=4, test=4))
    with pytest.raises(ValueError, match="give a predictor of the same task"):
        us.train(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_predictor_in_the_folder_is_refused(stage: Path, tmp_path: Path) -> None:
    new_denoiser(second(stage)).save_pretrained(tmp_path)
    other = replace(VANILLA, seed=1, foresight=Foresight(layers=1))
    predictor = new_denoiser(other).foresight
    assert predictor is not None
    predictor.save_pretrained(tmp_path / "foresight")
    with pytest.raises(ValueError, match="not the predictor that was saved"):
        us.Denoiser.from_pretrained(tmp_path)
    for file in (tmp_path / "foresight").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="lacks its predictor"):
        us.Denoiser.from_pretrained(tmp_path)


def test_ids_foresee_by_a_frozen_model_from_left_to_right(tmp_path: Path) -> None:
    """A masked model reads the states of a frozen AR + MTP model; decoded with its latents."""
    board = Sudoku(2, 2, givens=6, train=50, validation=4, test=4)
    short: dict[str, Any] = {"steps": 2, "batch": 4, "warmup": 1, "save": 2, "validation_examples": 4}
    first = us.Train(
        board, attention=us.CACHED_JOINT, objective=us.MultiToken(prefixes=1), trunk=us.Trunk(1, 16, 2), **short
    )
    us.train(first, tmp_path / "ar")
    config = us.Train(board, trunk=us.Trunk(1, 16, 2), foresight=Foresight(Made(str(tmp_path / "ar"))), **short)
    model = us.train(config, tmp_path / "masked").cpu()
    own = weights(load(tmp_path / "ar", "cpu"))
    assert all(torch.equal(weight, own[name]) for name, weight in weights(model.foresight).items())
    prompt = board.sample("test", 2).prompt(board.mask_id)
    assert not (us.last(us.decode(model, prompt, latents=2), prompt) == board.mask_id).any()


# A predictor alone


def test_a_predictor_is_decoded_in_one_pass(stage: Path) -> None:
    model = load(stage, "cpu")
    examples = TASK.sample("test", 3)
    prompt = examples.prompt(TASK.mask_id)
    (step,) = us.decode(model, prompt)
    known = ~prompt.isnan()
    token = torch.where(known.all(-1), 0, TASK.mask_id)
    layout = replace(one_block(token, token != 0, torch.zeros_like(token)), value=prompt.nan_to_num())
    said = model.predict_values(layout, torch.arange(6).expand(3, 6)).value
    assert torch.allclose(step.answer, torch.where(known, prompt, said), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Foresight(), "give one of them"),
        (lambda: Foresight(Made("x"), layers=1), "give one of them"),
        (lambda: Foresight(Made("x"), weight=1.0), "give frozen=False"),
        (lambda: replace(VANILLA, objective=us.MaskedDiffusion(), foresight=Foresight(layers=1)), "take Denoising"),
        (lambda: replace(STAGE_1, foresight=Foresight(layers=1)), "take Denoising, or MaskedDiffusion without groups"),
        (
            lambda: replace(VANILLA, foresight=Foresight(layers=1), trunk=us.Trunk(checkpoint="x", times=True)),
            "give a stage",
        ),
        (lambda: replace(STAGE_1, port=VECTORS), "the view x0"),
        (lambda: replace(STAGE_1, port=Vectors(2, placeholder=0, head="none")), "give a head"),
        (lambda: replace(STAGE_1, process=FLOW), "take Denoising"),
        (lambda: Vectors(2, head="one"), "give 'drawn', 'zero' or 'none'"),  # pyright: ignore[reportArgumentType]
        (lambda: tiny(us.MDM, port=VECTORS).foresee(tiny(us.MDM)), "train it on the same task"),
        (lambda: packed_losses(new_denoiser(VANILLA), ask_foreseen(packed_of(VANILLA), 1.0)), "has no predictor"),
        (lambda: Vectors(2, head="none").build(16).predict(torch.zeros(1, 1, 16)), "no head"),
    ],
)
def test_bad_input(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


# The lemma, on x0 = A y + noise

Y, A, S = torch.tensor([0.5, -1.0]), torch.tensor([[1.0, 0.5], [-0.3, 2.0]]), torch.tensor([0.6, 1.4])


class Exact:
    """The exact velocity of the flow from noise to N(A y, diag(S^2)), by hand."""

    mean = (A @ Y).double()
    spread = S.double()

    def __call__(self, z: Tensor, t: Tensor) -> Tensor:
        t = t[..., None]
        variance = (1 - t) ** 2 * self.spread**2 + t**2
        off = z - (1 - t) * self.mean
        x0 = self.mean + (1 - t) * self.spread**2 / variance * off
        eps = t / variance * off
        return eps - x0


def test_at_time_1_the_velocity_tells_the_mean() -> None:
    """eps - v(eps, 1, y) = E[x0 | y], to 1e-6, whatever eps is; and v is E[eps - x0 | z] by brute force."""
    eps, one = torch.randn(4, 3, 2, generator=seeded(), dtype=torch.float64), torch.ones(4, 3, dtype=torch.float64)
    assert torch.allclose(eps - Exact()(eps, one), Exact.mean.expand_as(eps), atol=1e-6)
    views = FLOW.views(Exact()(eps, one), eps, one, "u")
    assert torch.allclose(views.x0, Exact.mean.expand_as(eps), atol=1e-6)
    # By quadrature over x0 on a fine grid: p(x0 | z) is proportional to p(x0) p(z | x0).
    t, z = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[[0.7, -1.1]]], dtype=torch.float64)
    for dim in range(2):
        x0 = Exact.mean[dim] + Exact.spread[dim] * torch.linspace(-9, 9, 20_001, dtype=torch.float64)
        eps_of = (z[0, 0, dim] - 0.7 * x0) / 0.3
        p = torch.exp(-0.5 * ((x0 - Exact.mean[dim]) / Exact.spread[dim]) ** 2 - 0.5 * eps_of**2)
        by_hand = float((p * (eps_of - x0)).sum() / p.sum())
        assert float(Exact()(z, t)[0, 0, dim]) == pytest.approx(by_hand, abs=1e-6)


def test_euler_with_the_exact_velocity_draws_the_normal() -> None:
    """20,000 vectors, 200 steps: mean and deviation to 5 standard errors and .5% for the steps (1 in 100,000)."""
    n = 20_000
    z = torch.randn(n, 1, 2, generator=seeded(5), dtype=torch.float64)
    given = torch.zeros(n, 1, dtype=torch.bool)
    *_, last = walk(Exact(), gaussian(FLOW, "u"), z, given, steps=200)
    drawn = last.z[:, 0]
    for dim in range(2):
        mean, spread = float(Exact.mean[dim]), float(Exact.spread[dim])
        assert float(drawn[:, dim].mean()) == pytest.approx(mean, abs=5 * spread / n**0.5 + 0.005)
        assert float(drawn[:, dim].std()) == pytest.approx(spread, abs=5 * spread / (2 * n) ** 0.5 + 0.005 * spread)
    assert float(torch.corrcoef(drawn.T)[0, 1].abs()) < 5 / n**0.5

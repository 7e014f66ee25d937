"""TokenBridge: the task of codes, likelihoods along an order, guidance, resumed training, and its measures."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import EXACT, seeded, tiny

import unspoken as us
from unspoken.codecs import Shape, load_codec, train_vae
from unspoken.layout.attention import ATTENTIONS, JOINT, MDM
from unspoken.layout.entries import one_block
from unspoken.measure.chain import chain_nll
from unspoken.measure.frechet import frechet, train_classifier
from unspoken.measure.schedules import cosine, even
from unspoken.model.codes import Codes
from unspoken.model.denoiser import Denoiser
from unspoken.noise.space import unpaired
from unspoken.show.cells import cells
from unspoken.systems import tokenbridge
from unspoken.tasks import Examples, ImageCodes, images
from unspoken.tasks.base import SPLITS
from unspoken.training.config import Trunk

SHAPE = Shape(8, grid=2, dims=3, width=4)
SMALL: dict[str, Any] = {"trunk": Trunk(1, 16, 2, init=0.07), "width": 8, "batch": 8, "warmup": 2, "save": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec of digits, hardly trained."""
    folder = tmp_path_factory.mktemp("codec") / "codec"
    train_vae(images.load("digits", "train").grey, SHAPE, steps=20, batch=16).save(folder)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "classes"])
def task(folder: Path, request: pytest.FixtureRequest) -> ImageCodes:
    return tokenbridge.task_of(folder, "digits", levels=5, classes=request.param)


@pytest.fixture(scope="module")
def classed(folder: Path) -> ImageCodes:
    return tokenbridge.task_of(folder, "digits", levels=5, classes=True)


@pytest.fixture(scope="module")
def model(classed: ImageCodes, tmp_path_factory: pytest.TempPathFactory) -> Denoiser:
    return us.train(tokenbridge.generator(classed, **SMALL, steps=4), tmp_path_factory.mktemp("run") / "run")


def equal(a: Examples, b: Examples) -> bool:
    assert a.value is not None and b.value is not None
    return torch.equal(a.x0, b.x0) and torch.equal(a.given, b.given) and torch.equal(a.value, b.value)


# The task


def test_splits_are_fixed_and_their_codes_are_those_of_the_codec(task: ImageCodes, folder: Path) -> None:
    codec, first = load_codec(folder), int(task.classes)
    for split in SPLITS:
        its = task.sample(split, 40)
        assert task.size(split) == images.SIZES["digits"][split] and equal(its, replace(task).sample(split, 40))
        assert equal(task.sample(split, 7), its.rows(slice(7)))
        image = images.load("digits", split)
        mean, _ = codec.posterior(image.grey)
        assert its.value is not None
        assert torch.equal(its.value[:, first:], codec.quantizer(5).encode(mean[:40]))
        if task.classes:
            assert torch.equal(its.x0[:, 0], image.label[:40] + 1) and (its.value[:, 0] == -1).all()
        assert (its.x0[:, first:] == 0).all()
        assert torch.equal(its.given, (torch.arange(task.length) < first).expand(40, -1))
        assert task.score(its.prompt(task.mask_id), its.answer).all()


def test_train_is_drawn_from_the_posterior_anew_each_time(task: ImageCodes) -> None:
    """Equal by seed; and the same image (by its class and most of its codes) is not always the same codes."""
    one, again, other = (task.sample("train", 64, seeded(seed)) for seed in (0, 0, 1))
    assert equal(one, again) and not equal(one, other)
    still = replace(task, drop=0.0).sample("train", task.size("train"))
    index = torch.randint(task.size("train"), (64,), generator=seeded(0))
    assert one.value is not None and still.value is not None
    first = int(task.classes)
    moved = (one.value[:, first:] != still.value[index, first:]).double().mean()
    assert 0 < moved < 0.9


def test_a_tenth_of_the_classes_is_left_out_in_training_alone(classed: ImageCodes) -> None:
    """4,000 draws of .1: within .02, six standard errors (false alarm below 1e-8)."""
    its = classed.sample("train", 4_000, seeded(0))
    none = (its.x0[:, 0] == classed.no_class).double().mean()
    assert none == pytest.approx(0.1, abs=0.03)
    assert (classed.sample("test", 200).x0[:, 0] < classed.no_class).all()
    assert classed.no_class == 11 and classed.mask_id == 12


def test_images_are_what_the_codes_stand_for(task: ImageCodes, folder: Path) -> None:
    codec, its = load_codec(folder), task.sample("test", 5)
    codes = its.answer[:, int(task.classes) :]
    assert torch.equal(task.image(its.answer), codec.images(codec.quantizer(5).decode(codes)))
    with pytest.raises(ValueError, match="some patches are not known"):
        task.image(torch.full_like(its.answer, -1))


def test_prompts_know_the_class_alone(task: ImageCodes) -> None:
    prompts = task.prompts(torch.tensor([3, -1]))
    if not task.classes:
        assert prompts.shape == (2, 4, 3) and (prompts == -1).all()
        return
    token, value = unpaired(prompts)
    assert token.tolist() == [[4, 12, 12, 12, 12], [11, 12, 12, 12, 12]] and (value == -1).all()
    its = task.sample("test", 3)
    assert torch.equal(its.prompt(task.mask_id), task.prompts(its.x0[:, 0] - 1))


def test_a_patch_is_read_as_it_is_written(task: ImageCodes) -> None:
    patch = torch.tensor([4, 0, 3])
    assert task.word(patch) == "4,0,3" and torch.equal(task.parse("4,0,3"), patch)
    for word in ("4,0", "4,0,5", "4,0,-1", "4,0,x", "4,0,"):
        with pytest.raises(ValueError, match=r"3 codes 0\.\.4"):
            task.parse(word)


def test_a_prompt_is_written_with_its_class(classed: ImageCodes) -> None:
    for cls in ("7", "any"):
        text = f"{cls} . 0,1,2 . ."
        prompt = classed.encode(text)
        assert prompt.shape == (5, 1 + 3) and classed.show(prompt) == text
        token, value = unpaired(prompt)
        assert token.tolist() == [classed.words.index(cls), classed.mask_id, 0, *[classed.mask_id] * 2]
        assert value[2].tolist() == [0, 1, 2] and bool((value[[0, 1, 3, 4]] == -1).all())
    with pytest.raises(ValueError, match="a class expected first"):
        classed.encode(". . . . .")


def test_a_class_that_is_given_is_shown_as_given(model: Denoiser, classed: ImageCodes) -> None:
    prompt = classed.prompts(torch.tensor([3]))
    step = next(iter(us.decode(model, prompt)))
    assert cells(step, prompt, classed)[0] == ("3", "given")
    assert classed.show(step.answer[0]).startswith(". ")


def test_the_chain_shows_the_values_of_a_prompt() -> None:
    """Ids after vectors: -log p is the sum of what each pass says, and it depends on the vectors."""
    model = tiny(us.MDM, positions=6, port=us.Vectors(2, placeholder=0, head="none"))
    x0, value = torch.tensor([[0, 0, 1, 2]] * 2), torch.full((2, 4, 2), torch.nan, dtype=torch.float64)
    value[:, :2] = torch.randn(2, 2, 2, generator=seeded(0), dtype=torch.float64)
    its = Examples(x0, torch.tensor([[True, True, False, False]] * 2), value)
    rank = torch.tensor([[0, 0, 0, 1]] * 2)
    nll = chain_nll(model, its, rank=rank)
    assert float((nll[0] - nll[1]).abs()) > 1e-6
    prompt, total = its.prompt(model.mask_id), torch.zeros(2, dtype=torch.float64)
    for position in (2, 3):
        token, shown = unpaired(prompt)
        layout = replace(one_block(token, token == model.mask_id, torch.zeros_like(token)), value=shown.nan_to_num(0))
        logits = model(layout, torch.full((2, 1), position))
        total -= logits.log_softmax(-1)[:, 0].gather(1, x0[:, [position]])[:, 0]
        prompt[:, position, 0] = x0[:, position].double()
    assert torch.allclose(nll, total, **EXACT)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"source": "mnist"}, "source='mnist'"),
        ({"codec": ""}, "codec is empty"),
        ({"levels": 1}, "levels=1"),
        ({"drop": 1.5}, "drop=1.5"),
        ({"classes": 1}, "classes=1"),
    ],
)
def test_wrong_fields_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ImageCodes(**{"codec": "somewhere", **change})


def test_a_codec_of_other_sizes_or_none_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="makes 4 patches of 3 numbers"):
        ImageCodes(str(folder), "digits", 4, 8).sample("test", 1)
    with pytest.raises(ValueError, match=r"makes 4 patches of 3 numbers.*fashion of 28"):
        ImageCodes(str(folder), "fashion", 4, 3).sample("test", 1)
    gone = ImageCodes(str(tmp_path / "gone"), "digits", 4, 3)
    assert gone.size("test") == 200  # what needs no codec, asks for none
    with pytest.raises(ValueError, match=r"no codec\.json there"):
        gone.sample("test", 1)


def test_another_codec_in_the_same_folder_is_noticed(folder: Path, tmp_path: Path) -> None:
    codec = load_codec(folder)
    codec.save(tmp_path / "codec")
    task = tokenbridge.task_of(tmp_path / "codec", "digits", levels=5)
    before = task.sample("test", 20).answer
    replace(codec, mean=codec.mean + 5).save(tmp_path / "codec")
    assert not torch.equal(task.sample("test", 20).answer, before)


# Likelihood along an order


def coded(model: Denoiser, every: torch.Tensor) -> Examples:
    """Codes `[n, 2, 2]` behind a class id."""
    token = torch.zeros(len(every), 3, dtype=torch.int64)
    token[:, 0] = 2
    value = torch.cat([torch.full_like(every[:, :1], -1), every], 1)
    return Examples(token, torch.tensor([True, False, False]).expand(len(every), 3), value)


@pytest.mark.parametrize("head", ["recurrent", "additive", "parallel"])
@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
def test_the_probabilities_of_all_sequences_sum_to_one(attention: us.Attention, head: Any) -> None:
    """Two vectors of two dims of three levels: all 81, for both orders, beside none and all."""
    model = tiny(attention, port=Codes(2, 3, width=8, placeholder=0, head=head, spacing="normal"))
    every = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 2, 2)
    for rank, latents in itertools.product(([0, 0, 1], [0, 1, 0]), (None, 0)):
        nll = chain_nll(model, coded(model, every), rank=torch.tensor(rank).expand(81, 3), latents=latents)
        assert torch.allclose((-nll).exp().sum(), torch.ones((), dtype=torch.float64), **EXACT)


def test_the_chain_is_the_product_of_what_decoding_draws() -> None:
    """Drawn one at a time from left to right, a sequence has the probability that the steps say it has."""
    model = tiny(JOINT, port=Codes(2, 3, width=8, placeholder=0, head="additive"))
    prompt = torch.full((5, 3, 2), -1)
    steps = list(us.decode(model, prompt, order="left_to_right", temperature=1.0, generator=seeded(3)))
    said = sum(step.probability[:, 0].double().log() for step in steps)
    value = us.last(iter(steps), prompt)
    its = Examples(torch.zeros(5, 3, dtype=torch.int64), torch.zeros(5, 3, dtype=torch.bool), value)
    nll = chain_nll(model, its, rank=torch.arange(3).expand(5, 3))
    assert torch.allclose(nll, -torch.as_tensor(said), **EXACT)


def test_the_chain_of_ids_is_that_of_their_logits() -> None:
    model = tiny(MDM)
    x0 = torch.tensor([[2, 1], [0, 5]])
    its = Examples(x0, torch.zeros(2, 2, dtype=torch.bool))
    nll = chain_nll(model, its, rank=torch.tensor([[1, 0], [1, 0]]))
    masks = torch.full_like(x0, model.mask_id)
    first = torch.stack([masks[:, 0], x0[:, 1]], 1)
    expected = 0.0
    for tokens, place in ((masks, 1), (first, 0)):
        layout = us.one_block(tokens, tokens == model.mask_id, torch.zeros_like(tokens))
        expected = expected - model(layout).log_softmax(-1)[:, place].gather(1, x0[:, place : place + 1])[:, 0]
    assert torch.allclose(nll, torch.as_tensor(expected), **EXACT)
    assert chain_nll(model, Examples(x0, torch.ones(2, 2, dtype=torch.bool))).tolist() == [0, 0]


def test_vectors_have_no_chain() -> None:
    model = tiny(MDM, port=us.Vectors(2, placeholder=0))
    its = Examples(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.bool), torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="vectors have a density"):
        chain_nll(model, its)


# Guidance and decoding


def drawn(model: Denoiser, prompts: torch.Tensor, **options: Any) -> torch.Tensor:
    how = {"order": "uniform", "temperature": 1.0, "commit": (1, 1, 2), "generator": seeded(0), **options}
    return us.last(us.decode(model, prompts, **how), prompts)


def test_guidance_of_1_is_none_and_of_0_knows_no_class(model: Denoiser, classed: ImageCodes) -> None:
    prompts, none = classed.prompts(torch.arange(6)), classed.prompts(torch.full((6,), -1))
    plain = drawn(model, prompts)
    assert torch.equal(drawn(tokenbridge.guided(model, classed, 1.0), prompts), plain)
    assert torch.equal(drawn(tokenbridge.guided(model, classed, 0.0), prompts), drawn(model, none))
    assert torch.equal(drawn(tokenbridge.guided(model, classed, 5.0), none), drawn(model, none))
    assert not torch.equal(drawn(tokenbridge.guided(model, classed, 5.0), prompts), plain)


def test_guided_features_are_mixed_by_the_weight(model: Denoiser, classed: ImageCodes) -> None:
    tokens = torch.tensor([[4, 0, 12, 12, 12]])
    layout = us.one_block(tokens, tokens == 12, torch.zeros_like(tokens))
    layout = replace(layout, value=torch.zeros(1, 5, 3, dtype=torch.int64))
    none = replace(layout, token=torch.tensor([[11, 0, 12, 12, 12]]))
    z_c, z_u = model.states(layout), model.states(none)
    for growing, weight in ((False, 3.0), (True, 1 + 2 * 1 / 4)):
        guided = tokenbridge.guided(model, classed, 3.0, growing)
        assert torch.allclose(guided.states(layout), z_u + weight * (z_c - z_u), atol=1e-5)


def test_guidance_needs_classes(model: Denoiser, classed: ImageCodes) -> None:
    with pytest.raises(ValueError, match="make it with classes=True"):
        tokenbridge.guided(model, replace(classed, classes=False), 2.0)
    with pytest.raises(ValueError, match="weight="):
        tokenbridge.guided(model, classed, float("nan"))


@pytest.mark.parametrize("latents", [None, 0, 1])
def test_images_are_drawn_with_any_number_of_latents(model: Denoiser, classed: ImageCodes, latents: Any) -> None:
    prompts = classed.prompts(torch.arange(4))
    answer = drawn(model, prompts, latents=latents)
    assert classed.score(prompts, answer).all() and classed.image(answer).shape == (4, 8, 8)


@pytest.mark.parametrize("length", [1, 2, 5, 16, 256])
def test_cosine_counts_are_a_schedule(length: int) -> None:
    for steps in range(1, length + 1, max(1, length // 16)):
        sizes = cosine(length, steps)
        assert len(sizes) == steps and sum(sizes) == length and min(sizes) >= 1
    assert cosine(length, length) == even(length, length)
    # floor(256 cos(pi s / 128)) left after steps s = 8, 16, ...: where every step says one or more, the formula itself
    if length == 256:
        left = [256 - sum(cosine(256, 64)[:s]) for s in (32, 48, 63, 64)]
        assert left == [181, 97, 6, 0]


# Training


@pytest.mark.parametrize("head", ["additive", "parallel", "recurrent"])
def test_a_run_that_stops_goes_on_as_if_it_had_not(task: ImageCodes, head: Any, tmp_path: Path) -> None:
    config = tokenbridge.generator(task, head, **SMALL, steps=4)
    whole = us.train(config, tmp_path / "whole")
    for event in us.training(config, tmp_path / "parts"):
        if event.step == 2:
            break
    parts = us.train(config, tmp_path / "parts")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, parts.state_dict()[name]), name


# The measures


def test_the_frechet_distance_is_that_of_normal_numbers() -> None:
    """Of commuting covariances it is |difference of means|^2 + sum of (difference of standard deviations)^2."""
    a = torch.randn(60_000, 3, generator=seeded(0), dtype=torch.float64)
    a = (a - a.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(a.T))).T  # of mean 0, covariance 1 exactly
    b = a * torch.tensor([2.0, 0.5, 1.0]) + torch.tensor([1.0, 0.0, -2.0])
    assert frechet(a, b) == pytest.approx(5 + 1 + 0.25, rel=1e-6)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6) and frechet(b, a) == pytest.approx(frechet(a, b))
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=seeded(1), dtype=torch.float64))
    assert frechet(a @ turn, b @ turn) == pytest.approx(frechet(a, b), rel=1e-6)
    with pytest.raises(ValueError, match="n 2 or more"):
        frechet(a[:1], b)


def test_a_classifier_learns_and_is_determined_by_its_seed() -> None:
    train, test = (images.load("digits", split) for split in ("train", "test"))
    one, again = (train_classifier(train.grey, train.label, steps=150, batch=64) for _ in range(2))
    right = (one.probabilities(test.grey).argmax(-1) == test.label).double().mean()
    assert right > 0.8 and torch.equal(one.features(test.grey), again.features(test.grey))

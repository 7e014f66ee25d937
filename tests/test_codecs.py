"""Laws of the quantizer and the autoencoder: levels, errors, idempotence, folders that are torn or of other sizes."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import norm

from unspoken.codecs import CARD, Codec, ScalarQuantizer, Shape, frequency_order, load_codec, normal_levels, train_vae
from unspoken.codecs.vae import WEIGHTS
from unspoken.tasks import images

SMALL = Shape(8, grid=2, dims=3, width=4)


def numbers(n: int = 20_000, dims: int = 3, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(n, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn * torch.tensor([0.1, 1.0, 7.0])[:dims] + torch.tensor([5.0, 0.0, -3.0])[:dims]


@pytest.mark.parametrize("levels", [2, 3, 8, 64])
def test_levels_are_those_of_the_formula(levels: int) -> None:
    level = normal_levels(levels)
    assert torch.allclose(level, torch.tensor([math.sqrt(3) * norm.ppf((i + 0.5) / levels) for i in range(levels)]))
    assert (level.diff() > 0).all() and torch.allclose(level, -level.flip(0), atol=1e-12)
    quantizer = ScalarQuantizer(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0]), levels)
    assert torch.allclose(quantizer.table, torch.stack([2 + 0.5 * level, -1 + 3 * level]))


@pytest.mark.parametrize("levels", [2, 5, 16, 64])
def test_codes_are_the_nearest_levels(levels: int) -> None:
    its = numbers()
    quantizer = ScalarQuantizer.fit(its, levels)
    codes = quantizer.encode(its)
    assert codes.dtype == torch.int64 and codes.min() >= 0 and codes.max() < levels
    apart = (its[:500, :, None] - quantizer.table).abs()
    nearest = apart.gather(2, codes[:500, :, None])[..., 0]
    assert torch.allclose(nearest, apart.amin(2), atol=1e-6)


@pytest.mark.parametrize("levels", [2, 5, 16, 64])
def test_what_is_quantised_once_stays(levels: int) -> None:
    quantizer = ScalarQuantizer.fit(numbers(), levels)
    every = torch.arange(levels)[:, None].expand(-1, 3)
    assert torch.equal(quantizer.encode(quantizer.decode(every)), every)
    once = quantizer.decode(quantizer.encode(numbers(seed=1)))
    assert torch.equal(quantizer.decode(quantizer.encode(once)), once)


@pytest.mark.parametrize("levels", [3, 16, 64])
def test_an_error_is_at_most_half_the_gap_between_levels(levels: int) -> None:
    its = numbers()
    quantizer = ScalarQuantizer.fit(its, levels)
    table, codes = quantizer.table, quantizer.encode(its)
    error = (quantizer.decode(codes) - its).abs()
    gap = table.diff(dim=1)
    for dim in range(3):
        inside = (its[:, dim] > table[dim, 0]) & (its[:, dim] < table[dim, -1])
        left = torch.searchsorted(table[dim].contiguous(), its[inside, dim].contiguous()) - 1
        assert (error[inside, dim] <= gap[dim, left] / 2 + 1e-5).all()


def test_the_error_of_normal_numbers_is_the_known_one_and_falls_with_levels() -> None:
    """6.58e-4 at 64 levels (an integral; Lloyd and Max's optimum is 6.47e-4): 200,000 draws come within 3%."""
    its = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = []
    for levels in (2, 4, 8, 16, 32, 64):
        quantizer = ScalarQuantizer(torch.zeros(1), torch.ones(1), levels)
        errors.append(float((quantizer.decode(quantizer.encode(its)) - its).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == pytest.approx(6.58e-4, rel=0.03)


def test_statistics_are_those_of_the_numbers() -> None:
    quantizer = ScalarQuantizer.fit(numbers().view(100, 200, 3), 4)
    assert torch.allclose(quantizer.mean.double(), numbers().mean(0), atol=1e-5)
    assert torch.allclose(quantizer.std.double(), numbers().std(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("mean", "std", "levels", "says"),
    [
        ([0.0], [1.0], 1, "levels=1"),
        ([0.0, 0.0], [1.0], 4, "give .dims. of both"),
        ([0.0], [0.0], 4, "does not vary"),
        ([math.nan], [1.0], 4, "does not vary, or is not finite"),
    ],
)
def test_a_quantizer_of_nothing_is_refused(mean, std, levels, says) -> None:
    with pytest.raises(ValueError, match=says):
        ScalarQuantizer(torch.tensor(mean), torch.tensor(std), levels)


def test_what_has_no_level_is_refused() -> None:
    quantizer = ScalarQuantizer(torch.zeros(2), torch.ones(2), 4)
    for numbers in (torch.zeros(3, 1), torch.tensor([[0.0, torch.nan]])):
        with pytest.raises(ValueError, match="none of them nan"):
            quantizer.encode(numbers)
    for codes in (torch.tensor([[0, -1]]), torch.tensor([[0, 4]]), torch.tensor([[0]])):
        with pytest.raises(ValueError, match="from 0 to 3"):
            quantizer.decode(codes)


def test_the_order_is_by_low_frequencies() -> None:
    """A constant map an image, a wave of period 4, one of period 2 and noise: sorted, wherever they stand."""
    g = torch.Generator().manual_seed(0)
    place = torch.arange(8.0)
    size = torch.randn(50, 4, generator=g)[:, None, None]
    wave = torch.stack([torch.ones(8), (torch.pi * place / 2).cos(), (torch.pi * place).cos()], 1)
    maps = size[..., :3] * wave[None, :, None, :].expand(50, 8, 8, 3)
    maps = torch.cat([maps, torch.randn(50, 8, 8, 1, generator=g)], 3)
    expected = frequency_order(maps).tolist()
    # within a quarter of a cycle: all of the constant and of period 4, a part of noise, none of period 2
    assert expected[2:] == [3, 2] and set(expected[:2]) == {0, 1}
    swapped = maps[..., [2, 0, 3, 1]]
    assert [[2, 0, 3, 1][i] for i in frequency_order(swapped).tolist()][2:] == [3, 2]


@pytest.mark.parametrize("shape", [SMALL, Shape(28, 4, 5, 4), Shape(5, 5, 2, 3), Shape(9, 3, 2, 3), Shape(6, 3, 2, 2)])
def test_every_shape_encodes_and_decodes(shape: Shape) -> None:
    grey = torch.rand(3, shape.side, shape.side, generator=torch.Generator().manual_seed(0))
    codec = train_vae(grey, shape, steps=2, batch=2)
    mean, std = codec.posterior(grey)
    assert mean.shape == std.shape == (3, shape.patches, shape.dims) and (std > 0).all()
    assert codec.images(mean).shape == grey.shape and codec.posterior(grey[:0])[0].shape[0] == 0


@pytest.fixture(scope="module")
def codec() -> Codec:
    return train_vae(images.load("digits", "train").grey, SMALL, steps=30, batch=16)


def test_the_same_seed_makes_the_same_codec_and_draws_no_global_number(codec: Codec) -> None:
    before = torch.get_rng_state()
    again = train_vae(images.load("digits", "train").grey, SMALL, steps=30, batch=16)
    other = train_vae(images.load("digits", "train").grey, SMALL, steps=30, batch=16, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    grey = images.load("digits", "test").grey
    assert torch.equal(codec.posterior(grey)[0], again.posterior(grey)[0])
    assert torch.equal(codec.mean, again.mean) and torch.equal(codec.std, again.std)
    assert not torch.equal(codec.posterior(grey)[0], other.posterior(grey)[0])


def test_training_makes_it_better() -> None:
    grey, test = images.load("digits", "train").grey, images.load("digits", "test").grey
    short, long = (train_vae(grey, SMALL, steps=steps, batch=32) for steps in (1, 120))
    errors = [float((c.images(c.posterior(test)[0]) - test).square().mean()) for c in (short, long)]
    assert errors[1] < 0.8 * errors[0]


def test_dims_are_in_our_order_outside_and_in_its_own_inside(codec: Codec) -> None:
    grey = images.load("digits", "test").grey[:4]
    raw, _ = codec.vae.encode(grey)
    turned = replace(codec, order=torch.tensor([2, 0, 1]))
    mean, _ = turned.posterior(grey)
    assert torch.equal(mean, raw[..., [2, 0, 1]])
    assert torch.equal(turned.images(mean), codec.vae.decode(raw).clamp(0, 1))


def test_images_do_not_depend_on_their_company(codec: Codec) -> None:
    grey = images.load("digits", "train").grey[:600]
    mean, std = codec.posterior(grey)
    alone = codec.posterior(grey[550:551])
    assert torch.allclose(mean[550:551], alone[0], atol=1e-5) and torch.allclose(std[550:551], alone[1], atol=1e-5)


def test_a_folder_holds_the_codec(codec: Codec, tmp_path: Path) -> None:
    codec.save(tmp_path / "codec")
    codec.save(tmp_path / "codec")  # over another
    held = load_codec(tmp_path / "codec")
    grey = images.load("digits", "test").grey
    assert held.shape == codec.shape and torch.equal(held.order, codec.order)
    assert torch.equal(held.posterior(grey)[0], codec.posterior(grey)[0])
    assert torch.equal(held.quantizer(8).table, codec.quantizer(8).table)
    assert sorted(p.name for p in (tmp_path / "codec").iterdir()) == [CARD, WEIGHTS]
    assert [p.name for p in tmp_path.iterdir()] == ["codec"]


def rewritten(folder: Path, change) -> None:
    card, held = json.loads((folder / CARD).read_text()), load_file(folder / WEIGHTS)
    change(card, held)
    save_file(held, folder / WEIGHTS)
    import hashlib

    card["sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: shutil.rmtree(f), "no codec.json there; make a codec"),
        (lambda f: (f / CARD).write_text("{"), "not to be read as JSON"),
        (lambda f: (f / CARD).write_text("{}"), "shape and sha256 expected"),
        (lambda f: (f / WEIGHTS).unlink(), "is not to be read"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-8]), "is not"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-1] + b"\x7f"), "another SHA-256"),
        (lambda f: rewritten(f, lambda card, held: card["shape"].update(dims=4)), "make the codec anew"),
        (lambda f: rewritten(f, lambda card, held: held.pop("mean")), r"mean is missing, \(3,\) expected"),
        (lambda f: rewritten(f, lambda card, held: held["order"].fill_(0)), "order is no order of 3 dims"),
        (lambda f: rewritten(f, lambda card, held: card["shape"].update(grid=9)), "grid=9, side=8"),
    ],
)
def test_a_damaged_folder_is_a_value_error(codec: Codec, tmp_path: Path, damage, says: str) -> None:
    codec.save(tmp_path / "codec")
    damage(tmp_path / "codec")
    with pytest.raises(ValueError, match=says):
        load_codec(tmp_path / "codec")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Shape(0), "side=0"),
        (lambda: Shape(4, grid=5), "at most a patch a pixel"),
        (lambda: train_vae(torch.zeros(2, 9, 9), SMALL), r"\[n, 8, 8\] expected"),
        (lambda: train_vae(torch.zeros(0, 8, 8), SMALL), "expected"),
        (lambda: train_vae(torch.zeros(2, 8, 8), SMALL, steps=0), "steps=0"),
        (lambda: train_vae(torch.zeros(2, 8, 8), SMALL, beta=-1.0), "beta=-1.0"),
        (lambda: normal_levels(1), "levels=1"),
    ],
)
def test_wrong_sizes_are_refused(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_images_of_another_side_are_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match=r"\[n, 8, 8\] expected"):
        codec.posterior(torch.zeros(1, 7, 7))

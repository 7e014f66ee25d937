"""Laws of `study tokenbridge`: every way is measured, its numbers are those of its models, claims go either way."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from alone import of_part, stages_and_result

from unspoken import presets
from unspoken.codecs import Shape, load_codec
from unspoken.measure.chain import chain_nll
from unspoken.measure.frechet import frechet, train_classifier
from unspoken.show.figure import draw
from unspoken.study import bridged
from unspoken.study.bridged import AUTOREGRESSIVE, DIFFUSION, PARALLEL, Sampled
from unspoken.study.report import Result, Stage
from unspoken.study.tokenbridge import ALL, TRUE, TokenbridgeStudy
from unspoken.tasks import ImageCodes, images
from unspoken.training.config import Train
from unspoken.training.loading import load
from unspoken.training.run import Run

CONFIG = TokenbridgeStudy(
    "digits",
    Shape(8, grid=2, dims=3, width=4),
    codec_steps=8,
    levels=5,
    sweep=(2, 8, 64),
    steps=2,
    batch=4,
    layers=1,
    width=16,
    head=8,
    images=12,
    samples=20,
    dial=(0, 1, ALL),
    few=2,
    classifier_steps=8,
    diffusion=5,
    seeds=(0, 1),
    workers=1,
)
Done = tuple[list[Stage], Result, Path]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    runs = tmp_path_factory.mktemp("tokenbridge")
    return *stages_and_result(CONFIG, runs), runs


def test_every_way_is_measured(done: Done) -> None:
    stages, result, _ = done
    assert all(0 <= s.done <= s.total for s in stages)
    assert [r["levels"] for r in of_part(result, "codec")] == [None, 2, 8, 64]
    ways = [r["model"] for r in of_part(result, "samples")]
    assert {AUTOREGRESSIVE, PARALLEL, TRUE} < set(ways) and len(ways) == 6
    assert [r["latents"] for r in of_part(result, "dial")] == [0, 1, None]
    assert [r["model"] for r in of_part(result, "head")] == [AUTOREGRESSIVE, PARALLEL, DIFFUSION]
    assert [r["model"] for r in of_part(result, "picture")] == ways
    assert all(len(image) == 64 for r in of_part(result, "picture") for image in r["pixels"])
    assert [c.name for c in result.claims] == ["post-training quantisation", "autoregressive head"]
    assert result.claims[1].holds is None  # two seeds


def test_runs_differ_in_the_head_alone(done: Done) -> None:
    configs = {name: Run(done[2] / f"{name}-5-levels-seed1").config(Train) for name in (AUTOREGRESSIVE, PARALLEL)}
    heads = {name: config.port for name, config in configs.items()}
    assert [port.head for port in heads.values() if port is not None] == ["additive", "parallel"]  # type: ignore[union-attr]
    assert replace(configs[PARALLEL], port=heads[AUTOREGRESSIVE]) == configs[AUTOREGRESSIVE]


def test_numbers_are_those_of_codec_and_models(done: Done) -> None:
    _, result, runs = done
    codec = load_codec(next(runs.glob("codec-*")))
    train, test = images.load("digits", "train"), images.load("digits", "test")
    grey = test.grey[:12]
    latents, _ = codec.posterior(grey)
    quantizer = codec.quantizer(8)
    errors = [
        float((codec.images(z) - grey).square().mean()) for z in (latents, quantizer.decode(quantizer.encode(latents)))
    ]
    rows = of_part(result, "codec")
    assert [rows[0]["error"], rows[2]["error"]] == pytest.approx(errors)
    assert rows[2]["ratio"] == pytest.approx(errors[1] / errors[0])
    task = ImageCodes(str(next(runs.glob("codec-*"))), "digits", 4, 3, 5, classes=True)
    models = [load(runs / f"parallel-5-levels-seed{seed}", "cpu") for seed in (0, 1)]
    nll = [
        chain_nll(model, task.sample("test", 12), generator=torch.Generator().manual_seed(0)).mean() for model in models
    ]
    told = next(r for r in of_part(result, "samples") if r["model"] == PARALLEL)
    assert told["bits_by_seed"] == pytest.approx([float(n) / (12 * math.log(2)) for n in nll])
    judge = train_classifier(train.grey, train.label, 8)
    floor = next(r for r in of_part(result, "samples") if r["model"] == TRUE)
    held_out = images.load("digits", "validation")
    two = torch.cat([(held_out.label == cls).nonzero()[:2, 0] for cls in range(10)])  # of each class
    assert floor["frechet"] == pytest.approx(frechet(judge.features(held_out.grey[two]), judge.features(test.grey)))


def test_a_second_run_trains_nothing(done: Done) -> None:
    before = {path: path.stat().st_mtime_ns for path in done[2].rglob("*.safetensors")}
    _, again = stages_and_result(CONFIG, done[2])
    assert {path: path.stat().st_mtime_ns for path in done[2].rglob("*.safetensors")} == before
    for part in ("codec", "samples", "dial"):
        for row, other in zip(of_part(done[1], part), of_part(again, part), strict=True):
            assert row | {"seconds": 0} == other | {"seconds": 0}


def test_the_figure_is_drawn(done: Done, tmp_path: Path) -> None:
    assert draw(done[1], tmp_path / "figure.png").stat().st_size > 10_000


def test_heads_that_are_timed_are_of_equal_size(done: Done) -> None:
    rows = {r["model"]: r for r in of_part(done[1], "head")}
    assert [rows[name]["evaluations"] for name in (AUTOREGRESSIVE, PARALLEL, DIFFUSION)] == [3, 1, 5]
    assert rows[DIFFUSION]["weights"] == pytest.approx(rows[AUTOREGRESSIVE]["weights"], rel=0.1)
    head = bridged.DiffusionHead(96, 16, 70_000)
    assert sum(p.numel() for p in head.parameters()) == pytest.approx(70_000, rel=0.02)
    assert head.sample(torch.zeros(4, 96), 3, torch.Generator().manual_seed(0)).shape == (4, 16)


def test_pixels_are_a_character_each() -> None:
    assert bridged.pixels(torch.tensor([[[0.0, 1.0], [0.5, 0.04]]])) == ["0f81"]


def found(distance: float) -> Sampled:
    spread = torch.tensor([[0.0], [0.01], [-0.01]], dtype=torch.float64)
    return Sampled(distance + spread, torch.zeros(3, 2), 4, 0.0, [])


def bits(mean: float) -> torch.Tensor:
    return mean + torch.linspace(-0.01, 0.01, 3, dtype=torch.float64)[:, None].expand(3, 50)


@pytest.mark.parametrize(
    ("fewer", "nearer", "holds"), [(0.1, 1.0, True), (-0.1, 1.0, False), (0.1, -1.0, False), (0.0, 0.0, False)]
)
def test_the_claim_of_the_head_goes_either_way(fewer: float, nearer: float, holds: bool) -> None:
    nll = {AUTOREGRESSIVE: bits(3 - fewer), PARALLEL: bits(3)}
    its = {AUTOREGRESSIVE: found(5 - nearer), PARALLEL: found(5)}
    assert bridged.better_head(nll, its, 3).holds is holds
    assert bridged.better_head(nll, its, 1).holds is None


@pytest.mark.parametrize(
    ("errors", "holds"), [((2.0, 1.2, 1.01), True), ((2.0, 1.2, 1.06), False), ((1.0, 1.1, 1.01), False)]
)
def test_the_claim_of_levels_goes_either_way(errors: tuple[float, ...], holds: bool) -> None:
    image = torch.linspace(0.9, 1.1, 40, dtype=torch.float64)[None]
    its: dict[int | None, torch.Tensor] = {None: image}
    its |= {levels: image * error for levels, error in zip((2, 8, 64), errors, strict=True)}
    assert bridged.quantisation(its).holds is holds


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sweep": (4, 2)}, "sweep"),
        ({"sweep": (1, 2)}, "sweep"),
        ({"dial": (1, 2)}, "dial"),
        ({"few": 5}, "few=5: give 1 to 4"),
        ({"samples": 1}, "samples=1"),
        ({"beta": -1.0}, "beta"),
        ({"steps": 0}, "steps"),
    ],
)
def test_a_study_of_nothing_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **change)


def test_presets_say_what_they_do() -> None:
    assert "fashion" in presets.tokenbridge_reference().budget() and "digits" in presets.tokenbridge_quick().budget()
    assert len(presets.tokenbridge_reference().seeds) == 3

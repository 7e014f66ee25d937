"""Are tokens that are made discrete after training as good as continuous ones? By TokenBridge, arXiv 2503.16430.

An autoencoder of images; levels for its numbers; masked diffusion over patches of codes, with an autoregressive head
and with a parallel one. Judged by the error of reconstruction, exact bits a dim on test images, and the Frechet
distance of samples in the features of a small classifier.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unspoken import checks
from unspoken.codecs import CARD, Codec, Shape, load_codec
from unspoken.measure.frechet import train_classifier
from unspoken.model.codes import Head
from unspoken.model.denoiser import Denoiser
from unspoken.study import bridged
from unspoken.study.base import Findings, SeededStudy, check_rising, loaded, trained
from unspoken.study.bridged import AUTOREGRESSIVE, PARALLEL, Judge, Sampled, Timed
from unspoken.study.report import Stage
from unspoken.study.table import Column, Mean, Row, Table, count
from unspoken.systems import tokenbridge
from unspoken.tasks import images
from unspoken.tasks.image_codes import ImageCodes
from unspoken.training.config import Train, Trunk
from unspoken.training.pool import Job

ALL = 10**6  # latents: as many as there are
TRUE, GUIDED = "true images", f"{AUTOREGRESSIVE}, guided"
HEADS: dict[str, Head] = {AUTOREGRESSIVE: "additive", PARALLEL: "parallel"}

_BITS = Mean("bits", "bits a dim")
_MEASURED = (
    Mean("frechet", "Frechet", digits=2),
    Mean("taken", "of its class", share=True),
)
_COSTS = (
    Column("passes", "passes"),
    Column("seconds", "ms", lambda seconds: f"{seconds * 1e3:.1f}"),
)
TABLE = Table(
    "tokenbridge",
    {
        "codec": (
            Column("part", "part"),
            Column("levels", "levels", lambda n: "continuous" if n is None else str(n)),
            Mean("error", "MSE", digits=5, by_seed=False),
            Column("ratio", "of continuous", "{:.4f}".format),
        ),
        "samples": (
            Column("part", "part"),
            Column("model", "model"),
            replace(_BITS, optional=True),
            *_MEASURED,
            *_COSTS,
            Column("seeds"),
        ),
        "dial": (
            Column("part", "part"),
            Column("latents", "latents", count),
            _BITS,
            *_MEASURED,
            *_COSTS,
            Column("seeds"),
        ),
        "head": (
            Column("part", "part"),
            Column("model", "model"),
            Column("weights", "weights", "{:,}".format),
            Column("evaluations", "evaluations"),
            Column("alone", "ms, one token", lambda seconds: f"{seconds * 1e3:.2f}"),
            Column("among", "ms, one of 256", lambda seconds: f"{seconds * 1e3:.3f}"),
        ),
        "picture": tuple(Column(name, drawn=True) for name in ("part", "model", "side", "pixels")),
    },
    "codec: the squared error of pixels after the autoencoder, with continuous numbers and with so many levels a dim. "
    "samples: bits a dim of test images, each along a random order; the Frechet distance of samples to test images in "
    "the features of a classifier (of true images: the floor); the share that the classifier takes for the class that "
    "was asked. dial: the autoregressive head, with so many masked patches in a pass beside the one that is said. "
    "head: the time of one token; the diffusion head is of equal size and not trained. picture: samples, drawn in the "
    "figure. ms: CPU, an image. With 95% intervals.",
)


@dataclass(frozen=True)
class TokenbridgeStudy(SeededStudy):
    """The study's config.

    Attributes:
        source: Of the images.
        shape: Of the autoencoder.
        beta: Of its divergence.
        codec_steps: Of its training.
        levels: Of the codes that are generated.
        sweep: Levels that reconstruction is measured with; they rise.
        steps: Of a generator's training.
        batch: Of a generator's training.
        lr: Of a generator's training.
        layers: Of its trunk.
        width: Of its trunk, of 4 heads.
        head: Width of its head.
        images: Of the test split, for bits and reconstruction.
        samples: Of each model.
        dial: Masked patches beside the one that is said; the last means all.
        few: Passes of samples that are drawn in parallel, by cosine counts.
        guidance: Weight of the guided samples.
        classifier_steps: Of the judge's training.
        diffusion: Evaluations of the diffusion head.
    """

    TABLE = TABLE

    source: images.Source
    shape: Shape
    beta: float = 1e-3
    codec_steps: int = 1_200
    levels: int = 32
    sweep: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    steps: int = 1_200
    batch: int = 64
    lr: float = 2e-3
    layers: int = 3
    width: int = 96
    head: int = 64
    images: int = 400
    samples: int = 500
    dial: tuple[int, ...] = (0, 1, 3, 7, ALL)
    few: int = 4
    guidance: float = 2.0
    classifier_steps: int = 600
    diffusion: int = 100

    def __post_init__(self) -> None:
        for value in self.dial:
            checks.count("dial", value)
        super().__post_init__()
        check_rising("dial", self.dial)
        if list(self.sweep) != sorted(self.sweep) or self.sweep[0] < 2:
            raise ValueError(f"sweep={self.sweep}: give levels of 2 or more that rise")
        if not 1 <= self.few <= self.shape.patches:
            raise ValueError(f"few={self.few}: give 1 to {self.shape.patches} passes, as many as patches")
        if self.samples < 2:
            raise ValueError(f"samples={self.samples}: give 2 or more, of which one can see how they differ")
        checks.number("guidance", self.guidance, -checks.HUGE, checks.HUGE, "a number: 1 for none")
        checks.number("beta", self.beta, 0, checks.HUGE, "0 or more")

    def budget(self) -> str:
        return (
            f"an autoencoder of {self.source}, {self.codec_steps} steps; {len(self.seeds)} seed(s) of {len(HEADS)} "
            f"heads, {self.steps} steps of {self.batch}; then {self.samples} images of each"
        )

    def codec(self, runs: Path) -> tuple[Codec, Path]:
        """The autoencoder, trained where the folder does not hold it yet, and where it is."""
        s = self.shape
        folder = runs / f"codec-{self.source}-{s.grid}x{s.grid}x{s.dims}-w{s.width}-{self.codec_steps}-{self.beta:g}"
        if not (folder / CARD).is_file():
            made = tokenbridge.codec(self.source, s, steps=self.codec_steps, beta=self.beta)
            made.save(folder)
        return load_codec(folder), folder

    def task(self, codec: Path) -> ImageCodes:
        """The codes of the saved codec, with classes."""
        return ImageCodes(str(codec), self.source, self.shape.patches, self.shape.dims, self.levels, classes=True)

    def job(self, task: ImageCodes, name: str, seed: int, runs: Path) -> Job:
        """A training run and its folder."""
        trunk = Trunk(self.layers, self.width, heads=4, init=0.07)
        budget = {"steps": self.steps, "batch": self.batch, "lr": self.lr, "seed": seed}
        train: Train = tokenbridge.generator(task, HEADS[name], width=self.head, trunk=trunk, **budget)
        return train, runs / f"{name}-{self.levels}-levels-seed{seed}"

    def findings(self, runs: Path) -> Generator[Stage, None, Findings]:
        yield Stage("training the autoencoder", 0, 2)
        codec, folder = self.codec(runs)
        train, test = (images.load(self.source, split) for split in ("train", "test"))
        yield Stage("training the classifier", 1, 2)
        judge = Judge.of(train_classifier(train.grey, train.label, self.classifier_steps), test)
        task = self.task(folder)
        jobs = {name: [self.job(task, name, seed, runs) for seed in self.seeds] for name in HEADS}
        yield from trained([job for group in jobs.values() for job in group], self.workers)
        models = {name: loaded(group) for name, group in jobs.items()}
        yield Stage("reconstruction", 0, 4)
        grey = test.grey[: self.images]
        counts: list[int | None] = [None, *self.sweep]
        errors = {levels: bridged.reconstruction(codec, grey, levels) for levels in counts}
        yield Stage("likelihood and samples", 1, 4)
        nll = {name: self._bits(group, task, None) for name, group in models.items()}
        its = self._samples(models, task, judge)
        yield Stage("the dial", 2, 4)
        beside_all = nll[AUTOREGRESSIVE], its[AUTOREGRESSIVE]  # what all share a pass is measured already
        dial = {
            n: beside_all if n >= self.shape.patches else self._dial(models[AUTOREGRESSIVE], task, judge, n)
            for n in self.dial
        }
        yield Stage("time of a head", 3, 4)
        heads = bridged.timed({name: group[0] for name, group in models.items()}, self.shape.dims, self.diffusion)
        floor = _floor(judge, images.load(self.source, "validation"), self.samples)
        rows = [
            *_codec_rows(errors),
            *(self._row("samples", its, model=name, bits=nll.get(name)) for name, its in (its | {TRUE: floor}).items()),
            *(self._row("dial", its, latents=_told(n), bits=bits) for n, (bits, its) in dial.items()),
            *_head_rows(heads),
            *_pictures(its | {TRUE: floor}, self.shape.side),
        ]
        claims = [bridged.quantisation(errors), bridged.better_head(nll, its, len(self.seeds))]
        return rows, claims, self._notes()

    def _bits(self, models: list[Denoiser], task: ImageCodes, latents: int | None) -> torch.Tensor:
        return torch.cat([bridged.bits(model, task, self.images, latents) for model in models])

    def _samples(self, models: dict[str, list[Denoiser]], task: ImageCodes, judge: Judge) -> dict[str, Sampled]:
        """Of both heads, one patch a pass; of the autoregressive one in few passes, and guided."""
        whole, plain = self.shape.patches, models[AUTOREGRESSIVE]
        ways = {
            AUTOREGRESSIVE: (plain, whole),
            PARALLEL: (models[PARALLEL], whole),
            f"{AUTOREGRESSIVE}, {self.few} passes": (plain, self.few),
            f"{PARALLEL}, {self.few} passes": (models[PARALLEL], self.few),
            GUIDED: ([tokenbridge.guided(m, task, self.guidance) for m in plain], whole),
        }
        its = {
            name: Sampled.of([bridged.sampled(m, task, judge, self.samples, steps) for m in group])
            for name, (group, steps) in ways.items()
        }
        return its | {GUIDED: replace(its[GUIDED], passes=2 * whole)}  # a step is two passes of the trunk

    def _dial(
        self, models: list[Denoiser], task: ImageCodes, judge: Judge, latents: int
    ) -> tuple[torch.Tensor, Sampled]:
        drawn = [bridged.sampled(m, task, judge, self.samples, self.shape.patches, latents) for m in models]
        return self._bits(models, task, latents), Sampled.of(drawn)

    def _row(self, part: str, its: Sampled, **values: object) -> Row:
        costs = {"passes": its.passes, "seconds": its.seconds, "seeds": list(self.seeds)}
        return TABLE.row(part, frechet=its.distance, taken=its.taken, **costs, **values)

    def _notes(self) -> list[str]:
        s = self.shape
        return [
            f"{self.source}: {s.side} pixels a side, {s.patches} patches of {s.dims} dims, {self.levels} levels. "
            f"Trunk {self.layers} x {self.width}, heads of width {self.head}.",
            f"Bits a dim of the integers of {self.images} test images (posterior means), given their classes, each "
            "along one random order, all other masked patches in the pass; the same orders for every model. Training "
            "draws from the posterior anew each step.",
            f"Frechet: {self.samples} samples of each seed, a tenth of each class, against the whole test split; "
            f"{TRUE} are as many of the validation split. Comparable in this table alone.",
            f"Guided: weight {self.guidance:g} on the trunk's features. Few passes: {self.few}, by cosine counts.",
        ]


def _told(latents: int) -> int | None:
    return None if latents >= ALL else latents


def _floor(judge: Judge, held_out: images.Images, samples: int) -> Sampled:
    """True images of the validation split in place of samples, as many of each class: as near as samples may come."""
    each = [(held_out.label == cls).nonzero()[: -(-samples // 10), 0] for cls in range(10)]
    at = torch.cat(each)
    grey, label = held_out.grey[at], held_out.label[at]
    return Sampled(judge.distance(grey), judge.taken(grey, label), 0, 0.0, bridged.pixels(grey[:10]))


def _codec_rows(errors: dict[int | None, torch.Tensor]) -> list[Row]:
    plain = errors[None].mean()
    return [
        TABLE.row("codec", levels=levels, error=error, ratio=float(error.mean() / plain))
        for levels, error in errors.items()
    ]


def _head_rows(heads: dict[str, Timed]) -> list[Row]:
    return [
        TABLE.row(
            "head",
            model=name,
            weights=its.weights,
            evaluations=its.evaluations,
            alone=its.alone,
            among=its.among,
        )
        for name, its in heads.items()
    ]


def _pictures(its: dict[str, Sampled], side: int) -> list[Row]:
    return [TABLE.row("picture", model=name, side=side, pixels=found.shown) for name, found in its.items()]

"""What tokens of images cost and are worth: measured for `study tokenbridge`, and judged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from unspoken.codecs import Codec
from unspoken.decoders.decode import decode
from unspoken.decoders.step import last
from unspoken.measure.accuracy import clock
from unspoken.measure.chain import chain_nll
from unspoken.measure.frechet import Classifier, frechet
from unspoken.measure.intervals import Estimate
from unspoken.measure.schedules import cosine
from unspoken.model.denoiser import Denoiser
from unspoken.study.report import Check, Claim, claim
from unspoken.tasks.image_codes import ImageCodes
from unspoken.tasks.images import Images

AUTOREGRESSIVE, PARALLEL = "autoregressive", "parallel"
DIFFUSION = "diffusion"  # a rival of equal size, timed alone
NEAR = 1.05  # times the error of continuous tokens, that the most levels may have
GREYS = "0123456789abcdef"


@torch.no_grad()
def reconstruction(codec: Codec, grey: Tensor, levels: int | None) -> Tensor:
    """`[1, n]`: the mean squared error of the pixels of each image; levels: None for continuous numbers."""
    latents, _ = codec.posterior(grey)
    if levels is not None:
        quantizer = codec.quantizer(levels)
        latents = quantizer.decode(quantizer.encode(latents))
    return (codec.images(latents) - grey).double().square().mean((1, 2))[None]


def bits(model: Denoiser, task: ImageCodes, images: int, latents: int | None, seed: int = 0) -> Tensor:
    """`[1, images]`: bits a dim of test images along one random order each, the same for every model."""
    nll = chain_nll(model, task.sample("test", images), latents=latents, generator=torch.Generator().manual_seed(seed))
    return nll[None] / (task.patches * task.dims * math.log(2))


@dataclass(frozen=True)
class Judge:
    """A classifier of true images, and the features of those of the test split."""

    classifier: Classifier
    features: Tensor

    @classmethod
    def of(cls, classifier: Classifier, test: Images) -> Judge:
        """Whose reference are these images."""
        return cls(classifier, classifier.features(test.grey))

    def distance(self, grey: Tensor) -> Tensor:
        """`[1, 1]`: the Frechet distance of images to the true ones."""
        return torch.tensor([[frechet(self.classifier.features(grey), self.features)]], dtype=torch.float64)

    def taken(self, grey: Tensor, label: Tensor) -> Tensor:
        """`[1, n]`: which images the classifier takes for their class."""
        return (self.classifier.probabilities(grey).argmax(-1) == label)[None].double()


@dataclass(frozen=True)
class Sampled:
    """Images of one or several models.

    distance: `[seeds, 1]` Frechet. taken: `[seeds, n]`, see `Judge`. shown: the first images of the first seed, a
        character a pixel. seconds: of an image.
    """

    distance: Tensor
    taken: Tensor
    passes: int
    seconds: float
    shown: list[str]

    @classmethod
    def of(cls, seeds: Sequence[Sampled]) -> Sampled:
        """Those of several seeds together."""
        distance, taken = (torch.cat([getattr(each, name) for each in seeds]) for name in ("distance", "taken"))
        seconds = sum(each.seconds for each in seeds) / len(seeds)
        return cls(distance, taken, seeds[0].passes, seconds, seeds[0].shown)


def sampled(
    model: Denoiser, task: ImageCodes, judge: Judge, n: int, steps: int, latents: int | None = None, shown: int = 10
) -> Sampled:
    """`n` images of one model, as many of each class, patch after patch in random order by cosine counts."""
    label = torch.arange(n) % 10
    prompts, began = task.prompts(label), clock(model.device)
    how = {"order": "uniform", "temperature": 1.0, "commit": cosine(task.patches, steps), "latents": latents}
    answer = last(decode(model, prompts, **how), prompts)
    seconds, grey = (clock(model.device) - began) / n, task.image(answer)
    return Sampled(judge.distance(grey), judge.taken(grey, label), steps, seconds, pixels(grey[:shown]))


def pixels(grey: Tensor) -> list[str]:
    """Images `[n, side, side]` as text, a character of 16 greys a pixel, row by row."""
    levels = (grey * (len(GREYS) - 1)).round().long().flatten(1)
    return ["".join(GREYS[level] for level in image) for image in levels.tolist()]


class DiffusionHead(nn.Module):
    """A small denoiser of one token's numbers given the trunk's state, as MAR has it (arXiv 2406.11838): to be timed.

    Its weights are as many as `size`, about.
    """

    def __init__(self, hidden: int, dims: int, size: int):
        super().__init__()
        width = next(w for w in range(1, size) if self.weights(hidden, dims, w + 1) > size)
        self.dims = dims
        self.net = nn.Sequential(
            *(nn.Linear(dims + hidden + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()),
            *(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dims)),
        )

    @staticmethod
    def weights(hidden: int, dims: int, width: int) -> int:
        """How many a head of that width has."""
        return width * (dims + hidden + 2) + 2 * width * (width + 1) + dims * (width + 1)

    @torch.no_grad()
    def sample(self, state: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """Numbers `[n, dims]` at states `[n, hidden]`: so many evaluations, from noise."""
        x = torch.randn(len(state), self.dims, generator=generator)
        for step in range(steps, 0, -1):
            t = state.new_full((len(state), 1), step / steps)
            x = x - self.net(torch.cat([x, state, t], 1)) / steps
        return x


@dataclass(frozen=True)
class Timed:
    """A head: its weights, evaluations a token, and seconds a token alone and among 256."""

    weights: int
    evaluations: int
    alone: float
    among: float


@torch.no_grad()
def timed(heads: Mapping[str, Denoiser], dims: int, steps: int, repeats: int = 20) -> dict[str, Timed]:
    """The heads of these models by name, and a diffusion head of equal size; the median of repeats."""
    generator, found = torch.Generator().manual_seed(0), {}
    hidden = next(iter(heads.values())).trunk.config.hidden_size
    for name, model in heads.items():
        port = model.reader

        def say(n: int, port: Any = port) -> None:
            port.sample(port.predict(torch.zeros(1, n, hidden)), generator)

        weights = sum(p.numel() for part, p in port.named_parameters() if not part.startswith("reader"))
        found[name] = Timed(weights, dims if name == AUTOREGRESSIVE else 1, *_seconds(say, repeats))
    rival = DiffusionHead(hidden, dims, next(iter(found.values())).weights)

    def denoise(n: int) -> None:
        rival.sample(torch.zeros(n, hidden), steps, generator)

    size = sum(p.numel() for p in rival.parameters())
    return found | {DIFFUSION: Timed(size, steps, *_seconds(denoise, repeats))}


def _seconds(say: Callable[[int], None], repeats: int) -> tuple[float, float]:
    return _median(lambda: say(1), repeats), _median(lambda: say(256), repeats) / 256


def _median(call: Callable[[], None], repeats: int) -> float:
    call()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return sorted(taken)[repeats // 2]


def quantisation(errors: Mapping[int | None, Tensor]) -> Claim:
    """The most levels lose little against continuous numbers (None), and more levels never lose more."""
    counts = [count for count in errors if count is not None]
    plain, best = errors[None], errors[counts[-1]]
    means = [float(errors[count].mean()) for count in counts]
    near = Estimate.of(best - NEAR * plain)
    checks = [
        Check(
            near.high < 0,
            f"{counts[-1]} levels {float(best.mean() / plain.mean()):.4f} of the continuous error, {NEAR:g} asked",
        ),
        Check(
            all(b < a for a, b in pairwise(means)),
            f"error by levels ({', '.join(map(str, counts))}): {', '.join(f'{mean:.5f}' for mean in means)}",
        ),
    ]
    return claim("post-training quantisation", checks, None)


def better_head(nll: Mapping[str, Tensor], its: Mapping[str, Sampled], seeds: int) -> Claim:
    """The autoregressive head costs fewer bits than the parallel one, and its samples are nearer to true images."""
    fewer = Estimate.of(nll[AUTOREGRESSIVE] - nll[PARALLEL])
    nearer = Estimate.of(its[AUTOREGRESSIVE].distance - its[PARALLEL].distance)
    means = [float(its[name].distance.mean()) for name in (AUTOREGRESSIVE, PARALLEL)]
    checks = [
        Check(
            fewer.high < 0,
            f"{nll[AUTOREGRESSIVE].mean():.3f} bits a dim, parallel {nll[PARALLEL].mean():.3f}, {fewer.signed}",
        ),
        Check(nearer.high < 0, f"Frechet distance {means[0]:.2f}, parallel {means[1]:.2f}, {nearer.signed}"),
    ]
    return claim("autoregressive head", checks, seeds, 3)

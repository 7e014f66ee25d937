"""Images as patches of codes: what a codec's numbers become by a scalar quantizer (TokenBridge, arXiv 2503.16430)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from unspoken import checks
from unspoken.codecs.vae import CARD, WEIGHTS, Codec, load_codec
from unspoken.messages import quoted
from unspoken.noise.space import is_unknown, paired, unknown, unpaired
from unspoken.tasks import images
from unspoken.tasks.base import Examples, Split, Values
from unspoken.tasks.sampled import BLANK, Form
from unspoken.tasks.valued import Valued

PATCH, NO_CLASS = "o", "any"  # on a board: a patch that is known, and that no class is said


@dataclass(frozen=True)
class ImageCodes(Valued):
    """The patches of an image, row by row, each a vector of codes; with `classes` behind the class of the image.

    In training, the numbers of an image are drawn from the codec's posterior anew every time, and its class is left out
    (`NO_CLASS`) with probability `drop`. What is numbered has the posterior's means. No image is the only right one.

    The dims are in the codec's order, by their share of energy at low frequencies.

    Attributes:
        codec: The folder of a codec of these images (`codecs.Codec.save`).
        source: Which images.
        patches: Of an image, as the codec has them.
        dims: Of a patch, as the codec has them.
        levels: Of a dim.
        classes: Whether the first token is the class, an id that is given.
        drop: See above.
    """

    codec: str
    source: images.Source = "digits"
    patches: int = 4
    dims: int = 8
    levels: int = 16
    classes: bool = False
    drop: float = 0.1

    def __post_init__(self) -> None:
        """ValueError for a field out of range."""
        checks.plain(self)
        if self.source not in images.CLASSES:
            raise ValueError(f"source={quoted(self.source)} given, one of {', '.join(images.CLASSES)} expected")
        if not self.codec:
            raise ValueError("codec is empty: give the folder of a codec (us.systems.tokenbridge.codec makes one)")
        for name, least in (("patches", 1), ("dims", 1), ("levels", 2)):
            checks.count(name, getattr(self, name), least, 4096)
        checks.number("drop", self.drop, 0, 1, "a probability")

    @property
    def values(self) -> Values:  # type: ignore[override]
        """Codes, `dims` of `levels` a patch; the placeholder id is 0."""
        return Values("Codes", (self.dims, self.levels))

    @property
    def origin(self) -> tuple[str, str]:  # type: ignore[override]
        """Of the images."""
        return images.ORIGIN[self.source]

    @cached_property
    def form(self) -> Form:
        """The class, where it is said, and the patches."""
        words = (PATCH, *images.CLASSES[self.source], NO_CLASS) if self.classes else (PATCH,)
        what = f"{self.source} as {self.patches} patches of {self.dims} codes"
        return Form(f"{what}, by class" if self.classes else what, words, int(self.classes), self.patches)

    @property
    def judged(self) -> bool:
        """No image is the right one."""
        return False

    @property
    def no_class(self) -> int:
        """The id that says no class."""
        return self.mask_id - 1

    def holds(self, split: Split) -> int:
        """Images in a split."""
        return images.SIZES[self.source][split]

    def numbered(self, split: Split, index: Tensor) -> Examples:
        """By the means of the posterior."""
        mean, _ = self._posterior(split)
        return self._examples(mean[index], images.load(self.source, split).label[index])

    def drawn(self, n: int, generator: torch.Generator) -> Examples:
        """Images of train with replacement, each drawn from its posterior, some without their class."""
        device = generator.device
        index = torch.randint(self.size("train"), (n,), generator=generator, device=device).cpu()
        mean, std = (its[index] for its in self._posterior("train"))
        noise = torch.randn(mean.shape, generator=generator, device=device).cpu()
        its = self._examples(mean + std * noise, images.load(self.source, "train").label[index])
        if self.classes:
            dropped = torch.rand(n, generator=generator, device=device).cpu() < self.drop
            its.x0[:, 0] = torch.where(dropped, self.no_class, its.x0[:, 0])
        return its

    def prompts(self, labels: Tensor) -> Tensor:
        """Prompts for images of the classes `labels` `[n]` int64 (-1 for none), all patches unknown.

        `[n, patches, dims]` codes; of a task with classes `[n, 1 + patches, 1 + dims]`, ids first (`noise.space`).
        """
        value = torch.full((len(labels), self.length, self.dims), -1)
        if not self.classes:
            return value
        token = torch.full(value.shape[:2], self.mask_id)
        token[:, 0] = torch.where(labels < 0, self.no_class, labels + 1)
        return paired(token, value)

    def image(self, answer: Tensor) -> Tensor:
        """`[n, side, side]` images in [0, 1] of answers `[n, length, dims]`, all of whose patches are known."""
        codes = answer[:, int(self.classes) :].cpu()  # where the codec is
        if bool((codes < 0).any()):
            raise ValueError("some patches are not known; give whole answers")
        codec = self._codec
        return codec.images(codec.quantizer(self.levels).decode(codes))

    def score(self, prompt: Tensor, answer: Tensor) -> Tensor:
        """`[n]` bool: does `answer` keep the codes that `prompt` gives, and is every patch known and of our levels?"""
        if not self.classes:
            return super().score(prompt, answer)
        codes = unpaired(prompt)[1] if prompt.shape[2] > self.dims else prompt
        return super().score(codes[:, 1:], answer[:, 1:])

    def judge_all(self, tokens: Tensor) -> Tensor:
        """`[n]` bool: every code is a level."""
        return ((tokens >= 0) & (tokens < self.levels)).flatten(1).all(1)

    def word(self, value: Tensor) -> str:
        """The codes, a comma between them."""
        return ",".join(map(str, value.tolist()))

    def parse(self, word: str) -> Tensor:
        """See `word`. ValueError for other than `dims` codes."""
        codes = word.split(",")
        right = all(code.isascii() and code.isdecimal() and len(code) < 5 for code in codes)
        if not right or len(codes) != self.dims or not max(map(int, codes)) < self.levels:
            raise ValueError(
                f"{quoted(word)} given, {self.dims} codes 0..{self.levels - 1} with commas between them expected"
            )
        return torch.tensor([int(code) for code in codes])

    def encode(self, text: str) -> Tensor:
        """A prompt as a person writes it: of a task with classes the class or `any` first, then as `Valued.encode`."""
        if not self.classes:
            return super().encode(text)
        first, _, patches = text.strip().partition(" ")
        names = self.words[1:]
        if first not in names:
            raise ValueError(f"{quoted(first)} given, a class expected first: {', '.join(names)}")
        value = super().encode(f"{BLANK} {patches}")
        token = torch.where(is_unknown(value), self.mask_id, self.values.placeholder)
        token[0] = self.words.index(first)
        return paired(token, value)

    def show(self, tokens: Tensor) -> str:
        """A prompt as `encode` reads it, or an answer; of an answer the class is not known."""
        if not self.classes or tokens.shape[-1] == self.dims:
            return super().show(tokens)
        token, value = unpaired(tokens)
        return f"{self.symbol(int(token[0]))} {super().show(value).partition(' ')[2]}"

    def _examples(self, latents: Tensor, label: Tensor) -> Examples:
        codes = self._codec.quantizer(self.levels).encode(latents)
        if not self.classes:
            return self.examples(codes)
        value = torch.cat([torch.full_like(codes[:, :1], int(unknown(codes))), codes], 1)
        token = torch.full(value.shape[:2], self.values.placeholder)
        token[:, 0] = label + 1
        return Examples(token, self.given(value), value)

    @property
    def _codec(self) -> Codec:
        """Raises ValueError for a codec that is missing, torn, or of other sizes than ours."""
        codec = _loaded(*_stamp(self.codec))
        shape, side = codec.shape, images.SIDE[self.source]
        if (shape.side, shape.patches, shape.dims) != (side, self.patches, self.dims):
            raise ValueError(
                f"the codec {self.codec} makes {shape.patches} patches of {shape.dims} numbers of {shape.side} pixels "
                f"a side; patches={self.patches}, dims={self.dims} given for {self.source} of {side}: give the codec's"
            )
        return codec

    def _posterior(self, split: Split) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation `[n, patches, dims]` of a whole split, kept in memory."""
        self._codec  # noqa: B018  its sizes are checked
        return _posteriors(*_stamp(self.codec), self.source, split)


def _stamp(folder: str) -> tuple[str, float]:
    """What a codec is kept in memory by: its folder, and when it was written."""
    files = [Path(folder) / name for name in (CARD, WEIGHTS)]
    return folder, max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0)


@lru_cache(maxsize=4)
def _loaded(folder: str, _: float) -> Codec:
    return load_codec(folder)


@lru_cache(maxsize=6)
def _posteriors(folder: str, at: float, source: images.Source, split: Split) -> tuple[Tensor, Tensor]:
    return _loaded(folder, at).posterior(images.load(source, split).grey)

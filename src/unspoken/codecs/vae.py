"""A small convolutional autoencoder of grey images, as a folder: what tokens of images are made with.

An image is cut into patches, each a vector of real numbers; a scalar quantizer fitted to them makes integers of these.
Variational (Kingma and Welling 2014, arXiv 1312.6114), as the one that TokenBridge takes (arXiv 2503.16430).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unspoken import checks
from unspoken.codecs.quantizer import ScalarQuantizer, frequency_order
from unspoken.messages import quoted
from unspoken.noise.gaussian import Normal
from unspoken.record import from_record, new_folder, read_json, to_record, write_json

CARD, WEIGHTS = "codec.json", "codec.safetensors"
_ROWS = 512  # images encoded or decoded at a time


@dataclass(frozen=True)
class Shape:
    """The sizes of an autoencoder.

    Attributes:
        side: Pixels of an image's side.
        grid: Patches of a side; the image is filled up with empty pixels to `grid` times a power of 2.
        dims: Numbers of a patch.
        width: Channels after the first layer, which divides the sides by 4; every further halving doubles them.
    """

    side: int
    grid: int = 4
    dims: int = 16
    width: int = 32

    def __post_init__(self) -> None:
        for name in ("side", "grid", "dims", "width"):
            checks.count(name, getattr(self, name), 1, 4096)
        if self.grid > self.side:
            raise ValueError(f"grid={self.grid}, side={self.side}: give at most a patch a pixel")

    @property
    def halvings(self) -> int:
        """How often the image is halved: until it is no larger than the grid."""
        return max(0, -(-self.side // self.grid) - 1).bit_length()

    @property
    def patches(self) -> int:
        """Of an image."""
        return self.grid**2


class ConvVAE(nn.Module):
    """Encoder and decoder of a `Shape`."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        first = min(shape.halvings, 2)  # done by one layer: layers at full resolution would cost most of the time
        widths = [shape.width * 2**i for i in range(shape.halvings - first + 1)]
        sizes: Any = (
            {"kernel_size": 3, "padding": 1} if first == 0 else {"kernel_size": 2 * 2**first, "stride": 2**first}
        )
        sizes |= {"padding": 2**first // 2} if first else {}
        wide = widths[-1]
        down: list[nn.Module] = [nn.Conv2d(1, widths[0], **sizes), nn.SiLU()]
        up: list[nn.Module] = [nn.Conv2d(shape.dims, wide, 3, padding=1), nn.SiLU()]
        up += [nn.Conv2d(wide, wide, 3, padding=1), nn.SiLU()]
        for less, more in pairwise(widths):
            down += [nn.Conv2d(less, more, 4, stride=2, padding=1), nn.SiLU()]
        for more, less in pairwise(reversed(widths)):
            up += [nn.ConvTranspose2d(more, less, 4, stride=2, padding=1), nn.SiLU()]
        down += [nn.Conv2d(wide, wide, 3, padding=1), nn.SiLU(), nn.Conv2d(wide, 2 * shape.dims, 3, padding=1)]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up, nn.ConvTranspose2d(widths[0], 1, **sizes))

    def encode(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[n, patches, dims]` each, of images `[n, side, side]` in [0, 1]."""
        full = self.shape.grid * 2**self.shape.halvings
        before = (full - self.shape.side) // 2
        after = full - self.shape.side - before
        padded = nn.functional.pad(2 * grey[:, None] - 1, (before, after, before, after), value=-1.0)
        mean, logvar = self.encoder(padded).flatten(2).transpose(1, 2).chunk(2, -1)
        return mean, logvar.clamp(-20, 5)

    def decode(self, latents: Tensor) -> Tensor:
        """Images `[n, side, side]`, about in [0, 1], of `[n, patches, dims]`."""
        grid = latents.transpose(1, 2).unflatten(2, (self.shape.grid, self.shape.grid))
        whole = (self.decoder(grid)[:, 0] + 1) / 2
        before = (whole.shape[1] - self.shape.side) // 2
        return whole[:, before : before + self.shape.side, before : before + self.shape.side]


@dataclass(frozen=True)
class Codec:
    """A trained autoencoder and the statistics of its numbers.

    order: `[dims]` the autoencoder's dims in the order in which we have them (`frequency_order`); whatever goes in and
        out here is in that order, so that no one else has to permute.
    mean, std: `[dims]` of the numbers, in our order, over images, patches and draws of the posterior.
    """

    vae: ConvVAE
    order: Tensor
    mean: Tensor
    std: Tensor

    @property
    def shape(self) -> Shape:
        """Its sizes."""
        return self.vae.shape

    def quantizer(self, levels: int) -> ScalarQuantizer:
        """Of so many levels a dim; none is trained."""
        return ScalarQuantizer(self.mean, self.std, levels)

    @torch.no_grad()
    def posterior(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation `[n, patches, dims]` of images `[n, side, side]` in [0, 1]."""
        side = self.shape.side
        if grey.dim() != 3 or grey.shape[1:] != (side, side):
            raise ValueError(f"images of shape {tuple(grey.shape)} given, [n, {side}, {side}] expected")
        parts = [self.vae.encode(part) for part in grey.split(_ROWS)]
        if not parts:
            none = grey.new_zeros(0, self.shape.patches, self.shape.dims)
            return none, none
        mean, logvar = (torch.cat(its)[..., self.order] for its in zip(*parts, strict=True))
        return mean, (logvar / 2).exp()

    @torch.no_grad()
    def images(self, latents: Tensor) -> Tensor:
        """Images `[n, side, side]` in [0, 1] of numbers `[n, patches, dims]`."""
        parts = [self.vae.decode(part[..., self.order.argsort()]) for part in latents.split(_ROWS)]
        side = self.shape.side
        return torch.cat(parts).clamp(0, 1) if parts else latents.new_zeros(0, side, side)

    def save(self, folder: str | Path) -> None:
        """Writes the folder whole or not at all."""
        held = {f"vae.{name}": tensor for name, tensor in self.vae.state_dict().items()}
        held |= {"order": self.order, "mean": self.mean, "std": self.std}
        with new_folder(Path(folder)) as half:
            save_file({name: tensor.contiguous() for name, tensor in held.items()}, half / WEIGHTS)
            digest = hashlib.sha256((half / WEIGHTS).read_bytes()).hexdigest()
            write_json(half / CARD, {"shape": to_record(self.shape), "sha256": digest})


def load_codec(folder: str | Path) -> Codec:
    """What `Codec.save` wrote. Raises ValueError where the folder is missing, torn, or of other sizes than it says."""
    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder}: no {CARD} there; make a codec with us.systems.tokenbridge.codec and save it there")
    card = read_json(folder / CARD)
    if card.keys() < {"shape", "sha256"}:
        raise ValueError(f"{folder / CARD} holds {', '.join(sorted(card)) or 'nothing'}; shape and sha256 expected")
    shape: Shape = from_record(Shape, card["shape"], f"{folder / CARD}, shape")
    try:
        data = (folder / WEIGHTS).read_bytes()
        held = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{folder / WEIGHTS} is not to be read ({error}): make the codec anew") from None
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise ValueError(f"{folder / WEIGHTS} is not as it was saved (another SHA-256): make the codec anew")
    return _of(shape, held, folder)


def _of(shape: Shape, held: dict[str, Tensor], folder: Path) -> Codec:
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are loaded over
        vae = ConvVAE(shape)
    found = {name: tuple(tensor.shape) for name, tensor in held.items()}
    needed = {f"vae.{name}": tuple(tensor.shape) for name, tensor in vae.state_dict().items()}
    needed |= dict.fromkeys(("order", "mean", "std"), (shape.dims,))
    if found != needed:
        wrong = sorted(name for name in found | needed if found.get(name) != needed.get(name))[0]
        raise ValueError(
            f"{folder}: {wrong} is {found.get(wrong, 'missing')}, {needed.get(wrong, 'nothing')} expected of "
            f"{quoted(shape)}: make the codec anew"
        )
    if sorted(held["order"].tolist()) != list(range(shape.dims)):
        raise ValueError(f"{folder}: order is no order of {shape.dims} dims: make the codec anew")
    vae.load_state_dict({name.removeprefix("vae."): t for name, t in held.items() if name.startswith("vae.")})
    return Codec(_still(vae), held["order"], held["mean"], held["std"])


def _still(vae: ConvVAE) -> ConvVAE:
    return vae.requires_grad_(False).eval()


def train_vae(
    grey: Tensor,
    shape: Shape,
    steps: int = 1_500,
    batch: int = 64,
    lr: float = 2e-3,
    beta: float = 1e-3,
    seed: int = 0,
) -> Codec:
    """A codec of images `[n, side, side]` in [0, 1], in a plain loop; the same seed makes the same codec.

    beta: of the divergence from N(0, 1) in nats a pixel, beside the mean squared error of pixels.
    Raises ValueError for other images than the shape's.
    """
    for name, value in (("steps", steps), ("batch", batch)):
        checks.count(name, value, 1)
    checks.number("lr", lr, 0, 1, "a rate in [0, 1]")
    checks.number("beta", beta, 0, checks.HUGE, "0 or more")
    if grey.dim() != 3 or grey.shape[1:] != (shape.side, shape.side) or not len(grey):
        raise ValueError(f"images of shape {tuple(grey.shape)} given, [n, {shape.side}, {shape.side}] expected")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global generator
        torch.manual_seed(seed)
        vae = ConvVAE(shape).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=lr, weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 50) * (1 - step / steps)
        image = grey[torch.randint(len(grey), (batch,), generator=generator)]
        mean, logvar = vae.encode(image)
        its = Normal(mean, logvar)
        drawn = its.at(torch.randn(mean.shape, generator=generator))
        error = (vae.decode(drawn) - image).square().mean()
        nats = its.divergence.sum() / image.numel()
        optimizer.zero_grad()
        (error + beta * nats).backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
    return _measured(_still(vae), grey, generator)


def _measured(vae: ConvVAE, grey: Tensor, generator: torch.Generator, most: int = 10_000) -> Codec:
    """With the order and the statistics of the first images' numbers, each drawn once from its posterior."""
    dims, grid = vae.shape.dims, vae.shape.grid
    plain = Codec(vae, torch.arange(dims), torch.zeros(dims), torch.ones(dims))
    mean, std = plain.posterior(grey[:most])
    order = frequency_order(mean.unflatten(1, (grid, grid)))
    drawn = mean + std * torch.randn(mean.shape, generator=generator)
    fitted = ScalarQuantizer.fit(drawn[..., order], 2)
    return Codec(vae, order, fitted.mean, fitted.std)

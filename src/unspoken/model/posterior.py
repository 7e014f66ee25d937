"""The port of a variational autoencoder: reads vectors, and predicts normal numbers that vectors are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unspoken import checks
from unspoken.layout.questions import KL
from unspoken.noise.gaussian import Normal, normal


@dataclass(frozen=True)
class Posterior:
    """Vectors that stand for words: read by one linear map, predicted by two as a mean and a log-variance.

    The encoder and the decoder of LaDiR's blocks (Kang et al. 2025, arXiv 2510.04573, section 3) in one trunk.

    Attributes:
        width: Of the vectors.
        placeholder: The token id of entries that show a vector.
    """

    width: int
    placeholder: int | None = None

    def __post_init__(self) -> None:
        checks.count("width", self.width, 1)

    @property
    def size(self) -> tuple[int, ...]:
        """What values must have: the width."""
        return (self.width,)

    def build(self, hidden: int) -> PosteriorWeights:
        """Its weights for a trunk of that width."""
        return PosteriorWeights(self, hidden)


class PosteriorWeights(nn.Module):
    """See `Posterior`. A prediction is a `Normal` `[batch, m, width]`."""

    def __init__(self, port: Posterior, hidden: int):
        super().__init__()
        self.reader = nn.Linear(port.width, hidden)
        self.mean, self.logvar = nn.Linear(hidden, port.width), nn.Linear(hidden, port.width)

    def read(self, value: Tensor) -> Tensor:
        """Vectors `[batch, entries, width]`, by one linear map."""
        return self.reader(value.to(self.reader.weight.dtype))

    def predict(self, hidden: Tensor, target: Tensor | None = None) -> Normal:
        """What the vector of every entry is drawn from."""
        return Normal(self.mean(hidden), self.logvar(hidden))

    def loss(self, prediction: Normal, target: Tensor) -> Tensor:
        """The divergence from standard normal numbers, in nats."""
        return KL()(prediction, target)

    def sample(
        self, prediction: Normal, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """A vector of every entry; 0 takes the mean. A density has no probability to tell: 0."""
        drawn = prediction.at(temperature * normal(prediction.mean, generator))
        return drawn, drawn.new_zeros(drawn.shape[:2])

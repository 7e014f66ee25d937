"""Ports: how tokens and values go into a trunk, and how predictions of them come out.

| port          | an entry holds        | its prediction                     | its own loss                    |
| ------------- | --------------------- | ---------------------------------- | ------------------------------- |
| `Categorical` | a token id            | logits of the clean token          | cross-entropy                   |
| `Vectors`     | a vector of reals     | one view of clean vector and noise | squared error                   |
| `Codes`       | a vector of integers  | logits of every dim                | cross-entropy, summed over dims |
| `Posterior`   | a vector of reals     | normal numbers to draw it from     | their divergence from N(0, 1)   |

`Categorical` is the trunk's own embedding and head. A `Denoiser` may have one port of values beside it: the entries
whose token is the port's placeholder id show their value (`Layout.value`). `Vectors` and `Codes` are data; `build`
makes their weights for a trunk of a given width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from unspoken import checks
from unspoken.layout.questions import CrossEntropy, SquaredError
from unspoken.model.codes import Codes
from unspoken.model.drawing import draw_ids
from unspoken.model.posterior import Posterior
from unspoken.model.trunks import logits_of, never_said
from unspoken.noise.gaussian import Seen, View

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Reader(Protocol):
    """What every port can do, with the weights it has."""

    def read(self, value: Tensor) -> Tensor:
        """Tokens or values of every entry to what the trunk reads, `[batch, entries, hidden]`."""
        ...

    def predict(self, hidden: Tensor, target: Tensor | None = None) -> Any:
        """The prediction at hidden states `[batch, m, hidden]`. target: what is asked for, where a loss is computed."""
        ...

    def loss(self, prediction: Any, target: Tensor) -> Tensor:
        """`[batch, m]`: the port's own price of a prediction."""
        ...

    def sample(
        self, prediction: Any, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """One value each, and the log-probability that it was held with at temperature 1 (0 where there is none)."""
        ...


class Categorical:
    """Token ids, by the trunk's own embedding and logits (`trunks.logits_of`).

    The mask is never predicted, nor are the last `unused` ids: their logits are -inf.
    """

    def __init__(self, trunk: PreTrainedModel, mask_id: int, unused: int = 0):
        self.trunk, self.mask_id, self.unused = trunk, mask_id, unused

    def read(self, value: Tensor) -> Tensor:
        """Ids `[batch, entries]`, embedded."""
        return self.trunk.get_input_embeddings()(value)

    def predict(self, hidden: Tensor, target: Tensor | None = None) -> Tensor:
        """Logits `[batch, m, vocab]`, float32 or wider."""
        logits = logits_of(self.trunk, hidden)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        silent = never_said(self.mask_id, self.unused, logits.shape[-1])
        return logits.index_fill(-1, torch.tensor(silent, device=logits.device), -torch.inf)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy in nats."""
        return CrossEntropy()(prediction, target)

    def sample(
        self, prediction: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """See `draw_ids`."""
        return draw_ids(prediction, generator, temperature)


@dataclass(frozen=True)
class Vectors:
    """Vectors of real numbers: read by one linear map, predicted by another as one view of clean vector and noise.

    Attributes:
        width: Of the vectors.
        view: What is predicted: `x0`, `v`, the velocity `u`, or `eps` (which a walk from the prior can not use).
        placeholder: The token id of entries that show a vector.
        head: Of predictions: `drawn` at random; begun at `zero`, so that an untrained model predicts 0; or `none`,
            where vectors are read and not predicted.
    """

    width: int
    view: View = "x0"
    placeholder: int | None = None
    head: Literal["drawn", "zero", "none"] = "drawn"

    def __post_init__(self) -> None:
        checks.plain(self)
        if self.view not in get_args(View):
            raise ValueError(f"view is {self.view!r}; give one of {', '.join(get_args(View))}")
        if self.head not in ("drawn", "zero", "none"):
            raise ValueError(f"head is {self.head!r}; give 'drawn', 'zero' or 'none'")
        if self.width < 1:
            raise ValueError(f"width={self.width}; give vectors of 1 number or more")

    @property
    def size(self) -> tuple[int, ...]:
        """What a task's values must have: the width."""
        return (self.width,)

    def build(self, hidden: int) -> VectorWeights:
        """Its weights for a trunk of that width."""
        return VectorWeights(self, hidden)


class VectorWeights(nn.Module):
    """See `Vectors`. A prediction is a `Seen`: vectors `[batch, m, width]` and the view they are."""

    def __init__(self, port: Vectors, hidden: int):
        super().__init__()
        self.view: View = port.view
        self.reader = nn.Linear(port.width, hidden)
        self.head: nn.Linear | None = None if port.head == "none" else nn.Linear(hidden, port.width)
        if self.head is not None and port.head == "zero":
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def read(self, value: Tensor) -> Tensor:
        """Vectors `[batch, entries, width]`, by one linear map."""
        return self.reader(value.to(self.reader.weight.dtype))

    def predict(self, hidden: Tensor, target: Tensor | None = None) -> Seen:
        """The view of every entry. Raises ValueError without a head."""
        if self.head is None:
            raise ValueError("the port has no head (head='none'): its vectors are read, and not predicted")
        return Seen(self.head(hidden), self.view)

    def loss(self, prediction: Seen, target: Tensor) -> Tensor:
        """The squared error, the mean over the width; of noisy vectors see `questions.SquaredError`."""
        return SquaredError()(prediction, target)

    def sample(
        self, prediction: Seen, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Normal around the prediction with standard deviation `temperature`: what a squared error is the model of."""
        mean = prediction.value
        device = mean.device if generator is None else generator.device
        noise = torch.randn(mean.shape, generator=generator, device=device, dtype=mean.dtype).to(mean.device)
        return mean + temperature * noise, (mean * 0).sum(-1)  # "not a number" where the mean is none


Port = Vectors | Codes | Posterior  # of values; ids always go by the trunk's own embedding and head


def check_port(port: Port, vocab: int, mask_id: int) -> None:
    """Raises ValueError where the port has no placeholder id, or one that can not be told from the mask."""
    if port.placeholder is None:
        raise ValueError(
            f"{port} has no placeholder id: entries that show a value need a token of their own; give "
            f"placeholder=, one of the {vocab} ids other than the mask {mask_id}"
        )
    if not 0 <= port.placeholder < vocab or port.placeholder == mask_id:
        raise ValueError(
            f"placeholder={port.placeholder} of {vocab} ids with the mask at {mask_id}: give one of the other ids"
        )


def check_values(port: Port | None, value: Tensor | None) -> None:
    """Raises ValueError where a layout's values are not what the model's port reads."""
    if port is None:
        raise ValueError("the layout shows values, and the model can not read them: make it with port=us.Vectors(...)")
    if value is None:
        raise ValueError(f"the model reads values by {port}, and the layout has none: give Layout.value")
    width = port.size[0]
    if value.shape[2] != width or (isinstance(port, Codes) and value.is_floating_point()):
        kind = "floats" if isinstance(port, Vectors) else "int64 codes"
        raise ValueError(
            f"values are {value.dtype} of shape {tuple(value.shape)}, the model reads {kind} of width {width}; give "
            f"[batch, entries, {width}]"
        )

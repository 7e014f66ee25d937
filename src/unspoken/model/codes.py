"""The port of codes: tokens that are vectors of small integers, predicted by a head of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor, nn

from unspoken import checks
from unspoken.codecs.quantizer import normal_levels
from unspoken.layout.questions import CrossEntropy
from unspoken.model.drawing import draw_ids


@dataclass(frozen=True)
class Codes:
    """Vectors of `dims` integers from 0 to levels - 1 (TokenBridge, arXiv 2503.16430).

    The autoregressive head predicts each dim from the trunk's state and the dims before it, by a small recurrent
    network (the paper's is a transformer): its state is all that has to be kept from dim to dim. The parallel head
    predicts every dim from the trunk's state alone, with about as many weights. Both give exact probabilities.

    Attributes:
        dims: Integers of a vector.
        levels: Of each integer.
        width: Of the head.
        placeholder: The token id of entries that show their codes.
        head: `autoregressive`, or `parallel`: its dims are independent of each other given the trunk's state.
        spacing: What codes are read as: numbers spread evenly over [-1, 1], or the levels of a standard `normal`
            number (`codecs.normal_levels`), as `codecs.ScalarQuantizer` has them.
    """

    dims: int
    levels: int
    width: int = 64
    placeholder: int | None = None
    head: Literal["autoregressive", "parallel"] = "autoregressive"
    spacing: Literal["even", "normal"] = "even"

    def __post_init__(self) -> None:
        checks.plain(self)
        if self.dims < 1 or self.levels < 2 or self.width < 1:
            raise ValueError(
                f"dims={self.dims}, levels={self.levels}, width={self.width}: give 1 dim or more, 2 levels or more, "
                "and a head of width 1 or more"
            )
        if self.head not in ("autoregressive", "parallel") or self.spacing not in ("even", "normal"):
            raise ValueError(
                f"head={self.head!r}, spacing={self.spacing!r}: give 'autoregressive' or 'parallel', and 'even' or "
                "'normal'"
            )

    @property
    def size(self) -> tuple[int, ...]:
        """What a task's values must have: dims and levels."""
        return (self.dims, self.levels)

    def build(self, hidden: int) -> CodeWeights:
        """Its weights for a trunk of that width."""
        return (CodeWeights if self.head == "autoregressive" else ParallelWeights)(self, hidden)


@dataclass(frozen=True)
class CodeStates:
    """Codes that are still to be drawn: the head's first state for every entry, `[batch, m, width]`."""

    first: Tensor


class CodeWeights(nn.Module):
    """See `Codes`. A prediction is logits `[batch, m, dims, levels]` of a target, or `CodeStates` to draw from."""

    def __init__(self, port: Codes, hidden: int):
        super().__init__()
        self.dims, self.levels, self.spacing = port.dims, port.levels, port.spacing
        self.reader = nn.Linear(port.dims, hidden)
        self.start = nn.Linear(hidden, port.width)
        self._build(port)

    def _build(self, port: Codes) -> None:
        # What a step reads: the dim before and its code, or that there is none.
        self.before = nn.Embedding(port.dims * port.levels + 1, port.width)
        self.steps = nn.GRU(port.width, port.width, batch_first=True)
        self.head = nn.Linear(port.width, port.levels)

    def read(self, value: Tensor) -> Tensor:
        """Codes `[batch, entries, dims]`, as numbers of the port's spacing, by one linear map."""
        dtype, device = self.reader.weight.dtype, self.reader.weight.device
        if self.spacing == "normal":
            return self.reader(normal_levels(self.levels).to(device, dtype)[value])
        return self.reader(2 * value.to(dtype) / (self.levels - 1) - 1)

    @overload
    def predict(self, hidden: Tensor, target: None = None) -> CodeStates: ...
    @overload
    def predict(self, hidden: Tensor, target: Tensor) -> Tensor: ...

    def predict(self, hidden: Tensor, target: Tensor | None = None) -> Tensor | CodeStates:
        """Logits of every dim given the target's dims before it, all at once; without a target, what to draw from."""
        states = CodeStates(torch.tanh(self.start(hidden)))
        return states if target is None else self.logits(states, target)

    def logits(self, states: CodeStates, codes: Tensor) -> Tensor:
        """`[batch, m, dims, levels]`: of every dim of `codes` `[batch, m, dims]`, given those before it."""
        flat = codes.flatten(0, 1)
        offset = torch.arange(self.dims - 1, device=codes.device) * self.levels
        none = torch.full_like(flat[:, :1], self.dims * self.levels)
        read = self.before(torch.cat([none, flat[:, :-1] + offset], 1))
        out, _ = self.steps(read, states.first.flatten(0, 1)[None].contiguous())
        return self.head(out).unflatten(0, codes.shape[:2])

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy in nats, the sum over the dims."""
        return CrossEntropy()(prediction, target)

    def sample(
        self, prediction: CodeStates, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Codes `[batch, m, dims]`, dim by dim, and their log-probabilities `[batch, m]` at temperature 1.

        temperature: 0 takes the likeliest level of every dim.
        """
        shape, state = prediction.first.shape[:2], prediction.first.flatten(0, 1)[None].contiguous()
        code = torch.full((state.shape[1], 1), self.dims * self.levels, device=state.device)
        drawn, total = [], state.new_zeros(state.shape[1])
        for dim in range(self.dims):
            out, state = self.steps(self.before(code), state)
            level, logp = draw_ids(self.head(out), generator, temperature)
            drawn.append(level)
            total = total + logp[:, 0]
            code = level + dim * self.levels
        return torch.cat(drawn, 1).unflatten(0, shape), total.unflatten(0, shape)


class ParallelWeights(CodeWeights):
    """The parallel head of `Codes`: a layer of three times the width in place of the recurrence, and of its weights."""

    def _build(self, port: Codes) -> None:
        self.inner = nn.Sequential(
            nn.Linear(port.width, 3 * port.width), nn.SiLU(), nn.Linear(3 * port.width, port.width)
        )
        self.head = nn.Linear(port.width, port.dims * port.levels)

    def logits(self, states: CodeStates, codes: Tensor | None = None) -> Tensor:
        """`[batch, m, dims, levels]`, which do not depend on any codes."""
        return self.head(states.first + self.inner(states.first)).unflatten(-1, (self.dims, self.levels))

    def sample(
        self, prediction: CodeStates, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """All dims at once; see `CodeWeights.sample`."""
        codes, logp = draw_ids(self.logits(prediction), generator, temperature)
        return codes, logp.sum(-1)

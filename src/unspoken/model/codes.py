"""The port of codes: tokens that are vectors of small integers, predicted by a head of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, overload

import torch
from torch import Tensor, nn

from unspoken import checks
from unspoken.codecs.quantizer import normal_levels
from unspoken.layout.questions import CrossEntropy
from unspoken.model.drawing import draw_ids

Head = Literal["recurrent", "additive", "parallel"]


@dataclass(frozen=True)
class Codes:
    """Vectors of `dims` integers from 0 to levels - 1 (TokenBridge, arXiv 2503.16430).

    Each dim is predicted from the trunk's state and the dims before it. What has to be kept from dim to dim is the
    state of a small recurrent network, or a sum: of the trunk's state and what the dims before add to it (NADE, Uria et
    al. 2016, arXiv 1605.02226), which learns sooner where dims are many. (The paper's head is a transformer.) The
    parallel head predicts every dim from the trunk's state alone. All give exact probabilities.

    Attributes:
        dims: Integers of a vector.
        levels: Of each integer.
        width: Of the head.
        placeholder: The token id of entries that show their codes.
        head: `recurrent` or `additive`, dim after dim; or `parallel`, with as many weights as `additive`: its dims are
            independent of each other given the trunk's state.
        spacing: What codes are read as: numbers spread evenly over [-1, 1], or the levels of a standard `normal`
            number (`codecs.normal_levels`), as `codecs.ScalarQuantizer` has them.
    """

    dims: int
    levels: int
    width: int = 64
    placeholder: int | None = None
    head: Head = "recurrent"
    spacing: Literal["even", "normal"] = "even"

    def __post_init__(self) -> None:
        checks.plain(self)
        if self.dims < 1 or self.levels < 2 or self.width < 1:
            raise ValueError(
                f"dims={self.dims}, levels={self.levels}, width={self.width}: give 1 dim or more, 2 levels or more, "
                "and a head of width 1 or more"
            )
        if self.head not in get_args(Head) or self.spacing not in ("even", "normal"):
            raise ValueError(
                f"head={self.head!r}, spacing={self.spacing!r}: give 'recurrent', 'additive' or 'parallel', "
                "and 'even' or 'normal'"
            )

    @property
    def size(self) -> tuple[int, ...]:
        """What a task's values must have: dims and levels."""
        return (self.dims, self.levels)

    def build(self, hidden: int) -> CodeWeights:
        """Its weights for a trunk of that width."""
        kinds = {"recurrent": CodeWeights, "additive": AdditiveWeights, "parallel": ParallelWeights}
        return kinds[self.head](self, hidden)


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
        return self.reader(self.numbers(value))

    def numbers(self, value: Tensor) -> Tensor:
        """The numbers that codes of any shape are read as."""
        dtype = self.reader.weight.dtype
        if self.spacing == "normal":
            return normal_levels(self.levels).to(value.device, dtype)[value]
        return 2 * value.to(dtype) / (self.levels - 1) - 1

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


class AdditiveWeights(CodeWeights):
    """The additive head of `Codes`: a layer beside the running sum, then a classifier of every dim's own."""

    def _build(self, port: Codes) -> None:
        self.inner = _layer(port.width, 3 * port.width)
        self.head = nn.Linear(port.width, port.dims * port.levels)
        self.place = nn.Parameter(torch.zeros(port.dims, port.width))
        self.before = nn.Embedding(port.dims * port.levels, port.width)
        # In the beginning what a dim adds is the number that its code stands for, so that near levels do alike.
        number = self.numbers(torch.arange(port.levels))[None, :, None]
        added = number * torch.randn(port.dims, 1, port.width) / 10
        with torch.no_grad():
            self.before.weight.mul_(0.02).add_(added.flatten(0, 1))

    def logits(self, states: CodeStates, codes: Tensor) -> Tensor:
        """See `CodeWeights.logits`."""
        adds = self.before(codes + torch.arange(self.dims, device=codes.device) * self.levels)
        sums = states.first[:, :, None] + adds.cumsum(2) - adds + self.place
        weight = self.head.weight.unflatten(0, (self.dims, self.levels))
        return torch.einsum("bmdw,dlw->bmdl", sums + self.inner(sums), weight) + self.head.bias.view(self.dims, -1)

    def sample(
        self, prediction: CodeStates, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """See `CodeWeights.sample`."""
        sums, drawn, total = prediction.first, [], 0.0
        for dim, (weight, bias) in enumerate(
            zip(self.head.weight.split(self.levels), self.head.bias.split(self.levels), strict=True)
        ):
            at = sums + self.place[dim]
            level, logp = draw_ids(nn.functional.linear(at + self.inner(at), weight, bias), generator, temperature)
            drawn.append(level)
            total = total + logp
            sums = sums + self.before(level + dim * self.levels)
        return torch.stack(drawn, -1), torch.as_tensor(total)


class ParallelWeights(CodeWeights):
    """The parallel head of `Codes`: as the additive one, with a wider layer in place of what the dims before add."""

    def _build(self, port: Codes) -> None:
        self.inner = _layer(port.width, 3 * port.width + port.dims * port.levels // 2)
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


def _layer(width: int, inner: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, width))

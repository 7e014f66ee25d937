"""What a pass is asked, as data: which entries, for what, by which port, and how the answer is priced.

A loss is a value too. Each is called with a port's prediction at the entries asked and with the targets, and returns
`[batch, m]` in nats (or squared units): cross-entropy, the divergence of a process, a squared error, or CTC over the
slots of a block. One that says `by_entry` looks at one entry at a time, and may be handed any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from unspoken.noise import Gaussian, Marginal, Views
from unspoken.noise.gaussian import Normal, Seen

PortName = Literal["ids", "values", "foreseen"]


@dataclass(frozen=True)
class CrossEntropy:
    """-log p(target), of ids or of code vectors; a vector's is the sum over its dims."""

    by_entry: ClassVar[bool] = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction: logits `[batch, m, vocab]` or `[batch, m, dims, levels]`; target: int64, without the last."""
        flat = torch.nn.functional.cross_entropy(prediction.flatten(0, -2), target.flatten(), reduction="none")
        return flat.view(target.shape).flatten(2).sum(2) if target.dim() > 2 else flat.view(target.shape)


@dataclass(frozen=True)
class Divergence:
    """What a jump process loses by a guess (`Marginal.divergence`).

    marginal: q_t of the entries asked; z: `[batch, m]` their noisy tokens.
    """

    by_entry: ClassVar[bool] = True

    marginal: Marginal
    z: Tensor

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction: logits `[batch, m, vocab]`; target: clean tokens `[batch, m]`."""
        return self.marginal.divergence(self.z, target, prediction)


@dataclass(frozen=True)
class SquaredError:
    """The squared error of a prediction of vectors, the mean over their width.

    Alone, the target is compared as it is. With a process, the target is the clean vector, and what is compared is the
    view that the port predicts (eps, x0, v or u) of it and the noise it was mixed with.

    process, t, eps: the process, the times `[batch, m]` and the noise `[batch, m, width]` of the entries asked.
    clip: of Min-SNR weights (`Gaussian.loss_weight`); None weighs all times alike.
    """

    process: Gaussian | None = None
    t: Tensor | None = None
    eps: Tensor | None = None
    clip: float | None = None

    def __call__(self, prediction: Seen, target: Tensor) -> Tensor:
        """prediction: vectors `[batch, m, width]` of a view; target: clean vectors of that shape."""
        if prediction.value.shape != target.shape:
            raise ValueError(
                f"targets of shape {tuple(target.shape)} for vectors {tuple(prediction.value.shape)}: make them equal"
            )
        if self.process is None or self.t is None or self.eps is None:
            return (prediction.value - target).square().mean(-1)
        wanted = self.process.seen(Views(target, self.eps), self.t, prediction.view)
        error = (prediction.value - wanted).square().mean(-1)
        if self.clip is None or prediction.view == "u":
            return error
        snr = self.process.snr(self.t.clamp_min(1e-4))
        return error * self.process.loss_weight(snr, prediction.view, self.clip)


@dataclass(frozen=True)
class KL:
    """The divergence of normal numbers from standard normal ones in nats, the sum over their width.

    What the code of a variational autoencoder costs (Kingma and Welling 2014, arXiv 1312.6114); it has no target.
    """

    by_entry: ClassVar[bool] = True

    def __call__(self, prediction: Normal, target: Tensor) -> Tensor:
        """prediction: `[batch, m, width]` normal numbers; target: `[batch, m]` or more, not looked at."""
        return prediction.divergence.sum(-1)


@dataclass(frozen=True)
class CTC:
    """Connectionist temporal classification over the slots of a block (Graves et al. 2006; NARVL's loss).

    The m entries asked of a row are the slots in order, and its target of at most m tokens may be aligned with them in
    any monotone way: slots say a token, repeat the one before, or say nothing (`blank`). The row's loss stands at its
    first slot, the others' are 0.

    blank: the id that says nothing; not the mask, which is never predicted. lengths: `[batch]` how many of the targets
        are real. slots: `[batch]` how many of the entries asked are; a `Question` fills it in from its weights.
    Raises ValueError where a target does not fit: it needs a slot for each token, and one between equal neighbours.
    """

    blank: int
    lengths: Tensor
    slots: Tensor | None = None

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction: logits `[batch, m, vocab]`; target: `[batch, m]` ids, filled up past `lengths`."""
        width = prediction.shape[1]
        slots = torch.full_like(self.lengths, width) if self.slots is None else self.slots
        self._check(prediction, target, slots)
        # The mask's logit is -inf, of which torch's gradient here is not a number; nothing is as improbable as this.
        says = prediction.log_softmax(-1).clamp_min(-1e4).transpose(0, 1)
        losses = torch.nn.functional.ctc_loss(says, target, slots, self.lengths, self.blank, reduction="none")
        return torch.nn.functional.pad(losses[:, None], (0, width - 1))

    def _check(self, prediction: Tensor, target: Tensor, slots: Tensor) -> None:
        if bool(prediction[..., self.blank].isinf().any()):
            raise ValueError(f"blank={self.blank} has no probability, as the mask has none: give an id of its own")
        check_fit(target, self.lengths, slots)


def slots_needed(target: Tensor, lengths: Tensor) -> Tensor:
    """`[batch]`: the slots that CTC needs for targets `[batch, m]`: a token each, one between equal neighbours too."""
    there = torch.arange(1, target.shape[1], device=target.device) < lengths[:, None]
    return lengths + ((target[:, 1:] == target[:, :-1]) & there).sum(1)


def check_fit(target: Tensor, lengths: Tensor, slots: Tensor) -> None:
    """Raises ValueError for targets that CTC can not align with their `slots` `[batch]`: see `slots_needed`."""
    needed = slots_needed(target, lengths)
    if bool((needed > slots).any()):
        bad = (needed > slots).nonzero()[:, 0].tolist()
        row, more = bad[0], f" (and so do {len(bad) - 1} more of {len(needed)})" if len(bad) > 1 else ""
        raise ValueError(
            f"the target of row {row} needs {int(needed[row])} slots (a token each, one between equal neighbours), "
            f"the block has {int(slots[row])}{more}: give longer blocks or shorter targets"
        )


@dataclass(frozen=True)
class Distilled:
    """Cross-entropy against the token, mixed with that against what other entries of the same pass predict of it.

    share: of the loss against the prediction; no gradient flows into it. question: of the pass, whose entries those
        are. match: `[batch, m]` which of its entries is about the same token.
    """

    share: float
    question: int
    match: Tensor

    def __call__(self, prediction: Tensor, target: Tensor, taught: Tensor) -> Tensor:
        """prediction: logits `[batch, m, ...]`; target: `[batch, m]` or `[batch, m, dims]`; taught: as prediction."""
        token = CrossEntropy()(prediction, target)
        index = self.match.view(*self.match.shape, *[1] * (taught.dim() - 2)).expand(-1, -1, *taught.shape[2:])
        teacher = taught.gather(1, index).softmax(-1)
        # The mask's logit is -inf: 0 of it is expected, and 0 times infinity is not a number.
        soft = -(teacher * prediction.log_softmax(-1).clamp_min(-1e4)).sum(-1)
        if soft.dim() > 2:  # of code vectors
            soft = soft.flatten(2).sum(2)
        return (1 - self.share) * token + self.share * soft


Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Question:
    """Entries of a pass that are asked for something.

    at: `[batch, m]` the entries.
    target: what each should predict: `[batch, m]` ids, or `[batch, m, width]` vectors or codes.
    weight: `[batch, m]` of its loss; 0 where a row has fewer questions than the batch.
    slot: `[batch, m]` its place in its block: 0 is the token committed next, j > 0 the j-th latent; `SUCCESSOR` is a
        clean entry that is asked for the token after it.
    port: by which the answer is predicted: the model's head over ids, the port of its values, or what its predictor
        has `foreseen` alone, by the predictor's own head. Those of the last kind come last.
    loss: how the answer is priced, row by row. Of a dataclass, the tensors as long as the batch are cut with its rows.
    """

    at: Tensor
    target: Tensor
    weight: Tensor
    slot: Tensor
    port: PortName = "ids"
    loss: Loss = CrossEntropy()

    def __post_init__(self) -> None:
        if self.port not in get_args(PortName):
            raise ValueError(f"port={self.port!r}: give 'ids', 'values' or 'foreseen'")
        for name, field in (("weight", self.weight), ("slot", self.slot), ("target", self.target)):
            if field.shape[:2] != self.at.shape or (field.dim() > 2 and name != "target"):
                raise ValueError(
                    f"{name} has shape {tuple(field.shape)}, at {tuple(self.at.shape)}; give one for every entry asked"
                )
        if isinstance(self.loss, CTC) and self.loss.slots is None:
            object.__setattr__(self, "loss", replace(self.loss, slots=self.real.sum(1)))

    @property
    def real(self) -> Tensor:
        """`[batch, m]` bool: a question, not filling."""
        return self.weight > 0

    def to(self, device: torch.device) -> Question:
        """The same on another device."""
        return each_tensor(self, lambda tensor: tensor.to(device))

    def scaled(self, by: float) -> Question:
        """The same with all weights times `by`."""
        return replace(self, weight=self.weight * by)

    def flat(self, entries: int) -> Question:
        """The real ones of all rows as one row: `[1, n]`, their entries counted over the batch, row after row.

        entries: of a row. Of the loss, the tensors of a number for each entry asked are cut as well.
        """
        first = torch.arange(self.at.shape[0], device=self.at.device)[:, None] * entries
        real = self.real.flatten().nonzero()[:, 0]  # once: a GPU is waited for here
        return self._cut(replace(self, at=self.at + first), lambda tensor: tensor.flatten(0, 1)[real][None])

    def part(self, first: int, last: int) -> Question:
        """The columns first ... last - 1."""
        return self._cut(self, lambda tensor: tensor[:, first:last])

    def _cut(self, question: Question, cut: Callable[[Tensor], Tensor]) -> Question:
        shape = self.at.shape
        return each_tensor(question, lambda tensor: cut(tensor) if tensor.shape[:2] == shape else tensor)


SUCCESSOR = -1  # the slot of a clean entry, which is asked for the token after it


def each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A dataclass with every tensor in it, and in the dataclasses in it, changed."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: each_tensor(getattr(value, f.name), change) for f in fields(value)})
    return value


def joined(questions: tuple[Question, ...]) -> tuple[Question, ...]:
    """Questions to one port that are priced alike become one, the former's entries first."""
    out: list[Question] = []
    for q in questions:
        if out and out[-1].port == q.port and isinstance(q.loss, CrossEntropy) and q.loss == out[-1].loss:
            last = out.pop()
            both = {n: torch.cat([getattr(last, n), getattr(q, n)], 1) for n in ("at", "target", "weight", "slot")}
            q = replace(last, **both)
        out.append(q)
    return tuple(out)

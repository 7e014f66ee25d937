"""What can not be decoded: refused before any work; and answers of a network that are no numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from unspoken import checks
from unspoken.model.network import Model
from unspoken.noise.times import Path


def check_tokens(model: Model, tokens: Tensor, present: Tensor | None = None) -> None:
    """Raises TypeError for what is no model or no tensor, ValueError for what can not be decoded."""
    check_model(model)
    checks.kind("tokens", tokens, Tensor, "a tensor, int64 [batch, seq]")
    if tokens.dim() == 3:
        raise ValueError(
            f"tokens are {tuple(tokens.shape)}, as values are: those need a model with a port, and "
            "Slots (codes) or Walk (vectors)"
        )
    checks.tensor("tokens", tokens, torch.int64, ("batch", "seq"))
    if present is not None:
        checks.kind("present", present, Tensor, "a tensor, bool [batch, seq]")
        if present.is_floating_point() or present.shape != tokens.shape:
            what = f"present is {present.dtype} of shape {tuple(present.shape)}"
            raise ValueError(f"{what}, tokens {tuple(tokens.shape)}; make their shapes equal, bool or 0 and 1")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < model.vocab_size:
        raise ValueError(
            f"token ids run from {int(tokens.min())} to {int(tokens.max())}, the model's vocabulary from 0 to "
            f"{model.vocab_size - 1}: was the model trained on another task?"
        )


def check_model(model: object) -> None:
    """Raises TypeError for what is no `Model`."""
    checks.has("model", model, ("attention", "mask_id", "vocab_size", "__call__"), "a us.Denoiser, or a us.Model")


def check_path(path: object) -> None:
    """Raises TypeError for what is no path; None is one by default."""
    checks.kind("path", path, (Path, type(None)), "a path, such as us.Diagonal()")


class Numbers:
    """That the answers of a network are numbers: a decoding sees each pass.

    On a CPU, or where the decoding waits for the device in any case, a pass is looked at at once. Elsewhere looking
    means waiting, and so it is done once, at the end: all that was said before is void then.
    """

    def __init__(self, device: torch.device) -> None:
        self._waits = device.type == "cpu"
        self._later: list[tuple[int, Tensor, Tensor]] = []

    def see(self, index: int, answer: Tensor, real: Tensor, rows: Tensor, waits: bool = True) -> None:
        """Raises ValueError where an answer is "not a number", as it is wherever a logit is that or +infinity.

        index: of the pass. answer: `[r, a]` the probabilities of what is likeliest. real: `[r, a]`; the others may be
        anything. rows: `[r]` of the batch. waits: for the device in any case.
        """
        if not (waits or self._waits):
            self._later.append((index, (answer.isnan() & real).any(1), rows))
        elif bool(answer.isnan().any()):
            self._raise(index, (answer.isnan() & real).any(1), rows)

    def end(self) -> None:
        """After the last pass. Raises ValueError where one that was not looked at holds what is no number."""
        for index, bad, rows in self._later:
            self._raise(index, bad, rows)

    def _raise(self, index: int, bad: Tensor, rows: Tensor) -> None:
        found = rows[bad].tolist()
        if found:
            where = f"row {found[0]}" if len(found) == 1 else f"row {found[0]} and {len(found) - 1} more"
            raise ValueError(
                f"pass {index}: what the network says in {where} is nan or infinite: are the model's weights numbers, "
                "and is its precision wide enough?"
            )


def check_answers(index: int, answer: Tensor, real: Tensor | None = None) -> None:
    """Raises ValueError where an answer `[batch, a]` of a pass over the whole batch is no number (see `Numbers`)."""
    if bool(answer.isnan().any()):
        real = torch.ones_like(answer, dtype=torch.bool) if real is None else real
        Numbers(answer.device).see(index, answer, real, torch.arange(len(answer), device=answer.device))


def check_all_present(decoder: object, present: Tensor | None) -> None:
    """Raises ValueError where rows end early, for decoders whose passes hold every position."""
    if present is not None and not bool(present.bool().all()):
        raise ValueError(f"{type(decoder).__name__} takes rows of one length; leave present out, or take Slots")


def check_causal(decoder: object, model: Model) -> None:
    """Raises ValueError where the context would see what comes after it."""
    if not model.attention.cacheable:
        raise ValueError(
            f"{type(decoder).__name__} with attention {model.attention.name}: its context sees what comes after it, "
            "and no such model is trained so; take cached-joint, cached-alone or any-order, or decode by Slots"
        )


def shifts(model: Model) -> bool:
    """Whether a model answers for a position at the entry to its left (`Denoiser.shift`)."""
    return bool(getattr(model, "shift", False))

"""What became of each token in a step: the one reading that the terminal and the HTML page share."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from unspoken.decoders.step import Step
from unspoken.noise.space import is_unknown, unpaired
from unspoken.tasks import Task

Kind = Literal["given", "said", "now", "latent", "candidate", "out"]
UNKNOWN = "·"


def cells(step: Step, prompt: Tensor, task: Task, row: int = 0) -> list[tuple[str, Kind]]:
    """(symbol, kind) of every token of one row after a step.

    A latent or candidate shows its best guess where the head ran on it: for the latents', decode with
    `predict_latents=True`.
    prompt: `[batch, seq]`, what decoding began with; or values `[batch, seq, width]`; or both, the ids first.
    """
    shown, given = [], _given(prompt, task)
    for i in range(prompt.shape[1]):
        kind = "given" if given[row, i] else _kind(step, task.mask_id, row, i)
        tokens = step.guess if kind in ("latent", "candidate") else step.tokens
        token = int(tokens[row, i])
        shown.append((UNKNOWN if token == task.mask_id else task.symbol(token), kind))
    return shown


def _given(prompt: Tensor, task: Task) -> Tensor:
    """`[batch, seq]` bool."""
    if prompt.dim() == 2:
        return prompt != task.mask_id
    values = getattr(task, "values", None)
    if values is not None and prompt.shape[2] > values.size[0]:
        return unpaired(prompt)[0] != task.mask_id
    return ~is_unknown(prompt)


def _kind(step: Step, mask_id: int, row: int, i: int) -> Kind:
    if step.committed[row, i]:
        return "now"
    if step.tokens[row, i] != mask_id:
        return "said"
    if step.candidates[row, i]:
        return "candidate"
    return "latent" if step.latents[row, i] else "out"

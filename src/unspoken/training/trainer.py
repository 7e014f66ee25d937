"""The objectives of this library under `transformers.Trainer`: a data collator, and the loss.

class Ours(transformers.Trainer):
    compute_loss = compute_loss

Ours(model, args, train_dataset=rows, data_collator=Collator(objective, process, model.mask_id)).train()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unspoken.layout.packing import Packed
from unspoken.noise import Absorbing, AnyProcess
from unspoken.noise.space import PADDING
from unspoken.training.base import Objective
from unspoken.training.losses import packed_losses

KEYS = ("tensors", "packed")  # of a batch; the first are the labels, for `TrainingArguments(label_names=...)`


@dataclass
class Collator:
    """Rows of a data set to one pass, as a dict whose tensors `Trainer` moves to its device.

    A row has `input_ids`, a list or tensor of ids; and perhaps `given`, as long, True where a token is the prompt (by
    default its first one is), and `document`, see `Objective.pack`. Rows may be of different lengths.

    Every random choice is of torch's global generator, which `Trainer` seeds, or of `generator`.
    """

    objective: Objective
    process: AnyProcess = field(default_factory=Absorbing)
    mask_id: int = 0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """ValueError for groups that change over training: a collator does not know how much of it is done."""
        groups = getattr(self.objective, "groups", None)
        if groups is not None and (groups.over_training != "constant" or groups.whole_at_end is not None):
            raise ValueError(
                f"{self.objective}: its groups change over training, and Trainer's collator does not know how much of "
                "it is done; give over_training='constant' and whole_at_end=None, or train by us.train"
            )

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`inputs_of` a pass over the rows. Raises ValueError for rows without ids, and fields of other lengths."""
        rows = [torch.as_tensor(row["input_ids"], dtype=torch.int64) for row in _checked(features)]
        given, document = [], []
        for row, ids in zip(features, rows, strict=True):
            first = torch.arange(len(ids)) == 0
            given.append(torch.as_tensor(row["given"], dtype=torch.bool) if "given" in row else first)
            document.append(torch.as_tensor(row.get("document", [0] * len(ids)), dtype=torch.int64))
            if not len(ids) == len(given[-1]) == len(document[-1]):
                raise ValueError(
                    f"a row has {len(ids)} input_ids, {len(given[-1])} given and {len(document[-1])} document: give "
                    "each as long as the ids"
                )
        x0, known, of = _filled(rows, 0), _filled(given, True), _filled(document, PADDING)
        short = bool((of != 0).any())
        packed = self.objective.pack(
            self.process, x0, known, self.mask_id, self.generator, document=of if short else None
        )
        return inputs_of(packed)


def _checked(features: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    for row in features:
        if "input_ids" not in row or not len(row["input_ids"]):
            raise ValueError(
                f"a row has {', '.join(map(str, row)) or 'nothing'} and no input_ids: give their token ids, and set "
                "remove_unused_columns=False"
            )
    return features


def _filled(rows: Sequence[Tensor], value: int | bool) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def inputs_of(packed: Packed) -> dict[str, Any]:
    """A pass as a dict: `tensors`, a list that Trainer moves to a device, and `packed`, which says where they go."""
    tensors: list[Tensor] = []

    def take(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    return {"tensors": tensors, "packed": packed.each(take)}


def packed_of(inputs: Mapping[str, Any]) -> Packed:
    """The pass of `inputs_of`, its tensors where they have been moved to."""
    moved = iter(inputs["tensors"])
    return inputs["packed"].each(lambda _: next(moved))


def compute_loss(
    trainer: Any,
    model: Any,
    inputs: Mapping[str, Any],
    return_outputs: bool = False,
    num_items_in_batch: Any = None,
) -> Any:
    """As a method of `transformers.Trainer`: the loss of a batch of `Collator`, which is that of `training`'s loop.

    Each batch weighs alike, however many tokens are asked in it (num_items_in_batch is not read).
    """
    packed = packed_of(inputs)
    losses = packed_losses(model, packed)
    loss = packed.reduce(losses)
    return (loss, {"losses": losses}) if return_outputs else loss

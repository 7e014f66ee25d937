"""`transformers.Trainer` with our collator and loss: a step of it is a step of our own loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from toy import seeded, tiny

import unspoken as us
from unspoken.training.trainer import Collator, compute_loss, inputs_of, packed_of

MASK = 6
ROWS = [{"input_ids": [1, 2, 3, 4, 5]}, {"input_ids": [5, 4, 3], "given": [True, True, False]}]
OBJECTIVES = [us.MaskedDiffusion(), us.NextTokenPrediction(), us.MultiToken(window=2, next_token=0.5)]


class Ours(transformers.Trainer):
    compute_loss = compute_loss  # pyright: ignore[reportAssignmentType]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_a_batch_is_the_pass_of_the_objective(objective: Any) -> None:
    inputs = Collator(objective, mask_id=MASK, generator=seeded())(ROWS)
    x0 = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 0, 0]])
    given = torch.tensor([[True] + [False] * 4, [True, True, False, True, True]])
    document = torch.tensor([[0] * 5, [0, 0, 0, -1, -1]])
    packed = objective.pack(us.Absorbing(), x0, given, MASK, seeded(), document=document)
    model = tiny(us.CACHED_JOINT)
    expected = packed.reduce(us.packed_losses(model, packed))
    loss, outputs = compute_loss(None, model, inputs, return_outputs=True)
    assert torch.equal(loss, expected) and float(loss.detach()) > 0
    assert torch.equal(outputs["losses"], us.packed_losses(model, packed))


def test_every_tensor_is_moved() -> None:
    x0 = torch.randint(6, (2, 5), generator=seeded())
    packed = us.MaskedDiffusion().pack(us.Absorbing(), x0, torch.zeros_like(x0, dtype=torch.bool), MASK, seeded())
    inputs = inputs_of(packed)
    moved = {"tensors": [tensor.to("meta") for tensor in inputs["tensors"]], "packed": inputs["packed"]}
    there = packed_of(moved)
    assert there.layout.token.is_meta and there.one.target.is_meta and there.one.weight.is_meta


def test_trainer_takes_the_steps_of_the_loop(tmp_path: Path) -> None:
    model, same = tiny(us.CACHED_JOINT), tiny(us.CACHED_JOINT)
    objective = us.NextTokenPrediction()  # it draws nothing
    args: dict[str, Any] = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 0.1, "use_cpu": True}
    args |= {"lr_scheduler_type": "constant", "max_grad_norm": 0.0, "remove_unused_columns": False}
    args |= {"optim": "sgd", "save_strategy": "no", "report_to": [], "disable_tqdm": True, "label_names": ["tensors"]}
    trainer: Any = Ours(
        model=model,
        args=transformers.TrainingArguments(str(tmp_path), prediction_loss_only=True, **args),
        train_dataset=ROWS,  # pyright: ignore[reportArgumentType]
        eval_dataset=ROWS,  # pyright: ignore[reportArgumentType]
        data_collator=Collator(objective, mask_id=MASK),
    )
    trainer.train()
    optimizer = torch.optim.SGD(same.parameters(), lr=0.1)
    packed = packed_of(Collator(objective, mask_id=MASK)(ROWS))
    for _ in range(2):
        packed.reduce(us.packed_losses(same, packed)).backward()
        optimizer.step()
        optimizer.zero_grad()
    for a, b in zip(model.parameters(), same.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    left = float(packed.reduce(us.packed_losses(same, packed)).detach())
    assert trainer.evaluate()["eval_loss"] == pytest.approx(left, abs=1e-5)


@pytest.mark.parametrize("row", [{}, {"input_ids": []}, {"input_ids": [1, 2], "given": [True]}])
def test_rows_that_are_none_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="input_ids"):
        Collator(us.MaskedDiffusion(), mask_id=MASK)([row])

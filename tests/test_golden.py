"""Nothing changed when the house was rebuilt: losses, decodings, bounds and data of the code before it."""

import json
from typing import Any

import pytest
import torch
from golden import make

GOLDEN: dict[str, Any] = json.loads(make.GOLDEN.read_text())


def same(found: Any, kept: Any, tolerance: float) -> None:
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64),
        torch.tensor(kept, dtype=torch.float64),
        rtol=tolerance,
        atol=tolerance,
    )


@pytest.mark.parametrize("name", make.TRAININGS)
def test_training_losses(name: str) -> None:
    """To the last bit on the kind of machine they were written on; elsewhere sums may be added in another order."""
    found = make.losses(name)
    if make.machine() == GOLDEN["machine"]:
        assert found == GOLDEN["losses"][name]
    same(found, GOLDEN["losses"][name], 2e-3)


@pytest.mark.parametrize("name", [*make.SLOTS, *make.OTHERS])
def test_decodings(name: str) -> None:
    found, kept = make.decoding(name), GOLDEN["decodings"][name]
    assert [step["tokens"] for step in found] == [step["tokens"] for step in kept]
    assert [step["entries"] for step in found] == [step["entries"] for step in kept]
    for step, was in zip(found, kept, strict=True):
        same(step["confidence"], was["confidence"], 1e-9)


def test_bounds() -> None:
    found = make.bounds()
    assert found.keys() == GOLDEN["bounds"].keys()
    for name, values in found.items():
        same(values, GOLDEN["bounds"][name], 1e-9)


@pytest.mark.parametrize("name", make.TASKS)
def test_data(name: str) -> None:
    assert make.data(name) == GOLDEN["data"][name]

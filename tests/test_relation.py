"""Who looks at whom in a trained model, against loops over what its trunk tells."""

from typing import Any

import pytest
import torch
from toy import ragged_clean, seeded, tiny

from unspoken.decoders.policies import attended
from unspoken.layout.attention import ATTENTIONS, SCDM
from unspoken.layout.entries import random_order
from unspoken.measure.relation import looks, relation_of
from unspoken.noise import Absorbing
from unspoken.training.losses import noised

MASK = 6
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-6}  # the trunk takes its softmax in float32


@pytest.mark.parametrize("rule", ATTENTIONS)
@torch.no_grad()
def test_looks_are_shares_of_what_is_visible(rule: str) -> None:
    """In every row they sum to 1 and are above 0 just where the rule allows a look; and then all is as it was."""
    model, (x0, given) = tiny(ATTENTIONS[rule], positions=7), ragged_clean((6, 4, 2, 1))
    unsaid = ~given & (torch.rand(x0.shape, generator=seeded(3)) < 0.7)
    layout = random_order(torch.where(unsaid, MASK, x0), unsaid, given, seeded())
    kernel, before = model.trunk.config._attn_implementation, model(layout)
    told, visible = looks(model, layout), layout.mask(model.attention)[:, 0]
    assert told.shape == visible.shape
    assert torch.allclose((told * visible).sum(-1), torch.ones(4, 7, dtype=told.dtype), **CLOSE)
    assert torch.equal(told > 0, visible)
    assert model.trunk.config._attn_implementation == kernel == "sdpa"
    assert torch.equal(model(layout), before)


@torch.no_grad()
def test_the_kernel_is_put_back_when_a_pass_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x0, given) = tiny(SCDM), ragged_clean((6, 4))
    layout = random_order(torch.where(given, x0, MASK), ~given, given, seeded())

    def fail(_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(model, "embed", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        looks(model, layout)
    assert model.trunk.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("rule", ["mdm", "scdm", "cached-joint", "cached-alone"])
@torch.no_grad()
def test_a_relation_is_the_mean_look_of_a_pair_that_is_unsaid(rule: str) -> None:
    """Against a loop over examples and pairs: of those where one may see the other, and 0 where that never was."""
    model, (x0, given) = tiny(ATTENTIONS[rule], positions=7), ragged_clean((6, 4, 3, 3, 2))
    given[:, 2] = True  # never unsaid
    found = relation_of(model, x0, given, draws=3, generator=seeded())
    seen: dict[tuple[int, int], list[float]] = {}
    generator = seeded()
    for _ in range(3):
        z = noised(Absorbing(), x0, given, MASK, generator)
        tells, visible = looks(model, z.layout), z.layout.mask(model.attention)[:, 0]
        for row in range(len(x0)):
            unsaid = z.unsaid[row].nonzero()[:, 0].tolist()
            for pair in ((i, j) for i in unsaid for j in unsaid if visible[row, i, j] and i != j):
                seen.setdefault(pair, []).append(float(tells[row][pair]))
    expected = torch.zeros(7, 7)
    for pair, values in seen.items():
        expected[pair] = sum(values) / len(values)
    assert found.shape == (7, 7) and torch.allclose(found, expected, **CLOSE)
    assert (found >= 0).all() and not found.diagonal().any()
    assert not found[2].any() and not found[:, 2].any()
    assert bool(found.any()) == (rule != "cached-alone")  # where latents are alone none looks at another


@pytest.mark.parametrize("relation", [torch.ones(3), torch.ones(3, 1), torch.full((3, 3), torch.nan)])
def test_a_relation_that_is_no_table_is_said(relation: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="a row a position"):
        attended(relation)

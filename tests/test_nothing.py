"""Nothing is something: batches of no rows, rows of no tokens, and rows in which all is given.

Laws: every objective packs them, the loss is 0 and so is its gradient; likelihoods and bounds of what is given are 0;
decoders have no steps.
"""

from typing import Any

import pytest
import torch
from toy import seeded, tiny

import unspoken as us
from unspoken.training.base import Objective

MASK = 6
NEED_PROMPTS = (us.NextTokenPrediction, us.MuToR)
OBJECTIVES: list[tuple[Objective, us.Attention]] = [
    (us.MaskedDiffusion(), us.MDM),
    (us.MaskedDiffusion(bound=True), us.SCDM),
    (us.MaskedDiffusion(carry=2), us.SCDM),
    (us.MaskedDiffusion(carry="uniform"), us.CACHED_JOINT),
    (us.NextTokenPrediction(), us.ANY_ORDER),
    (us.MultiToken(), us.CACHED_JOINT),
    (us.MultiToken(window=2, prefixes=1, next_token=0.3), us.CACHED_JOINT),
    (us.MultiToken(order="random"), us.ANY_ORDER),
    (us.Teacherless(), us.CACHED_JOINT),
    (us.MuToR(), us.CACHED_JOINT),
    (us.BlockDiffusion(2), us.CACHED_JOINT),
    (us.BlockDiffusion(2, bound=True), us.CACHED_JOINT),
    *(
        (us.Denoising(times=times), us.MDM)
        for times in (us.Shared(), us.BlockConstant(2), us.PrefixClean(), us.AlongPath(us.Pyramid()), us.Mixture())
    ),
]
NOTHING = {"no rows": (0, 7), "all given": (2, 7), "no tokens": (2, 0), "neither": (0, 0)}


def rows(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    shape = NOTHING[name]
    return torch.zeros(shape, dtype=torch.int64), torch.full(shape, name == "all given")


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize(("objective", "rule"), OBJECTIVES, ids=str)
def test_nothing_to_learn_costs_nothing(objective: Objective, rule: us.Attention, name: str) -> None:
    x0, given = rows(name)
    next_token = isinstance(objective, NEED_PROMPTS) or getattr(objective, "next_token", 0)
    if name == "no tokens" and next_token:
        with pytest.raises(ValueError, match="give every row a prompt"):
            objective.pack(us.Absorbing(), x0, given, MASK, seeded())
        return
    model = tiny(rule, carry=objective.carries)
    packed = objective.pack(us.Absorbing(), x0, given, MASK, seeded())
    loss = packed.reduce(us.packed_losses(model, packed))
    loss.backward()
    assert float(loss.detach()) == 0 and packed.layout.shape[0] == len(x0)
    assert all(p.grad is None or not bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("rule", [us.MDM, us.SCDM, us.SIDM], ids=lambda rule: rule.name)
def test_what_is_given_costs_no_nats(rule: us.Attention, name: str) -> None:
    (x0, given), model = rows(name), tiny(rule)
    n = len(x0)
    assert torch.equal(us.nelbo(model, us.Absorbing(), x0, given), torch.zeros(n, 8))
    assert torch.equal(us.nll_by_latents(model, x0, given, [0, 2]), torch.zeros(n, 2, dtype=torch.float64))
    if rule == us.MDM:
        for process in (us.Absorbing(), us.Hybrid()):
            ways: list[dict[str, Any]] = [{}, {"path": us.Autoregressive()}, {"ends": (0.1, 0.9)}]
            for options in ways:
                bound = us.nelbo_along(us.predictor(model, given), process, x0, given, MASK, **options)
                assert torch.equal(bound, torch.zeros(n, 8, dtype=torch.float64))


@pytest.mark.parametrize("name", NOTHING)
def test_a_pass_over_nothing_has_no_logits(name: str) -> None:
    x0, given = rows(name)
    for rule, at in ((us.CACHED_JOINT, None), (us.MDM, torch.zeros(len(x0), 0, dtype=torch.int64))):
        layout = us.one_block(x0, ~given, torch.zeros_like(x0)).select_where(~given)
        assert tiny(rule)(layout, at).shape == (len(x0), 0 if at is not None else layout.shape[1], 7)


DECODERS: list[tuple[Any, us.Attention]] = [
    (us.Slots(), us.MDM),
    (us.Slots(order="promising", commit=2, threshold=0.5), us.CACHED_JOINT),
    (us.Speculation(), us.CACHED_JOINT),
    (us.Blocks(2), us.CACHED_JOINT),
    (us.Walk(), us.MDM),
    (us.Walk(us.Uniform(), passes=3, rounds=2), us.MDM),
    (us.NextToken(), us.CACHED_JOINT),
]


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize(("decoder", "rule"), DECODERS, ids=lambda value: getattr(value, "name", type(value).__name__))
def test_nothing_to_say_takes_no_pass(decoder: Any, rule: us.Attention, name: str) -> None:
    x0, given = rows(name)
    if name == "no tokens" and isinstance(decoder, us.NextToken):
        return
    assert list(us.decode(tiny(rule), torch.where(given, x0, MASK), decoder=decoder)) == []

"""Every number, shape and object that a user can hand in is checked: before any work, and the message names it.

One table over the public functions of `noise`, `layout`, `decoders` and `measure`. A call is right as it stands, and
with any one argument of the table in place of its own it raises ValueError or TypeError.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from toy import Ignorant, seeded

import unspoken as us
from unspoken.decoders.walk import ancestral
from unspoken.measure.likelihood import nll_by_policy
from unspoken.measure.relation import relation_of
from unspoken.measure.schedules import even
from unspoken.noise import fused_snr

V = 5  # the mask
MDM, CACHED = Ignorant(V, us.MDM), Ignorant(V, us.CACHED_JOINT)
X0 = torch.arange(8).view(2, 4) % V
GIVEN = torch.arange(4).expand(2, 4) < 1
TOKENS = torch.where(GIVEN, X0, V)
T = torch.full((2, 4), 0.5)
WHOLE = torch.zeros(2, 4, dtype=torch.int64)
PREDICT = us.predictor(MDM, GIVEN)
DRAWN = us.Slots(temperature=1.0)
STEPS = list(DRAWN.steps(MDM, TOKENS))

COUNTS = (-1, 1.5, 2.0, math.nan, math.inf, True, "2", [2], torch.tensor(2), 2**63, 10**400)  # that are none
REALS = (math.nan, "1", [1.0], torch.tensor(1.0), True)  # that are no numbers
OBJECTS = (7, "uniform", object())
FLAGS = (None, [[True]], GIVEN[:1], GIVEN[0], GIVEN[:, :1], GIVEN[None], GIVEN.long(), GIVEN.float())
IDS = (None, [[1]], X0[0], X0[None], X0.float(), X0.int(), X0.bool())
CLEAN = (*IDS, X0 - 1, torch.full_like(X0, V), X0 + V)  # masks, and what is no id


def no(*values: Any) -> tuple[Any, ...]:
    """No count, and none of these either."""
    return (*COUNTS, *values)


def not_none(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(v for v in values if v is not None)


class Call(NamedTuple):
    """A function, arguments with which it works, and by name those with which it does not."""

    make: Callable[..., Any]
    right: dict[str, Any]
    wrong: dict[str, tuple[Any, ...]]


GENERATOR = {"generator": (7, "seed", torch.Generator)}
MODEL = {"model": (None, 7, "scdm", Ignorant)}
ROWS = {"tokens": (*IDS, TOKENS - 9, TOKENS + 1)}
DATA = {"x0": CLEAN, "given": FLAGS}
BOUNDS = {"threshold": (*REALS, -0.1, 1.1, 1e-46), "entropy_bound": (*REALS, -0.1, 1e39, 10**400, None)}
PASSES = {
    "commit": (*COUNTS[:7], 0, 2**63, torch.tensor(2), (), "12", (2, 0), (1.5,), None),
    "latents": COUNTS,
    "candidates": no(0),
    "temperature": (*REALS, -1.0, math.inf, None),
    "order": (None, 7, "sideways"),
    "latent_policy": (None, 7, "sideways"),
    "min_confidence": (*REALS, -0.1, 1.1, 1e39, None),
    "rebatch": (*REALS, -0.1, 1.0, 1 - 1e-12, math.inf, None),
    **BOUNDS,
}
SCHEDULE = {"schedule": (None, 7, "linear", us.Linear)}
WALKED = {"path": (7, "diagonal", us.Diagonal), "steps": no(0), "shown": (*REALS, -0.1, 1.0, 1 - 1e-12)}
RANK = {"rank": (7, WHOLE[:1], WHOLE[:, :1], WHOLE[:, 0], torch.zeros(1, dtype=torch.int64), WHOLE.float(), WHOLE - 1)}

CALLS: dict[str, Call] = {
    "Polynomial": Call(us.Polynomial, {}, {"power": (*REALS, 0.0, -1.0, math.inf, 1e39, 1e-46)}),
    "Absorbing": Call(us.Absorbing, {}, SCHEDULE),
    "Uniform": Call(us.Uniform, {}, SCHEDULE),
    "Hybrid": Call(us.Hybrid, {}, {"p_u": (*REALS, -0.1, 1.0, 1 - 1e-12), "gamma": (*REALS, 0.0, 2.5), **SCHEDULE}),
    "SNRMix": Call(us.SNRMix, {}, {"a": (*REALS, 1.5, -1.5), "b": (*REALS, math.inf, -1e39), **SCHEDULE}),
    "Gaussian": Call(us.Gaussian, {}, {"eta": (*REALS, -0.1, 1.1), "path": (None, 7, "cosine")}),
    "fused_snr": Call(
        fused_snr,
        {"snr": T, "decay": 0.5},
        {"decay": (*REALS, 1.0, -0.1), "clip": (*REALS, 0.0, math.inf), "snr": (T[0], T[None])},
    ),
    "Ids": Call(us.Ids, {"mask_id": 3}, {"mask_id": COUNTS}),
    "Reals": Call(us.Reals, {"width": 3}, {"width": no(0)}),
    "Pyramid": Call(us.Pyramid, {}, {"scale": (*REALS, -0.1, math.inf, 1e308, 1e38, 1e-46)}),
    "Trapezoid": Call(us.Trapezoid, {}, {"scale": (*REALS, -0.1, math.inf, 1e308)}),
    "Blockwise": Call(us.Blockwise, {}, {"size": no(0)}),
    "Sizes": Call(us.Sizes, {"sizes": (1, 2)}, {"sizes": ((), "12", 3, (2, 0), (1.5,), (True,), torch.ones(2))}),
    "BlockConstant": Call(us.BlockConstant, {}, {"size": no(0)}),
    "AlongPath": Call(us.AlongPath, {}, {"path": (None, 7, us.Diagonal)}),
    "Mixture": Call(us.Mixture, {}, {"share": (*REALS, -0.1, 1.1), "first": (None, us.Shared), "second": (7,)}),
    **{
        f"{type(times).__name__}.draw": Call(times.draw, {"given": GIVEN}, {"given": not_none(FLAGS[4:])[2:]})
        for times in (
            us.Shared(),
            us.Independent(),
            us.BlockConstant(2),
            us.PrefixClean(),
            us.AlongPath(),
            us.Mixture(),
        )
    },
    "Path.grid": Call(us.Diagonal().grid, {"steps": 3, "given": GIVEN}, {"steps": no(0), "given": FLAGS[6:], **RANK}),
    "Layout": Call(
        us.Layout,
        {name: WHOLE for name in ("token", "position", "order", "horizon", "block", "document")},
        {
            **{
                name: (WHOLE[:1], WHOLE[:, :1], WHOLE.float(), WHOLE[None])
                for name in ("position", "order", "document")
            },
            "token": (WHOLE[0], WHOLE.float()),
            "time": (T[:1], T[:, :1], WHOLE),
        },
    ),
    "one_block": Call(
        us.one_block,
        {"tokens": TOKENS, "unsaid": ~GIVEN, "order": WHOLE},
        {"unsaid": FLAGS, "tokens": IDS, "present": not_none(FLAGS), "order": (WHOLE[0, :2], WHOLE.float())},
    ),
    "random_order": Call(
        us.random_order, {"tokens": TOKENS, "unsaid": ~GIVEN, "given": GIVEN}, {"unsaid": FLAGS, "given": FLAGS}
    ),
    "Question": Call(
        us.Question,
        {"at": WHOLE, "target": WHOLE, "weight": T, "slot": WHOLE},
        {
            **{name: (WHOLE[:1], WHOLE[:, :1], WHOLE[0], WHOLE[..., None]) for name in ("weight", "slot")},
            "target": (WHOLE[:1], WHOLE[:, :1], WHOLE[0]),
            "port": (None, 7, "codes"),
        },
    ),
    "Slots": Call(us.Slots, {}, PASSES),
    "Commit": Call(us.Commit, {"most": 4}, {"rule": (7, "all"), **BOUNDS}),
    "Blocks": Call(us.Blocks, {}, {"size": no(0), "commit": no(0)}),
    "Speculation": Call(us.Speculation, {}, {"latents": COUNTS, "drafts": COUNTS}),
    "Walk": Call(
        us.Walk,
        {},
        {"passes": COUNTS, "rounds": COUNTS, "process": (None, *OBJECTS, us.Uniform), "path": (*OBJECTS, us.Diagonal)},
    ),
    "Order": Call(
        us.Order, {"name": "a", "before": print}, {"name": (None, 7), "before": (None, 7), "after": (7, "best")}
    ),
    "LatentPolicy": Call(us.LatentPolicy, {"name": "a", "rank": print}, {"name": (None, 7), "rank": (None, 7)}),
    "attended": Call(
        us.attended,
        {"relation": torch.ones(4, 4)},
        {"relation": (None, [[1.0]], T, T[0], torch.full((4, 4), math.nan))},
    ),
    "decode": Call(
        us.decode,
        {"model": MDM, "tokens": TOKENS},
        {
            "decoder": (7, "slots", us.Slots),
            "present": (1, [1], GIVEN[:1], GIVEN[:, :1], GIVEN[0], GIVEN.float()),
            **PASSES,
            **MODEL,
            **ROWS,
            **GENERATOR,
        },
    ),
    "next_tokens": Call(us.next_tokens, {"model": CACHED, "tokens": TOKENS}, {**MODEL, **ROWS}),
    "speculate": Call(
        us.speculate, {"model": CACHED, "tokens": TOKENS}, {"latents": COUNTS, "drafts": COUNTS, **MODEL, **ROWS}
    ),
    "block_by_block": Call(
        us.block_by_block,
        {"model": CACHED, "tokens": TOKENS, "size": 2},
        {"size": no(0), "commit": no(0), **MODEL, **ROWS},
    ),
    "denoise": Call(
        us.denoise,
        {"model": MDM, "process": us.Absorbing(), "tokens": TOKENS, "steps": 3},
        {
            "process": (None, *OBJECTS, us.Uniform),
            "remask": (*REALS, -0.1, 1.1),
            "guidance": (*REALS, math.inf, 1e39),
            **WALKED,
            **MODEL,
            **ROWS,
            **GENERATOR,
        },
    ),
    "walk": Call(
        us.walk,
        {"predict": PREDICT, "advance": ancestral(us.Absorbing(), V), "z": TOKENS, "given": GIVEN, "steps": 3},
        {"predict": (None,), "advance": (7,), "z": (None, 7), "given": FLAGS, **WALKED, **RANK, **GENERATOR},
    ),
    "correct": Call(
        us.correct,
        {"model": MDM, "tokens": X0, "given": GIVEN},
        {
            "rounds": COUNTS,
            "commit": no(0),
            "patience": no(0),
            "temperature": PASSES["temperature"],
            "time": (*REALS, -0.1, 1.1),
            "given": FLAGS,
            "tokens": CLEAN,
            **MODEL,
            **GENERATOR,
        },
    ),
    "predictor": Call(us.predictor, {"model": MDM, "given": GIVEN}, {"given": FLAGS[5:], "kind": (None, "prior")}),
    "guided": Call(
        us.guided,
        {"predict": PREDICT, "given": GIVEN, "scale": 2.0, "blind": TOKENS},
        {"scale": (*REALS, math.inf, 1e39), "blind": IDS},
    ),
    "nelbo": Call(
        us.nelbo,
        {"model": MDM, "process": us.Absorbing(), "x0": X0, "given": GIVEN},
        {"process": (None, *OBJECTS, us.Uniform(), us.Gaussian()), "draws": no(0), **DATA, **MODEL, **GENERATOR},
    ),
    "nelbo_along": Call(
        us.nelbo_along,
        {"predict": PREDICT, "process": us.Uniform(), "x0": X0, "given": GIVEN, "mask_id": V},
        {
            "predict": (None, 7),
            "process": (None, *OBJECTS, us.Uniform),
            "mask_id": COUNTS,
            "draws": no(0),
            "ends": (None, 0.5, (0.0, math.nan), (0.5, 0.5), (0.0, 0.5, 1.0), (0.0, "1")),
            "path": WALKED["path"],
            **DATA,
            **RANK,
            **GENERATOR,
        },
    ),
    "nll_by_latents": Call(
        us.nll_by_latents,
        {"model": MDM, "x0": X0, "given": GIVEN, "latents": [0, 2]},
        {"latents": (2, "2", [-1], [1.5], [True], [2**63]), "draws": no(0), **DATA, **MODEL, **GENERATOR},
    ),
    "nll_by_policy": Call(
        nll_by_policy,
        {
            **{"model": MDM, "x0": X0, "given": GIVEN, "counts": [1], "generator": seeded()},
            "policy": us.LatentPolicy("first", lambda around: around.before),
        },
        {"counts": (2, [-1], [1.5]), "draws": no(0), **DATA},
    ),
    "profile_losses": Call(
        us.profile_losses,
        {"model": MDM, "x0": X0, "given": GIVEN},
        {"latents": COUNTS, "draws": no(0), **DATA, **MODEL, **GENERATOR},
    ),
    "parallel_nll": Call(
        us.parallel_nll,
        {"model": MDM, "x0": X0, "given": GIVEN, "sizes": (1, 2)},
        {"latents": COUNTS, "sizes": (3, "12", (1, 1), (1.5, 1.5), (4, -1)), **DATA, **MODEL, **GENERATOR},
    ),
    "sampler_losses": Call(
        us.sampler_losses,
        {"model": MDM, "x0": X0, "given": GIVEN},
        {"latents": COUNTS, "draws": no(0), **DATA, **MODEL, **GENERATOR},
    ),
    "pseudo_cost": Call(
        us.pseudo_cost,
        {"model": MDM, "decoder": DRAWN, "steps": STEPS},
        {"decoder": OBJECTS, "steps": (None, 7, (), STEPS[0], [7], STEPS[1:]), **MODEL, **GENERATOR},
    ),
    "SamplerProfile": Call(
        us.SamplerProfile,
        {"h": ((2.0, 1.0), (1.5,))},
        {"h": ((), "21", 2.0, (2.0, 1.0), ((2.0, 1.0), (1.5, 1.0)), ((math.nan,),), ((math.inf,),))},
    ),
    "SamplerProfile.fitted": Call(
        us.SamplerProfile.fitted,
        {"losses": torch.ones(3, 2, 1)},
        {"losses": (None, torch.ones(3, 2), torch.ones(0, 2, 1), torch.full((3, 2, 1), math.nan))},
    ),
    "InformationProfile": Call(
        us.InformationProfile, {"h": (2.0, 1.0)}, {"h": ((), "21", 2.0, (1.0, 2.0), (math.nan,), (math.inf, 1.0))}
    ),
    "InformationProfile.fitted": Call(
        us.InformationProfile.fitted,
        {"losses": torch.ones(3, 2)},
        {"losses": (None, torch.ones(3), torch.ones(0, 2), torch.full((3, 2), math.nan))},
    ),
    "InformationProfile.schedule": Call(us.InformationProfile((2.0, 1.0)).schedule, {"steps": 2}, {"steps": no(0, 3)}),
    "InformationProfile.fewest": Call(
        us.InformationProfile((2.0, 1.0)).fewest, {"overhead": 2}, {"overhead": (*REALS, -1.0, math.inf)}
    ),
    "InformationProfile.lower_bound": Call(
        us.InformationProfile((2.0, 1.0)).lower_bound, {"most": 2}, {"most": no(0, 1, 3)}
    ),
    "InformationProfile.overhead": Call(
        us.InformationProfile((2.0, 1.0)).overhead, {"sizes": (1, 1)}, {"sizes": (2, "2", (), (1,), (2.0,))}
    ),
    "even": Call(even, {"length": 4, "steps": 2}, {"length": no(0), "steps": no(0, 5)}),
    "relation_of": Call(
        relation_of, {"model": MDM, "x0": X0, "given": GIVEN, "draws": 1}, {"draws": no(0), **DATA, **GENERATOR}
    ),
}
UNCALLED = {"relation_of", "Order", "LatentPolicy"}  # those whose right call needs a trunk, or means nothing


def cases() -> Iterator[Any]:
    for name, call in CALLS.items():
        for argument, values in call.wrong.items():
            for number, _ in enumerate(values):
                yield pytest.param(name, argument, number, id=f"{name}-{argument}-{number}")


@pytest.mark.parametrize("name", CALLS)
def test_the_calls_of_the_table_are_right_as_they_stand(name: str) -> None:
    call = CALLS[name]
    if name not in UNCALLED:
        made = call.make(**call.right)
        if isinstance(made, Iterator):
            assert list(made)


@pytest.mark.parametrize(("name", "argument", "number"), cases())
def test_what_is_wrong_is_refused_by_name_before_any_pass(name: str, argument: str, number: int) -> None:
    call = CALLS[name]
    wrong = call.wrong[argument][number]
    seen = len(MDM.seen), len(CACHED.seen)
    with pytest.raises((ValueError, TypeError)) as refusal:
        call.make(**{**call.right, argument: wrong})
    message = str(refusal.value)
    named = {"tokens": "token", "blind": "blind", "scale": "scale|guidance", "counts": "counts", "relation": "relation"}
    assert any(word in message for word in named.get(argument, argument).split("|")), message
    assert len(message) < 400 and raised_here(refusal), message
    assert (len(MDM.seen), len(CACHED.seen)) == seen


def raised_here(refusal: Any) -> bool:
    """Whether the package itself raised, not torch or Python."""
    return "unspoken" in refusal.traceback[-1].path.parts


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (us.Slots, "cache", "no"),
        (us.Slots, "stale", 1),
        (us.NextToken, "cache", None),
        (us.Speculation, "drafts", 1.5),
        (us.Blocks, "size", True),
        (us.MaskedDiffusion, "bound", "yes"),
        (us.BlockDiffusion, "size", 2.0),
        (us.Denoising, "most", "1"),
        (us.MultiToken, "window", 1.5),
        (us.MultiToken, "weight", "1"),
        (us.MuToR, "reach", 2**70),
        (partial(us.Codes, dims=2, placeholder=6), "levels", 4.0),
        (us.Vectors, "width", "2"),
    ],
    ids=[f"{i}" for i in range(13)],
)
def test_a_field_of_another_type_is_refused_by_name(make: Any, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name}="):
        make(**{name: value})

"""What a model is trained on is what its own decoder computes, pass by pass, to the last digit (float64, 1e-9).

The decoder is the real one, with its cache where there is one, and is made to say the clean tokens. Where training and
decoding would differ, the objective refuses the attention, and here is why.
"""

import json
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor
from toy import EXACT, Spy, ragged_clean, seeded, tiny

from unspoken.decoders.autoregressive import NextToken
from unspoken.decoders.blocks import Blocks
from unspoken.decoders.decode import Decoders, read_decoder
from unspoken.decoders.denoise import Walk
from unspoken.decoders.slots import Slots
from unspoken.decoders.step import Step, last
from unspoken.layout.attention import ATTENTIONS, CACHED_JOINT, MDM
from unspoken.layout.entries import Layout
from unspoken.layout.packing import SUCCESSOR, Clean, ask_masks, blocks, every_start, left_to_right
from unspoken.model.network import Model
from unspoken.noise import Absorbing, Hybrid, Process
from unspoken.record import to_record
from unspoken.training.objective import (
    Autoencoding,
    BlockDiffusion,
    Denoising,
    MaskedDiffusion,
    MultiToken,
    MuToR,
    NextTokenPrediction,
    Objective,
    Objectives,
    QueryCTC,
    Teacherless,
    ThoughtDiffusion,
)

MASK = 6


def own(objective: Objective, process: Process | None = None) -> Decoders:
    return read_decoder(objective.decoder(process or Absorbing()))


def forced(model: Model, x0: Tensor, given: Tensor, decoder: Decoders) -> tuple[Spy, list[Step]]:
    """Has decoded `x0`; `passes` holds a pass for each threshold."""
    place = left_to_right(x0, given).place

    def target(layout: Layout, at: Tensor, number: int) -> Tensor:
        position = layout.position.gather(1, at)
        return x0.gather(1, place[: len(at), number : number + 1] if isinstance(decoder, NextToken) else position)

    spy = Spy(model, target)
    steps = list(decoder.steps(spy, torch.where(given, x0, MASK), predict_latents=isinstance(decoder, Slots)))
    assert torch.equal(steps[-1].tokens, x0)
    # Rows that are done leave, and those of `ragged_clean` are done from the last one on: the others keep their place.
    assert all(torch.equal(step.rows, torch.arange(len(step.rows))) for step in steps)
    return spy, steps


TRAINED: dict[str, tuple[Objective, list[str]]] = {
    "next token": (NextTokenPrediction(), ["any-order", "cached-joint", "cached-alone"]),
    "registers": (MuToR(reach=3), ["any-order", "cached-joint", "cached-alone"]),
    "one slot": (MultiToken(window=1), ["any-order", "cached-joint", "cached-alone"]),
    "three slots": (MultiToken(window=3), ["any-order", "cached-joint", "cached-alone"]),
    "all slots": (MultiToken(next_token=0.3), ["any-order", "cached-joint", "cached-alone"]),
    "teacherless": (Teacherless(), ["cached-joint", "cached-alone", "mdm", "sidm", "joint"]),
    "one prefix": (MultiToken(prefixes=1), list(ATTENTIONS)),
}


@pytest.mark.parametrize(("name", "rule"), [(name, rule) for name, (_, rules) in TRAINED.items() for rule in rules])
@torch.no_grad()
def test_training_is_what_the_own_decoder_computes(name: str, rule: str) -> None:
    """What training asks at each threshold and slot, its decoder computes at that pass: the same logits."""
    objective, model = TRAINED[name][0], tiny(ATTENTIONS[rule])
    x0, given = ragged_clean()
    objective.check(ATTENTIONS[rule])
    packed = objective.pack(Absorbing(), x0, given, MASK, seeded())
    answers, (spy, steps) = model(packed.layout, packed.one.at), forced(model, x0, given, own(objective))
    asked = 0
    for row in range(len(x0)):
        turns = [i for i in range(7) if not given[row, i]]
        before = [int(given[row].nonzero().max()), *turns]
        for column in packed.one.real[row].nonzero()[:, 0].tolist():
            slot, position = (
                int(packed.one.slot[row, column]),
                int(packed.layout.position[row, packed.one.at[row, column]]),
            )
            if (slot == SUCCESSOR) != isinstance(own(objective), NextToken):
                continue  # asked beside, and not decoded by: registers, and the share of next tokens
            start = before.index(position) if slot == SUCCESSOR else turns.index(position) - slot
            layout, at, logits = spy.passes[start]
            there = (layout.position[row, at[row]] == position) & steps[start].real[row, : at.shape[1]]
            there &= layout.said[row, at[row]] if slot == SUCCESSOR else layout.unsaid[row, at[row]]
            (where,) = there.nonzero()[:, 0].tolist()
            assert torch.allclose(answers[row, column], logits[row, where], **EXACT)
            asked += 1
    # Of 6, 4 and 1 free tokens: each, or each of so many slots from each, or the slots from one threshold a row.
    # One threshold a row: all that is left there. What a block sees tells where it begins.
    first = [
        int(its[its > 0].amax()) if bool((its > 0).any()) else 0 for its in packed.layout.horizon * packed.layout.unsaid
    ]
    left = sum(n - (seen - 1) for n, seen in zip((6, 4, 1, 0), first, strict=True) if seen)
    several = {"three slots": 15 + 9 + 1, "all slots": 21 + 10 + 1, "one prefix": left}
    assert asked == several.get(name, 6 + 4 + 1) and (name != "one prefix" or 3 <= asked <= 11)


@pytest.mark.parametrize("rule", ["any-order", "cached-joint", "cached-alone"])
@torch.no_grad()
def test_training_in_random_order_is_what_the_own_decoder_computes(rule: str) -> None:
    """One slot, packed along the order that the decoder happened to take: the same logits at every turn."""
    model, (x0, given) = tiny(ATTENTIONS[rule]), ragged_clean()
    spy, steps = forced(model, x0, given, own(MultiToken(window=1, order="random")))
    when = torch.stack([step.committed for step in steps]).int().argmax(0)
    clean = Clean(x0, given, (when + 99 * given).argsort(1))
    packed = ask_masks(blocks(clean, every_start(clean), torch.tensor([[0]]), MASK), x0)
    answers, asked = model(packed.layout, packed.one.at), 0
    for row, column in packed.one.real.nonzero().tolist():
        start = int(when[row, packed.layout.position[row, packed.one.at[row, column]]])
        layout, at, logits = spy.passes[start]
        assert layout.position[row, at[row, 0]] == packed.layout.position[row, packed.one.at[row, column]]
        assert torch.allclose(answers[row, column], logits[row, 0], **EXACT)
        asked += 1
    assert asked == 11 and not torch.equal(clean.place, left_to_right(x0, given).place)


@pytest.mark.parametrize("rule", ["scdm", "any-order"])
@torch.no_grad()
def test_an_ordered_teacherless_model_would_be_trained_on_what_it_never_sees(rule: str) -> None:
    """The refusal is needed: candidates that are said at once do not see each other, and its slots do."""
    objective, model, (x0, given) = Teacherless(), tiny(ATTENTIONS[rule]), ragged_clean()
    with pytest.raises(ValueError, match="take cached-joint"):
        objective.check(ATTENTIONS[rule])
    packed = objective.pack(Absorbing(), x0, given, MASK)
    (step,) = own(objective).steps(model, torch.where(given, x0, MASK))
    mine = model(packed.layout, packed.one.at).softmax(-1).amax(-1)
    theirs = step.confidence.gather(1, packed.layout.position.gather(1, packed.one.at))
    assert (mine - theirs)[packed.one.real].abs().max() > 1e-3


RIGHT = Slots(order="left_to_right", latent_policy="next")
OWN: list[tuple[Objective, Process, Decoders]] = [
    (MaskedDiffusion(), Absorbing(), Slots()),
    (MaskedDiffusion(bound=True), Absorbing(), Slots()),
    (NextTokenPrediction(), Absorbing(), NextToken()),
    (MuToR(), Absorbing(), NextToken()),
    (MultiToken(), Absorbing(), RIGHT),
    (MultiToken(window=1), Absorbing(), replace(RIGHT, latents=0)),
    (MultiToken(window=4, weight=0.0), Absorbing(), replace(RIGHT, latents=3)),
    (MultiToken(order="random"), Absorbing(), Slots(order="uniform", latent_policy="next")),
    (MultiToken(order="random", window=1), Absorbing(), Slots(order="uniform", latent_policy="next", latents=0)),
    (Teacherless(), Absorbing(), replace(RIGHT, commit=2**20)),
    (BlockDiffusion(size=3), Absorbing(), Blocks(size=3)),
    (Denoising(), Absorbing(), Walk()),  # at the times it was trained on
    (Denoising(), Hybrid(0.3), Walk(Hybrid(0.3))),
]


@pytest.mark.parametrize(("objective", "process", "decoder"), OWN, ids=str)
def test_an_objective_says_its_decoder(objective: Objective, process: Process, decoder: Decoders) -> None:
    """Its record reads back into the union, through JSON too, and decodes under an attention that it trains."""
    assert own(objective, process) == decoder
    assert read_decoder(json.loads(json.dumps(objective.decoder(process)))) == decoder
    assert read_decoder(json.loads(json.dumps(to_record(decoder)))) == decoder
    x0, given = ragged_clean()
    tokens, model = torch.where(given, x0, MASK), tiny(MDM if isinstance(decoder, Walk) else CACHED_JOINT)
    objective.check(model.attention)
    said = last(decoder.steps(model, tokens), tokens)
    assert (said != MASK).all() and torch.equal(said[given], x0[given])


def test_every_objective_is_here() -> None:
    elsewhere = {
        Autoencoding,
        ThoughtDiffusion,
        QueryCTC,
    }  # tests/test_ladir.py and tests/test_queries.py have their laws
    assert {type(objective) for objective, _, _ in OWN} | elsewhere == set(get_args(Objectives))

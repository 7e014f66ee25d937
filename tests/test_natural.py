"""What a model is trained on is what its natural decoding computes, pass by pass, to the last digit (float64, 1e-9).

The decoder is the real one, with its cache where there is one, and is made to say the clean tokens. Where training and
decoding would differ, the objective refuses the attention, and here is why.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toy import EXACT, ragged_clean, seeded, tiny
from unspoken.decoders.decoding import Decoding, natural

from unspoken.decoders.step import Step, last
from unspoken.layout.attention import ATTENTIONS, CACHED_JOINT
from unspoken.layout.entries import Layout
from unspoken.layout.packing import NEXT, Clean, ask_masks, blocks, every_start, left_to_right
from unspoken.model.cache import Cache
from unspoken.model.denoiser import Model
from unspoken.noise import Absorbing
from unspoken.training.objective import (
    BlockDiffusion,
    LatentBlocks,
    Masked,
    NextTokenPrediction,
    Objective,
    Registers,
    Teacherless,
)

MASK = 6


class Forced:
    """A model whose decoder says the clean tokens whatever it thinks; keeps what it thought, and of which entries.

    target: from the entries asked and their layout to the tokens that are to be said, `[batch, m]`.
    """

    def __init__(self, model: Model, target: Callable[[Layout, Tensor, int], Tensor]) -> None:
        self.model, self.target, self.thought = model, target, []
        self.attention, self.mask_id, self.vocab_size = model.attention, model.mask_id, model.vocab_size

    def __call__(self, layout: Layout, at: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        assert at is not None
        logits = self.model(layout, at, cache)
        said = self.target(layout, at, len(self.thought))
        self.thought.append((layout, at, logits))
        return torch.nn.functional.one_hot(said, self.vocab_size).double()

    def new_cache(self) -> Cache | None:
        return self.model.new_cache()


def forced(model: Model, x0: Tensor, given: Tensor, decoding: Decoding) -> tuple[Forced, list[Step]]:
    """Has decoded `x0`; `thought` holds a pass for each threshold."""
    place = left_to_right(x0, given).place

    def target(layout: Layout, at: Tensor, number: int) -> Tensor:
        position = layout.position.gather(1, at)
        return x0.gather(1, place[:, number : number + 1] if decoding.by == "next_token" else position)

    spy = Forced(model, target)
    steps = list(decoding.steps(spy, torch.where(given, x0, MASK), predict_latents=decoding.by == "slots"))
    assert torch.equal(steps[-1].tokens, x0)
    # Rows that are done leave, and those of `ragged_clean` are done from the last one on: the others keep their place.
    assert all(torch.equal(step.rows, torch.arange(len(step.rows))) for step in steps)
    return spy, steps


TRAINED: dict[str, tuple[Objective, list[str]]] = {
    "next token": (NextTokenPrediction(), ["any-order", "cached-joint", "cached-alone"]),
    "registers": (Registers(reach=3), ["any-order", "cached-joint", "cached-alone"]),
    "one slot": (LatentBlocks(window=1), ["any-order", "cached-joint", "cached-alone"]),
    "three slots": (LatentBlocks(window=3), ["any-order", "cached-joint", "cached-alone"]),
    "all slots": (LatentBlocks(next_token=0.3), ["any-order", "cached-joint", "cached-alone"]),
    "teacherless": (Teacherless(), ["cached-joint", "cached-alone", "mdm", "sidm"]),
    "one prefix": (LatentBlocks(prefixes=1), list(ATTENTIONS)),
}


@pytest.mark.parametrize(("name", "rule"), [(name, rule) for name, (_, rules) in TRAINED.items() for rule in rules])
@torch.no_grad()
def test_training_is_natural_decoding(name: str, rule: str) -> None:
    """What training asks at each threshold and slot, `natural` decoding computes at that pass: the same logits."""
    objective, model = TRAINED[name][0], tiny(ATTENTIONS[rule])
    x0, given = ragged_clean()
    objective.check(ATTENTIONS[rule])
    packed = objective.pack(Absorbing(), x0, given, MASK, seeded())
    answers, (spy, steps) = model(packed.layout, packed.at), forced(model, x0, given, natural(objective))
    asked = 0
    for row in range(len(x0)):
        turns = [i for i in range(7) if not given[row, i]]
        before = [int(given[row].nonzero().max()), *turns]
        for column in packed.real[row].nonzero()[:, 0].tolist():
            slot, position = int(packed.slot[row, column]), int(packed.layout.position[row, packed.at[row, column]])
            if (slot == NEXT) != (natural(objective).by == "next_token"):
                continue  # asked beside, and not decoded by: registers, and the share of next tokens
            start = before.index(position) if slot == NEXT else turns.index(position) - slot
            layout, at, logits = spy.thought[start]
            there = (layout.position[row, at[row]] == position) & steps[start].real[row, : at.shape[1]]
            there &= layout.said[row, at[row]] if slot == NEXT else layout.unsaid[row, at[row]]
            (where,) = there.nonzero()[:, 0].tolist()
            assert torch.allclose(answers[row, column], logits[row, where], **EXACT)
            asked += 1
    assert asked == {"one prefix": asked, "three slots": 15 + 9 + 1, "all slots": 21 + 10 + 1}.get(name, 6 + 4 + 1)
    assert asked >= 3


@pytest.mark.parametrize("rule", ["any-order", "cached-joint", "cached-alone"])
@torch.no_grad()
def test_training_in_random_order_is_natural_decoding(rule: str) -> None:
    """One slot, packed along the order that the decoder happened to take: the same logits at every turn."""
    model, (x0, given) = tiny(ATTENTIONS[rule]), ragged_clean()
    spy, steps = forced(model, x0, given, natural(LatentBlocks(window=1, order="random")))
    when = torch.stack([step.committed for step in steps]).int().argmax(0)
    clean = Clean(x0, given, (when + 99 * given).argsort(1))
    packed = ask_masks(blocks(clean, every_start(clean), torch.tensor([[0]]), MASK), x0)
    answers, asked = model(packed.layout, packed.at), 0
    for row, column in packed.real.nonzero().tolist():
        start = int(when[row, packed.layout.position[row, packed.at[row, column]]])
        layout, at, logits = spy.thought[start]
        assert layout.position[row, at[row, 0]] == packed.layout.position[row, packed.at[row, column]]
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
    (step,) = natural(objective).steps(model, torch.where(given, x0, MASK))
    mine = model(packed.layout, packed.at).softmax(-1).amax(-1)
    theirs = step.confidence.gather(1, packed.layout.position.gather(1, packed.at))
    assert (mine - theirs)[packed.real].abs().max() > 1e-3


NATURAL: list[tuple[Objective, Decoding]] = [
    (Masked(), Decoding()),
    (Masked(bound=True), Decoding()),
    (NextTokenPrediction(), Decoding(by="next_token")),
    (Registers(), Decoding(by="next_token")),
    (LatentBlocks(), Decoding(order="left_to_right", latent_policy="next")),
    (LatentBlocks(window=1), Decoding(order="left_to_right", latent_policy="next", latents=0)),
    (LatentBlocks(window=4, weight=0.0), Decoding(order="left_to_right", latent_policy="next", latents=3)),
    (LatentBlocks(order="random"), Decoding(order="uniform", latent_policy="next")),
    (LatentBlocks(order="random", window=1), Decoding(order="uniform", latent_policy="next", latents=0)),
    (Teacherless(), Decoding(order="left_to_right", latent_policy="next", commit=2**20)),
    (BlockDiffusion(size=3), Decoding(by="blocks", block=3)),
]


@pytest.mark.parametrize(("objective", "decoding"), NATURAL, ids=lambda x: str(x))
def test_natural(objective: Objective, decoding: Decoding) -> None:
    assert natural(objective) == decoding
    x0, given = ragged_clean()
    tokens = torch.where(given, x0, MASK)
    assert (last(decoding.steps(tiny(CACHED_JOINT), tokens), tokens) != MASK).all()

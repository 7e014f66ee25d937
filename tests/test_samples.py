"""Laws of what is told of samples: their entropy, and the exact likelihood of a model that reads from the left."""

import math
from dataclasses import replace

import pytest
import torch
from toy import TRUNK

from unspoken.decoders.decode import decoder_of
from unspoken.layout.attention import ANY_ORDER, CACHED_ALONE, CACHED_JOINT, MDM, Attention
from unspoken.layout.packing import left_to_right
from unspoken.measure.samples import nll_from_left, reader, unigram_entropy
from unspoken.tasks import Text
from unspoken.training.config import Train, Trunk
from unspoken.training.models import new_denoiser
from unspoken.training.objective import MaskedDiffusion, MultiToken, MuToR, NextTokenPrediction, Objective, Objectives

TEXT = Text(length=8)


def test_unigram_entropy_by_hand() -> None:
    """Of what is said: four tokens alike; two and two; four; one."""
    tokens = torch.tensor([[1, 1, 1, 1], [0, 2, 0, 2], [0, 1, 2, 3], [0, 1, 2, 3]])
    said = torch.ones(4, 4, dtype=torch.bool)
    said[3, 1:] = False
    expected = torch.tensor([0.0, math.log(2), math.log(4), 0.0], dtype=torch.float64)
    torch.testing.assert_close(unigram_entropy(tokens, said, 5), expected)


@pytest.mark.parametrize(
    ("attention", "objective"),
    [
        (CACHED_ALONE, MultiToken(window=1)),
        (CACHED_JOINT, MultiToken(window=3)),
        (CACHED_JOINT, MultiToken()),
        (CACHED_JOINT, MultiToken(weight=0.5, next_token=0.5)),
        (CACHED_ALONE, NextTokenPrediction()),
        (CACHED_ALONE, MuToR()),
    ],
)
def test_what_a_reader_tells_is_a_chain_of_what_its_decoder_predicts(attention, objective) -> None:
    """Token by token: the probability of the sample's own token where the decoder stands before it."""
    config = Train(replace(TEXT, mode="prefix", share=0.25), attention, Trunk(1, 16, 2, init=0.5), objective=objective)
    model = new_denoiser(config).eval()
    test = config.task.sample("test", 3)
    told, total = nll_from_left(model, config, test), torch.zeros(3, dtype=torch.float64)
    clean = left_to_right(test.x0, test.given)
    for index in range(6):
        place = clean.place[:, index]
        before = torch.arange(8) < place[:, None]
        prompt = torch.where(before, test.x0, config.task.mask_id)
        total -= _probability(model, prompt, test.x0.gather(1, place[:, None])).log()
    torch.testing.assert_close(told, total / 6, rtol=1e-4, atol=1e-5)


def _probability(model, prompt: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """`[n]` of the token that the model's own decoder would say next."""
    layouts = []
    forward = model.forward

    def watched(layout, at=None, cache=None):
        layouts.append(forward(layout, at, cache))
        return layouts[-1]

    model.forward = watched
    try:
        decoder = decoder_of(model)
        next(decoder.steps(model, prompt))
    finally:
        del model.forward
    return layouts[0][:, 0].softmax(-1).gather(1, token)[:, 0].double()


def test_who_reads_from_the_left() -> None:
    def of(attention: Attention, objective: Objectives) -> Objective | None:
        return reader(Train(TEXT, attention, TRUNK, objective=objective))

    assert of(MDM, MaskedDiffusion()) is None
    assert of(MDM, MultiToken(prefixes=1)) is None  # its context sees what comes after it
    assert of(ANY_ORDER, MultiToken(order="random")) is None
    assert of(CACHED_JOINT, MuToR()) == NextTokenPrediction()
    assert of(CACHED_JOINT, MultiToken(4, prefixes=1)) == MultiToken(4, weight=0.0)
    config = Train(TEXT, MDM, TRUNK)
    with pytest.raises(ValueError, match="likelihood is a bound"):
        nll_from_left(new_denoiser(config), config, TEXT.sample("test", 1))

"""Second thoughts: a network trained on wrong tokens says again, of tokens that are all said, those that it doubts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import check_answers, check_tokens
from unspoken.decoders.walk import DenoisingStep, draw
from unspoken.model.drawing import tempered
from unspoken.model.network import Model
from unspoken.model.prediction import Prediction, predictor


@torch.no_grad()
def correct(
    model: Model,
    tokens: Tensor,
    given: Tensor,
    *,
    rounds: int = 128,
    commit: int = 1,
    temperature: float = 0.1,
    time: float = 0.01,
    patience: int = 32,
    generator: torch.Generator | None = None,
) -> Iterator[DenoisingStep[Prediction]]:
    """GIDD's self-correction (arXiv 2503.04482, algorithm 1) for a whole batch; yields every round.

    In a round each token is drawn again from the prediction that leaves it out; of those that come out otherwise, the
    `commit` most probable are taken. A row rests when nothing changes, or when the share of tokens that are the
    network's first choice has not grown for `patience` rounds. Mode-seeking: look at the entropy of what comes out.

    tokens: `[batch, seq]`, all said; given: `[batch, seq]` bool, never changed.
    temperature: of the draws; 0 takes the likeliest. time: at which the tokens are shown to the network.
    generator: every random choice; None = a fresh one of seed 0.
    """
    check_tokens(model, tokens)
    checks.tensor("given", given, torch.bool, tokens.shape)
    if bool((tokens == model.mask_id).any()):
        raise ValueError("there are masks among the tokens: second thoughts are for what is said; decode first")
    for name, value, least in (("rounds", rounds, 0), ("commit", commit, 1), ("patience", patience, 1)):
        checks.count(name, value, least)
    checks.temperature(temperature)
    checks.number("time", time, 0, 1, "a time in [0, 1]")
    checks.seeded(generator)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    return _rounds(model, tokens, given, rounds, commit, temperature, time, patience, generator)


@torch.no_grad()
def _rounds(
    model: Model,
    z: Tensor,
    given: Tensor,
    rounds: int,
    commit: int,
    temperature: float,
    time: float,
    patience: int,
    generator: torch.Generator | None,
) -> Iterator[DenoisingStep[Prediction]]:
    """The loop of `correct`, whose arguments are checked. Rows are as alone: one that rests is not touched again."""
    predict = predictor(model, given)
    t = torch.where(given, 0.0, torch.full(z.shape, time, device=z.device))
    best = torch.full((len(z),), -1.0, device=z.device)
    idle, going = torch.zeros_like(best), torch.ones_like(best, dtype=torch.bool)
    for index in range(rounds):
        if not bool(going.any()):
            return
        prediction = predict(z, t)
        check_answers(index, prediction.logits.amax(-1) * 0)  # nan where that is infinite
        sure = ((prediction.logits.argmax(-1) == z) | given).float().mean(1)
        idle = torch.where(sure > best, 0, idle + 1)
        best = torch.maximum(best, sure)
        going = going & (idle < patience)
        if not bool(going.any()):
            return
        moved = torch.where(going[:, None], _second_thoughts(prediction, z, given, commit, temperature, generator), z)
        changed = moved != z
        going = going & changed.any(1)
        z = moved
        yield DenoisingStep(index, z, t, changed, prediction)


def _second_thoughts(
    prediction: Prediction,
    z: Tensor,
    given: Tensor,
    commit: int,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    """The tokens after the `commit` best replacements of each row."""
    p = tempered(prediction.logits, temperature) if temperature else prediction.logits.softmax(-1)
    other = draw(p, generator) if temperature else p.argmax(-1)
    score = p.gather(2, other[..., None])[..., 0] * ((other != z) & ~given)
    value, at = score.topk(min(commit, z.shape[1]), dim=1)
    return z.scatter(1, at, torch.where(value > 0, other.gather(1, at), z.gather(1, at)))

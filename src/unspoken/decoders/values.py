"""What a model tells beside logits: values, states that the next pass reads, and what its predictor foresees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import check_tokens
from unspoken.decoders.state import DecodingState
from unspoken.layout.entries import Layout, one_block
from unspoken.layout.packing import Clean, left_to_right
from unspoken.model.cache import Cache
from unspoken.model.denoiser import Denoiser
from unspoken.model.network import Model
from unspoken.model.ports import Codes, Port, Vectors
from unspoken.model.posterior import Posterior
from unspoken.model.shift import answering
from unspoken.noise.space import is_unknown, unpaired


def port_of(model: Model) -> Port | None:
    """The port of a model whose tokens are values, None where they are ids."""
    return getattr(model, "port", None)


def with_port(model: Model) -> Denoiser:
    """The model, known to have a port."""
    assert isinstance(model, Denoiser) and model.port is not None
    return model


def says_values(model: Model) -> bool:
    """Whether what a model says are values: it has a port, and one that predicts."""
    port = port_of(model)
    return port is not None and not (isinstance(port, Vectors) and port.head == "none")


def split_prompt(model: Model, prompt: Tensor) -> tuple[Tensor, Tensor | None]:
    """A prompt as tokens `[batch, seq]`, the mask id where unknown, and its values `[batch, seq, width]`, or None.

    prompt: ids `[batch, seq]`; for a model with a port values `[batch, seq, width]`, "not a number" (vectors) or -1
        (codes) where they are not known; or both, `[batch, seq, 1 + width]` (`noise.space.paired`).
    Raises ValueError where the prompt is not of the kind that the model reads.
    """
    checks.kind("tokens", prompt, Tensor, "a tensor, [batch, seq] ids or [batch, seq, width] values")
    port = port_of(model)
    if port is None:
        return prompt, None
    if isinstance(port, Posterior):
        raise ValueError(
            "the model turns thoughts into vectors and back, and completes nothing: train a reasoner with it "
            "(us.systems.ladir.reasoner, unspoken train ladir), and decode that"
        )
    if getattr(model, "codec", None) is not None:
        raise ValueError("the model reasons in vectors: decode it by its own decoder, us.ThoughtWalk")
    width, placeholder = port.size[0], with_port(model).placeholder
    both = prompt.dim() == 3 and prompt.shape[2] == 1 + width
    whole = prompt.is_floating_point() if isinstance(port, Vectors) else prompt.dtype == torch.int64
    if prompt.dim() != 3 or not (both or (prompt.shape[2] == width and says_values(model))) or not whole:
        kind = "floats, nan" if isinstance(port, Vectors) else "int64 codes, -1"
        wide = f"{width}, or {1 + width} with the ids first," if says_values(model) else f"{1 + width}, the ids first,"
        raise ValueError(
            f"the prompt is {prompt.dtype} of shape {tuple(prompt.shape)}, and the model reads values: give "
            f"[batch, seq, {wide}] {kind} where a value is not known"
        )
    if isinstance(port, Vectors) and bool(prompt.isinf().any()):
        raise ValueError("the prompt holds an infinite number; give finite ones, nan where a vector is not known")
    if not both:
        _check_levels(port, prompt)
        return torch.where(is_unknown(prompt), model.mask_id, placeholder), prompt
    if bool((prompt[..., 0] != prompt[..., 0].round()).any()):
        raise ValueError("the first number of every token is its id; give whole ones")
    token, value = unpaired(prompt)
    _check_levels(port, value)
    hidden = is_unknown(value)
    if bool((hidden & (token == placeholder)).any()):
        raise ValueError(f"a token of id {placeholder} shows a value, and its value is not known: give it, or the mask")
    return token, value if says_values(model) else torch.where(hidden[..., None], 0, value)


def _check_levels(port: Port, value: Tensor) -> None:
    if isinstance(port, Codes) and bool((value >= port.levels).any()):
        raise ValueError(f"codes run up to {int(value.max())}; the model knows 0 to {port.levels - 1}")


def need_ids(decoder: object, model: Model) -> None:
    """Raises ValueError for a model whose tokens are values."""
    port = port_of(model)
    if port is not None and says_values(model):
        other = "Walk(process=us.Gaussian())" if isinstance(port, Vectors) else "Slots()"
        raise ValueError(f"{type(decoder).__name__} can not decode the tokens of {port}: take us.{other}")


def rows_to_say(decoder: object, model: Model, tokens: Tensor, present: Tensor | None) -> Clean:
    """The rows of a call, checked. Where a row is not there, it is given and seen by nobody."""
    need_ids(decoder, model)
    tokens, value = split_prompt(model, tokens)
    check_tokens(model, tokens, present)
    unsaid = tokens == model.mask_id
    there = None if present is None else present.bool()
    given = ~unsaid if there is None else ~(unsaid & there)
    return replace(left_to_right(tokens, given, there), value=value)


def sees_times(model: Model) -> bool:
    """Whether the model was made to read noise, at times that it is shown."""
    return getattr(model, "clock", None) is not None


def foreseen_of(model: Model, state: DecodingState) -> Tensor | None:
    """`[r, seq + 1, width]`: what the model's predictor tells of every position, before anything is said; or None."""
    if not isinstance(model, Denoiser) or model.foresight is None:
        return None
    tokens, unsaid, document = (field[:, :-1] for field in (state.tokens, state.unsaid, state.document))
    layout = one_block(tokens, unsaid, torch.zeros_like(tokens), document >= 0)
    value = None if state.value is None else state.value[:, :-1]
    foreseen = model.foreseeing(replace(layout, value=value)).foreseen
    assert foreseen is not None
    return torch.cat([foreseen, foreseen[:, :1]], 1)


def with_states(model: Model, layout: Layout, at: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor | None]:
    """Logits `[r, m, vocab]` at the entries `at`, and every entry's last state where the model carries them."""
    if not isinstance(model, Denoiser) or model.carried is None:
        return model(layout, at, cache), None
    states = model.states(layout, cache=cache)
    return model.ids.predict(answering(states, layout, at, cache, model.shift)), states


def draw_values(prediction: Any, model: Model, generator: torch.Generator, temperature: float) -> tuple[Tensor, Tensor]:
    """Values `[r, m, width]` of a prediction of the model's port, and their log-probabilities `[r, m]`."""
    values = with_port(model).values
    assert values is not None
    return values.sample(prediction, generator, temperature)

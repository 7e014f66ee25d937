"""What the questions of a pass cost, and those of the passes after it, each of which reads of the one before.

All of them are run inside one call of the model. A launcher wraps that call (autocast, gathering over processes), and
its wrapping must not be entered again from inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unspoken.layout.entries import Layout, entries_of
from unspoken.layout.packing import Packed
from unspoken.layout.pricing import costs
from unspoken.layout.questions import Question
from unspoken.layout.reads import Before, States
from unspoken.model.adapters import without_adapter
from unspoken.model.shift import left_of

if TYPE_CHECKING:  # for the type alone: `denoiser` stands on this
    from unspoken.model.denoiser import Denoiser


def losses_of(model: Denoiser, packed: Packed) -> tuple[Tensor, ...]:
    """The losses of every question of a pass, and of the passes after it, `[batch, m]` each."""
    losses: tuple[Tensor, ...] = ()
    layout, rest = packed.layout, packed.passes
    for each, then in zip(rest, (*rest[1:], None), strict=True):
        with without_adapter(model.trunk) if each.bare else nullcontext():
            layout = model.foreseeing(layout)
            states = model.states(layout)
            losses += _costs(model, layout, states, each.questions)
        if then is not None:
            layout = _layout_after(model, layout, states, then)
    return losses


def _layout_after(model: Denoiser, layout: Layout, states: Tensor, then: Packed) -> Layout:
    """What the pass `then` shows after one over `layout`, whose last states are `states`."""
    if then.reads is None:
        return then.layout
    carries = isinstance(then.reads, States)
    if carries and model.carried is None:
        raise ValueError("the second pass reads states of the first, and this model carries none: give carry=True")
    before = Before(layout, states, lambda at: model.reader.predict(entries_of(states, at)))
    read = then.reads(then.layout, before)
    return replace(read, foreseen=layout.foreseen) if carries else read  # it is over the same entries


def _costs(model: Denoiser, layout: Layout, states: Tensor, questions: Sequence[Question]) -> tuple[Tensor, ...]:
    """Of one pass; those for what is foreseen come last."""
    own = [q for q in questions if q.port != "foreseen"]
    read = [replace(q, at=left_of(layout, q.at)) for q in own] if model.shift else own
    losses = costs(read, states, lambda hidden, q: _answer(model, hidden, q), model.vocab_size)
    return losses + _foreseen_costs(model, questions[len(own) :], layout)


def _foreseen_costs(model: Denoiser, questions: Sequence[Question], layout: Layout) -> tuple[Tensor, ...]:
    """What the predictor's own answers cost."""
    if not questions:
        return ()
    predictor = model.foresight
    if predictor is None or layout.foreseen is None:
        raise ValueError("a question is for what is foreseen, and the model has no predictor: see Denoiser.foresee")
    port = "ids" if predictor.values is None else "values"
    asked = [replace(q, port=port) for q in questions]
    return costs(asked, layout.foreseen, lambda hidden, q: _answer(predictor, hidden, q), model.vocab_size)


def _answer(model: Denoiser, hidden: Tensor, question: Question) -> Any:
    port = model.ids if question.port == "ids" else model.reader
    return port.predict(hidden, question.target)

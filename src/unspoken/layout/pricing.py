"""What the answers to the questions of a pass cost, with no more logits at a time than a bound.

A loss that looks at one entry at a time (`by_entry`) is computed over the entries that are really asked, flat over the
batch, and in chunks: at a vocabulary of 49,152 the logits of a batch are larger than all that the trunk keeps. Every
other loss is handed the answers of the batch, `[batch, m, ...]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, cat
from torch.utils.checkpoint import checkpoint

from unspoken.layout.entries import entries_of
from unspoken.layout.questions import Distilled, Loss, Question

LOGITS = 1 << 24  # numbers in a chunk of logits, at most: 64 MB in float32

Predict = Callable[[Tensor, Question], Any]


def costs(
    questions: Sequence[Question], hidden: Tensor, predict: Predict, vocab: int, logits: int = LOGITS
) -> tuple[Tensor, ...]:
    """The loss of every question, `[batch, m]` each; 0 where nothing is asked.

    hidden: `[batch, entries, width]` last states. predict: a question's answer from the states at its entries,
    `[batch, m, width]`. vocab: numbers in an answer by ids. logits: in a chunk of such answers, at most; a chunk is one
    entry at least. Several chunks are computed anew in the backward pass, so that no two are held at a time.
    """
    taught = {q.loss.question for q in questions if isinstance(q.loss, Distilled)}
    whole = {
        number: predict(entries_of(hidden, q.at), q)
        for number, q in enumerate(questions)
        if number in taught or not by_entry(q.loss)
    }
    return tuple(
        price(q, whole[number], whole)
        if number in whole
        else _by_entry(q, hidden, predict, max(1, logits // vocab) if q.port == "ids" else q.at.numel())
        for number, q in enumerate(questions)
    )


def by_entry(loss: Loss) -> bool:
    """Whether a loss looks at one entry at a time, so that it may be handed any of them."""
    return getattr(loss, "by_entry", False)


def price(question: Question, answer: Any, answers: Mapping[int, Any] | Sequence[Any]) -> Tensor:
    """What an answer `[batch, m, ...]` costs, `[batch, m]`, 0 where nothing is asked.

    answers: to the questions of the pass, by number, for a loss that compares with another's.
    """
    loss = question.loss
    more = (answers[loss.question].detach(),) if isinstance(loss, Distilled) else ()
    return loss(answer, question.target, *more).where(question.real, 0.0)


def _by_entry(question: Question, hidden: Tensor, predict: Predict, most: int) -> Tensor:
    """A loss over what is really asked, at most so many entries at a time."""

    def cost(states: Tensor, part: Question) -> Tensor:
        return part.loss(predict(states, part), part.target)

    asked = question.flat(hidden.shape[1])
    states = hidden.flatten(0, 1).index_select(0, asked.at[0])[None]
    size = asked.at.shape[1]
    if size <= most:
        losses = cost(states, asked)
    else:
        parts = ((states[:, first : first + most], asked.part(first, first + most)) for first in range(0, size, most))
        losses = cat([checkpoint(cost, *each, use_reentrant=False, preserve_rng_state=False) for each in parts], 1)
    return losses.new_zeros(question.at.shape).masked_scatter(question.real, losses)

"""NARVL: questions about images answered in one pass (arXiv 2403.02249), and what it is compared with.

Four functions return runs on one trunk: `queries` says the whole answer at once, freely aligned (Query-CTC);
`position_wise` at once, each position its token; `left_to_right` one token after the other. `distilled` is any of them
on the answers of a teacher (sequence-level distillation, Kim and Rush 2016, arXiv 1606.07947), which `taught` writes to
a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspoken.decoders.autoregressive import NextToken
from unspoken.decoders.decode import Decoder, decoder_of
from unspoken.decoders.endings import Endings
from unspoken.decoders.step import Step, last
from unspoken.layout.attention import CACHED_JOINT
from unspoken.layout.questions import slots_needed
from unspoken.model.network import Model
from unspoken.model.ports import Vectors
from unspoken.noise.space import paired
from unspoken.record import write_text
from unspoken.tasks import Tasks
from unspoken.tasks.pictured import Pictured
from unspoken.training.config import Train, Trunk
from unspoken.training.objective import NextTokenPrediction, QueryCTC, Teacherless


def queries(task: Tasks, together: int = 0, **changes: Any) -> Train:
    """Query-CTC: all queries in one pass, whose alignment with the answer is free.

    together: see `QueryCTC`. changes: other fields of `Train`, such as `steps`. Raises ValueError for a task without
    pictures.
    """
    return replace(_run(task), objective=QueryCTC(_pictured(task).end, together), **changes)


def position_wise(task: Tasks, **changes: Any) -> Train:
    """All positions in one pass, each asked for its own token, the end past the answer. See `queries`."""
    return replace(_run(task), objective=Teacherless(), **changes)


def left_to_right(task: Tasks, **changes: Any) -> Train:
    """One token after the other, up to the end. See `queries`."""
    return replace(_run(task), objective=NextTokenPrediction(), **changes)


def distilled(train: Train, path: str | Path) -> Train:
    """A run of this module that learns from a teacher's answers, in a file that `taught` wrote.

    Validation, test and the judge stay those of its task.
    """
    return replace(train, task=replace(_pictured(train.task), path=str(path)))


@dataclass(frozen=True)
class UntilEnd:
    """From left to right, a row up to the end of its answer; the rest is filled up with the end.

    Attributes:
        decoder: How the next token is said.
        end: The token that ends an answer.
    """

    decoder: NextToken
    end: int

    def steps(self, model: Model, tokens: Tensor, **options: Any) -> Iterator[Step]:
        """See `Slots.steps`."""
        unsaid = _ids(tokens) == model.mask_id
        for step in self.decoder.steps(model, tokens, endings=Endings(ends=(self.end,)), **options):
            ended = ((step.tokens == self.end) & unsaid).long().cummax(1).values > 0
            past = ended & (step.tokens == model.mask_id)
            yield replace(step, tokens=torch.where(past, self.end, step.tokens))


def taught(
    model: Model,
    task: Tasks,
    path: str | Path,
    n: int,
    *,
    decoder: Decoder | None = None,
    batch: int = 250,
    seed: int = 0,
) -> float:
    """Writes a model's answers to n new training questions, right or not; returns the share of right ones.

    The file is one that `task` trains on (`path=`). It is there whole or not at all. Answers that need more queries
    than there are, one between equal neighbours (`QueryCTC`), are left out: no right one does.

    decoder: by default the model's own. seed: of the questions, and of what it draws.
    Raises ValueError where none is left.
    """
    its, decoder = replace(_pictured(task), path=""), decoder_of(model) if decoder is None else decoder
    generator, lines, right = torch.Generator().manual_seed(seed), [], 0
    draws = torch.Generator().manual_seed(seed)  # one for all batches: each has its own noise
    for first in range(0, n, batch):
        prompt = its.sample("train", min(batch, n - first), generator).prompt(its.mask_id)
        answer = last(decoder.steps(model, prompt.to(_device(model)), generator=draws), prompt).cpu()
        right += int(its.score(prompt, answer).sum())
        said = answer[:, its.asked :]
        lengths = (said != its.end).long().cumprod(1).sum(1)
        fits = slots_needed(said, lengths) <= said.shape[1]
        lines += [its.show(row) for row in paired(answer, prompt[..., 1:])[fits]]
    if not lines:
        raise ValueError(f"none of {n} answers fits into {its.length - its.asked} queries: train the teacher longer")
    write_text(Path(path), "".join(f"{line}\n" for line in lines))
    return right / n


def _run(task: Tasks) -> Train:
    values = _pictured(task).values
    return Train(
        task,
        attention=CACHED_JOINT,
        trunk=Trunk(layers=4, width=64, heads=4, init=0.07),
        objective=Teacherless(),
        port=Vectors(values.size[0], placeholder=values.placeholder, head="none"),
        steps=1_200,
        batch=64,
        warmup=50,
        ema=0.99,
        validate=200,
        save=600,
    )


def _pictured(task: Tasks) -> Pictured:
    if not isinstance(task, Pictured):
        raise ValueError(f"{task.title} shows no picture that is asked about: take us.tasks.Strips()")
    return task


def _ids(tokens: Tensor) -> Tensor:
    return tokens if tokens.dim() == 2 else tokens[..., 0].long()


def _device(model: Model) -> torch.device:
    return getattr(model, "device", torch.device("cpu"))

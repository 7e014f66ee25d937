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
from unspoken.model.network import Model
from unspoken.model.ports import Vectors
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
    """Writes a model's answers to n new training questions, those that are right; returns their share.

    The file is one that `task` reads (`path=`). Answers that the judge refuses are left out: nobody learns from them.

    decoder: by default the model's own. seed: of the questions.
    """
    its, decoder = _pictured(task), decoder_of(model) if decoder is None else decoder
    generator, lines = torch.Generator().manual_seed(seed), []
    for first in range(0, n, batch):
        examples = replace(its, path="").sample("train", min(batch, n - first), generator)
        prompt = examples.prompt(its.mask_id)
        answer = last(decoder.steps(model, prompt.to(_device(model))), prompt).cpu()
        right = its.score(prompt, answer)
        assert examples.value is not None
        for row in right.nonzero()[:, 0].tolist():
            shown = prompt[row].clone()
            shown[:, 0] = answer[row]
            lines.append(its.show(shown))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(f"{line}\n" for line in lines))
    return len(lines) / n


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

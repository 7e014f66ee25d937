"""The whole answer in one pass of queries: the likeliest path, collapsed (NARVL, arXiv 2403.02249)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import check_answers
from unspoken.decoders.sampling import drawn
from unspoken.decoders.step import Step, put
from unspoken.decoders.values import rows_to_say
from unspoken.layout.packing import Clean
from unspoken.layout.queries import collapse, queries
from unspoken.model.network import Model


@dataclass(frozen=True)
class OnePass:
    """Every query says a token or the blank, all in one pass; repeats are merged, blanks dropped, the rest filled up.

    For models trained by `QueryCTC`. The step's `likeliest` is the path; its `tokens` are the answer, filled up with
    the blank.

    Attributes:
        blank: The token that says nothing.
        together: So many neighbouring queries see each other; 0 is all of them. Another number than the model was
            trained with needs one that was trained with any (`QueryCTC(together=-1)`).
        temperature: 0 takes the likeliest token of every query; above 0 each is drawn from softmax(logits /
            temperature), whatever the others say.
    """

    blank: int
    together: int = 0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        checks.plain(self)
        checks.count("blank", self.blank)
        checks.count("together", self.together)
        checks.temperature(self.temperature)

    def steps(
        self,
        model: Model,
        tokens: Tensor,
        *,
        present: Tensor | None = None,
        predict_latents: bool = False,
        generator: torch.Generator | None = None,
    ) -> Iterator[Step]:
        """See `Slots.steps`: one step, in which all is said. Raises ValueError for a blank that no token is."""
        clean = rows_to_say(self, model, tokens, present)
        checks.seeded(generator)
        if self.blank >= model.vocab_size or self.blank == model.mask_id:
            raise ValueError(f"blank={self.blank}: give a token of the model other than the mask {model.mask_id}")
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        return self._steps(model, clean, generator)

    @torch.no_grad()
    def _steps(self, model: Model, clean: Clean, generator: torch.Generator) -> Iterator[Step]:
        if not clean.most:
            return
        size = torch.full_like(clean.free, self.together) if self.together else None
        layout, at = queries(clean, model.mask_id, size)
        logits = model(layout, at)
        path = drawn(logits, generator, self.temperature)
        probability = logits.softmax(-1).gather(-1, path[..., None])[..., 0]
        real = torch.arange(clean.most, device=path.device) < clean.free
        check_answers(0, probability, real)
        said = collapse(torch.where(real, path, self.blank), self.blank)
        position = clean.place[:, : clean.most]
        answer = put(clean.x0, position, said, real)
        yield Step.of_all(
            0, answer, position, real, (path, probability), mask_id=model.mask_id, entries=layout.shape[1]
        )

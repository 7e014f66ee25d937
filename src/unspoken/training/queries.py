"""Answers of any length in one pass: a block of queries whose alignment with the answer is free (NARVL)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.attention import Attention
from unspoken.layout.entries import uniform
from unspoken.layout.packing import Clean, Packed, left_to_right
from unspoken.layout.queries import queries
from unspoken.layout.questions import CTC, Question, check_fit
from unspoken.noise import AnyProcess
from unspoken.training.base import Batch, Objective, masks_alone

ANY = -1  # queries that see each other: of every number


@dataclass(frozen=True)
class QueryCTC(Objective):
    """The whole answer from the prompt alone, in one pass, without saying which query says which token.

    Query-CTC of NARVL (arXiv 2403.02249): every unsaid position is a query, masks that differ by their positions. The
    queries say a path of tokens and blanks; merged repeats and dropped blanks make the answer of it. The loss of an
    answer is -log of the sum over all paths that collapse to it, in nats; every answer counts alike, whatever its
    length. An answer ends at its first blank: what fills it up in the data is the blank.

    Attributes:
        blank: The token that says nothing; not the mask.
        together: So many neighbouring queries see each other; 0 is all of them, and -1 any number, drawn for each row
            (all orders of magnitude alike), so that one model decodes with every number.
    """

    blank: int
    together: int = 0

    def __post_init__(self) -> None:
        checks.plain(self)
        checks.count("blank", self.blank)
        if self.together < ANY:
            raise ValueError(f"together={self.together}: give a number of queries, 0 for all, -1 for any number")

    @property
    def unit(self) -> str:
        """What its loss is counted in."""
        return "nats an answer"

    def check(self, attention: Attention) -> None:
        """Raises ValueError for ordered latents: all queries are answered at once."""
        if attention.latents == "ordered":
            raise ValueError(
                f"{self} with attention {attention.name}: it says all tokens at once, and ordered latents would see "
                "the ones before alone; take cached-joint, cached-alone, mdm or sidm"
            )
        if self.together and (attention.latents != "joint" or attention.context_sees_latents):
            raise ValueError(
                f"together={self.together} with attention {attention.name}: queries must see each other, and the "
                "prompt must not see them; take cached-joint or joint"
            )

    def decoder(self, process: AnyProcess) -> dict[str, Any]:
        """See `MaskedDiffusion.decoder`: in one pass, by the likeliest path."""
        return {"type": "OnePass", "blank": self.blank, "together": max(self.together, 0)}

    def _pack(self, batch: Batch) -> Packed:
        """Raises ValueError for answers that do not fit into the queries, and for rows that hold several documents."""
        masks_alone(batch.process, self)
        if batch.present is not None:
            raise ValueError(f"{self} takes rows of one document each: give the objective Teacherless, or whole rows")
        clean = left_to_right(batch.x0, batch.given)
        size = None if self.together == 0 else self._sizes(clean.free, batch)
        layout, at = queries(clean, batch.mask_id, size)
        target, lengths = self.targets(clean)
        check_fit(target, lengths, clean.free[:, 0])
        # The loss of an answer stands at its first query.
        weight = torch.zeros(at.shape, dtype=torch.get_default_dtype(), device=at.device)
        weight[:, :1] = (clean.free > 0) / max(len(at), 1)
        loss = CTC(self.blank, lengths, clean.free[:, 0])
        return Packed(layout, (Question(at, target, weight, torch.arange(at.shape[1]).expand_as(at), loss=loss),))

    def targets(self, clean: Clean) -> tuple[Tensor, Tensor]:
        """The answers `[batch, most]`, the blank past their ends, and their lengths `[batch]`."""
        answer = clean.x0.gather(1, clean.place[:, : clean.most])
        there = torch.arange(clean.most, device=answer.device) < clean.free
        going = ((answer != self.blank) & there).long().cumprod(1)
        return torch.where(going > 0, answer, self.blank), going.sum(1)

    def _sizes(self, free: Tensor, batch: Batch) -> Tensor:
        """`[batch, 1]`: how many queries of each row see each other."""
        if self.together > 0:
            return torch.full_like(free, self.together)
        u = uniform(free.double(), batch.generator)
        return (free.clamp_min(1).double() ** u).round().long()

"""Documents that share rows: each is packed as if it stood alone, and then their passes are put side by side.

So a pass over several documents a row asks what their passes ask one at a time, whatever the objective: `split` makes
rows of one document each, and `join` puts the entries of those that came from one row into one row again. What is
nobody's (`PADDING`) is in no pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.entries import PADDING, Layout, most
from unspoken.layout.packing import Packed
from unspoken.layout.questions import Distilled, Question, each_tensor


@dataclass(frozen=True)
class Documents:
    """Where documents are in the rows of a batch, the documents of the first row first.

    rows: how many there are. row: `[documents]` in which each is. name: `[documents]` its number, as the user has it.
    place: `[documents, longest]` the places of its tokens in the row. present: `[documents, longest]` bool, False past
    its end. Where no row holds two, `longest` is the width of the rows.
    """

    rows: int
    row: Tensor
    name: Tensor
    place: Tensor
    present: Tensor

    @classmethod
    def of(cls, document: Tensor, like: Tensor) -> Documents:
        """From the document of each token, `[batch, seq]` of the shape of `like`, `PADDING` where there is none.

        Raises ValueError for another shape, and for numbers that are neither `PADDING` nor 0 to `checks.MOST`.
        """
        checks.tensor("document", document, torch.int64, like.shape)
        if document.numel() and not PADDING <= int(document.min()) <= int(document.max()) <= checks.MOST:
            raise ValueError(f"document holds {int(document.min())} to {int(document.max())}; give {PADDING} for none")
        rows, seq = document.shape
        row, place = (document != PADDING).nonzero(as_tuple=True)
        # One number for each pair of a row and a document: sorted, it goes by rows first.
        pair, of = ((row << 32) + document[row, place]).unique(return_inverse=True)
        lengths = torch.bincount(of, minlength=len(pair))
        which = of.argsort(stable=True)
        turn = torch.arange(len(of), device=document.device) - (lengths.cumsum(0) - lengths)[of[which]]
        alone = not bool((pair[1:] >> 32 == pair[:-1] >> 32).any())
        longest = seq if alone else int(lengths.max())
        places, present = (place.new_zeros(len(pair), longest, dtype=kind) for kind in (torch.int64, torch.bool))
        places[of[which], turn], present[of[which], turn] = place[which], True
        return cls(rows, pair >> 32, pair & checks.MOST, places, present)

    def split(self, field: Tensor) -> Tensor:
        """`[documents, longest, ...]`: a field `[batch, seq, ...]` of each document's tokens; anything past its end."""
        return field[self.row[:, None], self.place]

    def add(self, each: Tensor) -> Tensor:
        """`[batch, ...]`: the sums of what the documents of a row have, `each` `[documents, ...]`."""
        return each.new_zeros(self.rows, *each.shape[1:]).index_add(0, self.row, each)

    def join(self, packed: Packed) -> Packed:
        """A pass over `split` rows, as one over the rows they came from: all that is real, in its order."""
        its = packed.layout
        entries = _Columns(self, (its.document != PADDING) & self.present.gather(1, its.position))
        layout = replace(each_tensor(its, entries.take), document=entries.numbered())
        asked = [_Columns(self, q.real) for q in packed.questions]
        questions = tuple(_joined(q, mine, entries, asked) for q, mine in zip(packed.questions, asked, strict=True))
        then = None if packed.then is None else self.join(packed.then)
        return replace(packed, layout=layout, questions=questions, then=then)


class _Columns:
    """Which of the columns `[documents, m]` are kept, and where each of them is in its row then."""

    def __init__(self, documents: Documents, keep: Tensor):
        self.name, self.keep = documents.name, keep
        count, row = keep.sum(1), documents.row
        in_row = documents.add(count)
        before = count.cumsum(0) - count - (in_row.cumsum(0) - in_row)[row]
        self.to = (before[:, None] + keep.cumsum(1) - 1).clamp_min(0)
        self.real = torch.arange(most(in_row[:, None]), device=keep.device) < in_row[:, None]
        self.of = self.real.new_zeros(self.real.shape, dtype=torch.int64)  # in the flat columns
        self.of[row[:, None].expand_as(keep)[keep], self.to[keep]] = keep.flatten().nonzero()[:, 0]

    def take(self, field: Tensor) -> Tensor:
        """`[rows, width, ...]`: a field `[documents, m, ...]`; anything where a row has fewer."""
        return field.flatten(0, 1)[self.of] if field.numel() else field.new_zeros(*self.of.shape, *field.shape[2:])

    def numbered(self) -> Tensor:
        """`[rows, width]`: the document of each."""
        return torch.where(self.real, self.take(self.name[:, None].expand_as(self.keep)), PADDING)


def _joined(question: Question, mine: _Columns, entries: _Columns, asked: list[_Columns]) -> Question:
    """A question about the entries of single documents, as one about those of rows."""
    loss: Any = question.loss
    if isinstance(loss, Distilled):
        loss = replace(loss, match=mine.take(asked[loss.question].to.gather(1, loss.match)))
    else:
        loss = each_tensor(loss, lambda tensor: mine.take(_of_every_entry(tensor, question)))
    return Question(
        at=torch.where(mine.real, mine.take(entries.to.gather(1, question.at)), 0),
        target=mine.take(question.target),
        weight=torch.where(mine.real, mine.take(question.weight), 0.0),
        slot=torch.where(mine.real, mine.take(question.slot), 0),
        port=question.port,
        loss=loss,
    )


def _of_every_entry(tensor: Tensor, question: Question) -> Tensor:
    """A tensor of a loss. Raises ValueError where it is not of the entries asked: it would not know where they went."""
    if tensor.shape[:2] != question.at.shape:
        raise ValueError(
            f"{type(question.loss).__name__} has a tensor of shape {tuple(tensor.shape)} for the entries asked "
            f"{tuple(question.at.shape)}: such a loss takes no documents; leave document out"
        )
    return tensor


def without_absent(layout: Layout, present: Tensor | None) -> Layout:
    """A layout whose entries at positions that are not `present` `[batch, seq]` are in no document."""
    return layout if present is None else layout.without(~present.gather(1, layout.position))

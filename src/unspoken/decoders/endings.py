"""Where a text ends before its row does: an end token, or a stop string. What comes after it is in no pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unspoken.layout.packing import Clean


@dataclass(frozen=True)
class Endings:
    """What ends a row.

    Attributes:
        ends: Token ids that end a text. One is said only where all before it is said: as the most confident token of a
            far position it would end a text that was not written.
        never: Token ids that are never said, such as padding.
        stopped: From the tokens `[r, seq]` of the rows `[r]` of the batch to how many positions of each are its text,
            `seq` where it goes on; asked after every pass. By default texts end at `ends` alone.
    """

    ends: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    stopped: Callable[[Tensor, Tensor], Tensor] | None = None

    def without_never(self, logits: Tensor) -> Tensor:
        """Logits `[..., vocab]` of what may be said at all."""
        return _barred(logits, self.never)

    def in_turn(self, logp: Tensor, first: Tensor) -> Tensor:
        """Log-probabilities `[r, m, vocab]` in which ends count where `first` `[r, m]` alone.

        They are not normalised anew: where a text would end, no other token gets confident.
        """
        if not self.ends:
            return logp
        return torch.where(first[..., None], logp, _barred(logp, self.ends))

    def past(self, tokens: Tensor, rows: Tensor, position: Tensor, said: Tensor) -> Tensor | None:
        """`[r, seq]` bool: positions after the end of each row's text; None where no row has ended.

        tokens: `[r, seq]` of the rows `[r]` of the batch; said: `[r, k]` which of `position` `[r, k]` were said now.
        """
        seq = tokens.shape[1]
        length = tokens.new_full((len(tokens),), seq)
        if self.ends:
            is_end = said & torch.isin(tokens.gather(1, position), torch.tensor(self.ends, device=tokens.device))
            length = torch.where(is_end, position + 1, seq).amin(1)
        if self.stopped is not None:
            length = torch.minimum(length, self.stopped(tokens, rows))
        if bool((length == seq).all()):
            return None
        return torch.arange(seq, device=tokens.device) >= length[:, None]


NONE = Endings()


def _barred(logits: Tensor, ids: Sequence[int]) -> Tensor:
    return logits.index_fill(-1, torch.tensor(ids, device=logits.device), float("-inf")) if ids else logits


def cut(clean: Clean, past: Tensor | None) -> Clean:
    """The sequences without all but the prompt at the positions `past` `[batch, seq]`."""
    if past is None:
        return clean
    gone = past & ~clean.given
    there = torch.ones_like(gone) if clean.present is None else clean.present
    return replace(clean, given=clean.given | gone, present=there & ~gone)

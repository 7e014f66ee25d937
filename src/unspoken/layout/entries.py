"""The entries of one forward pass: which tokens, where, said or not, and in what order.

The list order of the entries means nothing: all that the network may know is in the fields. So entries can be
permuted or dropped (`Layout.select`) without renumbering anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from unspoken import checks
from unspoken.layout.attention import Attention, Entry
from unspoken.noise.space import PADDING

FOREVER = 2**30  # a horizon past every order: "sees the whole context"
_WHOLE = ("token", "position", "order", "horizon", "block", "document")  # the fields of whole numbers
_WIDE = {"value": "values", "carried": "carried states", "foreseen": "foreseen states"}


@dataclass(frozen=True)
class Layout:
    """Integer tensors, each `[batch, entries]`, and perhaps times, values and carried states.

    token: vocabulary id, the mask id where unsaid; a port's placeholder id where the entry shows its value.
    position: place in the sequence; drives the positional encoding and is never renumbered.
    order: of a context token, when it was committed (prompt = 0); of a latent, its rank in its block.
    horizon: the entry sees context of `order < horizon`.
    block: -1 for context, else the id of the latent block.
    document: packed documents do not see each other. `PADDING` entries are in none: they and the entries of documents
        do not see each other.
    time: how noisy a token is, float in [0, 1]; None where the said are clean and the unsaid at the prior.
    value: `[batch, entries, width]` vectors, or codes, read at the entries whose token is the port's placeholder id;
        None where all is ids.
    carried: `[batch, entries, width]` the last states that the entries had in the pass before, 0 of those that were not
        in it. Read by a model that carries, at its slots alone: unsaid entries of the mask. None where nothing is.
    foreseen: `[batch, entries, width]` what a predictor's states tell of each entry (`Denoiser.foresee`), which depends
        on the prompt alone. None where the model is to compute it, or has no predictor.
    """

    token: Tensor
    position: Tensor
    order: Tensor
    horizon: Tensor
    block: Tensor
    document: Tensor
    time: Tensor | None = None
    value: Tensor | None = None
    carried: Tensor | None = None
    foreseen: Tensor | None = None

    def __post_init__(self) -> None:
        shape = self.token.shape
        whole = (self.token, self.position, self.order, self.horizon, self.block, self.document)
        if len(shape) != 2 or any(f.shape != shape or f.dtype != torch.int64 for f in whole):
            for name in _WHOLE:
                like = shape if len(shape) == 2 else ("batch", "entries")
                checks.tensor(name, getattr(self, name), torch.int64, like)
        if self.time is not None and (self.time.shape != shape or not self.time.is_floating_point()):
            checks.tensor("time", self.time, torch.get_default_dtype(), shape)
        if self.value is not None and (self.value.dim() != 3 or self.value.shape[:2] != shape):
            raise ValueError(
                f"values of shape {tuple(self.value.shape)} for entries {tuple(self.token.shape)}; give "
                "[batch, entries, width]: a vector, or codes, for every entry"
            )
        if self.carried is not None and (self.carried.dim() != 3 or self.carried.shape[:2] != shape):
            raise ValueError(
                f"carried states of shape {tuple(self.carried.shape)} for entries {tuple(self.token.shape)}; give "
                "[batch, entries, width]: the state of every entry, 0 where it has none"
            )
        if self.foreseen is not None and (self.foreseen.dim() != 3 or self.foreseen.shape[:2] != shape):
            raise ValueError(
                f"foreseen states of shape {tuple(self.foreseen.shape)} for entries {tuple(self.token.shape)}; give "
                "[batch, entries, width]: what the predictor's states tell of every entry"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, entries)."""
        return self.token.shape[0], self.token.shape[1]

    @property
    def said(self) -> Tensor:
        """`[batch, entries]` bool: context tokens."""
        return (self.block < 0) & (self.document != PADDING)

    @property
    def unsaid(self) -> Tensor:
        """`[batch, entries]` bool: latents and candidates."""
        return (self.block >= 0) & (self.document != PADDING)

    def to(self, device: torch.device) -> Layout:
        """The same entries on another device."""
        return self._each(lambda field: field.to(device))

    def rows(self, index: Tensor) -> Layout:
        """The rows `index` `[r]` of the batch."""
        return self._each(lambda field: field[index])

    def select(self, index: Tensor) -> Layout:
        """The entries `index` `[batch, m]`, in that order: permutes and drops."""
        return self._each(lambda field: entries_of(field, index))

    def select_where(self, keep: Tensor) -> Layout:
        """The entries where `keep` `[batch, entries]`, in their order; short rows are filled with padding.

        The pass that follows is only as wide as the fullest row.
        """
        return self.without(~keep).select(first_where(keep, most(keep)))

    def without(self, gone: Tensor) -> Layout:
        """The same entries, those `gone` `[batch, entries]` in no document: no entry of one sees them."""
        return replace(self, document=torch.where(gone, PADDING, self.document))

    def join(self, other: Layout) -> Layout:
        """These entries, then the other's."""
        both = {name: torch.cat([getattr(self, name), getattr(other, name)], 1) for name in _WHOLE}
        timed = self.time is not None or other.time is not None
        time = torch.cat([self.times, other.times], 1) if timed else None
        value, carried, foreseen = (self._wide(name, other) for name in _WIDE)
        return Layout(**both, time=time, value=value, carried=carried, foreseen=foreseen)

    def _wide(self, name: str, other: Layout) -> Tensor | None:
        """The values or states of both, 0 at the entries of the one that has none."""
        mine, its = getattr(self, name), getattr(other, name)
        some = mine if mine is not None else its
        if some is None:
            return None
        if mine is not None and its is not None and mine.shape[2] != its.shape[2]:
            raise ValueError(f"{_WIDE[name]} of width {mine.shape[2]} and {its.shape[2]} do not join; give one")
        nothing = [some.new_zeros(*side.shape, some.shape[2]) for side in (self, other)]
        return torch.cat([n if held is None else held for n, held in zip(nothing, (mine, its), strict=True)], 1)

    @property
    def times(self) -> Tensor:
        """`[batch, entries]` in [0, 1]: `time`, or what it is taken for where it is not said."""
        return self.unsaid.to(torch.get_default_dtype()) if self.time is None else self.time

    def _fields(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def _each(self, change: Callable[[Tensor], Tensor]) -> Layout:
        return Layout(**{name: change(value) for name, value in self._fields().items()})

    def _entries(self, batch: Tensor, index: Tensor) -> Entry:
        """The rule's view of the entries `index` of the rows `batch` (broadcast together)."""
        at = (batch, index)
        return Entry(self.order[at], self.horizon[at], self.block[at], self.document[at], self.position[at], index)

    def mask(self, attention: Attention, first: int = 0) -> Tensor:
        """`[batch, 1, queries, entries]` bool for SDPA: row = query, column = key, True = may look.

        first: the queries are the entries from this one on (those before it are in a cache).
        """
        batch, entries = self.shape
        b = torch.arange(batch, device=self.token.device)[:, None, None]
        i = torch.arange(entries, device=self.token.device)
        return attention.visible(self._entries(b, i[first:, None]), self._entries(b, i[None, :]))[:, None]

    def block_mask(self, attention: Attention, first: int = 0) -> BlockMask:
        """The same predicate for FlexAttention (its backward needs CUDA)."""
        batch, entries = self.shape

        def visible(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return attention.visible(self._entries(b, q + first), self._entries(b, k))

        return create_block_mask(visible, batch, None, entries - first, entries, device=self.token.device)


def entries_of(field: Tensor, index: Tensor) -> Tensor:
    """The entries `index` `[batch, m]` of a field `[batch, entries]` or `[batch, entries, width]`."""
    return field.gather(1, index if field.dim() == 2 else index[..., None].expand(-1, -1, field.shape[2]))


def one_block(
    tokens: Tensor, unsaid: Tensor, order: Tensor, present: Tensor | None = None, time: Tensor | None = None
) -> Layout:
    """A whole sequence in one pass: its said tokens are the context, its unsaid ones one latent block.

    tokens: `[batch, seq]`, the mask id where unsaid.
    unsaid: `[batch, seq]` bool.
    order: `[batch, seq]`: when the said tokens were committed (prompt = 0), the ranks of the unsaid ones.
    present: `[batch, seq]` bool, False where the row is shorter than the batch.
    time: `[batch, seq]` in [0, 1]: see `Layout`.
    """
    checks.tensor("tokens", tokens, torch.int64, ("batch", "seq"))
    checks.tensor("unsaid", unsaid, torch.bool, tokens.shape)
    checks.tensor("order", order, torch.int64, tokens.shape)
    if present is not None:
        checks.tensor("present", present, torch.bool, tokens.shape)
    position = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    horizon = torch.where(unsaid, FOREVER, order + 1)
    block = torch.where(unsaid, 0, -1)
    document = torch.zeros_like(tokens) if present is None else torch.where(present, 0, PADDING)
    return Layout(tokens, position, order, horizon, block, document, time)


def random_order(tokens: Tensor, unsaid: Tensor, given: Tensor, generator: torch.Generator | None = None) -> Layout:
    """The layout that masked diffusion trains on: as if the tokens had been said one by one at random.

    One uniformly random order over the tokens that are not given: it ranks the latents, so that the latent of
    rank j is trained with exactly j latents in view under `ordered`; and it dates the context, for models whose
    context is causal. Given tokens are the prompt (order 0).
    tokens, unsaid, given: `[batch, seq]` (the mask id where unsaid; bool; bool).
    """
    checks.tensor("unsaid", unsaid, torch.bool, tokens.shape)
    checks.tensor("given", given, torch.bool, tokens.shape)
    rank = draw_ranks(unsaid, generator) * unsaid
    committed = (1 + draw_ranks(~unsaid & ~given, generator)) * ~unsaid * ~given
    return one_block(tokens, unsaid, rank + committed)


def draw_ranks(among: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """`[batch, seq]` int: a uniformly random ranking 0, 1, ... of the True cells of each row, then the rest."""
    return rank_of(uniform(among, generator), among)


def uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Independent uniform numbers in [0, 1) of the shape of `like`, on its device."""
    device = like.device if generator is None else generator.device
    return torch.rand(like.shape, generator=generator, device=device).to(like.device)


def rank_of(score: Tensor, among: Tensor) -> Tensor:
    """`[batch, seq]` int: ranks 0, 1, ... by rising `score` of the True cells of each row, then the rest."""
    by_score = torch.where(among, score.to(torch.float64), torch.inf).argsort(dim=1, stable=True)
    rank = torch.empty_like(by_score)
    return rank.scatter_(1, by_score, torch.arange(score.shape[1], device=score.device).expand_as(by_score))


def most(keep: Tensor) -> int:
    """How many are True in the row of `[batch, m]` with most of them; 0 of no rows."""
    return int(keep.sum(1).max()) if len(keep) else 0


def first_where(keep: Tensor, width: int) -> Tensor:
    """`[batch, width]` distinct indices: the True entries of `keep` in their order, then others to fill."""
    return keep.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]

"""Groups: unsaid tokens that see each other, and no other unsaid token, in numbers that are trained for.

A pass with n latents asks a token beside n others. The unsaid tokens of a training pass are split into groups of a
random size, so that one pass of ordinary cost trains every n: a group of one is a token alone (SIDM), one group of all
is a joint model's ordinary pass. Nothing but `Layout.block` says who is in which group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from unspoken import checks
from unspoken.layout.attention import Attention
from unspoken.layout.entries import Layout, uniform
from unspoken.layout.packing import Packed, ask_masks, mix, weighed
from unspoken.layout.questions import Distilled

DRAWN = ("log_uniform", "uniform")
OVER_TRAINING = ("constant", "growing", "shrinking")


@dataclass(frozen=True)
class Related:
    """Who goes with whom, by a table.

    Attributes:
        table: `seq` rows of `seq` numbers: how much the token at a position (row) has to do with that at another; as
            `measure.relation.relation_of` measures it on a model.
    """

    table: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        checks.plain(self)
        table: Any = self.table
        seq = len(table) if isinstance(table, tuple) else 0
        right = seq and all(isinstance(row, tuple) and len(row) == seq and all(map(_finite, row)) for row in table)
        if not right:
            raise ValueError("the table of Related is not of finite numbers [seq, seq]: give tuples, a row a position")

    @classmethod
    def of(cls, relation: Tensor) -> Related:
        """From a tensor `[seq, seq]`."""
        checks.kind("relation", relation, Tensor, "a tensor, numbers [seq, seq]")
        if relation.dim() != 2:
            raise ValueError(f"relation of shape {tuple(relation.shape)}; give numbers [seq, seq], a row a position")
        return cls(tuple(tuple(row) for row in relation.tolist()))


@dataclass(frozen=True)
class Groups:
    """How the unsaid tokens of a training pass are split, row by row: into groups of one size, the last perhaps less.

    Attributes:
        whole: The share of rows that are not split; in the beginning of training, where `whole_at_end` is said.
        sizes: Of the other rows, each drawn from 1 to all there are: `log_uniform` (all orders of magnitude alike) or
            `uniform`; or sizes that are equally likely, at most all there are.
        members: Who goes with whom: at `random`; `near`, with its neighbours in the sequence; or by a `Related` table.
        whole_at_end: The share that is approached in a straight line until training ends; by default it stays.
        over_training: Sizes that are drawn stay `constant` in law, or are `growing` or `shrinking`: from the smaller
            half of the law (by probability) to the larger, or back.
        both: Every row is in the pass twice, whole and split: its context once, its unsaid tokens twice. The loss of
            each counts half. `whole` and `whole_at_end` have no effect.
        weight: The power of a group's size that its tokens' losses count by, from -4 to 4; 0 counts all tokens alike.
            The sum of the weights stays.
        distil: With `both`, the share of a split token's loss that is taken against what the whole row predicts of it
            (no gradient flows there), and not against the token itself.
    """

    whole: float = 0.25
    sizes: Literal["log_uniform", "uniform"] | tuple[int, ...] = "log_uniform"
    members: Literal["random", "near"] | Related = "random"
    whole_at_end: float | None = None
    over_training: Literal["constant", "growing", "shrinking"] = "constant"
    both: bool = False
    weight: float = 0.0
    distil: float = 0.0

    def __post_init__(self) -> None:
        checks.plain(self)
        checks.number("whole", self.whole, 0, 1, "a share of rows, in [0, 1]")
        checks.number("distil", self.distil, 0, 1, "a share of the loss, in [0, 1]")
        if self.whole_at_end is not None:
            checks.number("whole_at_end", self.whole_at_end, 0, 1, "a share of rows, in [0, 1]")
        if self.sizes not in DRAWN:
            if not isinstance(self.sizes, tuple) or not self.sizes:
                raise ValueError(
                    f"sizes={self.sizes!r}: give one of {', '.join(DRAWN)}, or a tuple of sizes, e.g. (1, 8)"
                )
            checks.counts("sizes", self.sizes, 1)
        if not (isinstance(self.members, Related) or self.members in ("random", "near")):
            raise ValueError(f"members={self.members!r}: give 'random', 'near' or us.Related(table)")
        if self.over_training not in OVER_TRAINING:
            raise ValueError(f"over_training={self.over_training!r}: give one of {', '.join(OVER_TRAINING)}")
        checks.number("weight", self.weight, -4, 4, "a power of the size from -4 to 4, 0 to count all tokens alike")
        if self.distil and not self.both:
            raise ValueError(f"distil={self.distil} needs what the whole row predicts in the same pass: give both=True")

    def check(self, attention: Attention) -> None:
        """Raises ValueError for a rule under which a group is not what the name says."""
        if attention.latents != "joint" or attention.context_sees_latents:
            raise ValueError(
                f"groups with attention {attention.name}: latents must see each other, and the context must not see "
                "them; take joint or cached-joint"
            )

    def draw_sizes(self, unsaid: Tensor, generator: torch.Generator | None = None, progress: float = 1.0) -> Tensor:
        """`[batch, 1]`: the size of each row's groups, all that is unsaid in rows that stay whole; 1 of empty rows.

        unsaid: `[batch, seq]` bool. progress: how much of training is done, in [0, 1].
        """
        every = unsaid.sum(1, keepdim=True).clamp_min(1)
        stays, u = uniform(every.expand(2, -1, -1), generator)
        if self.over_training != "constant":
            u = (u + (progress if self.over_training == "growing" else 1 - progress)) / 2
        if self.sizes == "uniform":
            size = (u * every).long() + 1  # at most `every`: it is clamped below
        elif self.sizes == "log_uniform":
            size = ((every + 1).double() ** u.double()).long()  # P(s) = log((s + 1) / s) / log(every + 1)
        else:
            of = torch.tensor(sorted(self.sizes), device=unsaid.device)
            size = of[(u * len(of)).long().clamp_max(len(of) - 1)]
        share = self.whole if self.whole_at_end is None else self.whole + progress * (self.whole_at_end - self.whole)
        return torch.where((stays < share) & (not self.both), every, size.clamp_max(every))

    def split(self, layout: Layout, generator: torch.Generator | None = None, progress: float = 1.0) -> Layout:
        """The layout with its unsaid entries in groups: all else stays.

        layout: a row's entries in sequence order, its unsaid ones ranked at random by `order` (see `random_order`).
        """
        unsaid = layout.unsaid
        size = self.draw_sizes(unsaid, generator, progress)
        rank = layout.order if self.members == "random" else self._ranks(unsaid, size, generator)
        return replace(layout, block=torch.where(unsaid, rank // size, layout.block))

    def _ranks(self, unsaid: Tensor, size: Tensor, generator: torch.Generator | None) -> Tensor:
        """`[batch, seq]`: ranks such that those related follow one another, `size` at a time.

        Of what is left, one at random, and its closest ones: they are a group.
        """
        close = _closeness(self.members, unsaid)
        left, rank = unsaid.clone(), torch.zeros_like(unsaid, dtype=torch.long)
        chance, rows = uniform(unsaid, generator), torch.arange(len(unsaid), device=unsaid.device)
        for first in range(unsaid.shape[1]):
            going = left.any(1)
            if not bool(going.any()):
                break
            centre = torch.where(left, chance, -1.0).argmax(1)
            score = torch.where(left, close[centre] + 1e-6 * chance, -math.inf)  # in float64: chance breaks ties
            score[rows, centre] = math.inf
            near = score.argsort(1, descending=True).argsort(1)
            chosen = left & (near < size)
            rank = torch.where(chosen, first * size, rank)
            left = left & ~chosen
        return rank


def ask_groups(
    layout: Layout, x0: Tensor, groups: Groups, generator: torch.Generator | None = None, progress: float = 1.0
) -> Packed:
    """A pass whose unsaid entries are split into groups, each asked for its token; twice where `groups.both`.

    layout: see `Groups.split`. x0: `[batch, seq]` the clean tokens.
    """
    split = groups.split(layout, generator, progress)
    if not groups.both:
        packed = ask_masks(split, x0)
        return _by_size(packed, groups.weight)
    both = _with_whole(split)
    is_whole = both.unsaid & (both.block == _whole_block(split))
    whole = ask_masks(both, x0, is_whole)
    parts = _by_size(ask_masks(both, x0, both.unsaid & ~is_whole), groups.weight)
    if groups.distil:
        loss = Distilled(groups.distil, 0, _matching(both, whole.one.at, parts.one.at))
        parts = Packed(both, (replace(parts.one, loss=loss),))
    return mix(whole, parts, 0.5)


def _whole_block(layout: Layout) -> int:
    """A number past those of all groups."""
    return layout.shape[1]


def _with_whole(layout: Layout) -> Layout:
    """The layout, and its unsaid entries once more as one group: `[batch, seq + most unsaid]`."""
    again = layout.select_where(layout.unsaid)
    return layout.join(replace(again, block=torch.where(again.unsaid, _whole_block(layout), -1)))


def _matching(layout: Layout, among: Tensor, at: Tensor) -> Tensor:
    """`[batch, m]`: which of the entries `among` `[batch, k]` is at the position of each of the entries `at`."""
    here, there = layout.position.gather(1, at), layout.position.gather(1, among)
    there = torch.where(layout.unsaid.gather(1, among), there, -1)  # filling is about nothing
    if not among.shape[1]:  # nothing is unsaid
        return at
    return (here[:, :, None] == there[:, None, :]).to(torch.uint8).argmax(2)


def _by_size(packed: Packed, power: float) -> Packed:
    """The only question of a pass, its losses weighed by a power of the sizes of their groups."""
    if not power:
        return packed
    asked = packed.one
    raw = sizes_of(packed.layout, asked.at).to(asked.weight.dtype).clamp_min(1) ** power * asked.real
    return weighed(packed, raw / raw.sum().clamp_min(torch.finfo(raw.dtype).tiny))


def sizes_of(layout: Layout, at: Tensor) -> Tensor:
    """`[batch, m]`: how many are in the group of each of the unsaid entries `at` `[batch, m]`."""
    block = torch.where(layout.unsaid, layout.block, layout.shape[1] + 1)
    held = block.new_zeros(len(block), layout.shape[1] + 2).scatter_add(1, block, torch.ones_like(block))
    return held.gather(1, block.gather(1, at))


def _finite(value: Any) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)


def _closeness(members: object, like: Tensor) -> Tensor:
    """`[seq, seq]`: how close the position of a column is to that of a row."""
    if isinstance(members, Related):
        if len(members.table) != like.shape[1]:
            raise ValueError(f"Related is a table of {len(members.table)} positions, and rows have {like.shape[1]}")
        return torch.tensor(members.table, device=like.device, dtype=torch.float64)
    place = torch.arange(like.shape[1], device=like.device, dtype=torch.float64)
    return -(place[:, None] - place).abs()

"""Many predictions in one pass: a clean sequence, and blocks of masks at many thresholds of the order it is said in.

The clean tokens are context, dated by their rank in the order; the block at threshold s sees those of rank below s, and
itself. So one pass trains what decoding computes prefix by prefix, to the last digit. Next-token and mask-slot
autoregression, latent tokens, MuToR's registers, teacherless training, any-order autoregression and block diffusion
differ in which thresholds there are and in which ranks a block holds, and in nothing else (`objective` lists them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unspoken.layout.entries import PADDING, Layout, entries_of, first_where, most, one_block, uniform
from unspoken.layout.questions import SUCCESSOR, Question, SquaredError, each_tensor, joined
from unspoken.layout.reads import STATES, Reads
from unspoken.noise.space import is_unknown


@dataclass(frozen=True)
class Clean:
    """Clean sequences and the order in which their tokens are said.

    x0: `[batch, seq]` token ids.
    given: `[batch, seq]` bool: the prompt, there from the start.
    place: `[batch, seq]` the position of the token said first, second, ...; the prompt's positions come last.
    present: `[batch, seq]` bool, False past the end of short rows, where all is `given`; None where all are there.
    value: `[batch, seq, width]` what it shows at entries of a port's placeholder; None where it is ids alone.
    """

    x0: Tensor
    given: Tensor
    place: Tensor
    present: Tensor | None = None
    value: Tensor | None = None

    @property
    def prompt(self) -> Tensor:
        """`[batch, seq]` bool: what is given and there."""
        return self.given if self.present is None else self.given & self.present

    @property
    def free(self) -> Tensor:
        """`[batch, 1]`: how many tokens are said."""
        return (~self.given).sum(1, keepdim=True)

    @property
    def most(self) -> int:
        """How many tokens the row that says most says; 0 of no rows."""
        return most(~self.given)

    @property
    def rank(self) -> Tensor:
        """`[batch, seq]`: in which turn the token at each position is said; the prompt's come last."""
        return torch.empty_like(self.place).scatter_(1, self.place, _count(self.place))

    def at(self, rank: Tensor) -> Tensor:
        """The positions of the tokens said in the turns `rank` `[batch, n]`; some position where there is none."""
        return self.place.gather(1, rank.clamp(0, max(self.place.shape[1] - 1, 0)))

    def context(self, stride: int = 1) -> Layout:
        """The clean tokens: the prompt at order 0, the others at 1, 2, ..., `stride` of them at each."""
        none, order = torch.zeros_like(self.given), (self.rank // stride + 1) * ~self.given
        return replace(one_block(self.x0, none, order, self.present), value=self.value)

    def rows(self, index: Tensor) -> Clean:
        """The rows `index` `[r]`."""
        present, value = (None if its is None else its[index] for its in (self.present, self.value))
        return Clean(self.x0[index], self.given[index], self.place[index], present, value)


def left_to_right(x0: Tensor, given: Tensor, present: Tensor | None = None) -> Clean:
    """Said in the order of the positions. x0, given, present: `[batch, seq]`."""
    return Clean(x0, given, given.to(torch.uint8).argsort(dim=1, stable=True), present)


def any_order(x0: Tensor, given: Tensor, generator: torch.Generator | None = None) -> Clean:
    """Said in a uniformly random order, drawn for each row. x0, given: `[batch, seq]`."""
    return Clean(x0, given, (uniform(x0, generator) + given).argsort(dim=1))


def every_start(clean: Clean) -> Tensor:
    """`[batch, most]`: the thresholds 0, 1, ...; a row's last is its number of free tokens less one."""
    return _count(clean.place)[:, : clean.most]


def some_starts(clean: Clean, n: int, generator: torch.Generator | None = None) -> Tensor:
    """`[batch, n]`: n different thresholds of each row at random, rising; all of them where there are no more."""
    every = every_start(clean)
    absent = every >= clean.free
    drawn = (uniform(every, generator) + absent).argsort(dim=1)[:, :n]
    return drawn.sort(dim=1).values


def blocks(
    clean: Clean, start: Tensor, offset: Tensor, mask_id: int, *, stride: int = 1, whole: bool = False
) -> Layout:
    """The clean tokens as context, and a block of masks at every threshold.

    start: `[batch, n]` thresholds, in strides: as how many tokens said the block sees.
    offset: `[batch or 1, slots]`: which of the tokens left the block holds, 0 the next one. What lies past a row's last
        token is not there, so windows may be larger than what remains.
    stride: tokens that are said together and see each other as context; 1 but in block diffusion.
    whole: keep the clean tokens that no block sees, to ask them for their successors.
    """
    seq = clean.x0.shape[1]
    slot = offset.expand(len(start), -1)[:, None, :].expand(-1, start.shape[1], -1)
    rank = start[:, :, None] * stride + slot
    real = (rank < clean.free[:, :, None]).flatten(1)
    position = clean.at(rank.flatten(1))
    block = _count(start)[:, :, None].expand_as(rank)
    latents = Layout(
        token=torch.full_like(position, mask_id),
        position=position,
        order=(slot.flatten(1) - 1) % seq,  # as in decoding: the latents, the nearest first, then the next token
        horizon=(start[:, :, None] + 1).expand_as(rank).flatten(1),
        block=block.flatten(1),
        document=torch.where(real, 0, PADDING),
    )
    context = clean.context(stride)
    horizon = torch.cat([torch.zeros_like(clean.free), torch.where(real, latents.horizon, 0)], dim=1)
    seen = context.order < horizon.amax(1, keepdim=True)
    both = (context if whole else context.without(~seen)).join(latents)
    return both.select_where(both.document != PADDING)


@dataclass(frozen=True)
class Packed:
    """A pass, and the questions it is asked. Mixing objectives is concatenating their questions.

    then: a pass after this one. Its questions come after this pass's.
    reads: what this pass reads of the one before it (`layout.reads`); by default the states that its slots had there,
        for which it must hold the same entries in the same places. None reads nothing.
    bare: this pass runs without the trunk's adapter, where it has one.
    """

    layout: Layout
    questions: tuple[Question, ...]
    then: Packed | None = None
    reads: Reads | None = STATES
    bare: bool = False

    @property
    def passes(self) -> tuple[Packed, ...]:
        """This pass, and those after it."""
        return (self, *(() if self.then is None else self.then.passes))

    @property
    def asked(self) -> tuple[Question, ...]:
        """The questions of every pass."""
        return tuple(q for each in self.passes for q in each.questions)

    @property
    def one(self) -> Question:
        """The only question. Raises ValueError where there are several, or none."""
        if len(self.questions) != 1:
            raise ValueError(f"a pass of {len(self.questions)} questions; look at `Packed.questions`")
        return self.questions[0]

    @property
    def weight(self) -> Tensor:
        """`[batch, m]`: of every loss, one question's after the other's."""
        return torch.cat([q.weight for q in self.asked], 1)

    def reduce(self, losses: Tensor) -> Tensor:
        """The one reducer: losses `[batch, m]` to their weighted sum. All builders' weights sum to 1 but a bound's."""
        return (losses * self.weight).sum()

    def by_slot(self, losses: Tensor, most: int = 8) -> list[float]:
        """Mean loss of slots 0, 1, ... where nothing is said but the prompt: what is foreseen, j tokens ahead.

        Up to the first slot that nobody was asked for. Next-token entries count as slot 0 where there are no blocks.
        """
        at, slots, real = (torch.cat([getattr(q, n) for q in self.questions], 1) for n in ("at", "slot", "real"))
        losses = losses[:, : at.shape[1]]  # of this pass
        first = real & (self.layout.horizon.gather(1, at) == 1)
        if not bool((first & (slots >= 0)).any()):
            slots = slots.clamp_min(0)  # clean entries where there is nothing else
        means = [float(losses[first & (slots == j)].mean()) for j in range(most)]
        return means[: next((j for j, mean in enumerate(means) if mean != mean), most)]

    def rows(self, first: int, last: int) -> Packed:
        """The rows first ... last - 1. Weights stay: the parts' losses sum to the whole's, however a batch is cut."""
        batch = self.layout.token.shape[0]
        return self.each(lambda its: its[first:last] if its.dim() and its.shape[0] == batch else its)

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        return self.each(lambda its: its.to(device))

    def each(self, change: Callable[[Tensor], Tensor]) -> Packed:
        """The same with every tensor changed: of its layout, its questions, what it reads, and the pass after it."""
        questions = tuple(each_tensor(q, change) for q in self.questions)
        layout, reads = each_tensor(self.layout, change), each_tensor(self.reads, change)
        then = None if self.then is None else self.then.each(change)
        return replace(self, layout=layout, questions=questions, reads=reads, then=then)


def slot_of(layout: Layout, seq: int) -> Tensor:
    """`[batch, entries]`: of a block's entries, which slot each is (see `Question.slot`)."""
    return (layout.order + 1) % seq


def ask_masks(layout: Layout, x0: Tensor, asked: Tensor | None = None) -> Packed:
    """Asks every unsaid entry, or those `asked` `[batch, entries]`, for the token at its position, all alike."""
    asked = layout.unsaid if asked is None else asked
    return _ask(layout, asked, x0.gather(1, layout.position), slot_of(layout, x0.shape[1]))


def ask_next(layout: Layout, clean: Clean) -> Packed:
    """Asks clean entries for their successor: the last of the prompt for the token said first, and so on.

    Raises ValueError where a row has no prompt to ask for its first token.
    """
    if not bool(clean.prompt.any(1).all()):
        raise ValueError("next-token training asks the prompt for the first token: give every row a prompt")
    asked = has_successor(layout, clean)
    successor = clean.place.gather(1, torch.where(asked, layout.order, 0))
    return _ask(layout, asked, clean.x0.gather(1, successor), torch.full_like(layout.order, SUCCESSOR))


def has_successor(layout: Layout, clean: Clean) -> Tensor:
    """`[batch, entries]` bool: clean entries after which a token is said; of the prompt, the last one."""
    prompt = torch.where(clean.prompt, _count(clean.place), -1)
    last = torch.nn.functional.pad(prompt, (1, 0), value=-1).amax(1, keepdim=True)  # padded for rows of no tokens
    return layout.said & (layout.order < clean.free) & ((layout.order > 0) | (layout.position == last))


def _ask(layout: Layout, asked: Tensor, target: Tensor, slot: Tensor) -> Packed:
    at = first_where(asked, most(asked))
    real = asked.gather(1, at)
    slot = torch.where(real, slot.gather(1, at), 0)
    return Packed(layout, (Question(at, target.gather(1, at), real / real.sum().clamp_min(1), slot),))


def show_values(packed: Packed, value: Tensor, mask_id: int) -> Packed:
    """The same pass over tokens of which some are values: said entries show theirs.

    value: `[batch, seq, width]` clean vectors or codes, unknown where a token is an id; hidden (0) at every entry whose
        token is the mask.
    """
    layout = packed.layout
    known = torch.where(is_unknown(value)[..., None], 0, value)
    shown = entries_of(known, layout.position) * (layout.token != mask_id)[..., None]
    return replace(packed, layout=replace(layout, value=shown))


def ask_values(packed: Packed, value: Tensor, mask_id: int) -> Packed:
    """The same pass over values: said entries show theirs, and each question is for the value at its own position.

    value: see `show_values`. Vectors are priced by their squared error.
    Raises ValueError for questions about another position than the entry's own (next-token prediction).
    """
    packed = show_values(packed, value, mask_id)
    layout = packed.layout
    if any(bool((q.slot == SUCCESSOR).any()) for q in packed.questions):
        raise ValueError("next-token questions are about ids; values are asked at their own masked entries")
    loss = {"loss": SquaredError()} if value.is_floating_point() else {}
    asked = tuple(
        replace(q, target=entries_of(value, layout.position.gather(1, q.at)), port="values", **loss)
        for q in packed.questions
    )
    return replace(packed, questions=asked)


def weigh_slots(packed: Packed, by_slot: Tensor) -> Packed:
    """Each block counts alike; within it the slots count by `by_slot` `[slots]`, all positive where asked.

    The loss is the mean over blocks of the weighted mean over a block's slots (He et al. 2026, whose targets are
    normalised by the number of masked tokens, has weights of 1).
    """
    asked = packed.one
    raw = by_slot[asked.slot] * asked.real
    block = packed.layout.block.gather(1, asked.at).clamp_min(0)
    of_block = raw.new_zeros(len(raw), int(block.max()) + 1 if block.numel() else 1).scatter_add(1, block, raw)
    weight = raw / of_block.gather(1, block).clamp_min(torch.finfo(raw.dtype).tiny)
    return weighed(packed, weight / (of_block > 0).sum().clamp_min(1))


def weighed(packed: Packed, weight: Tensor) -> Packed:
    """The only question of a pass with other weights `[batch, m]`; filling keeps 0."""
    return Packed(packed.layout, (replace(packed.one, weight=torch.where(packed.one.real, weight, 0.0)),))


def mix(a: Packed, b: Packed, share: float) -> Packed:
    """The questions of both on one layout: (1 - share) of `a`'s loss and `share` of `b`'s.

    Where one of them asks nothing, the other is all of the loss.
    """
    if not (_asks(a) and _asks(b)):
        share = 0.0 if _asks(a) else 1.0
    parts = (*(q.scaled(1 - share) for q in a.questions), *(q.scaled(share) for q in b.questions))
    return Packed(a.layout, joined(parts))


def _asks(packed: Packed) -> bool:
    return any(bool(q.real.any()) for q in packed.questions)


def _count(like: Tensor) -> Tensor:
    """`[batch, n]`: 0, 1, ... in every row."""
    return torch.arange(like.shape[1], device=like.device).expand_as(like)

"""What committing tokens together costs, for every order and every commit rule, from decodings alone: the pseudo-cost.

A pass draws the tokens that it commits from q, as if they were independent. Said one by one in the same passes, each
would be drawn in view of those before it, from p. The pseudo-cost scores the tokens that were drawn by both,

    sum over passes, and i committed in it, of  [ -log p(x_i | context, x_<i) ] - [ -log p(x_i | context) ].

Who is committed depends on the context alone (and on the decoder's random choices, which are the same for both). So the
mean over the sampler's own draws is KL(q | p) by the chain rule: 0 or more, and 0 where the tokens of a pass are
independent. Over sequences that p draws, the mean of its negative is the reverse KL(p | q), the expected conditional
total correlation of the tokens committed together (Wen, Liang, Lu, arXiv 2608.25505); for random orders and an exact p
that is `InformationProfile.overhead`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import check_tokens
from unspoken.decoders.policies import policy_named
from unspoken.decoders.slots import Slots
from unspoken.decoders.step import Step, put
from unspoken.layout.entries import draw_ranks, most
from unspoken.measure.likelihood import pass_nll
from unspoken.model.network import Model


@dataclass(frozen=True)
class PseudoCost:
    """Of decodings, `[batch, passes]` nats; 0 where a row committed nothing in a pass.

    together: -log of the probability with which the pass drew what it committed. Their sum is -log q of the decoding.
    alone: the same tokens one by one. Their sum is -log p.
    """

    together: Tensor
    alone: Tensor

    @property
    def nats(self) -> Tensor:
        """`[batch]`: of whole decodings."""
        return (self.alone - self.together).sum(1)


@dataclass(frozen=True)
class _Pass:
    """A pass of some rows: what it saw and what it committed. All `[r, seq]`.

    x0: the tokens after it. unsaid, there: before it, which are masked, and which are in the sequence at all.
    date: of the context. candidate, latent: who is in it. rank: of the latents. own: in which turn the decoder lists
    what it committed. committed: bool.
    """

    x0: Tensor
    unsaid: Tensor
    there: Tensor
    date: Tensor
    candidate: Tensor
    latent: Tensor
    rank: Tensor
    own: Tensor
    committed: Tensor

    def together(self, model: Model) -> Tensor:
        """`[r]` nats of what was committed, as the pass drew it."""
        context, seq = self.there & ~self.unsaid, self.x0.shape[1]
        order = torch.where(self.unsaid, torch.where(self.candidate, seq, self.rank), self.date)
        return pass_nll(model, self.x0, self.unsaid, order, context | self.candidate | self.latent, self.committed)

    def alone(self, model: Model, turn: Tensor, latents: int | None) -> Iterator[Tensor]:
        """`[r]` nats of the token said first, second, ... by `turn` `[r, seq]`, of what was committed."""
        seq, k, count = self.x0.shape[1], most(self.committed), self.date.amax(1, keepdim=True)
        own = self.latent.sum(1, keepdim=True)
        for now in range(k):
            before, target = (self.committed & its for its in (turn < now, turn == now))
            unsaid, later = self.unsaid & ~before, self.committed & (turn > now)
            few = later & (own + turn - now <= (seq if latents is None else latents))
            rank = torch.where(later, turn - now - 1, torch.where(self.latent, self.rank + k, seq))
            order = torch.where(unsaid, rank, torch.where(before, count + 1 + turn, self.date))
            rest = self.candidate & ~self.committed
            seen = (self.there & ~unsaid) | target | rest | self.latent | few
            yield pass_nll(model, self.x0, unsaid, order, seen, target)


@torch.no_grad()
def pseudo_cost(
    model: Model,
    decoder: Slots,
    steps: Sequence[Step],
    present: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> PseudoCost:
    """What the tokens that were committed together in decodings would have cost one by one.

    decoder: of temperature 1, so that it draws from what the network says. steps: all that it yielded, from the first.
    present: as the decoder was told.
    generator: draws the order inside each pass; None = the decoder's own, the best first.
    A token said alone sees the context, the tokens of its pass that were said before it, the pass's latents and its
    candidates that were not committed. Those said after it are latents too, as many as `decoder.latents` leaves room
    for, and come first: so would the decoder say them that commits one token a pass.
    A pass more for every pass, and one for each token that a row committed in it, where that is more than one.
    Raises ValueError for what can not be scored: steps that are not whole, values, stale latents, other temperatures.
    """
    steps = _checked(model, decoder, steps, present)
    checks.seeded(generator)
    tokens, device = steps[0].tokens, steps[0].tokens.device
    there = torch.ones_like(tokens, dtype=torch.bool) if present is None else present.bool()
    unsaid = ((tokens == model.mask_id) | steps[0].committed) & there
    date = torch.zeros_like(tokens)
    together, alone = (torch.zeros(len(tokens), len(steps), dtype=torch.float64, device=device) for _ in range(2))
    for number, step in enumerate(steps):
        rows = step.rows[step.chosen.any(1)]
        if not len(rows):
            continue
        its = _pass_of(step, rows, unsaid, there, date, policy_named(decoder.latent_policy).inward)
        nats = its.together(model)
        together[rows, number] = alone[rows, number] = nats
        if most(its.committed) > 1:
            turn = its.own if generator is None else draw_ranks(its.committed, generator)
            alone[rows, number] = sum(its.alone(model, turn, decoder.latents), torch.zeros_like(nats))
        count = date.amax(1, keepdim=True)[rows]
        date[rows] = torch.where(its.committed, count + 1 + its.own, its.date)
        unsaid[rows] = its.unsaid & ~its.committed
    return PseudoCost(together, alone)


def _pass_of(step: Step, rows: Tensor, unsaid: Tensor, there: Tensor, date: Tensor, inward: bool) -> _Pass:
    """The rows of a step that committed something. unsaid, there, date: `[batch, seq]`, before it."""
    which, c = step.chosen.any(1), step.n_candidates
    said, chosen = step.said[which], step.chosen[which]
    position, real = step.position[which, c:], step.real[which, c:]
    among = torch.arange(position.shape[1], device=position.device)
    ranks = (among.flip(0) if inward else among).expand_as(position)
    nothing = torch.zeros_like(date[rows])
    return _Pass(
        x0=step.tokens[rows],
        unsaid=unsaid[rows],
        there=there[rows],
        date=date[rows],
        candidate=step.candidates[rows],
        latent=step.latents[rows],
        rank=put(nothing, position, ranks, real),
        own=put(nothing, said, torch.arange(said.shape[1], device=said.device).expand_as(said), chosen),
        committed=step.committed[rows],
    )


def _checked(model: Model, decoder: Slots, steps: Sequence[Step], present: Tensor | None) -> Sequence[Step]:
    """The steps as a list. Raises TypeError or ValueError for what can not be scored."""
    checks.kind("decoder", decoder, Slots, "the us.Slots that said them")
    steps = list(steps) if isinstance(steps, Sequence) else []
    if not steps or not all(isinstance(step, Step) for step in steps):
        raise ValueError("steps: give all that the decoder yielded, as a list of us.Step, one or more")
    check_tokens(model, steps[0].tokens, present)
    if any(step.value is not None for step in steps):
        raise ValueError("these are decodings of values, which are drawn whole: the pseudo-cost is of tokens")
    if decoder.temperature != 1 or decoder.stale:
        raise ValueError(
            f"temperature={decoder.temperature}, stale={decoder.stale}: the pseudo-cost scores what was drawn at "
            "temperature=1, from passes that the steps tell whole (stale=False)"
        )
    if [step.index for step in steps] != list(range(len(steps))):
        raise ValueError(f"steps of the passes {[step.index for step in steps[:8]]}...: give all of them, from pass 0")
    return steps

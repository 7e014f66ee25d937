"""One call of `Slots`, complete: its options with their names looked up, and how wide each of its passes is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from unspoken.decoders.commit import Commit
from unspoken.decoders.endings import NONE, Endings
from unspoken.decoders.policies import LatentPolicy, Order
from unspoken.decoders.state import DecodingState
from unspoken.model.cache import Cache

if TYPE_CHECKING:  # for the type alone: `slots` holds the loop that stands on this
    from unspoken.decoders.slots import Slots

CANDIDATES = 8  # the paper's `topk_candidate_min`


@dataclass(frozen=True)
class Width:
    """How wide a pass is.

    candidates, latents: at most so many a row. most: latents that a step may come to, where doubt adds some.
    commit: how many of the candidates are committed. predict_latents: the head is asked at the latents too.
    """

    candidates: int
    latents: int
    most: int
    commit: Commit
    predict_latents: bool

    @property
    def unsaid(self) -> int:
        """Candidates and latents."""
        return self.candidates + self.latents

    def asked(self, present: int) -> int:
        """Of so many unsaid entries in the pass, at how many the head runs."""
        return present if self.predict_latents else self.candidates

    def doubled(self, left: int) -> Width:
        """With twice the latents, for rows of at most `left` unsaid tokens: those no longer in doubt may have more."""
        return replace(self, latents=min(max(1, 2 * self.latents), left - self.candidates))


@dataclass(frozen=True)
class Rules:
    """The options of a call, and what was looked up for it.

    commits: of the first step, the second, ...; the last from then on.
    predict_latents: asked for, or needed by a policy.
    endings: where texts end.
    """

    slots: Slots
    order: Order
    latent_policy: LatentPolicy
    commits: tuple[Commit, ...]
    predict_latents: bool
    generator: torch.Generator
    endings: Endings = NONE

    @property
    def needs_entropy(self) -> bool:
        """Whether a policy goes by what was seen of the latents."""
        return self.order.needs_entropy or self.latent_policy.needs_entropy

    def width(self, state: DecodingState, step: int, cache: Cache | None = None) -> Width:
        """Of the first pass of that step, from 0: nowhere else is it decided.

        cache: the pass's; stale latents are all predicted once, while it is empty.
        """
        slots, left = self.slots, int(state.left.max())
        commit = self.commits[min(step, len(self.commits) - 1)]
        wanted = commit.most if self.order.blind else candidates_of(slots.candidates, self.commits)
        candidates = min(wanted, left)
        rest = left - candidates
        every = slots.latents is None or (slots.stale and cache is not None and not len(cache))
        latents = rest if slots.latents is None or every else min(slots.latents, rest)
        return Width(candidates, latents, rest if slots.min_confidence else latents, commit, self.predict_latents)


def candidates_of(candidates: int | None, commits: tuple[Commit, ...]) -> int:
    """From how many the best are chosen, by default."""
    return max(CANDIDATES, *(commit.most for commit in commits)) if candidates is None else candidates

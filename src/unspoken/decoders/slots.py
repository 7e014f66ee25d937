"""Decoding from mask slots: a decoder that yields one `Step` for every forward pass.

A pass holds the context (all that is said, or with a cache what was said last), unsaid tokens that are predicted but
not said (the latents), and the candidates, of which the best are said. Everything else is left out of it: fewer
latents are a smaller pass, and rows that are done are in none. Counts are known ahead wherever no confidence decides,
so that no step has to ask the device.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import Numbers, check_tokens, shifts
from unspoken.decoders.commit import Commit, check_bounds
from unspoken.decoders.endings import NONE, Endings
from unspoken.decoders.passes import look_on
from unspoken.decoders.plan import plan_of
from unspoken.decoders.policies import (
    LEFT_TO_RIGHT,
    NEXT_IN_ORDER,
    LatentPolicy,
    Order,
    order_named,
    policy_named,
    top_probability,
)
from unspoken.decoders.rules import Rules, candidates_of
from unspoken.decoders.sampling import check_sampling
from unspoken.decoders.state import DecodingState, begin
from unspoken.decoders.step import Step
from unspoken.decoders.values import foreseen_of, need_ids, port_of, says_values, sees_times, split_prompt
from unspoken.model.cache import Cache
from unspoken.model.network import Model
from unspoken.model.ports import Vectors


@dataclass(frozen=True)
class Slots:
    """From mask slots, with latent tokens beside the candidates (He et al. 2026, arXiv 2602.03769).

    Attributes:
        latents: Unsaid tokens beside the candidates in a pass; by default all there are.
        candidates: From how many the best is said, the first by `order`; by default 8 (the paper's number), or `commit`
            if larger. They come before the latents where there are not enough unsaid tokens for both. Blind orders
            (uniform, left_to_right) take `commit`.
        commit: Tokens said a step and row, at most; or so many in the first step, in the second, ... (the last number
            from then on), as `InformationProfile.schedule` plans them; or a `Commit`, which may hold a rule of yours.
        threshold: Of those, all but the first must have a likeliest token of this probability; 0 says them all. Under
            left_to_right this is the confident prefix.
        entropy_bound: Of those, the entropies of the ones said before must sum to at most this, in nats (EB-sampler,
            arXiv 2505.24857).
        order: Which candidate is said first: a name of `ORDERS`, or an `Order`.
        latent_policy: Which unsaid tokens are the latents: a name of `LATENT_POLICIES` (`uniform`, drawn at random anew
            each step; `next`, those which the order would say next; ...), or a `LatentPolicy` such as `attended(...)`.
        min_confidence: Above 0, `latents` are only where a step begins: rows whose best candidate is less probable than
            this are predicted again with twice as many, until it is probable enough, the same twice in a row, or beside
            all. inf goes on to all.
        stale: Beside a cache, keep the latents' keys too: all are predicted in the first pass, and from then on those
            that are in no pass are still seen, as they were in the last step (its first pass, where latents are added)
            that predicted them. `latents` is how many are refreshed a pass.
        keep_finished: Rows that are done stay in the passes until all are, as in most codes. Greedy and without random
            choices nothing but cost changes.
        rebatch: Above 0, rows that need fewer entries than others get passes of their own from then on, where that
            saves this share of the entries: fewer FLOPs, more calls. Nothing else changes, as with `keep_finished`.
        temperature: 0 says the likeliest token; above 0 the token is drawn from softmax(logits / temperature).
        top_k: Tokens are drawn from the k most probable alone; 0 for all.
        top_p: Tokens are drawn from the most probable that together have this probability; 1 for all.
        cache: Keep the keys and values of the context where the model can (`Attention.cacheable`): exact, and less
            work.
    """

    latents: int | None = None
    candidates: int | None = None
    commit: int | tuple[int, ...] | Commit = 1
    threshold: float = 0.0
    entropy_bound: float = math.inf
    order: str | Order = "confidence"
    latent_policy: str | LatentPolicy = "uniform"
    min_confidence: float = 0.0
    stale: bool = False
    keep_finished: bool = False
    rebatch: float = 0.0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    cache: bool = True

    def __post_init__(self) -> None:
        checks.plain(self)
        order_named(self.order)
        policy_named(self.latent_policy)
        check_bounds(self.threshold, self.entropy_bound)
        commits = self.commits()
        _check_counts(self.latents, self.candidates, commits)
        check_sampling(self.temperature, self.top_k, self.top_p)
        give = "a probability, 0 to keep to the number of latents, inf to end beside all"
        checks.number("min_confidence", self.min_confidence, 0, math.inf, give)
        checks.number("rebatch", self.rebatch, 0, checks.BELOW_1, "a share in [0, 1)")
        if len(commits) > 1 and (
            self.threshold or self.entropy_bound < math.inf or self.min_confidence or self.rebatch or self.stale
        ):
            raise ValueError(
                f"commit={self.commit} says how many in each step, and so do threshold, entropy_bound, min_confidence, "
                "rebatch and stale latents; take one or the other"
            )
        if 1 < self.min_confidence < math.inf:
            raise ValueError(f"min_confidence={self.min_confidence}; give {give}")
        if self.rebatch and self.keep_finished:
            raise ValueError(f"rebatch={self.rebatch}, keep_finished={self.keep_finished}: give one, and not both")

    def commits(self) -> tuple[Commit, ...]:
        """How many are committed in the first step, in the second, ...; the last from then on."""
        if isinstance(self.commit, Commit):
            if self.threshold or self.entropy_bound < math.inf:
                raise ValueError(
                    f"threshold={self.threshold}, entropy_bound={self.entropy_bound} beside {self.commit}: write them "
                    "into the Commit, and nowhere else"
                )
            return (self.commit,)
        commit: Any = self.commit
        several = isinstance(commit, Sequence) and not isinstance(commit, str)
        sizes: tuple[Any, ...] = tuple(commit) if several else (commit,)
        if not sizes:
            raise ValueError("commit=() says nothing; give one number or more")
        return tuple(Commit(size, self.threshold, self.entropy_bound) for size in sizes)

    def steps(
        self,
        model: Model,
        tokens: Tensor,
        *,
        present: Tensor | None = None,
        predict_latents: bool = False,
        generator: torch.Generator | None = None,
        endings: Endings = NONE,
    ) -> Iterator[Step]:
        """Says every unsaid token of `tokens` and yields each step (lazily: a pass a `next`).

        Prompts and infilling are one thing: what is not the mask is given and never changes. Rows may hold different
        numbers of unsaid tokens; rows that are done leave the batch.

        tokens: `[batch, seq]` int64, the model's mask id where unsaid; or codes `[batch, seq, dims]`, -1 where
            unknown; or ids and values, `[batch, seq, 1 + width]` (`noise.space.paired`).
        present: `[batch, seq]` bool (or 0 and 1), False past the end of short rows; those are in no pass.
        predict_latents: run the head on the latents too, to see what they hold (`Step.guess`).
        generator: every random choice; None = a fresh one of seed 0.
        endings: what ends a row before its last position; by default nothing does.
        Raises ValueError on tokens outside the vocabulary and wrong shapes, and for stale latents without a cache.
        """
        tokens, value = split_prompt(model, tokens)
        check_tokens(model, tokens, present)
        checks.seeded(generator)
        if says_values(model):
            self._check_values(model)
        if self.stale and not (self.cache and model.attention.cacheable):
            raise ValueError(
                f"stale latents of attention {model.attention.name}, cache={self.cache}: their keys are kept in the "
                "cache; take cached-joint or any-order, with cache=True"
            )
        if self.latents is not None and self.latents > tokens.shape[1]:
            warnings.warn(f"{self.latents} latents asked of {tokens.shape[1]} positions: all are taken", stacklevel=2)
        rules = replace(self._rules(predict_latents, generator), endings=endings)
        if shifts(model):
            self._check_shift(rules)
        present = torch.ones_like(tokens, dtype=torch.bool) if present is None else present.bool()
        return _steps(model, tokens.clone(), value, present, rules, model.new_cache() if self.cache else None)

    def _check_values(self, model: Model) -> None:
        """Raises ValueError for what is not known of values: a vector of codes is drawn whole, with one probability."""
        order, vectors = order_named(self.order), isinstance(port_of(model), Vectors)
        if self.top_k or self.top_p < 1 or (vectors and (sees_times(model) or not order.blind)):
            need_ids(self, model)
        entropies = order.needs_entropy or policy_named(self.latent_policy).needs_entropy
        if order.after not in (None, top_probability) or entropies or self.entropy_bound < math.inf:
            raise ValueError(
                f"order={self.order!r}, latent_policy={self.latent_policy!r}, entropy_bound={self.entropy_bound}: of "
                "code vectors the probability alone is known; take the order confidence, uniform or left_to_right, a "
                "latent policy that needs no entropies, and no entropy_bound"
            )

    def _check_shift(self, rules: Rules) -> None:
        """Raises ValueError where a token may be asked whose left neighbour is left out of the pass."""
        in_order = rules.order is LEFT_TO_RIGHT
        if rules.predict_latents:
            in_order = in_order and rules.latent_policy is NEXT_IN_ORDER
        if not (in_order or self.latents is None or self.stale):
            raise ValueError(
                f"latents={self.latents}, order={rules.order.name!r}, latent_policy={rules.latent_policy.name!r}: the "
                "model reads the answer for a token at the entry to its left (shift=True), which these may leave out; "
                "take all latents, or the order left_to_right with latent_policy='next'"
            )

    def _rules(self, predict_latents: bool, generator: torch.Generator | None) -> Rules:
        order, policy = order_named(self.order), policy_named(self.latent_policy)
        return Rules(
            slots=self,
            order=order,
            latent_policy=policy,
            commits=self.commits(),
            predict_latents=predict_latents or policy.needs_entropy or order.needs_entropy,
            generator=torch.Generator().manual_seed(0) if generator is None else generator,
        )


@torch.no_grad()
def _steps(
    model: Model, tokens: Tensor, value: Tensor | None, present: Tensor, rules: Rules, cache: Cache | None
) -> Iterator[Step]:
    """The loop, whose arguments are checked and complete."""
    numbers, passes = Numbers(tokens.device), 0
    every = begin(tokens, value, (tokens == model.mask_id) & present, present)
    every.foreseen = foreseen_of(model, every)
    value = value if says_values(model) else None  # what is shown alone stays as it is
    groups = [(every, cache)]
    while groups:
        state, cache = groups.pop()
        going = state.left > 0
        if not bool(going.any()):
            continue
        if not (rules.slots.keep_finished or bool(going.all())):
            state, cache = _part(state, cache, going)
        if rules.slots.rebatch and (few := _apart(state, rules, passes, cache is not None)) is not None:
            groups += [_part(state, cache, ~few), _part(state, cache, few)]
            continue
        state.narrow()
        width = rules.width(state, passes, cache)  # where steps differ in `commit`, a pass is a step of all rows
        for index, seen, now in look_on(model, state, plan_of(state, width, rules), cache, width, rules):
            waits = not (width.commit.fixed and rules.slots.min_confidence == 0)
            numbers.see(passes, seen.probability, seen.plan.real[:, : seen.probability.shape[1]], index, waits)
            tokens = _after(tokens, state.index, state.tokens)
            value = None if value is None or state.value is None else _after(value, state.index, state.value)
            yield seen.step(passes, tokens, index, now, model.mask_id, value)
            passes += 1
        groups.append((state, cache))
    numbers.end()


def _after(whole: Tensor, rows: Tensor, wide: Tensor) -> Tensor:
    """What the batch's `rows` now hold in `whole`; `wide` has a column more, which means nothing."""
    return wide[:, :-1].clone() if len(rows) == len(whole) else whole.index_copy(0, rows, wide[:, :-1])


def _part(state: DecodingState, cache: Cache | None, which: Tensor) -> tuple[DecodingState, Cache | None]:
    """The rows where `which` `[r]` (on the CPU), and their part of the cache."""
    at = which.nonzero()[:, 0]
    return state.take(at), None if cache is None else cache.take(at)


def _apart(state: DecodingState, rules: Rules, step: int, cached: bool) -> Tensor | None:
    """`[r]` bool: the rows that need few entries, where passes of their own save a share of `rebatch` or more."""
    context = state.news if cached else state.length - state.left
    needs = context + state.left.clamp_max(rules.width(state, step).unsaid)
    width, n = needs.sort().values, len(needs)
    together, apart = n * int(width[-1]), torch.arange(1, n) * width[:-1] + torch.arange(n - 1, 0, -1) * width[-1]
    if n == 1 or together - int(apart.min()) < rules.slots.rebatch * together:
        return None
    return needs <= width[int(apart.argmin())]


def _check_counts(latents: int | None, candidates: int | None, commits: tuple[Commit, ...]) -> None:
    if latents is not None:
        checks.count("latents", latents)
    if candidates is not None:
        checks.count("candidates", candidates, 1)
    best = candidates_of(candidates, commits)
    for commit in commits:
        if commit.most > best:
            raise ValueError(f"commit={commit.most} of candidates={best}; need 1 <= commit <= candidates")

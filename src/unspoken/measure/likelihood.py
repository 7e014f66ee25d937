"""Likelihoods in nats: the bound of masked diffusion, and what a token costs beside so many latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unspoken import checks
from unspoken.decoders.checks import check_model
from unspoken.decoders.policies import Ahead, Around, LatentPolicy
from unspoken.layout.documents import Documents, without_absent
from unspoken.layout.entries import Layout, draw_ranks, one_block, random_order, rank_of
from unspoken.layout.packing import ask_masks
from unspoken.model.network import Model
from unspoken.noise import Absorbing
from unspoken.noise.times import stratified_times
from unspoken.training.losses import bound_weight, noised, packed_losses, token_losses


@torch.no_grad()
def nelbo(
    model: Model,
    process: Absorbing,
    x0: Tensor,
    given: Tensor,
    generator: torch.Generator | None = None,
    draws: int = 8,
    document: Tensor | None = None,
) -> Tensor:
    """A Monte-Carlo estimate of the bound on -log p(x0 | given), in nats: `[batch, draws]`, each unbiased.

    arXiv 2406.07524, eq. 10, the integral over t in [0, 1] taken at stratified times.
    x0: `[batch, seq]`; given: `[batch, seq]` bool.
    document: `[batch, seq]`, see `Objective.pack`; a row's number is the sum over its documents.
    """
    check_clean(model, x0, given, draws, generator)
    checks.kind("process", process, Absorbing, "us.Absorbing(); other noise is measured by us.nelbo_along")
    if document is not None:
        its = Documents.of(document, x0)
        return its.add(_nelbo(model, process, *_apart(its, x0, given), generator, draws, its.present))
    return _nelbo(model, process, x0, given, generator, draws)


def _apart(its: Documents, x0: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Each document in a row of its own; what is past its end is given."""
    return its.split(x0), its.split(given) | ~its.present


def _nelbo(
    model: Model,
    process: Absorbing,
    x0: Tensor,
    given: Tensor,
    generator: torch.Generator | None,
    draws: int,
    present: Tensor | None = None,
) -> Tensor:
    estimates = []
    for _ in range(draws):
        z = noised(process, x0, given, model.mask_id, generator)
        layout = without_absent(z.layout, present)
        estimates.append((token_losses(model, layout, x0) * bound_weight(process, z)).sum(1))
    return torch.stack(estimates, dim=1)


@torch.no_grad()
def nll_by_latents(
    model: Model,
    x0: Tensor,
    given: Tensor,
    latents: Sequence[int],
    generator: torch.Generator | None = None,
    draws: int = 8,
    document: Tensor | None = None,
) -> Tensor:
    """-log p(x0 | given) in nats when every token is predicted beside n latents: `[batch, len(latents)]`.

    The tokens are said one at a time in uniformly random order; a step with m unsaid ones predicts one of them in
    view of the context and min(n, m - 1) random others. Estimated without bias at `draws` random steps a row
    (m uniform, stratified over the batch and the draws). Ordered latents give every n from one pass, because the
    latent of rank j saw exactly j; for lone ones n makes no difference. Joint ones take a group of n + 1 for each n:
    several share a pass where the context sees no latents, else each has its own.
    latents: the counts n, each >= 0 (counts beyond what is unsaid mean all of it).
    document: `[batch, seq]`, see `Objective.pack`; a row's number is the sum over its documents.
    """
    check_clean(model, x0, given, draws, generator)
    checks.counts("latents", latents)
    if document is not None:
        its = Documents.of(document, x0)
        return its.add(_by_latents(model, *_apart(its, x0, given), latents, generator, draws, its.present))
    return _by_latents(model, x0, given, latents, generator, draws)


def _by_latents(
    model: Model,
    x0: Tensor,
    given: Tensor,
    latents: Sequence[int],
    generator: torch.Generator | None,
    draws: int,
    present: Tensor | None = None,
) -> Tensor:
    free = (~given).sum(1)
    steps = stratified_times(draws * len(x0), generator, x0.device).view(draws, len(x0))
    total = torch.zeros(len(x0), len(latents), dtype=torch.float64, device=x0.device)
    for step in steps:
        m = (step * free).ceil().clamp_min(1)
        unsaid = (draw_ranks(~given, generator) < m[:, None]) & ~given
        layout = random_order(torch.where(unsaid, model.mask_id, x0), unsaid, given, generator)
        total += losses_by_latents(model, without_absent(layout, present), x0, latents) * free[:, None]
    return total / draws


def check_clean(model: Model, x0: Tensor, given: Tensor, draws: int, generator: torch.Generator | None) -> None:
    """Raises TypeError or ValueError for what can not be measured, before any pass."""
    check_model(model)
    checks.clean(x0, given, model.mask_id, model.vocab_size)
    checks.count("draws", draws, 1)
    checks.seeded(generator)


def losses_by_latents(model: Model, layout: Layout, x0: Tensor, latents: Sequence[int]) -> Tensor:
    """`[batch, len(latents)]`: the loss of one unsaid token beside n latents, averaged over what a pass tells.

    layout: all of a row's entries in sequence order (as `random_order` makes it).
    """
    rank, unsaid = layout.order, layout.unsaid
    last = unsaid.sum(1, keepdim=True) - 1
    if model.attention.latents == "joint":
        return torch.cat([_beside(model, layout, x0, its) for its in _passes(model, layout, latents)], dim=1)
    losses = token_losses(model, layout, x0)
    if model.attention.latents == "alone":
        return (losses.sum(1, keepdim=True) / (last + 1).clamp_min(1)).double().expand(-1, len(latents))
    at_rank = [(losses * (unsaid & (rank == last.clamp_max(n)))).sum(1) for n in latents]
    return torch.stack(at_rank, dim=1).double()


def _passes(model: Model, layout: Layout, latents: Sequence[int]) -> Iterator[list[int]]:
    """The counts that share a pass: as many as the unsaid entries of all of them are no more than twice the layout."""
    its: list[int] = []
    for n in latents:
        unsaid = sum(min(k + 1, layout.shape[1]) for k in (*its, n))
        if its and (model.attention.context_sees_latents or unsaid > 2 * layout.shape[1]):
            yield its
            its = []
        its.append(n)
    if its:
        yield its


def _beside(model: Model, layout: Layout, x0: Tensor, latents: Sequence[int]) -> Tensor:
    """`[batch, len(latents)]`: the mean loss of a group of the n + 1 unsaid tokens of lowest rank, for each n.

    One pass: the groups see the context, and not each other.
    """
    rank, unsaid = layout.order, layout.unsaid
    both = layout.select_where(layout.said)
    for number, n in enumerate(latents):
        group = layout.select_where(unsaid & (rank <= n))
        both = both.join(replace(group, block=torch.where(group.unsaid, number, group.block)))
    packed = ask_masks(both, x0)
    losses, asked = packed_losses(model, packed).double(), packed.one
    number = both.block.gather(1, asked.at).clamp_min(0)
    total, count = (
        torch.zeros(len(x0), len(latents), dtype=torch.float64, device=x0.device).scatter_add(1, number, its)
        for its in (losses, asked.real.double())
    )
    return total / count.clamp_min(1)


def pass_nll(model: Model, x0: Tensor, unsaid: Tensor, order: Tensor, seen: Tensor, asked: Tensor) -> Tensor:
    """`[batch]` nats: -log p of all tokens `asked` of one pass, as if they were independent.

    All `[batch, seq]`. unsaid, order: see `one_block`. seen: who is in the pass. asked: some of its unsaid tokens.
    """
    layout = one_block(torch.where(unsaid, model.mask_id, x0), unsaid, order).select_where(seen)
    packed = ask_masks(layout, x0, layout.unsaid & asked.gather(1, layout.position))
    return packed_losses(model, packed).double().sum(1)


@torch.no_grad()
def nll_by_policy(
    model: Model,
    x0: Tensor,
    given: Tensor,
    policy: LatentPolicy,
    counts: Sequence[int],
    generator: torch.Generator,
    draws: int = 8,
) -> Tensor:
    """As `nll_by_latents`, but beside the n latents that a policy chooses for the token to predict: a pass for each n.

    `[batch, len(counts)]` nats. Ordered latents see the ones chosen before them, or after (`LatentPolicy.inward`).
    """
    check_clean(model, x0, given, draws, generator)
    checks.counts("counts", counts)
    free, seq = (~given).sum(1), x0.shape[1]
    steps = stratified_times(draws * len(x0), generator, x0.device).view(draws, len(x0))
    total = torch.zeros(len(x0), len(counts), dtype=torch.float64, device=x0.device)
    # All drawn before a policy draws: with one seed, every policy is asked the same.
    turns = [draw_ranks(~given, generator) for _ in steps]
    never = torch.full(x0.shape, torch.inf, device=x0.device)
    for step, turn in zip(steps, turns, strict=True):
        m = (step * free).ceil().clamp_min(1)
        unsaid = (turn < m[:, None]) & ~given
        target = torch.where(unsaid, turn, x0.shape[1]).argmin(1, keepdim=True)  # a random one of them
        rest = unsaid.scatter(1, target, False)
        real = unsaid.gather(1, target)
        around = Around(rest, target, real, turn.float(), Ahead(unsaid, never, torch.full_like(never, -1), generator))
        rank = rank_of(policy.rank(around), rest)
        said_at = (turn - m[:, None].long() + 1) * ~given  # as random as the order in which they would have been said
        order = torch.where(unsaid, torch.where(rest, seq - 1 - rank if policy.inward else rank, seq), said_at)
        asked = unsaid & ~rest
        for column, n in enumerate(counts):
            total[:, column] += pass_nll(model, x0, unsaid, order, ~unsaid | (rest & (rank < n)) | asked, asked) * free
    return total / draws

"""How to decode, as data: what the command line, the studies and `metrics.solve` hand on to the decoders."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal, get_args, get_type_hints

import torch
from torch import Tensor

from unspoken.decoders.autoregressive import block_by_block, next_tokens, speculate
from unspoken.decoders.correct import correct
from unspoken.decoders.decode import decode
from unspoken.decoders.policies import latents_named, order_named
from unspoken.decoders.step import Step
from unspoken.decoders.walk import as_steps, denoise
from unspoken.model.denoiser import Model
from unspoken.noise import Absorbing, Process
from unspoken.training.objective import (
    BlockDiffusion,
    Diffused,
    LatentBlocks,
    NextToken,
    Objective,
    Registers,
    Teacherless,
)

By = Literal["slots", "next_token", "speculation", "blocks", "walk"]
OrderName = Literal["uniform", "left_to_right", "confidence", "margin", "entropy", "promising"]
Beside = Literal["uniform", "next", "nearest", "uncertain", "certain", "oldest"]

USED: dict[By, tuple[str, ...]] = {  # the fields that a way of decoding goes by
    "slots": (
        *(
            "by",
            "latents",
            "candidates",
            "commit",
            "threshold",
            "entropy",
            "order",
            "beside",
            "widen",
            "stale",
            "wait",
            "split",
        ),
        *("temperature", "cache"),
    ),
    "next_token": ("by", "cache"),
    "speculation": ("by", "latents", "drafts", "cache"),
    "blocks": ("by", "block", "commit", "cache"),
    "walk": ("by", "passes", "rounds", "process"),
}


@dataclass(frozen=True)
class Decoding:
    """A way to decode.

    Attributes:
        by: `slots`, from masks in the pass (`decode`); `next_token`, at the last token said; `speculation`, what slots
            would say from left to right, in fewer passes; `blocks`, block by block of `block` tokens; `walk`, all at
            once through the noise of `process`.
        latents: Unsaid tokens beside the candidates in a pass; by default all.
        candidates: From how many the best is said; by default 8, or `commit` if larger.
        commit: Tokens said a pass, at most.
        threshold: Of those, all but the first must have a likeliest token of this probability.
        entropy: Of those, the entropies of the ones said before must sum to at most this, in nats.
        order: Which candidate is said first.
        beside: Which unsaid tokens are the latents: drawn at random, the next in the order, the nearest to a candidate,
            or those that were least or most certain when last predicted.
        widen: Above 0, `latents` are doubled for rows whose best candidate is less probable than this.
        block: Tokens of a block, where it goes by blocks.
        drafts: Of speculation: drafts checked in a pass; by default as many as latents.
        stale: Beside a cache: latents that are in no pass are still seen, as they were when last predicted.
        wait: Rows that are done stay in the passes until all are: to measure what it saves that they leave.
        split: Above 0, rows that need fewer entries get passes of their own, where that saves this share of them.
        temperature: 0 says the likeliest token; more draws one.
        cache: Keep the context's keys and values where the attention allows it.
        passes: Of a walk; 0 for as many as there are positions.
        rounds: Of second thoughts after a walk.
        process: That a walk goes through.
    """

    by: By = "slots"
    latents: int | None = None
    candidates: int | None = None
    commit: int = 1
    threshold: float = 0.0
    entropy: float = math.inf
    order: OrderName = "confidence"
    beside: Beside = "uniform"
    widen: float = 0.0
    block: int = 4
    drafts: int | None = None
    stale: bool = False
    wait: bool = False
    split: float = 0.0
    temperature: float = 0.0
    cache: bool = True
    passes: int = 0
    rounds: int = 0
    process: Process = field(default_factory=Absorbing)

    def __post_init__(self) -> None:
        for name in ("by", "beside"):
            known = get_args(get_type_hints(Decoding)[name])
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; give one of {', '.join(known)}")
        order_named(self.order)
        latents_named(self.beside)
        if self.passes < 0 or self.rounds < 0:
            raise ValueError(f"passes={self.passes}, rounds={self.rounds}; give 0 or more")
        usual = {f.name: Absorbing() if f.name == "process" else f.default for f in fields(self)}
        idle = [name for name in usual if name not in USED[self.by] and getattr(self, name) != usual[name]]
        if idle:
            raise ValueError(f"by={self.by!r} has no use for {', '.join(idle)}; it takes {', '.join(USED[self.by])}")

    def steps(
        self, model: Model, tokens: Tensor, *, peek: bool = False, generator: torch.Generator | None = None
    ) -> Iterator[Step]:
        """Decodes `tokens` `[batch, seq]`; one `Step` a pass. peek: see what latents hold (of `slots`)."""
        if self.by == "next_token":
            return next_tokens(model, tokens, cache=self.cache)
        if self.by == "speculation":
            return speculate(model, tokens, latents=self.latents, drafts=self.drafts, cache=self.cache)
        if self.by == "blocks":
            return block_by_block(model, tokens, size=self.block, commit=self.commit, cache=self.cache)
        if self.by == "walk":
            return self._walk(model, tokens, generator)
        return decode(
            model,
            tokens,
            latents=self.latents,
            candidates=self.candidates,
            commit=self.commit,
            threshold=self.threshold,
            entropy=self.entropy,
            order=self.order,
            beside=self.beside,
            widen=self.widen,
            stale=self.stale,
            wait=self.wait,
            split=self.split,
            temperature=self.temperature,
            cache=self.cache,
            peek=peek,
            generator=generator,
        )

    def _walk(self, model: Model, tokens: Tensor, generator: torch.Generator | None) -> Iterator[Step]:
        """A walk, then second thoughts about what it said."""
        given = tokens != model.mask_id
        if bool(given.all()):
            return
        steps = denoise(model, self.process, tokens, steps=self.passes or tokens.shape[1], generator=generator)
        passes = 0
        for step in as_steps(steps, given, model.mask_id):
            tokens, passes = step.tokens, passes + 1
            yield step
        if self.rounds:
            thoughts = correct(model, tokens, given, rounds=self.rounds, generator=generator)
            yield from as_steps(thoughts, given, model.mask_id, first=passes)


def natural(objective: Objective, process: Process | None = None) -> Decoding:
    """How a model of that objective and process is decoded: as it was trained."""
    if isinstance(objective, Diffused):
        return Decoding(by="walk", process=process or Absorbing())
    if isinstance(objective, (NextToken, Registers)):
        return Decoding(by="next_token")
    if isinstance(objective, LatentBlocks):
        latents = objective.window - 1 if objective.window else None
        order = "left_to_right" if objective.order == "left_to_right" else "uniform"
        return Decoding(order=order, beside="next", latents=latents)
    if isinstance(objective, BlockDiffusion):
        return Decoding(by="blocks", block=objective.size)
    if isinstance(objective, Teacherless):
        return Decoding(order="left_to_right", beside="next", commit=2**20)
    return Decoding()

"""Families of decoder settings, each from one token a pass to many: as data, with which models they are for.

What a model was trained for is in its config, and so are the families that it is decoded by; `Grid` says at which
values. A family of your own is a line in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import inf

from unspoken.decoders.autoregressive import NextToken, Speculation
from unspoken.decoders.blocks import Blocks
from unspoken.decoders.decode import Decoders, read_decoder
from unspoken.decoders.denoise import Walk
from unspoken.decoders.slots import Slots
from unspoken.noise import Gaussian
from unspoken.study.base import check_once
from unspoken.training.config import Train
from unspoken.training.objective import Denoising, MaskedDiffusion, MultiToken, Teacherless

Settings = dict[str, Decoders]  # by what they are called in the table


@dataclass(frozen=True)
class Grid:
    """At which values each family is measured.

    Attributes:
        families: Some of `one` (one token a pass), `sizes` (as many in every pass), `threshold`, `entropy` (the
            EB-sampler's bound), `latents` (few of them, of models that have the dial), `next` (next tokens, of models
            trained on both), `drafts` (self-speculation) and `walk`; by default all that a model was trained for.
        thresholds: Probabilities that all but the first token of a pass must have.
        entropies: Nats that the tokens of a pass but the last may sum to.
        sizes: Tokens a pass, above 1; 0 is all.
        latents: How few of them.
        candidates: From how many the best is committed where candidates do not see each other, and beside few latents;
            at most a quarter of the tokens to say. Elsewhere all are candidates.
        drafts: So many at most are checked in a pass of self-speculation.
        temperatures: Of samples of tasks without right answers.
        drawn: Tokens a pass of these samples; 0 is all.
    """

    families: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = (0.7, 0.9, 0.97, 0.99)
    entropies: tuple[float, ...] = (0.05, 0.2, 1.0)
    sizes: tuple[int, ...] = (2, 4, 8, 0)
    latents: tuple[int, ...] = (0, 8)
    candidates: int = 8
    drafts: tuple[int, ...] = (1, 2, 4, 8)
    temperatures: tuple[float, ...] = (0.6, 0.8, 1.0, 1.2)
    drawn: tuple[int, ...] = (1, 4)

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self) if f.name not in ("families", "candidates")):
            check_once(name, getattr(self, name))
        if unknown := [name for name in self.families if name not in FAMILIES]:
            raise ValueError(f"no family is called {unknown[0]!r}; give some of {', '.join(FAMILIES)}, each once")
        if len(set(self.families)) < len(self.families):
            raise ValueError(f"families={self.families}: give each once")
        if not all(0 < t <= 1 for t in self.thresholds):
            raise ValueError(f"thresholds={self.thresholds}: give probabilities in (0, 1]")
        if not all(0 <= e < inf for e in self.entropies):
            raise ValueError(f"entropies={self.entropies}: give nats of 0 or more")
        if not all(0 < t < inf for t in self.temperatures):
            raise ValueError(f"temperatures={self.temperatures}: give numbers above 0; at 0 nothing is drawn")
        if not all(n > 1 or n == 0 for n in self.sizes) or min(self.drawn) < 0:
            raise ValueError(
                f"sizes={self.sizes}, drawn={self.drawn}: give numbers above 1 (drawn: 1 or more), 0 for all"
            )
        if min(self.latents) < 0 or min(self.drafts) < 1 or self.candidates < 1:
            raise ValueError(
                f"latents={self.latents}, drafts={self.drafts}, candidates={self.candidates}: give latents of 0 or "
                "more, drafts and candidates of 1 or more"
            )


@dataclass(frozen=True)
class Kind:
    """A model as the families see it.

    train: its config. grid: the values. most: tokens to say, in the row that has the most.
    """

    train: Train
    grid: Grid
    most: int

    @property
    def own(self) -> Decoders:
        """The decoder that it was trained for, by its record."""
        return read_decoder(self.train.objective.decoder(self.train.process))

    @property
    def masked(self) -> bool:
        """Whether it says masks in any order: trained at masks, and shown no times."""
        trained = isinstance(self.train.objective, MaskedDiffusion | Denoising)
        return trained and self.train.process.absorbs and not self.train.trunk.times

    @property
    def window(self) -> int:
        """Of AR + MTP, the tokens that a block was trained to say; 1 where that is the next alone."""
        objective = self.train.objective
        if not isinstance(objective, MultiToken) or not objective.weight:
            return 1
        return min(objective.window or self.most, self.most)

    @property
    def few(self) -> int:
        """Candidates that leave room for latents."""
        return max(1, min(self.grid.candidates, self.most // 4))

    @property
    def candidates(self) -> int:
        """From how many the best is said beside all latents."""
        return self.few if self.train.attention.latents == "ordered" else self.most

    @property
    def dial(self) -> tuple[int, ...]:
        """How few latents it was trained for; where latents see nobody their number makes no difference to answers."""
        objective, latents = self.train.objective, self.train.attention.latents
        if not self.masked or (latents == "joint" and getattr(objective, "groups", None) is None):
            return ()
        return tuple(n for n in self.grid.latents if n + self.few < self.most) if latents != "alone" else (0,)

    def numbers(self, sizes: tuple[int, ...], most: int) -> list[int]:
        """Those of the sizes that a pass can say, 0 read as most, which is at least 1."""
        return sorted({n or most for n in sizes if n <= most})

    def slots(self, commit: int) -> Slots | None:
        """Mask slots that commit so many at most; None where the model is not decoded so."""
        if self.masked:
            return Slots(candidates=max(self.candidates, commit), commit=commit)
        own, window = self.own, self.window
        if not isinstance(self.train.objective, MultiToken) or not isinstance(own, Slots) or commit > window:
            return None
        # A block is as long as it was trained: what is not committed of it are latents.
        return replace(own, commit=commit, latents=own.latents if own.latents is None else own.latents - commit + 1)


def called(n: int) -> str:
    """`4 a pass`."""
    return f"{n} a pass"


def _one(its: Kind) -> Settings:
    own = its.slots(1) or (its.own if isinstance(its.own, NextToken | Blocks) else None)
    return {} if own is None else {called(1): own}


def _sizes(its: Kind) -> Settings:
    """`Teacherless` says all in one pass, and has one setting."""
    if isinstance(its.train.objective, Teacherless):
        return {called(its.most): its.own}
    if isinstance(own := its.own, Blocks):
        most = min(own.size, its.most)
        return {called(n): replace(own, commit=n) for n in its.numbers(its.grid.sizes, most) if n > 1}
    most = its.most if its.masked else its.window
    found = {called(n): its.slots(n) for n in its.numbers(its.grid.sizes, most) if n > 1}
    return {name: slots for name, slots in found.items() if slots is not None}


def _several(its: Kind) -> Slots | None:
    """As many tokens a pass as a rule lets through; None where one is all there are."""
    most = its.candidates if its.masked else its.window
    return its.slots(most) if most > 1 else None


def _threshold(its: Kind) -> Settings:
    several = _several(its)
    return {} if several is None else {f"p {t:g}": replace(several, threshold=t) for t in its.grid.thresholds}


def _entropy(its: Kind) -> Settings:
    several = _several(its)
    return {} if several is None else {f"nats {e:g}": replace(several, entropy_bound=e) for e in its.grid.entropies}


def _latents(its: Kind) -> Settings:
    found: Settings = {}
    for n in its.dial:
        found[f"latents {n}"] = one = Slots(n, its.few)
        if its.few > 1:
            found |= {f"latents {n}, p {t:g}": replace(one, commit=its.few, threshold=t) for t in its.grid.thresholds}
    return found


def _next(its: Kind) -> Settings:
    both = isinstance(its.train.objective, MultiToken) and its.train.objective.next_token > 0
    return {"next token": NextToken()} if both else {}


def _drafts(its: Kind) -> Settings:
    own, train = its.own, its.train
    right = isinstance(own, Slots) and own.order == "left_to_right" and its.window > 1
    if not (right and train.attention.cacheable and train.attention.latents != "alone"):
        return {}
    assert isinstance(own, Slots)
    drafts = its.numbers(its.grid.drafts, its.window - 1)
    return {f"drafts {n}": Speculation(own.latents, n) for n in drafts}


def _walk(its: Kind) -> Settings:
    """Of one token a pass, on average, and of more."""
    if not isinstance(own := its.own, Walk):
        return {}
    passes = [-(-its.most // n) for n in its.numbers((1, *its.grid.sizes), its.most)]
    return {f"passes {n}": replace(own, passes=n) for n in dict.fromkeys(passes)}


FAMILIES: dict[str, Callable[[Kind], Settings]] = {
    "one": _one,
    "sizes": _sizes,
    "threshold": _threshold,
    "entropy": _entropy,
    "latents": _latents,
    "next": _next,
    "drafts": _drafts,
    "walk": _walk,
}


def settings_of(its: Kind) -> dict[tuple[str, str], Decoders]:
    """The settings of a model by family and name, one token a pass first; each decoder once.

    Raises ValueError where the families chosen are none that the model was trained for.
    """
    found: dict[tuple[str, str], Decoders] = {}
    for family in its.grid.families or FAMILIES:
        for name, decoder in FAMILIES[family](its).items():
            if decoder not in found.values():
                found[family, name] = decoder
    if not found:
        train = its.train
        raise ValueError(
            f"families={its.grid.families}: attention {train.attention.name} trained with {train.objective} has "
            "settings in none of them; name others, or none for all that there are"
        )
    return found


def drawn_of(its: Kind) -> dict[tuple[str, float], Decoders]:
    """How samples are drawn, by tokens a pass and temperature: masks in random order, others in their own.

    Raises ValueError for a model whose decoder draws nothing.
    """
    sizes, temperatures = its.numbers(its.grid.drawn, its.most), its.grid.temperatures
    if its.masked:
        blind = {n: Slots(commit=n, order="uniform") for n in sizes}
    elif isinstance(its.train.objective, Teacherless) and isinstance(its.own, Slots):
        blind = {its.most: its.own}
    else:
        blind = {n: slots for n in sizes if (slots := its.slots(n)) is not None}
    if blind:
        return {(called(n), t): replace(slots, temperature=t) for n, slots in blind.items() for t in temperatures}
    if isinstance(own := its.own, Walk):
        return {(called(n), 1.0): replace(own, passes=-(-its.most // n)) for n in sizes}
    raise ValueError(
        f"{its.train.objective} is decoded by {own}, which says the likeliest token and draws none: there are no "
        f"samples to measure on {its.train.task.title}; leave this run out"
    )


def check_decodable(run: str, train: Train) -> None:
    """Raises ValueError for a model whose tokens are values: curves are of token ids."""
    if getattr(train.task, "values", None) is not None or isinstance(train.process, Gaussian):
        raise ValueError(
            f"{run} was trained on {train.task.title}, whose tokens are values: curves are measured of token ids; "
            "leave this run out"
        )

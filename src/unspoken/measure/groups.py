"""Runs that differ in the seed alone, measured: profiles, what planned schedules lose and draw, what orders cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unspoken.decoders.policies import UNIFORM, order_named
from unspoken.decoders.slots import Slots
from unspoken.decoders.step import last
from unspoken.measure.profile import SamplerProfile, parallel_nll, sampler_losses
from unspoken.measure.pseudo_cost import pseudo_cost
from unspoken.measure.schedules import Profile, even
from unspoken.model.denoiser import Denoiser
from unspoken.tasks.base import Examples, Split, Task
from unspoken.training.config import Train
from unspoken.training.earlier import whatever_the_seed
from unspoken.training.loading import load
from unspoken.training.objective import Denoising, MaskedDiffusion
from unspoken.training.run import Run
from unspoken.training.seeds import seeded

EVEN, PLANNED = "even", "planned"


@dataclass(frozen=True)
class Scheduled:
    """A schedule: what was foretold of it, and what came.

    foretold: nats a token that it should lose, by the profile; `told` `[seeds, rows]` the same of each row.
    nll, lost: `[seeds, rows]` nats a token of test, and those above saying one at a time; accuracy: its answers.
    latents: beside how many; None = all.
    """

    model: str
    schedule: str
    sizes: tuple[int, ...]
    foretold: float
    told: Tensor
    nll: Tensor
    lost: Tensor
    accuracy: Tensor
    latents: int | None = None

    @property
    def passes(self) -> int:
        """A pass for every size."""
        return len(self.sizes)

    @property
    def name(self) -> str:
        """The model, and beside how many latents."""
        return beside(self.model, self.latents)


@dataclass(frozen=True)
class Ordered:
    """Decodings of test in some order, several tokens a pass. pseudo_cost, accuracy: `[seeds, rows]`, nats a token."""

    model: str
    latents: int | None
    order: str
    sizes: tuple[int, ...]
    pseudo_cost: Tensor
    accuracy: Tensor

    @property
    def passes(self) -> int:
        """A pass for every size."""
        return len(self.sizes)


def beside(model: str, latents: int | None) -> str:
    """What a model is called beside so many latents."""
    return model if latents is None else f"{model}, beside {latents}"


@dataclass(frozen=True)
class Group:
    """The seeds of one model on one task. draws: random sets or orders a row; latents: None = all."""

    name: str
    train: Train
    models: list[Denoiser]

    @property
    def has_dial(self) -> bool:
        """Whether it is trained for every number of latents."""
        return self.train.attention.latents == "ordered" or getattr(self.train.objective, "groups", None) is not None

    def losses(self, known: Examples, latents: int | None, draws: int) -> Tensor:
        """`[seeds, rows, L, sizes]`: of the profile. The same sets of known tokens for every model."""
        its = [sampler_losses(m, known.x0, known.given, latents, seeded("profile"), draws) for m in self.models]
        return torch.stack(its)

    def nll(self, test: Examples, sizes: Sequence[int], draws: int, latents: int | None = None) -> Tensor:
        """`[seeds, rows]` nats a token. Every schedule says the tokens in the same orders: they are pairs."""
        of_seeds = []
        for model in self.models:
            its = [parallel_nll(model, test.x0, test.given, sizes, latents, seeded("orders", n)) for n in range(draws)]
            of_seeds.append(torch.stack(its).mean(0) / sum(sizes))
        return torch.stack(of_seeds)

    def right(self, test: Examples, sizes: Sequence[int], latents: int | None = None) -> Tensor:
        """`[seeds, rows]`: which answers, drawn in such steps and in random order, are right."""
        task, way = self.train.task, Slots(latents, commit=tuple(sizes), order=UNIFORM, temperature=1.0)
        prompt = test.prompt(task.mask_id)
        its = [last(way.steps(model, prompt, generator=seeded("draws")), prompt) for model in self.models]
        return torch.stack([task.score(prompt, tokens).double() for tokens in its])

    def scheduled(
        self,
        kind: str,
        sizes: tuple[int, ...],
        losses: Tensor,
        test: Examples,
        alone: Tensor,
        draws: int,
        latents: int | None = None,
    ) -> Scheduled:
        """A schedule measured. losses: of the profile; alone: `nll` of test, said one at a time."""
        length, most = losses.shape[-2:]
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        together = losses[..., starts, torch.tensor(sizes).clamp_max(most) - 1]
        told = ((together * torch.tensor(sizes)).sum(-1) - losses[..., 0].sum(-1)) / length
        foretold = fitted(losses).overhead(sizes) / length
        nll = self.nll(test, sizes, draws, latents)
        right = self.right(test, sizes, latents)
        return Scheduled(self.name, kind, sizes, foretold, told, nll, nll - alone, right, latents)

    def ordered(self, order: str, sizes: tuple[int, ...], test: Examples, latents: int | None = None) -> Ordered:
        """Decodings of test in an order: what they cost, and which are right."""
        task, way = self.train.task, Slots(latents, commit=sizes, order=order_named(order), temperature=1.0)
        prompt, nats, right = test.prompt(task.mask_id), [], []
        for model in self.models:
            steps = list(way.steps(model, prompt, generator=seeded("draws")))
            nats.append(pseudo_cost(model, way, steps, generator=seeded("inside")).nats / sum(sizes))
            right.append(task.score(prompt, steps[-1].answer).double())
        return Ordered(self.name, latents, order, sizes, torch.stack(nats), torch.stack(right))


def fitted(losses: Tensor) -> SamplerProfile:
    """The profile of all seeds together."""
    return SamplerProfile.fitted(losses.flatten(0, 1))


def groups_of(runs: Sequence[str | Path]) -> list[Group]:
    """The runs that differ in the seed alone. ValueError before any work for one that is not of masks at random."""
    alike = seeds_of(runs)
    for train, its in alike.items():
        masked = train.process.absorbs and isinstance(train.objective, MaskedDiffusion | Denoising)
        if not masked or train.trunk.times:
            raise ValueError(
                f"{its[0]} was trained with {train.objective} under {train.process}, times={train.trunk.times}; a "
                "profile is of tokens masked at random, and its models are shown no times: give other runs"
            )
    names = numbered([f"{train.attention.name.upper()}, {train.task.title}" for train in alike])
    return [
        Group(name, train, [load(folder, "cpu") for folder in its])
        for name, (train, its) in zip(names, alike.items(), strict=True)
    ]


def seeds_of(runs: Sequence[str | Path]) -> dict[Train, list[Path]]:
    """The run folders of each model, whose config is given with seed 0: those that differ in the seed alone.

    Runs of earlier stages may differ in the seed too: the config is that of the first folder.
    Raises ValueError for what is no run folder.
    """
    alike: dict[Train, list[Path]] = {}
    known: dict[Train, Train] = {}
    for folder in map(Path, runs):
        config = Run(folder).config(Train)
        its = known.setdefault(whatever_the_seed(config), replace(config, seed=0))
        alike.setdefault(its, []).append(folder)
    return alike


def numbered(names: Sequence[str]) -> list[str]:
    """The names, with their place in the list after those that are there twice."""
    return [name if names.count(name) == 1 else f"{name} ({n})" for n, name in enumerate(names, 1)]


def of_one_length(task: Task, split: Split, n: int, length: int | None = None) -> Examples:
    """Of the split's examples the first n with `length` tokens to say, by default the commonest number."""
    every = task.sample(split, task.size(split)).whole()
    free = (~every.given).sum(1)
    at = (free == (int(free.mode().values) if length is None else length)).nonzero()[:n, 0]
    return Examples(every.x0[at], every.given[at])


def known_and_test(task: Task, n: int) -> tuple[Examples, Examples]:
    """Validation and test: n of each with as many tokens to say as is commonest in test. ValueError where none is."""
    test = of_one_length(task, "test", n)
    known = of_one_length(task, "validation", n, int((~test.given[0]).sum()))
    if not len(known):
        raise ValueError(f"{task.title}: no validation example has as many tokens to say as the test examples taken")
    return known, test


def schedules(profile: Profile, passes: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
    """Even and planned sizes of every number of passes, and of the fewest planned passes as good as each even one."""
    sizes: list[tuple[str, tuple[int, ...]]] = []
    for n in [n for n in passes if n <= profile.length]:
        equal = even(profile.length, n)
        fewer = profile.fewest(profile.overhead(equal))
        sizes += [
            (EVEN, equal),
            (PLANNED, profile.schedule(n)),
            (PLANNED, fewer),
            (EVEN, even(profile.length, len(fewer))),
        ]
    return list(dict.fromkeys(sizes))

"""How many steps are enough? What parallel decoding of a trained model loses, foretold from its losses alone.

The profile is measured on validation (`profile`), schedules are planned from it, and what they are foretold to lose is
held against what they do lose on test: the likelihood of whole decodings, and the answers that they draw.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unspoken.decoders.policies import UNIFORM
from unspoken.decoders.slots import Slots
from unspoken.decoders.step import last
from unspoken.measure.profile import InformationProfile, even, parallel_nll, profile_losses
from unspoken.model.denoiser import Denoiser
from unspoken.record import environment
from unspoken.study.grid import check_positive
from unspoken.study.plans import COLUMNS, EVEN, PLANNED, Scheduled, planned, prediction
from unspoken.study.report import Result, Stage
from unspoken.study.table import Column, Row, Table
from unspoken.tasks.base import Examples, Split, Task
from unspoken.training.config import Train
from unspoken.training.loop import load, seeded
from unspoken.training.objective import Denoising, MaskedDiffusion
from unspoken.training.run import Run

TABLE = Table(
    "steps",
    {
        "profile": (
            *COLUMNS[:3],
            Column("h", drawn=True),
            Column("nll", "NLL", "{:.4f}".format),
            Column("total_correlation", "schedule", "TC {:.3f}, ".format),
            Column("dual_total_correlation", "schedule", "DTC {:.3f}".format),
            Column("least_overhead"),
        ),
        "schedule": COLUMNS,
    },
    "Nats a token that saying tokens together loses: foretold from validation, lost by whole decodings of test "
    "sequences; the NLL of these. Right: answers drawn at temperature 1. TC, DTC: total and dual total correlation "
    "a token. With 95% intervals.",
    headings=tuple(column.heading for column in COLUMNS),
)


@dataclass(frozen=True)
class StepsStudy:
    """The study's config.

    Attributes:
        runs: Run folders; seeds of one model are those that differ in the seed alone.
        passes: Of the schedules.
        latents: How many unknown tokens each is predicted beside, of models that have the dial; all besides.
        examples: Of validation, for the profile, and of test: those of the commonest number of tokens to say.
        draws: Random sets a row and k in the profile; random orders a row of a schedule.
    """

    runs: tuple[str, ...]
    passes: tuple[int, ...] = (2, 3, 4, 6, 8, 12)
    latents: tuple[int, ...] = (0, 4)
    examples: int = 500
    draws: int = 8

    def __post_init__(self) -> None:
        if not self.runs or len(set(self.runs)) < len(self.runs):
            raise ValueError(f"runs={self.runs}: give one run folder or more, each once")
        if not self.passes or list(self.passes) != sorted(set(self.passes)) or self.passes[0] < 1:
            raise ValueError(f"passes={self.passes}: give numbers of 1 or more that rise")
        check_positive(self, "examples", "draws")
        if min(self.latents, default=0) < 0:
            raise ValueError(f"latents={self.latents}: give 0 or more")

    def budget(self) -> str:
        """One line on what will be done."""
        return (
            f"the profiles of {len(self.runs)} run(s) on {self.examples} validation examples; schedules of "
            f"{', '.join(map(str, self.passes))} passes, even and planned, on as many of test"
        )

    def run(self, runs: Path = Path()) -> Iterator[Stage | Result]:
        """Loads the runs, measures their profiles, plans, decodes, and ends in a `Result`. Trains nothing.

        runs: The folder that the runs are given from.
        """
        began = environment()
        groups = groups_of([runs / folder for folder in self.runs])
        data = {group.name: _data(group.train.task, self.examples) for group in groups}
        profiles: list[Row] = []
        found: list[Scheduled] = []
        for done, group in enumerate(groups):
            its = yield from _measured(self, group, *data[group.name], Stage(group.name, done, len(groups)))
            profiles += its[0]
            found += its[1]
        rows = profiles + [TABLE.row("schedule", **its.values()) for its in found]
        notes = [_note(group, *data[group.name]) for group in groups] + _notes(self, profiles)
        claims = [prediction(found), planned(found)]
        yield Result(TABLE.study, self, rows, claims, notes, began)


@dataclass(frozen=True)
class Group:
    """The seeds of one model on one task."""

    name: str
    train: Train
    models: list[Denoiser]


def _measured(
    config: StepsStudy, group: Group, known: Examples, test: Examples, stage: Stage
) -> Generator[Stage, None, tuple[list[Row], list[Scheduled]]]:
    """The rows of a group's profiles, and its schedules: those that the profile beside all plans."""
    rows: list[Row] = []
    for latents in config.latents if group.train.attention.latents == "ordered" else ():
        yield replace(stage, text=f"{group.name} beside {latents}: profile")
        rows.append(_profile_row(group.name, latents, _fitted(_losses(config, group, latents, known))))
    yield replace(stage, text=f"{group.name}: profile")
    losses = _losses(config, group, None, known)
    profile = _fitted(losses)
    rows.append(_profile_row(group.name, None, profile))
    yield replace(stage, text=f"{group.name}: one at a time")
    alone = _nll(config, group, (1,) * profile.length, test)
    found = []
    for kind, sizes in schedules(profile, config.passes):
        yield replace(stage, text=f"{group.name}: {len(sizes)} passes, {kind}")
        found.append(measure(config, group, kind, sizes, profile, losses, test, alone))
    return rows, found


def _losses(config: StepsStudy, group: Group, latents: int | None, known: Examples) -> Tensor:
    """`[seeds, rows, L]`: of the profile. The same sets of known tokens for every model."""
    of_seeds = [
        profile_losses(model, known.x0, known.given, latents, seeded("profile"), config.draws) for model in group.models
    ]
    return torch.stack(of_seeds)


def _fitted(losses: Tensor) -> InformationProfile:
    return InformationProfile.fitted(losses.flatten(0, 1))


def _data(task: Task, n: int) -> tuple[Examples, Examples]:
    """Validation and test: n of each with as many tokens to say as is commonest in test. ValueError where none is."""
    test = of_one_length(task, "test", n)
    known = of_one_length(task, "validation", n, int((~test.given[0]).sum()))
    if not len(known):
        raise ValueError(f"{task.title}: no validation example has as many tokens to say as the test examples taken")
    return known, test


def groups_of(runs: Sequence[str | Path]) -> list[Group]:
    """The runs that differ in the seed alone. ValueError before any work for one that is not of masks at random."""
    alike: dict[Train, list[Path]] = {}
    for folder in map(Path, runs):
        train = Run(folder).config(Train)
        if (
            not (train.process.absorbs and isinstance(train.objective, MaskedDiffusion | Denoising))
            or train.trunk.times
        ):
            raise ValueError(
                f"{folder} was trained with {train.objective} under {train.process}, times={train.trunk.times}; a "
                "profile is of tokens masked at random, and its models are shown no times: give other runs"
            )
        alike.setdefault(replace(train, seed=0), []).append(folder)
    names = [f"{train.attention.name.upper()}, {train.task.title}" for train in alike]
    return [
        Group(name if names.count(name) == 1 else f"{name} ({n})", train, [load(folder, "cpu") for folder in its])
        for n, (name, (train, its)) in enumerate(zip(names, alike.items(), strict=True), 1)
    ]


def of_one_length(task: Task, split: Split, n: int, length: int | None = None) -> Examples:
    """Of the split's examples the first n with `length` tokens to say, by default the commonest number."""
    every = task.sample(split, task.size(split))
    free = (~every.given).sum(1)
    at = (free == (int(free.mode().values) if length is None else length)).nonzero()[:n, 0]
    return Examples(every.x0[at], every.given[at])


def schedules(profile: InformationProfile, passes: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
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


def measure(
    config: StepsStudy,
    group: Group,
    kind: str,
    sizes: tuple[int, ...],
    profile: InformationProfile,
    losses: Tensor,
    test: Examples,
    alone: Tensor,
) -> Scheduled:
    """The likelihood of test sequences under a schedule, and what it draws from their prompts.

    losses: of the profile; alone: nats a token of test, said one at a time.
    """
    starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
    told = ((losses[..., starts] * torch.tensor(sizes)).sum(-1) - losses.sum(-1)) / profile.length
    nll, overhead = _nll(config, group, sizes, test), profile.overhead(sizes) / profile.length
    right = torch.stack([_right(group.train.task, model, sizes, test) for model in group.models])
    return Scheduled(group.name, kind, sizes, overhead, told, nll, nll - alone, right)


def _nll(config: StepsStudy, group: Group, sizes: Sequence[int], test: Examples) -> Tensor:
    """`[seeds, rows]` nats a token. With one seed every schedule says the tokens in the same orders: they are pairs."""
    of_seeds = []
    for model in group.models:
        draws = [
            parallel_nll(model, test.x0, test.given, sizes, None, seeded("orders", n)) for n in range(config.draws)
        ]
        of_seeds.append(torch.stack(draws).mean(0) / sum(sizes))
    return torch.stack(of_seeds)


def _right(task: Task, model: Denoiser, sizes: Sequence[int], test: Examples) -> Tensor:
    """`[rows]`: which answers, drawn in such steps and in random order, are right."""
    prompt = test.prompt(task.mask_id)
    steps = Slots(commit=tuple(sizes), order=UNIFORM, temperature=1.0).steps(model, prompt, generator=seeded("draws"))
    return task.score(prompt, last(steps, prompt)).double()


def _profile_row(group: str, latents: int | None, profile: InformationProfile) -> Row:
    n = profile.length
    return TABLE.row(
        "profile",
        model=group,
        latents=latents,
        h=list(profile.h),
        nll=profile.nll / n,
        total_correlation=profile.total_correlation / n,
        dual_total_correlation=profile.dual_total_correlation / n,
        least_overhead=[lost / n for lost in profile.least_overhead()],
    )


def _note(group: Group, known: Examples, test: Examples) -> str:
    return (
        f"{group.name}: {len(group.models)} run(s); {len(known)} validation and {len(test)} test examples with "
        f"{int((~test.given[0]).sum())} tokens to say (the commonest number)."
    )


def _notes(config: StepsStudy, profiles: Sequence[Row]) -> list[str]:
    notes = [
        f"Nats a token; {config.draws} random sets a row and k in the profile, {config.draws} random orders a row of a "
        "schedule; answers drawn at temperature 1, in random order. 95% intervals over seeds and examples.",
    ]
    for name in dict.fromkeys(r["model"] for r in profiles):
        its = [r for r in profiles if r["model"] == name]
        if len(its) < 2:
            continue
        goal = its[-1]["nll"] + 0.1
        needed = []
        for r in its:
            reach = next((n for n, lost in enumerate(r["least_overhead"], 1) if r["nll"] + lost <= goal), None)
            needed.append(f"beside {'all' if r['latents'] is None else r['latents']} {reach or 'never'}")
        notes.append(
            f"{name}: passes of the best plan for {goal:.3f} nats a token (one at a time beside all, and 0.1): "
            + ", ".join(needed)
            + "."
        )
    return notes

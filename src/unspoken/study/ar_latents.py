"""Latent tokens from left to right: does a next-token model gain lookahead from tokens it will not say yet?

One trunk, one budget, one decoding order; the methods differ in what a pass holds and is asked. arXiv 2602.03769.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspoken.decoders.autoregressive import Speculation
from unspoken.decoders.decode import Decoder, read_decoder
from unspoken.decoders.slots import Slots
from unspoken.layout.attention import CACHED_ALONE, CACHED_JOINT, MDM, Attention
from unspoken.measure.accuracy import Solved, solve
from unspoken.measure.intervals import share_interval
from unspoken.noise import Absorbing
from unspoken.record import environment
from unspoken.study.lookahead import lookahead
from unspoken.study.pool import finished, train_all
from unspoken.study.report import Result, Stage
from unspoken.tasks import PathStar
from unspoken.tasks.base import Examples
from unspoken.training.config import Train
from unspoken.training.loop import load
from unspoken.training.objective import LatentBlocks, Masked, NextTokenPrediction, Objective, Registers, Teacherless
from unspoken.training.run import Run


@dataclass(frozen=True)
class Method:
    """A row of the comparison: how it is trained, and the ways it is decoded (the first chooses the learning rate)."""

    name: str
    objective: Objective
    attention: Attention
    decodings: Mapping[str, Decoder]
    window: str = ""


@dataclass(frozen=True)
class Setting:
    """A task and the budget all methods share on it.

    Attributes:
        train: Its objective, attention, learning rate and seed are varied.
        windows: Of AR + MTP, the next token included, rising; 0 at the end is all that is left.
        questions: How many tokens a row's blocks of latents are asked for together: a window of w gets questions / w
            thresholds at random, so that all windows cost about the same. 0 takes every threshold, as the mask slot
            without latents does in any case: it is what has to be beaten.
        seeds: Training seeds.
        choosing: Steps of the runs (of the first seed) that choose the learning rate; 0 is the whole budget.
        examples: Of the test split, and at most so many of validation.
    """

    train: Train
    windows: tuple[int, ...] = (2, 4, 0)
    questions: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    choosing: int = 0
    examples: int = 1000

    def __post_init__(self) -> None:
        if list(self.windows) != [*sorted(set(self.windows) - {0}), 0] or min(self.windows) < 0:
            raise ValueError(f"windows={self.windows}: give windows that rise, and 0 (all that is left) at the end")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds}: give seeds, each once")
        if min(self.questions, self.choosing) < 0 or self.examples < 1:
            raise ValueError(
                f"questions={self.questions}, choosing={self.choosing}, examples={self.examples}: "
                "give 0 or more, 0 or more, and 1 or more"
            )
        if self.choosing > self.train.steps:
            raise ValueError(f"choosing={self.choosing} is more than the whole budget of {self.train.steps} steps")

    @property
    def first_steps(self) -> int:
        """Steps of the runs that choose the learning rate."""
        return self.choosing or self.train.steps

    def methods(self) -> list[Method]:
        """All methods, the baselines first."""
        right = Slots(order="left_to_right", latent_policy="next")
        slots = LatentBlocks(window=1)
        pause = LatentBlocks(weight=0.0, prefixes=self._prefixes(0))
        found = [
            Method("next token", NextTokenPrediction(), CACHED_ALONE, {"left to right": _own(NextTokenPrediction())}),
            Method("mask slot", slots, CACHED_ALONE, {"left to right": _own(slots)}, "1"),
            Method("pause", pause, CACHED_JOINT, {"left to right": _own(pause)}, "all"),
        ]
        for window in self.windows:
            blocks = LatentBlocks(window=window, prefixes=self._prefixes(window))
            ways = {"left to right": _own(blocks)}
            if not window:
                ways["speculation"] = Speculation(drafts=4)
                ways["prefix of .9"] = replace(right, commit=4, threshold=0.9)
            found.append(Method("AR + MTP", blocks, CACHED_JOINT, ways, str(window or "all")))
        teacherless = {"one pass": _own(Teacherless())}
        masked = {"left to right": right, "confidence": Slots()}
        return [
            *found,
            Method("teacherless", Teacherless(), CACHED_JOINT, teacherless, "all"),
            Method("MuToR", Registers(), CACHED_ALONE, {"left to right": _own(Registers())}),
            Method("MDM", Masked(), MDM, masked, "all"),
        ]

    def _prefixes(self, window: int) -> int:
        """Thresholds a row; one where the window is all that is left."""
        if not self.questions:
            return 0
        return max(1, round(self.questions / window)) if window else 1


@dataclass(frozen=True)
class ArLatents:
    """The study's config.

    Attributes:
        path_star: The task that next-token prediction fails on.
        sudoku: Boards, from left to right.
        rates: Learning rates; each method takes the one that solves most of validation with the first seed.
        workers: Runs trained at a time.
        batch: Examples decoded together.
    """

    path_star: Setting
    sudoku: Setting
    rates: tuple[float, ...] = (1e-3, 2e-3)
    workers: int = 2
    batch: int = 250

    def __post_init__(self) -> None:
        if not isinstance(self.path_star.train.task, PathStar):
            raise ValueError(f"path_star is {self.path_star.train.task.title}; give a setting of PathStar")
        if not self.rates or not all(rate > 0 for rate in self.rates):
            raise ValueError(f"rates={self.rates}: give rates above 0")
        if len({f"{r:g}" for r in self.rates}) < len(self.rates):
            raise ValueError(f"rates={self.rates}: give each once; they must differ in six digits")
        if self.workers < 1 or self.batch < 1:
            raise ValueError(f"workers={self.workers}, batch={self.batch}: give 1 or more")

    @property
    def settings(self) -> dict[str, Setting]:
        """By the name that rows and folders carry."""
        return {"path-star": self.path_star, "sudoku": self.sudoku}

    def budget(self) -> str:
        """One line on what will be done."""
        parts = [
            f"{len(s.methods())} methods x {len(s.seeds)} seed(s) x {s.train.steps} steps of {s.train.batch} on "
            f"{s.train.task.title}"
            for s in self.settings.values()
        ]
        return f"{'; '.join(parts)}; {len(self.rates)} learning rate(s)"

    def job(self, setting: str, method: Method, rate: float, seed: int, steps: int, runs: Path) -> tuple[Train, Path]:
        """The training run of a method, and its folder."""
        varied = {"objective": method.objective, "attention": method.attention, "lr": rate, "seed": seed}
        parts = [method.name.replace(" ", ""), method.window, f"lr{rate:g}", f"{steps}steps", f"seed{seed}"]
        train = replace(self.settings[setting].train, steps=steps, **varied)
        return train, runs / setting / "-".join(filter(None, parts))

    def finals(self, setting: str, method: Method, rate: float, runs: Path) -> list[tuple[Train, Path]]:
        """A method's runs that are measured, one a seed."""
        its = self.settings[setting]
        return [self.job(setting, method, rate, seed, its.train.steps, runs) for seed in its.seeds]


Key = tuple[str, str, str]  # setting, method, window


def run(config: ArLatents, runs: Path) -> Iterator[Stage | Result]:
    """Trains what `runs` does not hold yet, measures, and ends in a `Result`; yields `Stage`s."""
    began = environment()
    for setting in config.settings.values():
        setting.train.task.sample("test", setting.examples)  # too few are said before any work
        if setting.train.task.size("validation") == 0:
            raise ValueError(f"{setting.train.task.title} has no validation examples to choose learning rates by")
    plan = [(name, method) for name, setting in config.settings.items() for method in setting.methods()]
    first = [
        config.job(name, method, rate, config.settings[name].seeds[0], config.settings[name].first_steps, runs)
        for name, method in plan
        for rate in config.rates
    ]
    yield from _training(first, config, "training every learning rate", may_diverge=True)
    chosen: dict[Key, tuple[float, float]] = {}  # share of validation solved, and the rate that solves it
    for done, (name, method) in enumerate(plan):
        yield Stage(f"choosing learning rates: {name}, {method.name}", done, len(plan))
        chosen[name, method.name, method.window] = _best_rate(config, name, method, runs)
    rates = [(n, m, chosen[n, m.name, m.window][1]) for n, m in plan]
    yield from _training([job for n, m, rate in rates for job in config.finals(n, m, rate, runs)], config, "training")
    rows: list[dict[str, Any]] = []
    right: dict[Key, Tensor] = {}
    for done, (name, method, rate) in enumerate(rates):
        yield Stage(f"decoding: {name}, {method.name} {method.window}", done, len(rates))
        for way, decoding in method.decodings.items():
            row, solved = _measure(config, name, method, way, decoding, rate, runs)
            rows.append(row)
            right.setdefault((name, method.name, method.window), solved)
    assert isinstance(config.path_star.train.task, PathStar)  # ArLatents checks it
    chance = 1 / config.path_star.train.task.degree
    windows = [key for key in right if key[:2] == ("path-star", "AR + MTP")]
    window = max(windows, key=lambda key: chosen[key][0])[2]
    yield Result("ar-latents", config, rows, [lookahead(right, chance, window)], _notes(config), began)


def _training(
    jobs: list[tuple[Train, Path]], config: ArLatents, text: str, may_diverge: bool = False
) -> Iterator[Stage]:
    total = sum(train.steps for train, _ in jobs)
    for done in train_all(jobs, config.workers, may_diverge):
        yield Stage(text, done, total)


def _best_rate(config: ArLatents, name: str, method: Method, runs: Path) -> tuple[float, float]:
    """What the first seed solves of validation, decoded as the method is, at the rate that solves most; and that rate.

    Of equals, the one of lower loss; one that diverged is none. ValueError where all did.
    """
    setting, decoding = config.settings[name], next(iter(method.decodings.values()))
    task = setting.train.task
    held_out = task.sample("validation", min(setting.examples, task.size("validation"))).by_size()

    def merit(rate: float) -> tuple[float, float, float]:
        job = config.job(name, method, rate, setting.seeds[0], setting.first_steps, runs)
        if not finished(job):
            return -1.0, 0.0, rate
        folder = job[1]
        solved = _solved(folder, setting, held_out, decoding, config.batch)
        return float(solved.right.double().mean()), -Run(folder).metrics()[-1].get("validation", 0.0), rate

    share, _, rate = max(map(merit, config.rates))
    if share < 0:
        raise ValueError(f"{method.name} diverged on {name} at every rate of {config.rates}: give lower rates")
    return share, rate


def _own(objective: Objective) -> Decoder:
    return read_decoder(objective.decoder(Absorbing()))


def _solved(folder: Path, setting: Setting, examples: Examples, decoding: Decoder, batch: int) -> Solved:
    events = solve(load(folder), setting.train.task, examples, decoding, batch=batch)
    return next(event for event in events if isinstance(event, Solved))


def _measure(
    config: ArLatents, name: str, method: Method, way: str, decoding: Decoder, rate: float, runs: Path
) -> tuple[dict[str, Any], Tensor]:
    """A row, and `[seeds, examples]` which were solved."""
    setting = config.settings[name]
    test = setting.train.task.sample("test", setting.examples).by_size()
    folders = [folder for _, folder in config.finals(name, method, rate, runs)]
    all_solved = [_solved(folder, setting, test, decoding, config.batch) for folder in folders]
    right = torch.stack([s.right for s in all_solved]).double()
    said_first = (~test.given).long().argmax(1, keepdim=True)
    first = [(s.tokens.cpu() == test.x0).gather(1, said_first).double().mean() for s in all_solved]
    metrics = [Run(folder).metrics() for folder in folders]
    seen = [m for m in metrics[0] if "slots" in m]
    row = {
        "task": name,
        "method": method.name,
        "window": method.window,
        "decoding": way,
        "accuracy": float(right.mean()),
        "accuracy_interval": list(share_interval(right)),
        "accuracy_by_seed": right.mean(1).tolist(),
        "first_token": float(torch.stack(first).mean()),
        "passes": sum(s.passes for s in all_solved) / len(all_solved),
        "entries_per_pass": sum(s.entries for s in all_solved) / len(all_solved),
        "flops_per_example": sum(s.flops for s in all_solved) / len(all_solved),
        "seconds_per_example": sum(s.seconds for s in all_solved) / len(all_solved),
        "training_seconds_per_step": sum(sum(m["seconds"] for m in ms) / len(ms) for ms in metrics) / len(metrics),
        "lr": rate,
        "seeds": list(setting.seeds),
        # What is foreseen when only the prompt is said, as training goes: seed by seed would say the same.
        "curriculum": {"step": [m["step"] for m in seen], "slots": [m["slots"] for m in seen]},
    }
    return row, right


def _notes(config: ArLatents) -> list[str]:
    star, board = config.path_star, config.sudoku
    return [
        f"95% t intervals over seeds and examples. {star.examples} held-out graphs after {star.train.steps} steps, "
        f"{len(star.seeds)} seed(s); {board.examples} held-out puzzles after {board.train.steps}, {len(board.seeds)}. "
        "An interval of one seed holds the examples' share alone: what another seed would change is unknown.",
        f"Learning rates {', '.join(f'{r:g}' for r in config.rates)}: each method's own, by validation examples solved "
        f"with the first seed after {star.first_steps} and {board.first_steps} steps.",
        "Greedy, from left to right with a cache where the attention allows one (all but MDM), "
        f"{config.batch} examples together; MDM also by confidence. Teacherless says everything in one pass.",
        f"On boards a row's blocks are asked for about {board.questions} tokens at random thresholds, whatever the "
        "window (pause for one); next token, mask slot and MuToR for every token of the row. Next-token entries are "
        "not told which cell comes next: the mask slot is the fair autoregressive baseline there. So wider windows "
        "have fewer thresholds, and pause, asked for so little, is no even contest on boards; it is on path-star.",
        "Every block counts alike, whatever its window. The first weights and the constant rate of path-star were "
        "found on AR + MTP (docs/results/LOG.md); the other methods take them over.",
        "Next token, MuToR and speculation keep rows that are done in the pass; in the other ways they leave: what "
        "those three cost is an upper bound.",
        "Training seconds a step are those of one worker, while others train beside.",
    ]
